//! Scales and zero points of codes, as parts of a module: the same in all layouts of compressed-tensors.

use super::{check_finite, floats, take};
use crate::config::{QuantArgs, Strategy};
use crate::{Compressed, Dtype, Error, Grid, Part, Parts, Result, ScaleType, Values, Zeros};

/// Errors unless `c` holds codes on a grid that fits them and `args`; returns both.
pub(super) fn codes<'a>(format: &str, args: &QuantArgs, c: &'a Compressed) -> Result<(&'a [i8], &'a Grid)> {
    let Values::Codes { codes, grid } = &c.values else {
        return Err(Error::parts(format!("the {format} layout holds codes, not a dense matrix")));
    };
    grid.check(codes, c.rows, c.cols, c.dtype)?;
    let expected = tile(args, c.rows, c.cols)?;
    if grid.element != args.element || grid.tile != expected || grid.scale_type != args.scale_type {
        return Err(Error::parts(format!(
            "{:?} in tiles of {:?}, expected {:?} in tiles of {expected:?}",
            grid.element, grid.tile, args.element
        )));
    }
    if args.symmetric != grid.zeros.is_none() {
        return Err(Error::parts("zero points belong to asymmetric grids, and to no other"));
    }
    Ok((codes, grid))
}

/// Rows and columns that share a scale. Errors when groups do not divide the columns: there is no rule for a rest.
pub(super) fn tile(args: &QuantArgs, rows: usize, cols: usize) -> Result<[usize; 2]> {
    match args.strategy {
        Strategy::Tensor => Ok([rows, cols]),
        Strategy::Channel => Ok([1, cols]),
        Strategy::Group(size) | Strategy::TensorGroup(size) if size > 0 && cols.is_multiple_of(size) => Ok([1, size]),
        Strategy::Group(group_size) | Strategy::TensorGroup(group_size) => {
            Err(Error::GroupSize { module: String::new(), cols, group_size })
        }
        Strategy::Block(height, width) if height > 0 && width > 0 => Ok([height.min(rows), width.min(cols)]),
        Strategy::Block(..) | Strategy::Token | Strategy::Head => {
            Err(Error::parts(format!("weights do not share scales by {:?}", args.strategy)))
        }
    }
}

/// The shape of scales, and of zero points that are not packed.
pub(super) fn shape(args: &QuantArgs, rows: usize, cols: usize) -> Result<Vec<usize>> {
    let [height, width] = tile(args, rows, cols)?;
    Ok(match args.strategy {
        Strategy::Tensor => vec![1],
        _ => vec![rows.div_ceil(height), cols.div_ceil(width)],
    })
}

/// The scales of a grid as a part.
pub(super) fn encode(args: &QuantArgs, c: &Compressed, grid: &Grid) -> Result<Part> {
    let shape = shape(args, c.rows, c.cols)?;
    match grid.scale_type {
        ScaleType::Float => floats("weight_scale", c.dtype, shape, &grid.scales),
        ScaleType::E4m3 | ScaleType::Exponent => Err(Error::parts("scales of this type have a layout of their own")),
    }
}

/// Zero points as a part that is not packed: bytes, or floats in f32.
pub(super) fn encode_zeros(args: &QuantArgs, c: &Compressed, zeros: &Zeros) -> Result<Part> {
    let shape = shape(args, c.rows, c.cols)?;
    match zeros {
        Zeros::Codes(zeros) => {
            Ok(Part { dtype: Dtype::I8, shape, bytes: zeros.iter().map(|&zero| zero as u8).collect() })
        }
        Zeros::Floats(zeros) => floats("weight_zero_point", Dtype::F32, shape, zeros),
    }
}

/// The grid of a stored matrix without its zero points, and its float type, checked against `args`.
pub(super) fn decode(args: &QuantArgs, parts: &Parts, rows: usize, cols: usize) -> Result<(Grid, Dtype)> {
    let part = take(parts, "weight_scale", &[Dtype::F32, Dtype::F16, Dtype::Bf16])?;
    part.expect("weight_scale", &shape(args, rows, cols)?)?;
    let grid = Grid {
        element: args.element,
        tile: tile(args, rows, cols)?,
        scales: part.finite("weight_scale")?,
        scale_type: ScaleType::Float,
        global: None,
        zeros: None,
        group_index: None,
    };
    Ok((grid, part.dtype))
}

/// Zero points that are not packed; `None` for a symmetric grid.
pub(super) fn decode_zeros(args: &QuantArgs, parts: &Parts, rows: usize, cols: usize) -> Result<Option<Zeros>> {
    if args.symmetric {
        return Ok(None);
    }
    let dtypes: &[Dtype] = if args.float_zeros { &[Dtype::F32, Dtype::F16, Dtype::Bf16] } else { &[Dtype::I8] };
    let part = take(parts, "weight_zero_point", dtypes)?;
    let shape = shape(args, rows, cols)?;
    part.expect("weight_zero_point", &shape)?;
    if !args.float_zeros {
        return Ok(Some(Zeros::Codes(part.bytes.iter().map(|&byte| byte as i8).collect())));
    }
    let values = part.dtype.decode_f32(&part.bytes);
    check_finite(&values, shape[shape.len() - 1], 0, "weight_zero_point", "")?;
    Ok(Some(Zeros::Floats(values)))
}
