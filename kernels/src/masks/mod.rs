//! Masks that lose less than those of one sweep, and the best weights under a mask.
//!
//! All of it lowers tr((T − D) H (T − D)ᵀ) for a target T, the weights as they were, and a sparse D that a sweep or another
//! rule made: [`refine`] changes the choice inside groups of columns and the weights that stay, and [`alternate`] finds a
//! mask of its own. Rows that would lose more than they did are left as they were, so the error never rises.
//!
//! Everything runs on the CPU, in host memory. A task does a strip of rows from beginning to end, because rows meet only in
//! H; the result does not depend on the number of threads.

mod admm;
mod descent;
mod exact;
mod objective;
#[cfg(test)]
mod reference;
mod refit;
mod swaps;
#[cfg(test)]
mod tests;

pub use admm::{Admm, Failed, Removal, alternate};
pub use descent::Choice;
pub use objective::Objective;

use rayon::prelude::*;

use crate::matmul::Precision;
use crate::sweep::strips::LANES;
use descent::Descent;

/// Work on weights that a sweep or another rule made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refine {
    /// The choice of the weights that stay, and how often each group chooses; `None`: the mask stays.
    pub descent: Option<(Choice, usize)>,
    /// Steps of conjugate gradients on the weights that stay.
    pub steps: usize,
}

/// Sums over all rows of (T − D) H (T − D)ᵀ.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Errors {
    /// Of the weights that were given.
    pub before: f64,
    /// After descent, before the steps and the rounding to the stored type.
    pub between: f64,
    /// Of those that came out: not more than before.
    pub after: f64,
}

impl std::iter::Sum for Errors {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |a, b| Self {
            before: a.before + b.before,
            between: a.between + b.between,
            after: a.after + b.after,
        })
    }
}

/// Lowers the error of `weight` against `target`, both row-major `[rows, n]`. `dropped` has 1 for weights that are removed,
/// before and after: one that stays may be 0 all the same. The result is rounded to the type that it is stored in. A row
/// that is not better for it stays as it was.
///
/// rows · n² · (passes + steps + 2) multiplications beside the comparisons of patterns, and n · 24 bytes for each of the 48
/// rows that a thread has at hand.
///
/// # Panics
/// If lengths differ, or groups of [`Choice::Keep`] do not divide n.
pub fn refine(
    objective: &Objective,
    target: &[f32],
    (weight, dropped): (&mut [f32], &mut [u8]),
    work: Refine,
    stored: Precision,
) -> Errors {
    assert!(target.len() == weight.len() && weight.len() == dropped.len());
    let (strip, inverse) = (LANES * objective.n(), objective.inverse_diagonal());
    let descent = work.descent.map(|(choice, passes)| (Descent::new(objective, &inverse, choice), passes));
    let strips = weight.par_chunks_mut(strip).zip(dropped.par_chunks_mut(strip)).zip(target.par_chunks(strip));
    let errors: Vec<Errors> = strips
        .with_max_len(1)
        .map(|((weight, dropped), target)| {
            let (start, marks) = (weight.to_vec(), dropped.to_vec());
            let mut residual = Vec::new();
            let before = objective.errors(target, weight, &mut residual);
            let mut between = before.clone();
            if let Some((descent, passes)) = &descent {
                (0..*passes).for_each(|_| descent.pass(weight, dropped, &mut residual));
                between = objective.errors_of(target, weight, &residual);
            }
            refit::solve(objective, weight, dropped, &inverse, residual, work.steps);
            objective.settle(target, stored, (weight, dropped), (&start, &marks), [&before, &between])
        })
        .collect();
    errors.into_iter().sum()
}
