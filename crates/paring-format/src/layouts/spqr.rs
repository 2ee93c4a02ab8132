//! `paring-spqr`: an SpQR matrix in few bits, see `docs/format-spqr.md`.

use super::{Holds, floats, take};
use crate::bits::{gaps, stream};
use crate::spqr::{check_order, order_bits};
use crate::{
    Compressed, Dtype, Error, Layout, LayoutPart, LayoutParts, Outliers, QuantMethod, Result, Scheme, SecondLevel,
    Spqr, Statistic, Strategy, Values,
};

/// Columns that an order can name.
const MAX_ORDERED: usize = 1 << 16;

/// `weight` U8 stream and `weight_shape` I64 `[3]`: rows, columns, width of a gap; `weight_scale` `[rows, groups]`
/// or `scale_codes` U8 stream and `scale_grid` `[2, tiles, groups]`; the same of the zeros, `weight_zero_point` or
/// `zero_codes` and `zero_grid`, or only `zero_codes` where they are whole; `outlier_values` `[n]` and `outlier_gaps` U8
/// stream; `column_order` U8 stream.
///
/// The codes have the name of a dense weight so that a program that knows neither layout nor method stops at a shape
/// that does not fit. Under another name it would find no weight at all, for which some make up random numbers.
pub struct ParingSpqr;

impl Layout for ParingSpqr {
    fn name(&self) -> &'static str {
        "paring-spqr"
    }

    fn part_names(&self) -> &'static [&'static str] {
        &[
            "weight",
            "weight_shape",
            SCALES.plain,
            SCALES.codes,
            SCALES.grid,
            ZEROS.plain,
            ZEROS.codes,
            ZEROS.grid,
            "outlier_values",
            "outlier_gaps",
            "column_order",
        ]
    }

    fn shape_name(&self) -> Option<&'static str> {
        Some("weight_shape")
    }

    fn holds(&self) -> Holds {
        Holds::SPQR
    }

    fn method(&self) -> QuantMethod {
        QuantMethod::Paring
    }

    fn encode(&self, _scheme: &Scheme, c: &Compressed) -> Result<LayoutParts> {
        let spqr = checked(c)?;
        let (at, values) = (&spqr.outliers.at, &spqr.outliers.values);
        let width = if at.is_empty() { 0 } else { gaps::best_width(at) };
        let shape = [c.rows as i64, c.cols as i64, i64::from(width)].iter().flat_map(|n| n.to_le_bytes()).collect();
        let mut parts = LayoutParts::from([
            ("weight", bytes(stream::pack(&spqr.codes, spqr.bits)?)),
            ("weight_shape", LayoutPart { dtype: Dtype::I64, shape: vec![3], bytes: shape }),
        ]);
        SCALES.put(&mut parts, &spqr.scales, spqr, c)?;
        ZEROS.put(&mut parts, &spqr.zeros, spqr, c)?;
        if !at.is_empty() {
            parts.insert("outlier_values", floats("outlier_values", c.dtype, vec![at.len()], values)?);
            parts.insert("outlier_gaps", bytes(gaps::encode(at, width)));
        }
        if let Some(order) = &spqr.order {
            parts.insert("column_order", bytes(stream::pack(order, order_bits(c.cols))?));
        }
        Ok(parts)
    }

    fn shape(&self, parts: &LayoutParts) -> Result<Option<(usize, usize)>> {
        stored_shape(parts).map(|(rows, cols, _)| Some((rows, cols)))
    }

    fn decode(&self, scheme: &Scheme, parts: LayoutParts) -> Result<Compressed> {
        let (rows, cols, width) = stored_shape(&parts)?;
        let args = scheme.codes()?;
        let Some(bits @ 2..=8) = args.element.int_bits() else {
            return Err(Error::parts(format!(
                "codes of {} bits; the layout has integers of 2 to 8",
                args.element.bits()
            )));
        };
        let group_size = match args.strategy {
            Strategy::Channel => cols,
            Strategy::Group(size) if size > 0 => size.min(cols),
            _ => return Err(Error::parts("the layout has scales a row or group")),
        };
        // The codes come first: their bytes bound everything that is allocated later.
        let count = rows.checked_mul(cols).ok_or_else(|| Error::parts("weight_shape is larger than any file"))?;
        let codes = codes(&parts, "weight", count, bits)?;
        let groups = cols.div_ceil(group_size);
        let second = args.second;
        let coded = |bits: fn(SecondLevel) -> Option<u32>| {
            second.and_then(|second| Some(StatisticForm::Coded { bits: bits(second)?, rows: second.rows }))
        };
        let scale_form = coded(|second| second.scale_bits).unwrap_or(StatisticForm::Plain);
        let zero_form = match coded(|second| second.zero_bits) {
            Some(form) => form,
            None if args.symmetric => StatisticForm::Constant((1u32 << (bits - 1)) as f32),
            // A matrix with a rounded zero that is not a code has floats, whatever the others have.
            None if args.float_zeros || parts.contains_key(ZEROS.plain) => StatisticForm::Plain,
            None => StatisticForm::Integers(bits),
        };
        let first = if scale_form == StatisticForm::Plain { SCALES.plain } else { SCALES.grid };
        let dtype = take(&parts, first, &Dtype::FLOATS)?.dtype;
        let mut read = vec!["weight", "weight_shape"];
        let scales = SCALES.get(&parts, scale_form, [rows, groups], dtype, &mut read)?;
        let zeros = ZEROS.get(&parts, zero_form, [rows, groups], dtype, &mut read)?;
        let outliers = outliers(&parts, width, count, dtype, &mut read)?;
        let order = match parts.contains_key("column_order") {
            true => Some(stored_order(&parts, cols, &mut read)?),
            false => None,
        };
        // A part that the scheme has no use for says that the scheme is another matrix's.
        if let Some(name) = parts.keys().find(|name| !read.contains(*name)) {
            return Err(Error::parts(format!("{name}: stored, but the scheme of this module does not use it")));
        }
        let spqr = Spqr { bits, group_size, order, codes, scales, zeros, outliers };
        Ok(Compressed { rows, cols, dtype: dtype.in_memory(), values: Values::Spqr(Box::new(spqr)) })
    }
}

