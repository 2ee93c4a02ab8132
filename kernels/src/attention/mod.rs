//! Causal attention with grouped queries.

mod cpu;
mod reference;

use candle_core::{Result, Tensor};

use crate::with_f32;

/// softmax(q kᵀ · scale + causal mask) v.
///
/// `q` is `[b, t, heads, d]`, `k` and `v` are `[b, t, groups, d]` (f32, `groups` divides `heads`; query head `h` reads
/// group `h / (heads / groups)`). Returns `[b, t, heads · d]`. No `[t, t]` matrix is stored: a task holds the scores of
/// 64 queries.
pub fn causal(q: &Tensor, k: &Tensor, v: &Tensor, scale: f32) -> Result<Tensor> {
    let (b, t, heads, d) = q.dims4()?;
    let (_, _, groups, _) = k.dims4()?;
    if k.dims() != [b, t, groups, d] || v.dims() != k.dims() || groups == 0 || heads % groups != 0 {
        candle_core::bail!("attention of queries {:?} over keys {:?} and values {:?}", q.shape(), k.shape(), v.shape());
    }
    let shape = cpu::Shape { batch: b, time: t, heads, groups, dim: d, scale };
    let out = with_f32(q, |q| with_f32(k, |k| with_f32(v, |v| Ok(cpu::causal(&shape, q, k, v)))))?;
    Tensor::from_vec(out, (b, t, heads * d), q.device())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, IndexOp};

    #[test]
    fn agrees_with_the_definition() {
        for (b, t, heads, groups, d) in [(1, 1, 1, 1, 2), (2, 7, 4, 2, 8), (1, 64, 3, 1, 16), (1, 150, 2, 2, 64)] {
            let random = |n: usize, seed: u64| {
                Tensor::from_vec(crate::test_values(b * t * n * d, 1.5, seed), (b, t, n, d), &Device::Cpu).unwrap()
            };
            let (q, k, v) = (random(heads, 1), random(groups, 2), random(groups, 3));
            let out = causal(&q, &k, &v, 0.3).unwrap().reshape((b, t, heads, d)).unwrap();
            let flat = |x: &Tensor, i: usize, h: usize| {
                x.i((i, .., h)).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
            };
            for i in 0..b {
                for h in 0..heads {
                    let g = h / (heads / groups);
                    let want = reference::head(&flat(&q, i, h), &flat(&k, i, g), &flat(&v, i, g), d, 0.3);
                    for (got, want) in flat(&out, i, h).iter().zip(want) {
                        // Scores up to thirty in f32, off by some 1e-5 before the exponential.
                        assert!((f64::from(*got) - want).abs() < 5e-5, "{got} want {want}");
                    }
                }
            }
        }
    }

    #[test]
    fn wrong_shapes_are_errors() {
        let x = |n: usize| Tensor::zeros((1, 4, n, 8), candle_core::DType::F32, &Device::Cpu).unwrap();
        assert!(causal(&x(3), &x(2), &x(2), 1.0).is_err());
        assert!(causal(&x(2), &x(2), &x(1), 1.0).is_err());
    }
}
