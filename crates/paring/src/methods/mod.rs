//! A method is a curvature and a rule: the table of them, and how one is applied to a fan and its linears.

#[cfg(test)]
mod golden;
#[cfg(test)]
mod golden_formats;
#[cfg(test)]
mod golden_spqr;
mod grids;
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
use paring_kernels::sweep::{Curvature, Drop, Fit, Round, Rule, Swept, fit_tiles, share_of, sweep};

pub(crate) use grids::share_amax;
pub use prepare::Prepared;
pub use spqr::average_bits;

use crate::Result;
use crate::plan::{ActOrder, Pattern, Recipe};
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
    /// Seconds it took.
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

impl Recipe {
    /// Compresses `weight`, row-major `[rows, cols]`.
    ///
    /// A weight that is exactly zero stays exactly zero when the recipe only quantizes. Operations: about rows·cols² for
    /// a full curvature, rows·cols otherwise.
    ///
    /// Errors when SpQR's grids would lose the zeros of a model that is already sparse; `module` names it.
    pub fn compress(
        &self,
        weight: &[f32],
        cols: usize,
        prepared: &Prepared,
        stored: Stored,
        module: &str,
    ) -> Result<Outcome> {
        let start = Instant::now();
        let rows = weight.len() / cols;
        if let (Some(spqr), Some(rounding)) = (&self.spqr, self.rounding) {
            return spqr::compress(self, spqr, rounding, (weight, cols), prepared, stored, module);
        }
        let dtype = self.rounding.map_or(stored.dtype, |r| r.dequantized(stored.dtype));
        let format = self.rounding.map(|r| grids::format(&r, &stored, weight));
        let tile = self.rounding.map_or([1, cols], |r| r.tile(rows, cols));
        // Grids of full rows and more, asked for as such, are fitted before dead columns are cleared (algorithm descriptions of GPTQ and SparseGPT).
        let whole = match (format, self.rounding) {
            (Some(format), Some(r)) if r.group_size().is_none() => Some(fit_tiles(weight, cols, tile, &format)),
            _ => None,
        };
        let mut w = weight.to_vec();
        prepared.clear_dead(&mut w, cols);
        let group_size = tile[1];
        let beforehand = self
            .rounding
            .is_some_and(|r| r.static_groups || r.act_order == ActOrder::Static || self.info().curvature == Bend::Flat);
        let before = match (whole, format) {
            (None, Some(format)) if beforehand => Some(fit_tiles(&w, cols, tile, &format)),
            (whole, _) => whole,
        };
        // The group of each column in visiting order, for grids fitted in file order.
        let group_of: Vec<u32> = (0..cols).map(|k| (prepared.column(k) / group_size) as u32).collect();
        let keep_zeros = (self.pattern.is_none() && weight.contains(&0.0)).then(|| prepared.zeros(weight, cols));
        let drop = match self.pattern {
            None => keep_zeros.as_deref().map(Drop::Given),
            Some(Pattern::NofM { keep, of }) => Some(Drop::NofM { n: of - keep, m: of }),
            Some(Pattern::Unstructured(s)) if self.info().curvature == Bend::Diagonal => {
                Some(Drop::PerRow { count: share_of(s, cols) })
            }
            Some(Pattern::Unstructured(sparsity)) => Some(Drop::Threshold { sparsity }),
        };
        let round = format.map(|format| Round {
            format,
            fit: match &before {
                Some(grids) => Fit::Before { grids, group_of: &group_of },
                None => Fit::AtSlice { group_size },
            },
        });
        let slice = if self.info().curvature == Bend::Full { self.blocksize } else { cols };
        let curvature = match prepared.curvature() {
            prepare::Shape::Flat => Curvature::Flat,
            prepare::Shape::Diagonal(norms) => Curvature::Diagonal(norms),
            prepare::Shape::Full(u) => Curvature::Full(u),
        };
        let visited = prepared.permuted(&w, cols);
        let swept = sweep(visited.clone(), cols, slice, curvature, Rule { drop, round, stored: stored.precision() });
        // Groups that follow the visit leave each column with a group of its own choosing.
        let follows = before.is_none() && prepared.is_permuted() && format.is_some();
        let group_index = follows.then(|| {
            let mut index = vec![0u32; cols];
            (0..cols).for_each(|k| index[prepared.column(k)] = (k / group_size) as u32);
            index
        });
        let Swept { weight: made, dropped, codes, grids, loss } = swept;
        let distortion = prepared.distortion(loss, &visited, &made, cols);
        let (dropped, codes) = (prepared.restored(dropped, cols), prepared.restored(codes, cols));
        let (scales, zeros) = match (&grids, &format) {
            (Some(grids), Some(format)) => {
                (grids.scales.iter().map(|&scale| format.applied(scale)).collect(), grids.zeros.clone())
            }
            _ => Default::default(),
        };
        let dense = prepared.restored(made, cols);
        let values = match (grids, format, self.rounding) {
            (Some(grids), Some(format), Some(r)) => grids::values(codes, grids, r.element, &format, tile, group_index),
            _ => Values::Dense(dense.clone()),
        };
        let compressed = Compressed { rows, cols, dtype, values };
        let seconds = start.elapsed().as_secs_f64();
        Ok(Outcome { compressed, dense, dropped, scales, zeros, loss, distortion, seconds })
    }
}
