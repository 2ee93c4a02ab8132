//! Attention of several sequences of different lengths, each over its own cache. A task is a few queries of one sequence
//! and all heads of one group, so that the group's keys and values are read once for them.

use candle_core::{Result, Tensor};
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

use super::cache::{KeyValues, round_bf16};
use super::cpu::{Running, Shape, TILE, divide};
use super::{Scores, check_scores};
use crate::matmul::Precision;
use crate::simd::multiversion;
use crate::with_f32;

/// Keys that are read together: a piece of them stays in the cache of the processor.
const PIECE: usize = 256;
/// Rows up to which plain loops are faster than a matrix product: those of one token's heads.
const FEW_ROWS: usize = 8;

/// The part of one sequence in a batch.
pub struct Span<'a> {
    /// Its queries, which are those of the last positions in the cache.
    pub queries: usize,
    /// Its keys and values, those of the queries' own positions among them.
    pub cache: &'a KeyValues,
}

/// As [`super::causal`], for sequences of different lengths whose keys and values lie in caches: `q` is `[1, n, heads, d]`,
/// the queries of the spans one after another, and each query sees the keys of its own span up to its own position, in a
/// window if there is one. Returns `[1, n, heads · d]`.
///
/// A bias has a column for each position of the longest cache. Errors on other shapes, and on a span of more queries than
/// its cache has positions. With [`Precision::Bf16`] values and the exponentials of the softmax are rounded to bfloat16;
/// scores are f32. 4 · heads · d operations for each query and each key that it sees; a cache is read once for each group
/// and 64 rows of queries.
pub fn ragged(q: &Tensor, spans: &[Span<'_>], scores: &Scores<'_>, precision: Precision) -> Result<Tensor> {
    let (b, n, heads, d) = q.dims4()?;
    let queries: usize = spans.iter().map(|span| span.queries).sum();
    let fits = |span: &Span<'_>| {
        let (groups, dim) = span.cache.heads();
        dim == d && heads % groups == 0 && span.queries <= span.cache.len()
    };
    if b != 1 || n != queries || !spans.iter().all(fits) {
        let caches: Vec<_> = spans.iter().map(|span| (span.queries, span.cache.len(), span.cache.heads())).collect();
        candle_core::bail!("attention of queries {:?} over caches (queries, positions, heads) {caches:?}", q.shape());
    }
    let longest = spans.iter().map(|span| span.cache.len()).max().unwrap_or(0);
    let window = check_scores(scores, heads, longest)?;
    if q.elem_count() == 0 {
        return q.reshape((1, n, heads * d));
    }
    on_gpu!(q => on_device(q, spans, scores, window, precision));
    let run = |bias: Option<(&[f32], usize)>| {
        let shape = Shape { batch: 1, time: n, heads, groups: 1, dim: d, scale: scores.scale, window, bias };
        with_f32(q, |q| on_host(&shape, spans, q, precision))
    };
    let out = match scores.bias {
        None => run(None)?,
        Some(bias) => {
            let width = bias.dims2()?.1;
            with_f32(bias, |values| run(Some((values, width))))?
        }
    };
    Tensor::from_vec(out, (1, n, heads * d), q.device())
}

/// Sequence after sequence.
#[cfg(feature = "cuda")]
fn on_device(
    q: &Tensor,
    spans: &[Span<'_>],
    scores: &Scores<'_>,
    window: usize,
    precision: Precision,
) -> Result<Tensor> {
    let (_, _, heads, dim) = q.dims4()?;
    let (mut first, mut outputs) = (0, Vec::with_capacity(spans.len()));
    for span in spans.iter().filter(|span| span.queries > 0) {
        let Some([k, v]) = span.cache.tensors()? else {
            candle_core::bail!("attention of queries on a GPU over a cache in host memory");
        };
        let (time, (groups, _)) = (span.queries, span.cache.heads());
        let past = span.cache.len() - time;
        let shape = Shape { batch: 1, time, heads, groups, dim, scale: scores.scale, window, bias: None };
        let q = q.narrow(1, first, time)?.contiguous()?;
        outputs.push(super::cuda::causal(&shape, past, [&q, &k, &v], scores.bias, precision)?);
        first += time;
    }
    Tensor::cat(&outputs, 1)
}

/// Some queries of one sequence, and one group of heads.
struct Task<'a> {
    cache: &'a KeyValues,
    group: usize,
    /// The first query's row in the batch, and its position.
    row: usize,
    position: usize,
    queries: usize,
}

/// `q [n, heads · dim]` → `[n, heads · dim]`.
fn on_host(shape: &Shape<'_>, spans: &[Span<'_>], q: &[f32], precision: Precision) -> Result<Vec<f32>> {
    let &Shape { heads, dim, .. } = shape;
    let (mut tasks, mut first) = (Vec::new(), 0);
    for &Span { queries, cache } in spans {
        let (groups, _) = cache.heads();
        let most = (TILE * groups / heads).max(1);
        for at in (0..queries).step_by(most) {
            let (row, position) = (first + at, cache.len() - queries + at);
            let task = |group| Task { cache, group, row, position, queries: most.min(queries - at) };
            tasks.extend((0..groups).map(task));
        }
        first += queries;
    }
    let run = |task: &Task<'_>| attend(shape, task, q, precision);
    let made: Vec<Vec<f32>> = tasks.par_iter().with_max_len(1).map(run).collect::<Result<_>>()?;
    let mut out = vec![0.0; q.len()];
    for (task, made) in tasks.iter().zip(made) {
        let each = made.len() / task.queries;
        for (i, made) in made.chunks_exact(each).enumerate() {
            out[(task.row + i) * heads * dim + task.group * each..][..each].copy_from_slice(made);
        }
    }
    Ok(out)
}

