//! Masks that lose less than those of one sweep, and the best weights under a mask.
//!
//! All of it lowers tr((T − D) H (T − D)ᵀ) for a target T, the weights as they were, and a sparse D that a sweep or another
//! rule made: [`least_squares`] changes the weights that D keeps, [`descend`] the choice inside groups of columns, and
//! [`alternate`] finds a mask of its own. Rows that would lose more than they did are left as they were, so the error never
//! rises.
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
pub use descent::{Choice, descend};
pub use objective::Objective;
pub use refit::least_squares;

/// Sums over all rows of (T − D) H (T − D)ᵀ.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Errors {
    /// Of the weights that were given.
    pub before: f64,
    /// Of those that came out: not more.
    pub after: f64,
}

impl std::iter::Sum for Errors {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |a, b| Self { before: a.before + b.before, after: a.after + b.after })
    }
}
