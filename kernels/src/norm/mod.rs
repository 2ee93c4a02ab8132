//! Norms over the last dimension: root mean square and layer norm.

mod backward;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(test)]
mod reference;

pub use backward::{layer_backward, rms_backward};

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
    let dim = features(x, weight)?;
    on_gpu!(x => cuda::rms(x, weight, dim, eps));
    let each = ROWS * dim;
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
    on_gpu!(x => cuda::layer(x, weight, bias, dim, eps));
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

    fn tensor(values: &[f32], shape: impl Into<candle_core::Shape>) -> Tensor {
        Tensor::from_slice(values, shape, &Device::Cpu).unwrap()
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
