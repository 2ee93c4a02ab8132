//! Element types of stored tensors, and conversion between the float ones and f32.

use std::fmt;

use half::f16;
use half::slice::HalfFloatSliceExt;
use safetensors::Dtype as SafetensorsDtype;

use crate::floats;

/// The element type of a stored tensor, by its safetensors name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Dtype {
    F64,
    F32,
    F16,
    Bf16,
    F8E4M3,
    I64,
    I32,
    I16,
    I8,
    U8,
    U32,
    Bool,
}

/// Every type with its name on disk, its bytes, and its twin in the safetensors crate.
const TABLE: [(Dtype, &str, usize, SafetensorsDtype); 12] = [
    (Dtype::F64, "F64", 8, SafetensorsDtype::F64),
    (Dtype::F32, "F32", 4, SafetensorsDtype::F32),
    (Dtype::F16, "F16", 2, SafetensorsDtype::F16),
    (Dtype::Bf16, "BF16", 2, SafetensorsDtype::BF16),
    (Dtype::F8E4M3, "F8_E4M3", 1, SafetensorsDtype::F8_E4M3),
    (Dtype::I64, "I64", 8, SafetensorsDtype::I64),
    (Dtype::I32, "I32", 4, SafetensorsDtype::I32),
    (Dtype::I16, "I16", 2, SafetensorsDtype::I16),
    (Dtype::I8, "I8", 1, SafetensorsDtype::I8),
    (Dtype::U8, "U8", 1, SafetensorsDtype::U8),
    (Dtype::U32, "U32", 4, SafetensorsDtype::U32),
    (Dtype::Bool, "BOOL", 1, SafetensorsDtype::BOOL),
];

impl Dtype {
    /// `x` rounded to this float type and widened again; other types leave it as it is. The 8-bit float has no infinity:
    /// what is too large becomes its largest number.
    #[inline]
    pub fn round(self, x: f32) -> f32 {
        match self {
            Dtype::Bf16 => round_bf16(x),
            Dtype::F16 => round_f16(x),
            Dtype::F8E4M3 => floats::from_e4m3(floats::to_e4m3(x)),
            _ => x,
        }
    }

    /// The least positive number of this float type; of other types that of f32.
    pub fn least(self) -> f32 {
        match self {
            Dtype::F16 => 2f32.powi(-24),
            Dtype::F8E4M3 => 2f32.powi(-9),
            Dtype::Bf16 => f32::from_bits(1 << 16),
            _ => f32::from_bits(1),
        }
    }

    /// Tells whether the value is finite and this float type has it exactly.
    pub(crate) fn holds(self, value: f32) -> bool {
        value.is_finite() && self.round(value).to_bits() == value.to_bits()
    }

    /// The type with this safetensors name.
    pub fn parse(name: &str) -> Option<Dtype> {
        TABLE.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// The safetensors name.
    pub fn name(self) -> &'static str {
        TABLE[self as usize].1
    }

    /// Bytes of one element.
    pub fn size(self) -> usize {
        TABLE[self as usize].2
    }

    /// The types that say what a tensor's numbers are, which all floats of a model may be stored in. The 8-bit float is stored
    /// with scales that give it its meaning, and is none of them.
    pub const FLOATS: [Dtype; 4] = [Dtype::F32, Dtype::F16, Dtype::Bf16, Dtype::F64];

    /// Tells whether it is one of [`Dtype::FLOATS`].
    pub fn is_float(self) -> bool {
        Dtype::FLOATS.contains(&self)
    }

    /// Tells whether a matrix in memory may have it: f32, f16, bf16; see [`Dtype::in_memory`].
    pub fn is_weight(self) -> bool {
        self.is_float() && self.in_memory() == self
    }

    /// The type of numbers that are read from this one: f64 becomes f32, and is computed with and written as that.
    pub fn in_memory(self) -> Dtype {
        if self == Dtype::F64 { Dtype::F32 } else { self }
    }

    /// The type of the safetensors crate with the same name, if this crate has it.
    pub fn from_safetensors(stored: SafetensorsDtype) -> Option<Dtype> {
        TABLE.iter().find(|row| row.3 == stored).map(|row| row.0)
    }

