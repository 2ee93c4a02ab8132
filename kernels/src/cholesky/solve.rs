//! Equations with a symmetric matrix.

use faer::{Mat, MatMut};

use super::NotPositive;
use crate::products;

/// A symmetric positive definite H `[n, n]`, factored in f64 for X H = B: regression on inputs whose Gram matrix is H.
///
/// In f64, since H of correlated inputs has condition numbers of 1e5 and more: f32 would leave few digits of X where H is small.
pub struct Solver {
    /// L with H = L Lᵀ, on and below the diagonal.
    lower: Mat<f64>,
}

impl Solver {
    /// Factors `h`, row-major `[n, n]`, with `diagonal` in place of its own; 8·n² bytes and n³/3 operations. Errors with the first
    /// pivot that is not positive.
    ///
    /// # Panics
    /// If `h` is not `[n, n]`.
    pub fn new(h: &[f32], diagonal: &[f64]) -> Result<Self, NotPositive> {
        let n = diagonal.len();
        assert_eq!(h.len(), n * n, "a square matrix of {n} rows");
        // Symmetric: a row that is read along memory is a column that is written so.
        let mut lower = Mat::<f64>::zeros(n, n);
        for j in 0..n {
            let row = &h[j * n..][..n];
            lower.col_as_slice_mut(j)[j..].iter_mut().zip(&row[j..]).for_each(|(to, from)| *to = f64::from(*from));
            lower[(j, j)] = diagonal[j];
        }
        products::cholesky(lower.as_mut()).map_err(|index| NotPositive { index })?;
        let bad = (0..n).find(|&i| !(lower[(i, i)] > 0.0 && lower[(i, i)].recip().is_finite()));
        bad.map_or(Ok(Self { lower }), |index| Err(NotPositive { index }))
    }

    /// Rows of H.
    pub fn n(&self) -> usize {
        self.lower.nrows()
    }

    /// X with X H = B for `b`, row-major `[rows, n]`; 16 bytes for each number and 2·rows·n² operations.
    ///
    /// # Panics
    /// If `b` has no whole number of rows.
    pub fn solve(&self, b: &[f32]) -> Vec<f32> {
        let n = self.n();
        assert!(b.len().is_multiple_of(n.max(1)), "{} numbers in rows of {n}", b.len());
        let rows = b.len() / n.max(1);
        let mut x: Vec<f64> = b.iter().map(|&v| f64::from(v)).collect();
        products::solve_right(self.lower.as_ref(), MatMut::from_row_major_slice_mut(&mut x, rows, n));
        x.into_iter().map(|v| v as f32).collect()
    }

    /// Row `i` of H⁻¹.
    pub fn inverse_row(&self, i: usize) -> Vec<f64> {
        let n = self.n();
        let mut unit = vec![0f64; n];
        unit[i] = 1.0;
        products::solve_right(self.lower.as_ref(), MatMut::from_row_major_slice_mut(&mut unit, 1, n));
        unit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gram::reference;
    use crate::matmul::Precision;
    use crate::test_values;

    #[test]
    fn solutions_give_back_the_right_side() {
        for (n, rows) in [(1, 1), (5, 3), (70, 130), (300, 257), (700, 9)] {
            let x = test_values(2 * n * n, 1.0, 3);
            let h: Vec<f32> = reference::gram(&x, n, Precision::F32).iter().map(|&v| v as f32).collect();
            let diagonal: Vec<f64> = h.iter().step_by(n + 1).map(|&d| f64::from(d) * 1.01).collect();
            let solver = Solver::new(&h, &diagonal).unwrap();
            let b = test_values(rows * n, 1.0, 4);
            let made = solver.solve(&b);
            let at = |i: usize, j: usize| if i == j { diagonal[i] } else { f64::from(h[i * n + j]) };
            let unit = solver.inverse_row(n / 2);
            for j in (0..n).step_by(13) {
                for r in (0..rows).step_by(7) {
                    let back: f64 = (0..n).map(|i| f64::from(made[r * n + i]) * at(i, j)).sum();
                    // X is rounded to f32, and the sum has n terms of up to some hundreds.
                    assert!((back - f64::from(b[r * n + j])).abs() < 1e-3, "{n}: {r}, {j}: {back}");
                }
                let one: f64 = (0..n).map(|i| unit[i] * at(i, j)).sum();
                assert!((one - f64::from(u8::from(j == n / 2))).abs() < 1e-9, "{n}: {j}: {one}");
            }
        }
        assert_eq!(Solver::new(&[1.0, 0.0, 0.0, 1.0], &[1.0, 0.0]).err(), Some(NotPositive { index: 1 }));
        assert!(Solver::new(&[1.0], &[f64::NAN]).is_err());
    }
}
