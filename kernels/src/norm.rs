//! Root mean square norm.

use candle_core::{D, Result, Tensor};

use crate::simd::multiversion;
use crate::{Fresh, with_f32, write_chunks};

/// Rows per task.
const ROWS: usize = 32;

multiversion! {
    fn apply(x: &[f32], weight: &[f32], eps: f32, out: &mut Fresh) {
        let dim = weight.len();
        for (x, out) in x.chunks_exact(dim).zip(out.chunks_exact_mut(dim)) {
            // Sixteen sums: a fixed order that vectorises.
            let mut sums = [0f32; 16];
            let (chunks, rest) = x.as_chunks::<16>();
            for chunk in chunks {
                for (sum, v) in sums.iter_mut().zip(chunk) {
                    *sum += v * v;
                }
            }
            let total: f32 = sums.iter().sum::<f32>() + rest.iter().map(|v| v * v).sum::<f32>();
            let factor = 1.0 / (total / dim as f32 + eps).sqrt();
            for ((o, &x), &w) in out.iter_mut().zip(x).zip(weight) {
                o.write(x * factor * w);
            }
        }
    }
}

/// `x / sqrt(mean(x²) + eps) · weight` over the last dimension: `x [.., dim]` f32, `weight [dim]` f32, result like `x`.
/// Errors on other shapes.
pub fn rms(x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    let dim = weight.dims1()?;
    if dim == 0 || x.dim(D::Minus1)? != dim {
        candle_core::bail!("a norm of {dim} features was given an input of shape {:?}", x.shape());
    }
    let out = with_f32(x, |x| {
        with_f32(weight, |weight| {
            let each = ROWS * dim;
            // SAFETY: `apply` writes each element of each row.
            Ok(unsafe { write_chunks(x.len(), each, |i, out| apply(&x[i * each..][..out.len()], weight, eps, out)) })
        })
    })?;
    Tensor::from_vec(out, x.shape(), x.device())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn agrees_with_the_definition() {
        for (rows, dim) in [(1, 1), (3, 7), (70, 48), (33, 100)] {
            let (x, w) = (crate::test_values(rows * dim, 2.0, 1), crate::test_values(dim, 1.0, 2));
            let tensor = Tensor::from_vec(x.clone(), (rows, dim), &Device::Cpu).unwrap();
            let weight = Tensor::from_vec(w.clone(), dim, &Device::Cpu).unwrap();
            let got = rms(&tensor, &weight, 1e-5).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            for (got, x) in got.chunks_exact(dim).zip(x.chunks_exact(dim)) {
                let mean = x.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / dim as f64;
                for ((&got, &x), &w) in got.iter().zip(x).zip(&w) {
                    let want = f64::from(x) / (mean + 1e-5).sqrt() * f64::from(w);
                    // A sum of up to a hundred squares and a handful of roundings.
                    assert!((f64::from(got) - want).abs() <= 2e-6 * want.abs() + 1e-30, "{got} want {want}");
                }
            }
        }
        let x = Tensor::zeros((2, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
        assert!(rms(&x, &Tensor::zeros(4, candle_core::DType::F32, &Device::Cpu).unwrap(), 0.1).is_err());
    }
}
