//! Causal attention with grouped queries: of whole sequences ([`causal`]), and of the last positions of sequences whose
//! earlier keys and values lie in a cache ([`ragged`]).

mod backward;
mod cache;
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
mod panels;
mod ragged;
pub(crate) mod reference;
mod tiles;

pub use backward::causal_backward;
pub use cache::{CacheType, KeyValues};
pub use ragged::{Span, ragged};

use candle_core::{DType, Result, Tensor};

use crate::gradient::require_cpu;
use crate::matmul::Precision;
use crate::with_f32;

/// The changes to the products of queries and keys before the softmax, beside the causal mask.
#[derive(Clone, Copy, Debug)]
pub struct Scores<'a> {
    /// The products are multiplied by it.
    pub scale: f32,
    /// The query at position i sees the keys i − window + 1 to i; without a window, all up to i. At least 1.
    pub window: Option<usize>,
    /// Added to the scaled products: f32 `[heads, t or more]`, a number for each key position (alibi).
    pub bias: Option<&'a Tensor>,
}

impl Scores<'_> {
    /// Products times `scale` and nothing else.
    pub fn scaled(scale: f32) -> Self {
        Self { scale, window: None, bias: None }
    }
}

/// softmax(q kᵀ · scale + bias + mask) v, each query seeing the keys up to its own position, in a window if there is
/// one.
///
/// `q` is `[b, t, heads, d]`, `k` and `v` are `[b, t, groups, d]` (f32, `groups` divides `heads`; query head `h` reads
/// group `h / (heads / groups)`). Returns `[b, t, heads · d]`; errors on other shapes and on a window of 0. No `[t, t]`
/// matrix is stored: a task holds the scores of 64 queries of a group's heads with at most 256 keys, and a window saves the
/// products outside it, but for parts of tiles. With [`Precision::Bf16`] values and the exponentials of the softmax are rounded to bfloat16 before they are
/// multiplied; scores are f32.
///
/// On a GPU [`Precision::Bf16`] means that too, with scores within some 2^-16 of f32, and other precisions f32. There a tile
/// is 256 queries of all heads of a sequence, fewer if their scores were more than 128 MiB (half as much again with bfloat16, which also takes
/// 6 · t · (heads + groups) · d and 2 · t · groups · d bytes: [`gpu_scratch`]). 2 · t² · heads · d operations, a quarter more
/// for t of 1024; with bfloat16 twice as many, on tensor cores.
pub fn causal(q: &Tensor, k: &Tensor, v: &Tensor, scores: &Scores<'_>, precision: Precision) -> Result<Tensor> {
    let (b, t, heads, d) = q.dims4()?;
    let window = check_causal([q, k, v], scores)?;
    if q.elem_count() == 0 {
        return q.reshape((b, t, heads * d));
    }
    let shape = shape_of(q, k, scores, window)?;
    on_gpu!(q => cuda::causal(&shape, 0, [q, k, v], scores.bias, precision));
    let [out, _] = on_host(&shape, [q, k, v], scores.bias, precision)?;
    Tensor::from_vec(out, (b, t, heads * d), q.device())
}

/// The result of [`causal`] with what its backward pass needs of it.
pub struct Kept {
    /// `[b, t, heads · d]`.
    pub out: Tensor,
    /// The logarithm of each softmax's sum of exponentials, `[b, t, heads]`.
    pub sums: Tensor,
}

/// [`causal`] in f32 for [`causal_backward`], which computes the scores again: sums of exponentials that were rounded would not be
/// those of its shares. Errors on other shapes, and where the tensors are not on the CPU.
pub fn causal_kept(q: &Tensor, k: &Tensor, v: &Tensor, scores: &Scores<'_>) -> Result<Kept> {
    require_cpu(q, "attention")?;
    let (b, t, heads, d) = q.dims4()?;
    let window = check_causal([q, k, v], scores)?;
    if q.elem_count() == 0 {
        let sums = Tensor::zeros((b, t, heads), DType::F32, q.device())?;
        return Ok(Kept { out: q.reshape((b, t, heads * d))?, sums });
    }
    let shape = shape_of(q, k, scores, window)?;
    let [out, sums] = on_host(&shape, [q, k, v], scores.bias, Precision::F32)?;
    Ok(Kept {
        out: Tensor::from_vec(out, (b, t, heads * d), q.device())?,
        sums: Tensor::from_vec(sums, (b, t, heads), q.device())?,
    })
}

