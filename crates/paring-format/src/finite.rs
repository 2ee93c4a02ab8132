//! A check that floats are finite.

use crate::{Error, Result};

/// Tells whether all values are finite. Without an early end, so that the loop is one of vectors.
pub(crate) fn all_finite(values: &[f32]) -> bool {
    values.iter().fold(true, |all, value| all & value.is_finite())
}

/// Errors at the first NaN or infinity; `first` is the index of `values[0]` in its tensor.
pub(crate) fn check_finite(values: &[f32], cols: usize, first: usize, tensor: &str, file: &str) -> Result<()> {
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(at) => Err(Error::NotFinite {
            tensor: tensor.to_string(),
            file: file.to_string(),
            index: first + at,
            cols,
            value: values[at],
        }),
    }
}
