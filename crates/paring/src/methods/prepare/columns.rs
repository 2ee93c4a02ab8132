//! Columns of a matrix that nothing ever came in through.

use rayon::prelude::*;

/// Sets columns of a matrix to zero.
pub(super) fn clear(weight: &mut [f32], cols: usize, columns: &[usize]) {
    weight.par_chunks_exact_mut(cols).for_each(|row| columns.iter().for_each(|&j| row[j] = 0.0));
}
