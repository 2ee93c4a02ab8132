//! A method is a curvature and a rule: the table of them, and how one is applied to a fan and its linears.

mod baseline;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod golden_formats;
#[cfg(test)]
mod golden_spqr;
mod grids;
mod plain;
mod prepare;
mod spearman;
mod spqr;
#[cfg(test)]
mod tests_floats;
#[cfg(test)]
mod tests_grids;

use std::time::Instant;

use paring_format::{Compressed, Dtype, Values};
use paring_kernels::matmul::Precision;

pub(crate) use grids::share_amax;
pub(crate) use paring_kernels::sweep::share_of;
pub use prepare::Prepared;
pub use spqr::average_bits;

use crate::Result;
use crate::plan::Recipe;
use crate::stats::Need;

/// Which curvature a method sweeps with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bend {
    /// Every weight costs the same.
    Flat,
    /// A column costs the norm of its feature.
    Diagonal,
    /// The whole Gram matrix.
    Full,
}

/// One method.
#[derive(Clone, Copy, Debug)]
pub struct MethodInfo {
    /// As written on the command line.
    pub name: &'static str,
    /// A line of help.
    pub help: &'static str,
    /// Where it was published.
    pub source: &'static str,
    /// Its curvature.
    pub curvature: Bend,
    /// Whether it can prune.
    pub drops: bool,
    /// Whether it can quantize.
    pub rounds: bool,
}

/// All methods; help, docs and tests iterate over this table.
pub static METHODS: &[MethodInfo] = &[
    MethodInfo {
        name: "magnitude",
        help: "remove the smallest weights of each layer; needs no data",
        source: "Han et al., arXiv 1506.02626",
        curvature: Bend::Flat,
        drops: true,
        rounds: false,
    },
    MethodInfo {
        name: "wanda",
        help: "remove the smallest |weight| x input norm of each row",
        source: "Sun et al., arXiv 2306.11695",
        curvature: Bend::Diagonal,
        drops: true,
        rounds: false,
    },
    MethodInfo {
        name: "sparsegpt",
        help: "remove weights column by column and let the others make up for it; quantizes too with --wbits",
        source: "Frantar and Alistarh, arXiv 2301.00774",
        curvature: Bend::Full,
        drops: true,
        rounds: true,
    },
    MethodInfo {
        name: "rtn",
        help: "round every weight to the nearest grid point; needs no data",
        source: "Frantar et al., arXiv 2210.17323, the baseline",
        curvature: Bend::Flat,
        drops: false,
        rounds: true,
    },
    MethodInfo {
        name: "gptq",
        help: "round column by column and let the later columns make up for the error",
        source: "Frantar et al., arXiv 2210.17323",
        curvature: Bend::Full,
        drops: false,
        rounds: true,
    },
    MethodInfo {
        name: "spqr",
        help: "gptq with small groups, scales and zeros quantized again, and outliers kept exact",
        source: "Dettmers et al., arXiv 2306.03078",
        curvature: Bend::Full,
        drops: false,
        rounds: true,
    },
];

impl MethodInfo {
    /// What the method has to know of the inputs.
    pub fn needs(&self) -> Need {
        match self.curvature {
            Bend::Flat => Need::Nothing,
            Bend::Diagonal => Need::Norms,
            Bend::Full => Need::Gram,
        }
    }
}

/// What a method made of one matrix.
pub struct Outcome {
    /// The matrix, as the file will hold it.
    pub compressed: Compressed,
    /// The weight as the sweep left it, row-major `[rows, cols]`: what `compressed` must decode to, bit for bit.
    pub dense: Vec<f32>,
    /// 1 where the weight was zero before rounding, row-major `[rows, cols]`.
    pub dropped: Vec<u8>,
    /// What codes are multiplied by, row-major `[rows, groups]`, repeated where rows share it; empty when nothing is rounded.
    pub scales: Vec<f32>,
    /// Zero points 0 ..= 2^bits − 1 (any number for SpQR), row-major `[rows, groups]`; empty when nothing is rounded.
    pub zeros: Vec<f32>,
    /// Σ e² of the sweep.
    pub loss: f64,
    /// tr(ΔW·H·ΔWᵀ), from the sweep's own errors; `None` without a Gram matrix.
    pub distortion: Option<f64>,
    /// Seconds it took; of matrices that were swept together, its share by rows.
    pub seconds: f64,
}

impl Outcome {
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

/// How the file will hold a matrix, as far as a sweep must know.
#[derive(Clone, Copy, Debug)]
pub struct Stored {
    /// The type of its floats.
    pub dtype: Dtype,
    /// Whether SpQR's outliers are stored as what is added to the values of their codes.
    pub added_outliers: bool,
    /// The largest magnitude among the matrices that share a global scale (NVFP4); `None`: the matrix's own.
    pub amax: Option<f32>,
}

impl Stored {
    /// Of this type, outliers as they are.
    pub fn plain(dtype: Dtype) -> Self {
        Self { dtype, added_outliers: false, amax: None }
    }

    /// How floats of the type round.
    pub(crate) fn precision(&self) -> Precision {
        match self.dtype {
            Dtype::Bf16 => Precision::Bf16,
            Dtype::F16 => Precision::F16,
            _ => Precision::F32,
        }
    }
}

/// A matrix to compress.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    /// Row-major `[rows, cols]`.
    pub weight: &'a [f32],
    /// How the file will hold it.
    pub stored: Stored,
    /// Its name, for errors.
    pub module: &'a str,
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
        let mut made = self.compress_all(&[Matrix { weight, stored, module }], cols, prepared)?;
        made.pop().ok_or_else(|| crate::Error::Plan(format!("{module}: nothing came out")))
    }

    /// Compresses matrices of `cols` columns that share their inputs; one outcome for each, the same as of each alone.
    ///
    /// A weight that is exactly zero stays exactly zero when the recipe only quantizes. Operations: about rows·cols² for
    /// a full curvature, rows·cols otherwise.
    ///
    /// Errors when SpQR's grids would lose the zeros of a model that is already sparse, naming the module, and when the
    /// device does.
    pub fn compress_all(&self, matrices: &[Matrix<'_>], cols: usize, prepared: &Prepared) -> Result<Vec<Outcome>> {
        let start = Instant::now();
        let mut outcomes = match (&self.spqr, self.rounding) {
            (Some(spqr), Some(rounding)) => spqr::compress(self, spqr, rounding, matrices, cols, prepared)?,
            _ => {
                let slice = if self.info().curvature == Bend::Full { self.blocksize } else { cols };
                plain::compress(self, matrices, cols, slice, prepared)?
            }
        };
        let rows = |matrix: &Matrix<'_>| (matrix.weight.len() / cols) as f64;
        let (all, seconds) = (matrices.iter().map(rows).sum::<f64>(), start.elapsed().as_secs_f64());
        outcomes.iter_mut().zip(matrices).for_each(|(made, matrix)| made.seconds = seconds * rows(matrix) / all);
        Ok(outcomes)
    }
}
