//! Normalisation over the last dimension.

use candle_core::{Device, Tensor};
use paring_kernels::norm::{layer, layer_backward, rms, rms_backward};

use crate::{Result, source::Source};

/// A norm of a block, or the one before the head.
pub enum Norm {
    /// Root mean square norm.
    Rms(RmsNorm),
    /// Layer norm.
    Layer(LayerNorm),
}

impl Norm {
    /// `x [.., dim]` f32 → same shape.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Norm::Rms(norm) => norm.forward(x),
            Norm::Layer(norm) => norm.forward(x),
        }
    }

    /// The gradient of `x [.., dim]` f32 for that of its output, of the same shape; those of the stored tensors are added to `sums`,
    /// as many as [`Norm::tensors`] gives, `[dim]` each.
    pub fn backward(&self, dy: &Tensor, x: &Tensor, sums: &mut [Vec<f32>]) -> Result<Tensor> {
        let (dx, gradients) = match self {
            Norm::Rms(norm) => {
                let (dx, dw) = rms_backward(dy, x, &norm.weight, norm.eps)?;
                (dx, vec![dw])
            }
            Norm::Layer(norm) => {
                let (dx, dw, db) = layer_backward(dy, x, &norm.weight, norm.eps)?;
                (dx, vec![dw, db])
            }
        };
        for (sums, gradients) in sums.iter_mut().zip(gradients) {
            sums.iter_mut().zip(gradients).for_each(|(sum, gradient)| *sum += gradient);
        }
        Ok(dx)
    }

    /// The stored tensors, f32 `[dim]`: weight and bias, the weight alone, or none. Each may be replaced by one of its shape.
    pub fn tensors(&mut self) -> Vec<&mut Tensor> {
        match self {
            Norm::Rms(norm) => vec![&mut norm.weight],
            Norm::Layer(norm) if norm.stored => vec![&mut norm.weight, &mut norm.bias],
            Norm::Layer(_) => Vec::new(),
        }
    }

    /// Features, and the number of stored tensors.
    pub(crate) fn sizes(&self) -> (usize, usize) {
        match self {
            Norm::Rms(norm) => (norm.weight.elem_count(), 1),
            Norm::Layer(norm) => (norm.weight.elem_count(), if norm.stored { 2 } else { 0 }),
        }
    }
}

/// Root mean square norm: `x / sqrt(mean(x²) + eps) * weight`.
pub struct RmsNorm {
    weight: Tensor,
    eps: f32,
}

impl RmsNorm {
    /// Reads the weight `[dim]` of this full name.
    pub fn read(source: &Source, name: &str, dim: usize, eps: f32) -> Result<Self> {
        Ok(Self { weight: source.tensor(name, &[dim])?, eps })
    }

    /// `x [.., dim]` f32 → same shape.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(rms(x, &self.weight, self.eps)?)
    }
}

/// Layer norm: `(x − mean(x)) / sqrt(var(x) + eps) * weight + bias`.
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f32,
    stored: bool,
}

impl LayerNorm {
    /// Reads `module.weight` and `module.bias`, both `[dim]`; `module` is a full name.
    pub fn read(source: &Source, module: &str, dim: usize, eps: f32) -> Result<Self> {
        let read = |part: &str| source.tensor(&format!("{module}.{part}"), &[dim]);
        Ok(Self { weight: read("weight")?, bias: read("bias")?, eps, stored: true })
    }

    /// The norm of `dim` features that has nothing to read: weight 1, bias 0.
    pub fn plain(dim: usize, eps: f32, device: &Device) -> Result<Self> {
        let all = |value: f32| Tensor::from_vec(vec![value; dim], dim, device);
        Ok(Self { weight: all(1.0)?, bias: all(0.0)?, eps, stored: false })
    }

    /// `x [.., dim]` f32 → same shape.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(layer(x, &self.weight, &self.bias, self.eps)?)
    }
}
