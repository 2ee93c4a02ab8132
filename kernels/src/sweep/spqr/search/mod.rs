//! The search for the grids of a group of columns: of many scales and zeros those that lose least, Σ min(h·error², limit). A
//! weight that loses more than the limit stays exact, so that it costs no more, and the search needs no likely outliers.
//!
//! Where statistics are coded again, the tile's grids for them span most of what its rows would choose freely, and each row
//! then takes the pair of codes that loses least. Scales and zeros are tried as the file can hold them; errors are taken
//! before a weight is rounded to its stored type, which changes them by less than the next code does.

// Several arrays are walked in step by lane, and the compiler vectorises plain indices best.
#![allow(clippy::needless_range_loop)]

#[cfg(test)]
pub(super) mod reference;
#[cfg(test)]
mod tests;

use super::Rule;
use super::grid::{AffineGrid, FirstLevel, SecondGrids};
use super::lanes::{LANES, Lane};
use crate::simd::multiversion;
use crate::sweep::visit::store;

/// Parts of the range of a group that grids are tried with, the whole range first.
const PARTS: [f32; 8] = [1.0, 0.92, 0.84, 0.76, 0.68, 0.6, 1.1, 1.2];
/// Zeros that are tried for each, in codes from the one that leaves the middle of the range where it is.
const SHIFTS: [f32; 3] = [0.0, -0.25, 0.25];
/// Codes of a scale or a zero that are tried, beside the one nearest to what the whole range would have: all of three bits.
const CODES: usize = 8;
/// Standard deviations on each side of the mean of a tile's scales, and of its zeros, that its grids for them span at most.
const SPREADS: [f64; 2] = [2.3, 1.4];

/// The change that a search made, summed over the grids that it chose.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Searched {
    /// The weighted errors of grids that span their weights, on the same second level.
    pub usual: f64,
    /// Those of the grids that were found.
    pub found: f64,
    /// Those of no weight at all.
    pub all: f64,
}

impl std::ops::AddAssign for Searched {
    fn add_assign(&mut self, other: Self) {
        self.usual += other.usual;
        self.found += other.found;
        self.all += other.all;
    }
}

/// The cost of errors in the columns of a group.
pub(super) struct Costs<'a> {
    /// Of each column, for an error of 1.
    pub h: &'a [f32],
    /// The cost of a weight that stays exact.
    pub limit: f32,
}

/// A second-level grid in each lane.
struct Second {
    scale: Lane,
    zero: Lane,
    most: f32,
}

impl Second {
    /// The lanes of a strip whose first row is `first`; `which` picks scales or zeros.
    fn of(tiles: &[SecondGrids], height: usize, first: usize, which: usize) -> Option<Self> {
        let mut second = Self { scale: [1.0; LANES], zero: [0.0; LANES], most: 0.0 };
        let mut is_coded = false;
        for l in 0..LANES {
            let Some(grid) = tiles.get((first + l) / height).and_then(|tile| tile[which]) else { continue };
            (second.scale[l], second.zero[l], second.most) = (grid.scale, grid.zero, grid.max_code);
            is_coded = true;
        }
        is_coded.then_some(second)
    }

    /// Code number `at` of `count` beside the one nearest to `wanted`, decoded.
    #[inline(always)]
    fn at(&self, wanted: &Lane, at: usize, count: usize, rule: &Rule<'_>, to: &mut Lane) {
        let (half, last, at) = ((count as f32 - 1.0) / 2.0, self.most + 1.0 - count as f32, at as f32);
        for l in 0..LANES {
            let first = (wanted[l] / self.scale[l] + self.zero[l] - half).round_ties_even();
            let first = if first < 0.0 { 0.0 } else { first };
            let first = if first > last { last } else { first };
            to[l] = first + at - self.zero[l];
        }
        store(rule.stored, to);
        for l in 0..LANES {
            to[l] *= self.scale[l];
        }
        store(rule.stored, to);
    }

    /// Codes that are tried.
    fn count(&self) -> usize {
        CODES.min(self.most as usize + 1)
    }
}

/// The grid of each lane.
#[derive(Clone, Copy)]
struct Grids {
    scale: Lane,
    zero: Lane,
}

