//! The factor of a Gram matrix, with as much damping as it needs, and sums that have none.

use paring_kernels::cholesky::{Factor, Failed, NotPositive, factor_of};
use paring_kernels::square_matrix::SquareMatrix;

use crate::{Error, Result};

/// Attempts at a factorization with more damping, after the first.
const RETRIES: usize = 3;

/// The factor of `h` with the diagonal that `damped` makes of a damping, in visiting order; and that damping: `percdamp`
/// or, where the matrix is not positive definite with it, ten times as much, up to [`RETRIES`] times.
pub(super) fn factor_damped(
    h: &SquareMatrix,
    order: Option<&[usize]>,
    damped: impl Fn(f64) -> Vec<f32>,
    percdamp: f64,
    module: &str,
) -> Result<(Factor, f64)> {
    let (mut damp, mut retries) = (percdamp, RETRIES);
    loop {
        let NotPositive { index, .. } = match factor_of(h, order, &damped(damp)) {
            Ok(factor) => return Ok((factor, damp)),
            Err(Failed::Device(e)) => return Err(e.into()),
            Err(Failed::NotPositive(e)) => e,
        };
        let pivot = order.map_or(index, |order| order[index]);
        if retries == 0 {
            return Err(Error::Singular { module: module.to_string(), pivot, damp });
        }
        tracing::debug!(module, damp, pivot, "not positive definite");
        retries -= 1;
        damp = if damp == 0.0 { 1e-3 } else { damp * 10.0 };
    }
}

/// An error when there is a feature whose statistics are not finite.
pub(super) fn finite(bad: Option<usize>, module: &str) -> Result<()> {
    match bad {
        Some(feature) => Err(Error::Activations { module: module.to_string(), feature }),
        None => Ok(()),
    }
}