    /// The twin in the safetensors crate.
    pub fn to_safetensors(self) -> SafetensorsDtype {
        TABLE[self as usize].3
    }

    /// Bytes of a tensor of this type and shape, unless that overflows.
    pub fn bytes_of(self, shape: &[usize]) -> Option<usize> {
        shape.iter().try_fold(self.size(), |n, &dim| n.checked_mul(dim))
    }

    /// Little-endian floats as f32 (f64 is rounded). Bytes after the last whole element are ignored.
    ///
    /// # Panics
    /// If the type is no float: neither [`Dtype::is_float`] nor the 8-bit one.
    pub fn decode_f32(self, bytes: &[u8]) -> Vec<f32> {
        let mut values = Vec::new();
        self.decode_f32_to(bytes, &mut values);
        values
    }

    /// As [`Dtype::decode_f32`], after what `values` already has.
    pub(crate) fn decode_f32_to(self, bytes: &[u8], values: &mut Vec<f32>) {
        fn each<const N: usize>(bytes: &[u8], values: &mut Vec<f32>, f: impl Fn([u8; N]) -> f32) {
            values.extend(bytes.as_chunks::<N>().0.iter().map(|&chunk| f(chunk)));
        }
        match self {
            Dtype::F64 => each(bytes, values, |b| f64::from_le_bytes(b) as f32),
            Dtype::F32 => each(bytes, values, f32::from_le_bytes),
            Dtype::F16 => decode_f16(bytes, values),
            // A bf16 is the upper half of an f32: plain shifts, which the compiler turns into vectors.
            Dtype::Bf16 => each(bytes, values, |b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16)),
            Dtype::F8E4M3 => values.extend(bytes.iter().map(|&byte| floats::from_e4m3(byte))),
            other => panic!("{} is not a float type", other.name()),
        }
    }

    /// Little-endian bytes of `values`, rounded to nearest even, as [`Dtype::round`] does.
    ///
    /// # Panics
    /// If the type is no float: neither [`Dtype::is_float`] nor the 8-bit one.
    pub fn encode(self, values: &[f32]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(values.len() * self.size());
        self.encode_to(values, &mut bytes);
        bytes
    }

    /// As [`Dtype::encode`], after what `bytes` already has.
    pub(crate) fn encode_to(self, values: &[f32], bytes: &mut Vec<u8>) {
        fn each<const N: usize>(values: &[f32], bytes: &mut Vec<u8>, f: impl Fn(f32) -> [u8; N]) {
            // What is made zero is still in the cache when it is written.
            for values in values.chunks(AT_ONCE) {
                let start = bytes.len();
                bytes.resize(start + values.len() * N, 0);
                let each = bytes[start..].as_chunks_mut::<N>().0.iter_mut().zip(values);
                each.for_each(|(bytes, &value)| *bytes = f(value));
            }
        }
        bytes.reserve(values.len() * self.size());
        match self {
            Dtype::F64 => each(values, bytes, |v| f64::from(v).to_le_bytes()),
            Dtype::F32 => each(values, bytes, f32::to_le_bytes),
            Dtype::F16 => encode_f16(values, bytes),
            Dtype::Bf16 => each(values, bytes, |v| ((round_bf16(v).to_bits() >> 16) as u16).to_le_bytes()),
            Dtype::F8E4M3 => each(values, bytes, |v| [floats::to_e4m3(v)]),
            other => panic!("{} is not a float type", other.name()),
        }
    }
}

/// `x` rounded to bfloat16, half to even, and widened again. Without branches, so that loops over it are vectorised.
#[inline(always)]
pub(crate) fn round_bf16(x: f32) -> f32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    f32::from_bits(if x.is_nan() { bits | 0x40_0000 } else { rounded } & 0xffff_0000)
}

