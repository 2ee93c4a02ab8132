//! What methods make, layouts store and kernels run.

use crate::{Dtype, Grid, Spqr};

/// One compressed weight matrix in host memory, holding only values that the file can hold: every float is already
/// rounded to [`Compressed::dtype`].
#[derive(Clone, Debug, PartialEq)]
pub struct Compressed {
    /// Outputs of the linear.
    pub rows: usize,
    /// Inputs of the linear.
    pub cols: usize,
    /// The float type of the dense weight and of the scales: f32, f16 or bf16.
    pub dtype: Dtype,
    /// The numbers.
    pub values: Values,
}

/// The numbers of a [`Compressed`].
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Row-major `[rows, cols]`; a pruned weight is an exact zero.
    Dense(Vec<f32>),
    /// Codes on a grid.
    Codes {
        /// Row-major `[rows, cols]`: signed integers, or the bits of small floats ([`crate::Element::value`]).
        codes: Vec<i8>,
        /// What the codes mean.
        grid: Grid,
    },
    /// Bilevel grids and outliers.
    Spqr(Box<Spqr>),
}

impl Compressed {
    /// The dense weight, row-major `[rows, cols]`: the definition that every kernel and every reader must agree with.
    /// Codes are exact in every float type.
    pub fn to_dense(&self) -> Vec<f32> {
        match &self.values {
            Values::Dense(values) => values.clone(),
            Values::Spqr(spqr) => spqr.to_dense(self.rows, self.cols, self.dtype),
            Values::Codes { codes, grid } => grid.to_dense(codes, self.cols, self.dtype),
        }
    }

    /// 1 where a weight is kept exact, row-major `[rows, cols]`; `None` when no weight can be.
    pub fn outlier_mask(&self) -> Option<Vec<u8>> {
        match &self.values {
            Values::Spqr(spqr) => Some(spqr.outlier_mask(self.rows, self.cols)),
            Values::Dense(_) | Values::Codes { .. } => None,
        }
    }

    /// A digest of shape and dense values (xxh3, 64 bits), to compare what was made with what was read back.
    pub fn digest(&self) -> u64 {
        digest(self.rows, self.cols, &self.to_dense())
    }
}

/// The digest of a matrix of these dense values, row-major `[rows, cols]`: see [`Compressed::digest`].
pub fn digest(rows: usize, cols: usize, dense: &[f32]) -> u64 {
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    hash.update(&(rows as u64).to_le_bytes());
    hash.update(&(cols as u64).to_le_bytes());
    for chunk in dense.chunks(4096) {
        let bytes: Vec<u8> = chunk.iter().flat_map(|v| v.to_le_bytes()).collect();
        hash.update(&bytes);
    }
    hash.digest()
}