/// The numbers of a matrix that this layout can hold.
fn checked(c: &Compressed) -> Result<&Spqr> {
    let Values::Spqr(spqr) = &c.values else {
        return Err(Error::parts("the paring-spqr layout holds SpQR matrices only"));
    };
    spqr.check(c.rows, c.cols, c.dtype)?;
    if spqr.order.is_some() && c.cols > MAX_ORDERED {
        return Err(Error::parts(format!("an order of {} columns; the layout names {MAX_ORDERED}", c.cols)));
    }
    let heights = [&spqr.scales, &spqr.zeros].map(|statistic| match statistic {
        Statistic::Coded { rows, .. } => Some(*rows),
        _ => None,
    });
    match heights {
        [Some(scales), Some(zeros)] if scales != zeros => {
            Err(Error::parts(format!("scales are coded by {scales} rows and zeros by {zeros}")))
        }
        _ => Ok(spqr),
    }
}

/// Local names of the parts that a statistic may lie in.
struct StatisticNames {
    plain: &'static str,
    codes: &'static str,
    grid: &'static str,
}

const SCALES: StatisticNames = StatisticNames { plain: "weight_scale", codes: "scale_codes", grid: "scale_grid" };
const ZEROS: StatisticNames = StatisticNames { plain: "weight_zero_point", codes: "zero_codes", grid: "zero_grid" };

/// The ways in which a statistic is stored.
#[derive(Clone, Copy, PartialEq)]
enum StatisticForm {
    Plain,
    Constant(f32),
    Integers(u32),
    Coded { bits: u32, rows: usize },
}

impl StatisticNames {
    fn put(&self, parts: &mut LayoutParts, statistic: &Statistic, spqr: &Spqr, c: &Compressed) -> Result<()> {
        let groups = spqr.groups(c.cols);
        match statistic {
            Statistic::Constant(_) => {}
            Statistic::Plain(values) => {
                parts.insert(self.plain, floats(self.plain, c.dtype, vec![c.rows, groups], values)?);
            }
            Statistic::Integers(values) => {
                parts.insert(self.codes, bytes(stream::pack(values, spqr.bits)?));
            }
            Statistic::Coded { bits, rows, codes, scales, zeros } => {
                let shape = vec![2, c.rows.div_ceil(*rows), groups];
                let both = [&scales[..], &zeros[..]].concat();
                parts.insert(self.codes, bytes(stream::pack(codes, *bits)?));
                parts.insert(self.grid, floats(self.grid, c.dtype, shape, &both)?);
            }
        }
        Ok(())
    }

