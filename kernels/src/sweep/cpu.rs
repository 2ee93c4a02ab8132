//! Strips of 48 rows, one row per vector lane: a slice of a strip stays in the first-level cache while its columns are
//! visited, and what lies to the right of the slice is updated by a product of tiles. Strips run in parallel.

use rayon::prelude::*;

use super::curvature::OnHost;
use super::mask::{Scores, mask_slice};
use super::rule::DropKind;
use super::strips::{LANES, TrailingUpdate};
use super::visit::{self, Workspace};
use super::*;

/// Sweeps `weight`, row-major `[.., cols]`, in slices of `slice` columns. About rows·cols² operations with a full
/// factor.
///
/// # Panics
/// If a length does not fit the shape, or a group of n:m does not fit a slice: callers check what users may choose.
pub fn sweep(weight: Vec<f32>, cols: usize, slice: usize, curvature: OnHost<'_>, rule: Rule<'_>) -> Swept {
    let rows = weight.len() / cols;
    assert_eq!(weight.len(), rows * cols);
    assert!(slice > 0);
    if let Some(Round { fit: Fit::Before { grids, group_of }, .. }) = rule.round {
        assert!(group_of.len() == cols && group_of.iter().all(|&group| (group as usize) < grids.groups));
        assert!(grids.scales.len() == rows * grids.groups && grids.zeros.len() == grids.scales.len());
    }
    let mut out = Swept {
        dropped: vec![0; weight.len()],
        codes: vec![0; if rule.round.is_some() { weight.len() } else { 0 }],
        grids: rule.round.map(|round| round.fit.begin(rows, cols)),
        weight,
        loss: 0.0,
    };
    if let Some(Drop::Given(mask)) = rule.drop {
        out.dropped.copy_from_slice(mask);
    }
    let mut trailing = if let CurvatureData::Full(u) = curvature { Some(TrailingUpdate::new(u, cols)) } else { None };
    for first in (0..cols).step_by(slice) {
        let width = slice.min(cols - first);
        if let Some(trailing) = &mut trailing {
            trailing.load_slice(first, width);
        }
        let scores = Scores::new(curvature, first, width, cols);
        mask_slice(&mut out, cols, first, width, &scores, rule.drop);
        out.loss += sweep_slice(&mut out, cols, first, width, &scores, trailing.as_ref(), rule);
    }
    out
}

/// The part of the matrices that one task owns: up to [`LANES`] rows.
pub(super) struct Strip<'a> {
    pub weight: &'a mut [f32],
    pub dropped: &'a mut [u8],
    pub codes: &'a mut [u8],
    pub scales: &'a mut [f32],
    pub zeros: &'a mut [f32],
    pub loss: f64,
}

/// The data that all tasks of a slice share.
pub(super) struct Slice<'a> {
    pub cols: usize,
    pub first: usize,
    pub width: usize,
    pub groups: usize,
    pub scores: &'a Scores,
    /// The factor, when errors are spread.
    pub u: Option<&'a [f32]>,
    pub rule: Rule<'a>,
}

/// Columns that are visited at a time where errors are not spread.
const PIECE: usize = 128;

fn sweep_slice(
    out: &mut Swept,
    cols: usize,
    first: usize,
    width: usize,
    scores: &Scores,
    trailing: Option<&TrailingUpdate<'_>>,
    rule: Rule<'_>,
) -> f64 {
    let groups = out.grids.as_ref().map_or(0, |g| g.groups);
    let u = trailing.map(|trailing| trailing.u);
    let slice = Slice { cols, first, width, groups, scores, u, rule };
    let (mut no_scales, mut no_zeros) = (Vec::new(), Vec::new());
    let (scales, zeros) = match &mut out.grids {
        Some(grids) => (&mut grids.scales, &mut grids.zeros),
        None => (&mut no_scales, &mut no_zeros),
    };
    let rows = out.weight.len() / cols;
    let per_row = if rule.round.is_some() { cols } else { 0 };
    let mut tasks: Vec<Strip<'_>> = in_strips(&mut out.weight, cols, rows)
        .into_iter()
        .zip(in_strips(&mut out.dropped, cols, rows))
        .zip(in_strips(&mut out.codes, per_row, rows))
        .zip(in_strips(scales, groups, rows))
        .zip(in_strips(zeros, groups, rows))
        .map(|((((weight, dropped), codes), scales), zeros)| Strip { weight, dropped, codes, scales, zeros, loss: 0.0 })
        .collect();
    // Whole groups of n:m.
    let piece = match rule.drop_kind() {
        _ if u.is_some() => width,
        DropKind::Groups { m, .. } => (PIECE / m).max(1) * m,
        DropKind::Nothing | DropKind::Masked(_) => PIECE,
    };
    tasks.par_iter_mut().with_max_len(1).for_each(|strip| {
        strip.fit_groups(&slice);
        let mut workspace = Workspace::new(piece.min(width), &rule);
        for from in (0..width).step_by(piece) {
            visit::visit(strip, &slice, from, width.min(from + piece), &mut workspace);
        }
        if let Some(trailing) = trailing {
            trailing.apply(&workspace.errors, strip.weight);
        }
    });
    tasks.iter().map(|strip| strip.loss).sum()
}

/// The chunks of `rest` that belong to the strips of `rows` rows; chunks may be empty, but there is one for each strip.
fn in_strips<T>(mut rest: &mut [T], per_row: usize, rows: usize) -> Vec<&mut [T]> {
    let mut list = Vec::new();
    for at in (0..rows).step_by(LANES) {
        let (head, tail) = rest.split_at_mut(per_row * LANES.min(rows - at));
        list.push(head);
        rest = tail;
    }
    list
}

impl Strip<'_> {
    /// Fits the grids of groups that begin in the slice, to the weights as they were when it began.
    fn fit_groups(&mut self, slice: &Slice<'_>) {
        let Some(Round { format, fit }) = slice.rule.round else { return };
        let Fit::AtSlice { group_size, importance } = fit else { return };
        let begin = slice.first.next_multiple_of(group_size);
        if format.search == Search::Weighted {
            for j in (begin..slice.first + slice.width).step_by(group_size) {
                let columns = j..(j + group_size).min(slice.cols);
                weighted::fit_rows(&format, self.weight, slice.cols, columns, importance, |r, scale, zero| {
                    let at = r * slice.groups + j / group_size;
                    (self.scales[at], self.zeros[at]) = (scale, zero);
                });
            }
            return;
        }
        for (r, row) in self.weight.chunks_exact(slice.cols).enumerate() {
            for j in (begin..slice.first + slice.width).step_by(group_size) {
                let at = r * slice.groups + j / group_size;
                (self.scales[at], self.zeros[at]) = format.fit(&row[j..(j + group_size).min(slice.cols)]);
            }
        }
    }
}
