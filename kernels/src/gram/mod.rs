//! Gram matrices: sums of x xᵀ and of x² over tokens.
//!
//! A Gram matrix is symmetric, so only the part on and below the diagonal is summed; [`Gram::finish`] mirrors it.

mod cpu;
mod reference;

use candle_core::{Device, Result, Tensor};

use crate::matmul::Precision;
use crate::square::Square;
use crate::with_f32;

/// The running sum Σ x xᵀ over tokens.
pub struct Gram {
    dim: usize,
    sums: Vec<f32>,
    tokens: usize,
    precision: Precision,
}

impl Gram {
    /// An empty sum on the CPU for inputs of `dim` features. With [`Precision::Bf16`] the inputs are rounded to bfloat16, as the
    /// products of the forward pass round them; products and sums stay f32.
    pub fn new(dim: usize, precision: Precision) -> Self {
        Self { dim, sums: vec![0.0; dim * dim], tokens: 0, precision }
    }

    /// [`Gram::new`] on a device, for inputs that lie there.
    pub fn on(device: &Device, dim: usize, precision: Precision) -> Result<Self> {
        match device {
            Device::Cpu => Ok(Self::new(dim, precision)),
            _ => candle_core::bail!("a Gram matrix on {device:?}"),
        }
    }

    /// Adds every token of `x` `[.., dim]` f32. 2·dim²·tokens/2 operations.
    pub fn add(&mut self, x: &Tensor) -> Result<()> {
        if x.dim(candle_core::D::Minus1)? != self.dim {
            candle_core::bail!("a Gram matrix of {} features was given an input of shape {:?}", self.dim, x.shape());
        }
        with_f32(x, |x| {
            self.tokens += x.len() / self.dim;
            cpu::add(&mut self.sums, x, self.dim, self.precision);
            Ok(())
        })
    }

    /// Tokens seen so far.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// The full symmetric matrix, `[dim, dim]`, every element multiplied by `factor`.
    pub fn finish(mut self, factor: f32) -> Square {
        let n = self.dim;
        // Square pieces, so that the strided side of the mirror stays in the cache.
        const PIECE: usize = 32;
        for first in (0..n).step_by(PIECE) {
            for left in (0..=first).step_by(PIECE) {
                for i in first..(first + PIECE).min(n) {
                    for j in left..(left + PIECE).min(i + 1) {
                        let v = self.sums[i * n + j] * factor;
                        self.sums[i * n + j] = v;
                        self.sums[j * n + i] = v;
                    }
                }
            }
        }
        Square::from(self.sums)
    }
}

/// Adds Σ x² over the tokens of `x` `[.., dim]` f32 to `sums` `[dim]` (in f64: a few thousand features at most).
pub fn add_squares(sums: &mut [f64], x: &Tensor) -> Result<()> {
    with_f32(x, |x| {
        for token in x.chunks_exact(sums.len()) {
            for (s, &v) in sums.iter_mut().zip(token) {
                *s += f64::from(v) * f64::from(v);
            }
        }
        Ok(())
    })
}

/// tr(W H Wᵀ) for `w`, row-major `[rows, n]`, and the symmetric `h`, `[n, n]`; rows·n² operations.
///
/// With [`Precision::Bf16`], on processors that have the instruction, W and the off-diagonal part of H are rounded to
/// bfloat16; the diagonal, which all adds up with one sign, is not. The result is then off by some 1e-4 of itself when W
/// is bfloat16 already, 1e-3 if not: good for a report, not for a decision.
pub fn quadratic(w: &[f32], h: &Square, precision: Precision) -> Result<f64> {
    Ok(cpu::quadratic(w, &h.to_host()?, h.n(), precision))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_definition() {
        for (tokens, dim) in [(1, 1), (7, 5), (33, 64), (130, 70), (257, 300)] {
            for precision in [Precision::F32, Precision::Bf16, Precision::F16] {
                let x =
                    Tensor::from_vec(crate::test_values(tokens * dim, 1.0, 1), (tokens, dim), &Device::Cpu).unwrap();
                let mut gram = Gram::new(dim, precision);
                gram.add(&x).unwrap();
                gram.add(&x).unwrap();
                assert_eq!(gram.tokens(), 2 * tokens);
                let got = gram.finish(0.5).to_host().unwrap().into_owned();
                let values = x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                let want = reference::gram(&values, dim, precision);
                for (i, (g, w)) in got.iter().zip(&want).enumerate() {
                    // f32 sums of `tokens` products of order one.
                    let bound = 1e-6 * (tokens as f64) + 1e-5;
                    assert!((f64::from(*g) - w).abs() < bound, "{tokens}x{dim} {precision:?} at {i}: {g} want {w}");
                }
            }
        }
    }

    #[test]
    fn squares_are_the_diagonal() {
        let x = Tensor::from_vec(crate::test_values(216, 1.0, 1), (2, 9, 12), &Device::Cpu).unwrap();
        let mut sums = vec![0.0; 12];
        add_squares(&mut sums, &x).unwrap();
        let want = reference::gram(&x.flatten_all().unwrap().to_vec1::<f32>().unwrap(), 12, Precision::F32);
        for (j, s) in sums.iter().enumerate() {
            assert!((s - want[j * 12 + j]).abs() < 1e-9);
        }
    }

    #[test]
    fn quadratic_agrees_with_the_definition() {
        let (rows, n) = (9, 40);
        let (w, x) = (crate::test_values(rows * n, 1.0, 1), crate::test_values(60 * n, 1.0, 2));
        let h: Vec<f32> = reference::gram(&x, n, Precision::F32).iter().map(|&v| v as f32).collect();
        let h = Square::from(h);
        let mut want = 0f64;
        for w in w.chunks_exact(n) {
            for x in x.chunks_exact(n) {
                want += w.iter().zip(x).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>().powi(2);
            }
        }
        let got = quadratic(&w, &h, Precision::F32).unwrap();
        assert!((got / want - 1.0).abs() < 1e-5, "{got} want {want}");
    }

    #[test]
    fn quadratic_in_bf16_is_near_the_definition() {
        for (rows, n) in [(1, 1), (9, 40), (70, 129), (131, 200)] {
            let (w, x) = (crate::test_values(rows * n, 1.0, 1), crate::test_values(60 * n, 1.0, 2));
            let w: Vec<f32> = w.iter().map(|&v| Precision::Bf16.round(v)).collect();
            let h: Vec<f32> = reference::gram(&x, n, Precision::F32).iter().map(|&v| v as f32).collect();
            let h = Square::from(h);
            let [want, got] = [Precision::F32, Precision::Bf16].map(|precision| quadratic(&w, &h, precision).unwrap());
            // Off-diagonal elements are off by 2^-9 of themselves, each with its own sign, and are smaller than the
            // diagonal ones.
            assert!((got / want - 1.0).abs() < 5e-4, "{rows}x{n}: {got} want {want}");
        }
    }
}
