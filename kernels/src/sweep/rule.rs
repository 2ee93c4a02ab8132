//! The rules of a sweep: which weights become zero, and which grid the others are rounded to.
//!
//! A rule is data. The loops and the kernels ask for its kind ([`Drop::kind`], [`Fit::kind`]), which leaves out the
//! numbers of one matrix, so that a new variant is answered only where its arithmetic is.

use super::{GridFormat, Grids};
use crate::matmul::Precision;

/// The rule that makes weights zero.
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

/// The part of a [`Drop`] that the visit of a column depends on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum DropKind {
    /// Nothing becomes zero.
    Nothing,
    /// A mask is known before the slice is visited.
    Masked(MaskSource),
    /// Of every `m` columns, the `n` smallest scores when the first of them is reached.
    Groups { n: usize, m: usize },
}

/// The source of a mask.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum MaskSource {
    /// [`Drop::Given`].
    Given,
    /// [`Drop::Threshold`].
    Threshold,
    /// [`Drop::PerRow`].
    PerRow,
}

impl Drop<'_> {
    pub(super) fn kind(self) -> DropKind {
        match self {
            Self::Threshold { .. } => DropKind::Masked(MaskSource::Threshold),
            Self::PerRow { .. } => DropKind::Masked(MaskSource::PerRow),
            Self::NofM { n, m } => DropKind::Groups { n, m },
            Self::Given(_) => DropKind::Masked(MaskSource::Given),
        }
    }
}

impl DropKind {
    /// Columns that are ranked together; 1 where none are.
    #[inline(always)]
    pub fn group(self) -> usize {
        if let Self::Groups { m, .. } = self { m } else { 1 }
    }
}

/// The grid that weights are rounded to.
#[derive(Clone, Copy, Debug)]
pub struct Round<'a> {
    /// Element and kind of the grids.
    pub format: GridFormat,
    /// The moment at which they are fitted.
    pub fit: Fit<'a>,
}

/// The moment at which the grid of a group is fitted.
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
        /// The importance of each column, for [`Search::Weighted`](super::Search); `None`: all count the same.
        importance: Option<&'a [f32]>,
    },
}

/// A [`Fit`] without the grids of one matrix.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum FitKind<'a> {
    Before { groups: usize, group_of: &'a [u32] },
    AtSlice { group_size: usize },
}

impl<'a> Fit<'a> {
    #[inline(always)]
    pub(super) fn kind(self) -> FitKind<'a> {
        match self {
            Self::Before { grids, group_of } => FitKind::Before { groups: grids.groups, group_of },
            Self::AtSlice { group_size, .. } => FitKind::AtSlice { group_size },
        }
    }

    /// The grids of a matrix `[rows, cols]` before its sweep: those given, or as many that are still to be fitted.
    pub(super) fn begin(self, rows: usize, cols: usize) -> Grids {
        match self {
            Self::Before { grids, .. } => grids.clone(),
            Self::AtSlice { .. } => {
                let groups = self.kind().groups(cols);
                Grids { groups, scales: vec![1.0; rows * groups], zeros: vec![0.0; rows * groups] }
            }
        }
    }
}

impl<'a> FitKind<'a> {
    /// Groups in a row of `cols` columns.
    pub fn groups(self, cols: usize) -> usize {
        match self {
            Self::Before { groups, .. } => groups,
            Self::AtSlice { group_size } => cols.div_ceil(group_size),
        }
    }

    /// The group of a column.
    #[inline(always)]
    pub fn group(self, column: usize) -> usize {
        match self {
            Self::Before { group_of, .. } => group_of[column] as usize,
            Self::AtSlice { group_size } => column / group_size,
        }
    }

    /// Columns of the groups that are fitted as slices begin; `None` where all were fitted before.
    #[cfg_attr(not(feature = "cuda"), allow(dead_code))]
    pub fn fitted_size(self) -> Option<usize> {
        if let Self::AtSlice { group_size } = self { Some(group_size) } else { None }
    }

    /// The group of each column where columns do not lie in the order of groups; empty otherwise.
    #[cfg_attr(not(feature = "cuda"), allow(dead_code))]
    pub fn group_of(self) -> &'a [u32] {
        if let Self::Before { group_of, .. } = self { group_of } else { &[] }
    }
}

/// The treatment of a column: drop first, then round.
#[derive(Clone, Copy, Debug)]
pub struct Rule<'a> {
    /// Makes weights zero.
    pub drop: Option<Drop<'a>>,
    /// Rounds the others to a grid.
    pub round: Option<Round<'a>>,
    /// The float type that weights without a grid are stored in: they are rounded to it when their column is visited,
    /// so that the columns ahead compensate for that too.
    pub stored: Precision,
}

impl Rule<'_> {
    pub(super) fn drop_kind(&self) -> DropKind {
        self.drop.map_or(DropKind::Nothing, Drop::kind)
    }
}