/// The outputs `[queries, heads of the group, dim]` of a task.
fn attend(shape: &Shape<'_>, task: &Task<'_>, q: &[f32], precision: Precision) -> Result<Vec<f32>> {
    let &Shape { heads, dim, .. } = shape;
    let Some([key_plane, value_plane]) = task.cache.planes(task.group) else {
        candle_core::bail!("attention of queries in host memory over a cache on a GPU");
    };
    let each = heads / task.cache.heads().0;
    let (rows, width) = (task.queries * each, each * dim);
    let of_group = |token: usize| &q[(task.row + token) * heads * dim + task.group * width..][..width];
    let queries: Vec<f32> = (0..task.queries).flat_map(of_group).copied().collect();
    let start = shape.first_key(task.position);
    let keys = task.position + task.queries - start;
    let (mut scores, mut space) = (vec![0f32; rows * keys], Vec::new());
    let range = |at: usize| (start + at) * dim..(start + keys.min(at + PIECE)) * dim;
    for at in (0..keys).step_by(PIECE) {
        let k = key_plane.read(range(at), &mut space);
        add_products(&queries, k, dim, &mut scores, (at, keys));
    }
    let mut sums = Vec::with_capacity(rows);
    for (row, scores) in scores.chunks_exact_mut(keys).enumerate() {
        let mut running = Running::default();
        shape.weigh(task.group * each + row % each, task.position + row / each, start, scores, &mut running);
        sums.push(running.sum);
    }
    if precision == Precision::Bf16 {
        scores.iter_mut().for_each(|weight| *weight = precision.round(*weight));
    }
    let (mut out, mut rounded) = (vec![0f32; rows * dim], Vec::new());
    for at in (0..keys).step_by(PIECE) {
        let mut v = value_plane.read(range(at), &mut space);
        if precision == Precision::Bf16 && !value_plane.is_bf16() {
            rounded.resize(v.len(), 0.0);
            round_bf16(v, &mut rounded);
            v = &rounded;
        }
        add_weighted(&scores, v, dim, &mut out, (at, keys));
    }
    divide(&mut out, dim, dim, &sums);
    Ok(out)
}

/// Columns `at..` of `scores [rows, keys]`: the products of `q [rows, dim]` with `k [.., dim]`.
fn add_products(q: &[f32], k: &[f32], dim: usize, scores: &mut [f32], (at, keys): (usize, usize)) {
    let (rows, count) = (q.len() / dim, k.len() / dim);
    if rows <= FEW_ROWS {
        return dots(q, k, dim, scores, at, keys);
    }
    let target = MatMut::from_row_major_slice_mut(scores, rows, keys).subcols_mut(at, count);
    let queries = MatRef::from_row_major_slice(q, rows, dim);
    let k = MatRef::from_row_major_slice(k, count, dim);
    matmul(target, Accum::Replace, queries, k.transpose(), 1.0, Par::Seq);
}

/// Adds to `out [rows, dim]` the rows of `v [.., dim]`, weighted by columns `at..` of `weights [rows, keys]`.
fn add_weighted(weights: &[f32], v: &[f32], dim: usize, out: &mut [f32], (at, keys): (usize, usize)) {
    let (rows, count) = (out.len() / dim, v.len() / dim);
    if rows <= FEW_ROWS {
        return weighted(weights, v, dim, out, at, keys);
    }
    let weights = MatRef::from_row_major_slice(weights, rows, keys).subcols(at, count);
    let v = MatRef::from_row_major_slice(v, count, dim);
    matmul(MatMut::from_row_major_slice_mut(out, rows, dim), Accum::Add, weights, v, 1.0, Par::Seq);
}

multiversion! {
    /// [`add_products`] of few rows. Sixteen running sums: a fixed order that vectorises.
    fn dots(q: &[f32], k: &[f32], dim: usize, scores: &mut [f32], at: usize, keys: usize) {
        for (j, k) in k.chunks_exact(dim).enumerate() {
            let (k, k_rest) = k.as_chunks::<16>();
            for (row, q) in q.chunks_exact(dim).enumerate() {
                let (q, q_rest) = q.as_chunks::<16>();
                let mut sums = [0f32; 16];
                for (q, k) in q.iter().zip(k) {
                    for ((sum, q), k) in sums.iter_mut().zip(q).zip(k) {
                        *sum += q * k;
                    }
                }
                let mut sum = 0.0;
                for part in sums {
                    sum += part;
                }
                for (q, k) in q_rest.iter().zip(k_rest) {
                    sum += q * k;
                }
                scores[row * keys + at + j] = sum;
            }
        }
    }
}

multiversion! {
    /// [`add_weighted`] of few rows.
    fn weighted(weights: &[f32], v: &[f32], dim: usize, out: &mut [f32], at: usize, keys: usize) {
        for (row, out) in out.chunks_exact_mut(dim).enumerate() {
            for (v, &weight) in v.chunks_exact(dim).zip(&weights[row * keys + at..]) {
                for (out, v) in out.iter_mut().zip(v) {
                    *out += weight * v;
                }
            }
        }
    }
}
