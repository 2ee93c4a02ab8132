//! The column sweep: magnitude, Wanda, SparseGPT, rounding to nearest and GPTQ as one loop.
//!
//! Columns are visited left to right. The rule gives the new column q; e = (w − q)/d is spread over the columns ahead
//! by row U[j, j+1..] of the factor: inside a slice at once, beyond it once per slice, as one matrix product (GPTQ,
//! arXiv 2210.17323, section 3.3; SparseGPT, arXiv 2301.00774, section 3.3). Without a full factor nothing is spread.

use candle_core::Result;

use crate::cholesky::Factor;
use crate::matmul::Precision;

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
mod fit;
mod grid;
pub(crate) mod reference;
pub mod spqr;
mod spread;
mod strips;
#[cfg(test)]
mod tests;
mod transpose;
mod visit;

pub use cpu::sweep;
pub use fit::{Grids, fit_tiles, largest};
pub use grid::{Element, GridFormat, Scales, epsilon, global_scale};

/// What an error in one weight costs, and how other weights of its row can make up for it.
#[derive(Clone, Copy, Debug)]
pub enum Curvature<'a> {
    /// Every weight costs the same: U = I. The score of a weight is |w|.
    Flat,
    /// Column j costs ‖x_j‖²: the norms, `[cols]`. The score of a weight is |w| · norm (Wanda, arXiv 2306.11695,
    /// section 3).
    Diagonal(&'a [f32]),
    /// U upper triangular, row-major `[cols, cols]`, H⁻¹ = UᵀU. The score of a weight is w²/d², d = U's diagonal.
    Full(&'a [f32]),
}

/// Which weights become zero.
#[derive(Clone, Copy, Debug)]
pub enum Drop<'a> {
    /// In each slice, over all rows and columns together, every score up to the one at index ⌊sparsity · count⌋ of the
    /// ascending order: that many weights and one more, and more on ties, as the published codes do.
    Threshold {
        /// Share in 0..1.
        sparsity: f64,
    },
    /// The `count` smallest scores of each row; among equals the first columns.
    PerRow {
        /// Weights removed per row.
        count: usize,
    },
    /// The `n` smallest scores of every `m` consecutive columns of a row, counted from the start of the slice and scored
    /// when the first of them is reached; among equals the first columns.
    NofM {
        /// Weights removed of each group.
        n: usize,
        /// Columns of a group.
        m: usize,
    },
    /// Those marked 1, row-major `[rows, cols]`.
    Given(&'a [u8]),
}

/// Which grid a weight is rounded to.
#[derive(Clone, Copy, Debug)]
pub struct Round<'a> {
    /// Element and kind of the grids.
    pub format: GridFormat,
    /// When they are fitted.
    pub fit: Fit<'a>,
}

/// When the grid of a group is fitted.
#[derive(Clone, Copy, Debug)]
pub enum Fit<'a> {
    /// Before the sweep.
    Before {
        /// The grids.
        grids: &'a Grids,
        /// The group of each column, in the order of the sweep.
        group_of: &'a [u32],
    },
    /// At the slice in which the group begins, to weights that hold the updates of earlier slices but not those made
    /// inside the slice (GPTQ).
    AtSlice {
        /// Columns that share a grid.
        group_size: usize,
    },
}

/// What happens to a column: drop first, then round.
#[derive(Clone, Copy, Debug)]
pub struct Rule<'a> {
    /// Which weights become zero.
    pub drop: Option<Drop<'a>>,
    /// Which grid the others are rounded to.
    pub round: Option<Round<'a>>,
    /// The float type that weights without a grid are stored in: they are rounded to it when their column is visited,
    /// so that the columns ahead make up for that too.
    pub stored: Precision,
}

/// What a sweep made, in the order in which the columns were given.
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

/// A [`Curvature`] that owns what it is made of, wherever that lies: what the linears of a fan are swept with.
#[derive(Clone, Debug)]
pub enum Shape {
    /// [`Curvature::Flat`].
    Flat,
    /// [`Curvature::Diagonal`].
    Diagonal(Vec<f32>),
    /// [`Curvature::Full`]; the sweep runs where the factor is.
    Full(Factor),
}

impl Shape {
    /// Whether several matrices are swept faster together than one after the other: on a GPU, which has room for them.
    pub fn prefers_many(&self) -> bool {
        matches!(self, Self::Full(factor) if !factor.u.device().is_cpu())
    }
}

/// One matrix of a fan.
#[derive(Debug)]
pub struct Part<'a> {
    /// Row-major `[rows, cols]`.
    pub weight: Vec<f32>,
    /// What happens to its columns.
    pub rule: Rule<'a>,
}

/// Sweeps matrices that share their inputs, of `cols` columns each, in slices of `slice` columns: one result for each, as
/// [`sweep`] gives it. With a factor on a GPU they are swept there, as one matrix where their rules are of a kind;
/// everything else takes less time on the CPU than the weights need to travel, and stays there. Errors when the GPU does.
///
/// On the GPU, R rows of all parts together take R · cols · 5 bytes, one more for each weight that is rounded, R · 520 for
/// errors and sums, and R · groups · 8 for grids, beside the factor. Slices of more than 128 columns are visited in pieces
/// there, with a product behind each, whose sums round otherwise than those of one piece; errors where a group of n:m is
/// wider than a piece.
pub fn fan(parts: Vec<Part<'_>>, cols: usize, slice: usize, shape: &Shape) -> Result<Vec<Swept>> {
    let on_cpu = |parts: Vec<Part<'_>>, curvature: Curvature<'_>| {
        parts.into_iter().map(|part| sweep(part.weight, cols, slice, curvature, part.rule)).collect()
    };
    Ok(match shape {
        Shape::Flat => on_cpu(parts, Curvature::Flat),
        Shape::Diagonal(norms) => on_cpu(parts, Curvature::Diagonal(norms)),
        Shape::Full(factor) => {
            on_gpu!(factor.u => cuda::fan(parts, cols, slice, factor));
            on_cpu(parts, Curvature::Full(&factor.u.to_host()?))
        }
    })
}

/// ⌊share · count⌋ as the published codes compute it: a product of f64, truncated.
pub fn share_of(share: f64, count: usize) -> usize {
    (share * count as f64) as usize
}