/// The output and the logarithms of sums of [`tiles::causal`].
fn on_host(
    shape: &cpu::Shape<'_>,
    [q, k, v]: [&Tensor; 3],
    bias: Option<&Tensor>,
    precision: Precision,
) -> Result<[Vec<f32>; 2]> {
    with_bias(shape, bias, |shape| {
        with_f32(q, |q| with_f32(k, |k| with_f32(v, |v| Ok(tiles::causal(shape, q, [k, v], precision)))))
    })
}

/// Runs `f` with the values of the bias in the shape.
fn with_bias<T>(
    shape: &cpu::Shape<'_>,
    bias: Option<&Tensor>,
    f: impl FnOnce(&cpu::Shape<'_>) -> Result<T>,
) -> Result<T> {
    let Some(bias) = bias else { return f(shape) };
    let width = bias.dims2()?.1;
    with_f32(bias, |values| f(&cpu::Shape { bias: Some((values, width)), ..*shape }))
}

/// The shape of attention without its bias, which [`with_bias`] adds.
fn shape_of<'a>(q: &Tensor, k: &Tensor, scores: &Scores<'_>, window: usize) -> Result<cpu::Shape<'a>> {
    let (batch, time, heads, dim) = q.dims4()?;
    let groups = k.dim(2)?;
    Ok(cpu::Shape { batch, time, heads, groups, dim, scale: scores.scale, window, bias: None })
}

/// The window. Errors on shapes that do not go together.
fn check_causal([q, k, v]: [&Tensor; 3], scores: &Scores<'_>) -> Result<usize> {
    let (b, t, heads, d) = q.dims4()?;
    let (_, _, groups, _) = k.dims4()?;
    if k.dims() != [b, t, groups, d] || v.dims() != k.dims() || groups == 0 || heads % groups != 0 {
        candle_core::bail!("attention of queries {:?} over keys {:?} and values {:?}", q.shape(), k.shape(), v.shape());
    }
    check_scores(scores, heads, t)
}

/// The window, the largest number for none. Errors on a window of 0 and on a bias that is not for `heads` heads and `keys`
/// keys.
fn check_scores(scores: &Scores<'_>, heads: usize, keys: usize) -> Result<usize> {
    let window = scores.window.unwrap_or(usize::MAX);
    if window == 0 {
        candle_core::bail!("attention with a window of 0 keys");
    }
    if let Some(bias) = scores.bias {
        let (rows, width) = bias.dims2()?;
        if rows != heads || width < keys {
            candle_core::bail!("attention of {heads} heads over {keys} keys with a bias of shape {:?}", bias.shape());
        }
    }
    Ok(window)
}

/// Bytes of scores at a time on a GPU, unless those of one query are more.
const GPU_SCORES: usize = 128 << 20;
/// Queries of a tile on a GPU at most: enough for products to be fast, few enough that little lies above the diagonal.
const GPU_QUERIES: usize = 256;

/// Queries of a tile on a GPU, of `t` over `keys` keys, and the most keys that a tile is multiplied with.
fn gpu_tile(t: usize, keys: usize, heads: usize, window: usize) -> (usize, usize) {
    let keys = keys.min(window.saturating_add(GPU_QUERIES + cpu::TILE));
    let queries = GPU_SCORES / size_of::<f32>() / (heads * keys).max(1);
    (queries.clamp(1, GPU_QUERIES).min(t), keys)
}

/// Bytes that [`causal`] takes on a GPU beside its operands and result, for sequences of `t` tokens.
pub fn gpu_scratch(
    t: usize,
    heads: usize,
    groups: usize,
    d: usize,
    window: Option<usize>,
    precision: Precision,
) -> usize {
    let (queries, keys) = gpu_tile(t, t, heads, window.unwrap_or(usize::MAX));
    let rows = heads * queries;
    match precision {
        Precision::Bf16 => rows * (6 * keys + 4) + t * d * (6 * (heads + groups) + 2 * groups),
        Precision::F32 | Precision::F16 => rows * (4 * keys + 4),
    }
}

#[cfg(test)]
mod tests;
