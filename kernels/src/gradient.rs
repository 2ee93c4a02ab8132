//! Parts that backward passes share. They run on the CPU, in f32, and in an order of sums that does not depend on threads.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use crate::{Fresh, with_f32, write_chunks};

/// Elements that a task takes, in whole rows.
const CHUNK: usize = 1 << 14;

/// Errors where a tensor does not lie on the CPU; `what` is the operation.
pub(crate) fn require_cpu(x: &Tensor, what: &str) -> Result<()> {
    match x.device().is_cpu() {
        true => Ok(()),
        false => {
            candle_core::bail!("the backward pass of {what} runs on the CPU only, and its input is on another device")
        }
    }
}

/// Errors where two tensors differ in shape.
pub(crate) fn require_same(a: &Tensor, b: &Tensor, what: &str) -> Result<()> {
    match a.dims() == b.dims() {
        true => Ok(()),
        false => candle_core::bail!("the backward pass of {what} was given {:?} and {:?}", a.shape(), b.shape()),
    }
}

/// The gradient of an input of an operation on elements, which is `what`: a tensor of the shape of `dy` and `x`, both f32, that `apply` fills a
/// chunk at a time. Errors where they are not of one shape or not on the CPU.
///
/// # Safety
/// `apply` writes each element of its output, which is as long as its inputs.
pub(crate) unsafe fn elementwise(
    what: &str,
    dy: &Tensor,
    x: &Tensor,
    apply: impl Fn(&[f32], &[f32], &mut Fresh) + Sync,
) -> Result<Tensor> {
    require_cpu(x, what)?;
    require_same(dy, x, what)?;
    let out = with_f32(dy, |dy| {
        with_f32(x, |x| {
            let chunk = |i: usize, out: &mut Fresh| {
                let own = i * CHUNK..i * CHUNK + out.len();
                apply(&dy[own.clone()], &x[own], out);
            };
            // SAFETY: the caller's promise.
            Ok(unsafe { write_chunks(x.len(), CHUNK, chunk) })
        })
    })?;
    Tensor::from_vec(out, x.shape(), x.device())
}

/// Rows of `width` elements in a task.
pub(crate) fn rows_of(width: usize) -> usize {
    (CHUNK / width.max(1)).max(1)
}

/// Sums over rows, `[width]`, in two levels: `partial` adds the rows of a chunk to numbers that are 0, and chunks are added in
/// f64, in order. Chunk `i` has [`rows_of`] rows, the last one what is left.
pub(crate) fn sum_rows(chunks: usize, width: usize, partial: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f32> {
    let mut partials = vec![0f32; chunks * width];
    partials.par_chunks_exact_mut(width.max(1)).enumerate().for_each(|(i, sums)| partial(i, sums));
    total(&partials, width)
}

/// The sum of rows of `width` numbers, in f64 and in order.
pub(crate) fn total(partials: &[f32], width: usize) -> Vec<f32> {
    let mut sums = vec![0f64; width];
    for partial in partials.chunks_exact(width.max(1)) {
        sums.iter_mut().zip(partial).for_each(|(sum, &v)| *sum += f64::from(v));
    }
    sums.into_iter().map(|sum| sum as f32).collect()
}

/// Numeric differences: what a gradient is held to.
#[cfg(test)]
pub(crate) mod numeric {
    /// Pseudo-random numbers in f64.
    pub fn values(count: usize, scale: f32, seed: u64) -> Vec<f64> {
        crate::test_values(count, scale, seed).into_iter().map(f64::from).collect()
    }

    /// Asserts that `gradient` is that of `f` at `x`, by central differences in each direction: within 1e-6 of the largest
    /// entry, or of 1.
    pub fn check(what: &str, x: &[f64], gradient: &[f64], f: impl Fn(&[f64]) -> f64) {
        const STEP: f64 = 1e-5;
        assert_eq!(x.len(), gradient.len(), "{what}");
        let largest = gradient.iter().fold(1f64, |a, g| a.max(g.abs()));
        for (i, gradient) in gradient.iter().enumerate() {
            let at = |step: f64| {
                let mut x = x.to_vec();
                x[i] += step;
                f(&x)
            };
            let difference = (at(STEP) - at(-STEP)) / (2.0 * STEP);
            assert!((difference - gradient).abs() < 1e-6 * largest, "{what}, {i}: {gradient}, difference {difference}");
        }
    }

    /// Σ a b.
    pub fn dot(a: &[f64], b: &[f64]) -> f64 {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    /// Numbers as f32.
    pub fn narrow(x: &[f64]) -> Vec<f32> {
        x.iter().map(|&v| v as f32).collect()
    }

    /// The largest distance of what was computed in f32, in units of the largest entry wanted.
    pub fn off(got: &[f32], want: &[f64]) -> f64 {
        assert_eq!(got.len(), want.len());
        let largest = want.iter().fold(1e-30f64, |a, w| a.max(w.abs()));
        got.iter().zip(want).fold(0f64, |a, (&g, w)| a.max((f64::from(g) - w).abs())) / largest
    }
}
