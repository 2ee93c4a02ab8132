//! Application of a recipe to a fan and its linears.

mod baseline;
mod grids;
mod masks;
mod prepare;
pub mod published;
mod shift;
mod spearman;
mod spqr;
mod sweep;
#[cfg(test)]
mod tests;
mod underflow;

use std::borrow::Cow;
use std::time::Instant;

use paring_format::{Compressed, Dtype, Values};
use paring_kernels::matmul::Precision;

pub(crate) use grids::shared_amax;
pub(crate) use masks::refining_products;
pub(crate) use paring_kernels::sweep::share_of;
pub use prepare::Prepared;
pub(crate) use shift::Shift;
pub use spqr::average_bits;
pub(crate) use underflow::Underflow;

use crate::Result;
use crate::plan::Recipe;

/// A distortion that is a smaller share of Σ e², from which the damping's part was subtracted, has lost its digits.
const CANCELLATION: f64 = 1e-3;

/// The result for one matrix.
pub struct Outcome {
    /// The matrix, as the file will hold it.
    pub compressed: Compressed,
    /// See [`Outcome::dense`]; `None` where `compressed` holds the weight itself.
    decoded: Option<Vec<f32>>,
    /// 1 where the weight was zero before rounding, row-major `[rows, cols]`.
    pub dropped: Vec<u8>,
    /// The factors of codes, row-major `[rows, groups]`, repeated where rows share one; empty when nothing is rounded.
    pub scales: Vec<f32>,
    /// Zero points 0 ..= 2^bits − 1 (any number for SpQR), row-major `[rows, groups]`; empty when nothing is rounded.
    pub zeros: Vec<f32>,
    /// Σ e² of the sweep.
    pub loss: f64,
    /// tr(ΔW·H·ΔWᵀ), from the sweep's own errors; `None` without a Gram matrix.
    pub distortion: Option<f64>,
    /// Steps beyond the published sweep, in their order, and what each changed.
    pub changes: Vec<Change>,
    /// Seconds it took; of matrices that were swept together, its share by rows.
    pub seconds: f64,
}

/// The error of a matrix before and after one step, as a share of tr(W·H·Wᵀ) or of what the step minimises.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The step, as the report names it.
    pub step: &'static str,
    /// The error without it.
    pub before: f64,
    /// The error with it.
    pub after: f64,
}

impl Outcome {
    /// The weight as the sweep left it, row-major `[rows, cols]`: what `compressed` must decode to, bit for bit.
    pub fn dense(&self) -> &[f32] {
        match (&self.decoded, &self.compressed.values) {
            (Some(decoded), _) | (None, Values::Dense(decoded)) => decoded,
            (None, Values::Codes { .. } | Values::Spqr(_)) => &[],
        }
    }

    /// [`Outcome::distortion`] where the sweep's sums tell it: they hold the damping's part too, and where that is nearly all of
    /// them the rest has lost its digits.
    pub(crate) fn told_distortion(&self) -> Option<f64> {
        self.distortion.filter(|&distortion| distortion >= CANCELLATION * self.loss)
    }

    /// Forgets what the sweep says of its own weights, where others took their place.
    pub(crate) fn forget_sums(&mut self) {
        // A distortion is always too small a share of that to be believed.
        self.loss = f64::INFINITY;
        self.changes.clear();
    }

    /// [`Outcome::dense`] without a copy.
    pub fn into_dense(self) -> Vec<f32> {
        match (self.decoded, self.compressed.values) {
            (Some(decoded), _) | (None, Values::Dense(decoded)) => decoded,
            (None, Values::Codes { .. } | Values::Spqr(_)) => Vec::new(),
        }
    }

    /// [`Outcome::dense`], to be changed.
    pub(crate) fn dense_mut(&mut self) -> &mut [f32] {
        match (&mut self.decoded, &mut self.compressed.values) {
            (Some(decoded), _) | (None, Values::Dense(decoded)) => decoded,
            (None, Values::Codes { .. } | Values::Spqr(_)) => &mut [],
        }
    }

    /// Codes 0 ..= 2^bits − 1, or the bits of small floats, row-major `[rows, cols]`; empty when nothing is rounded.
    pub fn codes(&self) -> Vec<u8> {
        let Compressed { cols, values, .. } = &self.compressed;
        match values {
            Values::Dense(_) => Vec::new(),
            Values::Codes { codes, grid } => {
                let offset = grid.element.int_bits().map_or(0, |bits| 1 << (bits - 1));
                codes.iter().map(|&c| (i32::from(c) + offset) as u8).collect()
            }
            Values::Spqr(spqr) => match &spqr.order {
                None => spqr.codes.clone(),
                Some(order) => {
                    let mut codes = vec![0; spqr.codes.len()];
                    for (to, from) in codes.chunks_exact_mut(*cols).zip(spqr.codes.chunks_exact(*cols)) {
                        order.iter().zip(from).for_each(|(&column, &code)| to[column as usize] = code);
                    }
                    codes
                }
            },
        }
    }
}

