//! `spqr`: the storage of the package spqr_quant, which transformers names by its method.
//!
//! 3 bits at both levels, tiles of 16 by 16, f16. Outliers are stored as what is added to the weight that the code
//! stands for; a [`Spqr`] has the sum. The shape is not stored: it follows from lengths, if at times not from them alone.

use half::f16;

use super::{Holds, take};
use crate::spqr::check_order;
use crate::{
    Compressed, Dtype, Error, Layout, LayoutPart, LayoutParts, Outliers, QuantArgs, QuantMethod, Result, Scheme, Spqr,
    Statistic, Values,
};

/// Rows and columns of a tile, and width of all codes.
const TILE: usize = 16;
const BITS: u32 = 3;

/// Columns are read as signed 16-bit numbers.
const MAX_COLS: usize = 1 << 15;

/// Local names of the tensors, each one-dimensional.
pub(crate) const TENSORS: [&str; 4] = ["dense_weights", "row_offsets", "col_vals", "in_perm"];

/// `dense_weights` I64 `[rows · cols / 16]`, a word for each row of a tile; `row_offsets` I32 and `col_vals` I32, the
/// outliers by row (or by 16 interleaved rows; read only); `in_perm` I32 `[cols / 2]`, the order, or `[0]`.
pub struct SpqrHf;

impl Layout for SpqrHf {
    fn name(&self) -> &'static str {
        "spqr"
    }

    fn part_names(&self) -> &'static [&'static str] {
        &TENSORS
    }

    fn weight_name(&self) -> &'static str {
        TENSORS[0]
    }

    fn holds(&self) -> Holds {
        Holds::SPQR
    }

    fn method(&self) -> QuantMethod {
        QuantMethod::Spqr
    }

    fn check_args(&self, args: &QuantArgs) -> Result<()> {
        match Scheme::spqr(Vec::new()).weights {
            // In which order columns were visited, each matrix says.
            Some(only) if only != (QuantArgs { actorder: None, ..args.clone() }) => {
                Err(Error::parts(format!("the spqr layout holds {only}, not {args}")))
            }
            _ => Ok(()),
        }
    }

    fn encode(&self, _scheme: &Scheme, c: &Compressed) -> Result<LayoutParts> {
        let Fitting { spqr, scales, zeros } = fitting(c)?;
        let (rows, cols) = (c.rows, c.cols);
        let groups = cols / TILE;
        let mut words = Vec::with_capacity(rows * groups);
        for tile in 0..rows / TILE * groups {
            let half = |values: &[f32]| u64::from(f16::from_f32(values[tile]).to_bits());
            let second =
                half(scales.scales) | half(zeros.scales) << 16 | half(scales.zeros) << 32 | half(zeros.zeros) << 48;
            for k in 0..TILE {
                let (row, group) = (tile / groups * TILE + k, tile % groups);
                let at = row * groups + group;
                let mut word = u64::from(scales.codes[at]) | u64::from(zeros.codes[at]) << 3;
                for (j, &code) in spqr.codes[at * TILE..][..TILE].iter().enumerate() {
                    word |= u64::from(code) << (6 + 3 * j);
                }
                words.push((word | (second >> (8 * (k / 2)) & 0xff) << 54) as i64);
            }
        }
        let base = spqr.base(rows, cols, Dtype::F16);
        let mut entries = Vec::with_capacity(spqr.outliers.at.len());
        let mut offsets = vec![0i32; rows + 1];
        for (&at, &value) in spqr.outliers.at.iter().zip(&spqr.outliers.values) {
            let (row, column) = (at as usize / cols, at as usize % cols);
            let base = base[at as usize];
            let Sum { added, got } = nearest(base, value);
            if got.to_bits() != value.to_bits() {
                return Err(Error::parts(format!(
                    "the outlier {value} at row {row}, position {column}: no f16 added to {base} gives it"
                )));
            }
            entries.push((u32::from(added.to_bits()) << 16 | column as u32) as i32);
            offsets[row + 1] += 1;
        }
        (0..rows).for_each(|row| offsets[row + 1] += offsets[row]);
        let column = |position: usize| spqr.order.as_ref().map_or(position as u32, |order| order[position]);
        let order = (0..cols / 2).map(|i| (column(2 * i) | column(2 * i + 1) << 16) as i32).collect();
        let bytes = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        Ok(LayoutParts::from([
            ("dense_weights", LayoutPart { dtype: Dtype::I64, shape: vec![words.len()], bytes }),
            ("row_offsets", list(offsets)),
            ("col_vals", list(entries)),
            ("in_perm", list(order)),
        ]))
    }

    fn decode(&self, _scheme: &Scheme, parts: LayoutParts) -> Result<Compressed> {
        decode(&parts, None)
    }

    fn decode_shaped(&self, _scheme: &Scheme, parts: LayoutParts, shape: (usize, usize)) -> Result<Compressed> {
        decode(&parts, Some(shape))
    }

    fn shape(&self, parts: &LayoutParts) -> Result<Option<(usize, usize)>> {
        let length = |name: &str| parts.get(name).and_then(|part| part.shape.first().copied()).unwrap_or(0);
        Ok(match shapes(length("dense_weights"), length("row_offsets"), length("in_perm"))?[..] {
            [ShapeReading { rows, cols, .. }] => Some((rows, cols)),
            _ => None,
        })
    }

    fn check_shape(&self, rows: usize, cols: usize) -> Result<()> {
        if rows.is_multiple_of(TILE) && cols.is_multiple_of(TILE) && cols < MAX_COLS {
            return Ok(());
        }
        Err(Error::parts(format!(
            "the spqr layout holds tiles of {TILE} by {TILE} and fewer than {MAX_COLS} columns, not {rows} x {cols}"
        )))
    }

    fn float_type(&self) -> Option<Dtype> {
        Some(Dtype::F16)
    }

    fn adds_outliers(&self) -> bool {
        true
    }
}