/// The zero that leaves the middle of the codes of a grid where it is, on a grid with another scale.
#[inline(always)]
fn centred(rule: &Rule<'_>, of: &Grids, scale: &Lane, zero: &mut Lane) {
    let middle = rule.max_code() / 2.0;
    for l in 0..LANES {
        zero[l] = middle - of.scale[l] / scale[l] * (middle - of.zero[l]);
    }
}

/// Zero number `at` beside those in `zero`, as it is stored where it is not coded again; `near` has those of whole ranges.
#[inline(always)]
fn shifted(rule: &Rule<'_>, at: usize, near: &Lane, zero: &mut Lane) {
    let max_code = rule.max_code();
    if rule.symmetric {
        *zero = [(max_code + 1.0) / 2.0; LANES];
        return;
    }
    // Whole zeros are tried in whole steps.
    let step = if rule.round_zero { 4.0 } else { 1.0 };
    for l in 0..LANES {
        zero[l] += step * SHIFTS[at];
    }
    if rule.round_zero {
        // No farther from the codes than that of the whole range, so that what must stay zero can.
        for l in 0..LANES {
            let least = if near[l] < 0.0 { near[l] } else { 0.0 };
            let most = if near[l] > max_code { near[l] } else { max_code };
            let rounded = zero[l].round_ties_even();
            let rounded = if rounded < least { least } else { rounded };
            zero[l] = if rounded > most { most } else { rounded };
        }
    }
    if rule.zero_bits().is_none() {
        store(rule.stored, zero);
    }
}

/// Σ min(h·error², limit) of each lane on a grid. The errors are in units of the scale at first.
#[inline(always)]
fn errors(x: &[Lane], costs: &Costs<'_>, max_code: f32, grids: &Grids) -> Lane {
    let (mut inverse, mut square, mut limit) = ([0f32; LANES], [0f32; LANES], [0f32; LANES]);
    for l in 0..LANES {
        inverse[l] = 1.0 / grids.scale[l];
        square[l] = grids.scale[l] * grids.scale[l];
        limit[l] = costs.limit / square[l];
    }
    let mut sums = [0f32; LANES];
    for (x, &h) in x.iter().zip(costs.h) {
        for l in 0..LANES {
            let at = x[l] * inverse[l] + grids.zero[l];
            let code = at.round_ties_even();
            let code = if code < 0.0 { 0.0 } else { code };
            let code = if code > max_code { max_code } else { code };
            let off = at - code;
            let cost = h * (off * off);
            sums[l] += if cost < limit[l] { cost } else { limit[l] };
        }
    }
    for l in 0..LANES {
        sums[l] *= square[l];
    }
    sums
}

multiversion! {
    /// Replaces the grid of each lane by the first of those that lose least: of parts of its range where statistics are free,
    /// of codes beside it where they have a second level.
    /// Returns the errors of that range and those of the grid that was chosen.
    fn search(rule: &Rule<'_>, x: &[Lane], costs: &Costs<'_>, second: &[Option<Second>; 2], best: &mut Grids) -> [Lane; 2] {
        let [scales, zeros] = second;
        let scale_count = scales.as_ref().map_or(PARTS.len(), Second::count);
        let zero_count = match zeros {
            _ if rule.symmetric => 1,
            Some(zeros) => zeros.count(),
            None => SHIFTS.len(),
        };
        let start = *best;
        let (mut trial, mut least) = (start, [f32::INFINITY; LANES]);
        for part in 0..scale_count {
            match scales {
                Some(scales) => scales.at(&start.scale, part, scale_count, rule, &mut trial.scale),
                None => {
                    for l in 0..LANES {
                        trial.scale[l] = start.scale[l] * PARTS[part];
                    }
                    store(rule.stored, &mut trial.scale);
                }
            }
            let mut centre = [0f32; LANES];
            centred(rule, &start, &trial.scale, &mut centre);
            for zero in 0..zero_count {
                trial.zero = centre;
                match zeros {
                    Some(zeros) => zeros.at(&centre, zero, zero_count, rule, &mut trial.zero),
                    None => shifted(rule, zero, &start.zero, &mut trial.zero),
                }
                let errors = errors(x, costs, rule.max_code(), &trial);
                for l in 0..LANES {
                    let is_better = errors[l] < least[l] && trial.scale[l] > 0.0;
                    least[l] = if is_better { errors[l] } else { least[l] };
                    best.scale[l] = if is_better { trial.scale[l] } else { best.scale[l] };
                    best.zero[l] = if is_better { trial.zero[l] } else { best.zero[l] };
                }
            }
        }
        trial = start;
        if let Some(scales) = scales {
            let wanted = trial.scale;
            scales.at(&wanted, 0, 1, rule, &mut trial.scale);
        }
        if let Some(zeros) = zeros.as_ref().filter(|_| !rule.symmetric) {
            let wanted = trial.zero;
            zeros.at(&wanted, 0, 1, rule, &mut trial.zero);
        }
        [errors(x, costs, rule.max_code(), &trial), least]
    }
}

