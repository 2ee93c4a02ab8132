//! The search for the grid with the least error, each column weighted by its importance: Σ h_j (q(w_j) − w_j)² with the
//! diagonal of the Gram matrix for h, as in the importance matrices of llama.cpp and NeUQI (arXiv 2505.17595).
//!
//! Scales are tried as the file can hold them, but errors are taken with the reciprocal of a scale and before a value is
//! rounded to its stored type: both change an error by less than the next scale does.

// Several arrays are walked in step by lane, and the compiler vectorises plain indices best.
#![allow(clippy::needless_range_loop)]

mod errors;
pub(super) mod reference;
#[cfg(test)]
mod tests;
mod trials;

use rayon::prelude::*;

pub use self::errors::{Errors, weighted_squares};
use self::trials::{Trials, float_scale, part, zero_point};
use super::strips::{LANES, Lane};
use super::transpose::to_lanes;
use super::visit::store;
use super::{Element, GridFormat, Grids, Scales};
use crate::matmul::Precision;
use crate::simd::multiversion;

/// Times that the scale of the best grid is fitted to its codes.
const REFITS: usize = 2;

/// A grid in each lane, and what codes are multiplied by and values are before they are rounded.
struct Trial {
    scale: Lane,
    zero: Lane,
    applied: Lane,
    inverse: Lane,
}

impl Trial {
    fn new() -> Self {
        Self { scale: [1.0; LANES], zero: [0.0; LANES], applied: [1.0; LANES], inverse: [1.0; LANES] }
    }

    #[inline(always)]
    fn apply(&mut self, format: &GridFormat) {
        let divisor = if let Scales::E4m3 { global } = format.scales { global } else { 1.0 };
        for l in 0..LANES {
            self.applied[l] = self.scale[l] / divisor;
            self.inverse[l] = 1.0 / self.applied[l];
        }
    }
}

/// The range of each lane.
struct Range {
    lo: Lane,
    hi: Lane,
}

impl Range {
    #[inline(always)]
    fn of(format: &GridFormat, strips: &[&[Lane]], shared: bool) -> Self {
        let (mut lo, mut hi) = ([0f32; LANES], [0f32; LANES]);
        for x in strips.iter().flat_map(|strip| strip.iter()) {
            for l in 0..LANES {
                lo[l] = if x[l] < lo[l] { x[l] } else { lo[l] };
                hi[l] = if x[l] > hi[l] { x[l] } else { hi[l] };
            }
        }
        if shared {
            lo = [lo.into_iter().fold(0.0, f32::min); LANES];
            hi = [hi.into_iter().fold(0.0, f32::max); LANES];
        }
        for l in 0..LANES {
            if format.symmetric {
                hi[l] = if -lo[l] > hi[l] { -lo[l] } else { hi[l] };
                lo[l] = -hi[l];
            }
            // As the grid of zeros is without a search.
            let empty = lo[l] == 0.0 && hi[l] == 0.0 && matches!(format.element, Element::Int(_));
            lo[l] = if empty { -1.0 } else { lo[l] };
            hi[l] = if empty { 1.0 } else { hi[l] };
        }
        Self { lo, hi }
    }
}

/// Rounds scales to their stored type, but never to zero.
#[inline(always)]
fn stored_scales(format: &GridFormat, scales: &mut Lane) {
    store(format.stored, scales);
    let least = least_scale(format.stored);
    for l in 0..LANES {
        scales[l] = if scales[l] == 0.0 { least } else { scales[l] };
    }
}

/// The scale of a range below the smallest number of the stored type (or of f32).
pub(super) fn least_scale(stored: Precision) -> f32 {
    if stored == Precision::F16 { 2f32.powi(-24) } else { f32::MIN_POSITIVE }
}

/// Scale number `at` of each lane's range.
#[inline(always)]
fn scales_at(format: &GridFormat, range: &Range, at: usize, scales: &mut Lane) {
    if matches!(format.element, Element::Int(_)) {
        let (part, max_code) = (part(format, at), format.max_code());
        for l in 0..LANES {
            scales[l] = part * ((range.hi[l] - range.lo[l]) / max_code);
        }
        stored_scales(format, scales);
    } else {
        for l in 0..LANES {
            scales[l] = float_scale(format, range.hi[l], at);
        }
    }
}

