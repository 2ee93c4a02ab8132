//! Cases of factors of inverses.

use candle_core::{Device, Result};

use super::{Case, Deviation, largest, values};
use crate::cholesky::{Arithmetic, Factor, Failed, NotPositive, SMALL, double_on_host, factor_of, reference};
use crate::gram;
use crate::matmul::Precision;
use crate::square_matrix::SquareMatrix;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for n in [1, 2, 17, 64, 150, SMALL + 60] {
        cases.push(Case::new(format!("cholesky: {n} rows"), move |device| {
            let h = damped(n);
            let diagonal: Vec<f32> = h.iter().step_by(n + 1).copied().collect();
            let made = made(factor_of(&SquareMatrix::on_device(device, h.clone())?, None, &diagonal))?;
            let want = if n > SMALL { Arithmetic::Single } else { Arithmetic::Double };
            Ok(Deviation::ratio(residual(&made, &h, n)?.max(wrong(made.arithmetic != want))))
        }));
    }
    for n in [5, 40, SMALL + 9] {
        cases.push(Case::new(format!("cholesky: {n} rows in another order"), move |device| {
            let mut h = damped(n);
            let order: Vec<usize> = (0..n).map(|k| if k % 2 == 0 { n - 1 - k / 2 } else { k / 2 }).collect();
            let diagonal: Vec<f32> = order.iter().map(|&j| h[j * n + j] + 0.25).collect();
            // The diagonal that the matrix has is not looked at.
            (0..n).for_each(|j| h[j * n + j] = f32::NAN);
            let made = made(factor_of(&SquareMatrix::on_device(device, h.clone())?, Some(&order), &diagonal))?;
            let mut want: Vec<f32> =
                order.iter().flat_map(|&i| order.iter().map(move |&j| i * n + j)).map(|at| h[at]).collect();
            (0..n).for_each(|k| want[k * n + k] = diagonal[k]);
            Ok(Deviation::ratio(residual(&made, &want, n)?))
        }));
    }
    cases.push(Case::new("cholesky: f64 where f32 finds no positive pivot", |device| {
        let (h, diagonal, n) = hard();
        let made = made(factor_of(&SquareMatrix::on_device(device, h.clone())?, None, &diagonal))?;
        let refused = !matches!(made.arithmetic, Arithmetic::DoubleAfter(_));
        Ok(Deviation::ratio(near(&made, &h, n)?.max(wrong(refused))))
    }));
    cases.push(Case::new("cholesky: f64 by the CPU", |device| {
        let (h, diagonal, n) = hard();
        let pivot = NotPositive { index: 3 };
        let made = made(double_on_host(&SquareMatrix::on_device(device, h.clone())?, None, &diagonal, pivot))?;
        Ok(Deviation::ratio(near(&made, &h, n)?.max(wrong(made.arithmetic != Arithmetic::DoubleOnHost(pivot)))))
    }));
    for (n, index) in [(5, 2), (5, 0), (5, 4), (SMALL + 8, 77)] {
        cases.push(Case::new(format!("cholesky: pivot {index} of {n} is not positive"), move |device| {
            let mut h = damped(n);
            (0..n).for_each(|k| (h[index * n + k], h[k * n + index]) = (0.0, 0.0));
            refused(device, h, n, |at| at == index)
        }));
    }
    for n in [5, SMALL + 8] {
        cases.push(Case::new(format!("cholesky: {n} rows that are not numbers"), move |device| {
            refused(device, vec![f32::NAN; n * n], n, |_| true)
        }));
    }
    cases
}

fn made(factor: std::result::Result<Factor, Failed>) -> Result<Factor> {
    factor.map_err(|e| candle_core::Error::Msg(e.to_string()))
}

fn wrong(is: bool) -> f64 {
    if is { f64::INFINITY } else { 0.0 }
}

