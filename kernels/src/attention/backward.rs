//! Backward pass of attention in tiles (FlashAttention-2, arXiv 2307.08691, algorithm 2), in f32: shares P come from scores, which are
//! computed again, and the logarithm of their sum; with D the row sums of dO ∘ O, dV = Pᵀ dO, dP = dO Vᵀ,
//! dS = P ∘ (dP − D) · scale, dQ = dS K, dK = dSᵀ Q.
//!
//! A task is a query head of a sequence. Heads that share keys are added in order afterwards.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::cpu::{Shape, TILE};
use super::panels::{tokens_as_columns, tokens_as_rows};
use super::{Kept, Scores, check_causal, shape_of, with_bias};
use crate::gradient::{require_cpu, require_same};
use crate::matmul::panels::write_panels;
use crate::matmul::tile::{Elements, Isa, Left, Lines, NR, Target, as_uninit, as_words, multiply};
use crate::simd::{self, multiversion};
use crate::with_f32;

/// Keys of a tile: with 64 queries, their scores and the gradients of these take 128 KiB.
const KEYS: usize = 256;

const SINGLES: Elements = Elements::Singles;

/// The gradients of `q [b, t, heads, d]`, `k` and `v` `[b, t, groups, d]` of [`super::causal_kept`], for that of its output
/// `dy [b, t, heads · d]` f32 and the same scores. Their bias gets none. In f32;
/// 5 · t² · heads · d operations for each sequence, and 3 · b · t · heads · d numbers beside the results. Errors on other shapes, and
/// where the tensors are not on the CPU.
pub fn causal_backward(dy: &Tensor, [q, k, v]: [&Tensor; 3], kept: &Kept, scores: &Scores<'_>) -> Result<[Tensor; 3]> {
    require_cpu(q, "attention")?;
    require_same(dy, &kept.out, "attention")?;
    let (b, t, heads, d) = q.dims4()?;
    let window = check_causal([q, k, v], scores)?;
    if dy.dims() != [b, t, heads * d] || kept.sums.dims() != [b, t, heads] {
        candle_core::bail!("the backward pass of attention was given {:?} for queries {:?}", dy.shape(), q.shape());
    }
    let groups = k.dim(2)?;
    if q.elem_count() == 0 {
        return Ok([q.zeros_like()?, k.zeros_like()?, v.zeros_like()?]);
    }
    let [dq, dk, dv] = with_bias(&shape_of(q, k, scores, window)?, scores.bias, |shape| {
        with_f32(q, |q| {
            with_f32(k, |k| {
                with_f32(v, |v| {
                    with_f32(dy, |dy| {
                        with_f32(&kept.out, |out| {
                            with_f32(&kept.sums, |sums| Ok(run(shape, &Inputs { q, k, v, dy, out, sums })))
                        })
                    })
                })
            })
        })
    })?;
    let keys = (b, t, groups, d);
    let device = q.device();
    Ok([
        Tensor::from_vec(dq, (b, t, heads, d), device)?,
        Tensor::from_vec(dk, keys, device)?,
        Tensor::from_vec(dv, keys, device)?,
    ])
}

/// The values of the tensors.
struct Inputs<'a> {
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    dy: &'a [f32],
    out: &'a [f32],
    sums: &'a [f32],
}

fn run(shape: &Shape<'_>, inputs: &Inputs<'_>) -> [Vec<f32>; 3] {
    let &Shape { batch, time, heads, groups, dim, .. } = shape;
    let isa = Isa::current();
    let each = time * dim;
    let mut of_heads: [Vec<f32>; 3] = std::array::from_fn(|_| vec![0f32; batch * heads * each]);
    let [dq, dk, dv] = &mut of_heads;
    let outs = dq.par_chunks_exact_mut(each).zip(dk.par_chunks_exact_mut(each)).zip(dv.par_chunks_exact_mut(each));
    outs.with_max_len(1).enumerate().for_each(|(i, ((dq, dk), dv))| {
        head(shape, isa, &Head::new(shape, inputs, i / heads, i % heads), [dq, dk, dv]);
    });
    let [dq, dk, dv] = of_heads;
    [(dq, heads), (dk, groups), (dv, groups)].map(|(values, groups)| gathered(shape, &values, groups))
}

