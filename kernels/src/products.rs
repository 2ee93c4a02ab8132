//! faer's products and factors on the threads of the pool: split into pieces, each of which one thread computes.
//!
//! faer's own threads take it for granted that each may reserve twice the last-level cache of the whole machine, hundreds of
//! megabytes, and wait for each other by spinning, for a minute where they are many more than processors. An element's sum
//! runs over k in an order that does not depend on the piece.

use faer::linalg::cholesky::llt::factor::{self, LltError, LltParams};
use faer::linalg::matmul::matmul;
use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::linalg::triangular_inverse::invert_lower_triangular;
use faer::linalg::triangular_solve::{solve_lower_triangular_in_place, solve_upper_triangular_in_place};
use faer::prelude::ReborrowMut;
use faer::traits::ComplexField;
use faer::{Accum, Mat, MatMut, MatRef, Par};

/// Rows or columns that each half of what is split has at least. Smaller products may take another way through faer, where
/// sums have another order.
const LEAST: usize = 64;
/// Multiplications of a piece, at least: fewer are not worth a task.
const WORK: usize = 1 << 20;
/// Pieces for each thread, so that none waits long for the last one.
const PIECES: usize = 4;
/// Rows of a factor or an inverse that one thread computes.
const ALONE: usize = 512;

/// Numbers that faer multiplies.
pub(crate) trait Number: ComplexField + Copy {}
impl Number for f32 {}
impl Number for f64 {}

/// y = α a b, or y + α a b, for `a [m, k]` and `b [k, n]`.
pub(crate) fn multiply<T: Number>(y: MatMut<'_, T>, accum: Accum, a: MatRef<'_, T>, b: MatRef<'_, T>, alpha: T) {
    let work = y.nrows() * y.ncols() * a.ncols();
    split(y, accum, a, b, alpha, piece(work));
}

/// y + α a b on and below the diagonal, for `a [n, k]` and `b [k, n]`.
pub(crate) fn add_lower<T: Number>(y: MatMut<'_, T>, a: MatRef<'_, T>, b: MatRef<'_, T>, alpha: T) {
    let work = y.nrows() * y.nrows() / 2 * a.ncols();
    split_lower(y, a, b, alpha, piece(work));
}

/// y = a b for `a [m, n]` and the part of `b [n, n]` on and below the diagonal.
pub(crate) fn multiply_lower<T: Number>(y: MatMut<'_, T>, a: MatRef<'_, T>, b: MatRef<'_, T>) {
    let work = a.nrows() * b.nrows() / 2 * b.nrows();
    split_rows(y, a, b, piece(work));
}

/// Multiplications of each piece of so many.
fn piece(work: usize) -> usize {
    match rayon::current_num_threads() {
        1 => usize::MAX,
        threads => (work / (PIECES * threads)).max(WORK),
    }
}

/// The place where so many rows or columns are split; `None` where they are too few.
fn half(n: usize) -> Option<usize> {
    (n >= 2 * LEAST).then_some(n / 2 / LEAST * LEAST)
}

fn split<T: Number>(y: MatMut<'_, T>, accum: Accum, a: MatRef<'_, T>, b: MatRef<'_, T>, alpha: T, piece: usize) {
    let (m, n) = (y.nrows(), y.ncols());
    match half(m.max(n)).filter(|_| m * n * a.ncols() > piece) {
        None => matmul(y, accum, a, b, alpha, Par::Seq),
        Some(at) if m >= n => {
            let ((top, bottom), (a, below)) = (y.split_at_row_mut(at), a.split_at_row(at));
            rayon::join(|| split(top, accum, a, b, alpha, piece), || split(bottom, accum, below, b, alpha, piece));
        }
        Some(at) => {
            let ((left, right), (b, beside)) = (y.split_at_col_mut(at), b.split_at_col(at));
            rayon::join(|| split(left, accum, a, b, alpha, piece), || split(right, accum, a, beside, alpha, piece));
        }
    }
}

