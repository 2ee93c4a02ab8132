//! What a linear multiplies its input with.

use candle_core::Tensor;
use paring_kernels::matmul::{Matrix, Precision};

use crate::{Error, Result};

/// A weight `[rows, cols]` = `[out, in]` in whatever form is fast to multiply with.
pub trait Weight: Send + Sync {
    /// `x [.., cols]` f32 → `x Wᵀ [.., rows]` f32. Errors when the last dimension of `x` is not `cols`.
    fn matmul(&self, x: &Tensor) -> Result<Tensor>;
    /// The weight itself, f32 `[rows, cols]`.
    fn dense(&self) -> Result<Tensor>;
}

/// A plain matrix.
pub struct Dense(Matrix);

impl Dense {
    /// Takes `values`, row-major `[rows, cols]`; `precision` is how products round their inputs.
    /// Errors when there are not `rows * cols` values.
    pub fn new(rows: usize, cols: usize, values: Vec<f32>, precision: Precision) -> Result<Self> {
        match rows.checked_mul(cols) {
            Some(size) if size == values.len() => Ok(Self(Matrix::new(rows, cols, values, precision))),
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
}
