//! Activations rounded to codes as a model runs: what compressed-tensors calls fake quantization, in f32.
//!
//! A code is the number nearest to x / scale + zero within the element's range, half to even; it stands for
//! (code − zero) · scale.

#[cfg(feature = "cuda")]
mod cuda;
pub(crate) mod reference;
#[cfg(test)]
mod tests;

use candle_core::{D, Result, Tensor};
use rayon::prelude::*;

use crate::element::Element;
use crate::matmul::Precision;
use crate::minifloat::{e2m1, e2m3, e4m3};
use crate::range::{extremes, joined, least_and_most};
use crate::simd::multiversion;
use crate::{Fresh, with_f32, write_chunks};

/// Sets of numbers that share a scale, and the source of the scale.
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

/// A way to round activations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rounding {
    /// The type of a code.
    pub element: Element,
    /// True if fitted zero points are 0.
    pub symmetric: bool,
    /// Source of the scales.
    pub scales: Scales,
}

/// Rounded activations. What [`Rounded::values`] leaves out is applied after a product, so that the codes reach the
/// product as they are, which bfloat16 holds exactly.
#[derive(Clone, Debug)]
pub struct Rounded {
    /// f32, as the input: codes less zero points, times scales that differ within a token.
    pub values: Tensor,
    /// The rest of the scale of each token, unless it is 1 everywhere: f32, one number for all or one for each.
    pub factors: Option<Tensor>,
}

/// Elements per task, about.
const CHUNK: usize = 1 << 14;
/// Codes less the zero point, times `after`.
#[inline(always)]
fn codes(element: Element, x: &[f32], (scale, zero): (f32, f32), after: f32, out: &mut Fresh) {
    let (least, largest) = element.range();
    match element {
        Element::Int(_) => {
            for (o, &x) in out.iter_mut().zip(x) {
                // 1.5 · 2^23: what is added to it is rounded to whole numbers, half to even.
                let v = (x / scale + zero).clamp(least, largest) + 12_582_912.0;
                o.write((v - 12_582_912.0 - zero) * after);
            }
        }
        Element::E4m3 => {
            for (o, &x) in out.iter_mut().zip(x) {
                o.write((e4m3(x / scale + zero) - zero) * after);
            }
        }
        Element::E2m3 => {
            for (o, &x) in out.iter_mut().zip(x) {
                o.write((e2m3(x / scale + zero) - zero) * after);
            }
        }
        Element::E2m1 => {
            for (o, &x) in out.iter_mut().zip(x) {
                o.write((e2m1(x / scale + zero) - zero) * after);
            }
        }
    }
}

multiversion! {
    fn round(element: Element, x: &[f32], grid: (f32, f32), out: &mut Fresh) {
        codes(element, x, grid, 1.0, out);
    }
}

