//! Backward pass of silu(gate) · up.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use crate::gradient::{require_cpu, require_same};
use crate::simd::{self, multiversion};
use crate::with_f32;

/// Elements per task.
const CHUNK: usize = 1 << 14;

multiversion! {
    fn apply(dy: &[f32], gate: &[f32], up: &[f32], d_gate: &mut [f32], d_up: &mut [f32]) {
        let out = d_gate.iter_mut().zip(d_up);
        for ((((d_gate, d_up), &dy), &gate), &up) in out.zip(dy).zip(gate).zip(up) {
            let sigma = 1.0 / (1.0 + simd::exp(-gate));
            *d_gate = dy * up * sigma * (1.0 + gate * (1.0 - sigma));
            *d_up = dy * gate * sigma;
        }
    }
}

/// The gradients of gate and up of [`super::swiglu`]; all tensors f32 of one shape. Errors where they are not, and where they
/// are not on the CPU.
pub fn swiglu_backward(dy: &Tensor, gate: &Tensor, up: &Tensor) -> Result<[Tensor; 2]> {
    require_cpu(gate, "SwiGLU")?;
    require_same(dy, gate, "SwiGLU")?;
    require_same(gate, up, "SwiGLU")?;
    let made = with_f32(dy, |dy| {
        with_f32(gate, |gate| {
            with_f32(up, |up| {
                let (mut d_gate, mut d_up) = (vec![0f32; dy.len()], vec![0f32; dy.len()]);
                let inputs = dy.par_chunks(CHUNK).zip(gate.par_chunks(CHUNK).zip(up.par_chunks(CHUNK)));
                d_gate
                    .par_chunks_mut(CHUNK)
                    .zip(d_up.par_chunks_mut(CHUNK))
                    .zip(inputs)
                    .for_each(|((d_gate, d_up), (dy, (gate, up)))| apply(dy, gate, up, d_gate, d_up));
                Ok([d_gate, d_up])
            })
        })
    })?;
    let [d_gate, d_up] = made.map(|values| Tensor::from_vec(values, gate.shape(), gate.device()));
    Ok([d_gate?, d_up?])
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
        let (dy, mut gate, up) = (values(90, 1.0, 1), values(90, 3.0, 2), values(90, 1.0, 3));
        gate[..4].copy_from_slice(&[30.0, -30.0, 0.0, -1.25]);
        let forward = |gate: &[f64], up: &[f64]| -> Vec<f64> {
            gate.iter().zip(up).map(|(&gate, &up)| reference::value(gate, up)).collect()
        };
        let (d_gate, d_up): (Vec<f64>, Vec<f64>) = (0..90).map(|i| reference::backward(dy[i], gate[i], up[i])).unzip();
        check("gate", &gate, &d_gate, |gate| dot(&dy, &forward(gate, &up)));
        check("up", &up, &d_up, |up| dot(&dy, &forward(&gate, up)));
        let tensor = |v: &[f64]| Tensor::from_vec(narrow(v), v.len(), &Device::Cpu).unwrap();
        let got = swiglu_backward(&tensor(&dy), &tensor(&gate), &tensor(&up)).unwrap();
        assert!(off(&flat(&got[0]).unwrap(), &d_gate) < 1e-6 && off(&flat(&got[1]).unwrap(), &d_up) < 1e-6);
        assert!(swiglu_backward(&tensor(&dy[1..]), &tensor(&gate), &tensor(&up)).is_err());
        // Far out, where an exponential has no room.
        let far = tensor(&[-200.0, 200.0]);
        let got = swiglu_backward(&tensor(&[1.0, 1.0]), &far, &tensor(&[2.0, 2.0])).unwrap();
        assert_eq!(flat(&got[0]).unwrap()[1], 2.0);
        assert!(flat(&got[0]).unwrap()[0].abs() < 1e-30);
    }
}
