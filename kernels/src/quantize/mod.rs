//! Activations rounded to codes as a model runs: what compressed-tensors calls fake quantization, in f32.
//!
//! A code is the number nearest to x / scale + zero within the element's range, half to even; it stands for
//! (code − zero) · scale.

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

use candle_core::{D, Result, Tensor};
use rayon::prelude::*;

use crate::minifloat::{E2M1_MAX, E4M3_MAX, e2m1, e4m3};
use crate::simd::multiversion;
use crate::{Fresh, with_f32, write_chunks};

/// The type of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// An integer of that many bits, 1 to 8: `-2^(bits-1) ..= 2^(bits-1) - 1`.
    Int(u32),
    /// An 8-bit float ([`e4m3`]).
    E4m3,
    /// A 4-bit float ([`e2m1`]).
    E2m1,
}

/// Which numbers share a scale, and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scales {
    /// One for all, given: scale, more than 0, and zero point, 0 where there is none.
    Given(f32, f32),
    /// One for all numbers of a call, from their extremes.
    Tensor,
    /// One for each token, from its extremes.
    Token,
    /// One for each so many features of a token, from their extremes.
    Group(usize),
    /// The same, powers of two (OCP MX).
    Exponent(usize),
    /// The same, 8-bit floats to be divided by a given global scale, more than 0 (NVFP4).
    Local(usize, f32),
}

/// How activations are rounded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rounding {
    /// What a code is.
    pub code: Code,
    /// Whether zero points that are found are 0.
    pub symmetric: bool,
    /// Where scales come from.
    pub scales: Scales,
}

/// Rounded activations. What [`Rounded::values`] leaves out is applied behind a product: so the codes reach the product
/// as they are, which bfloat16 holds exactly.
#[derive(Clone, Debug)]
pub struct Rounded {
    /// f32, as the input: codes less zero points, times scales that differ within a token.
    pub values: Tensor,
    /// The rest of the scale of each token, unless it is 1 everywhere.
    pub factors: Option<Vec<f32>>,
}

/// Elements per task, about.
const CHUNK: usize = 1 << 14;
/// Independent partial results, so that loops run in vector registers.
const LANES: usize = 16;

impl Code {
    /// The least and the largest number.
    pub fn range(self) -> (f32, f32) {
        match self {
            Code::Int(bits) => {
                let half = (1u32 << (bits.clamp(1, 8) - 1)) as f32;
                (-half, half - 1.0)
            }
            Code::E4m3 => (-E4M3_MAX, E4M3_MAX),
            Code::E2m1 => (-E2M1_MAX, E2M1_MAX),
        }
    }

    /// What |x| is divided by for the scale of a symmetric grid: half the range, for integers half a code more than the
    /// largest.
    pub fn half_range(self) -> f32 {
        let (least, largest) = self.range();
        (largest - least) / 2.0
    }
}

/// The least and the largest value, 0 where all are on one side of it or there are none. NaN is passed over.
#[inline(always)]
fn least_and_most(x: &[f32]) -> [f32; 2] {
    let (mut least, mut most) = ([0f32; LANES], [0f32; LANES]);
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for ((least, most), &v) in least.iter_mut().zip(&mut most).zip(chunk) {
            *least = if v < *least { v } else { *least };
            *most = if v > *most { v } else { *most };
        }
    }
    let least = rest.iter().chain(&least).fold(0f32, |a, &b| a.min(b));
    [least, rest.iter().chain(&most).fold(0f32, |a, &b| a.max(b))]
}

