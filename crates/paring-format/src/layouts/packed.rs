//! `pack-quantized`: codes of 1 to 8 bits in 32-bit words, see [`crate::bits`].

use super::{Holds, order, scales, take};
use crate::bits::Packing;
use crate::{
    Compressed, Dtype, Element, Error, Layout, LayoutPart, LayoutParts, QuantArgs, Result, Scheme, Strategy, Values,
    Zeros,
};

/// `weight_packed` I32 `[rows, words(cols)]`, `weight_scale` `[rows, groups]`, `weight_shape` I64 `[2]`, and for an
/// asymmetric grid `weight_zero_point` I32 `[words(rows), groups]`, packed along the rows. With the activation order
/// "group" there is `weight_g_idx` I32 `[cols]`.
///
/// The packing of words is not stored: where their number leaves a doubt, the scheme decides.
pub struct Packed;

impl Layout for Packed {
    fn name(&self) -> &'static str {
        "pack-quantized"
    }

    fn part_names(&self) -> &'static [&'static str] {
        &["weight_packed", "weight_scale", "weight_shape", "weight_zero_point", "weight_g_idx"]
    }

    fn weight_name(&self) -> &'static str {
        "weight_packed"
    }

    fn shape_name(&self) -> Option<&'static str> {
        Some("weight_shape")
    }

    fn holds(&self) -> Holds {
        Holds { zero_points: true, ..Holds::CODES }
    }

    /// Integers whose linears have inputs as they are.
    fn is_inferred(&self, weights: &QuantArgs, input: Option<&QuantArgs>) -> bool {
        weights.element.int_bits().is_some() && input.is_none()
    }

    fn was_padded(&self) -> bool {
        true
    }

    fn check_args(&self, args: &QuantArgs) -> Result<()> {
        let fits = matches!(args.element, Element::Int(1..=8))
            && matches!(args.strategy, Strategy::Tensor | Strategy::Channel | Strategy::Group(_))
            && scales::are_floats(args);
        scales::fits(fits, self.name(), "integers of up to 8 bits by tensor, channel or group", args)
    }

    fn encode(&self, scheme: &Scheme, c: &Compressed) -> Result<LayoutParts> {
        let args = scheme.codes()?;
        let packing = packing(args, scheme.padded)?;
        let (codes, grid) = scales::codes(self.name(), args, c)?;
        let words = |shape: Vec<usize>, bytes: Vec<u8>| LayoutPart { dtype: Dtype::I32, shape, bytes };
        let packed = packing.pack(codes, c.cols)?;
        let size = [c.rows as i64, c.cols as i64].iter().flat_map(|n| n.to_le_bytes()).collect();
        let mut parts = LayoutParts::from([
            ("weight_packed", words(vec![c.rows, packed.len() / 4 / c.rows], packed)),
            ("weight_scale", scales::encode(args, c, grid)?),
            ("weight_shape", LayoutPart { dtype: Dtype::I64, shape: vec![2], bytes: size }),
        ]);
        parts.extend(order::encode(args, grid.group_index.as_deref(), c.cols)?);
        let zeros = match &grid.zeros {
            None => return Ok(parts),
            // The one zero point of a tensor is not worth packing.
            Some(zeros) if args.strategy == Strategy::Tensor => scales::encode_zeros(args, c, zeros)?,
            Some(Zeros::Codes(zeros)) => {
                let groups = grid.groups(c.cols);
                let packed = packing.pack_columns(zeros, groups)?;
                words(vec![packed.len() / 4 / groups, groups], packed)
            }
            Some(Zeros::Floats(_)) => return Err(Error::parts("the pack-quantized layout packs zero points")),
        };
        parts.insert("weight_zero_point", zeros);
        Ok(parts)
    }

    fn shape(&self, parts: &LayoutParts) -> Result<Option<(usize, usize)>> {
        stored_shape(parts).map(Some)
    }

    fn decode(&self, scheme: &Scheme, parts: LayoutParts) -> Result<Compressed> {
        let args = scheme.codes()?;
        let (rows, cols) = stored_shape(&parts)?;
        let packing = stored_packing(scheme, args, &parts, rows, cols)?;
        let packed = take(&parts, "weight_packed", &[Dtype::I32])?;
        packed.expect_shape("weight_packed", &[rows, count(packing, cols)?])?;
        let (mut grid, dtype) = scales::decode(args, &parts, rows, cols)?;
        grid.group_index = order::decode(args, &parts, cols)?;
        grid.zeros = match args.strategy {
            _ if args.symmetric => None,
            // The one zero point of a tensor is not worth packing.
            Strategy::Tensor => scales::decode_zeros(args, &parts, rows, cols)?,
            _ => {
                let groups = grid.groups(cols);
                let part = take(&parts, "weight_zero_point", &[Dtype::I32])?;
                part.expect_numbers("weight_zero_point", &[count(packing, rows)?, groups])?;
                Some(Zeros::Codes(packing.unpack_columns(&part.bytes, rows, groups)?))
            }
        };
        let codes = packing.unpack(&packed.bytes, rows, cols)?;
        Ok(Compressed { rows, cols, dtype, values: Values::Codes { codes, grid } })
    }
}

/// The packing of codes, which are integers with scales of the model's type, by tensor or by row.
fn packing(args: &QuantArgs, padded: bool) -> Result<Packing> {
    Packed.check_args(args)?;
    Packing::new(args.element.bits(), padded)
}

/// The packing of stored codes: as their number says, or, where it is the same, as the scheme does.
fn stored_packing(scheme: &Scheme, args: &QuantArgs, parts: &LayoutParts, rows: usize, cols: usize) -> Result<Packing> {
    let (said, other) = (packing(args, scheme.padded)?, packing(args, !scheme.padded)?);
    let has = |name: &str, dim: usize, words: Option<usize>| {
        parts.get(name).is_none_or(|part| words.is_some() && part.shape.get(dim).copied() == words)
    };
    let packed_zeros = !args.symmetric && args.strategy != Strategy::Tensor;
    let fits = |packing: Packing| {
        has("weight_packed", 1, packing.words(cols))
            && (!packed_zeros || has("weight_zero_point", 0, packing.words(rows)))
    };
    Ok(if !fits(said) && fits(other) { other } else { said })
}

/// The shape of the matrix, which the packed width does not tell.
fn stored_shape(parts: &LayoutParts) -> Result<(usize, usize)> {
    let part = take(parts, "weight_shape", &[Dtype::I64, Dtype::I32])?;
    part.expect_shape("weight_shape", &[2])?;
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

fn count(packing: Packing, codes: usize) -> Result<usize> {
    packing.words(codes).ok_or_else(|| Error::parts("weight_shape is larger than any file"))
}
