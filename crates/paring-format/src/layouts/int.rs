//! `int-quantized`: one byte a code, whatever its width.

use super::{scales, take};
use crate::{Compressed, Dtype, Layout, Part, Parts, Result, Scheme, Values};

/// `weight` I8 `[rows, cols]`, `weight_scale` `[rows, groups]`, and `weight_zero_point` I8 like the scale when the grid
/// is asymmetric. Codes may use the whole byte; readers do not clamp them to the grid's width.
pub struct Int;

impl Layout for Int {
    fn name(&self) -> &'static str {
        "int-quantized"
    }

    fn encode(&self, scheme: &Scheme, c: &Compressed) -> Result<Parts> {
        let args = scheme.codes()?;
        let (codes, grid) = scales::codes(self.name(), args, c)?;
        let bytes = codes.iter().map(|&code| code as u8).collect();
        let weight = Part { dtype: Dtype::I8, shape: vec![c.rows, c.cols], bytes };
        let mut parts = Parts::from([("weight", weight), ("weight_scale", scales::encode(args, c, grid)?)]);
        if let Some(zeros) = &grid.zeros {
            parts.insert("weight_zero_point", scales::encode_zeros(args, c, zeros)?);
        }
        Ok(parts)
    }

    fn decode(&self, scheme: &Scheme, parts: &Parts) -> Result<Compressed> {
        let args = scheme.codes()?;
        let weight = take(parts, "weight", &[Dtype::I8])?;
        let (rows, cols) = weight.matrix("weight")?;
        let (mut grid, dtype) = scales::decode(args, parts, rows, cols)?;
        grid.zeros = scales::decode_zeros(args, parts, rows, cols)?;
        let codes = weight.bytes.iter().map(|&byte| byte as i8).collect();
        Ok(Compressed { rows, cols, dtype, values: Values::Codes { codes, grid } })
    }
}
