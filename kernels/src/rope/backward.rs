//! Backward pass of rotary embeddings: the rotation back.

use candle_core::{Result, Tensor};

use crate::gradient::require_cpu;

/// The gradient of the input of [`super::rope`], for that of its output `dy [b, t, heads, d]` f32 and the same tables. Errors
/// on other shapes, and where it is not on the CPU.
pub fn rope_backward(dy: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    require_cpu(dy, "rotary embeddings")?;
    super::rope(dy, cos, &sin.neg()?)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::cases::flat;

    /// The transpose of a rotation: ⟨dy, R x⟩ = ⟨Rᵀ dy, x⟩ for any x, and a rotation undoes it.
    #[test]
    fn it_is_the_transpose() {
        let random = |seed: u64| {
            Tensor::from_vec(crate::test_values(2 * 5 * 3 * 8, 1.0, seed), (2, 5, 3, 8), &Device::Cpu).unwrap()
        };
        let angles: Vec<f32> = (0..20).map(|i| i as f32 * 0.37).collect();
        let table = |f: fn(f32) -> f32| {
            Tensor::from_vec(angles.iter().map(|&a| f(a)).collect::<Vec<_>>(), (5, 4), &Device::Cpu).unwrap()
        };
        let (cos, sin, x, dy) = (table(f32::cos), table(f32::sin), random(1), random(2));
        let dot = |a: &Tensor, b: &Tensor| {
            let (a, b) = (flat(a).unwrap(), flat(b).unwrap());
            a.iter().zip(&b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>()
        };
        let back = rope_backward(&dy, &cos, &sin).unwrap();
        let (forward, backward) = (dot(&dy, &crate::rope::rope(&x, &cos, &sin).unwrap()), dot(&back, &x));
        // Sums of 240 products of f32 values.
        assert!((forward - backward).abs() < 1e-5, "{forward}, {backward}");
        let again = flat(&crate::rope::rope(&back, &cos, &sin).unwrap()).unwrap();
        assert!(again.iter().zip(&flat(&dy).unwrap()).all(|(a, b)| (a - b).abs() < 1e-6));
    }
}
