//! Backward pass of ReLU: dy where the input is above 0.

use candle_core::{Result, Tensor};

use crate::Fresh;
use crate::gradient::elementwise;
use crate::simd::multiversion;

multiversion! {
    fn apply(dy: &[f32], x: &[f32], out: &mut Fresh) {
        for ((o, &dy), &x) in out.iter_mut().zip(dy).zip(x) {
            o.write(if x > 0.0 { dy } else { 0.0 });
        }
    }
}

/// The gradient of the input of [`super::relu`], 0 at exactly 0; `x` may be the output as well, which is above 0 where the input is.
/// `dy` and `x` are f32 of one shape. Errors where they are not, and where they are not on the CPU.
pub fn relu_backward(dy: &Tensor, x: &Tensor) -> Result<Tensor> {
    // SAFETY: `apply` writes each element.
    unsafe { elementwise("ReLU", dy, x, apply) }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::cases::flat;

    #[test]
    fn only_what_is_positive_has_a_gradient() {
        let tensor = |v: &[f32]| Tensor::from_slice(v, v.len(), &Device::Cpu).unwrap();
        let (dy, x) = (tensor(&[1.0, 2.0, 3.0, 4.0]), tensor(&[-1.0, 0.0, 0.5, -0.0]));
        assert_eq!(flat(&relu_backward(&dy, &x).unwrap()).unwrap(), [0.0, 0.0, 3.0, 0.0]);
        let y = crate::plain::relu(&x).unwrap();
        assert_eq!(flat(&relu_backward(&dy, &y).unwrap()).unwrap(), [0.0, 0.0, 3.0, 0.0]);
        assert!(relu_backward(&dy, &tensor(&[1.0])).is_err());
    }
}
