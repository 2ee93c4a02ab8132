//! Strips of 16 rows, one row per vector lane: a slice of a strip stays in the first-level cache while its columns are
//! visited, strips run in parallel, and what lies to the right of the slice is updated by one matrix product.

// Several arrays are walked in step by lane, and the compiler vectorises plain indices best.
#![allow(clippy::needless_range_loop)]

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef};
use rayon::prelude::*;

use super::*;
use crate::simd::multiversion;
use crate::{parallelism, select};

/// Rows of a strip.
pub(super) const LANES: usize = 16;
/// One column of a strip.
pub(super) type Lane = [f32; LANES];

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
    let mut errors = vec![0f32; rows * slice.min(cols)];
    for first in (0..cols).step_by(slice) {
        let width = slice.min(cols - first);
        let scores = Scores::new(curvature, first, width, cols);
        mark_slice(&mut out, cols, first, width, &scores, rule.drop);
        out.loss += sweep_slice(&mut out, cols, first, width, &scores, curvature, rule, &mut errors[..rows * width]);
        if let Curvature::Full(u) = curvature
            && first + width < cols
        {
            let ahead = cols - first - width;
            let u = MatRef::from_row_major_slice(u, cols, cols);
            matmul(
                MatMut::from_row_major_slice_mut(&mut out.weight, rows, cols).subcols_mut(first + width, ahead),
                Accum::Add,
                MatRef::from_row_major_slice(&errors[..rows * width], rows, width),
                u.submatrix(first, first + width, width, ahead),
                -1.0,
                parallelism(),
            );
        }
    }
    out
}

/// Per column of a slice, what a score and an error are made of.
struct Scores {
    /// Factor of |w|, or divisor of w² when `squared`.
    by: Vec<f32>,
    squared: bool,
    /// Divisor (full) or factor (diagonal) of the error.
    d: Vec<f32>,
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

    #[inline(always)]
    fn of_lane(&self, w: &Lane, j: usize, out: &mut Lane) {
        let by = self.by[j];
        if self.squared {
            for l in 0..LANES {
                out[l] = w[l] * w[l] / by;
            }
        } else {
            for l in 0..LANES {
                out[l] = w[l].abs() * by;
            }
        }
    }

    #[inline(always)]
    fn errors(&self, old: &Lane, new: &Lane, j: usize) -> Lane {
        let (mut e, d) = ([0f32; LANES], self.d[j]);
        if self.squared {
            for l in 0..LANES {
                e[l] = (old[l] - new[l]) / d;
            }
        } else {
            for l in 0..LANES {
                e[l] = (old[l] - new[l]) * d;
            }
        }
        e
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
struct Strip<'a> {
    weight: &'a mut [f32],
    errors: &'a mut [f32],
    dropped: &'a mut [u8],
    codes: &'a mut [u8],
    scales: &'a mut [f32],
    zeros: &'a mut [f32],
    loss: f64,
}

/// What all tasks of a slice share.
struct Slice<'a> {
    cols: usize,
    first: usize,
    width: usize,
    groups: usize,
    scores: &'a Scores,
    /// The factor, when errors are spread.
    u: Option<&'a [f32]>,
    rule: Rule<'a>,
}