/// Checks that there is no factor because of a pivot that is `expected`.
fn refused(device: &Device, h: Vec<f32>, n: usize, expected: impl Fn(usize) -> bool) -> Result<Deviation> {
    let diagonal: Vec<f32> = h.iter().step_by(n + 1).copied().collect();
    match factor_of(&SquareMatrix::on_device(device, h)?, None, &diagonal) {
        Err(Failed::NotPositive(NotPositive { index })) => Ok(Deviation::ratio(wrong(!expected(index)))),
        Err(Failed::Device(e)) => Err(e),
        Ok(_) => Ok(Deviation::ratio(f64::INFINITY)),
    }
}

/// The Gram matrix of 2 n inputs, with a half more on the diagonal.
fn damped(n: usize) -> Vec<f32> {
    let x = values(2 * n * n, 0.3, 7);
    let mut h: Vec<f32> = gram::reference::gram(&x, n, Precision::F32).iter().map(|&v| v as f32).collect();
    (0..n).for_each(|i| h[i * n + i] += 0.5);
    h
}

/// A matrix that f64 factors and f32 does not, its diagonal and its rows: Pascal's matrices of 11 rows, whose determinant
/// is 1 and whose condition is 1e10, each times another number. All elements are whole, and exact in f32.
fn hard() -> (Vec<f32>, Vec<f32>, usize) {
    const BLOCK: usize = 11;
    let n = SMALL.next_multiple_of(BLOCK);
    let mut h = vec![0f32; n * n];
    for first in (0..n).step_by(BLOCK) {
        for i in 0..BLOCK {
            for j in 0..BLOCK {
                // C(i + j, i), as the sum of its neighbours.
                let at = |i: usize, j: usize| h[(first + i) * n + first + j];
                let value = if i == 0 || j == 0 { (first / BLOCK + 1) as f32 } else { at(i - 1, j) + at(i, j - 1) };
                h[(first + i) * n + first + j] = value;
            }
        }
    }
    let diagonal = h.iter().step_by(n + 1).copied().collect();
    (h, diagonal, n)
}

/// The largest element of U H Uᵀ − I, and infinite where U has something below its diagonal or another diagonal than it
/// says.
fn residual(factor: &Factor, h: &[f32], n: usize) -> Result<f64> {
    let u = factor.u.to_host()?;
    let bent = (0..n).any(|i| u[i * n..][..i].iter().any(|&v| v != 0.0) || u[i * n + i] != factor.diagonal[i]);
    // U H, then times Uᵀ.
    let mut half = vec![0f64; n * n];
    for (i, half) in half.chunks_exact_mut(n).enumerate() {
        for k in i..n {
            let weight = f64::from(u[i * n + k]);
            half.iter_mut().zip(&h[k * n..][..n]).for_each(|(to, &v)| *to += weight * f64::from(v));
        }
    }
    let mut off = 0f64;
    for i in 0..n {
        for j in 0..n {
            let product = |k: usize| half[i * n + k] * f64::from(u[j * n + k]);
            off = off.max(((j..n).map(product).sum::<f64>() - f64::from(i == j)).abs());
        }
    }
    // f64 leaves what rounding U to f32 does. f32 may lose n · 2⁻²⁴ times the condition, at most the mean of the diagonal
    // over what was added to it: 0.18 n + 0.5 over 0.5.
    let allowed = if n > SMALL { n as f64 * 2f64.powi(-24) * (0.36 * n as f64 + 1.0) } else { 1e-5 };
    Ok(if bent { f64::INFINITY } else { off / allowed })
}

/// Deviation from the definition; the condition of [`hard`] times what f64 rounds is 1e-5.
fn near(factor: &Factor, h: &[f32], n: usize) -> Result<f64> {
    let want = reference::inverse_factor(h, n).map_err(|e| candle_core::Error::Msg(e.to_string()))?;
    let most = want.iter().fold(0f64, |most, v| most.max(v.abs()));
    Ok(largest(&factor.u.to_host()?, &want, |_, _| 1e-4 * most))
}
