//! Tiles of 48 rows, one row per vector lane: the search for likely outliers, the grids and the visit of the columns.

// Several arrays are walked in step by lane, and the compiler vectorises plain indices best.
#![allow(clippy::needless_range_loop)]

use super::grid::{self, AffineGrid, CodedPart, FirstLevel, LEAST_SCALE, Place};
use super::{Outlier, Rule, Searched, search};
use crate::simd::multiversion;
use crate::sweep::spread::{BLOCK, spread};
use crate::sweep::strips::TrailingUpdate;
use crate::sweep::transpose::{bytes, numbers, to_lanes, to_rows};

pub(super) use crate::sweep::strips::{LANES, Lane};

/// The part of the matrices that one task owns, row-major.
pub(super) struct Task<'a> {
    pub first_row: usize,
    pub weight: &'a mut [f32],
    pub codes: &'a mut [u8],
    pub outliers: &'a mut [u8],
    pub scales: &'a mut [f32],
    pub zeros: &'a mut [f32],
    pub scale_codes: Option<CodedPart<'a>>,
    pub zero_codes: Option<CodedPart<'a>>,
    pub loss: f64,
    pub searched: Searched,
}

/// The data that all tasks of a slice share.
pub(super) struct Slice<'a> {
    pub cols: usize,
    pub first: usize,
    pub width: usize,
    pub groups: usize,
    /// The factor, and the update of the trailing columns; `None`: errors are not spread, and cost the
    /// same in every column.
    pub trailing: Option<&'a TrailingUpdate<'a>>,
    pub rule: &'a Rule<'a>,
}

/// A tile while its slice is visited.
struct Tile {
    rows: usize,
    columns: Vec<Lane>,
    errors: Vec<Lane>,
    /// Codes as numbers.
    codes: Vec<Lane>,
    /// 1 where a weight stays exact.
    kept: Vec<Lane>,
    /// 1 where a weight must become zero.
    zeros: Vec<Lane>,
    scale: Lane,
    zero: Lane,
}

