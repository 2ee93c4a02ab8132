//! The loss of a block's output.

use candle_core::{D, Tensor};
use paring_kernels::squared_error::{squared_error, weighted_squared_error};

use crate::Result;

/// The measure of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// The mean of squares.
    Plain,
    /// The mean of squares, each divided by the mean square of its token in the target.
    ///
    /// Every later block begins with a norm, which divides a token by its size, so that its error counts as a share of that. A plain
    /// mean is the error of a few tokens: many models give the first token of a sequence numbers a hundred times larger than the others'.
    Relative,
}

impl Measure {
    /// The mean over a batch `[b, t, dim]`, and the gradient of `y`.
    pub(super) fn of(self, y: &Tensor, target: &Tensor) -> Result<(f64, Tensor)> {
        match self {
            Self::Plain => Ok(squared_error(y, target)?),
            Self::Relative => {
                let squares: Vec<f32> = target.sqr()?.mean(D::Minus1)?.flatten_all()?.to_vec1()?;
                // A token of zeros has no share.
                let weights: Vec<f32> = squares.into_iter().map(|square| square.max(LEAST).recip()).collect();
                Ok(weighted_squared_error(y, target, &weights)?)
            }
        }
    }
}

/// The least mean square of a token.
const LEAST: f32 = 1e-12;
