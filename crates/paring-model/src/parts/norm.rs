//! Normalisation over the last dimension.

use candle_core::Tensor;
use paring_kernels::norm::rms;

use crate::{Result, source::Source};

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
