//! Causal attention with grouped queries.

mod bf16;
mod cpu;
mod reference;

use candle_core::{Result, Tensor};

use crate::matmul::{self, Precision};
use crate::with_f32;

/// softmax(q kᵀ · scale + causal mask) v.
///
/// `q` is `[b, t, heads, d]`, `k` and `v` are `[b, t, groups, d]` (f32, `groups` divides `heads`; query head `h` reads
/// group `h / (heads / groups)`). Returns `[b, t, heads · d]`. No `[t, t]` matrix is stored: a task holds the scores of
/// 64 queries. With [`Precision::Bf16`], on processors that have the instruction, values and the exponentials of the
/// softmax are rounded to bfloat16 before they are multiplied; scores are within some 2^-16 of what they are in f32.
pub fn causal(q: &Tensor, k: &Tensor, v: &Tensor, scale: f32, precision: Precision) -> Result<Tensor> {
    let (b, t, heads, d) = q.dims4()?;
    let (_, _, groups, _) = k.dims4()?;
    if k.dims() != [b, t, groups, d] || v.dims() != k.dims() || groups == 0 || heads % groups != 0 {
        candle_core::bail!("attention of queries {:?} over keys {:?} and values {:?}", q.shape(), k.shape(), v.shape());
    }
    let shape = cpu::Shape { batch: b, time: t, heads, groups, dim: d, scale };
    let fast = precision == Precision::Bf16 && matmul::bf16::available();
    let causal = if fast { bf16::causal } else { cpu::causal };
    let out = with_f32(q, |q| with_f32(k, |k| with_f32(v, |v| Ok(causal(&shape, q, k, v)))))?;
    Tensor::from_vec(out, (b, t, heads * d), q.device())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, IndexOp};

    /// Batch, time, heads, groups, dim.
    type Case = (usize, usize, usize, usize, usize);

    /// The largest difference from the definition applied to the same inputs, values rounded to `precision`.
    fn worst(case: Case, size: f32, precision: Precision) -> f64 {
        let (b, t, heads, groups, d) = case;
        let random = |n: usize, seed: u64| {
            let values = crate::test_values(b * t * n * d, size, seed);
            // Values are rounded by definition; queries and keys are not.
            let values = values.into_iter().map(|v| if seed == 3 { precision.round(v) } else { v });
            Tensor::from_vec(values.collect(), (b, t, n, d), &Device::Cpu).unwrap()
        };
        let (q, k, v) = (random(heads, 1), random(groups, 2), random(groups, 3));
        let out = causal(&q, &k, &v, 0.3, precision).unwrap().reshape((b, t, heads, d)).unwrap();
        let flat =
            |x: &Tensor, i: usize, h: usize| x.i((i, .., h)).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let mut worst = 0f64;
        for i in 0..b {
            for h in 0..heads {
                let g = h / (heads / groups);
                let want = reference::head(&flat(&q, i, h), &flat(&k, i, g), &flat(&v, i, g), d, 0.3);
                for (got, want) in flat(&out, i, h).iter().zip(want) {
                    worst = worst.max((f64::from(*got) - want).abs());
                }
            }
        }
        worst
    }

    const CASES: [Case; 7] = [
        (1, 1, 1, 1, 2),
        (2, 7, 4, 2, 8),
        (1, 64, 3, 1, 16),
        (1, 150, 2, 2, 64),
        (2, 65, 3, 3, 7),
        (1, 300, 2, 1, 96),
        (1, 131, 1, 1, 130),
    ];

    #[test]
    fn agrees_with_the_definition() {
        for case in CASES {
            // Scores up to some tens in f32, off by some 1e-5 before the exponential.
            let off = worst(case, 1.5, Precision::F32);
            assert!(off < 1e-4, "{case:?}: {off}");
        }
    }

    #[test]
    fn agrees_with_the_definition_in_bf16() {
        for case in CASES {
            // Scores of some tens are off by some 1e-3 at most. The exponentials are rounded: each
            // by 2^-9 of itself at most, so an average of values of at most 6 by 6 · 2^-9 at the very most.
            let off = worst(case, 1.0, Precision::Bf16);
            assert!(off < 1.2e-2, "{case:?}: {off}");
        }
    }

    #[test]
    fn the_result_does_not_depend_on_the_number_of_threads() {
        let random = |n: usize, seed: u64| {
            Tensor::from_vec(crate::test_values(2 * 200 * n * 32, 1.0, seed), (2, 200, n, 32), &Device::Cpu).unwrap()
        };
        let (q, k, v) = (random(4, 1), random(2, 2), random(2, 3));
        for precision in [Precision::F32, Precision::Bf16] {
            let run = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let out = pool.install(|| causal(&q, &k, &v, 0.2, precision).unwrap());
                out.flatten_all().unwrap().to_vec1::<f32>().unwrap()
            };
            let one = run(1);
            for threads in [2, 3, 7] {
                assert!(one == run(threads), "{precision:?} with {threads} threads");
            }
        }
    }

    #[test]
    fn wrong_shapes_are_errors() {
        let x = |n: usize| Tensor::zeros((1, 4, n, 8), candle_core::DType::F32, &Device::Cpu).unwrap();
        assert!(causal(&x(3), &x(2), &x(2), 1.0, Precision::F32).is_err());
        assert!(causal(&x(2), &x(2), &x(1), 1.0, Precision::F32).is_err());
    }
}
