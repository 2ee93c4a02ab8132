//! The definition.

use crate::matmul::Precision;

/// Σ x xᵀ over the tokens of `x` `[n, dim]`, in f64, row-major `[dim, dim]`.
#[cfg_attr(not(test), allow(dead_code))]
pub(super) fn gram(x: &[f32], dim: usize, precision: Precision) -> Vec<f64> {
    let mut sums = vec![0.0; dim * dim];
    for token in x.chunks_exact(dim) {
        for i in 0..dim {
            for j in 0..dim {
                sums[i * dim + j] += f64::from(precision.round(token[i])) * f64::from(precision.round(token[j]));
            }
        }
    }
    sums
}
