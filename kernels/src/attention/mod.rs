//! Causal attention with grouped queries.

mod bf16;
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
pub(crate) mod reference;

use candle_core::{Result, Tensor};

use crate::matmul::Precision;
use crate::with_f32;

/// What becomes of the products of queries and keys before the softmax, beside the causal mask.
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
/// matrix is stored: a task holds the scores of 64 queries, and a window saves the products outside it, but for parts
/// of tiles. With [`Precision::Bf16`] values and the exponentials of the softmax are rounded to bfloat16 before they are
/// multiplied; scores are f32.
///
/// On a GPU [`Precision::Bf16`] means that too, with scores within some 2^-16 of f32, and other precisions f32. There a tile
/// is 256 queries of all heads of a sequence, fewer if their scores were more than 128 MiB (half as much again with bfloat16, which also takes
/// 6 · t · (heads + groups) · d and 2 · t · groups · d bytes: [`gpu_scratch`]). 2 · t² · heads · d operations, a quarter more
/// for t of 1024; with bfloat16 twice as many, on tensor cores.
pub fn causal(q: &Tensor, k: &Tensor, v: &Tensor, scores: &Scores<'_>, precision: Precision) -> Result<Tensor> {
    let (b, t, heads, d) = q.dims4()?;
    let (_, _, groups, _) = k.dims4()?;
    if k.dims() != [b, t, groups, d] || v.dims() != k.dims() || groups == 0 || heads % groups != 0 {
        candle_core::bail!("attention of queries {:?} over keys {:?} and values {:?}", q.shape(), k.shape(), v.shape());
    }
    let &Scores { scale, window, bias } = scores;
    let window = window.unwrap_or(usize::MAX);
    if window == 0 {
        candle_core::bail!("attention with a window of 0 keys");
    }
    if let Some(bias) = bias {
        let (rows, width) = bias.dims2()?;
        if rows != heads || width < t {
            candle_core::bail!("attention of {heads} heads over {t} keys with a bias of shape {:?}", bias.shape());
        }
    }
    let shape = cpu::Shape { batch: b, time: t, heads, groups, dim: d, scale, window, bias: None };
    on_gpu!(q => cuda::causal(&shape, [q, k, v], bias, precision));
    let causal = if precision == Precision::Bf16 { bf16::causal } else { cpu::causal };
    let run = |bias: Option<(&[f32], usize)>| {
        let shape = cpu::Shape { bias, ..shape };
        with_f32(q, |q| with_f32(k, |k| with_f32(v, |v| Ok(causal(&shape, q, k, v)))))
    };
    let out = match bias {
        None => run(None)?,
        Some(bias) => {
            let width = bias.dims2()?.1;
            with_f32(bias, |values| run(Some((values, width))))?
        }
    };
    Tensor::from_vec(out, (b, t, heads * d), q.device())
}

/// Bytes of scores at a time on a GPU, unless those of one query are more.
const GPU_SCORES: usize = 128 << 20;
/// Queries of a tile on a GPU at most: enough for products to be fast, few enough that little lies above the diagonal.
const GPU_QUERIES: usize = 256;

