//! What a linear multiplies its input with.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use paring_kernels::matmul::{Matrix, Precision};
use paring_kernels::quantize::{Rounded, Rounding, scale_rows};

use crate::{Error, Result};

/// A weight `[rows, cols]` = `[out, in]` in whatever form is fast to multiply with.
pub trait Weight: Send + Sync {
    /// `x [.., cols]` f32 → `x Wᵀ [.., rows]` f32. Errors when the last dimension of `x` is not `cols`.
    fn matmul(&self, x: &Tensor) -> Result<Tensor>;
    /// The weight itself, f32 `[rows, cols]`.
    fn dense(&self) -> Result<Tensor>;
    /// The matrix, where a product with it is all that `matmul` does: such products can be made together.
    fn matrix(&self) -> Option<&Matrix> {
        None
    }
}

/// A plain matrix.
pub struct Dense(Matrix);

impl Dense {
    /// Takes `values`, row-major `[rows, cols]`, for activations on `device`; `precision` is how products round their
    /// inputs. Errors when there are not `rows * cols` values, and when the device does.
    pub fn on(device: &Device, rows: usize, cols: usize, values: Vec<f32>, precision: Precision) -> Result<Self> {
        match rows.checked_mul(cols) {
            Some(size) if size == values.len() => Ok(Self(Matrix::on(device, rows, cols, values, precision)?)),
            _ => Err(Error::WeightSize { rows, cols, got: values.len() }),
        }
    }
}

impl Weight for Dense {
    fn matmul(&self, x: &Tensor) -> Result<Tensor> {
        Ok(self.0.matmul(x)?)
    }

    fn dense(&self) -> Result<Tensor> {
        Ok(self.0.dense()?)
    }

    fn matrix(&self) -> Option<&Matrix> {
        Some(&self.0)
    }
}

/// A weight whose inputs are rounded to codes first.
///
/// The codes go into the product as they are, and the scales of tokens come behind it, as in kernels that multiply codes:
/// nothing is lost where the product rounds its inputs to bfloat16, but for scales of groups that are no powers of two.
pub struct Quantized {
    weight: Arc<dyn Weight>,
    input: Rounding,
}

impl Quantized {
    /// `weight` with inputs rounded as `input` says.
    pub fn new(weight: Arc<dyn Weight>, input: Rounding) -> Self {
        Self { weight, input }
    }
}

impl Weight for Quantized {
    fn matmul(&self, x: &Tensor) -> Result<Tensor> {
        let Rounded { values, factors } = self.input.round(x)?;
        Ok(scale_rows(self.weight.matmul(&values)?, factors.as_ref())?)
    }

    fn dense(&self) -> Result<Tensor> {
        self.weight.dense()
    }
}
