//! Block descent: the groups of a row, one after the other, get the best pattern while all other columns stand still.

use super::exact::Tables;
use super::{Objective, swaps};
use crate::sweep::spread::spread;
use crate::sweep::strips::{LANES, Lane};
use crate::sweep::transpose::{to_lanes, to_rows};

/// Columns whose changes reach the rest of a row as one product, if groups are not wider.
const SLICE: usize = 128;

/// The choice inside each group of columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// So many columns of `of` stay in every row: all patterns are compared where they are few, and else as
    /// [`Choice::AsMany`].
    Keep {
        /// Columns that stay.
        keep: usize,
        /// Columns of a group.
        of: usize,
    },
    /// As many columns of `of` as stay already, which may differ: those are exchanged that gain most.
    AsMany {
        /// Columns of a group.
        of: usize,
    },
}

impl Choice {
    fn group(self) -> usize {
        match self {
            Choice::Keep { of, .. } | Choice::AsMany { of } => of,
        }
    }
}

/// Block descent, as all strips share it.
///
/// With G = (T − D) H, b = G_J + d_J H_JJ is the linear term of the group J without its own weights, and a pattern S with its
/// best values H_SS⁻¹ b_S gains b_S H_SS⁻¹ b_Sᵀ. Changes reach the columns of a slice at once and all others after it, as
/// in the sweep.
pub(super) struct Descent<'a> {
    objective: &'a Objective,
    tables: Option<Tables>,
    group: usize,
    inverse: &'a [f32],
}

impl<'a> Descent<'a> {
    /// With the reciprocals of H's diagonal.
    ///
    /// # Panics
    /// If groups of [`Choice::Keep`] do not divide H's columns.
    pub fn new(objective: &'a Objective, inverse: &'a [f32], choice: Choice) -> Self {
        let tables = match choice {
            Choice::Keep { keep, of } => {
                assert!(objective.n().is_multiple_of(of), "groups of {of} in {} columns", objective.n());
                Tables::new(objective, keep, of)
            }
            Choice::AsMany { .. } => None,
        };
        Self { objective, tables, group: choice.group(), inverse }
    }

    /// Once over all groups of a strip. `residual` is (T − D) H, row-major.
    pub fn pass(&self, weight: &mut [f32], dropped: &mut [u8], residual: &mut [f32]) {
        let n = self.objective.n();
        let slice = (SLICE / self.group).max(1) * self.group;
        for first in (0..n).step_by(slice) {
            let width = slice.min(n - first);
            let (mut g, mut d) = (vec![[0f32; LANES]; width], vec![[0f32; LANES]; width]);
            to_lanes(&residual[first..], n, &mut g);
            to_lanes(&weight[first..], n, &mut d);
            let mut kept = marks_to_lanes(&dropped[first..], n, width);
            let mut moved = d.clone();
            for at in (0..width).step_by(self.group) {
                let end = (at + self.group).min(width);
                self.visit(first, at..end, &mut g, &mut d, &mut kept);
                // Other columns of the slice see the change at once.
                let changes: Vec<Lane> =
                    moved[at..end].iter().zip(&d[at..end]).map(|(old, new)| less(new, old)).collect();
                spread(&mut g, &changes, &self.objective.h[(first + at) * n + first..], n);
            }
            moved.iter_mut().zip(&d).for_each(|(old, new)| *old = less(old, new));
            to_rows(&d, &mut weight[first..], n);
            marks_to_rows(&kept, &mut dropped[first..], n);
            self.objective.add_columns(&moved, first, residual);
        }
    }

    /// Chooses for one group: its columns are `at` of the slice that begins at `first`.
    fn visit(&self, first: usize, at: std::ops::Range<usize>, g: &mut [Lane], d: &mut [Lane], kept: &mut [Lane]) {
        let n = self.objective.n();
        let (g, d, kept) = (&g[at.clone()], &mut d[at.clone()], &mut kept[at.clone()]);
        let begin = first + at.start;
        // H of the group, row-major.
        let block: Vec<f32> =
            (begin..first + at.end).flat_map(|j| &self.objective.h[j * n + begin..][..at.len()]).copied().collect();
        match &self.tables {
            Some(tables) => tables.choose(begin / self.group, &block, g, d, kept),
            None => swaps::exchange(&block, &self.inverse[begin..][..at.len()], &mut g.to_vec(), d, kept),
        }
    }
}

fn less(a: &Lane, b: &Lane) -> Lane {
    std::array::from_fn(|lane| a[lane] - b[lane])
}

/// 1 where a weight stays, a row in each lane.
fn marks_to_lanes(dropped: &[u8], stride: usize, width: usize) -> Vec<Lane> {
    let mut kept = vec![[0f32; LANES]; width];
    for (lane, row) in dropped.chunks(stride).enumerate() {
        for (column, &mark) in kept.iter_mut().zip(row) {
            column[lane] = f32::from(1 - mark);
        }
    }
    kept
}

fn marks_to_rows(kept: &[Lane], dropped: &mut [u8], stride: usize) {
    for (lane, row) in dropped.chunks_mut(stride).enumerate() {
        for (column, mark) in kept.iter().zip(row) {
            *mark = u8::from(column[lane] == 0.0);
        }
    }
}
