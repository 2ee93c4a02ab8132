//! The definition.

use super::Precision;

/// `x [n, cols]` times `w [m, cols]` transposed, in f64 after rounding both to `precision`: `[n, m]`.
pub(crate) fn product(x: &[f32], w: &[f32], cols: usize, precision: Precision) -> Vec<f64> {
    let mut y = Vec::new();
    for x in x.chunks_exact(cols) {
        for w in w.chunks_exact(cols) {
            y.push(x.iter().zip(w).map(|(&a, &b)| f64::from(precision.round(a)) * f64::from(precision.round(b))).sum());
        }
    }
    y
}
