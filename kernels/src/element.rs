//! The types of a quantization's codes.

use crate::minifloat::{E2M1_MAX, E2M3_MAX, E4M3_MAX};

/// The type of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// An integer of that many bits, 1 to 8. Weights are swept as `0 ..= 2^bits - 1` with a zero point among these,
    /// activations as `-2^(bits-1) ..= 2^(bits-1) - 1`.
    Int(u32),
    /// An 8-bit float ([`crate::minifloat::e4m3`]), without a zero point; its code is its byte.
    E4m3,
    /// A 6-bit float ([`crate::minifloat::e2m3`]), without a zero point; its code has the sign in bit 5.
    E2m3,
    /// A 4-bit float ([`crate::minifloat::e2m1`]), without a zero point; its code has the sign in bit 3.
    E2m1,
}

impl Element {
    /// The least and the largest number, integers signed.
    pub fn range(self) -> (f32, f32) {
        match self {
            Element::Int(bits) => {
                let half = (1u32 << (bits.clamp(1, 8) - 1)) as f32;
                (-half, half - 1.0)
            }
            Element::E4m3 => (-E4M3_MAX, E4M3_MAX),
            Element::E2m3 => (-E2M3_MAX, E2M3_MAX),
            Element::E2m1 => (-E2M1_MAX, E2M1_MAX),
        }
    }

    /// The exponent, plus 127, of the scale that OCP MX has for numbers up to `most` ≥ 0: that of `most` less that of the element's
    /// largest number, after a part of the leading bit was added, as compressed-tensors does: a quarter, or a sixteenth for
    /// [`Element::E2m3`], whose largest number has all bits of its mantissa set.
    #[inline(always)]
    pub(crate) fn scale_exponent(self, most: f32) -> u32 {
        let (own, added) = match self {
            Element::E2m1 => (2, 1 << 21),
            Element::E2m3 => (2, 1 << 19),
            Element::E4m3 | Element::Int(_) => (8, 1 << 21),
        };
        (most.to_bits().wrapping_add(added) >> 23).saturating_sub(own)
    }

    /// The divisor of |x| for the scale of a symmetric grid: half the range, for integers half a code more than the
    /// largest.
    pub fn half_range(self) -> f32 {
        let (least, largest) = self.range();
        (largest - least) / 2.0
    }
}