impl Task<'_> {
    /// Fits the grids of the groups that begin in the slice, and visits its columns.
    pub fn run(&mut self, slice: &Slice<'_>) {
        let &Slice { cols, first, width, groups, rule, .. } = slice;
        let rows = self.weight.len() / cols;
        let mut tiles: Vec<Tile> = (0..rows).step_by(LANES).map(|r| self.load(slice, r)).collect();
        // A group that began in an earlier slice keeps its grid.
        if !first.is_multiple_of(rule.group_size) {
            self.grids_of(&mut tiles, first / rule.group_size, groups);
        }
        let mut j = 0;
        while j < width {
            let position = first + j;
            let group = position / rule.group_size;
            if position.is_multiple_of(rule.group_size) {
                self.fit(&tiles, slice, j);
                self.grids_of(&mut tiles, group, groups);
            }
            let last = ((group + 1) * rule.group_size - first).min(width);
            self.loss += tiles.iter_mut().map(|tile| visit(tile, slice, j, last)).sum::<f64>();
            j = last;
        }
        let mut rows = vec![0f32; LANES * width];
        for (t, tile) in tiles.iter().enumerate() {
            let begin = t * LANES * cols;
            let weight = &mut self.weight[begin..][..tile.rows * cols];
            to_rows(&tile.columns, &mut weight[first..], cols);
            if let Some(trailing) = slice.trailing {
                trailing.apply(&tile.errors, weight);
            }
            let rows = &mut rows[..tile.rows * width];
            for (lanes, to) in [(&tile.codes, &mut *self.codes), (&tile.kept, &mut *self.outliers)] {
                to_rows(lanes, rows, width);
                for (to, from) in to[begin..].chunks_exact_mut(cols).zip(rows.chunks_exact(width)) {
                    bytes(&mut to[first..first + width], from);
                }
            }
        }
    }

    fn load(&self, slice: &Slice<'_>, row: usize) -> Tile {
        let &Slice { cols, first, width, rule, .. } = slice;
        let rows = LANES.min(self.weight.len() / cols - row);
        let lanes = |width: usize| vec![[0.0; LANES]; width];
        let (mut columns, mut zeros) = (lanes(width), lanes(if rule.zeros.is_some() { width } else { 0 }));
        to_lanes(&self.weight[row * cols..][..rows * cols][first..], cols, &mut columns);
        if let Some(marks) = rule.zeros {
            let marks = &marks[(self.first_row + row) * cols..][..rows * cols];
            let mut flat = vec![0f32; rows * width];
            for (to, from) in flat.chunks_exact_mut(width).zip(marks.chunks_exact(cols)) {
                numbers(to, &from[first..first + width]);
            }
            to_lanes(&flat, width, &mut zeros);
        }
        let [errors, codes, kept] = [lanes(width), lanes(width), lanes(width)];
        Tile { rows, columns, errors, codes, kept, zeros, scale: [1.0; LANES], zero: [0.0; LANES] }
    }

    /// Puts the grids of a group into the tiles.
    fn grids_of(&self, tiles: &mut [Tile], group: usize, groups: usize) {
        for (t, tile) in tiles.iter_mut().enumerate() {
            for r in 0..tile.rows {
                tile.scale[r] = self.scales[(t * LANES + r) * groups + group];
                tile.zero[r] = self.zeros[(t * LANES + r) * groups + group];
            }
        }
    }

    /// Fits the grids of the group that begins at column `j` of the slice.
    fn fit(&mut self, tiles: &[Tile], slice: &Slice<'_>, j: usize) {
        let &Slice { cols, first, width, groups, trailing, rule } = slice;
        let u = trailing.map(|trailing| trailing.u);
        let position = first + j;
        let end = (position + rule.group_size).min(cols);
        let rows = self.weight.len() / cols;
        let d: Vec<f32> = (position..end).map(|k| u.map_or(1.0, |u| u[k * cols + k])).collect();
        // The range of what the grid is fitted to, and whether the group was constant to begin with.
        let mut ranges: Vec<(f32, f32, bool)> = Vec::with_capacity(rows);
        let mut x = vec![[0f32; LANES]; end - position];
        let mut scratch = vec![[0f32; LANES]; end - position];
        let mut searched: Vec<Vec<Lane>> = Vec::new();
        for (t, tile) in tiles.iter().enumerate() {
            let inside = (end - first).min(width) - j;
            x[..inside].copy_from_slice(&tile.columns[j..j + inside]);
            if let Some(zeros) = tile.zeros.get(j..j + inside) {
                for (x, zeros) in x.iter_mut().zip(zeros) {
                    for l in 0..LANES {
                        x[l] = if zeros[l] != 0.0 { 0.0 } else { x[l] };
                    }
                }
            }
            // What lies beyond the slice has not seen the errors of this slice yet.
            for (k, x) in x.iter_mut().enumerate().skip(inside) {
                for r in 0..tile.rows {
                    x[r] = self.weight[(t * LANES + r) * cols + position + k];
                }
            }
            if rule.is_searched() {
                searched.push(x.clone());
            }
            let (mut lo, mut hi, mut same) = ([0f32; LANES], [0f32; LANES], [false; LANES]);
            let threshold = rule.threshold.filter(|_| !rule.simplified && rule.per_channel);
            extremes(&mut x, &d, rule, threshold, &mut scratch, &mut lo, &mut hi, &mut same);
            ranges.extend(lo.into_iter().zip(hi).zip(same).map(|((lo, hi), same)| (lo, hi, same)).take(tile.rows));
        }
        if rule.is_searched() {
            for (r, range) in ranges.iter_mut().enumerate() {
                rule.hold_zeros((self.first_row + r) * cols + position..(self.first_row + r) * cols + end, range);
            }
        }
        if !rule.per_channel {
            let all = ranges.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |a, r| (a.0.min(r.0), a.1.max(r.1)));
            ranges.fill((all.0, all.1, all.0 == all.1));
        }
        let group = position / rule.group_size;
        let fitted: Vec<(f32, f32, Option<f32>)> =
            ranges.into_iter().map(|(lo, hi, same)| grid::first_level(rule, lo, hi, same)).collect();
        let mut scales: Vec<f32> = fitted.iter().map(|f| f.0).collect();
        let mut zeros: Vec<f32> = fitted.iter().map(|f| f.1).collect();
        let constant: Vec<Option<f32>> = fitted.iter().map(|f| f.2).collect();
        let mut level = FirstLevel { scales: &mut scales, zeros: &mut zeros, constant: &constant };
        let mut tiles = Vec::new();
        if rule.is_searched() {
            let h = rule.costs(position, &d, u.is_none());
            let costs = search::Costs { h: &h, limit: rule.threshold.unwrap_or(f32::INFINITY) };
            let (grids, searched) = search::fit(rule, &searched, &costs, &mut level);
            tiles = grids;
            self.searched += searched;
        }
        let at = Place { groups, group };
        grid::second_level(rule, &mut level, &tiles, self.scale_codes.as_mut(), self.zero_codes.as_mut(), at);
        for (r, (scale, zero)) in scales.into_iter().zip(zeros).enumerate() {
            self.scales[r * groups + group] = scale;
            self.zeros[r * groups + group] = zero;
        }
    }
}