/// Zero point number `at` of each lane's range.
#[inline(always)]
fn zeros_at(format: &GridFormat, range: &Range, at: usize, count: usize, zeros: &mut Lane) {
    let max_code = format.max_code();
    match format.element {
        Element::Int(_) if format.symmetric => *zeros = [(max_code + 1.0) / 2.0; LANES],
        Element::Int(_) => {
            for l in 0..LANES {
                let near = (-range.lo[l] / ((range.hi[l] - range.lo[l]) / max_code)).round_ties_even();
                zeros[l] = zero_point(near, at, count, max_code);
            }
        }
        _ => *zeros = [0.0; LANES],
    }
}

/// The number that stands for `x`, from which its zero point was taken.
#[inline(always)]
fn code_of(element: Element, x: f32, least: f32, most: f32) -> f32 {
    match element {
        Element::Int(_) => {
            let code = x.round_ties_even();
            let code = if code < least { least } else { code };
            if code > most { most } else { code }
        }
        Element::E4m3 => crate::minifloat::e4m3(x),
        Element::E2m3 => crate::minifloat::e2m3(x),
        Element::E2m1 => crate::minifloat::e2m1(x),
    }
}

/// Adds Σ h (q − x)² of each lane to `sums`.
#[inline(always)]
fn add_errors(element: Element, x: &[Lane], h: &[f32], max_code: f32, trial: &Trial, sums: &mut Lane) {
    for (x, &h) in x.iter().zip(h) {
        for l in 0..LANES {
            let code = code_of(element, x[l] * trial.inverse[l], -trial.zero[l], max_code - trial.zero[l]);
            let off = trial.applied[l] * code - x[l];
            sums[l] += h * (off * off);
        }
    }
}

/// Adds Σ h·x·code and Σ h·code² of each lane.
#[inline(always)]
fn add_moments(element: Element, x: &[Lane], h: &[f32], max_code: f32, trial: &Trial, sums: &mut [Lane; 2]) {
    for (x, &h) in x.iter().zip(h) {
        for l in 0..LANES {
            let code = code_of(element, x[l] * trial.inverse[l], -trial.zero[l], max_code - trial.zero[l]);
            sums[0][l] += h * (x[l] * code);
            sums[1][l] += h * (code * code);
        }
    }
}

/// Rows in strips of lanes: of a grid each, or of rows that share one.
#[derive(Clone, Copy)]
struct Tile<'a> {
    strips: &'a [&'a [Lane]],
    /// The importance of its columns.
    h: &'a [f32],
    shared: bool,
}

impl Tile<'_> {
    /// Σ h (q − x)² of each row, or of all of them.
    #[inline(always)]
    fn errors(&self, format: &GridFormat, trial: &Trial) -> Lane {
        let (mut sums, mut total, h, max) = ([0f32; LANES], 0f64, self.h, format.max_code());
        for x in self.strips {
            sums = [0.0; LANES];
            // In each arm the compiler knows what the element is, and makes vectors of the loop.
            match format.element {
                Element::Int(_) => add_errors(Element::Int(8), x, h, max, trial, &mut sums),
                Element::E4m3 => add_errors(Element::E4m3, x, h, max, trial, &mut sums),
                Element::E2m3 => add_errors(Element::E2m3, x, h, max, trial, &mut sums),
                Element::E2m1 => add_errors(Element::E2m1, x, h, max, trial, &mut sums),
            }
            total += sums.iter().map(|&sum| f64::from(sum)).sum::<f64>();
        }
        if self.shared { [total as f32; LANES] } else { sums }
    }

    /// Scales that fit the codes of a trial best, before they are rounded: Σ h·x·code / Σ h·code². Those of `trial` where
    /// there is none.
    #[inline(always)]
    fn refitted(&self, format: &GridFormat, trial: &Trial) -> Lane {
        let (mut sums, mut totals, h, max) = ([[0f32; LANES]; 2], [0f64; 2], self.h, format.max_code());
        for x in self.strips {
            sums = [[0.0; LANES]; 2];
            match format.element {
                Element::Int(_) => add_moments(Element::Int(8), x, h, max, trial, &mut sums),
                _ => add_moments(Element::E4m3, x, h, max, trial, &mut sums),
            }
            for (total, sums) in totals.iter_mut().zip(&sums) {
                *total += sums.iter().map(|&sum| f64::from(sum)).sum::<f64>();
            }
        }
        if self.shared {
            sums = totals.map(|total| [total as f32; LANES]);
        }
        let mut scales = trial.scale;
        for l in 0..LANES {
            let scale = sums[0][l] / sums[1][l];
            let is_scale = scale > 0.0 && scale < f32::INFINITY;
            scales[l] = if is_scale { scale } else { scales[l] };
        }
        scales
    }
}

