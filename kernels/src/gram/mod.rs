//! Gram matrices: sums of x xᵀ and of x² over tokens, and of y xᵀ for two inputs.
//!
//! A Gram matrix is symmetric, so only the part on and below the diagonal is summed; [`Gram::finish`] mirrors it.

mod cpu;
mod cross;
#[cfg(feature = "cuda")]
mod cuda;
mod pairs;
mod precision;
pub(crate) mod reference;
mod squares;
#[cfg(test)]
mod tests;

use candle_core::{D, Device, Result, Tensor};
use rayon::prelude::*;

use crate::matmul::Precision;
use crate::square_matrix::SquareMatrix;
use crate::with_f32;

pub use cross::Cross;
pub use precision::GramPrecision;
pub use squares::Squares;

/// Tokens of one product on a GPU: what bounds both the rounded copy of the inputs and the sums in one go.
const TOKENS: usize = 8192;

/// Elements of the weight that [`Quadratic`] has on a GPU at a time.
const WEIGHTS: usize = 1 << 24;

/// The running sum Σ x xᵀ over tokens.
///
/// On the CPU with [`Precision::Bf16`] the products of some 190 tokens are summed from zero, in registers, and added to the
/// total: over 262,144 tokens the diagonal, whose terms all have one sign, is off by less than 2e-6 of itself (4e-7 in the
/// case that a test has), where one sum after the other loses 5e-5.
///
/// On a GPU the sum is made in two levels: the products of up to 8,192 tokens are summed from zero, in f32, and added to
/// the total. So a token's product is not lost beside a total of hundreds of thousands: over 262,144 tokens the diagonal,
/// whose terms all have one sign, is off by less than 2e-6 of itself, and by 1e-5 where tensor cores cut what they should
/// round; one sum after the other would lose 5e-5 and 3e-4.
pub struct Gram {
    dim: usize,
    sums: Sums,
    tokens: usize,
    precision: Precision,
}

enum Sums {
    Host(Vec<f32>),
    #[cfg(feature = "cuda")]
    Gpu(cuda::Sums),
}

impl Gram {
    /// An empty sum on the CPU for inputs of `dim` features. With [`Precision::Bf16`] the inputs are rounded to bfloat16, as the
    /// products of the forward pass round them; products and sums stay f32.
    pub fn new(dim: usize, precision: Precision) -> Self {
        Self { dim, sums: Sums::Host(vec![0.0; dim * dim]), tokens: 0, precision }
    }

    /// [`Gram::new`] on a device, for inputs that lie there; 4·dim² bytes, and while tokens are added up to 8,192·dim
    /// numbers of 2 bytes, or twice that with [`GramPrecision::Bf16x3`]. Errors when the device does.
    pub fn on_device(device: &Device, dim: usize, precision: Precision) -> Result<Self> {
        match device {
            Device::Cpu => Ok(Self::new(dim, precision)),
            #[cfg(feature = "cuda")]
            Device::Cuda(cuda) => Ok(Self { dim, sums: Sums::Gpu(cuda::Sums::new(cuda, dim)?), tokens: 0, precision }),
            _ => candle_core::bail!("a Gram matrix on {device:?}"),
        }
    }

    /// The same with f32 inputs multiplied as `how` says. An error on the CPU, unless that is f32.
    pub fn multiplied(mut self, how: GramPrecision) -> Result<Self> {
        match &mut self.sums {
            Sums::Host(_) => how.check_cpu().map_err(candle_core::Error::Msg)?,
            #[cfg(feature = "cuda")]
            Sums::Gpu(sums) => sums.how = how,
        }
        Ok(self)
    }

    /// Adds every token of `x` `[.., dim]` f32, which lies on the device. dim²·tokens operations; on a GPU somewhat more,
    /// up to twice as many where `dim` is small. Errors on other shapes and devices.
    pub fn add(&mut self, x: &Tensor) -> Result<()> {
        if x.dim(D::Minus1)? != self.dim {
            candle_core::bail!("a Gram matrix of {} features was given an input of shape {:?}", self.dim, x.shape());
        }
        if x.elem_count() == 0 {
            return Ok(());
        }
        let (dim, precision) = (self.dim, self.precision);
        match &mut self.sums {
            Sums::Host(sums) => with_f32(x, |x| {
                cpu::add(sums, x, dim, precision);
                Ok(())
            })?,
            #[cfg(feature = "cuda")]
            Sums::Gpu(sums) => sums.add(x, dim, precision)?,
        }
        self.tokens += x.elem_count() / dim;
        Ok(())
    }

    /// Tokens seen so far.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// The full symmetric matrix, `[dim, dim]`, every element multiplied by `factor`. Errors when the device does.
    pub fn finish(self, factor: f32) -> Result<SquareMatrix> {
        match self.sums {
            Sums::Host(sums) => Ok(SquareMatrix::from(mirrored(sums, self.dim, factor))),
            #[cfg(feature = "cuda")]
            Sums::Gpu(sums) => sums.finish(self.dim, factor),
        }
    }
}

