//! The shift of weights, before anything is removed or rounded, towards what the dense model computes.
//!
//! A linear of a compressed model sees inputs x where the dense model has x', and adds its output to sums s where that has s'.
//! The weights that come nearest to the dense model's sum, |W* x − W x' − (s' − s)|² over all tokens, are
//! W* = W + (W C + S)(H + λ)⁻¹ with H = Σ x xᵀ, C = Σ (x' − x) xᵀ and S = Σ (s' − s) xᵀ. Since the distance of any Q from
//! them is tr((Q − W*) H (Q − W*)ᵀ) but for a constant, every method compresses W* as it would W, without a change. A share of the
//! shift is QEP (arXiv 2504.09629) where S is left out; all of it, and one more step for the first column, is Qronos (arXiv 2505.11695).

use paring_kernels::cholesky::Solver;
use paring_kernels::masks::{self, Objective, Refine};
use paring_kernels::matmul::{Precision, product};
use paring_kernels::square_matrix::SquareMatrix;
use rayon::prelude::*;

use super::masks::STEPS;
use crate::pipeline::drift::Drift;
use crate::plan::DenseStream;
use crate::{Error, Result};

/// Damping of a shift by a share, as a multiple of the sweep's: what the drift of the smallest inputs seems to say is mostly noise. Ten times
/// is better than once in all that docs/dev/lab-notes.md compares.
pub(crate) const RIDGE: f64 = 10.0;
/// Attempts to factor a Gram matrix, each with ten times the damping of the one before.
const ATTEMPTS: usize = 4;

/// The shift of the linears of a fan.
pub(crate) struct Shift<'a> {
    drift: &'a Drift,
    how: DenseStream,
    /// Row-major, not damped.
    h: Vec<f32>,
    /// The diagonal of the damped one.
    damped: Vec<f64>,
    solver: Solver,
}

/// Weights that were shifted.
pub(crate) struct Shifted {
    /// Row-major `[rows, cols]`.
    pub weight: Vec<f32>,
    /// tr((W* − W) (H + λ) (W* − W)ᵀ) of the shift without regard to zeros: the error that it takes back.
    pub removed: f64,
}

impl<'a> Shift<'a> {
    /// For the Gram matrix `h` of a fan's inputs, damped by a share `damp` of its mean diagonal, for shares of the shift by [`RIDGE`]
    /// times that; inputs that were always zero count as 1 before that. cols³/3 operations and 20·cols² bytes. Errors, naming `module`, where it cannot be factored with a thousand
    /// times the damping either.
    pub fn new(h: &SquareMatrix, drift: &'a Drift, how: DenseStream, damp: f64, module: &str) -> Result<Self> {
        let h = h.to_host()?.into_owned();
        let n = h.len().isqrt();
        let filled: Vec<f64> = h.iter().step_by(n + 1).map(|&d| if d == 0.0 { 1.0 } else { f64::from(d) }).collect();
        let mean = filled.iter().sum::<f64>() / n.max(1) as f64;
        let mut failed = None;
        // Qronos solves the equations of the sweep after it.
        let damp = if how == DenseStream::Qronos { damp } else { RIDGE * damp };
        for attempt in 0..ATTEMPTS {
            let added = damp * 10f64.powi(attempt as i32) * mean;
            let damped: Vec<f64> = filled.iter().map(|d| d + added).collect();
            match Solver::new(&h, &damped) {
                Ok(solver) => return Ok(Self { drift, how, h, damped, solver }),
                Err(pivot) => failed = Some(pivot),
            }
        }
        let reason = failed.map_or_else(String::new, |pivot| format!(": {pivot}"));
        Err(Error::Plan(format!(
            "{module}: the Gram matrix of its inputs cannot be factored{reason}; use more calibration data"
        )))
    }