/// The best grids so far.
struct Best {
    error: Lane,
    scale: Lane,
    zero: Lane,
}

impl Best {
    #[inline(always)]
    fn offer(&mut self, trial: &Trial, errors: &Lane) {
        for l in 0..LANES {
            let better = errors[l] < self.error[l];
            self.error[l] = if better { errors[l] } else { self.error[l] };
            self.scale[l] = if better { trial.scale[l] } else { self.scale[l] };
            self.zero[l] = if better { trial.zero[l] } else { self.zero[l] };
        }
    }
}

multiversion! {
    /// The scale, as it is stored, and the zero point of each row, or of all; and the error on the grid of the whole range and
    /// on theirs.
    fn search(format: &GridFormat, tile: Tile<'_>) -> [Lane; 4] {
        let range = Range::of(format, tile.strips, tile.shared);
        let (trials, mut trial) = (Trials::of(format), Trial::new());
        let mut best = Best { error: [f32::INFINITY; LANES], scale: [1.0; LANES], zero: [0.0; LANES] };
        let (mut near, mut usual) = ([0f32; LANES], [f32::INFINITY; LANES]);
        zeros_at(format, &range, 0, 1, &mut near);
        for at in 0..trials.scales {
            scales_at(format, &range, at, &mut trial.scale);
            trial.apply(format);
            for zero in 0..trials.zeros {
                zeros_at(format, &range, zero, trials.zeros, &mut trial.zero);
                if (at, zero) == (0, 0) {
                    // Errors of huge values may be beyond every float; then it is the first.
                    (best.scale, best.zero) = (trial.scale, trial.zero);
                }
                let errors = tile.errors(format, &trial);
                best.offer(&trial, &errors);
                if at == 0 {
                    for l in 0..LANES {
                        let is_usual = trial.zero[l] == near[l] && usual[l] == f32::INFINITY;
                        usual[l] = if is_usual { errors[l] } else { usual[l] };
                    }
                }
            }
        }
        if format.scales == Scales::Float && matches!(format.element, Element::Int(_)) {
            for _ in 0..REFITS {
                (trial.scale, trial.zero) = (best.scale, best.zero);
                trial.apply(format);
                trial.scale = tile.refitted(format, &trial);
                stored_scales(format, &mut trial.scale);
                trial.apply(format);
                let errors = tile.errors(format, &trial);
                best.offer(&trial, &errors);
            }
        }
        [best.scale, best.zero, usual, best.error]
    }
}

/// The importance of a group's columns in parts of the largest, so that no product of it overflows, and that; all count the
/// same where none does, or none is known.
fn relative(h: Option<&[f32]>, columns: std::ops::Range<usize>) -> (Vec<f32>, f32) {
    let Some(h) = h.map(|h| &h[columns.clone()]) else { return (vec![1.0; columns.len()], 1.0) };
    let most = h.iter().copied().fold(0f32, f32::max);
    let is_known = (f32::MIN_POSITIVE..f32::INFINITY).contains(&most);
    if is_known { (h.iter().map(|h| h / most).collect(), most) } else { (vec![1.0; h.len()], 0.0) }
}

