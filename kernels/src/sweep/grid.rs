//! The grids of weights: integers or small floats, times a scale that tiles of weights share. Zero is always among
//! the values of integers (the quantizer of the GPTQ and SparseGPT codes), and of floats.

use super::weighted::least_scale;
pub use crate::element::Element;
use crate::matmul::Precision;
use crate::minifloat::{E2M1_MAX, E2M3_MAX, E4M3_MAX, e2m1, e2m3, e2m3_bits, e4m3, e4m3_byte};

/// Storage of scales.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scales {
    /// In the float type of the matrix.
    Float,
    /// As 8-bit floats, to be divided in f32 by a number for the whole matrix (NVFP4).
    E4m3 {
        /// That number: see [`global_scale`].
        global: f32,
    },
    /// As powers of two (OCP MX).
    Exponent,
}

/// The way in which the scales and zero points of a grid are chosen for its weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Search {
    /// The grid spans the weights.
    #[default]
    MinMax,
    /// The range is shrunk while that lowers Σ|error|^2.4 (GPTQ's `mse`).
    Mse,
    /// The least Σ h·error² of many scales and zero points, with the importance h of each column.
    Weighted,
}

impl Search {
    /// Its name, as options have it.
    pub fn name(self) -> &'static str {
        match self {
            Search::MinMax => "minmax",
            Search::Mse => "mse",
            Search::Weighted => "weighted",
        }
    }
}

/// The format of a matrix's grids.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GridFormat {
    /// The type of a code.
    pub element: Element,
    /// Zero point fixed in the middle. Floats have none, and are symmetric.
    pub symmetric: bool,
    /// The choice of scales.
    pub search: Search,
    /// Storage of the scales.
    pub scales: Scales,
    /// The float type in which compressed-tensors computes the scales of floats: that of the input.
    pub computed: Precision,
    /// The float type of dequantized weights and of [`Scales::Float`]. Scales are rounded to what the file can hold when
    /// they are fitted, so that everything after sees that.
    pub stored: Precision,
}

/// The divisor that NVFP4 gives the scales of a matrix whose largest magnitude is `amax`: the largest code times the largest
/// scale over that, computed in the matrix's type; 1 where that is not finite.
pub fn global_scale(amax: f32, computed: Precision) -> f32 {
    let smallest = if computed == Precision::F16 { 2f32.powi(-14) } else { f32::MIN_POSITIVE };
    let scale = computed.round(E2M1_MAX * E4M3_MAX / amax.max(smallest));
    if scale.is_finite() { scale } else { 1.0 }
}

/// The codes of 0, 0.5, 1, … 6 as 4-bit floats; 0 for those in between that are none.
const E2M1_CODES: [u8; 16] = [0, 1, 2, 3, 4, 0, 5, 0, 6, 0, 0, 0, 7, 0, 0, 0];

/// The four bits of a number that [`e2m1`] gives. Weights change between the ranges of the code at random, so it is looked
/// up, without branches.
#[inline(always)]
fn e2m1_bits(number: f32) -> u8 {
    E2M1_CODES[(number.abs() * 2.0) as usize & 15] | ((number.to_bits() >> 28) as u8 & 8)
}

impl GridFormat {
    /// Integers of `bits` bits, with scales of the type that dequantized weights have.
    pub fn int(bits: u32, symmetric: bool, stored: Precision) -> GridFormat {
        let element = Element::Int(bits);
        GridFormat { element, symmetric, search: Search::MinMax, scales: Scales::Float, computed: stored, stored }
    }

    /// The largest number of the element, on the side where integers have no half more.
    #[inline(always)]
    pub fn max_code(&self) -> f32 {
        match self.element {
            Element::Int(bits) => ((1u32 << bits) - 1) as f32,
            Element::E4m3 => E4M3_MAX,
            Element::E2m3 => E2M3_MAX,
            Element::E2m1 => E2M1_MAX,
        }
    }

    /// The code of `x` as a number. Integers: round to nearest (half to even), then add the zero point, then clamp.
    /// `scale` is the one that codes are multiplied by: see [`GridFormat::applied`].
    #[inline(always)]
    pub fn encode(&self, x: f32, scale: f32, zero: f32) -> f32 {
        match self.element {
            Element::Int(_) => ((x / scale).round_ties_even() + zero).clamp(0.0, self.max_code()),
            Element::E4m3 => e4m3(x / scale),
            Element::E2m3 => e2m3(x / scale),
            Element::E2m1 => e2m1(x / scale),
        }
    }

    /// The value of a code, as stored.
    #[inline(always)]
    pub fn decode(&self, number: f32, scale: f32, zero: f32) -> f32 {
        self.stored.round(scale * (number - zero))
    }

    /// A code as the file has it, of its number.
    #[inline(always)]
    pub fn code(&self, number: f32) -> u8 {
        match self.element {
            Element::Int(_) => number as u8,
            Element::E4m3 => e4m3_byte(number),
            Element::E2m3 => e2m3_bits(number),
            Element::E2m1 => e2m1_bits(number),
        }
    }

    /// The factor of codes, from a scale as it is stored.
    #[inline(always)]
    pub fn applied(&self, scale: f32) -> f32 {
        match self.scales {
            Scales::E4m3 { global } => scale / global,
            Scales::Float | Scales::Exponent => scale,
        }
    }

    /// The value that `x` is rounded to.
    #[inline(always)]
    pub(super) fn rounded(&self, x: f32, scale: f32, zero: f32) -> f32 {
        self.decode(self.encode(x, scale, zero), scale, zero)
    }

