//! `dense`: the weight as it is, zeros included.

use super::{Holds, floats, order, scales, take};
use crate::{Compressed, Dtype, Error, Layout, LayoutParts, QuantArgs, Result, ScaleType, Scheme, Values};

/// `weight` `[rows, cols]` in f32, f16 or bf16.
///
/// A model that was calibrated and saved before it was compressed (status `frozen`) has scales and zero points beside
/// such a weight, and programs that run it round the weight by them: it is read as the codes that this comes to.
pub struct Dense;

const FLOATS: [Dtype; 3] = [Dtype::F32, Dtype::F16, Dtype::Bf16];

impl Layout for Dense {
    fn name(&self) -> &'static str {
        "dense"
    }

    /// Those beside the weight are of a model that was calibrated and not compressed.
    fn part_names(&self) -> &'static [&'static str] {
        &["weight", "weight_scale", "weight_zero_point", "weight_g_idx"]
    }

    fn holds(&self) -> Holds {
        Holds::DENSE
    }

    fn is_dense(&self) -> bool {
        true
    }

    fn encode(&self, _scheme: &Scheme, c: &Compressed) -> Result<LayoutParts> {
        match &c.values {
            Values::Dense(values) if c.rows.checked_mul(c.cols) == Some(values.len()) && !values.is_empty() => {
                Ok(LayoutParts::from([("weight", floats("weight", c.dtype, vec![c.rows, c.cols], values)?)]))
            }
            _ => Err(Error::parts("the dense layout holds whole dense matrices only")),
        }
    }

    fn decode(&self, scheme: &Scheme, parts: LayoutParts) -> Result<Compressed> {
        let weight = take(&parts, "weight", &FLOATS)?;
        let (rows, cols) = weight.matrix("weight")?;
        let values = weight.finite("weight")?;
        match &scheme.weights {
            None => Ok(Compressed { rows, cols, dtype: weight.dtype, values: Values::Dense(values) }),
            Some(args) => rounded(args, &parts, (rows, cols), weight.dtype, &values),
        }
    }
}

/// The codes of a dense weight of type `dtype` on the grid beside it.
fn rounded(
    args: &QuantArgs,
    parts: &LayoutParts,
    (rows, cols): (usize, usize),
    dtype: Dtype,
    values: &[f32],
) -> Result<Compressed> {
    if args.scale_type != ScaleType::Float {
        let format = format!("the status frozen with scales stored as {:?}", args.scale_type);
        return Err(Error::UnsupportedFormat { module: String::new(), format });
    }
    let (mut grid, scale_dtype) = scales::decode(args, parts, rows, cols)?;
    grid.group_index = order::decode(args, parts, cols)?;
    grid.zeros = scales::decode_zeros(args, parts, rows, cols)?;
    // Two types meet in f32.
    let met = if dtype == scale_dtype { dtype } else { Dtype::F32 };
    let codes = grid.quantize(values, cols, met)?;
    Ok(Compressed { rows, cols, dtype: scale_dtype, values: Values::Codes { codes, grid } })
}
