//! The upper Cholesky factor of an inverse.

mod reference;

use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::cholesky::llt::factor::LltParams;
use faer::linalg::triangular_inverse::invert_lower_triangular;
use faer::{Mat, MatRef};
use rayon::prelude::*;

use crate::parallelism;

/// A pivot that is not positive: the matrix is not positive definite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("pivot {index} is not positive")]
pub struct NotPositive {
    /// Row and column of the pivot in the matrix that was given.
    pub index: usize,
}

/// U, upper triangular and row-major `[n, n]`, with H⁻¹ = UᵀU, for the symmetric `h` (row-major `[n, n]`).
///
/// One factorisation and one triangular inverse in f64: with rows and columns of H reversed, H' = L Lᵀ; reversed back,
/// U = L⁻¹ (GPTQ, arXiv 2210.17323, section 3.3, takes the Cholesky factor of the inverse; this equals it without
/// inverting H). 2n³/3 operations.
///
/// # Errors
/// The index of the first pivot that is not positive (or not finite).
pub fn inverse_factor(h: &[f32], n: usize) -> Result<Vec<f32>, NotPositive> {
    assert_eq!(h.len(), n * n, "a square matrix of {n} rows");
    let full = MatRef::from_row_major_slice(h, n, n).reverse_rows_and_cols();
    let mut lower = Mat::<f64>::zeros(n, n);
    for j in 0..n {
        // H is symmetric: its row j is read along memory, as column j is written.
        for (i, to) in lower.col_as_slice_mut(j).iter_mut().enumerate().skip(j) {
            *to = f64::from(full[(j, i)]);
        }
    }
    let par = parallelism();
    let params = faer::Spec::<LltParams, f64>::default();
    let scratch = faer::linalg::cholesky::llt::factor::cholesky_in_place_scratch::<f64>(n, par, params);
    let mut buffer = MemBuffer::new(scratch);
    let stack = MemStack::new(&mut buffer);
    faer::linalg::cholesky::llt::factor::cholesky_in_place(lower.as_mut(), Default::default(), par, stack, params)
        .map_err(|e| {
            let faer::linalg::cholesky::llt::factor::LltError::NonPositivePivot { index } = e;
            NotPositive { index: n - 1 - index.min(n - 1) }
        })?;
    if let Some(index) = (0..n).find(|&i| !lower[(i, i)].is_finite()) {
        return Err(NotPositive { index: n - 1 - index });
    }
    let mut inverse = Mat::<f64>::zeros(n, n);
    invert_lower_triangular(inverse.as_mut(), lower.as_ref(), par);
    drop(lower);
    let reversed = inverse.as_ref().reverse_rows_and_cols();
    let mut u = vec![0f32; n * n];
    // Square pieces, because one side is read across memory.
    const PIECE: usize = 32;
    u.par_chunks_mut(PIECE * n).enumerate().for_each(|(piece, rows)| {
        let first = piece * PIECE;
        for left in (first..n).step_by(PIECE) {
            for (i, row) in rows.chunks_exact_mut(n).enumerate() {
                for j in left.max(first + i)..(left + PIECE).min(n) {
                    row[j] = reversed[(first + i, j)] as f32;
                }
            }
        }
    });
    Ok(u)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A Gram matrix of `tokens` pseudo-random inputs plus `damp` on the diagonal.
    fn gram(n: usize, tokens: usize, damp: f32) -> Vec<f32> {
        let mut state = 7u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        };
        let x: Vec<f32> = (0..tokens * n).map(|_| next()).collect();
        let mut h = vec![0f32; n * n];
        for x in x.chunks_exact(n) {
            for i in 0..n {
                for j in 0..n {
                    h[i * n + j] += x[i] * x[j];
                }
            }
        }
        (0..n).for_each(|i| h[i * n + i] += damp);
        h
    }

    #[test]
    fn the_factor_inverts_the_matrix() {
        for n in [1, 2, 17, 64, 150] {
            let h = gram(n, 2 * n, 0.5);
            let u = inverse_factor(&h, n).unwrap();
            // U H Uᵀ = I.
            for i in 0..n {
                for j in 0..n {
                    let mut sum = 0f64;
                    for a in i..n {
                        for b in j..n {
                            sum += f64::from(u[i * n + a]) * f64::from(h[a * n + b]) * f64::from(u[j * n + b]);
                        }
                    }
                    let want = f64::from(i == j);
                    assert!((sum - want).abs() < 1e-5, "n {n}, element {i},{j}: {sum}");
                }
                assert!(u[i * n..i * n + i].iter().all(|&v| v == 0.0));
            }
        }
    }

    #[test]
    fn agrees_with_the_definition() {
        let n = 40;
        let h = gram(n, 60, 0.1);
        let (fast, plain) = (inverse_factor(&h, n).unwrap(), reference::inverse_factor(&h, n).unwrap());
        for (f, p) in fast.iter().zip(plain) {
            assert!((f64::from(*f) - p).abs() < 1e-6 * p.abs().max(1.0), "{f} want {p}");
        }
    }

    #[test]
    fn a_pivot_that_is_not_positive_is_named() {
        let n = 5;
        let mut h = gram(n, 9, 0.0);
        for k in 0..n {
            h[2 * n + k] = 0.0;
            h[k * n + 2] = 0.0;
        }
        assert_eq!(inverse_factor(&h, n), Err(NotPositive { index: 2 }));
        assert_eq!(reference::inverse_factor(&h, n), Err(NotPositive { index: 2 }));
        assert!(inverse_factor(&vec![f32::NAN; n * n], n).is_err());
    }
}
