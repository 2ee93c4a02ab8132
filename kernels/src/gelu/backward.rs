//! Backward pass of the exact GELU: dx = dy (Φ(x) + x φ(x)).

use candle_core::{Result, Tensor};

use super::{FAR, tail_and_density};
use crate::Fresh;
use crate::gradient::elementwise;
use crate::simd::multiversion;

/// 1 / √(2π).
const ROOT: f32 = 0.398_942_3;

multiversion! {
    fn apply(dy: &[f32], x: &[f32], out: &mut Fresh) {
        for ((o, &dy), &x) in out.iter_mut().zip(dy).zip(x) {
            let t = if x.abs() > FAR { FAR } else { x.abs() };
            let (tail, density) = tail_and_density(t);
            let (distribution, along) = if x > 0.0 { (1.0 - tail, t * density) } else { (tail, -t * density) };
            o.write(dy * (distribution + along * ROOT));
        }
    }
}

/// The gradient of the input of [`super::gelu`]; `dy` and `x` f32 of one shape. Errors where they are not, and where they are
/// not on the CPU.
pub fn gelu_backward(dy: &Tensor, x: &Tensor) -> Result<Tensor> {
    // SAFETY: `apply` writes each element.
    unsafe { elementwise("GELU", dy, x, apply) }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::super::reference;
    use super::*;
    use crate::cases::flat;
    use crate::gradient::numeric::{check, dot, narrow, off, values};

    #[test]
    fn the_reference_is_the_gradient_and_the_fast_form_the_reference() {
        let (dy, mut x) = (values(90, 1.0, 1), values(90, 2.0, 2));
        x[..5].copy_from_slice(&[8.0, -8.0, 0.0, -0.75, 1e-4]);
        let dx: Vec<f64> = dy.iter().zip(&x).map(|(&dy, &x)| reference::backward(dy, x)).collect();
        check("x", &x, &dx, |x| dot(&dy, &x.iter().map(|&x| reference::value(x)).collect::<Vec<_>>()));
        let tensor = |v: &[f64]| Tensor::from_vec(narrow(v), v.len(), &Device::Cpu).unwrap();
        assert!(off(&flat(&gelu_backward(&tensor(&dy), &tensor(&x)).unwrap()).unwrap(), &dx) < 1e-6);
        assert!(gelu_backward(&tensor(&dy[1..]), &tensor(&x)).is_err());
        let far = Tensor::from_vec(vec![f32::INFINITY, f32::NEG_INFINITY], 2, &Device::Cpu).unwrap();
        assert_eq!(flat(&gelu_backward(&tensor(&[3.0, 3.0]), &far).unwrap()).unwrap(), [3.0, 0.0]);
    }
}