/// A matrix of the only kind that the format has.
struct Fitting<'a> {
    spqr: &'a Spqr,
    scales: Coded<'a>,
    zeros: Coded<'a>,
}

struct Coded<'a> {
    codes: &'a [u8],
    scales: &'a [f32],
    zeros: &'a [f32],
}

fn fitting(c: &Compressed) -> Result<Fitting<'_>> {
    let fail = |text: String| Err(Error::parts(format!("the spqr layout holds {text}")));
    let Values::Spqr(spqr) = &c.values else { return fail("SpQR matrices only".to_string()) };
    spqr.check(c.rows, c.cols, c.dtype)?;
    if c.dtype != Dtype::F16 {
        return fail(format!("F16, not {}", c.dtype));
    }
    SpqrHf.check_shape(c.rows, c.cols)?;
    if spqr.bits != BITS || spqr.group_size != TILE {
        return fail(format!("3 bits in groups of 16, not {} in groups of {}", spqr.bits, spqr.group_size));
    }
    match (coded(&spqr.scales), coded(&spqr.zeros)) {
        (Some(scales), Some(zeros)) => Ok(Fitting { spqr, scales, zeros }),
        _ => fail("scales and zeros that are coded with 3 bits for 16 rows".to_string()),
    }
}

fn coded(statistic: &Statistic) -> Option<Coded<'_>> {
    match statistic {
        Statistic::Coded { bits: BITS, rows: TILE, codes, scales, zeros } => Some(Coded { codes, scales, zeros }),
        _ => None,
    }
}

fn list(numbers: Vec<i32>) -> LayoutPart {
    let bytes = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    LayoutPart { dtype: Dtype::I32, shape: vec![numbers.len()], bytes }
}

/// The stored summand of an outlier, and the sum that a reader makes of it.
pub(super) struct Sum {
    added: f16,
    pub(super) got: f32,
}

/// The f16 that, added to `base` in f32 and rounded to f16, comes closest to `value`. Never a positive zero where
/// another does as well: a word of zeros is padding to some readers.
pub(super) fn nearest(base: f32, value: f32) -> Sum {
    let sum = |added: f16| Sum { added, got: Dtype::F16.round(base + added.to_f32()) };
    let unchanged = sum(f16::NEG_ZERO);
    if unchanged.got.to_bits() == value.to_bits() {
        return unchanged;
    }
    let first = f16::from_f32(value - base);
    let (sign, magnitude) = (first.to_bits() & 0x8000, first.to_bits() & 0x7fff);
    let (above, below) = (
        f16::from_bits(sign | (magnitude + 1)),
        match magnitude {
            0 => f16::from_bits((sign ^ 0x8000) | 1),
            _ => f16::from_bits(sign | (magnitude - 1)),
        },
    );
    let mut best = sum(first);
    for other in [above, below].map(sum) {
        let off = |sum: &Sum| if sum.got.to_bits() == value.to_bits() { -1.0 } else { (sum.got - value).abs() };
        if !best.got.is_finite() || off(&other) < off(&best) {
            best = other;
        }
    }
    best
}

