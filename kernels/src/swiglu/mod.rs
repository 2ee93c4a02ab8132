//! SwiGLU: silu(gate) · up.

mod reference;

use candle_core::{Result, Tensor};

use crate::simd::{self, multiversion};
use crate::{Fresh, with_f32, write_chunks};

multiversion! {
    fn apply(gate: &[f32], up: &[f32], out: &mut Fresh) {
        for ((o, &g), &u) in out.iter_mut().zip(gate).zip(up) {
            o.write(g / (1.0 + simd::exp(-g)) * u);
        }
    }
}

/// `gate / (1 + exp(-gate)) * up`, both `[.., dim]` f32.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    if gate.dims() != up.dims() {
        candle_core::bail!("SwiGLU of a gate {:?} and an input {:?}", gate.shape(), up.shape());
    }
    let out = with_f32(gate, |gate| {
        with_f32(up, |up| {
            const CHUNK: usize = 1 << 14;
            // SAFETY: `apply` writes each element of its chunk, for which both inputs have one.
            Ok(unsafe {
                write_chunks(gate.len(), CHUNK, |i, out| {
                    let (gate, up) = (&gate[i * CHUNK..][..out.len()], &up[i * CHUNK..][..out.len()]);
                    apply(gate, up, out);
                })
            })
        })
    })?;
    Tensor::from_vec(out, gate.shape(), gate.device())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn agrees_with_the_definition() {
        let random = |seed| Tensor::from_vec(crate::test_values(3003, 8.0, seed), (3, 1001), &Device::Cpu).unwrap();
        let (gate, up) = (random(1), random(2));
        let flat = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let got = flat(&swiglu(&gate, &up).unwrap());
        for ((got, gate), up) in got.iter().zip(flat(&gate)).zip(flat(&up)) {
            let want = reference::swiglu(gate, up);
            // Four roundings after an exponential of relative error 3e-7.
            assert!((f64::from(*got) - want).abs() <= 1e-6 * want.abs() + 1e-30, "{got} want {want}");
        }
    }
}