    /// `weight` shifted, row-major `[rows, cols]`; `first` is the column that is visited first. With `keep_zeros` weights that are
    /// zero stay so, and the others are fitted to the shifted ones. A row whose shift f32 cannot hold stays as it is. 4·rows·cols² operations.
    pub fn apply(&self, weight: &[f32], first: usize, keep_zeros: bool) -> Shifted {
        let cols = self.damped.len();
        let [of_inputs, of_sums] = self.how.shares();
        let moved = product(weight, &self.drift.inputs, cols);
        let mut target: Vec<f32> = moved.iter().map(|v| of_inputs as f32 * v).collect();
        if let Some(sums) = self.drift.sums.as_ref().filter(|sums| of_sums > 0.0 && sums.len() == target.len()) {
            target.par_iter_mut().zip(sums).for_each(|(t, s)| *t += of_sums as f32 * s);
        }
        let mut shifted = self.solver.solve(&target);
        let rows = target.par_chunks_exact(cols).zip(shifted.par_chunks_exact(cols));
        let removed: Vec<f64> =
            rows.map(|(b, x)| b.iter().zip(x).map(|(&b, &x)| f64::from(b) * f64::from(x)).sum()).collect();
        shifted.par_iter_mut().zip(weight).for_each(|(x, w)| *x += w);
        if self.how == DenseStream::Qronos {
            self.first_column(weight, &moved, first, &mut shifted);
        }
        // What is beyond the range of f32 is an error of the linear's own, or of the next product.
        let hold = |(shifted, weight): (&mut [f32], &[f32])| {
            if !shifted.iter().all(|w| w.is_finite()) {
                shifted.copy_from_slice(weight);
            }
        };
        shifted.par_chunks_exact_mut(cols).zip(weight.par_chunks_exact(cols)).for_each(hold);
        let shifted = if keep_zeros && weight.contains(&0.0) { self.masked(weight, &shifted) } else { shifted };
        let removed = removed.into_iter().filter(|removed| removed.is_finite()).sum();
        Shifted { weight: shifted, removed }
    }

    /// Moves the column that is visited first to where it serves best while the others are not compressed, and those to where
    /// they serve best beside it (Qronos, section 3): what it is rounded to decides how they are corrected.
    fn first_column(&self, weight: &[f32], moved: &[f32], first: usize, shifted: &mut [f32]) {
        let cols = self.damped.len();
        let own = f64::from(self.h[first * cols + first]);
        if own <= 0.0 {
            return;
        }
        let row = self.solver.inverse_row(first);
        let rows = weight.par_chunks_exact(cols).zip(moved.par_chunks_exact(cols));
        shifted.par_chunks_exact_mut(cols).zip(rows).for_each(|(shifted, (weight, moved))| {
            let alone = f64::from(weight[first]) + f64::from(moved[first]) / own;
            let by = (alone - f64::from(shifted[first])) / row[first];
            shifted.iter_mut().zip(&row).for_each(|(w, r)| *w = (f64::from(*w) + by * r) as f32);
        });
    }

    /// Weights that are near `target`, by the damped Gram matrix, and zero where `weight` is: from the target without those, which is
    /// nearer than the weights that were not shifted.
    fn masked(&self, weight: &[f32], target: &[f32]) -> Vec<f32> {
        let mut h = self.h.clone();
        let cols = self.damped.len();
        self.damped.iter().enumerate().for_each(|(j, &d)| h[j * cols + j] = d as f32);
        let mut dropped: Vec<u8> = weight.iter().map(|&w| u8::from(w == 0.0)).collect();
        let mut made: Vec<f32> = target.iter().zip(&dropped).map(|(&t, &d)| if d == 1 { 0.0 } else { t }).collect();
        // Two steps did what eight did for the zeros of a dense model (docs/dev/lab-notes.md). A pruned one has as many as a refit: fewer
        // were not tried there.
        let zeros = dropped.iter().filter(|&&d| d == 1).count();
        let steps = if zeros * 4 > dropped.len() { STEPS } else { STEPS / 4 };
        let work = Refine { descent: None, steps };
        masks::refine(&Objective::new(h), target, (&mut made, &mut dropped), work, Precision::F32);
        made
    }
}
