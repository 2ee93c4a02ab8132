//! The visit of a slice's columns in one strip, one row per lane.

// Several arrays are walked in step by lane, and the compiler vectorises plain indices best.
#![allow(clippy::needless_range_loop)]

use super::cpu::{Slice, Strip};
use super::mask::Scores;
use super::rule::DropKind;
use super::spread::{BLOCK, spread};
use super::strips::{LANES, Lane};
use super::transpose::{bytes, numbers, to_lanes, to_rows};
use super::{Element, GridFormat, Rule};
use crate::matmul::Precision;
use crate::simd::multiversion;

/// Columns of a strip while they are visited.
pub(super) struct Workspace {
    columns: Vec<Lane>,
    /// Before a column is visited: below [`limit`] where a weight becomes zero. Afterwards 1 where it is zero.
    mask: Vec<Lane>,
    /// The errors to be spread; lanes without a row hold zeros.
    pub errors: Vec<Lane>,
    /// Codes as numbers.
    codes: Vec<Lane>,
    ranked: Vec<Lane>,
    /// Bytes of rows as numbers.
    rows: Vec<f32>,
}

impl Workspace {
    /// For so many columns.
    pub fn new(width: usize, rule: &Rule<'_>) -> Self {
        let lanes = |width: usize| vec![[0.0; LANES]; width];
        let [columns, mask, errors] = [lanes(width), lanes(width), lanes(width)];
        let codes = lanes(if rule.round.is_some() { width } else { 0 });
        let ranked = lanes(if let DropKind::Groups { m, .. } = rule.drop_kind() { m } else { 0 });
        Self { columns, mask, errors, codes, ranked, rows: vec![0.0; LANES * width] }
    }
}

/// Visits columns `from..to` of a slice.
pub(super) fn visit(strip: &mut Strip<'_>, slice: &Slice<'_>, from: usize, to: usize, work: &mut Workspace) {
    let &Slice { cols, first, rule, .. } = slice;
    let (width, at, rows) = (to - from, first + from, strip.weight.len() / cols);
    to_lanes(&strip.weight[at..], cols, &mut work.columns[..width]);
    if let DropKind::Masked(_) = rule.drop_kind() {
        let mask = &mut work.rows[..rows * width];
        for (to, from) in mask.chunks_exact_mut(width).zip(strip.dropped.chunks_exact(cols)) {
            numbers(to, &from[at..at + width]);
            to.iter_mut().for_each(|mark| *mark = 1.0 - *mark);
        }
        to_lanes(mask, width, &mut work.mask[..width]);
    } else {
        work.mask[..width].fill([1.0; LANES]);
    }
    strip.loss += columns(strip, slice, from, to, work);
    to_rows(&work.columns[..width], &mut strip.weight[at..], cols);
    let flat = &mut work.rows[..rows * width];
    to_rows(&work.mask[..width], flat, width);
    for (to, from) in strip.dropped.chunks_exact_mut(cols).zip(flat.chunks_exact(width)) {
        bytes(&mut to[at..at + width], from);
    }
    if let Some(round) = rule.round {
        to_rows(&work.codes[..width], flat, width);
        for (to, from) in strip.codes.chunks_exact_mut(cols).zip(flat.chunks_exact(width)) {
            coded(&round.format, &mut to[at..at + width], from);
        }
    }
}

/// The mark from which on a weight stays.
fn limit(drop: DropKind) -> f32 {
    if let DropKind::Groups { n, .. } = drop { n as f32 } else { 1.0 }
}

multiversion! {
    fn coded(format: &GridFormat, to: &mut [u8], from: &[f32]) {
        if let Element::Int(_) = format.element {
            return bytes(to, from);
        }
        for (to, from) in to.iter_mut().zip(from) {
            *to = format.code(*from);
        }
    }
}

/// The grids of one column.
struct ColumnGrids {
    scale: Lane,
    zero: Lane,
}