/// One shape that the lengths of the tensors allow.
#[derive(Clone, Copy)]
struct ShapeReading {
    rows: usize,
    cols: usize,
    /// Rows that share an entry of `row_offsets`: 1, or the 16 of a tile.
    height: usize,
}

/// All shapes that fit `words` words, `offsets` row offsets, and an order of `pairs` pairs, none if it is not stored.
fn shapes(words: usize, offsets: usize, pairs: usize) -> Result<Vec<ShapeReading>> {
    let fits = |height: usize| {
        let rows = offsets.checked_sub(1)?.checked_mul(height)?;
        let tiles = words.is_multiple_of(TILE).then_some(words / TILE)?;
        let groups = (rows > 0 && rows.is_multiple_of(TILE)).then(|| tiles.checked_div(rows / TILE))??;
        let cols = groups.checked_mul(TILE)?;
        let whole = groups > 0 && groups * (rows / TILE) == tiles && rows.checked_mul(cols).is_some();
        (whole && cols < MAX_COLS && (pairs == 0 || cols == 2 * pairs)).then_some(ShapeReading { rows, cols, height })
    };
    let shapes: Vec<ShapeReading> = [1, TILE].into_iter().filter_map(fits).collect();
    if shapes.is_empty() {
        let found = format!("dense_weights [{words}], row_offsets [{offsets}] and in_perm [{pairs}]");
        return Err(Error::parts(format!("{found} do not fit together as a matrix")));
    }
    Ok(shapes)
}

fn decode(parts: &LayoutParts, expected: Option<(usize, usize)>) -> Result<Compressed> {
    let words = take(parts, "dense_weights", &[Dtype::I64])?;
    words.expect_shape("dense_weights", &[words.bytes.len() / 8])?;
    let words: Vec<u64> = words.bytes.as_chunks::<8>().0.iter().map(|&word| u64::from_le_bytes(word)).collect();
    let offsets = numbers(parts, "row_offsets")?;
    // One writer makes an empty list of another type.
    let empty = parts.get("col_vals").is_some_and(|part| part.dtype == Dtype::F32 && part.shape == [0]);
    let entries = if empty { Vec::new() } else { numbers(parts, "col_vals")? };
    let order = match parts.contains_key("in_perm") {
        true => numbers(parts, "in_perm")?,
        false => Vec::new(),
    };
    let mut shapes = shapes(words.len(), offsets.len(), order.len())?;
    // A shape that does not fit is for the caller to report.
    if let Some(known) = shapes.iter().position(|shape| Some((shape.rows, shape.cols)) == expected) {
        shapes = vec![shapes[known]];
    }
    let mut read = shapes.iter().map(|shape| matrix(&words, &offsets, &entries, &order, *shape)).collect::<Vec<_>>();
    // The order tells the shape. Without one, the outliers do: those of one reading make no sense in another.
    match (read.iter().filter(|read| read.is_ok()).count(), read.iter().position(|read| read.is_ok())) {
        (1, Some(good)) => read.swap_remove(good),
        (0, _) => read.swap_remove(0),
        _ => {
            let [a, b] = [shapes[0], shapes[1]];
            let shapes = format!("{} x {} or {} x {}", a.rows, a.cols, b.rows, b.cols);
            Err(Error::parts(format!("in_perm: empty, and the other tensors do not tell if the matrix is {shapes}")))
        }
    }
}

/// A list of 32-bit numbers.
fn numbers(parts: &LayoutParts, name: &str) -> Result<Vec<u32>> {
    let part = take(parts, name, &[Dtype::I32])?;
    part.expect_shape(name, &[part.bytes.len() / 4])?;
    Ok(part.bytes.as_chunks::<4>().0.iter().map(|&number| u32::from_le_bytes(number)).collect())
}

