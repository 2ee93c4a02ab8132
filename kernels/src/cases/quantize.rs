//! Cases of activations rounded to codes.

use candle_core::Tensor;

use super::{Case, Deviation, flat, largest, values};
use crate::element::Element;
use crate::quantize::{Rounding, Scales, range, reference};

/// Every kind of number that a scale may stand for: ordinary tokens, one that is all zero, one-sided ones, tiny and huge
/// ones, exact halves.
pub(crate) fn tokens(count: usize, cols: usize) -> Vec<f32> {
    let mut x = values(count * cols, 1.0, 3);
    for (i, row) in x.chunks_exact_mut(cols).enumerate() {
        match i % 7 {
            1 => row.fill(0.0),
            2 => row.iter_mut().for_each(|v| *v = v.abs()),
            3 => row.iter_mut().for_each(|v| *v = -v.abs()),
            4 => row.iter_mut().for_each(|v| *v *= 1e-30),
            5 => row.iter_mut().for_each(|v| *v *= 1e20),
            6 => row.iter_mut().enumerate().for_each(|(j, v)| *v = (j as f32 - 5.0) * 0.25),
            _ => {}
        }
    }
    x
}

const SCALES: [Scales; 8] = [
    Scales::Given(0.0123, 0.0),
    Scales::Given(0.02, -3.0),
    Scales::Tensor,
    Scales::Token,
    Scales::Group(16),
    Scales::Group(32),
    Scales::Exponent(32),
    Scales::Local(16, 684.0),
];

/// All combinations that mean something.
pub(crate) fn all() -> impl Iterator<Item = Rounding> {
    let elements = [Element::Int(8), Element::Int(4), Element::Int(2), Element::E4m3, Element::E2m3, Element::E2m1];
    let kinds = elements.into_iter().flat_map(|element| SCALES.map(|scales| (element, scales)));
    kinds.flat_map(|(element, scales)| [true, false].map(|symmetric| Rounding { element, symmetric, scales })).filter(
        |how| {
            let floats = !matches!(how.element, Element::Int(_));
            let zeros = !how.symmetric || matches!(how.scales, Scales::Given(_, zero) if zero != 0.0);
            // Floats have no zero points, and only they have scales of these types.
            !(floats && zeros) && (floats || !matches!(how.scales, Scales::Exponent(_) | Scales::Local(..)))
        },
    )
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    // Rows for a warp and for a block; the second are not whole lines of 16 bytes, nor groups.
    for (count, cols) in [(2 * 21, 96), (2 * 7, 2049)] {
        for how in all() {
            let grouped = matches!(how.scales, Scales::Group(_) | Scales::Exponent(_) | Scales::Local(..));
            if grouped && cols % 32 != 0 {
                continue;
            }
            cases.push(Case::new(format!("quantize: {count} tokens of {cols}, {how:?}"), move |device| {
                let x = tokens(count, cols);
                let got = flat(&how.apply(&Tensor::from_slice(&x, (2, count / 2, cols), device)?)?)?;
                let want: Vec<f64> = reference::apply(&how, &x, cols).iter().map(|&v| f64::from(v)).collect();
                // Bits. Only local scales come before the codes' product with the inverse of the global one and not as
                // their quotient: three roundings in the place of one.
                let local = matches!(how.scales, Scales::Local(..));
                let allowed = |_, want: f64| if local { 4e-7 * want.abs() } else { 0.0 };
                Ok(Deviation::ratio(largest(&got, &want, |i, want| f64::max(allowed(i, want), f64::MIN_POSITIVE))))
            }));
        }
    }
    for count in [1, 31, 40_003] {
        cases.push(Case::new(format!("quantize: the range of {count} numbers"), move |device| {
            let mut x = values(count, 1.0, 5);
            x[count / 2] = f32::NAN;
            let got = range(&Tensor::from_slice(&x, count, device)?)?;
            let want = [x.iter().copied().fold(0f32, f32::min), x.iter().copied().fold(0f32, f32::max)];
            Ok(Deviation::ratio(if got == want { 0.0 } else { f64::INFINITY }))
        }));
    }
    cases
}
