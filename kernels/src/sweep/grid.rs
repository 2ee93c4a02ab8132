//! Quantization grids with zero always on them, one per row and group of columns (the quantizer of the GPTQ and
//! SparseGPT codes).

use rayon::prelude::*;

use crate::matmul::Precision;
use crate::simd::multiversion;

/// Width and kind of the grids of a matrix.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GridFormat {
    /// 2 to 8.
    pub bits: u32,
    /// Zero point fixed in the middle.
    pub symmetric: bool,
    /// Shrink the range while that lowers Σ|error|^2.4 (GPTQ's `mse`).
    pub mse: bool,
    /// The float type that scales and dequantized weights are stored in. Scales are rounded to it when they are fitted,
    /// so that everything after sees what the file will hold.
    pub stored: Precision,
}

/// One grid per row and group: value = scale · (code − zero).
#[derive(Clone, Debug, PartialEq)]
pub struct Grids {
    /// Groups in a row.
    pub groups: usize,
    /// Row-major `[rows, groups]`.
    pub scales: Vec<f32>,
    /// Row-major `[rows, groups]`, integers 0 ..= 2^bits − 1.
    pub zeros: Vec<f32>,
}

impl GridFormat {
    /// The largest code.
    #[inline(always)]
    pub fn max_code(&self) -> f32 {
        ((1u32 << self.bits) - 1) as f32
    }

    /// The code of `x`: round to nearest (half to even), then add the zero point, then clamp.
    #[inline(always)]
    pub fn encode(&self, x: f32, scale: f32, zero: f32) -> f32 {
        ((x / scale).round_ties_even() + zero).clamp(0.0, self.max_code())
    }

    /// The value of a code, as stored.
    #[inline(always)]
    pub fn decode(&self, code: f32, scale: f32, zero: f32) -> f32 {
        self.stored.round(scale * (code - zero))
    }

    /// The value that `x` is rounded to.
    #[inline(always)]
    fn rounded(&self, x: f32, scale: f32, zero: f32) -> f32 {
        self.decode(self.encode(x, scale, zero), scale, zero)
    }

    /// Scale and zero point for the values `x` of one row and group.
    pub fn fit(&self, x: &[f32]) -> (f32, f32) {
        let (mut lo, mut hi) = range(x);
        if self.symmetric {
            hi = hi.max(-lo);
            if lo < 0.0 {
                lo = -hi;
            }
        }
        if lo == 0.0 && hi == 0.0 {
            (lo, hi) = (-1.0, 1.0);
        }
        if self.mse {
            let shrunk = (0..80).map(|i| 1.0 - i as f32 / 100.0);
            return self.best(x, 2.4, shrunk.map(|p| self.of_range(p * lo, p * hi, Precision::round)));
        }
        if self.stored == Precision::F32 {
            return self.of_range(lo, hi, Precision::round);
        }
        // The scale falls between two numbers of the stored type: the one that fits the values better is taken.
        let ways = [Precision::round_down, Precision::round_up];
        self.best(x, 2.0, ways.into_iter().map(|round| self.of_range(lo, hi, round)))
    }

    /// The first of the grids with the least Σ|error|^power over `x`.
    fn best(&self, x: &[f32], power: f32, grids: impl Iterator<Item = (f32, f32)>) -> (f32, f32) {
        let (mut least, mut best) = (f32::INFINITY, (1.0, 0.0));
        for (scale, zero) in grids {
            let error = if power == 2.0 {
                squared_error(self, x, scale, zero)
            } else {
                x.iter().map(|&v| (self.rounded(v, scale, zero) - v).abs().powf(power)).sum()
            };
            if error < least {
                (least, best) = (error, (scale, zero));
            }
        }
        best
    }

    fn of_range(&self, lo: f32, hi: f32, round: fn(Precision, f32) -> f32) -> (f32, f32) {
        let mut scale = round(self.stored, (hi - lo) / self.max_code());
        if scale == 0.0 {
            // The range is below the smallest number of the stored type (or of f32).
            scale = if self.stored == Precision::F16 { 2f32.powi(-24) } else { f32::MIN_POSITIVE };
        }
        let zero = if self.symmetric {
            (self.max_code() + 1.0) / 2.0
        } else {
            (-lo / scale).round_ties_even().clamp(0.0, self.max_code())
        };
        (scale, zero)
    }
}

/// Running sums and extremes are kept in this many lanes, a fixed order that vectorises.
const LANES: usize = 16;

multiversion! {
    /// The least and the greatest of `x` and zero.
    fn range(x: &[f32]) -> (f32, f32) {
        let (mut lo, mut hi) = ([0f32; LANES], [0f32; LANES]);
        for chunk in x.chunks(LANES) {
            for ((lo, hi), &v) in lo.iter_mut().zip(&mut hi).zip(chunk) {
                *lo = if v < *lo { v } else { *lo };
                *hi = if v > *hi { v } else { *hi };
            }
        }
        (lo.into_iter().fold(0.0, f32::min), hi.into_iter().fold(0.0, f32::max))
    }
}

multiversion! {
    /// Sum of the squared rounding errors of `x`.
    fn squared_error(format: &GridFormat, x: &[f32], scale: f32, zero: f32) -> f32 {
        let mut sums = [0f32; LANES];
        let (chunks, rest) = x.as_chunks::<LANES>();
        for chunk in chunks {
            for (sum, &v) in sums.iter_mut().zip(chunk) {
                let off = format.rounded(v, scale, zero) - v;
                *sum += off * off;
            }
        }
        for (sum, &v) in sums.iter_mut().zip(rest) {
            let off = format.rounded(v, scale, zero) - v;
            *sum += off * off;
        }
        sums.iter().sum()
    }
}

/// Fits one grid per row and `group_size` columns (the last group may be short) to `weight`, row-major `[rows, cols]`.
pub fn fit_groups(weight: &[f32], cols: usize, group_size: usize, format: &GridFormat) -> Grids {
    let groups = cols.div_ceil(group_size);
    let fitted: Vec<(f32, f32)> =
        weight.par_chunks(cols).flat_map_iter(|row| row.chunks(group_size).map(|group| format.fit(group))).collect();
    let (scales, zeros) = fitted.into_iter().unzip();
    Grids { groups, scales, zeros }
}
