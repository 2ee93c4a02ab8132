//! Element types of stored tensors, and conversion between the float ones and f32.

use std::fmt;

use half::{bf16, f16};
use safetensors::Dtype as Stored;

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
const TABLE: [(Dtype, &str, usize, Stored); 12] = [
    (Dtype::F64, "F64", 8, Stored::F64),
    (Dtype::F32, "F32", 4, Stored::F32),
    (Dtype::F16, "F16", 2, Stored::F16),
    (Dtype::Bf16, "BF16", 2, Stored::BF16),
    (Dtype::F8E4M3, "F8_E4M3", 1, Stored::F8_E4M3),
    (Dtype::I64, "I64", 8, Stored::I64),
    (Dtype::I32, "I32", 4, Stored::I32),
    (Dtype::I16, "I16", 2, Stored::I16),
    (Dtype::I8, "I8", 1, Stored::I8),
    (Dtype::U8, "U8", 1, Stored::U8),
    (Dtype::U32, "U32", 4, Stored::U32),
    (Dtype::Bool, "BOOL", 1, Stored::BOOL),
];

impl Dtype {
    /// `x` rounded to this float type and widened again; other types leave it as it is. The 8-bit float has no infinity:
    /// what is too large becomes its largest number.
    #[inline]
    pub fn round(self, x: f32) -> f32 {
        match self {
            Dtype::Bf16 => bf16::from_f32(x).to_f32(),
            Dtype::F16 => f16::from_f32(x).to_f32(),
            Dtype::F8E4M3 => floats::E4M3[usize::from(floats::to_e4m3(x))],
            _ => x,
        }
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

    /// Whether it says what a tensor's numbers are: f64, f32, f16, bf16. The 8-bit float is stored with scales that give
    /// it its meaning, and does not count.
    pub fn is_float(self) -> bool {
        matches!(self, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::Bf16)
    }

    /// Whether weights and scales may have it: f32, f16, bf16.
    pub fn is_weight(self) -> bool {
        matches!(self, Dtype::F32 | Dtype::F16 | Dtype::Bf16)
    }

    /// The type of the safetensors crate with the same name, if this crate has it.
    pub fn from_safetensors(stored: Stored) -> Option<Dtype> {
        TABLE.iter().find(|row| row.3 == stored).map(|row| row.0)
    }

    /// The twin in the safetensors crate.
    pub fn to_safetensors(self) -> Stored {
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
        fn each<const N: usize>(bytes: &[u8], f: impl Fn([u8; N]) -> f32) -> Vec<f32> {
            bytes.as_chunks::<N>().0.iter().map(|&chunk| f(chunk)).collect()
        }
        match self {
            Dtype::F64 => each(bytes, |b| f64::from_le_bytes(b) as f32),
            Dtype::F32 => each(bytes, f32::from_le_bytes),
            Dtype::F16 => each(bytes, |b| f16::from_le_bytes(b).to_f32()),
            // A bf16 is the upper half of an f32: plain shifts, which the compiler turns into vectors.
            Dtype::Bf16 => each(bytes, |b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16)),
            Dtype::F8E4M3 => bytes.iter().map(|&byte| floats::E4M3[usize::from(byte)]).collect(),
            other => panic!("{} is not a float type", other.name()),
        }
    }

    /// Little-endian bytes of `values`, rounded to nearest even, as [`Dtype::round`] does.
    ///
    /// # Panics
    /// If the type is no float: neither [`Dtype::is_float`] nor the 8-bit one.
    pub fn encode(self, values: &[f32]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(values.len() * self.size());
        match self {
            Dtype::F64 => values.iter().for_each(|&v| bytes.extend_from_slice(&f64::from(v).to_le_bytes())),
            Dtype::F32 => values.iter().for_each(|v| bytes.extend_from_slice(&v.to_le_bytes())),
            Dtype::F16 => values.iter().for_each(|&v| bytes.extend_from_slice(&f16::from_f32(v).to_le_bytes())),
            Dtype::Bf16 => values.iter().for_each(|&v| bytes.extend_from_slice(&bf16::from_f32(v).to_le_bytes())),
            Dtype::F8E4M3 => bytes.extend(values.iter().map(|&v| floats::to_e4m3(v))),
            other => panic!("{} is not a float type", other.name()),
        }
        bytes
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(Dtype::from_safetensors(Stored::U64), None);
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

    #[test]
    fn sizes_are_checked() {
        assert_eq!(Dtype::Bf16.bytes_of(&[3, 5]), Some(30));
        assert_eq!(Dtype::F32.bytes_of(&[]), Some(4));
        assert_eq!(Dtype::F32.bytes_of(&[usize::MAX / 2, 3]), None);
    }
}