/// Gradients `[batch, heads, time, dim]` as `[batch, time, groups, dim]`, those of the heads of a group added.
fn gathered(shape: &Shape<'_>, values: &[f32], groups: usize) -> Vec<f32> {
    let &Shape { time, heads, dim, .. } = shape;
    let many = heads / groups;
    let mut out = vec![0f32; values.len() / many];
    out.par_chunks_exact_mut(groups * dim).enumerate().for_each(|(token, out)| {
        let (sequence, at) = (token / time, token % time);
        for (group, out) in out.chunks_exact_mut(dim).enumerate() {
            for head in group * many..(group + 1) * many {
                let from = &values[((sequence * heads + head) * time + at) * dim..][..dim];
                out.iter_mut().zip(from).for_each(|(out, from)| *out += from);
            }
        }
    });
    out
}

/// One query head of a sequence, its operands laid out for products.
struct Head<'a> {
    /// `[time, dim]`.
    q: Vec<f32>,
    dy: Vec<f32>,
    /// Panels of 64 keys, and of 64 values, over the elements of a head.
    keys: Lines,
    values: Lines,
    /// Panels of 64 elements of a head over tokens: of keys, of queries and of dO.
    k_columns: Lines,
    q_columns: Lines,
    dy_columns: Lines,
    /// For each query: the logarithm of its sum, to the base 2, and D.
    rows: Vec<(f32, f32)>,
    bias: Option<&'a [f32]>,
}

impl<'a> Head<'a> {
    fn new(shape: &Shape<'a>, inputs: &Inputs<'_>, sequence: usize, head: usize) -> Self {
        let &Shape { time, heads, groups, dim, .. } = shape;
        let group = head / (heads / groups);
        let of = |x: &[f32], count: usize, at: usize| -> Vec<f32> {
            let tokens = x[sequence * time * count * dim..][..time * count * dim].chunks_exact(count * dim);
            tokens.flat_map(|x| &x[at * dim..][..dim]).copied().collect()
        };
        let (q, dy, out) = (of(inputs.q, heads, head), of(inputs.dy, heads, head), of(inputs.out, heads, head));
        let (k, v) = (of(inputs.k, groups, group), of(inputs.v, groups, group));
        let sums = inputs.sums[sequence * time * heads..].chunks_exact(heads);
        let rows = dy.chunks_exact(dim).zip(out.chunks_exact(dim)).zip(sums);
        let rows = rows.map(|((dy, out), sums)| (sums[head] * std::f32::consts::LOG2_E, product(dy, out))).collect();
        Self {
            keys: rows_as_panels(&k, dim),
            values: rows_as_panels(&v, dim),
            k_columns: columns_as_panels(&k, dim),
            q_columns: columns_as_panels(&q, dim),
            dy_columns: columns_as_panels(&dy, dim),
            q,
            dy,
            rows,
            bias: shape.bias.map(|(bias, width)| &bias[head * width..][..time]),
        }
    }
}

/// Rows `[time, dim]` as a right operand whose columns they are.
fn rows_as_panels(x: &[f32], dim: usize) -> Lines {
    let panels = (x.len() / dim).div_ceil(NR);
    // SAFETY: every word of a panel is written.
    unsafe { write_panels(panels, dim, |n, panel| tokens_as_columns(panel, n, (x, dim), 0)) }
}

/// Rows `[time, dim]` as a right operand whose rows they are.
fn columns_as_panels(x: &[f32], dim: usize) -> Lines {
    // SAFETY: every word of a panel is written.
    unsafe {
        write_panels(dim.div_ceil(NR), x.len() / dim, |n, panel| {
            tokens_as_rows(panel, (x, dim), n * NR, NR.min(dim - n * NR));
        })
    }
}

multiversion! {
    /// Σ a b.
    fn product(a: &[f32], b: &[f32]) -> f32 {
        let mut sums = [0f32; 16];
        let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
        for (a, b) in a.iter().zip(b) {
            for i in 0..16 {
                sums[i] += a[i] * b[i];
            }
        }
        let mut sum = 0.0;
        for (a, b) in a_rest.iter().zip(b_rest) {
            sum += a * b;
        }
        for s in sums {
            sum += s;
        }
        sum
    }
}

multiversion! {
    /// Products of one query with some keys become their shares, and the gradients of shares those of products: for keys that it
    /// sees, with `scores` the scaled products in powers of 2.
    fn weigh(shares: &mut [f32], d_shares: &mut [f32], power: f32, log_sum: f32, mean: f32, scale: f32) {
        for (share, d_share) in shares.iter_mut().zip(d_shares) {
            *share = simd::exp2(*share * power - log_sum);
            *d_share = *share * (*d_share - mean) * scale;
        }
    }
}

