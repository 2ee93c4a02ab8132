//! Scales and zero points fitted to weights.

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use rayon::prelude::*;

use super::{Element, GridFormat, Search, weighted};
use crate::matmul::Precision;
use crate::range::{extremes, joined};
use crate::simd::multiversion;

/// One scale and zero point per row and group. What rows share is repeated.
#[derive(Clone, Debug, PartialEq)]
pub struct Grids {
    /// Groups in a row.
    pub groups: usize,
    /// Row-major `[rows, groups]`, as they are stored: [`GridFormat::applied`] is what codes are multiplied by.
    pub scales: Vec<f32>,
    /// Row-major `[rows, groups]`, integers 0 ..= 2^bits − 1; zeros for floats.
    pub zeros: Vec<f32>,
}

impl GridFormat {
    /// Scale, as it is stored, and zero point for the values `x` of one tile; [`Search::Weighted`] is answered as
    /// [`Search::MinMax`], for want of an importance.
    ///
    /// Symmetric grids of integers are those of the published GPTQ and SparseGPT codes. Where no value is negative these take
    /// half the scale that compressed-tensors takes, so that values above half of the largest are cut off; tiles with a
    /// negative value get the same grid from both.
    pub(crate) fn fit(&self, x: &[f32]) -> (f32, f32) {
        let (mut lo, mut hi) = range(x);
        if !matches!(self.element, Element::Int(_)) {
            let amax = hi.max(-lo);
            if self.search == Search::Mse && amax > 0.0 {
                return self.best(x, 2.4, shrunk().map(|p| (self.scale_for(p * amax), 0.0)));
            }
            return (self.scale_for(amax), 0.0);
        }
        if self.symmetric {
            hi = hi.max(-lo);
            // The published rule, which its golden cases have: see above.
            if lo < 0.0 {
                lo = -hi;
            }
        }
        if lo == 0.0 && hi == 0.0 {
            (lo, hi) = (-1.0, 1.0);
        }
        if self.search == Search::Mse {
            return self.best(x, 2.4, shrunk().map(|p| self.scale_and_zero(p * lo, p * hi, Precision::round)));
        }
        if self.stored == Precision::F32 {
            return self.scale_and_zero(lo, hi, Precision::round);
        }
        // The scale falls between two numbers of the stored type: the one that fits the values better is taken.
        let ways = [Precision::round_down, Precision::round_up];
        self.best(x, 2.0, ways.into_iter().map(|round| self.scale_and_zero(lo, hi, round)))
    }

    /// The first of the grids with the least Σ|error|^power over `x`.
    fn best(&self, x: &[f32], power: f32, grids: impl Iterator<Item = (f32, f32)>) -> (f32, f32) {
        let (mut least, mut best) = (f32::INFINITY, None);
        for (scale, zero) in grids {
            let applied = self.applied(scale);
            let error = in_pieces(
                x,
                |x| match power == 2.0 {
                    true => squared_error(self, x, applied, zero),
                    false => x.iter().map(|&v| (self.rounded(v, applied, zero) - v).abs().powf(power)).sum(),
                },
                |a, b| a + b,
            );
            // Errors of huge values may be beyond every float; then it is the first.
            if best.is_none() || error < least {
                (least, best) = (error.min(f32::INFINITY), Some((scale, zero)));
            }
        }
        best.unwrap_or((1.0, 0.0))
    }
}

/// The parts of its range that a grid is tried with.
fn shrunk() -> impl Iterator<Item = f32> {
    (0..80).map(|i| 1.0 - i as f32 / 100.0)
}

/// Running sums are kept in this many lanes, a fixed order that vectorises.
const LANES: usize = 16;
/// A tile of more values than this is worked on by several threads, piece by piece.
const PIECE: usize = 1 << 16;