    /// The scale, as it is stored, and the zero point of integers for weights from `lo` ≤ 0 to `hi` ≥ 0, the scale rounded
    /// by `round`.
    pub(super) fn scale_and_zero(&self, lo: f32, hi: f32, round: fn(Precision, f32) -> f32) -> (f32, f32) {
        let mut scale = round(self.stored, (hi - lo) / self.max_code());
        if scale == 0.0 {
            // The range is below the smallest number of the stored type (or of f32).
            scale = least_scale(self.stored);
        }
        let zero = if self.symmetric {
            (self.max_code() + 1.0) / 2.0
        } else {
            (-lo / scale).round_ties_even().clamp(0.0, self.max_code())
        };
        (scale, zero)
    }

    /// The scale of floats, as it is stored, for weights up to `amax`: as compressed-tensors computes it.
    pub(super) fn scale_for(&self, amax: f32) -> f32 {
        let plain = self.computed.round(amax / self.max_code());
        let or = |scale: f32, least: f32| if scale == 0.0 { least } else { scale };
        match self.scales {
            Scales::Float => or(self.stored.round(plain), self.stored.epsilon()),
            Scales::E4m3 { global } => or(e4m3(global * plain), 0.125),
            // In half precision the least power of two is none any more.
            Scales::Exponent if amax == 0.0 && self.computed == Precision::F16 => 1.0,
            // 2^-127 is no normal number.
            Scales::Exponent => f32::from_bits((self.element.scale_exponent(amax) << 23).max(1 << 22)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(element: Element, scales: Scales, computed: Precision) -> GridFormat {
        let stored = if scales == Scales::Float { computed } else { Precision::Bf16 };
        GridFormat { element, symmetric: true, search: Search::MinMax, scales, computed, stored }
    }

    /// The codes of all numbers, in order: the definition.
    #[test]
    fn numbers_of_floats_have_their_codes() {
        let eight = floats(Element::E4m3, Scales::Float, Precision::F32);
        for code in 0..127u8 {
            let (exponent, mantissa) = (i32::from(code >> 3), f32::from(code & 7));
            let number = match exponent {
                0 => mantissa / 512.0,
                _ => (1.0 + mantissa / 8.0) * 2f32.powi(exponent - 7),
            };
            assert_eq!((eight.encode(number, 1.0, 0.0), eight.code(number)), (number, code));
            assert_eq!((eight.encode(-number, 1.0, 0.0), eight.code(-number)), (-number, code | 0x80));
        }
        let four = floats(Element::E2m1, Scales::Exponent, Precision::F32);
        for (code, number) in [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0].into_iter().enumerate() {
            assert_eq!((four.encode(number, 1.0, 0.0), four.code(number)), (number, code as u8));
            assert_eq!((four.encode(-number, 1.0, 0.0), four.code(-number)), (-number, code as u8 | 8));
        }
    }

    #[test]
    fn six_bits_have_their_codes_too() {
        let six = floats(Element::E2m3, Scales::Exponent, Precision::F32);
        for code in 0..32u8 {
            let (exponent, mantissa) = (i32::from(code >> 3), f32::from(code & 7));
            let number = if exponent == 0 { mantissa / 8.0 } else { (1.0 + mantissa / 8.0) * 2f32.powi(exponent - 1) };
            assert_eq!((six.encode(number, 1.0, 0.0), six.code(number)), (number, code));
            assert_eq!((six.encode(-number, 1.0, 0.0), six.code(-number)), (-number, code | 0x20));
        }
    }

    /// The published text's own examples, and the edges of each rule.
    #[test]
    fn scales_of_floats_are_those_of_compressed_tensors() {
        let eight = |computed| floats(Element::E4m3, Scales::Float, computed);
        assert_eq!(eight(Precision::Bf16).scale_for(3.0), Precision::Bf16.round(3.0 / 448.0));
        for (precision, want) in [(Precision::F32, -23), (Precision::Bf16, -7), (Precision::F16, -10)] {
            assert_eq!(eight(precision).scale_for(0.0), 2f32.powi(want), "{precision:?}");
        }
        // Below the smallest half: a scale of zero too.
        assert_eq!(eight(Precision::F16).scale_for(1e-5), 2f32.powi(-10));

        assert_eq!(global_scale(1.0, Precision::F32), 2688.0);
        assert_eq!(global_scale(0.617, Precision::Bf16), 4352.0);
        assert_eq!([Precision::F32, Precision::F16].map(|p| global_scale(0.0, p)), [1.0, 1.0]);
        let nv = floats(Element::E2m1, Scales::E4m3 { global: 2688.0 }, Precision::F32);
        assert_eq!([1.0, 2.0, 0.0, 1e-9].map(|amax| nv.scale_for(amax)), [448.0, 448.0, 0.125, 0.125]);
        assert_eq!(nv.applied(448.0), 448.0 / 2688.0);

        for (element, largest, turn) in [(Element::E2m1, 2, 1.75), (Element::E2m3, 2, 1.9375), (Element::E4m3, 8, 1.75)]
        {
            let mx = floats(element, Scales::Exponent, Precision::Bf16);
            let below = turn - 2f32.powi(-7);
            for (amax, exponent) in [(1.0, 0), (below, 0), (turn, 1), (2.0, 1), (turn / 4.0, -1), (below / 4.0, -2)] {
                assert_eq!(mx.scale_for(amax), 2f32.powi(exponent - largest), "{element:?} {amax}");
            }
            assert_eq!([0.0, 1e-40].map(|amax| mx.scale_for(amax)), [2f32.powi(-127); 2]);
            assert_eq!(mx.scale_for(f32::MAX), 2f32.powi(128 - largest));
            let half = floats(element, Scales::Exponent, Precision::F16);
            assert_eq!([0.0, 1.0].map(|amax| half.scale_for(amax)), [1.0, 2f32.powi(-largest)]);
        }
    }
}
