//! The definition.

/// silu(gate) · up in f64.
pub(crate) fn swiglu(gate: f32, up: f32) -> f64 {
    let g = f64::from(gate);
    g / (1.0 + (-g).exp()) * f64::from(up)
}

/// silu(gate) · up.
#[cfg(test)]
pub(crate) fn value(gate: f64, up: f64) -> f64 {
    gate / (1.0 + (-gate).exp()) * up
}

/// The gradients of gate and up.
#[cfg(test)]
pub(crate) fn backward(dy: f64, gate: f64, up: f64) -> (f64, f64) {
    let sigma = 1.0 / (1.0 + (-gate).exp());
    (dy * up * sigma * (1.0 + gate * (1.0 - sigma)), dy * gate * sigma)
}
