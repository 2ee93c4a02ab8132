//! Fake quantization as compressed-tensors has it, step by step in f32: the definition that the fast form agrees with.

use super::{Rounding, Scales};
use crate::element::Element;

/// All numbers that codes stand for, from the least to the largest.
fn numbers(code: Element) -> Vec<f32> {
    let positive: Vec<f32> = match code {
        Element::Int(bits) => return (-(1i32 << (bits - 1))..1 << (bits - 1)).map(|v| v as f32).collect(),
        Element::E4m3 => (0..127)
            .map(|code| match (code >> 3, (code & 7) as f32) {
                (0, mantissa) => mantissa / 512.0,
                (exponent, mantissa) => (1.0 + mantissa / 8.0) * 2f32.powi(exponent - 7),
            })
            .collect(),
        Element::E2m3 => (0..32)
            .map(|code| match (code >> 3, (code & 7) as f32) {
                (0, mantissa) => mantissa / 8.0,
                (exponent, mantissa) => (1.0 + mantissa / 8.0) * 2f32.powi(exponent - 1),
            })
            .collect(),
        Element::E2m1 => vec![0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0],
    };
    let negative = positive[1..].iter().rev().map(|v| -v);
    negative.chain(positive.iter().copied()).collect()
}

/// The nearest number; of two, that with the even code.
fn nearest(code: Element, v: f32) -> f32 {
    let numbers = numbers(code);
    let zero = numbers.iter().position(|&n| n == 0.0).unwrap_or(0);
    let distance = |i: usize| (f64::from(numbers[i]) - f64::from(v)).abs();
    let best = (0..numbers.len()).min_by(|&a, &b| {
        let odd = |i: usize| i.abs_diff(zero) % 2;
        distance(a).total_cmp(&distance(b)).then(odd(a).cmp(&odd(b)))
    });
    best.map_or(f32::NAN, |i| numbers[i])
}

/// `x`, row-major with `cols` columns, rounded to codes and back.
pub(crate) fn apply(how: &Rounding, x: &[f32], cols: usize) -> Vec<f32> {
    let size = match how.scales {
        Scales::Given(..) | Scales::Tensor => x.len(),
        Scales::Token => cols,
        Scales::Group(size) | Scales::Exponent(size) | Scales::Local(size, _) => size,
    };
    let (least, largest) = numbers(how.element).iter().fold((0f32, 0f32), |(a, b), &v| (a.min(v), b.max(v)));
    let mut out = Vec::new();
    for x in x.chunks(size) {
        let low = x.iter().copied().fold(0f32, f32::min);
        let high = x.iter().copied().fold(0f32, f32::max);
        let above = high.max(low.abs());
        let (mut scale, mut zero) = match how.scales {
            Scales::Given(scale, zero) => (scale, zero),
            _ if how.symmetric => (above / ((largest - least) / 2.0), 0.0),
            _ => ((high - low) / (largest - least), 0.0),
        };
        match how.scales {
            Scales::Exponent(_) => {
                // From this much times 2^k on it counts as 2^(k+1).
                let (own, limit) = match how.element {
                    Element::E2m1 => (2, 1.75),
                    Element::E2m3 => (2, 1.9375),
                    _ => (8, 1.75),
                };
                let mut k = if above == 0.0 { -1000 } else { f64::from(above).log2().floor() as i32 };
                k += i32::from(f64::from(above) >= limit * 2f64.powi(k));
                scale = 2f64.powi((127 + k - own).clamp(0, 255) - 127) as f32;
            }
            Scales::Local(_, global) => {
                scale = nearest(Element::E4m3, (scale * global).clamp(-448.0, 448.0));
                scale = if scale == 0.0 { 0.125 } else { scale } / global;
            }
            Scales::Given(..) => {}
            _ => {
                if !how.symmetric && scale > 0.0 {
                    zero = (least - low / scale).clamp(least, largest).round_ties_even();
                }
                scale = if scale == 0.0 { f32::EPSILON } else { scale };
            }
        }
        let value = |&x: &f32| (nearest(how.element, (x / scale + zero).clamp(least, largest)) - zero) * scale;
        out.extend(x.iter().map(value));
    }
    out
}
