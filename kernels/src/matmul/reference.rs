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

/// x Wᵀ + b in f64, for `x [n, cols]`, `w [rows, cols]` and `b [rows]`.
#[cfg(test)]
pub(crate) fn linear(x: &[f64], w: &[f64], b: &[f64]) -> Vec<f64> {
    let cols = w.len() / b.len();
    let dot = |x: &[f64], w: &[f64]| x.iter().zip(w).map(|(a, b)| a * b).sum::<f64>();
    x.chunks_exact(cols).flat_map(|x| w.chunks_exact(cols).zip(b).map(|(w, b)| dot(x, w) + b)).collect()
}

/// The gradients of `x [n, cols]`, `w [rows, cols]` and of the bias, for `dy [n, rows]`.
#[cfg(test)]
pub(crate) fn backward(dy: &[f64], x: &[f64], w: &[f64], rows: usize) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let cols = w.len() / rows;
    let (mut dx, mut dw, mut db) = (vec![0.0; x.len()], vec![0.0; w.len()], vec![0.0; rows]);
    for (token, dy) in dy.chunks_exact(rows).enumerate() {
        for (row, dy) in dy.iter().enumerate() {
            db[row] += dy;
            for col in 0..cols {
                dx[token * cols + col] += dy * w[row * cols + col];
                dw[row * cols + col] += dy * x[token * cols + col];
            }
        }
    }
    (dx, dw, db)
}