/// `x` rounded to half precision, half to even, and widened again. Without branches, so that loops over it are
/// vectorised.
#[inline(always)]
pub(crate) fn round_f16(x: f32) -> f32 {
    let (sign, size) = (x.to_bits() & 0x8000_0000, x.to_bits() & 0x7fff_ffff);
    // 13 bits of the mantissa go. What then is more than 65504 is infinite; below 2^-14 numbers lie 2^-24 apart, as floats
    // do from 0.5 to 1.
    let rounded = size.wrapping_add(0xfff + (size >> 13 & 1)) & 0xffff_e000;
    let normal = if rounded > 0x477f_e000 { 0x7f80_0000 } else { rounded };
    let small = ((f32::from_bits(size) + 0.5) - 0.5).to_bits();
    let finite = if size < 0x3880_0000 { small } else { normal };
    f32::from_bits(sign | if x.is_nan() { (size | 0x40_0000) & 0xffff_e000 } else { finite })
}

/// Numbers that are changed at once: their halves stay in the nearest cache.
const AT_ONCE: usize = 2048;

/// Appends the little-endian bytes of `values`, rounded as [`round_f16`] does, by the instruction for it where the
/// processor has one.
fn encode_f16(values: &[f32], bytes: &mut Vec<u8>) {
    let mut halves = [f16::ZERO; AT_ONCE];
    for values in values.chunks(AT_ONCE) {
        let start = bytes.len();
        bytes.resize(start + 2 * values.len(), 0);
        let halves = &mut halves[..values.len()];
        halves.convert_from_f32_slice(values);
        let each = bytes[start..].as_chunks_mut::<2>().0.iter_mut().zip(halves);
        each.for_each(|(to, half)| *to = half.to_le_bytes());
    }
}