/// Queries of a tile on a GPU, and the most keys that a tile is multiplied with.
fn gpu_tile(t: usize, heads: usize, window: usize) -> (usize, usize) {
    let keys = t.min(window.saturating_add(GPU_QUERIES + cpu::TILE));
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
    let (queries, keys) = gpu_tile(t, heads, window.unwrap_or(usize::MAX));
    let rows = heads * queries;
    match precision {
        Precision::Bf16 => rows * (6 * keys + 4) + t * d * (6 * (heads + groups) + 2 * groups),
        Precision::F32 | Precision::F16 => rows * (4 * keys + 4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::attention::slopes;
    use candle_core::Device;

    const SCALE: f32 = 0.3;

    fn random((b, t, heads, d): (usize, usize, usize, usize), size: f32, seed: u64) -> Tensor {
        Tensor::from_vec(crate::test_values(b * t * heads * d, size, seed), (b, t, heads, d), &Device::Cpu).unwrap()
    }

    fn flat(x: &Tensor) -> Vec<f32> {
        x.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn a_window_that_reaches_back_to_the_first_key_changes_no_bit() {
        let (q, k, v) =
            (random((1, 200, 4, 16), 1.0, 1), random((1, 200, 2, 16), 1.0, 2), random((1, 200, 2, 16), 1.0, 3));
        for precision in [Precision::F32, Precision::Bf16] {
            let run = |window| {
                let scores = Scores { window, ..Scores::scaled(SCALE) };
                flat(&causal(&q, &k, &v, &scores, precision).unwrap())
            };
            assert!(run(Some(200)) == run(None), "{precision:?}");
            assert!(run(Some(199)) != run(None), "{precision:?}");
        }
    }

    #[test]
    fn the_result_does_not_depend_on_the_number_of_threads() {
        let (q, k, v) =
            (random((2, 200, 4, 32), 1.0, 1), random((2, 200, 2, 32), 1.0, 2), random((2, 200, 2, 32), 1.0, 3));
        let bias = slopes(4, 200, &Device::Cpu).unwrap();
        let scores = Scores { scale: 0.2, window: Some(70), bias: Some(&bias) };
        for precision in [Precision::F32, Precision::Bf16] {
            let run = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                flat(&pool.install(|| causal(&q, &k, &v, &scores, precision).unwrap()))
            };
            let one = run(1);
            for threads in [2, 3, 7] {
                assert!(one == run(threads), "{precision:?} with {threads} threads");
            }
        }
    }

    #[test]
    fn tiles_of_a_gpu_stay_within_their_memory() {
        // Llama 2 7B at 2048 tokens: whole tiles, 64 MiB of scores.
        assert_eq!(gpu_tile(2048, 32, usize::MAX), (256, 2048));
        assert_eq!(gpu_scratch(2048, 32, 32, 128, None, Precision::F32), (64 << 20) + 4 * 32 * 256);
        let parts = 2048 * 4096 * 14;
        assert_eq!(gpu_scratch(2048, 32, 32, 128, None, Precision::Bf16), (96 << 20) + 4 * 32 * 256 + parts);
        // Long sequences have fewer queries, until one is left.
        assert_eq!(gpu_tile(1 << 17, 64, usize::MAX), (4, 1 << 17));
        assert_eq!(gpu_tile(1 << 20, 64, usize::MAX), (1, 1 << 20));
        // A window saves keys; short sequences save all.
        assert_eq!(gpu_tile(1 << 17, 32, 4096), (237, 4416));
        assert_eq!(gpu_tile(7, 4, usize::MAX), (7, 7));
    }

    #[test]
    fn wrong_shapes_are_errors() {
        let zeros = |dims: &[usize]| Tensor::zeros(dims, candle_core::DType::F32, &Device::Cpu).unwrap();
        let x = |n: usize| zeros(&[1, 4, n, 8]);
        let run = |q: usize, k: usize, v: usize, scores: Scores<'_>| {
            causal(&x(q), &x(k), &x(v), &scores, Precision::F32).map_err(|e| e.to_string())
        };
        let plain = Scores::scaled(1.0);
        assert!(run(2, 2, 2, plain).is_ok());
        assert!(run(3, 2, 2, plain).is_err());
        assert!(run(2, 2, 1, plain).is_err());
        let error = run(2, 2, 2, Scores { window: Some(0), ..plain }).unwrap_err();
        assert!(error.starts_with("attention with a window of 0 keys"), "{error}");
        for dims in [[1, 4], [2, 3]] {
            let error = run(2, 2, 2, Scores { bias: Some(&zeros(&dims)), ..plain }).unwrap_err();
            let expected = format!("attention of 2 heads over 4 keys with a bias of shape {dims:?}");
            assert!(error.starts_with(&expected), "{error}");
        }
    }
}
