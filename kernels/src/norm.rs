//! Norms over the last dimension: root mean square and layer norm.

use candle_core::{D, Result, Tensor};

use crate::simd::multiversion;
use crate::{Fresh, with_f32, write_chunks};

/// Rows per task.
const ROWS: usize = 32;

/// Independent sums, so that loops run in vector registers. Their number is fixed: the result is the same on every
/// machine.
const LANES: usize = 16;

/// Σ x.
#[inline(always)]
fn sum(x: &[f32]) -> f32 {
    let mut sums = [0f32; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for (sum, v) in sums.iter_mut().zip(chunk) {
            *sum += v;
        }
    }
    sums.iter().sum::<f32>() + rest.iter().sum::<f32>()
}

/// Σ (x − mean)².
#[inline(always)]
fn squares(x: &[f32], mean: f32) -> f32 {
    let mut sums = [0f32; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for (sum, v) in sums.iter_mut().zip(chunk) {
            *sum += (v - mean) * (v - mean);
        }
    }
    sums.iter().sum::<f32>() + rest.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>()
}

multiversion! {
    fn apply_rms(x: &[f32], weight: &[f32], eps: f32, out: &mut Fresh) {
        let dim = weight.len();
        for (x, out) in x.chunks_exact(dim).zip(out.chunks_exact_mut(dim)) {
            let factor = 1.0 / (squares(x, 0.0) / dim as f32 + eps).sqrt();
            for ((o, &x), &w) in out.iter_mut().zip(x).zip(weight) {
                o.write(x * factor * w);
            }
        }
    }
}

multiversion! {
    fn apply_layer(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut Fresh) {
        let dim = weight.len();
        for (x, out) in x.chunks_exact(dim).zip(out.chunks_exact_mut(dim)) {
            let mean = sum(x) / dim as f32;
            let factor = 1.0 / (squares(x, mean) / dim as f32 + eps).sqrt();
            for (((o, &x), &w), &b) in out.iter_mut().zip(x).zip(weight).zip(bias) {
                o.write((x - mean) * factor * w + b);
            }
        }
    }
}

/// `x / sqrt(mean(x²) + eps) · weight` over the last dimension: `x [.., dim]` f32, `weight [dim]` f32, result like `x`.
/// Errors on other shapes.
pub fn rms(x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    let each = ROWS * features(x, weight)?;
    let out = with_f32(x, |x| {
        with_f32(weight, |weight| {
            // SAFETY: `apply_rms` writes each element of each row.
            Ok(unsafe {
                write_chunks(x.len(), each, |i, out| apply_rms(&x[i * each..][..out.len()], weight, eps, out))
            })
        })
    })?;
    Tensor::from_vec(out, x.shape(), x.device())
}

/// `(x − mean(x)) / sqrt(var(x) + eps) · weight + bias` over the last dimension, var(x) = mean((x − mean(x))²):
/// `x [.., dim]` f32, `weight [dim]` and `bias [dim]` f32, result like `x`. Errors on other shapes.
pub fn layer(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f32) -> Result<Tensor> {
    let dim = features(x, weight)?;
    if bias.dims() != [dim] {
        candle_core::bail!("a norm of {dim} features was given a bias of shape {:?}", bias.shape());
    }
    let each = ROWS * dim;
    let out = with_f32(x, |x| {
        with_f32(weight, |weight| {
            with_f32(bias, |bias| {
                // SAFETY: `apply_layer` writes each element of each row: there are as many biases as weights.
                Ok(unsafe {
                    write_chunks(x.len(), each, |i, out| {
                        apply_layer(&x[i * each..][..out.len()], weight, bias, eps, out);
                    })
                })
            })
        })
    })?;
    Tensor::from_vec(out, x.shape(), x.device())
}

/// The number of features that `weight` is for, checked to be that of `x`.
fn features(x: &Tensor, weight: &Tensor) -> Result<usize> {
    let dim = weight.dims1()?;
    if dim == 0 || x.dim(D::Minus1)? != dim {
        candle_core::bail!("a norm of {dim} features was given an input of shape {:?}", x.shape());
    }
    Ok(dim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    const SHAPES: [(usize, usize); 4] = [(1, 1), (3, 7), (70, 48), (33, 100)];

    fn tensor(values: &[f32], shape: impl Into<candle_core::Shape>) -> Tensor {
        Tensor::from_slice(values, shape, &Device::Cpu).unwrap()
    }

    fn flat(x: &Tensor) -> Vec<f32> {
        x.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn rms_agrees_with_the_definition() {
        for (rows, dim) in SHAPES {
            let (x, w) = (crate::test_values(rows * dim, 2.0, 1), crate::test_values(dim, 1.0, 2));
            let got = flat(&rms(&tensor(&x, (rows, dim)), &tensor(&w, dim), 1e-5).unwrap());
            for (got, x) in got.chunks_exact(dim).zip(x.chunks_exact(dim)) {
                let mean = x.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / dim as f64;
                for ((&got, &x), &w) in got.iter().zip(x).zip(&w) {
                    let want = f64::from(x) / (mean + 1e-5).sqrt() * f64::from(w);
                    // A sum of up to a hundred squares and a handful of roundings.
                    assert!((f64::from(got) - want).abs() <= 2e-6 * want.abs() + 1e-30, "{got} want {want}");
                }
            }
        }
    }

    #[test]
    fn layer_agrees_with_the_definition() {
        for (rows, dim) in SHAPES {
            // Not centred, or a norm that forgets the mean would pass.
            let x: Vec<f32> = crate::test_values(rows * dim, 2.0, 1).iter().map(|v| v + 3.0).collect();
            let (w, b) = (crate::test_values(dim, 1.0, 2), crate::test_values(dim, 1.0, 3));
            let got = flat(&layer(&tensor(&x, (rows, dim)), &tensor(&w, dim), &tensor(&b, dim), 1e-5).unwrap());
            for (got, x) in got.chunks_exact(dim).zip(x.chunks_exact(dim)) {
                let mean = x.iter().map(|&v| f64::from(v)).sum::<f64>() / dim as f64;
                let var = x.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / dim as f64;
                for (((&got, &x), &w), &b) in got.iter().zip(x).zip(&w).zip(&b) {
                    let (factor, x) = (f64::from(w) / (var + 1e-5).sqrt(), f64::from(x));
                    let want = (x - mean) * factor + f64::from(b);
                    // The mean is off by some 1e-7 of the values, and so is each difference; then a few roundings.
                    let bound = 1e-6 * (x.abs() * factor.abs() + want.abs() + 1.0);
                    assert!((f64::from(got) - want).abs() <= bound, "{got} want {want}");
                }
            }
        }
    }

    #[test]
    fn wrong_shapes_are_errors() {
        let zeros = |dim: usize| tensor(&vec![0.0; dim], dim);
        let x = tensor(&[0.0; 6], (2, 3));
        assert!(rms(&x, &zeros(4), 0.1).is_err());
        assert!(rms(&x, &x, 0.1).is_err());
        assert!(layer(&x, &zeros(4), &zeros(4), 0.1).is_err());
        assert!(layer(&x, &zeros(3), &zeros(2), 0.1).is_err());
    }
}
