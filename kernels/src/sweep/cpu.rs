//! Strips of 48 rows, one row per vector lane: a slice of a strip stays in the first-level cache while its columns are
//! visited, and what lies to the right of the slice is updated by a product of tiles. Strips run in parallel.

use rayon::prelude::*;

use super::strips::{Ahead, LANES};
use super::visit::{self, Scratch};
use super::*;
use crate::select;
use crate::simd::multiversion;

/// Sweeps `weight`, row-major `[.., cols]`, in slices of `slice` columns. About rows·cols² operations with a full
/// factor.
///
/// # Panics
/// If a length does not fit the shape, or a group of n:m does not fit a slice: callers check what users may choose.
pub fn sweep(weight: Vec<f32>, cols: usize, slice: usize, curvature: Curvature<'_>, rule: Rule<'_>) -> Swept {
    let rows = weight.len() / cols;
    assert_eq!(weight.len(), rows * cols);
    assert!(slice > 0);
    let mut out = Swept {
        dropped: vec![0; weight.len()],
        codes: vec![0; if rule.round.is_some() { weight.len() } else { 0 }],
        grids: rule.round.map(|round| match round.fit {
            Fit::Before { grids, .. } => grids.clone(),
            Fit::AtSlice { group_size } => {
                let groups = cols.div_ceil(group_size);
                Grids { groups, scales: vec![1.0; rows * groups], zeros: vec![0.0; rows * groups] }
            }
        }),
        weight,
        loss: 0.0,
    };
    if let Some(Drop::Given(marks)) = rule.drop {
        out.dropped.copy_from_slice(marks);
    }
    let mut ahead = if let Curvature::Full(u) = curvature { Some(Ahead::new(u, cols)) } else { None };
    for first in (0..cols).step_by(slice) {
        let width = slice.min(cols - first);
        if let Some(ahead) = &mut ahead {
            ahead.turn_to(first, width);
        }
        let scores = Scores::new(curvature, first, width, cols);
        mark_slice(&mut out, cols, first, width, &scores, rule.drop);
        out.loss += sweep_slice(&mut out, cols, first, width, &scores, ahead.as_ref(), rule);
    }
    out
}

/// Per column of a slice, what a score and an error are made of.
pub(super) struct Scores {
    /// Factor of |w|, or divisor of w² when `squared`.
    pub by: Vec<f32>,
    pub squared: bool,
    /// Divisor (full) or factor (diagonal) of the error.
    pub d: Vec<f32>,
}

impl Scores {
    fn new(curvature: Curvature<'_>, first: usize, width: usize, cols: usize) -> Self {
        let columns = first..first + width;
        match curvature {
            Curvature::Flat => Self { by: vec![1.0; width], squared: false, d: vec![1.0; width] },
            Curvature::Diagonal(norms) => {
                Self { by: norms[columns.clone()].to_vec(), squared: false, d: norms[columns].to_vec() }
            }
            Curvature::Full(u) => {
                let d: Vec<f32> = columns.map(|j| u[j * cols + j]).collect();
                Self { by: d.iter().map(|d| d * d).collect(), squared: true, d }
            }
        }
    }

    #[inline(always)]
    fn of(&self, w: f32, j: usize) -> f32 {
        if self.squared { w * w / self.by[j] } else { w.abs() * self.by[j] }
    }
}

multiversion! {
    fn scores_of_row(row: &[f32], scores: &Scores, out: &mut [f32]) {
        for (j, (&w, s)) in row.iter().zip(out).enumerate() {
            *s = scores.of(w, j);
        }
    }
}

