//! Cases of operations between two products: norms, rotary embeddings, SwiGLU and GELU.

use candle_core::{Result, Tensor};

use super::{Case, Deviation, flat, largest, random, values};
use crate::{gelu, norm, rope, swiglu};

/// Rows and features: odd ones, a warp's, a block's.
const ROWS: [(usize, usize); 6] = [(1, 1), (3, 7), (70, 48), (33, 100), (2, 1500), (5, 4099)];

/// Windows, tokens, heads and size of a head.
const ROPES: [[usize; 4]; 5] = [[1, 1, 1, 2], [3, 7, 2, 6], [2, 50, 3, 64], [1, 100, 1, 34], [1, 5, 40, 128]];

pub(super) fn cases() -> Vec<Case> {
    let norms = ROWS.into_iter().flat_map(|shape| [rms(shape), layer(shape)]);
    norms.chain(ROPES.map(rotary)).chain([swiglus(), gelus()]).collect()
}

fn rms((rows, dim): (usize, usize)) -> Case {
    Case::new(format!("norm: root mean square of {rows} times {dim}"), move |device| {
        let (x, w) = (random(&[rows, dim], 2.0, 1, device)?, random(&[dim], 1.0, 2, device)?);
        let got = flat(&norm::rms(&x, &w, 1e-5)?)?;
        let w = flat(&w)?;
        let mut want = Vec::new();
        for x in flat(&x)?.chunks_exact(dim) {
            let mean = x.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / dim as f64;
            want.extend(x.iter().zip(&w).map(|(&x, &w)| f64::from(x) / (mean + 1e-5).sqrt() * f64::from(w)));
        }
        // A sum of up to some thousand squares in many parts, and a handful of roundings.
        Ok(Deviation::ratio(largest(&got, &want, |_, want| 2e-6 * want.abs() + 1e-30)))
    })
}

fn layer((rows, dim): (usize, usize)) -> Case {
    Case::new(format!("norm: layer norm of {rows} times {dim}"), move |device| {
        // Not centred, or a norm that forgets the mean would pass.
        let x: Vec<f32> = values(rows * dim, 2.0, 1).iter().map(|v| v + 3.0).collect();
        let [w, b] = [2, 3].map(|seed| values(dim, 1.0, seed));
        let tensor = |v: &[f32]| Tensor::from_slice(v, v.len(), device);
        let input = tensor(&x)?.reshape((rows, dim))?;
        let got = flat(&norm::layer(&input, &tensor(&w)?, &tensor(&b)?, 1e-5)?)?;
        let (mut want, mut bounds) = (Vec::new(), Vec::new());
        for x in x.chunks_exact(dim) {
            let mean = x.iter().map(|&v| f64::from(v)).sum::<f64>() / dim as f64;
            let var = x.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / dim as f64;
            for ((&x, &w), &b) in x.iter().zip(&w).zip(&b) {
                let (factor, x) = (f64::from(w) / (var + 1e-5).sqrt(), f64::from(x));
                want.push((x - mean) * factor + f64::from(b));
                // The mean is off by some 1e-7 of the values, and so is each difference; then a few roundings.
                bounds.push(1e-6 * (x.abs() * factor.abs() + want[want.len() - 1].abs() + 1.0));
            }
        }
        Ok(Deviation::ratio(largest(&got, &want, |i, _| bounds[i])))
    })
}

fn rotary([b, t, heads, d]: [usize; 4]) -> Case {
    Case::new(format!("rope: {b} times {t} tokens, {heads} heads of {d}"), move |device| {
        let half = d / 2;
        // The tables may be longer than the sequence.
        let angles: Vec<f32> = (0..(t + 3) * half).map(|i| (i * 7919 % 1000) as f32 * 0.01).collect();
        let table = |f: fn(f32) -> f32| -> Result<Tensor> {
            Tensor::from_vec(angles.iter().map(|&a| f(a)).collect::<Vec<f32>>(), (t + 3, half), device)
        };
        let x = random(&[b, t, heads, d], 1.0, 1, device)?;
        let got = flat(&rope::rope(&x, &table(f32::cos)?, &table(f32::sin)?)?)?;
        let mut want = Vec::new();
        for (i, x) in flat(&x)?.chunks_exact(d).enumerate() {
            let (low, high) = x.split_at(half);
            let angle = |j: usize| f64::from(angles[i / heads % t * half + j]);
            let turned = |f: &dyn Fn(f64, f64, f64) -> f64| -> Vec<f64> {
                (0..half).map(|j| f(f64::from(low[j]), f64::from(high[j]), angle(j))).collect()
            };
            want.extend(turned(&|a, b, angle| a * angle.cos() - b * angle.sin()));
            want.extend(turned(&|a, b, angle| a * angle.sin() + b * angle.cos()));
        }
        // Two products of numbers of order one.
        Ok(Deviation::ratio(largest(&got, &want, |_, _| 1e-6)))
    })
}

fn swiglus() -> Case {
    Case::new("swiglu: ordinary values and large ones", |device| {
        let (gate, up) = (random(&[3, 1001], 8.0, 1, device)?, random(&[3, 1001], 8.0, 2, device)?);
        // Beyond what the exponential reaches.
        let (gate, up) = (Tensor::cat(&[&gate, &(&gate * 20.0)?], 0)?, Tensor::cat(&[&up, &up], 0)?);
        let want: Vec<f64> =
            flat(&gate)?.iter().zip(flat(&up)?).map(|(&g, u)| swiglu::reference::swiglu(g, u)).collect();
        // Four roundings after an exponential of relative error 3e-7, which is cut off at 6e37 and 1e-38.
        let got = flat(&swiglu::swiglu(&gate, &up)?)?;
        Ok(Deviation::ratio(largest(&got, &want, |_, want| 1e-6 * want.abs() + 1e-30)))
    })
}

fn gelus() -> Case {
    Case::new("gelu: from -16 to 16, and far outside", |device| {
        let mut x: Vec<f32> = (-8000..=8000).map(|i| i as f32 * 2e-3).collect();
        x.extend([-1e30, -40.0, -1e-30, -0.0, 1e-30, 40.0, f32::INFINITY, f32::NAN]);
        let got = flat(&gelu::gelu(&Tensor::from_slice(&x, x.len(), device)?)?)?;
        // The series needs as many terms as x is large.
        let definition = |&x: &f32| match x {
            _ if x.is_nan() => f64::NAN,
            _ if x.abs() > 20.0 => f64::from(x.max(0.0)),
            _ => gelu::reference::gelu(x),
        };
        let want: Vec<f64> = x.iter().map(definition).collect();
        // The distribution to some roundings, times x; the definition's own tail is cut off at 1e-16.
        Ok(Deviation::ratio(largest(&got, &want, |i, _| 3e-7 * f64::from(x[i]).abs().min(20.0) + 1e-38)))
    })
}
