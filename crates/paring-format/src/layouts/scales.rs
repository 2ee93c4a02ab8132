//! Scales and zero points of codes, as parts of a module: the same in all layouts of compressed-tensors.

use super::{floats, take};
use crate::finite::check_finite;
use crate::floats::{from_exponent, to_exponent};
use crate::{
    Compressed, Dtype, Error, Grid, LayoutPart, LayoutParts, QuantArgs, Result, ScaleType, Strategy, Values, Zeros,
};

const GLOBAL: &str = "weight_global_scale";

/// Tells whether scales are of the model's float type, and shared in a way that weights have.
pub(super) fn are_floats(args: &QuantArgs) -> bool {
    let shared = !matches!(args.strategy, Strategy::TensorGroup(_) | Strategy::Token | Strategy::Head);
    shared && args.scale_type == ScaleType::Float
}

/// Errors unless `fits`: that this format `holds` what `args` say.
pub(super) fn fits(fits: bool, format: &str, holds: &str, args: &QuantArgs) -> Result<()> {
    if fits {
        return Ok(());
    }
    Err(Error::parts(format!("the {format} layout holds {holds}, not {args}")))
}

/// Errors unless `c` holds codes on a grid that fits them and `args`; returns both.
pub(super) fn codes<'a>(format: &str, args: &QuantArgs, c: &'a Compressed) -> Result<(&'a [i8], &'a Grid)> {
    let Values::Codes { codes, grid } = &c.values else {
        return Err(Error::parts(format!("the {format} layout holds codes, not a dense matrix")));
    };
    grid.check(codes, c.rows, c.cols, c.dtype)?;
    let expected = tile(args, c.rows, c.cols)?;
    if grid.element != args.element || grid.tile != expected || grid.scale_type != args.scale_type {
        let ([height, width], [rows, cols]) = (grid.tile, expected);
        return Err(Error::parts(format!(
            "{} with a scale for each {height} by {width} weights, where the scheme has {} and {rows} by {cols}",
            grid.element, args.element
        )));
    }
    if let Some(global) = grid.global {
        check_global(global)?;
    }
    if grid.scale_type != ScaleType::Float && c.dtype != Dtype::Bf16 {
        return Err(Error::parts(format!("the {format} layout makes BF16 matrices, not {}", c.dtype)));
    }
    if args.symmetric != grid.zeros.is_none() {
        return Err(Error::parts("asymmetric schemes need zero points, and symmetric ones have none"));
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
            Err(Error::parts(format!("weights do not share scales by {}", args.strategy)))
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

/// The scales of a grid as a part. Errors when their type cannot hold one of them.
pub(super) fn encode(args: &QuantArgs, c: &Compressed, grid: &Grid) -> Result<LayoutPart> {
    let shape = shape(args, c.rows, c.cols)?;
    let name = "weight_scale";
    match grid.scale_type {
        ScaleType::Float => floats(name, c.dtype, shape, &grid.scales),
        ScaleType::E4m3 => floats(name, Dtype::F8E4M3, shape, &grid.scales),
        ScaleType::Exponent => {
            let code = |(at, &scale): (usize, &f32)| {
                let reason = || format!("{name}: {scale:e} (element {at}) is not a power of two from 2^-127 to 2^127");
                to_exponent(scale).ok_or_else(|| Error::parts(reason()))
            };
            let bytes = grid.scales.iter().enumerate().map(code).collect::<Result<_>>()?;
            Ok(LayoutPart { dtype: Dtype::U8, shape, bytes })
        }
    }
}

/// The scale of scales as a part with its name, if the grid has one.
pub(super) fn encode_global(grid: &Grid) -> Option<(&'static str, LayoutPart)> {
    let global = grid.global?;
    Some((GLOBAL, LayoutPart { dtype: Dtype::F32, shape: vec![1], bytes: global.to_le_bytes().to_vec() }))
}

/// Zero points as a part that is not packed: bytes, or floats in f32.
pub(super) fn encode_zeros(args: &QuantArgs, c: &Compressed, zeros: &Zeros) -> Result<LayoutPart> {
    let shape = shape(args, c.rows, c.cols)?;
    match zeros {
        Zeros::Codes(zeros) => {
            Ok(LayoutPart { dtype: Dtype::I8, shape, bytes: zeros.iter().map(|&zero| zero as u8).collect() })
        }
        Zeros::Floats(zeros) => floats("weight_zero_point", Dtype::F32, shape, zeros),
    }
}

/// The grid of a stored matrix without its zero points, and its float type, checked against `args`.
pub(super) fn decode(args: &QuantArgs, parts: &LayoutParts, rows: usize, cols: usize) -> Result<(Grid, Dtype)> {
    let dtypes: &[Dtype] = match args.scale_type {
        ScaleType::Float => &Dtype::FLOATS,
        ScaleType::E4m3 => &[Dtype::F8E4M3],
        ScaleType::Exponent => &[Dtype::U8],
    };
    let part = take(parts, "weight_scale", dtypes)?;
    let shape = shape(args, rows, cols)?;
    part.expect_numbers("weight_scale", &shape)?;
    let scales = match args.scale_type {
        ScaleType::Float | ScaleType::E4m3 => part.finite("weight_scale")?,
        ScaleType::Exponent => {
            let scales: Vec<f32> = part.bytes.iter().map(|&byte| from_exponent(byte)).collect();
            check_finite(&scales, shape[shape.len() - 1], 0, "weight_scale", "")?;
            scales
        }
    };
    let grid = Grid {
        element: args.element,
        tile: tile(args, rows, cols)?,
        scales,
        scale_type: args.scale_type,
        global: if args.scale_type == ScaleType::E4m3 { Some(decode_global(parts)?) } else { None },
        zeros: None,
        group_index: None,
    };
    // Readers of the other types make bf16 of them, whatever the model's type was.
    Ok((grid, if args.scale_type == ScaleType::Float { part.dtype.in_memory() } else { Dtype::Bf16 }))
}

/// The scale of scales.
fn decode_global(parts: &LayoutParts) -> Result<f32> {
    let part = take(parts, GLOBAL, &[Dtype::F32, Dtype::F64])?;
    part.expect_numbers(GLOBAL, &[1])?;
    let global = part.finite(GLOBAL)?[0];
    check_global(global)?;
    Ok(global)
}

/// Errors when scales cannot be divided by this.
fn check_global(global: f32) -> Result<()> {
    // The largest scale over the smallest number that is allowed here is finite.
    if global.is_finite() && global.abs() >= f32::MIN_POSITIVE * 512.0 {
        return Ok(());
    }
    Err(Error::parts(format!("{GLOBAL}: scales cannot be divided by {global:e}")))
}

/// Zero points that are not packed; `None` for a symmetric grid.
pub(super) fn decode_zeros(args: &QuantArgs, parts: &LayoutParts, rows: usize, cols: usize) -> Result<Option<Zeros>> {
    if args.symmetric {
        return Ok(None);
    }
    let dtypes: &[Dtype] = if args.float_zeros { &Dtype::FLOATS } else { &[Dtype::I8] };
    let part = take(parts, "weight_zero_point", dtypes)?;
    let shape = shape(args, rows, cols)?;
    part.expect_numbers("weight_zero_point", &shape)?;
    if !args.float_zeros {
        return Ok(Some(Zeros::Codes(part.bytes.iter().map(|&byte| byte as i8).collect())));
    }
    let values = part.dtype.decode_f32(&part.bytes);
    check_finite(&values, shape[shape.len() - 1], 0, "weight_zero_point", "")?;
    Ok(Some(Zeros::Floats(values)))
}