/// Marks in `out.dropped` what is chosen when a slice begins.
fn mark_slice(out: &mut Swept, cols: usize, first: usize, width: usize, scores: &Scores, drop: Option<Drop<'_>>) {
    let score_rows = |weight: &[f32]| {
        let mut all = vec![0f32; weight.len() / cols * width];
        all.par_chunks_mut(width).zip(weight.par_chunks(cols)).for_each(|(s, row)| {
            scores_of_row(&row[first..first + width], scores, s);
        });
        all
    };
    match drop {
        Some(Drop::Threshold { sparsity }) => {
            let all = score_rows(&out.weight);
            let cut = select::nth_smallest(&all, share_of(sparsity, all.len()));
            out.dropped.par_chunks_mut(cols).zip(all.par_chunks(width)).for_each(|(marks, scores)| {
                for (m, &s) in marks[first..first + width].iter_mut().zip(scores) {
                    *m = u8::from(s <= cut);
                }
            });
        }
        Some(Drop::PerRow { count }) => {
            assert_eq!(width, cols, "a count per row needs the whole row in one slice");
            let all = score_rows(&out.weight);
            out.dropped.par_chunks_mut(cols).zip(all.par_chunks(width)).for_each(|(marks, scores)| {
                select::mark_smallest(scores, count, marks);
            });
        }
        Some(Drop::NofM { .. } | Drop::Given(_)) | None => {}
    }
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

/// What all tasks of a slice share.
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
    ahead: Option<&Ahead<'_>>,
    rule: Rule<'_>,
) -> f64 {
    let groups = out.grids.as_ref().map_or(0, |g| g.groups);
    let u = ahead.map(|ahead| ahead.u);
    let slice = Slice { cols, first, width, groups, scores, u, rule };
    let (mut no_scales, mut no_zeros) = (Vec::new(), Vec::new());
    let (scales, zeros) = match &mut out.grids {
        Some(grids) => (&mut grids.scales, &mut grids.zeros),
        None => (&mut no_scales, &mut no_zeros),
    };
    // Chunks of a slice that may be empty: as many as there are strips in any case.
    fn strips<T>(mut rest: &mut [T], per_row: usize, rows: usize) -> Vec<&mut [T]> {
        let mut list = Vec::new();
        for at in (0..rows).step_by(LANES) {
            let (head, tail) = rest.split_at_mut(per_row * LANES.min(rows - at));
            list.push(head);
            rest = tail;
        }
        list
    }
    let rows = out.weight.len() / cols;
    let per_row = if rule.round.is_some() { cols } else { 0 };
    let mut tasks: Vec<Strip<'_>> = strips(&mut out.weight, cols, rows)
        .into_iter()
        .zip(strips(&mut out.dropped, cols, rows))
        .zip(strips(&mut out.codes, per_row, rows))
        .zip(strips(scales, groups, rows))
        .zip(strips(zeros, groups, rows))
        .map(|((((weight, dropped), codes), scales), zeros)| Strip { weight, dropped, codes, scales, zeros, loss: 0.0 })
        .collect();
    // Whole groups of n:m.
    let piece = match rule.drop {
        _ if u.is_some() => width,
        Some(Drop::NofM { m, .. }) => (PIECE / m).max(1) * m,
        _ => PIECE,
    };
    tasks.par_iter_mut().with_max_len(1).for_each(|strip| {
        strip.fit_groups(&slice);
        let mut scratch = Scratch::new(piece.min(width), &rule);
        for from in (0..width).step_by(piece) {
            visit::visit(strip, &slice, from, width.min(from + piece), &mut scratch);
        }
        if let Some(ahead) = ahead {
            ahead.apply(&scratch.errors, strip.weight);
        }
    });
    tasks.iter().map(|strip| strip.loss).sum()
}

impl Strip<'_> {
    /// Fits the grids of groups that begin in the slice, to the weights as they were when it began.
    fn fit_groups(&mut self, slice: &Slice<'_>) {
        let Some(Round { format, fit: Fit::AtSlice { group_size } }) = slice.rule.round else { return };
        let begin = slice.first.next_multiple_of(group_size);
        for (r, row) in self.weight.chunks_exact(slice.cols).enumerate() {
            for j in (begin..slice.first + slice.width).step_by(group_size) {
                let at = r * slice.groups + j / group_size;
                (self.scales[at], self.zeros[at]) = format.fit(&row[j..(j + group_size).min(slice.cols)]);
            }
        }
    }
}