fn split_lower<T: Number>(y: MatMut<'_, T>, a: MatRef<'_, T>, b: MatRef<'_, T>, alpha: T, piece: usize) {
    use BlockStructure::{Rectangular, TriangularLower};
    let n = y.nrows();
    let Some(at) = half(n).filter(|_| n * n / 2 * a.ncols() > piece) else {
        return triangular::matmul(y, TriangularLower, Accum::Add, a, Rectangular, b, Rectangular, alpha, Par::Seq);
    };
    let (first, _, rows, last) = y.split_at_mut(at, at);
    let ((a, below), (b, beside)) = (a.split_at_row(at), b.split_at_col(at));
    rayon::join(
        || split(rows, Accum::Add, below, b, alpha, piece),
        || rayon::join(|| split_lower(first, a, b, alpha, piece), || split_lower(last, below, beside, alpha, piece)),
    );
}

fn split_rows<T: Number>(y: MatMut<'_, T>, a: MatRef<'_, T>, b: MatRef<'_, T>, piece: usize) {
    use BlockStructure::{Rectangular, TriangularLower};
    let m = y.nrows();
    let Some(at) = half(m).filter(|_| m * b.nrows() / 2 * b.nrows() > piece) else {
        let one = T::from_f64_impl(1.0);
        return triangular::matmul(y, Rectangular, Accum::Replace, a, Rectangular, b, TriangularLower, one, Par::Seq);
    };
    let ((top, bottom), (a, below)) = (y.split_at_row_mut(at), a.split_at_row(at));
    rayon::join(|| split_rows(top, a, b, piece), || split_rows(bottom, below, b, piece));
}

/// Replaces `a [n, n]` on and below the diagonal by its lower Cholesky factor; n³/3 operations. Errors with the first pivot
/// that is not positive.
pub(crate) fn cholesky(mut a: MatMut<'_, f64>) -> Result<(), usize> {
    let n = a.nrows();
    let Some(at) = half(n).filter(|_| n > ALONE) else {
        let params = faer::Spec::<LltParams, f64>::default();
        let scratch = factor::cholesky_in_place_scratch::<f64>(n, Par::Seq, params);
        let mut buffer = faer::dyn_stack::MemBuffer::new(scratch);
        let stack = faer::dyn_stack::MemStack::new(&mut buffer);
        return match factor::cholesky_in_place(a, Default::default(), Par::Seq, stack, params) {
            Ok(_) => Ok(()),
            Err(LltError::NonPositivePivot { index }) => Err(index),
        };
    };
    let (mut first, _, mut rows, mut last) = a.rb_mut().split_at_mut(at, at);
    cholesky(first.rb_mut())?;
    solve(first.as_ref(), rows.rb_mut());
    add_lower(last.rb_mut(), rows.as_ref(), rows.as_ref().transpose(), -1.0);
    cholesky(last).map_err(|pivot| at + pivot)
}

/// Replaces each row r of `rows` by the solution of L x = r.
fn solve(l: MatRef<'_, f64>, rows: MatMut<'_, f64>) {
    match half(rows.nrows()).filter(|_| rows.nrows() > ALONE / 2) {
        None => solve_lower_triangular_in_place(l, rows.transpose_mut(), Par::Seq),
        Some(at) => {
            let (top, bottom) = rows.split_at_row_mut(at);
            rayon::join(|| solve(l, top), || solve(l, bottom));
        }
    }
}

/// Replaces each row r of `rows` by the solution of x L Lᵀ = r, a row vector.
pub(crate) fn solve_right(l: MatRef<'_, f64>, rows: MatMut<'_, f64>) {
    match half(rows.nrows()).filter(|_| rows.nrows() * l.nrows() * l.nrows() > WORK) {
        None => {
            let mut columns = rows.transpose_mut();
            solve_lower_triangular_in_place(l, columns.rb_mut(), Par::Seq);
            solve_upper_triangular_in_place(l.transpose(), columns, Par::Seq);
        }
        Some(at) => {
            let (top, bottom) = rows.split_at_row_mut(at);
            rayon::join(|| solve_right(l, top), || solve_right(l, bottom));
        }
    }
}

