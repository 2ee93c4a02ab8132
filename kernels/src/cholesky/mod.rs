//! The upper Cholesky factor of an inverse.

mod reference;

use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::cholesky::llt::factor::LltParams;
use faer::linalg::triangular_inverse::invert_lower_triangular;
use faer::traits::RealField;
use faer::{Mat, MatRef};
use rayon::prelude::*;

use crate::parallelism;
use crate::square::Square;

/// A pivot that is not positive: the matrix is not positive definite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("pivot {index} is not positive")]
pub struct NotPositive {
    /// Row and column of the pivot in the matrix that was given.
    pub index: usize,
}

/// The factor of a curvature: U, upper triangular `[n, n]` and zero below the diagonal, with H⁻¹ = UᵀU.
#[derive(Clone, Debug)]
pub struct Factor {
    /// U, where H was.
    pub u: Square,
    /// U's diagonal, `[n]`.
    pub diagonal: Vec<f32>,
}

/// Why there is no factor.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The matrix is not positive definite, in f64 either.
    #[error(transparent)]
    NotPositive(#[from] NotPositive),
    /// The device refused.
    #[error(transparent)]
    Device(#[from] candle_core::Error),
}

/// The factor of `h` (symmetric) with rows and columns in the order `order[k]` (as they are when `None`), and with
/// `diagonal` (in that order) in place of its diagonal. See [`inverse_factor`] for what is computed and its cost.
///
/// # Errors
/// The index, in that order, of a pivot that is not positive.
///
/// # Panics
/// If the lengths differ.
pub fn factor_of(h: &Square, order: Option<&[usize]>, diagonal: &[f32]) -> Result<Factor, Failed> {
    let n = h.n();
    assert_eq!(diagonal.len(), n, "a diagonal of {n} elements");
    let values = h.to_host()?;
    let mut damped = vec![0f32; n * n];
    damped.par_chunks_exact_mut(n.max(1)).enumerate().for_each(|(k, row)| {
        match order {
            None => row.copy_from_slice(&values[k * n..][..n]),
            Some(order) => {
                let from = &values[order[k] * n..][..n];
                row.iter_mut().zip(order).for_each(|(v, &l)| *v = from[l]);
            }
        }
        row[k] = diagonal[k];
    });
    let u = Square::from(inverse_factor(&damped, n)?);
    Ok(Factor { diagonal: u.diagonal()?, u })
}

/// Up to this size the factor is computed in f64 at once: there it takes next to no time, and it is what the golden
/// vectors of the published codes, all of small layers, can hold the methods to.
pub(crate) const SMALL: usize = 512;

/// U, upper triangular and row-major `[n, n]`, with H⁻¹ = UᵀU, for the symmetric `h` (row-major `[n, n]`).
///
/// One factorisation and one triangular inverse: with rows and columns of H reversed, H' = L Lᵀ; reversed back, U = L⁻¹
/// (GPTQ, arXiv 2210.17323, section 3.3, takes the Cholesky factor of the inverse; this equals it without inverting H).
/// 2n³/3 operations: in f64 for up to 512 rows, above that in f32, which the published codes use throughout, and once
/// more in f64 if f32 finds a pivot that is not positive.
///
/// How near f32 comes: on the 120 damped Gram matrices of SmolLM2-135M (sides of 576 and 1536, condition numbers up to
/// 1.5e5) the factors are off by 1e-6 to 1e-4 of their Frobenius norm and the diagonals by 1e-3 of themselves at worst.
/// Inputs rounded to bfloat16 move the matrix by more than that.
///
/// # Errors
/// The index of the first pivot that is not positive (or not finite).
pub fn inverse_factor(h: &[f32], n: usize) -> Result<Vec<f32>, NotPositive> {
    assert_eq!(h.len(), n * n, "a square matrix of {n} rows");
    if n > SMALL
        && let Ok(u) = factor::<f32>(h, n, |v| v, |v| v)
    {
        return Ok(u);
    }
    factor::<f64>(h, n, f64::from, |v| v as f32)
}

/// [`inverse_factor`] in the arithmetic of `T`.
fn factor<T: RealField>(
    h: &[f32],
    n: usize,
    widen: impl Fn(f32) -> T + Sync,
    narrow: impl Fn(T) -> f32 + Sync,
) -> Result<Vec<f32>, NotPositive> {
    let full = MatRef::from_row_major_slice(h, n, n).reverse_rows_and_cols();
    let mut lower = Mat::<T>::zeros(n, n);
    for j in 0..n {
        // H is symmetric: its row j is read along memory, as column j is written.
        for (i, to) in lower.col_as_slice_mut(j).iter_mut().enumerate().skip(j) {
            *to = widen(full[(j, i)]);
        }
    }
    let par = parallelism();
    let params = faer::Spec::<LltParams, T>::default();
    let scratch = faer::linalg::cholesky::llt::factor::cholesky_in_place_scratch::<T>(n, par, params);
    let mut buffer = MemBuffer::new(scratch);
    let stack = MemStack::new(&mut buffer);
    faer::linalg::cholesky::llt::factor::cholesky_in_place(lower.as_mut(), Default::default(), par, stack, params)
        .map_err(|e| {
            let faer::linalg::cholesky::llt::factor::LltError::NonPositivePivot { index } = e;
            NotPositive { index: n - 1 - index.min(n - 1) }
        })?;
    let mut inverse = Mat::<T>::zeros(n, n);
    invert_lower_triangular(inverse.as_mut(), lower.as_ref(), par);
    // A pivot that is not finite, or so small that its reciprocal is not.
    let bad = |i: usize| ![&lower, &inverse].iter().all(|m| narrow(m[(i, i)].clone()).is_finite());
    if let Some(index) = (0..n).find(|&i| bad(i)) {
        return Err(NotPositive { index: n - 1 - index });
    }
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
                    row[j] = narrow(reversed[(first + i, j)].clone());
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
    fn single_precision_is_near_double() {
        let n = SMALL + 60;
        // More features than tokens: the damping alone keeps the matrix positive.
        let h = gram(n, n / 2, 0.01);
        let (single, double) = (inverse_factor(&h, n).unwrap(), factor::<f64>(&h, n, f64::from, |v| v as f32).unwrap());
        let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt();
        let off = norm(&mut single.iter().zip(&double).map(|(s, d)| s - d)) / norm(&mut double.iter().copied());
        assert!(off > 0.0 && off < 1e-3, "{off}");
    }

    #[test]
    fn what_single_precision_cannot_factor_double_can() {
        let n = SMALL + 8;
        // A 2 × 2 block whose determinant is one unit in the last place: its second pivot is 0 in f32.
        let mut h = vec![0f32; n * n];
        (0..n).for_each(|i| h[i * n + i] = 1.0);
        let (i, j) = (n - 2, n - 1);
        (h[i * n + i], h[i * n + j], h[j * n + i], h[j * n + j]) = (1.0, 1.0, 1.0, 1.0 + f32::EPSILON);
        assert!(factor::<f32>(&h, n, |v| v, |v| v).is_err());
        assert!(inverse_factor(&h, n).is_ok());
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
