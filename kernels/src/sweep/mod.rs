//! The column sweep: magnitude, Wanda, SparseGPT, round-to-nearest and GPTQ as one loop.
//!
//! Columns are visited left to right. The rule gives the new column q; e = (w − q)/d is spread over the columns ahead
//! by row U[j, j+1..] of the factor: inside a slice at once, beyond it once per slice, as one matrix product (GPTQ,
//! arXiv 2210.17323, section 3.3; SparseGPT, arXiv 2301.00774, section 3.3). Without a full factor nothing is spread.

use candle_core::Result;

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
mod curvature;
mod fit;
mod grid;
mod mask;
pub(crate) mod reference;
mod rule;
pub mod spqr;
pub(crate) mod spread;
pub(crate) mod strips;
#[cfg(test)]
mod tests;
pub(crate) mod transpose;
mod visit;
mod weighted;

pub use cpu::sweep;
pub use curvature::{Curvature, CurvatureData};
pub use fit::{Grids, fit_tiles, largest};
pub use grid::{Element, GridFormat, Scales, Search, global_scale};
pub use rule::{Drop, Fit, Round, Rule};
pub use weighted::{Errors, fit_weighted, weighted_squares};

/// The result of a sweep, in the order in which the columns were given.
#[derive(Clone, Debug)]
pub struct Swept {
    /// Row-major `[rows, cols]`.
    pub weight: Vec<f32>,
    /// 1 where the weight was zero before rounding, row-major `[rows, cols]`.
    pub dropped: Vec<u8>,
    /// Codes 0 ..= 2^bits − 1, or the bits of small floats, row-major `[rows, cols]`; empty when nothing is rounded.
    pub codes: Vec<u8>,
    /// The grids used, when something is rounded.
    pub grids: Option<Grids>,
    /// Σ e²: with a full factor, tr(ΔW (H + damping) ΔWᵀ).
    pub loss: f64,
}

/// One matrix of a fan.
#[derive(Debug)]
pub struct Part<'a> {
    /// Row-major `[rows, cols]`.
    pub weight: Vec<f32>,
    /// The treatment of its columns.
    pub rule: Rule<'a>,
}

/// Sweeps matrices that share their inputs, of `cols` columns each, in slices of `slice` columns: one result for each, as
/// [`sweep`] gives it. With a factor on a GPU they are swept there, as one matrix where their rules are of a kind;
/// everything else takes less time on the CPU than the weights need to travel, and stays there. Errors when the GPU does.
///
/// On the GPU, R rows of all parts together take R · cols · 5 bytes, one more for each weight that is rounded, R · 520 for
/// errors and sums, and R · groups · 8 for grids, beside the factor. Slices of more than 128 columns are visited in pieces
/// there, each followed by a product, whose sums round otherwise than those of one piece; errors where
/// [`CurvatureData::check`] does.
pub fn fan(parts: Vec<Part<'_>>, cols: usize, slice: usize, curvature: &CurvatureData) -> Result<Vec<Swept>> {
    let on_cpu = |parts: Vec<Part<'_>>, curvature: curvature::OnHost<'_>| {
        parts.into_iter().map(|part| sweep(part.weight, cols, slice, curvature, part.rule)).collect()
    };
    Ok(match curvature {
        CurvatureData::Flat => on_cpu(parts, CurvatureData::Flat),
        CurvatureData::Diagonal(norms) => on_cpu(parts, CurvatureData::Diagonal(norms)),
        CurvatureData::Full(factor) => {
            on_gpu!(factor.u => cuda::fan(parts, cols, slice, factor));
            on_cpu(parts, CurvatureData::Full(&factor.u.to_host()?))
        }
    })
}

/// Columns that a GPU visits at once.
const GPU_SLICE: usize = 128;

/// A group of n:m that is wider than the columns that a GPU visits at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("groups of {m} columns in slices of {slice} on a GPU; at most {GPU_SLICE} columns a group")]
pub struct WideGroup {
    /// Columns of the group.
    pub m: usize,
    /// Columns of the slice.
    pub slice: usize,
}

/// ⌊share · count⌋ as the published codes compute it: a product of f64, truncated.
pub fn share_of(share: f64, count: usize) -> usize {
    (share * count as f64) as usize
}
