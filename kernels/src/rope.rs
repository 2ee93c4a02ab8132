//! Rotary embeddings, half-split: element i of a head turns together with element i + d/2.

use candle_core::{Result, Tensor};

use crate::simd::multiversion;
use crate::{Fresh, with_f32, write_chunks};

/// Tokens per task.
const TOKENS: usize = 32;

multiversion! {
    /// Turns the heads of the tokens of `x [tokens, heads, 2 · half]`, `cos` and `sin` being their `[tokens, half]`.
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

/// Turns each head of `x [b, t, heads, d]` f32 by the angles of its position: (a, b) becomes (a cos − b sin, a sin + b
/// cos) for the elements a = i and b = i + d/2. `cos` and `sin` are f32 `[t or more, d/2]`. Errors on other shapes.
pub fn rope(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let (_, t, heads, d) = x.dims4()?;
    let (positions, half) = cos.dims2()?;
    if sin.dims() != cos.dims() || positions < t || d != 2 * half || half == 0 || heads == 0 {
        candle_core::bail!("rotary tables {:?} and {:?} for an input {:?}", cos.shape(), sin.shape(), x.shape());
    }
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
    fn agrees_with_the_definition() {
        for (b, t, heads, d) in [(1, 1, 1, 2), (3, 7, 2, 6), (2, 50, 3, 64), (1, 100, 1, 34)] {
            let x = crate::test_values(b * t * heads * d, 1.0, 1);
            let half = d / 2;
            // The tables may be longer than the sequence.
            let angles: Vec<f32> = (0..(t + 3) * half).map(|i| (i * 7919 % 1000) as f32 * 0.01).collect();
            let table = |f: fn(f32) -> f32| {
                Tensor::from_vec(angles.iter().map(|&a| f(a)).collect(), (t + 3, half), &Device::Cpu)
            };
            let tensor = Tensor::from_vec(x.clone(), (b, t, heads, d), &Device::Cpu).unwrap();
            let out = rope(&tensor, &table(f32::cos).unwrap(), &table(f32::sin).unwrap()).unwrap();
            let out = out.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            for (i, (x, out)) in x.chunks_exact(d).zip(out.chunks_exact(d)).enumerate() {
                for j in 0..half {
                    let angle = f64::from(angles[i / heads % t * half + j]);
                    let (low, high) = (f64::from(x[j]), f64::from(x[j + half]));
                    for (got, want) in [
                        (out[j], low * angle.cos() - high * angle.sin()),
                        (out[j + half], low * angle.sin() + high * angle.cos()),
                    ] {
                        // Two products of numbers of order one.
                        assert!((f64::from(got) - want).abs() < 1e-6, "{got} want {want}");
                    }
                }
            }
        }
        let x = |dims: &[usize]| Tensor::zeros(dims, candle_core::DType::F32, &Device::Cpu).unwrap();
        assert!(rope(&x(&[1, 4, 2, 8]), &x(&[3, 4]), &x(&[3, 4])).is_err());
        assert!(rope(&x(&[1, 4, 2, 8]), &x(&[4, 3]), &x(&[4, 3])).is_err());
    }
}
