//! `dense`: the weight as it is, zeros included.

use super::{Holds, floats, order, scales, take};
use crate::{Compressed, Dtype, Error, Layout, LayoutParts, QuantArgs, Result, ScaleType, Scheme, Values, Zeros};

/// `weight` `[rows, cols]` in a float type, f64 included, which is read as f32.
///
/// A model that was calibrated and saved before it was compressed (status `frozen`) has scales and zero points beside
/// such a weight, and programs that run it round the weight by them: it is read as the codes that this comes to.
pub struct Dense;

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
        let weight = take(&parts, "weight", &Dtype::FLOATS)?;
        let (rows, cols) = weight.matrix("weight")?;
        let (values, dtype) = (weight.finite("weight")?, weight.dtype.in_memory());
        match &scheme.weights {
            None => Ok(Compressed { rows, cols, dtype, values: Values::Dense(values) }),
            Some(args) => rounded(args, &parts, (rows, cols), dtype, &values),
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
        let format = format!("a weight that was not compressed yet ({args}); compress it first: this");
        return Err(Error::UnsupportedFormat { module: String::new(), format });
    }
    let (mut grid, scale_dtype) = scales::decode(args, parts, rows, cols)?;
    grid.group_index = order::decode(args, parts, cols)?;
    grid.zeros = stored_zeros(args, parts, rows, cols)?;
    // Two types meet in f32.
    let met = if dtype == scale_dtype { dtype } else { Dtype::F32 };
    let codes = grid.quantize(values, cols, met)?;
    Ok(Compressed { rows, cols, dtype: scale_dtype, values: Values::Codes { codes, grid } })
}

/// The zero points that such a weight is rounded by: those that are stored, if not all of them are 0. The library makes them
/// of symmetric schemes too, and applies them until the model is compressed.
fn stored_zeros(args: &QuantArgs, parts: &LayoutParts, rows: usize, cols: usize) -> Result<Option<Zeros>> {
    match parts.get("weight_zero_point") {
        Some(part) if args.symmetric && part.bytes.iter().any(|&byte| byte != 0) => {
            let float_zeros = part.dtype.is_float();
            scales::decode_zeros(&QuantArgs { symmetric: false, float_zeros, ..args.clone() }, parts, rows, cols)
        }
        _ => scales::decode_zeros(args, parts, rows, cols),
    }
}
