//! The definition.

use super::NotPositive;

/// U with H⁻¹ = UᵀU by plain loops in f64: R upper with H = R Rᵀ, from the last row up, then U = R⁻¹.
pub(crate) fn inverse_factor(h: &[f32], n: usize) -> Result<Vec<f64>, NotPositive> {
    let mut r = vec![0f64; n * n];
    for j in (0..n).rev() {
        let mut pivot = f64::from(h[j * n + j]);
        for k in j + 1..n {
            pivot -= r[j * n + k] * r[j * n + k];
        }
        if pivot.is_nan() || pivot <= 0.0 {
            return Err(NotPositive { index: j });
        }
        r[j * n + j] = pivot.sqrt();
        for i in 0..j {
            let mut sum = f64::from(h[i * n + j]);
            for k in j + 1..n {
                sum -= r[i * n + k] * r[j * n + k];
            }
            r[i * n + j] = sum / r[j * n + j];
        }
    }
    let mut u = vec![0f64; n * n];
    for col in 0..n {
        u[col * n + col] = 1.0 / r[col * n + col];
        for row in (0..col).rev() {
            let mut sum = 0.0;
            for k in row + 1..=col {
                sum += r[row * n + k] * u[k * n + col];
            }
            u[row * n + col] = -sum / r[row * n + row];
        }
    }
    Ok(u)
}