/// The results of `f` for pieces of `x`, joined in order: the same for any number of threads.
fn in_pieces<T: Send>(x: &[f32], f: impl Fn(&[f32]) -> T + Sync, join: impl Fn(T, T) -> T) -> T {
    if x.len() <= PIECE {
        return f(x);
    }
    let (first, rest) = x.split_at(PIECE);
    let rest: Vec<T> = rest.par_chunks(PIECE).map(&f).collect();
    rest.into_iter().fold(f(first), join)
}

/// The least and the greatest of `x` and zero.
fn range(x: &[f32]) -> (f32, f32) {
    let [lo, hi] = in_pieces(x, extremes, joined);
    (lo, hi)
}

/// The largest magnitude of `x`.
pub fn largest(x: &[f32]) -> f32 {
    let (lo, hi) = range(x);
    hi.max(-lo)
}

/// Errors that are kept before they are summed.
const SOME: usize = 256;

multiversion! {
    /// Sum of the squared rounding errors of `x`.
    fn squared_error(format: &GridFormat, x: &[f32], scale: f32, zero: f32) -> f32 {
        let (mut sums, mut squares) = ([0f32; LANES], [0f32; SOME]);
        for x in x.chunks(SOME) {
            let squares = &mut squares[..x.len()];
            // Loops without a choice inside become vectors.
            let GridFormat { element, stored, .. } = *format;
            match (element, stored) {
                (Element::Int(bits), Precision::F32) => {
                    let format = GridFormat { element: Element::Int(bits), stored: Precision::F32, ..*format };
                    squares_of(&format, x, scale, zero, squares);
                }
                (Element::Int(bits), Precision::Bf16) => {
                    let format = GridFormat { element: Element::Int(bits), stored: Precision::Bf16, ..*format };
                    squares_of(&format, x, scale, zero, squares);
                }
                _ => squares_of(format, x, scale, zero, squares),
            }
            for squares in squares.chunks(LANES) {
                for (sum, square) in sums.iter_mut().zip(squares) {
                    *sum += square;
                }
            }
        }
        sums.iter().sum()
    }
}

#[inline(always)]
fn squares_of(format: &GridFormat, x: &[f32], scale: f32, zero: f32, squares: &mut [f32]) {
    for (square, &v) in squares.iter_mut().zip(x) {
        let off = format.rounded(v, scale, zero) - v;
        *square = off * off;
    }
}

/// Fits a grid to each tile of `[height, width]` rows and columns of `weight`, row-major `[rows, cols]`; the last tiles of
/// a row or column may be cut off. `importance` is that of each column, for [`Search::Weighted`]; without it all count the
/// same.
///
/// # Panics
/// If a side of the tile is 0.
pub fn fit_tiles(
    weight: &[f32],
    cols: usize,
    [height, width]: [usize; 2],
    format: &GridFormat,
    importance: Option<&[f32]>,
) -> Grids {
    if format.search == Search::Weighted {
        return weighted::fit_weighted(weight, cols, [height, width], format, importance).0;
    }
    let rows = weight.len() / cols;
    let groups = cols.div_ceil(width);
    let tile = |at: usize| -> Cow<'_, [f32]> {
        let (top, left) = (at / groups * height, at % groups * width);
        let (bottom, right) = ((top + height).min(rows), (left + width).min(cols));
        if bottom - top == 1 || groups == 1 {
            // Side by side.
            return weight[top * cols + left..(bottom - 1) * cols + right].into();
        }
        weight[top * cols..bottom * cols].chunks_exact(cols).flat_map(|row| &row[left..right]).copied().collect()
    };
    let tiles = rows.div_ceil(height) * groups;
    let fitted: Vec<(f32, f32)> = (0..tiles).into_par_iter().map(|at| format.fit(&tile(at))).collect();
    let of_rows = (0..rows).flat_map(|row| &fitted[row / height * groups..][..groups]);
    let (scales, zeros) = of_rows.copied().unzip();
    Grids { groups, scales, zeros }
}