    /// The statistic of this form and shape. Names of the parts it took are added to `read`.
    fn get(
        &self,
        parts: &LayoutParts,
        form: StatisticForm,
        [rows, groups]: [usize; 2],
        dtype: Dtype,
        read: &mut Vec<&'static str>,
    ) -> Result<Statistic> {
        let floats = |name: &'static str, shape: &[usize]| {
            let part = take(parts, name, &[dtype])?;
            part.expect_shape(name, shape)?;
            part.finite(name)
        };
        Ok(match form {
            StatisticForm::Constant(value) => Statistic::Constant(value),
            StatisticForm::Plain => {
                read.push(self.plain);
                Statistic::Plain(floats(self.plain, &[rows, groups])?)
            }
            StatisticForm::Integers(bits) => {
                read.push(self.codes);
                Statistic::Integers(codes(parts, self.codes, rows * groups, bits)?)
            }
            StatisticForm::Coded { bits, rows: height } => {
                if !(1..=8).contains(&bits) || height == 0 {
                    return Err(Error::parts(format!("{}: {bits} bits for {height} rows", self.codes)));
                }
                read.extend([self.codes, self.grid]);
                let codes = codes(parts, self.codes, rows * groups, bits)?;
                let mut scales = floats(self.grid, &[2, rows.div_ceil(height), groups])?;
                let zeros = scales.split_off(scales.len() / 2);
                Statistic::Coded { bits, rows: height, codes, scales, zeros }
            }
        })
    }
}

/// A stream as a part.
fn bytes(bytes: Vec<u8>) -> LayoutPart {
    LayoutPart { dtype: Dtype::U8, shape: vec![bytes.len()], bytes }
}

/// The bytes of a stream of `count` values of `bits` bits.
fn stored<'a>(parts: &'a LayoutParts, name: &str, count: usize, bits: u32) -> Result<&'a [u8]> {
    let part = take(parts, name, &[Dtype::U8])?;
    let Some(length) = stream::bytes(count, bits) else {
        return Err(Error::parts(format!("{name}: {count} codes are larger than any file")));
    };
    part.expect_shape(name, &[length])?;
    Ok(&part.bytes)
}

fn codes(parts: &LayoutParts, name: &str, count: usize, bits: u32) -> Result<Vec<u8>> {
    let stream = stored(parts, name, count, bits)?;
    stream::unpack(stream, count, bits).map_err(|error| named(name, error))
}

/// The error of a stream with the name of its part.
fn named(name: &str, error: Error) -> Error {
    match error {
        Error::BadParts { module, reason } => Error::BadParts { module, reason: format!("{name}: {reason}") },
        other => other,
    }
}

/// Rows, columns, and the width of a gap: 0 when there are no outliers.
fn stored_shape(parts: &LayoutParts) -> Result<(usize, usize, u32)> {
    let part = take(parts, "weight_shape", &[Dtype::I64])?;
    part.expect_shape("weight_shape", &[3])?;
    let numbers: Vec<i64> = part.bytes.as_chunks::<8>().0.iter().map(|&bytes| i64::from_le_bytes(bytes)).collect();
    let bad = || Error::parts(format!("weight_shape: {numbers:?} are not rows, columns and the width of a gap"));
    let &[rows, cols, width] = &numbers[..] else { return Err(bad()) };
    match (usize::try_from(rows), usize::try_from(cols), u32::try_from(width)) {
        (Ok(rows @ 1..), Ok(cols @ 1..), Ok(width @ 0..=16)) => Ok((rows, cols, width)),
        _ => Err(bad()),
    }
}

fn outliers(
    parts: &LayoutParts,
    width: u32,
    count: usize,
    dtype: Dtype,
    read: &mut Vec<&'static str>,
) -> Result<Outliers> {
    if width == 0 {
        return Ok(Outliers::default());
    }
    read.extend(["outlier_values", "outlier_gaps"]);
    let part = take(parts, "outlier_values", &[dtype])?;
    let &[kept] = &part.shape[..] else {
        return Err(Error::parts(format!("outlier_values: shape {:?} is not that of a list", part.shape)));
    };
    if kept == 0 {
        return Err(Error::parts("outlier_values: empty, though weight_shape has a width for gaps"));
    }
    let values = part.finite("outlier_values")?;
    let gaps = take(parts, "outlier_gaps", &[Dtype::U8])?;
    gaps.expect_shape("outlier_gaps", &[gaps.bytes.len()])?;
    let at = gaps::decode(&gaps.bytes, width, kept, count).map_err(|error| named("outlier_gaps", error))?;
    Ok(Outliers { at, values })
}

fn stored_order(parts: &LayoutParts, cols: usize, read: &mut Vec<&'static str>) -> Result<Vec<u32>> {
    read.push("column_order");
    if cols > MAX_ORDERED {
        return Err(Error::parts(format!("column_order: {cols} columns; at most {MAX_ORDERED} can be named")));
    }
    let bits = order_bits(cols);
    let stream = stored(parts, "column_order", cols, bits)?;
    let order = stream::unpack_wide(stream, cols, bits).map_err(|error| named("column_order", error))?;
    check_order(&order, cols).map_err(|reason| Error::parts(format!("column_order {reason}")))?;
    Ok(order)
}
