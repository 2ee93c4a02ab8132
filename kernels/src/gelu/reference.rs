//! The definition.

/// x Φ(x) in f64, Φ by the series e^(−x²/2) / √(2π) · (x + x³/3 + x⁵/(3·5) + ..), whose terms have one sign.
pub(crate) fn gelu(x: f32) -> f64 {
    value(f64::from(x))
}

/// [`gelu`] of an f64.
pub(crate) fn value(x: f64) -> f64 {
    x * distribution(x)
}

/// Φ(x).
fn distribution(x: f64) -> f64 {
    let (mut term, mut sum, mut odd) = (x, 0.0, 1.0);
    while term.abs() > 1e-20 * f64::abs(sum) {
        sum += term;
        odd += 2.0;
        term *= x * x / odd;
    }
    0.5 + sum * (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt()
}

/// The gradient of x: dy (Φ(x) + x φ(x)).
#[cfg(test)]
pub(crate) fn backward(dy: f64, x: f64) -> f64 {
    dy * (distribution(x) + x * (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt())
}
