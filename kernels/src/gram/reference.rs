//! The definitions.

use crate::matmul::Precision;

/// Σ x xᵀ over the tokens of `x` `[n, dim]`, in f64, row-major `[dim, dim]`.
pub(crate) fn gram(x: &[f32], dim: usize, precision: Precision) -> Vec<f64> {
    let x: Vec<f64> = x.iter().map(|&v| f64::from(precision.round(v))).collect();
    let mut sums = vec![0.0; dim * dim];
    for token in x.chunks_exact(dim) {
        for (sums, &v) in sums.chunks_exact_mut(dim).zip(token) {
            sums.iter_mut().zip(token).for_each(|(sum, &w)| *sum += v * w);
        }
    }
    sums
}

/// Σ y xᵀ over the tokens of `y [n, rows]` and `x [n, cols]`, in f64, row-major `[rows, cols]`.
#[cfg(test)]
pub(crate) fn cross((y, rows): (&[f32], usize), (x, cols): (&[f32], usize), precision: Precision) -> Vec<f64> {
    let mut sums = vec![0.0; rows * cols];
    for (y, x) in y.chunks_exact(rows).zip(x.chunks_exact(cols)) {
        for (sums, &y) in sums.chunks_exact_mut(cols).zip(y) {
            let y = f64::from(precision.round(y));
            sums.iter_mut().zip(x).for_each(|(sum, &x)| *sum += y * f64::from(precision.round(x)));
        }
    }
    sums
}

/// tr(W Σ x xᵀ Wᵀ) = Σ (w · x)² for `w` `[rows, n]` and the tokens `x` `[tokens, n]`.
pub(crate) fn quadratic(w: &[f32], x: &[f32], n: usize) -> f64 {
    let dot = |w: &[f32], x: &[f32]| w.iter().zip(x).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    w.chunks_exact(n).map(|w| x.chunks_exact(n).map(|x| dot(w, x).powi(2)).sum::<f64>()).sum()
}