multiversion! {
    /// [`weigh`] with a bias.
    fn weigh_biased(
        shares: &mut [f32],
        d_shares: &mut [f32],
        bias: &[f32],
        power: f32,
        log_sum: f32,
        mean: f32,
        scale: f32,
    ) {
        for ((share, d_share), bias) in shares.iter_mut().zip(d_shares).zip(bias) {
            *share = simd::exp2(*share * power + bias * std::f32::consts::LOG2_E - log_sum);
            *d_share = *share * (*d_share - mean) * scale;
        }
    }
}

/// Adds to the gradients `[time, dim]` of one head, which are 0.
fn head(shape: &Shape<'_>, isa: Isa, of: &Head<'_>, [dq, dk, dv]: [&mut [f32]; 3]) {
    let &Shape { time, dim, .. } = shape;
    let (mut shares, mut d_shares) = (vec![0f32; TILE * KEYS], vec![0f32; TILE * KEYS]);
    for first in (0..time).step_by(TILE) {
        let rows = TILE.min(time - first);
        let end = first + rows;
        for start in (shape.start(first)..end).step_by(KEYS) {
            let keys = KEYS.min(end - start);
            let (shares, d_shares) = (&mut shares[..rows * keys], &mut d_shares[..rows * keys]);
            for (left, right, out) in [(&of.q, &of.keys, &mut *shares), (&of.dy, &of.values, &mut *d_shares)] {
                let left = Left::rows(isa, SINGLES, as_words(&left[first * dim..end * dim]), dim);
                let right = &right[start * dim..][..keys.next_multiple_of(NR) * dim];
                let target = Target { rows, cols: keys, stride: keys, fresh: true };
                multiply((isa, SINGLES), &left, right, dim, &target, as_uninit(out));
            }
            let lines = shares.chunks_exact_mut(keys).zip(d_shares.chunks_exact_mut(keys));
            for (i, (shares, d_shares)) in lines.enumerate() {
                weigh_row(shape, of, first + i, start, shares, d_shares);
            }
            // Transposed by their strides: a row of the product for each key.
            let turned = |x| Left { words: as_words(x), row: 1, step: keys };
            let plain = Left::rows(isa, SINGLES, as_words(d_shares), keys);
            add(isa, &turned(shares), (&of.dy_columns, first, rows), (keys, dim), &mut dv[start * dim..]);
            add(isa, &turned(d_shares), (&of.q_columns, first, rows), (keys, dim), &mut dk[start * dim..]);
            add(isa, &plain, (&of.k_columns, start, keys), (rows, dim), &mut dq[first * dim..]);
        }
    }
}

/// The shares of the query at `position` among the keys from `start` on, and their gradients; 0 for keys that it does not see.
fn weigh_row(
    shape: &Shape<'_>,
    of: &Head<'_>,
    position: usize,
    start: usize,
    shares: &mut [f32],
    d_shares: &mut [f32],
) {
    let first = shape.first_key(position).max(start);
    let end = (position + 1).min(start + shares.len());
    let seen = first.min(end) - start..end.max(start) - start;
    for values in [&mut *shares, &mut *d_shares] {
        values[..seen.start].fill(0.0);
        values[seen.end..].fill(0.0);
    }
    let (log_sum, mean) = of.rows[position];
    let (shares, d_shares) = (&mut shares[seen.clone()], &mut d_shares[seen]);
    let power = shape.scale * std::f32::consts::LOG2_E;
    match of.bias {
        None => weigh(shares, d_shares, power, log_sum, mean, shape.scale),
        Some(bias) => weigh_biased(shares, d_shares, &bias[first.min(end)..], power, log_sum, mean, shape.scale),
    }
}

/// Adds the product of `left [rows, count]` with rows `first..first + count` of a right operand to `out [rows, dim]`.
fn add(
    isa: Isa,
    left: &Left<'_>,
    (right, first, count): (&Lines, usize, usize),
    (rows, dim): (usize, usize),
    out: &mut [f32],
) {
    let time = right.len() / dim.div_ceil(NR) / NR;
    for (n, panel) in right.chunks_exact(time * NR).enumerate() {
        let target = Target { rows, cols: NR.min(dim - n * NR), stride: dim, fresh: false };
        multiply(
            (isa, SINGLES),
            left,
            &panel[first * NR..][..count * NR],
            count,
            &target,
            as_uninit(&mut out[n * NR..]),
        );
    }
}

#[cfg(test)]
mod tests;
