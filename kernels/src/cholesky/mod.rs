//! The upper Cholesky factor of an inverse, and equations with a symmetric matrix.

mod blocked;
#[cfg(feature = "cuda")]
mod cuda;
pub(crate) mod reference;
mod solve;
#[cfg(feature = "cuda")]
mod solver;
#[cfg(test)]
mod tests;

use faer::{Mat, MatRef};
use rayon::prelude::*;

use crate::products;
use crate::square_matrix::SquareMatrix;

pub use solve::Solver;

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
    pub u: SquareMatrix,
    /// U's diagonal, `[n]`.
    pub diagonal: Vec<f32>,
    /// The arithmetic that computed it.
    pub arithmetic: Arithmetic,
}

impl Factor {
    /// The factor `u`, which was computed in that arithmetic. Errors when the device does.
    pub(crate) fn new(u: SquareMatrix, arithmetic: Arithmetic) -> candle_core::Result<Self> {
        Ok(Self { diagonal: u.diagonal()?, u, arithmetic })
    }
}

/// The arithmetic of a factor, whose elements are f32 in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// f32.
    Single,
    /// f64, as factors of up to 512 rows are.
    Double,
    /// f64 where the matrix is, after f32 found that this pivot is not positive.
    DoubleAfter(NotPositive),
    /// The same, but by the CPU: the GPU's memory does not hold it.
    DoubleOnHost(NotPositive),
}

/// The reason for which there is no factor.
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
/// On a GPU: cuSOLVER's factor and cuBLAS's triangular solve, in the same arithmetic as on the CPU. Beside `h` it takes
/// 8·n² bytes of the device's memory in f32 and 16·n² in f64, and cuSOLVER's workspace; U is 4·n² of them. When memory
/// does not hold the f64 factor that f32 asked for, the CPU makes it ([`Arithmetic::DoubleOnHost`]).
///
/// # Errors
/// The index, in that order, of a pivot that is not positive; what the device says.
///
/// # Panics
/// If the lengths differ, or the order names a row that is not there.
pub fn factor_of(h: &SquareMatrix, order: Option<&[usize]>, diagonal: &[f32]) -> Result<Factor, Failed> {
    let n = h.n();
    assert_eq!(diagonal.len(), n, "a diagonal of {n} elements");
    let known = order.is_none_or(|order| order.len() == n && order.iter().all(|&k| k < n));
    assert!(known, "an order of {n} rows");
    on_gpu!(h => cuda::factor_of(h, order, diagonal));
    let (u, arithmetic) = inverse_factor_in(&Source { values: &h.to_host()?, order, diagonal })?;
    Ok(Factor::new(u.into(), arithmetic)?)
}

/// [`factor_of`] in f64 by the CPU wherever `h` is, after f32 found that `pivot` is not positive: 24·n² bytes of the
/// host's memory, 4·n² more for a matrix that is not there.
pub(crate) fn double_on_host(
    h: &SquareMatrix,
    order: Option<&[usize]>,
    diagonal: &[f32],
    pivot: NotPositive,
) -> Result<Factor, Failed> {
    let u = double(&Source { values: &h.to_host()?, order, diagonal }.ordered(), h.n())?;
    Ok(Factor::new(SquareMatrix::on_device(&h.device(), u)?, Arithmetic::DoubleOnHost(pivot))?)
}

/// A matrix with its rows and columns in an order and with a diagonal, of which it is not a copy.
struct Source<'a> {
    /// Row-major `[n, n]`.
    values: &'a [f32],
    order: Option<&'a [usize]>,
    /// In that order.
    diagonal: &'a [f32],
}

