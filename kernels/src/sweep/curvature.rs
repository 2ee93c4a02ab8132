//! The curvature of a sweep: the cost of an error in one weight, and how other weights of its row compensate for it.

use super::rule::DropKind;
use super::{GPU_SLICE, Rule, WideGroup};
use crate::cholesky::Factor;

/// The statistics of the inputs that a method needs, from the least to the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Curvature {
    /// None: all inputs count the same.
    Flat,
    /// The norms of the inputs, ‖x_j‖.
    Diagonal,
    /// The Gram matrix of the inputs, Σ x xᵀ.
    Full,
}

/// The numbers of a curvature, as the linears of a fan share them. `N` holds norms and `F` a factor: by default they are
/// owned and lie anywhere; the CPU's [`sweep`](super::sweep) borrows both from host memory.
#[derive(Clone, Copy, Debug)]
pub enum CurvatureData<N = Vec<f32>, F = Factor> {
    /// Every weight costs the same: U = I. The score of a weight is |w|.
    Flat,
    /// Column j costs ‖x_j‖²: the norms, `[cols]`. The score of a weight is |w| · norm (Wanda, arXiv 2306.11695,
    /// section 3).
    Diagonal(N),
    /// U upper triangular, row-major `[cols, cols]`, H⁻¹ = UᵀU. The score of a weight is w²/d², d = U's diagonal. A fan is
    /// swept on the device that its factor is on.
    Full(F),
}

/// A [`CurvatureData`] in host memory.
pub(super) type OnHost<'a> = CurvatureData<&'a [f32], &'a [f32]>;

impl CurvatureData {
    /// True if a fan's matrices are swept faster together than one after the other: on a GPU, which has room for them.
    pub fn prefers_many(&self) -> bool {
        matches!(self, Self::Full(factor) if !factor.u.device().is_cpu())
    }

    /// Errors for a rule that cannot be swept in slices of `slice` columns where the factor is.
    pub fn check(&self, rule: &Rule<'_>, slice: usize) -> Result<(), WideGroup> {
        if self.prefers_many() { fits_gpu(rule.drop_kind(), slice) } else { Ok(()) }
    }
}

/// A slice that is wider than what a GPU visits at once is visited in pieces, each of which holds whole groups.
pub(super) fn fits_gpu(drop: DropKind, slice: usize) -> Result<(), WideGroup> {
    match drop {
        DropKind::Groups { m, .. } if slice > GPU_SLICE && m > GPU_SLICE => Err(WideGroup { m, slice }),
        _ => Ok(()),
    }
}
