//! `pack-quantized`: codes of 1 to 8 bits in 32-bit words, see [`crate::bits`].

use super::{Scales, encode_scales, exact, take};
use crate::bits::{pack, pack_columns, range, unpack, unpack_columns, words};
use crate::config::Strategy;
use crate::{Compressed, Dtype, Error, Layout, Part, Parts, Result, Scheme, Values};

/// `weight_packed` I32 `[rows, words(cols)]`, `weight_scale` `[rows, groups]`, `weight_shape` I64 `[2]`, and for an
/// asymmetric grid `weight_zero_point` I32 `[words(rows), groups]`, packed along the rows.
pub struct Packed;

impl Layout for Packed {
    fn name(&self) -> &'static str {
        "pack-quantized"
    }

    fn accepts(&self, c: &Compressed) -> bool {
        let Values::Codes { codes, grid } = &c.values else { return false };
        if !exact(c) || grid.group_index.is_some() || !c.cols.is_multiple_of(grid.group_size) {
            return false;
        }
        let (low, high) = range(grid.bits);
        // The library that defines the format writes 1-bit codes, but no reader runs them: they are read here only.
        grid.bits >= 2 && codes.iter().chain(grid.zeros.iter().flatten()).all(|code| (low..=high).contains(code))
    }

    fn encode(&self, c: &Compressed) -> Result<Parts> {
        let Values::Codes { codes, grid } = &c.values else {
            return Err(Error::parts("the pack-quantized layout holds codes, not a dense matrix"));
        };
        let (scale, shape) = encode_scales(c, grid)?;
        if grid.bits < 2 {
            return Err(Error::parts("the pack-quantized layout is written with 2 to 8 bits"));
        }
        let words_part = |shape: Vec<usize>, words: Vec<i32>| {
            let bytes = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            Part { dtype: Dtype::I32, shape, bytes }
        };
        let packed = pack(codes, c.cols, grid.bits)?;
        let size = [c.rows as i64, c.cols as i64].iter().flat_map(|n| n.to_le_bytes()).collect();
        let mut parts = Parts::from([
            ("weight_packed", words_part(vec![c.rows, packed.len() / c.rows], packed)),
            ("weight_scale", scale),
            ("weight_shape", Part { dtype: Dtype::I64, shape: vec![2], bytes: size }),
        ]);
        if let Some(zeros) = &grid.zeros {
            let groups = shape[1];
            let packed = pack_columns(zeros, groups, grid.bits)?;
            parts.insert("weight_zero_point", words_part(vec![packed.len() / groups, groups], packed));
        }
        Ok(parts)
    }

    fn shape(&self, parts: &Parts) -> Result<Option<(usize, usize)>> {
        stored_shape(parts).map(Some)
    }

    fn decode(&self, scheme: &Scheme, parts: &Parts) -> Result<Compressed> {
        if parts.contains_key("weight_g_idx") {
            return Err(Error::UnsupportedFormat {
                module: String::new(),
                format: "weight_g_idx (groups in activation order)".to_string(),
            });
        }
        let (rows, cols) = stored_shape(parts)?;
        let packed = take(parts, "weight_packed", &[Dtype::I32])?;
        packed.expect("weight_packed", &[rows, count(cols, scheme.bits)?])?;
        let scales = Scales::decode(scheme, parts, rows, cols)?;
        let zeros = match scheme.strategy {
            _ if scheme.symmetric => None,
            // The one zero point of a tensor is not worth packing.
            Strategy::Tensor => Some(scales.byte_zeros(parts)?),
            Strategy::Channel | Strategy::Group(_) => {
                let groups = cols / scales.group_size;
                let part = take(parts, "weight_zero_point", &[Dtype::I32])?;
                part.expect("weight_zero_point", &[count(rows, scheme.bits)?, groups])?;
                Some(unpack_columns(&words_of(part), rows, groups, scheme.bits)?)
            }
        };
        let codes = unpack(&words_of(packed), rows, cols, scheme.bits)?;
        scales.finish(codes, zeros)
    }
}

/// The shape of the matrix, which the packed width does not tell.
fn stored_shape(parts: &Parts) -> Result<(usize, usize)> {
    let part = take(parts, "weight_shape", &[Dtype::I64, Dtype::I32])?;
    part.expect("weight_shape", &[2])?;
    let size = part.dtype.size();
    let number = |i: usize| {
        let bytes = part.bytes.get(i * size..(i + 1) * size)?;
        let value = match part.dtype {
            Dtype::I64 => i64::from_le_bytes(bytes.try_into().ok()?),
            _ => i64::from(i32::from_le_bytes(bytes.try_into().ok()?)),
        };
        usize::try_from(value).ok().filter(|&value| value > 0)
    };
    match (number(0), number(1)) {
        (Some(rows), Some(cols)) if rows.checked_mul(cols).is_some() => Ok((rows, cols)),
        _ => Err(Error::parts("weight_shape is not the shape of a matrix")),
    }
}

fn count(codes: usize, bits: u32) -> Result<usize> {
    words(codes, bits).ok_or_else(|| Error::parts("weight_shape is larger than any file"))
}

fn words_of(part: &Part) -> Vec<i32> {
    part.bytes.as_chunks::<4>().0.iter().map(|&word| i32::from_le_bytes(word)).collect()
}
