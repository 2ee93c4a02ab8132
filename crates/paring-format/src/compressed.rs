//! What methods make, layouts store and kernels run.

use crate::{Dtype, Spqr};

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
    /// Integer codes on a grid.
    Codes {
        /// Row-major `[rows, cols]`, signed: `-2^(bits-1) ..= 2^(bits-1) - 1`.
        codes: Vec<i8>,
        /// What the codes mean.
        grid: Grid,
    },
    /// Bilevel grids and outliers.
    Spqr(Box<Spqr>),
}

/// A quantization grid: `weight = (code - zero) * scale`, one scale and zero per row and group of columns.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    /// Width of a code, 2 to 8.
    pub bits: u32,
    /// Columns that share a scale; `cols` when a whole row shares one.
    pub group_size: usize,
    /// Row-major `[rows, groups]`, rounded to the matrix's dtype.
    pub scales: Vec<f32>,
    /// Row-major `[rows, groups]`, signed like the codes; `None` for a symmetric grid (zero point 0).
    pub zeros: Option<Vec<i8>>,
    /// The group of each column, when it is not `column / group_size` (activation order "group").
    pub group_index: Option<Vec<u32>>,
}

impl Grid {
    /// Groups in a row of `cols` columns; the last one may be short.
    pub fn groups(&self, cols: usize) -> usize {
        cols.div_ceil(self.group_size.max(1))
    }

    /// The group of column `col`.
    pub fn group_of(&self, col: usize) -> usize {
        match &self.group_index {
            Some(index) => index[col] as usize,
            None => col / self.group_size,
        }
    }
}

impl Compressed {
    /// The dense weight, row-major `[rows, cols]`: the definition that every kernel and every reader must agree with.
    /// Codes and zero points are small integers, exact in every float type, so the product is the only rounding.
    pub fn to_dense(&self) -> Vec<f32> {
        match &self.values {
            Values::Dense(values) => values.clone(),
            Values::Spqr(spqr) => spqr.to_dense(self.rows, self.cols, self.dtype),
            Values::Codes { codes, grid } => {
                let groups = grid.groups(self.cols);
                let mut dense = Vec::with_capacity(codes.len());
                let step = if grid.group_index.is_some() { 1 } else { grid.group_size.max(1) };
                for (row, codes) in codes.chunks_exact(self.cols.max(1)).enumerate() {
                    // Columns of one group that lie side by side share their scale and zero point.
                    for (run, codes) in codes.chunks(step).enumerate() {
                        let at = row * groups + grid.group_of(run * step);
                        let scale = grid.scales[at];
                        let zero = grid.zeros.as_ref().map_or(0, |z| i32::from(z[at]));
                        dense.extend(codes.iter().map(|&c| self.dtype.round((i32::from(c) - zero) as f32 * scale)));
                    }
                }
                dense
            }
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