/// Codes less the zero point, times `after`.
#[inline(always)]
fn codes(code: Code, x: &[f32], (scale, zero): (f32, f32), after: f32, out: &mut Fresh) {
    let (least, largest) = code.range();
    match code {
        Code::Int(_) => {
            for (o, &x) in out.iter_mut().zip(x) {
                // 1.5 · 2^23: what is added to it is rounded to whole numbers, half to even.
                let v = (x / scale + zero).clamp(least, largest) + 12_582_912.0;
                o.write((v - 12_582_912.0 - zero) * after);
            }
        }
        Code::E4m3 => {
            for (o, &x) in out.iter_mut().zip(x) {
                o.write((e4m3(x / scale + zero) - zero) * after);
            }
        }
        Code::E2m1 => {
            for (o, &x) in out.iter_mut().zip(x) {
                o.write((e2m1(x / scale + zero) - zero) * after);
            }
        }
    }
}

multiversion! {
    fn extremes(x: &[f32]) -> [f32; 2] {
        least_and_most(x)
    }
}

multiversion! {
    fn round(code: Code, x: &[f32], grid: (f32, f32), out: &mut Fresh) {
        codes(code, x, grid, 1.0, out);
    }
}

multiversion! {
    /// What the codes of groups of `size` stand for; with a global scale, times that.
    fn round_groups(how: &Rounding, x: &[f32], size: usize, global: Option<f32>, out: &mut Fresh) {
        for (x, out) in x.chunks_exact(size).zip(out.chunks_exact_mut(size)) {
            let (scale, zero) = how.grid(least_and_most(x));
            let divisor = match global {
                Some(global) => scale / global,
                None => scale,
            };
            codes(how.code, x, (divisor, zero), scale, out);
        }
    }
}

multiversion! {
    fn multiply(x: &[f32], factor: f32, out: &mut Fresh) {
        for (o, &x) in out.iter_mut().zip(x) {
            o.write(x * factor);
        }
    }
}

/// The exponent of OCP MX that numbers up to `most` ≥ 0 get, plus 127: that of `most` with a quarter of its leading bit
/// added, less the element's own exponent.
fn exponent(code: Code, most: f32) -> u32 {
    let own = if code == Code::E2m1 { 2 } else { 8 };
    (most.to_bits().wrapping_add(1 << 21) >> 23).saturating_sub(own)
}

/// 2^(exponent − 127).
fn power(exponent: u32) -> f32 {
    // The least is below the normal numbers.
    f32::from_bits(if exponent == 0 { 1 << 22 } else { exponent << 23 })
}

impl Rounding {
    /// Scale and zero point for numbers with these extremes, which include 0.
    #[inline(always)]
    fn grid(&self, [least, most]: [f32; 2]) -> (f32, f32) {
        let above = most.max(-least);
        let nonzero = |scale: f32| if scale == 0.0 { f32::EPSILON } else { scale };
        match self.scales {
            Scales::Given(scale, zero) => (scale, zero),
            Scales::Exponent(_) => (power(exponent(self.code, above)), 0.0),
            Scales::Local(_, global) => {
                let scale = e4m3(global * (above / self.code.half_range()));
                (if scale == 0.0 { 0.125 } else { scale }, 0.0)
            }
            _ if self.symmetric => (nonzero(above / self.code.half_range()), 0.0),
            _ => {
                let (low, high) = self.code.range();
                let scale = (most - least) / (high - low);
                // Nothing but zeros: 0/0, which the integers of the file have as 0.
                let zero = (low - least / scale).clamp(low, high).round_ties_even();
                (nonzero(scale), if zero.is_nan() { 0.0 } else { zero })
            }
        }
    }

