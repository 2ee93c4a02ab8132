//! Rotary embeddings, half-split: element i of a head rotates together with element i + d/2.

mod backward;
#[cfg(feature = "cuda")]
mod cuda;

pub use backward::rope_backward;

use candle_core::{Result, Tensor};

use crate::simd::multiversion;
use crate::{Fresh, with_f32, write_chunks};

/// Tokens per task.
const TOKENS: usize = 32;

multiversion! {
    /// Rotates the heads of the tokens of `x [tokens, heads, 2 · half]`, `cos` and `sin` being their `[tokens, half]`.
    fn apply(x: &[f32], cos: &[f32], sin: &[f32], half: usize, width: usize, out: &mut Fresh) {
        let tables = cos.chunks_exact(half).zip(sin.chunks_exact(half));
        for ((x, out), (cos, sin)) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)).zip(tables) {
            for (x, out) in x.chunks_exact(2 * half).zip(out.chunks_exact_mut(2 * half)) {
                let ((low, high), (out_low, out_high)) = (x.split_at(half), out.split_at_mut(half));
                for i in 0..half {
                    out_low[i].write(low[i] * cos[i] - high[i] * sin[i]);
                    out_high[i].write(low[i] * sin[i] + high[i] * cos[i]);
                }
            }
        }
    }
}

/// Rotates each head of `x [b, t, heads, d]` f32 by the angles of its position: (a, b) becomes (a cos − b sin, a sin + b
/// cos) for the elements a = i and b = i + d/2. `cos` and `sin` are f32 `[t or more, d/2]`. Errors on other shapes.
pub fn rope(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let (_, t, heads, d) = x.dims4()?;
    let (positions, half) = cos.dims2()?;
    if sin.dims() != cos.dims() || positions < t || d != 2 * half || half == 0 || heads == 0 {
        candle_core::bail!("rotary tables {:?} and {:?} for an input {:?}", cos.shape(), sin.shape(), x.shape());
    }
    on_gpu!(x => cuda::rope(x, cos, sin));
    let width = heads * d;
    let out = with_f32(x, |x| {
        with_f32(cos, |cos| {
            with_f32(sin, |sin| {
                // SAFETY: each task below covers its chunk, sequence by sequence.
                Ok(unsafe {
                    write_chunks(x.len(), TOKENS * width, |i, mut out| {
                        let mut token = i * TOKENS;
                        while !out.is_empty() {
                            let at = token % t;
                            let count = (out.len() / width).min(t - at);
                            let (now, later) = out.split_at_mut(count * width);
                            let x = &x[token * width..][..count * width];
                            apply(x, &cos[at * half..][..count * half], &sin[at * half..], half, width, now);
                            (token, out) = (token + count, later);
                        }
                    })
                })
            })
        })
    })?;
    Tensor::from_vec(out, x.shape(), x.device())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn wrong_tables_are_errors() {
        let x = |dims: &[usize]| Tensor::zeros(dims, candle_core::DType::F32, &Device::Cpu).unwrap();
        assert!(rope(&x(&[1, 4, 2, 8]), &x(&[3, 4]), &x(&[3, 4])).is_err());
        assert!(rope(&x(&[1, 4, 2, 8]), &x(&[4, 3]), &x(&[4, 3])).is_err());
    }
}