/// Writes the inverse of the lower triangle `l [n, n]` into `inverse`, which is zero; n³/3 operations, and some twice that above
/// 512 rows.
pub(crate) fn invert_lower(inverse: MatMut<'_, f64>, l: MatRef<'_, f64>) {
    let n = l.nrows();
    let Some(at) = half(n).filter(|_| n > ALONE) else { return invert_lower_triangular(inverse, l, Par::Seq) };
    let (mut first, _, rows, mut last) = inverse.split_at_mut(at, at);
    let (l_first, _, l_rows, l_last) = l.split_at(at, at);
    rayon::join(|| invert_lower(first.rb_mut(), l_first), || invert_lower(last.rb_mut(), l_last));
    let mut product = Mat::<f64>::zeros(n - at, at);
    multiply_lower(product.as_mut(), l_rows, first.as_ref());
    multiply(rows, Accum::Replace, last.as_ref(), product.as_ref(), -1.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(rows: usize, cols: usize, scale: f32) -> Mat<f32> {
        let values = crate::test_values(rows * cols, scale, (rows + cols) as u32 as _);
        MatRef::from_row_major_slice(&values, rows, cols).to_owned()
    }

    fn with_threads<T: Send>(threads: usize, f: impl FnOnce() -> T + Send) -> T {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(f)
    }

    /// One product, however it is split.
    #[test]
    fn pieces_have_the_bits_of_the_whole() {
        for (m, n, k) in [(700, 320, 600), (130, 1100, 130), (129, 65, 1030), (3, 900, 700), (1000, 2, 600)] {
            let (a, b, before) = (values(m, k, 1.0), values(k, n, 1.0), values(m, n, 1.0));
            let run = |threads| {
                let mut y = before.clone();
                with_threads(threads, || multiply(y.as_mut(), Accum::Add, a.as_ref(), b.as_ref(), 1.0));
                y
            };
            let mut want = before.clone();
            matmul(want.as_mut(), Accum::Add, a.as_ref(), b.as_ref(), 1.0, Par::Seq);
            for threads in [1, 2, 3, 16] {
                assert!(run(threads) == want, "{m} x {n} x {k} with {threads} threads");
            }
        }
        for (n, k) in [(65, 40), (330, 700), (1000, 130)] {
            let (a, w) = (values(n, k, 1.0), values(k, n, 1.0));
            let run = |threads| {
                let (mut lower, mut rows) = (values(n, n, 1.0), Mat::<f32>::zeros(k, n));
                with_threads(threads, || {
                    add_lower(lower.as_mut(), a.as_ref(), a.as_ref().transpose(), 1.0);
                    multiply_lower(rows.as_mut(), w.as_ref(), lower.as_ref());
                });
                (lower, rows)
            };
            let want = run(1);
            assert!([2, 3, 16].into_iter().all(|threads| run(threads) == want), "{n} by {k}");
        }
    }

    #[test]
    fn factors_of_any_size_and_their_inverses() {
        for n in [1, 70, 512, 700, 1301] {
            let x = values(n, n + 20, 1.0);
            let full = Mat::from_fn(n, n, |i, j| {
                let dot: f64 = (0..n + 20).map(|k| f64::from(x[(i, k)]) * f64::from(x[(j, k)])).sum();
                dot + if i == j { n as f64 } else { 0.0 }
            });
            let mut l = full.clone();
            cholesky(l.as_mut()).unwrap();
            let mut inverse = Mat::<f64>::zeros(n, n);
            invert_lower(inverse.as_mut(), l.as_ref());
            for (i, j) in (0..n).step_by(37).flat_map(|i| (0..=i).step_by(29).map(move |j| (i, j))) {
                let back: f64 = (0..=j).map(|k| l[(i, k)] * l[(j, k)]).sum();
                assert!(
                    (back / full[(i, j)] - 1.0).abs() < 1e-9 || (back - full[(i, j)]).abs() < 1e-8,
                    "{n}: {i}, {j}"
                );
                let unit: f64 = (j..=i).map(|k| inverse[(i, k)] * l[(k, j)]).sum();
                assert!((unit - f64::from(u8::from(i == j))).abs() < 1e-9, "{n}: {i}, {j}: {unit}");
            }
            let mut bad = full.clone();
            bad[(n - 1, n - 1)] = -1.0;
            assert_eq!(cholesky(bad.as_mut()), Err(n - 1));
        }
    }
}