/// The matrix of this shape.
fn matrix(words: &[u64], offsets: &[u32], entries: &[u32], order: &[u32], shape: ShapeReading) -> Result<Compressed> {
    let ShapeReading { rows, cols, .. } = shape;
    let groups = cols / TILE;
    let mut codes = vec![0u8; rows * cols];
    let mut statistics = [vec![0u8; rows * groups], vec![0u8; rows * groups]];
    let mut grids = [const { Vec::<f32>::new() }; 4];
    for (tile, words) in words.chunks_exact(TILE).enumerate() {
        let mut second = 0u64;
        for (k, &word) in words.iter().enumerate() {
            let at = (tile / groups * TILE + k) * groups + tile % groups;
            statistics[0][at] = (word & 7) as u8;
            statistics[1][at] = (word >> 3 & 7) as u8;
            for (j, code) in codes[at * TILE..][..TILE].iter_mut().enumerate() {
                *code = (word >> (6 + 3 * j) & 7) as u8;
            }
            second |= (word >> 54 & 0xff) << (8 * (k / 2));
        }
        for (i, grid) in grids.iter_mut().enumerate() {
            let value = f16::from_bits((second >> (16 * i)) as u16).to_f32();
            if !value.is_finite() {
                return Err(Error::parts(format!("dense_weights: {value} in the statistics of tile {tile}")));
            }
            grid.push(value);
        }
    }
    let ([scale_codes, zero_codes], [a, b, c, d]) = (statistics, grids);
    let coded = |codes, scales, zeros| Statistic::Coded { bits: BITS, rows: TILE, codes, scales, zeros };
    let order: Vec<u32> = order.iter().flat_map(|pair| [pair & 0xffff, pair >> 16]).collect();
    let moved = order.iter().enumerate().any(|(position, &column)| position != column as usize);
    if moved {
        check_order(&order, cols).map_err(|reason| Error::parts(format!("in_perm {reason}")))?;
    }
    let mut spqr = Spqr {
        bits: BITS,
        group_size: TILE,
        order: moved.then_some(order),
        codes,
        scales: coded(scale_codes, a, c),
        zeros: coded(zero_codes, b, d),
        outliers: Outliers::default(),
    };
    let base = spqr.base(rows, cols, Dtype::F16);
    for (at, added) in outliers(offsets, entries, shape)? {
        let value = Dtype::F16.round(base[at as usize] + added);
        if !added.is_finite() || !value.is_finite() {
            let (row, position) = (at as usize / cols, at as usize % cols);
            return Err(Error::parts(format!("col_vals: {added} makes {value} at row {row}, position {position}")));
        }
        spqr.outliers.at.push(at);
        spqr.outliers.values.push(value);
    }
    Ok(Compressed { rows, cols, dtype: Dtype::F16, values: Values::Spqr(Box::new(spqr)) })
}

/// Place and summand of each outlier, by row and position.
fn outliers(offsets: &[u32], entries: &[u32], shape: ShapeReading) -> Result<Vec<(u32, f32)>> {
    let ends = (offsets.first(), offsets.last().map(|&last| last as usize));
    if ends != (Some(&0), Some(entries.len())) || offsets.windows(2).any(|pair| pair[0] > pair[1]) {
        return Err(Error::parts(format!(
            "row_offsets do not ascend from 0 to {}, the length of col_vals",
            entries.len()
        )));
    }
    let mut found = Vec::with_capacity(entries.len());
    for (block, ends) in offsets.windows(2).enumerate() {
        let entries = &entries[ends[0] as usize..ends[1] as usize];
        if !entries.len().is_multiple_of(shape.height) {
            return Err(Error::parts(format!("row_offsets: the rows of block {block} have different lengths")));
        }
        for k in 0..shape.height {
            let row = block * shape.height + k;
            let of_row = entries.iter().skip(k).step_by(shape.height);
            // Rows that share a block are filled up with zeros, and a reader stops at the first.
            let of_row = of_row.take_while(|&&word| shape.height == 1 || word != 0);
            let mut least = 0;
            for &word in of_row {
                let position = (word & 0xffff) as usize;
                if position < least || position >= shape.cols {
                    let text = format!("col_vals: position {position} in row {row} is not in ascending order below");
                    return Err(Error::parts(format!("{text} {}", shape.cols)));
                }
                least = position + 1;
                let Ok(at) = u32::try_from(row * shape.cols + position) else {
                    return Err(Error::parts(format!("col_vals: row {row} has outliers beyond what can be named")));
                };
                found.push((at, f16::from_bits((word >> 16) as u16).to_f32()));
            }
        }
    }
    Ok(found)
}