/// Bytes of a GPU's memory that [`Gram::add`] takes beside the sum, for `tokens` inputs of `dim` features.
pub fn gpu_scratch(tokens: usize, dim: usize, precision: Precision, products: GramPrecision) -> usize {
    let copies = match (precision, products) {
        (Precision::F32, GramPrecision::F32 | GramPrecision::Tf32) => 0,
        (Precision::F32, GramPrecision::Bf16x3) => 2,
        (Precision::Bf16 | Precision::F16, _) => 1,
    };
    copies * 2 * tokens.min(TOKENS) * dim
}

/// The lower triangle times `factor`, on both sides of the diagonal.
fn mirrored(mut sums: Vec<f32>, n: usize, factor: f32) -> Vec<f32> {
    // Square pieces, so that the strided side of the mirror stays in the cache.
    const PIECE: usize = 32;
    let base = Base(sums.as_mut_ptr());
    (0..n.div_ceil(PIECE)).into_par_iter().for_each(|i| {
        let first = i * PIECE;
        for left in (first..n).step_by(PIECE) {
            for row in first..n.min(first + PIECE) {
                for col in left.max(row + 1)..n.min(left + PIECE) {
                    // SAFETY: both lie inside; tasks write above the diagonal, each its own rows, and read below it.
                    unsafe { *base.at(row * n + col) = factor * *base.at(col * n + row) };
                }
            }
        }
    });
    sums.par_chunks_exact_mut(n.max(1)).enumerate().for_each(|(row, sums)| {
        sums[..=row].iter_mut().for_each(|sum| *sum *= factor);
    });
    sums
}

/// The beginning of a matrix that several tasks write to.
struct Base(*mut f32);

// SAFETY: users of the address keep tasks out of each other's way.
unsafe impl Sync for Base {}

impl Base {
    fn at(&self, index: usize) -> *mut f32 {
        self.0.wrapping_add(index)
    }
}

/// A symmetric H `[n, n]` in the form that tr(W H Wᵀ) is computed with: made once for all weights.
///
/// With [`Precision::Bf16`] W and the off-diagonal part of H are rounded to bfloat16; the diagonal, which all adds up with one
/// sign, is not. The result is then off by some 1e-4 of itself when W is bfloat16 already, 1e-3 if not: good for a report, not
/// for a decision.
pub struct Quadratic<'a> {
    h: &'a SquareMatrix,
    #[cfg_attr(not(feature = "cuda"), allow(dead_code))]
    precision: Precision,
    /// On the CPU.
    half: Option<cpu::Half>,
}

impl<'a> Quadratic<'a> {
    /// On the CPU a copy of H, of 2·n² bytes with [`Precision::Bf16`] and else 4·n².
    pub fn new(h: &'a SquareMatrix, precision: Precision) -> Result<Self> {
        let on_cpu = h.device().is_cpu();
        let half = if on_cpu { Some(cpu::Half::new(&h.to_host()?, h.n(), precision)) } else { None };
        Ok(Self { h, precision, half })
    }

    /// tr(W H Wᵀ) for `w`, row-major `[rows, n]`; rows·n² operations, on a GPU 2·rows·n².
    ///
    /// On a GPU W goes there in pieces of 2²⁴ elements: 128 MiB at a time, and with [`Precision::Bf16`] 32 MiB and 2·n² bytes
    /// more. Errors when the device does.
    ///
    /// # Panics
    /// If `w` has no whole number of rows.
    pub fn trace(&self, w: &[f32]) -> Result<f64> {
        let n = self.h.n();
        assert!(w.len().is_multiple_of(n.max(1)), "{} weights in rows of {n}", w.len());
        match &self.half {
            Some(half) => Ok(half.quadratic(w, n)),
            #[cfg(feature = "cuda")]
            None => cuda::quadratic(w, self.h, self.precision),
            #[cfg(not(feature = "cuda"))]
            None => candle_core::bail!("a matrix on {:?}", self.h.device()),
        }
    }
}

/// Rows of a weight of `n` columns that [`Quadratic`] has on a GPU at a time.
fn piece_rows(n: usize) -> usize {
    (WEIGHTS / n.max(1)).max(1)
}

/// Bytes of a GPU's memory that [`Quadratic::trace`] takes beside H, for a weight `[rows, n]`.
pub fn quadratic_gpu_scratch(rows: usize, n: usize, precision: Precision) -> usize {
    let piece = rows.min(piece_rows(n)) * n;
    match precision {
        // W, the product and W rounded; H rounded, and its diagonal.
        Precision::Bf16 => 10 * piece + 2 * n * n + 4 * n,
        Precision::F32 | Precision::F16 => 8 * piece,
    }
}