/// Fits a grid to each of some rows of `x`, whose rows have `stride` elements: the columns from `columns.start` on, with
/// the importance `h` of all columns. Puts scale and zero point of the row into `into`.
pub(super) fn fit_rows(
    format: &GridFormat,
    x: &[f32],
    stride: usize,
    columns: std::ops::Range<usize>,
    h: Option<&[f32]>,
    mut into: impl FnMut(usize, f32, f32),
) -> Errors {
    let mut errors = Errors::default();
    let (h, unit) = relative(h, columns.clone());
    let mut lanes = vec![[0f32; LANES]; columns.len()];
    for (strip, rows) in x.chunks(LANES * stride).enumerate() {
        to_lanes(&rows[columns.start..], stride, &mut lanes);
        let [scales, zeros, usual, found] = search(format, Tile { strips: &[&lanes], h: &h, shared: false });
        for r in 0..rows.len() / stride {
            into(strip * LANES + r, scales[r], zeros[r]);
            errors.add(unit, usual[r], found[r]);
        }
    }
    errors
}

/// The grid of a tile of some rows, and its errors.
fn fit_shared(
    x: &[f32],
    cols: usize,
    columns: std::ops::Range<usize>,
    format: &GridFormat,
    h: Option<&[f32]>,
) -> ([f32; 2], Errors) {
    let (h, unit) = relative(h, columns.clone());
    let strips: Vec<Vec<Lane>> = x
        .par_chunks(LANES * cols)
        .map(|rows| {
            let mut lanes = vec![[0f32; LANES]; columns.len()];
            to_lanes(&rows[columns.start..], cols, &mut lanes);
            lanes
        })
        .collect();
    let strips: Vec<&[Lane]> = strips.iter().map(Vec::as_slice).collect();
    let [scale, zero, usual, found] = search(format, Tile { strips: &strips, h: &h, shared: true }).map(|lane| lane[0]);
    let mut errors = Errors::default();
    errors.add(unit, usual, found);
    ([scale, zero], errors)
}

/// Fits grids to tiles as [`super::fit_tiles`] does, by the importance `h` of each column; without it all count the same.
/// About 250 operations per weight, some 2000 where all zero points of three bits are tried.
///
/// # Panics
/// If a side of the tile is 0.
pub fn fit_weighted(
    weight: &[f32],
    cols: usize,
    [height, width]: [usize; 2],
    format: &GridFormat,
    h: Option<&[f32]>,
) -> (Grids, Errors) {
    let (rows, groups) = (weight.len() / cols, cols.div_ceil(width));
    let height = height.min(rows.max(1));
    let columns = |group: usize| group * width..(group * width + width).min(cols);
    let (mut scales, mut zeros) = (vec![0f32; rows * groups], vec![0f32; rows * groups]);
    let chunk = if height == 1 { LANES } else { height };
    let bands = scales.par_chunks_mut(chunk * groups).zip(zeros.par_chunks_mut(chunk * groups));
    let fit = |((scales, zeros), rows): ((&mut [f32], &mut [f32]), &[f32])| {
        let mut errors = Vec::with_capacity(groups);
        for group in 0..groups {
            if height == 1 {
                errors.push(fit_rows(format, rows, cols, columns(group), h, |r, scale, zero| {
                    (scales[r * groups + group], zeros[r * groups + group]) = (scale, zero);
                }));
                continue;
            }
            let ([scale, zero], of_tile) = fit_shared(rows, cols, columns(group), format, h);
            errors.push(of_tile);
            scales.iter_mut().skip(group).step_by(groups).for_each(|s| *s = scale);
            zeros.iter_mut().skip(group).step_by(groups).for_each(|z| *z = zero);
        }
        errors
    };
    // Added up in order: the same for any number of threads.
    let errors: Vec<Vec<Errors>> = bands.zip(weight.par_chunks(chunk * cols)).map(fit).collect();
    let all = errors
        .iter()
        .flatten()
        .fold(Errors::default(), |all, one| Errors { usual: all.usual + one.usual, found: all.found + one.found });
    (Grids { groups, scales, zeros }, all)
}