/// Appends the numbers of little-endian half precision, as [`encode_f16`] makes them. Signalling NaN become quiet ones.
fn decode_f16(bytes: &[u8], values: &mut Vec<f32>) {
    let bytes = bytes.as_chunks::<2>().0;
    values.reserve(bytes.len());
    let mut halves = [f16::ZERO; AT_ONCE];
    for bytes in bytes.chunks(AT_ONCE) {
        let halves = &mut halves[..bytes.len()];
        halves.iter_mut().zip(bytes).for_each(|(half, &from)| *half = f16::from_le_bytes(from));
        let start = values.len();
        values.resize(start + halves.len(), 0.0);
        halves.convert_to_f32_slice(&mut values[start..]);
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_enum() {
        for (i, &(dtype, name, size, stored)) in TABLE.iter().enumerate() {
            assert_eq!(dtype as usize, i);
            assert_eq!(Dtype::parse(name), Some(dtype));
            assert_eq!(Dtype::from_safetensors(stored), Some(dtype));
            assert_eq!(stored.bitsize(), size * 8);
            assert_eq!(stored.to_string(), name);
        }
        assert_eq!(Dtype::parse("float32"), None);
        assert_eq!(Dtype::from_safetensors(SafetensorsDtype::U64), None);
    }

    #[test]
    fn floats_survive_encoding() {
        let values = [0.0f32, -0.0, 1.0, -1.5, 0.099609375, 65504.0, 6.1035156e-5, -3.0];
        for dtype in [Dtype::F64, Dtype::F32, Dtype::F16, Dtype::Bf16, Dtype::F8E4M3] {
            let expected: Vec<u32> = values.iter().map(|&v| dtype.round(v).to_bits()).collect();
            let bytes = dtype.encode(&values);
            assert_eq!(bytes.len(), values.len() * dtype.size());
            let got: Vec<u32> = dtype.decode_f32(&bytes).iter().map(|v| v.to_bits()).collect();
            assert_eq!(got, expected, "{dtype}");
        }
    }

    /// The f32 that these bits of half precision are, from the definition: fraction, exponent and sign.
    fn widened(bits: u16) -> u32 {
        let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 0x3ff) / 1024.0);
        let size = match exponent {
            0 => fraction * 2f64.powi(-14),
            31 if fraction == 0.0 => f64::INFINITY,
            // Quiet, with the rest of the fraction where it was.
            31 => return u32::from(bits & 0x8000) << 16 | 0x7fc0_0000 | u32::from(bits & 0x3ff) << 13,
            _ => (1.0 + fraction) * 2f64.powi(exponent - 15),
        };
        (size as f32).to_bits() | u32::from(bits & 0x8000) << 16
    }

    #[test]
    fn many_halves_at_once_are_those_of_one_at_a_time() {
        let mut rng = crate::testing::Rng(2);
        for count in [0, 1, 7, 8, 9, 2047, 2048, 2049, 5000] {
            let values: Vec<f32> = (0..count).map(|_| f32::from_bits(rng.next() as u32)).collect();
            let mut bytes = vec![1, 2, 3];
            Dtype::F16.encode_to(&values, &mut bytes);
            assert_eq!(bytes[..3], [1, 2, 3]);
            let each: Vec<u8> = values.iter().flat_map(|&x| f16::from_f32(round_f16(x)).to_le_bytes()).collect();
            assert_eq!(bytes[3..], each);
            let decoded: Vec<u32> = Dtype::F16.decode_f32(&bytes[3..]).iter().map(|x| x.to_bits()).collect();
            let expected: Vec<u32> = values.iter().map(|&x| round_f16(x).to_bits()).collect();
            assert_eq!(decoded, expected);
            // Half a number more is not looked at.
            bytes.push(0xff);
            assert_eq!(Dtype::F16.decode_f32(&bytes[3..]).len(), count);
        }
    }

    #[test]
    fn the_least_number_stays_and_a_third_of_it_is_zero() {
        for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16, Dtype::F8E4M3] {
            assert!(dtype.holds(dtype.least()), "{dtype}");
            assert_eq!(dtype.round(dtype.least() / 3.0), 0.0, "{dtype}");
        }
    }

    #[test]
    fn rounding_is_that_of_half() {
        let check = |bits: u32| {
            let x = f32::from_bits(bits);
            assert_eq!(round_f16(x).to_bits(), f16::from_f32(x).to_f32().to_bits(), "{bits:08x}");
            assert_eq!(round_bf16(x).to_bits(), bf16::from_f32(x).to_f32().to_bits(), "{bits:08x}");
        };
        // Around every number of both types, and half way to the next one.
        for high in 0..=u16::MAX {
            for low in [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff] {
                check(u32::from(high) << 16 | low);
            }
            let number = f16::from_bits(high).to_f32().to_bits();
            let decoded = Dtype::F16.decode_f32(&high.to_le_bytes())[0];
            assert_eq!(decoded.to_bits(), number, "{high:04x}");
            assert_eq!(number, widened(high), "{high:04x}");
            for half in [0u32, 0x1000] {
                (0..3).for_each(|near| check(number.wrapping_add(half).wrapping_add(near).wrapping_sub(1)));
            }
        }
        let mut rng = crate::testing::Rng(1);
        (0..100_000).for_each(|_| check(rng.next() as u32));
    }

    #[test]
    fn sizes_are_checked() {
        assert_eq!(Dtype::Bf16.bytes_of(&[3, 5]), Some(30));
        assert_eq!(Dtype::F32.bytes_of(&[]), Some(4));
        assert_eq!(Dtype::F32.bytes_of(&[usize::MAX / 2, 3]), None);
    }

    #[test]
    fn kinds_of_types() {
        for (dtype, float, weight) in [
            (Dtype::F64, true, false),
            (Dtype::F32, true, true),
            (Dtype::F16, true, true),
            (Dtype::Bf16, true, true),
            (Dtype::F8E4M3, false, false),
            (Dtype::I8, false, false),
        ] {
            assert_eq!((dtype.is_float(), dtype.is_weight()), (float, weight), "{dtype}");
        }
        assert_eq!([Dtype::F64, Dtype::F16].map(Dtype::in_memory), [Dtype::F32, Dtype::F16]);
        assert!(Dtype::Bf16.holds(1.5) && !Dtype::Bf16.holds(1.001) && Dtype::F32.holds(1.001));
        assert!(Dtype::F16.holds(-0.0) && !Dtype::F16.holds(65536.0));
        assert!(![f32::NAN, f32::INFINITY].iter().any(|&value| Dtype::F32.holds(value)));
        // What is no float is left as it is.
        assert_eq!((Dtype::I8.round(0.3), Dtype::F8E4M3.round(500.0)), (0.3, 448.0));
    }
}
