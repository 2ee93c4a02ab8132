//! `int-quantized`: one byte a code, whatever its width.

use super::{Scales, encode_scales, exact, take};
use crate::{Compressed, Dtype, Error, Layout, Part, Parts, Result, Scheme, Values};

/// `weight` I8 `[rows, cols]`, `weight_scale` `[rows, groups]`, and `weight_zero_point` I8 like the scale when the grid
/// is asymmetric. Codes may use the whole byte; readers do not clamp them to the grid's width.
pub struct Int;

impl Layout for Int {
    fn name(&self) -> &'static str {
        "int-quantized"
    }

    fn accepts(&self, c: &Compressed) -> bool {
        match &c.values {
            Values::Codes { grid, .. } => {
                exact(c) && grid.group_index.is_none() && c.cols.is_multiple_of(grid.group_size)
            }
            Values::Dense(_) | Values::Spqr(_) => false,
        }
    }

    fn encode(&self, c: &Compressed) -> Result<Parts> {
        let Values::Codes { codes, grid } = &c.values else {
            return Err(Error::parts("the int-quantized layout holds codes, not a dense matrix"));
        };
        let (scale, shape) = encode_scales(c, grid)?;
        let bytes = |codes: &[i8]| codes.iter().map(|&code| code as u8).collect();
        let weight = Part { dtype: Dtype::I8, shape: vec![c.rows, c.cols], bytes: bytes(codes) };
        let mut parts = Parts::from([("weight", weight), ("weight_scale", scale)]);
        if let Some(zeros) = &grid.zeros {
            parts.insert("weight_zero_point", Part { dtype: Dtype::I8, shape, bytes: bytes(zeros) });
        }
        Ok(parts)
    }

    fn decode(&self, scheme: &Scheme, parts: &Parts) -> Result<Compressed> {
        let weight = take(parts, "weight", &[Dtype::I8])?;
        let (rows, cols) = weight.matrix("weight")?;
        let scales = Scales::decode(scheme, parts, rows, cols)?;
        let zeros = if scheme.symmetric { None } else { Some(scales.byte_zeros(parts)?) };
        let codes = weight.bytes.iter().map(|&byte| byte as i8).collect();
        scales.finish(codes, zeros)
    }
}