multiversion! {
    /// The range of each row of a group, `x` `[columns]` lanes. With a threshold, weights that are likely to be outliers
    /// are first replaced by the mean of the others: those without which the squared errors of the rest, on a grid of
    /// their own, fall by more than the threshold (arXiv 2306.03078, appendix on outlier detection).
    ///
    /// The grid depends on the extremes alone, so leaving out any other weight changes nothing but its own error. Three
    /// grids a row are tried instead of one per weight.
    fn extremes(
        x: &mut [Lane],
        d: &[f32],
        rule: &Rule<'_>,
        threshold: Option<f32>,
        gains: &mut [Lane],
        lo: &mut Lane,
        hi: &mut Lane,
        same: &mut [bool; LANES]
    ) {
        *same = [true; LANES];
        for v in x.iter() {
            for l in 0..LANES {
                same[l] &= v[l] == x[0][l];
            }
        }
        if let Some(threshold) = threshold {
            gains_of(x, d, rule, gains);
            let (mut sums, mut counts) = ([0f32; LANES], [0f32; LANES]);
            for (x, gain) in x.iter().zip(gains.iter()) {
                for l in 0..LANES {
                    let stays = if gain[l] > threshold { 0.0 } else { 1.0 };
                    sums[l] += stays * x[l];
                    counts[l] += stays;
                }
            }
            for l in 0..LANES {
                sums[l] /= counts[l].max(1.0);
            }
            for (x, gain) in x.iter_mut().zip(gains.iter()) {
                for l in 0..LANES {
                    x[l] = if gain[l] > threshold { sums[l] } else { x[l] };
                }
            }
        }
        *lo = [f32::INFINITY; LANES];
        *hi = [f32::NEG_INFINITY; LANES];
        for x in x.iter() {
            for l in 0..LANES {
                lo[l] = if x[l] < lo[l] { x[l] } else { lo[l] };
                hi[l] = if x[l] > hi[l] { x[l] } else { hi[l] };
            }
        }
    }
}

multiversion! {
    /// [`gains_of`], for callers that are not compiled for vectors themselves.
    pub(super) fn gains(x: &[Lane], d: &[f32], rule: &Rule<'_>, out: &mut [Lane]) {
        gains_of(x, d, rule, out);
    }
}