multiversion! {
    /// Visits the columns that `work` has of the slice's `from..to`, and returns Σ e².
    fn columns(strip: &Strip<'_>, slice: &Slice<'_>, from: usize, to: usize, work: &mut Workspace) -> f64 {
        let Workspace { columns, mask, errors, codes, ranked, .. } = work;
        let &Slice { cols, first, groups, scores, u, rule, .. } = slice;
        let (width, at) = (to - from, first + from);
        let rows = strip.weight.len() / cols;
        let (columns, mask) = (&mut columns[..width], &mut mask[..width]);
        // Groups of n:m are ranked when all that is spread over them is.
        let drop = rule.drop_kind();
        let m = drop.group();
        let block = m * (BLOCK / m).max(1);
        let mut grids = ColumnGrids { scale: [1.0; LANES], zero: [0.0; LANES] };
        let (mut loaded, limit) = (usize::MAX, limit(drop));
        let mut loss = [0f64; LANES];
        for start in (0..width).step_by(block) {
            let end = width.min(start + block);
            for j in start..end {
                if let DropKind::Groups { m, .. } = drop
                    && j % m == 0
                {
                    let last = (j + m).min(width);
                    rank_group(&columns[j..last], &mut mask[j..last], &mut ranked[..last - j], scores, from + j);
                }
                let old = columns[j];
                let mut q = old;
                drop_masked(&mut q, &mut mask[j], limit);
                if let Some(round) = rule.round {
                    let group = round.fit.kind().group(at + j);
                    if group != loaded {
                        for r in 0..rows {
                            grids.scale[r] = round.format.applied(strip.scales[r * groups + group]);
                            grids.zero[r] = strip.zeros[r * groups + group];
                        }
                        loaded = group;
                    }
                    encode(&round.format, &q, &grids, &mut codes[j]);
                    decode(round.format.stored, &codes[j], &grids, &mut q);
                } else {
                    store(rule.stored, &mut q);
                }
                errors_of(&old, &q, scores, from + j, &mut errors[j], &mut loss);
                columns[j] = q;
                if let Some(u) = u {
                    let ahead = &u[(at + j) * cols + at + j + 1..];
                    spread(&mut columns[j + 1..end], &errors[j..j + 1], ahead, cols);
                }
            }
            if let Some(u) = u {
                let ahead = &u[(at + start) * cols + at + end..];
                spread(&mut columns[end..], &errors[start..end], ahead, cols);
            }
        }
        loss.iter().sum()
    }
}

#[inline(always)]
fn drop_masked(q: &mut Lane, mark: &mut Lane, limit: f32) {
    for l in 0..LANES {
        let kept = if mark[l] < limit { 0.0 } else { q[l] };
        mark[l] = if kept == 0.0 { 1.0 } else { 0.0 };
        q[l] = kept;
    }
}

#[inline(always)]
fn encode(format: &GridFormat, q: &Lane, grids: &ColumnGrids, code: &mut Lane) {
    // In each arm the compiler knows what the element is, and makes vectors of the loop.
    match format.element {
        Element::Int(_) => {
            for l in 0..LANES {
                code[l] = format.encode(q[l], grids.scale[l], grids.zero[l]);
            }
        }
        Element::E4m3 | Element::E2m3 | Element::E2m1 => {
            for l in 0..LANES {
                code[l] = format.encode(q[l], grids.scale[l], grids.zero[l]);
            }
        }
    }
}

#[inline(always)]
fn decode(stored: Precision, code: &Lane, grids: &ColumnGrids, q: &mut Lane) {
    for l in 0..LANES {
        q[l] = grids.scale[l] * (code[l] - grids.zero[l]);
    }
    store(stored, q);
}

/// Rounds to the type that is stored.
#[inline(always)]
pub(super) fn store(stored: Precision, q: &mut Lane) {
    match stored {
        Precision::F32 => {}
        Precision::Bf16 => {
            for l in 0..LANES {
                q[l] = Precision::Bf16.round(q[l]);
            }
        }
        Precision::F16 => {
            for l in 0..LANES {
                q[l] = Precision::F16.round(q[l]);
            }
        }
    }
}

#[inline(always)]
fn errors_of(old: &Lane, new: &Lane, scores: &Scores, j: usize, e: &mut Lane, loss: &mut [f64; LANES]) {
    let d = scores.d[j];
    if scores.squared {
        for l in 0..LANES {
            e[l] = (old[l] - new[l]) / d;
            loss[l] += f64::from(e[l]) * f64::from(e[l]);
        }
    } else {
        for l in 0..LANES {
            e[l] = (old[l] - new[l]) * d;
            loss[l] += f64::from(e[l]) * f64::from(e[l]);
        }
    }
}

/// Ranks the columns of a group in every lane: the number of others that come before each by their scores. `by` is
/// workspace of the group's size.
#[inline(always)]
fn rank_group(columns: &[Lane], ranks: &mut [Lane], by: &mut [Lane], scores: &Scores, first: usize) {
    for (i, (column, score)) in columns.iter().zip(by.iter_mut()).enumerate() {
        let coefficient = scores.coefficients[first + i];
        if scores.squared {
            for l in 0..LANES {
                score[l] = column[l] * column[l] / coefficient;
            }
        } else {
            for l in 0..LANES {
                score[l] = column[l].abs() * coefficient;
            }
        }
    }
    ranks.fill([0.0; LANES]);
    for i in 0..ranks.len() {
        let (ranks, after) = ranks.split_at_mut(i + 1);
        let rank = &mut ranks[i];
        for (other, theirs) in after.iter_mut().zip(&by[i + 1..]) {
            let mine = &by[i];
            for l in 0..LANES {
                // Among equals the first column goes first.
                let first = mine[l] <= theirs[l];
                other[l] += if first { 1.0 } else { 0.0 };
                rank[l] += if first { 0.0 } else { 1.0 };
            }
        }
    }
}
