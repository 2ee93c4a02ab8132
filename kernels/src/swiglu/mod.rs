//! SwiGLU: silu(gate) · up.

mod backward;
pub(crate) mod reference;

pub use backward::swiglu_backward;

use candle_core::{Result, Tensor};

use crate::simd::{self, multiversion};
use crate::{Fresh, with_f32, write_chunks};

multiversion! {
    pub(crate) fn apply(gate: &[f32], up: &[f32], out: &mut Fresh) {
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
    on_gpu!(gate => crate::cuda::map2(crate::cuda::Source::Swiglu, "swiglu", gate, up));
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
    use candle_core::{DType, Device};

    #[test]
    fn shapes_that_differ_are_an_error() {
        let zeros = |dims: [usize; 2]| Tensor::zeros(&dims, DType::F32, &Device::Cpu).unwrap();
        assert!(swiglu(&zeros([2, 3]), &zeros([3, 2])).is_err());
    }
}