/// By how much the squared errors of a group fall when each weight is left out, its own error included.
#[inline(always)]
fn gains_of(x: &[Lane], d: &[f32], rule: &Rule<'_>, gains: &mut [Lane]) {
    // The least and the second least value, likewise at the top, and where the extremes stand.
    let (mut lo, mut lo2, mut hi, mut hi2) =
        ([f32::INFINITY; LANES], [f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
    let (mut lowest, mut highest) = ([0f32; LANES], [0f32; LANES]);
    for (k, x) in x.iter().enumerate() {
        let k = k as f32;
        for l in 0..LANES {
            let v = x[l];
            let below = if v < lo[l] { lo[l] } else { v };
            lo2[l] = if below < lo2[l] { below } else { lo2[l] };
            lowest[l] = if v < lo[l] { k } else { lowest[l] };
            lo[l] = if v < lo[l] { v } else { lo[l] };
            let above = if v > hi[l] { hi[l] } else { v };
            hi2[l] = if above > hi2[l] { above } else { hi2[l] };
            highest[l] = if v > hi[l] { k } else { highest[l] };
            hi[l] = if v > hi[l] { v } else { hi[l] };
        }
    }
    let none = [-1f32; LANES];
    let all = errors_without(x, d, rule, &lo, &hi, &none, Some(gains));
    let no_lowest = errors_without(x, d, rule, &lo2, &hi, &lowest, None);
    let no_highest = errors_without(x, d, rule, &lo, &hi2, &highest, None);
    for (k, gain) in gains.iter_mut().enumerate() {
        let k = k as f32;
        for l in 0..LANES {
            gain[l] = if lowest[l] == k { all[l] - no_lowest[l] } else { gain[l] };
            gain[l] = if highest[l] == k { all[l] - no_highest[l] } else { gain[l] };
        }
    }
}

/// Σ ((decode(encode(x)) − x) / d)² over all columns but number `without[l]`, on the single-level grid from `lo` to
/// `hi`; `each` gets the terms.
#[inline(always)]
fn errors_without(
    x: &[Lane],
    d: &[f32],
    rule: &Rule<'_>,
    lo: &Lane,
    hi: &Lane,
    without: &Lane,
    mut each: Option<&mut [Lane]>,
) -> Lane {
    let max_code = rule.max_code();
    let (mut scale, mut zero) = ([0f32; LANES], [0f32; LANES]);
    for l in 0..LANES {
        let (bottom, top) = grid::mirrored(lo[l], hi[l], rule.symmetric);
        scale[l] = (top - bottom) / max_code;
        zero[l] = if rule.symmetric { (max_code + 1.0) / 2.0 } else { -bottom / scale[l] };
    }
    let mut sums = [0f32; LANES];
    for (k, x) in x.iter().enumerate() {
        let (index, inverse) = (k as f32, 1.0 / (d[k] * d[k]));
        let mut terms = [0f32; LANES];
        for l in 0..LANES {
            let code = (x[l] / scale[l].max(LEAST_SCALE) + zero[l]).round_ties_even().clamp(0.0, max_code);
            let off = scale[l] * (code - zero[l]) - x[l];
            // A constant is held exactly; its formula above divides by zero.
            let term = if lo[l] == hi[l] { 0.0 } else { off * off * inverse };
            terms[l] = if without[l] == index { 0.0 } else { term };
            sums[l] += terms[l];
        }
        if let Some(each) = each.as_deref_mut() {
            each[k] = terms;
        }
    }
    sums
}

multiversion! {
    /// Visits columns `from` up to `to` of a slice, all of one group, and returns Σ e².
    fn visit(tile: &mut Tile, slice: &Slice<'_>, from: usize, to: usize) -> f64 {
        let &Slice { cols, first, width, trailing, rule, .. } = slice;
        let u = trailing.map(|trailing| trailing.u);
        let max_code = rule.max_code();
        let threshold = rule.threshold.unwrap_or(f32::INFINITY);
        let grid = |tile: &Tile, l: usize| AffineGrid {
            scale: tile.scale[l],
            zero: tile.zero[l],
            max_code,
            stored: rule.stored,
        };
        let mut loss = [0f64; LANES];
        for start in (from..to).step_by(BLOCK) {
            let end = to.min(start + BLOCK);
            for j in start..end {
                let old = tile.columns[j];
                let row = u.map(|u| &u[(first + j) * cols + first + j..][..width - j]);
                let d = row.map_or(1.0, |row| row[0]);
                let mut wanted = old;
                if let Some(zeros) = tile.zeros.get(j) {
                    for l in 0..LANES {
                        wanted[l] = if zeros[l] != 0.0 { 0.0 } else { old[l] };
                    }
                }
                let (mut q, mut e, mut code) = ([0f32; LANES], [0f32; LANES], [0f32; LANES]);
                for l in 0..LANES {
                    let grid = grid(tile, l);
                    code[l] = grid.encode(wanted[l]);
                    q[l] = grid.decode(code[l]);
                    e[l] = (old[l] - q[l]) / d;
                }
                let mut over = false;
                for l in 0..LANES {
                    over |= e[l] * e[l] > threshold;
                }
                // Most columns have no outlier in the rows of a tile.
                if over {
                    for l in 0..LANES {
                        let forced = tile.zeros.get(j).is_some_and(|zeros| zeros[l] != 0.0);
                        if e[l] * e[l] > threshold && !forced {
                            tile.kept[j][l] = 1.0;
                            if rule.outlier == Outlier::Replaces {
                                code[l] = grid(tile, l).encode(0.0);
                            }
                            q[l] = grid::kept(rule, old[l], q[l]);
                            e[l] = (old[l] - q[l]) / d;
                        }
                    }
                }
                tile.columns[j] = q;
                tile.errors[j] = e;
                tile.codes[j] = code;
                if let Some(row) = row {
                    spread(&mut tile.columns[j + 1..end], &tile.errors[j..=j], &row[1..], cols);
                }
                for l in 0..LANES {
                    loss[l] += f64::from(e[l]) * f64::from(e[l]);
                }
            }
            if let Some(u) = u {
                let ahead = &u[(first + start) * cols + first + end..];
                spread(&mut tile.columns[end..], &tile.errors[start..end], ahead, cols);
            }
        }
        loss.iter().sum()
    }
}