#[allow(clippy::too_many_arguments)]
fn sweep_slice(
    out: &mut Swept,
    cols: usize,
    first: usize,
    width: usize,
    scores: &Scores,
    curvature: Curvature<'_>,
    rule: Rule<'_>,
    errors: &mut [f32],
) -> f64 {
    let groups = out.grids.as_ref().map_or(0, |g| g.groups);
    let u = if let Curvature::Full(u) = curvature { Some(u) } else { None };
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
        .zip(strips(errors, width, rows))
        .zip(strips(&mut out.dropped, cols, rows))
        .zip(strips(&mut out.codes, per_row, rows))
        .zip(strips(scales, groups, rows))
        .zip(strips(zeros, groups, rows))
        .map(|(((((weight, errors), dropped), codes), scales), zeros)| Strip {
            weight,
            errors,
            dropped,
            codes,
            scales,
            zeros,
            loss: 0.0,
        })
        .collect();
    tasks.par_iter_mut().for_each(|strip| {
        strip.fit_groups(&slice);
        visit(strip, &slice, &mut [const { Vec::new() }; 4].map(|_: Vec<Lane>| vec![[0.0; LANES]; width]));
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

multiversion! {
    /// Visits the columns of a slice, with `[width]` lanes of scratch of each kind; a mark of 1 drops.
    fn visit(strip: &mut Strip<'_>, slice: &Slice<'_>, scratch: &mut [Vec<Lane>; 4]) {
        let [columns, marks, errors, ranked] = scratch;
        let &Slice { cols, first, width, groups, scores, u, rule } = slice;
        let rows = strip.weight.len() / cols;
        for r in 0..rows {
            let row = &strip.weight[r * cols + first..][..width];
            let dropped = &strip.dropped[r * cols + first..][..width];
            for j in 0..width {
                columns[j][r] = row[j];
                marks[j][r] = f32::from(dropped[j]);
            }
        }
        let (mut scale, mut zero): (Lane, Lane) = ([1.0; LANES], [0.0; LANES]);
        let mut loaded = usize::MAX;
        // Lanes without a row hold zeros, which stay zeros and add nothing.
        let mut loss = [0f64; LANES];
        for j in 0..width {
            if let Some(Drop::NofM { n, m }) = rule.drop
                && j % m == 0
            {
                let last = (j + m).min(width);
                mark_group(&columns[j..last], &mut marks[j..last], &mut ranked[j..last], scores, j, n);
            }
            let old = columns[j];
            let mut q = old;
            for l in 0..LANES {
                q[l] = if marks[j][l] != 0.0 { 0.0 } else { q[l] };
                marks[j][l] = if q[l] == 0.0 { 1.0 } else { 0.0 };
            }
            if let Some(round) = rule.round {
                let group = match round.fit {
                    Fit::Before { group_of, .. } => group_of[first + j] as usize,
                    Fit::AtSlice { group_size } => (first + j) / group_size,
                };
                if group != loaded {
                    for r in 0..rows {
                        scale[r] = round.format.applied(strip.scales[r * groups + group]);
                        zero[r] = strip.zeros[r * groups + group];
                    }
                    loaded = group;
                }
                let mut code = [0f32; LANES];
                for l in 0..LANES {
                    code[l] = round.format.encode(q[l], scale[l], zero[l]);
                    q[l] = round.format.decode(code[l], scale[l], zero[l]);
                }
                for r in 0..rows {
                    strip.codes[r * cols + first + j] = round.format.code(code[r]);
                }
            } else if rule.stored != Precision::F32 {
                for l in 0..LANES {
                    q[l] = rule.stored.round(q[l]);
                }
            }
            let e = scores.errors(&old, &q, j);
            columns[j] = q;
            if let Some(u) = u {
                let ahead = &u[(first + j) * cols + first + j + 1..][..width - j - 1];
                spread::spread(&mut columns[j + 1..], &e, ahead);
            }
            for l in 0..LANES {
                loss[l] += f64::from(e[l]) * f64::from(e[l]);
            }
            errors[j] = e;
        }
        strip.loss = loss.iter().sum();
        for r in 0..rows {
            let kept = &mut strip.errors[r * width..][..width];
            for j in 0..width {
                kept[j] = errors[j][r];
            }
            let row = &mut strip.weight[r * cols + first..][..width];
            let dropped = &mut strip.dropped[r * cols + first..][..width];
            for j in 0..width {
                row[j] = columns[j][r];
                dropped[j] = marks[j][r] as u8;
            }
        }
    }
}

/// Marks the `n` smallest scores of a group of columns in every lane: a weight is dropped when fewer than `n` others
/// come before it. `ranked` is scratch of the group's size.
#[inline(always)]
fn mark_group(columns: &[Lane], marks: &mut [Lane], ranked: &mut [Lane], scores: &Scores, first: usize, n: usize) {
    for (i, (column, score)) in columns.iter().zip(ranked.iter_mut()).enumerate() {
        scores.of_lane(column, first + i, score);
    }
    for (i, mark) in marks.iter_mut().enumerate() {
        let mine = ranked[i];
        let mut before = [0f32; LANES];
        for (k, other) in ranked.iter().enumerate() {
            // Among equals the first column goes first.
            if k < i {
                for l in 0..LANES {
                    before[l] += if other[l] <= mine[l] { 1.0 } else { 0.0 };
                }
            } else {
                for l in 0..LANES {
                    before[l] += if other[l] < mine[l] { 1.0 } else { 0.0 };
                }
            }
        }
        for l in 0..LANES {
            mark[l] = if before[l] < n as f32 { 1.0 } else { 0.0 };
        }
    }
}