/// The form in which the file will hold a matrix, as far as a sweep must know.
#[derive(Clone, Copy, Debug)]
pub struct Stored {
    /// The type of its floats.
    pub dtype: Dtype,
    /// SpQR's outliers are stored as what is added to the values of their codes.
    pub added_outliers: bool,
    /// The largest magnitude among the matrices that share a global scale (NVFP4); `None`: the matrix's own.
    pub amax: Option<f32>,
}

impl Stored {
    /// A matrix of this type, outliers as they are.
    pub fn plain(dtype: Dtype) -> Self {
        Self { dtype, added_outliers: false, amax: None }
    }

    /// The rounding of floats of the type.
    pub(crate) fn precision(&self) -> Precision {
        match self.dtype {
            Dtype::Bf16 => Precision::Bf16,
            Dtype::F16 => Precision::F16,
            _ => Precision::F32,
        }
    }
}

/// A matrix to compress.
#[derive(Clone, Debug)]
pub struct Matrix<'a> {
    /// Row-major `[rows, cols]`. One that is owned is swept where it lies, if its own values are not needed after that.
    pub weight: Cow<'a, [f32]>,
    /// The form in which the file will hold it.
    pub stored: Stored,
    /// Its name, for errors.
    pub module: &'a str,
    /// The mask that is given, row-major `[rows, cols]` in file order: 1 where a weight goes. `None`: the recipe finds it, or
    /// removes nothing.
    pub given: Option<&'a [u8]>,
}

impl<'a> Matrix<'a> {
    /// A matrix that stays as it is.
    pub fn new(weight: &'a [f32], stored: Stored, module: &'a str) -> Self {
        Self { weight: Cow::Borrowed(weight), stored, module, given: None }
    }

    /// The same matrix under this mask.
    pub fn under(self, given: Option<&'a [u8]>) -> Self {
        Self { given, ..self }
    }

    /// The same matrix, borrowed.
    pub(crate) fn by_ref(&self) -> Matrix<'_> {
        Matrix { weight: Cow::Borrowed(&self.weight), ..*self }
    }
}

impl Recipe {
    /// [`Recipe::compress_all`] of one matrix, `weight`, row-major `[rows, cols]`.
    pub fn compress(
        &self,
        weight: &[f32],
        cols: usize,
        prepared: &Prepared,
        stored: Stored,
        module: &str,
    ) -> Result<Outcome> {
        let mut made = self.compress_all(vec![Matrix::new(weight, stored, module)], cols, prepared)?;
        made.pop().ok_or_else(|| crate::Error::Plan(format!("{module}: nothing came out")))
    }

    /// Compresses matrices of `cols` columns that share their inputs; one outcome for each, the same as of each alone.
    ///
    /// A weight that is exactly zero stays exactly zero when the recipe only quantizes. Operations: about rows·cols² for
    /// a full curvature, rows·cols otherwise.
    ///
    /// Errors when SpQR's grids would lose the zeros of a model that is already sparse, naming the module, and when the
    /// device does.
    pub fn compress_all(&self, matrices: Vec<Matrix<'_>>, cols: usize, prepared: &Prepared) -> Result<Vec<Outcome>> {
        let start = Instant::now();
        if self.mask_only {
            return masks::only(self, matrices, cols, prepared);
        }
        let rows: Vec<f64> = matrices.iter().map(|matrix| (matrix.weight.len() / cols) as f64).collect();
        let mut outcomes = match (&self.spqr, self.rounding) {
            _ if prepared.is_idle() => {
                matrices.iter().map(|matrix| self.compress_plain(matrix, cols, prepared)).collect::<Result<_>>()?
            }
            (Some(spqr), Some(rounding)) => spqr::compress(self, spqr, rounding, &matrices, cols, prepared)?,
            _ if self.refines() => masks::compress(self, matrices, cols, prepared)?,
            _ => {
                let slice = self.slice(cols);
                sweep::compress(self, matrices, cols, slice, prepared)?
            }
        };
        let (all, seconds) = (rows.iter().sum::<f64>(), start.elapsed().as_secs_f64());
        outcomes.iter_mut().zip(rows).for_each(|(made, rows)| made.seconds = seconds * rows / all);
        Ok(outcomes)
    }
}