    /// Rounds `x [.., cols]` f32. Errors when groups do not divide the columns.
    pub fn round(&self, x: &Tensor) -> Result<Rounded> {
        let cols = x.dim(D::Minus1)?;
        if let Scales::Group(size) | Scales::Exponent(size) | Scales::Local(size, _) = self.scales
            && (size == 0 || cols % size != 0)
        {
            candle_core::bail!("activations of {cols} features are not whole groups of {size}");
        }
        let tokens = x.elem_count() / cols.max(1);
        let (values, factors) = with_f32(x, |x| {
            Ok(match self.scales {
                Scales::Group(size) | Scales::Exponent(size) => (self.groups(x, cols, size, None), None),
                Scales::Local(size, global) => {
                    (self.groups(x, cols, size, Some(global)), Some(vec![1.0 / global; tokens]))
                }
                Scales::Token => {
                    let rows = x.par_chunks_exact(cols.max(1));
                    let grids: Vec<(f32, f32)> = rows.map(|row| self.grid(extremes(row))).collect();
                    (self.rows(x, cols, |row| grids[row]), Some(grids.iter().map(|grid| grid.0).collect()))
                }
                Scales::Given(..) | Scales::Tensor => {
                    let grid = match self.scales {
                        Scales::Given(scale, zero) => (scale, zero),
                        _ => self.grid(extremes_of(x)),
                    };
                    (self.rows(x, cols, |_| grid), Some(vec![grid.0; tokens]))
                }
            })
        })?;
        Ok(Rounded { values: Tensor::from_vec(values, x.shape(), x.device())?, factors })
    }

    /// What the codes of `x [.., cols]` stand for; see [`Rounding::round`].
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let Rounded { values, factors } = self.round(x)?;
        scale_rows(values, factors.as_deref())
    }

    /// Codes less zero points, each row on its own grid.
    fn rows(&self, x: &[f32], cols: usize, grid: impl Fn(usize) -> (f32, f32) + Sync) -> Vec<f32> {
        let each = (CHUNK / cols.max(1)).max(1);
        // SAFETY: `round` writes each element of its row.
        unsafe {
            write_chunks(x.len(), each * cols.max(1), |i, out| {
                let x = &x[i * each * cols..][..out.len()];
                for (j, (x, out)) in x.chunks_exact(cols).zip(out.chunks_exact_mut(cols)).enumerate() {
                    round(self.code, x, grid(i * each + j), out);
                }
            })
        }
    }

    /// What the codes of each group stand for; with a global scale, times that.
    fn groups(&self, x: &[f32], cols: usize, size: usize, global: Option<f32>) -> Vec<f32> {
        let each = (CHUNK / cols.max(1)).max(1) * cols.max(1);
        // SAFETY: `round_groups` writes each element of each group, and groups make up the whole.
        unsafe {
            write_chunks(x.len(), each, |i, out| {
                round_groups(self, &x[i * each..][..out.len()], size, global, out);
            })
        }
    }
}

fn extremes_of(x: &[f32]) -> [f32; 2] {
    let both = |a: [f32; 2], b: [f32; 2]| [a[0].min(b[0]), a[1].max(b[1])];
    x.par_chunks(CHUNK).map(extremes).reduce(|| [0.0; 2], both)
}

/// The least and the largest number of `x` f32, 0 included.
pub fn range(x: &Tensor) -> Result<[f32; 2]> {
    with_f32(x, |x| Ok(extremes_of(x)))
}

/// `y [.., rows]` f32 with each row times its factor, if there are any. Errors unless there are as many factors as rows.
pub fn scale_rows(y: Tensor, factors: Option<&[f32]>) -> Result<Tensor> {
    let Some(factors) = factors else { return Ok(y) };
    let rows = y.dim(D::Minus1)?;
    if factors.len() * rows != y.elem_count() {
        candle_core::bail!("{} factors for the rows of {:?}", factors.len(), y.shape());
    }
    let each = (CHUNK / rows.max(1)).max(1);
    let out = with_f32(&y, |y| {
        // SAFETY: `multiply` writes each element of its row.
        Ok(unsafe {
            write_chunks(y.len(), each * rows.max(1), |i, out| {
                let y = &y[i * each * rows..][..out.len()];
                let factors = &factors[i * each..];
                for ((y, out), &factor) in y.chunks_exact(rows).zip(out.chunks_exact_mut(rows)).zip(factors) {
                    multiply(y, factor, out);
                }
            })
        })
    })?;
    Tensor::from_vec(out, y.shape(), y.device())
}
