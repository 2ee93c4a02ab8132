//! The functions between the linears of an MLP.

use candle_core::Tensor;
use paring_kernels::gelu::{gelu, gelu_backward};
use paring_kernels::plain::{relu, relu_backward};

use crate::Result;

/// The function between the two linears of an MLP without a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// max(x, 0).
    Relu,
    /// x Φ(x), Φ the normal distribution.
    Gelu,
}

impl Activation {
    /// Of each element of `x` f32; same shape.
    pub fn forward(self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Activation::Relu => relu(x)?,
            Activation::Gelu => gelu(x)?,
        })
    }

    /// The gradient of `x` for that of its output, both of one shape.
    pub fn backward(self, dy: &Tensor, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Activation::Relu => relu_backward(dy, x)?,
            Activation::Gelu => gelu_backward(dy, x)?,
        })
    }
}
