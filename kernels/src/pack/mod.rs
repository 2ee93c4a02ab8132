//! Codes of 1 to 8 bits ↔ rows of bits, least significant first, and the marks of what is not zero.
//!
//! It is what the files hold: integers of 2 to 8 bits in rows of whole 32-bit words (`pack-quantized`), small floats of
//! 4, 6 and 8 bits (rows of whole bytes), marks of 1 bit (`sparse-bitmask`). Codes are unsigned here.
//! On the CPU these are plain loops, the definition that a GPU is held to: files are written from host memory by the
//! fast form in `paring-format`.

#[cfg(feature = "cuda")]
mod cuda;
pub(crate) mod reference;

use candle_core::{DType, Result, Tensor};

use crate::{with_f32, with_values};

/// Up to what a row of bits is filled with zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Whole bytes.
    Bytes,
    /// Whole words of four bytes, the first byte the least significant.
    Words,
}

impl Fill {
    /// Bytes of a row of `cols` codes of `bits` bits.
    pub fn row_bytes(self, cols: usize, bits: u32) -> usize {
        let all = cols.saturating_mul(bits as usize);
        match self {
            Fill::Bytes => all.div_ceil(8),
            Fill::Words => all.div_ceil(32) * 4,
        }
    }
}

/// Packs codes, u8 `[rows, cols]`, of which the lowest `bits` bits count: u8 `[rows, fill.row_bytes(cols, bits)]`.
/// Errors when `bits` is not 1 to 8, or the codes are no matrix of u8.
pub fn pack(codes: &Tensor, bits: u32, fill: Fill) -> Result<Tensor> {
    let (rows, cols) = check(codes, DType::U8, bits)?;
    let width = fill.row_bytes(cols, bits);
    on_gpu!(codes => cuda::pack(codes, bits, width));
    let packed = with_values(codes, |codes| Ok(reference::pack(codes, cols, bits, width)))?;
    Tensor::from_vec(packed, (rows, width), &candle_core::Device::Cpu)
}

/// The codes, u8 `[rows, cols]`, that [`pack`] packed as u8 `[rows, width]`. Errors when `bits` is not 1 to 8, when
/// `packed` is no matrix of u8, or its rows are too short for `cols` codes.
pub fn unpack(packed: &Tensor, bits: u32, cols: usize) -> Result<Tensor> {
    let (rows, width) = check(packed, DType::U8, bits)?;
    if width < Fill::Bytes.row_bytes(cols, bits) {
        candle_core::bail!("{cols} codes of {bits} bits in rows of {width} bytes");
    }
    on_gpu!(packed => cuda::unpack(packed, bits, cols));
    let codes = with_values(packed, |packed| Ok(reference::unpack(packed, width, bits, cols)))?;
    Tensor::from_vec(codes, (rows, cols), &candle_core::Device::Cpu)
}

/// A bit for each element of `x`, f32 `[rows, cols]`: 1 where it is not zero (NaN is not). u8 `[rows, ⌈cols / 8⌉]`, the
/// least significant bit first. Errors when `x` is no matrix of f32.
pub fn mask(x: &Tensor) -> Result<Tensor> {
    let (rows, cols) = check(x, DType::F32, 1)?;
    on_gpu!(x => cuda::mask(x));
    let marks: Vec<u8> = with_f32(x, |x| Ok(x.iter().map(|&v| u8::from(v != 0.0)).collect()))?;
    let width = Fill::Bytes.row_bytes(cols, 1);
    Tensor::from_vec(reference::pack(&marks, cols, 1, width), (rows, width), &candle_core::Device::Cpu)
}

/// Rows and columns of what is to be packed or unpacked.
fn check(x: &Tensor, dtype: DType, bits: u32) -> Result<(usize, usize)> {
    if !(1..=8).contains(&bits) {
        candle_core::bail!("codes of {bits} bits; 1 to 8 can be packed");
    }
    if x.dtype() != dtype || x.rank() != 2 {
        candle_core::bail!("packing of a tensor {:?} of {:?}, expected a matrix of {dtype:?}", x.shape(), x.dtype());
    }
    x.dims2()
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn bytes(rows: usize, values: &[u8]) -> Tensor {
        Tensor::from_vec(values.to_vec(), (rows, values.len() / rows), &Device::Cpu).unwrap()
    }

    fn listed(x: &Tensor) -> Vec<u8> {
        x.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn bits_lie_where_the_files_have_them() {
        // 1, 2, .. 11 in three bits each: 33 bits, so the last code lies across two words.
        let codes = bytes(1, &[1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 7]);
        let stream = codes_as_number(&listed(&codes), 3);
        let packed = pack(&codes, 3, Fill::Words).unwrap();
        assert_eq!((packed.dims(), listed(&packed)), (&[1, 8][..], stream.to_le_bytes().to_vec()));
        assert_eq!(listed(&pack(&codes, 3, Fill::Bytes).unwrap()), stream.to_le_bytes()[..5]);
        // The first of a pair is in the lower half.
        assert_eq!(listed(&pack(&bytes(2, &[1, 2, 15, 7]), 4, Fill::Bytes).unwrap()), [0x21, 0x7f]);
        let x = Tensor::new(&[[0.0f32, -0.0, 1.0, f32::NAN, 0.0, 0.0, 0.0, 0.0, -3.0]], &Device::Cpu).unwrap();
        assert_eq!(listed(&mask(&x).unwrap()), [0b1100, 1]);
    }

    fn codes_as_number(codes: &[u8], bits: usize) -> u64 {
        codes.iter().enumerate().map(|(i, &code)| u64::from(code) << (i * bits)).sum()
    }

    #[test]
    fn what_is_no_matrix_of_codes_is_an_error() {
        let codes = bytes(1, &[1, 2, 3]);
        for bits in [0, 9] {
            assert!(pack(&codes, bits, Fill::Words).unwrap_err().to_string().starts_with("codes of"), "{bits}");
        }
        assert!(unpack(&codes, 8, 4).unwrap_err().to_string().starts_with("4 codes of 8 bits in rows of 3 bytes"));
        assert!(pack(&codes.flatten_all().unwrap(), 4, Fill::Words).is_err());
        assert!(mask(&codes).unwrap_err().to_string().contains("expected a matrix of F32"));
    }
}
