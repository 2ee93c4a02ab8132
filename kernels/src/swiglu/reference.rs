//! The definition.

/// silu(gate) · up in f64.
pub(crate) fn swiglu(gate: f32, up: f32) -> f64 {
    let g = f64::from(gate);
    g / (1.0 + (-g).exp()) * f64::from(up)
}