multiversion! {
    /// The values of codes in groups of `size`; with a global scale, times that.
    fn round_groups(rounding: &Rounding, x: &[f32], size: usize, global: Option<f32>, out: &mut Fresh) {
        for (x, out) in x.chunks_exact(size).zip(out.chunks_exact_mut(size)) {
            let (scale, zero) = rounding.grid(least_and_most(x));
            let divisor = match global {
                Some(global) => scale / global,
                None => scale,
            };
            codes(rounding.element, x, (divisor, zero), scale, out);
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

/// 2^(exponent − 127).
fn power(exponent: u32) -> f32 {
    // The least is below the normal numbers.
    f32::from_bits(if exponent == 0 { 1 << 22 } else { exponent << 23 })
}

/// Scale and zero point of signed codes for numbers with these extremes, which include 0, as compressed-tensors finds them:
/// every step is rounded to `computed`.
#[inline(always)]
pub fn scale_and_zero(element: Element, symmetric: bool, [least, most]: [f32; 2], computed: Precision) -> (f32, f32) {
    let nonzero = |scale: f32| if scale == 0.0 { computed.epsilon() } else { scale };
    if symmetric {
        return (nonzero(computed.round(most.max(-least) / element.half_range())), 0.0);
    }
    let (low, high) = element.range();
    let scale = computed.round(computed.round(most - least) / (high - low));
    // Nothing but zeros: 0/0, which the integers of the file have as 0.
    let zero = computed.round(low - computed.round(least / scale)).clamp(low, high).round_ties_even();
    (nonzero(scale), if zero.is_nan() { 0.0 } else { zero })
}

impl Rounding {
    /// Scale and zero point for numbers with these extremes, which include 0.
    #[inline(always)]
    fn grid(&self, [least, most]: [f32; 2]) -> (f32, f32) {
        let above = most.max(-least);
        match self.scales {
            Scales::Given(scale, zero) => (scale, zero),
            Scales::Exponent(_) => (power(self.element.scale_exponent(above)), 0.0),
            Scales::Local(_, global) => {
                let scale = e4m3(global * (above / self.element.half_range()));
                (if scale == 0.0 { 0.125 } else { scale }, 0.0)
            }
            _ => scale_and_zero(self.element, self.symmetric, [least, most], Precision::F32),
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
        on_gpu!(x => cuda::round(self, x, cols));
        let (values, factors) = with_f32(x, |x| {
            Ok(match self.scales {
                Scales::Group(size) | Scales::Exponent(size) => (self.groups(x, cols, size, None), None),
                Scales::Local(size, global) => (self.groups(x, cols, size, Some(global)), Some(vec![1.0 / global])),
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
                    (self.rows(x, cols, |_| grid), Some(vec![grid.0]))
                }
            })
        })?;
        let factors = factors.map(|factors| Tensor::from_slice(&factors, factors.len(), x.device())).transpose()?;
        Ok(Rounded { values: Tensor::from_vec(values, x.shape(), x.device())?, factors })
    }

    /// The values of the codes of `x [.., cols]`; see [`Rounding::round`].
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let Rounded { values, factors } = self.round(x)?;
        scale_rows(values, factors.as_ref())
    }

    /// Codes less zero points, each row on its own grid.
    fn rows(&self, x: &[f32], cols: usize, grid: impl Fn(usize) -> (f32, f32) + Sync) -> Vec<f32> {
        let each = (CHUNK / cols.max(1)).max(1);
        debug_assert!(x.len().is_multiple_of(cols.max(1)));
        // SAFETY: `round` writes each element of its row, and rows make up the whole.
        unsafe {
            write_chunks(x.len(), each * cols.max(1), |i, out| {
                let x = &x[i * each * cols..][..out.len()];
                for (j, (x, out)) in x.chunks_exact(cols).zip(out.chunks_exact_mut(cols)).enumerate() {
                    round(self.element, x, grid(i * each + j), out);
                }
            })
        }
    }

    /// The values of each group's codes; with a global scale, times that.
    fn groups(&self, x: &[f32], cols: usize, size: usize, global: Option<f32>) -> Vec<f32> {
        let each = (CHUNK / cols.max(1)).max(1) * cols.max(1);
        debug_assert!(cols.is_multiple_of(size) && x.len().is_multiple_of(cols.max(1)));
        // SAFETY: `round_groups` writes each element of each group, and groups make up the whole.
        unsafe {
            write_chunks(x.len(), each, |i, out| {
                round_groups(self, &x[i * each..][..out.len()], size, global, out);
            })
        }
    }
}

fn extremes_of(x: &[f32]) -> [f32; 2] {
    x.par_chunks(CHUNK).map(extremes).reduce(|| [0.0; 2], joined)
}

/// The least and the largest number of `x` f32, 0 included.
pub fn range(x: &Tensor) -> Result<[f32; 2]> {
    on_gpu!(x => cuda::range(x));
    with_f32(x, |x| Ok(extremes_of(x)))
}

/// `y [.., rows]` f32 with each row times its factor, if there are any: f32, one number for all or one for each row.
/// Errors on other numbers of factors.
pub fn scale_rows(y: Tensor, factors: Option<&Tensor>) -> Result<Tensor> {
    let Some(factors) = factors else { return Ok(y) };
    let rows = y.dim(D::Minus1)?;
    let count = factors.elem_count();
    if count != 1 && count * rows != y.elem_count() {
        candle_core::bail!("{count} factors for the rows of {:?}", y.shape());
    }
    on_gpu!(y => cuda::scale_rows(&y, factors, rows));
    let each = (CHUNK / rows.max(1)).max(1);
    let out = with_f32(&y, |y| {
        with_f32(factors, |factors| {
            // SAFETY: `multiply` writes each element of its row.
            Ok(unsafe {
                write_chunks(y.len(), each * rows.max(1), |i, out| {
                    let y = &y[i * each * rows..][..out.len()];
                    for (j, (y, out)) in y.chunks_exact(rows).zip(out.chunks_exact_mut(rows)).enumerate() {
                        multiply(y, factors[if count == 1 { 0 } else { i * each + j }], out);
                    }
                })
            })
        })
    })?;
    Tensor::from_vec(out, y.shape(), y.device())
}
