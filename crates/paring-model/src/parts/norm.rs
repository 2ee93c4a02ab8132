//! Normalisation over the last dimension.

use candle_core::{Device, Tensor};
use paring_kernels::norm::{layer, rms};

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
}

impl LayerNorm {
    /// Reads `module.weight` and `module.bias`, both `[dim]`; `module` is a full name.
    pub fn read(source: &Source, module: &str, dim: usize, eps: f32) -> Result<Self> {
        let read = |part: &str| source.tensor(&format!("{module}.{part}"), &[dim]);
        Ok(Self { weight: read("weight")?, bias: read("bias")?, eps })
    }

    /// The norm of `dim` features that has nothing to read: weight 1, bias 0.
    pub fn plain(dim: usize, eps: f32, device: &Device) -> Result<Self> {
        let all = |value: f32| Tensor::from_vec(vec![value; dim], dim, device);
        Ok(Self { weight: all(1.0)?, bias: all(0.0)?, eps })
    }

    /// `x [.., dim]` f32 → same shape.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(layer(x, &self.weight, &self.bias, self.eps)?)
    }
}