/// Σ h·x² of lane `l`.
fn squares(x: &[Lane], h: &[f32], l: usize) -> f64 {
    x.iter().zip(h).map(|(x, &h)| f64::from(h) * f64::from(x[l]) * f64::from(x[l])).sum()
}

/// Replaces the grids of rows that are not constant by those that the search finds; their values are in `strips`, a row in
/// each lane. Returns the second-level grids of each tile, on which scales and zeros of these rows then lie, and what the search
/// changed. About 700 operations per weight with a second level of three bits.
pub(super) fn fit(
    rule: &Rule<'_>,
    strips: &[Vec<Lane>],
    costs: &Costs<'_>,
    first: &mut FirstLevel<'_>,
) -> (Vec<SecondGrids>, Searched) {
    let (tiles, height) = (second_grids(rule, first), rule.tile_rows());
    let mut searched = Searched::default();
    for (strip, x) in strips.iter().enumerate() {
        let begin = strip * LANES;
        let rows = begin..(begin + LANES).min(first.scales.len());
        let mut best = Grids { scale: [1.0; LANES], zero: [0.0; LANES] };
        best.scale[..rows.len()].copy_from_slice(&first.scales[rows.clone()]);
        best.zero[..rows.len()].copy_from_slice(&first.zeros[rows.clone()]);
        let second = [0, 1].map(|which| Second::of(&tiles, height, begin, which));
        let [usual, found] = search(rule, x, costs, &second, &mut best);
        for (l, row) in rows.enumerate().filter(|(_, row)| first.constant[*row].is_none()) {
            (first.scales[row], first.zeros[row]) = (best.scale[l], best.zero[l]);
            let (usual, found) = (f64::from(usual[l]), f64::from(found[l]));
            searched += Searched { usual, found, all: squares(x, costs.h, l) };
        }
    }
    (tiles, searched)
}

/// The grids for the statistics of each tile, none for a tile whose rows are all constant: they span most of what rows would
/// have if their grids spanned their weights.
fn second_grids(rule: &Rule<'_>, first: &FirstLevel<'_>) -> Vec<SecondGrids> {
    if !rule.coded() {
        return Vec::new();
    }
    let (height, rows) = (rule.tile_rows(), first.scales.len());
    let tile = |start: usize| {
        let rows = start..(start + height).min(rows);
        let grid = |values: &[f32], spread: f64, bits: Option<u32>, symmetric: bool| {
            let is_used = |row: &usize| first.constant[*row].is_none();
            let used: Vec<f32> = rows.clone().filter(is_used).map(|row| values[row]).collect();
            // A symmetric grid of values that lie on one side of zero has no codes to spare.
            let (lo, hi) = most_of(&used, if symmetric { f64::INFINITY } else { spread })?;
            Some(AffineGrid::spanning(lo, hi, bits?, symmetric, rule.stored))
        };
        let zeros = grid(first.zeros, SPREADS[1], rule.zero_bits(), rule.second.zero_symmetric);
        [grid(first.scales, SPREADS[0], rule.second.scale_bits, false), zeros]
    };
    (0..rows).step_by(height).map(tile).collect()
}

/// The range of some values, without those that are more standard deviations than `spread` from their mean.
fn most_of(values: &[f32], spread: f64) -> Option<(f32, f32)> {
    let mean_of = |sum: f64| sum / values.len() as f64;
    let mean = mean_of(values.iter().map(|&v| f64::from(v)).sum());
    let deviation = mean_of(values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum()).sqrt();
    let lo = values.iter().copied().reduce(f32::min)?.max((mean - spread * deviation) as f32);
    let hi = values.iter().copied().reduce(f32::max)?.min((mean + spread * deviation) as f32);
    Some((lo, hi))
}