impl Source<'_> {
    fn n(&self) -> usize {
        self.diagonal.len()
    }

    /// Row `k` backwards, up to and with the diagonal.
    fn row_reversed(&self, k: usize, to: &mut [f32]) {
        let n = self.n();
        let count = n - k;
        match self.order {
            None => {
                to.iter_mut().zip(self.values[k * n..][..n].iter().rev()).take(count).for_each(|(v, from)| *v = *from)
            }
            Some(order) => {
                let from = &self.values[order[k] * n..][..n];
                to.iter_mut().zip(order.iter().rev()).take(count).for_each(|(v, &l)| *v = from[l]);
            }
        }
        to[count - 1] = self.diagonal[k];
    }

    /// A copy, row-major.
    fn ordered(&self) -> Vec<f32> {
        let n = self.n();
        let mut ordered = vec![0f32; n * n];
        ordered.par_chunks_exact_mut(n.max(1)).enumerate().for_each(|(k, row)| {
            match self.order {
                None => row.copy_from_slice(&self.values[k * n..][..n]),
                Some(order) => {
                    let from = &self.values[order[k] * n..][..n];
                    row.iter_mut().zip(order).for_each(|(v, &l)| *v = from[l]);
                }
            }
            row[k] = self.diagonal[k];
        });
        ordered
    }
}

/// Up to this size the factor is computed in f64 at once: there it takes next to no time, and it is what the golden
/// vectors of the published codes, all of small layers, can hold the methods to.
pub const SMALL: usize = 512;

/// U, upper triangular and row-major `[n, n]`, with H⁻¹ = UᵀU, for the symmetric `h` (row-major `[n, n]`).
///
/// One factorisation and one triangular inverse: with rows and columns of H reversed, H' = L Lᵀ; reversed back, U = L⁻¹
/// (GPTQ, arXiv 2210.17323, section 3.3, takes the Cholesky factor of the inverse; this equals it without inverting H).
/// 2n³/3 operations: by faer in f64 for up to 512 rows, above that by tiles in f32, which the published codes use throughout, and once
/// more in f64 if f32 finds a pivot that is not positive.
///
/// Accuracy of f32: on the 120 damped Gram matrices of SmolLM2-135M (sides of 576 and 1536, condition numbers up to
/// 1.5e5) the factors are off by 1e-6 to 1e-4 of their Frobenius norm and the diagonals by 1e-3 of themselves at worst.
/// Inputs rounded to bfloat16 move the matrix by more than that.
///
/// # Errors
/// The index of the first pivot that is not positive (or not finite).
pub fn inverse_factor(h: &[f32], n: usize) -> Result<Vec<f32>, NotPositive> {
    assert_eq!(h.len(), n * n, "a square matrix of {n} rows");
    let diagonal: Vec<f32> = h.iter().step_by(n + 1).copied().collect();
    inverse_factor_in(&Source { values: h, order: None, diagonal: &diagonal }).map(|(u, _)| u)
}

/// [`inverse_factor`], and what it was computed in.
fn inverse_factor_in(h: &Source<'_>) -> Result<(Vec<f32>, Arithmetic), NotPositive> {
    let n = h.n();
    if n <= SMALL {
        return Ok((double(&h.ordered(), n)?, Arithmetic::Double));
    }
    match blocked::inverse_factor(h) {
        Ok(u) => Ok((u, Arithmetic::Single)),
        Err(pivot) => Ok((double(&h.ordered(), n)?, Arithmetic::DoubleAfter(pivot))),
    }
}

/// [`inverse_factor`] in f64.
fn double(h: &[f32], n: usize) -> Result<Vec<f32>, NotPositive> {
    let full = MatRef::from_row_major_slice(h, n, n).reverse_rows_and_cols();
    let mut lower = Mat::<f64>::zeros(n, n);
    for j in 0..n {
        // H is symmetric: its row j is read along memory, as column j is written.
        for (i, to) in lower.col_as_slice_mut(j).iter_mut().enumerate().skip(j) {
            *to = f64::from(full[(j, i)]);
        }
    }
    products::cholesky(lower.as_mut()).map_err(|pivot| NotPositive { index: n - 1 - pivot.min(n - 1) })?;
    let mut inverse = Mat::<f64>::zeros(n, n);
    products::invert_lower(inverse.as_mut(), lower.as_ref());
    // A pivot that is not finite, or so small that its reciprocal is not.
    let bad = |i: usize| ![&lower, &inverse].iter().all(|m| (m[(i, i)] as f32).is_finite());
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
                    row[j] = reversed[(first + i, j)] as f32;
                }
            }
        }
    });
    Ok(u)
}
