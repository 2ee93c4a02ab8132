//! SwiGLU: silu(gate) · up.

use candle_core::{Result, Tensor};

/// `gate / (1 + exp(-gate)) * up`, both `[.., dim]` f32.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    let s = ((gate.neg()?.exp()? + 1.0)?).recip()?;
    (gate * s)?.mul(up)
}
