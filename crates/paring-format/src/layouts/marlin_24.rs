//! `marlin-24`: two of every four weights as codes of 4 or 8 bits, in the order in which a GPU kernel reads them. It left
//! compressed-tensors in 0.15; no published program turns it back into a matrix.

use super::{Holds, Layout, LayoutPart, LayoutParts, floats, scales, take};
use crate::{Compressed, Dtype, Error, Grid, QuantArgs, Result, ScaleType, Scheme, Strategy, Values};

/// `weight_packed` I32 `[cols / 32, rows · bits / 2]`, `meta` I16 `[cols / 32, 2 · rows]` and `scale_packed` F16
/// `[groups, rows]`: symmetric integers of 4 or 8 bits, one scale for a row or for 128 of its columns, in f16.
pub struct Marlin24;

/// Columns of a group.
const GROUP: usize = 128;
/// Rows and columns are multiples of these.
const TILE: (usize, usize) = (64, 32);
/// Codes of a stripe, four tiles of 16 by 16 side by side; they change places among themselves only.
const STRIPE: usize = 1024;

/// The two positions that are kept of four weights, by the bits of those that are not 0; `None` when these are more.
/// Where there are fewer, some zero is kept too; which one is the format's choice.
const KEPT: [Option<(u8, u8)>; 16] = [
    Some((2, 3)),
    Some((0, 2)),
    Some((1, 2)),
    Some((0, 1)),
    Some((2, 3)),
    Some((0, 2)),
    Some((1, 2)),
    None,
    Some((2, 3)),
    Some((0, 3)),
    Some((1, 3)),
    None,
    Some((2, 3)),
    None,
    None,
    None,
];

/// The places of the scales of a run of eight rows lie when a kernel reads them by group.
const SCALE_ORDER: [usize; 8] = [0, 4, 1, 5, 2, 6, 3, 7];

impl Layout for Marlin24 {
    fn name(&self) -> &'static str {
        "marlin-24"
    }

    fn part_names(&self) -> &'static [&'static str] {
        &["weight_packed", "meta", "scale_packed"]
    }

    fn weight_name(&self) -> &'static str {
        "weight_packed"
    }

    fn holds(&self) -> Holds {
        Holds::CODES
    }

    fn check_args(&self, args: &QuantArgs) -> Result<()> {
        width(args).map(drop)
    }

    fn encode(&self, scheme: &Scheme, c: &Compressed) -> Result<LayoutParts> {
        let args = scheme.codes()?;
        let bits = width(args)?;
        self.check_shape(c.rows, c.cols)?;
        let (codes, grid) = scales::codes(self.name(), args, c)?;
        if c.dtype != Dtype::F16 || grid.group_index.is_some() {
            return Err(Error::parts("the marlin-24 layout holds F16 scales of groups in file order"));
        }
        let zero = 1i16 << (bits - 1);
        if let Some(at) = codes.iter().position(|&code| !(-zero..zero).contains(&i16::from(code))) {
            return Err(Error::parts(format!("the code {} (element {at}) does not fit in {bits} bits", codes[at])));
        }
        // Kept codes, unsigned, `[rows, cols / 2]`, and their positions, four bits for each four weights.
        let mut kept = Vec::with_capacity(codes.len() / 2);
        let mut positions = Vec::with_capacity(codes.len() / 4);
        for (i, four) in codes.as_chunks::<4>().0.iter().enumerate() {
            let pattern = four.iter().enumerate().fold(0, |bits, (k, &code)| bits | usize::from(code != 0) << k);
            let Some((first, second)) = KEPT[pattern] else {
                let (row, col) = (4 * i / c.cols, 4 * i % c.cols);
                let reason = "more than two weights that are not zero";
                return Err(Error::parts(format!("row {row}, columns {col} to {}: {reason}", col + 3)));
            };
            kept.extend([first, second].map(|k| (i16::from(four[usize::from(k)]) + zero) as u8));
            positions.push(first | second << 2);
        }
        let mut meta = vec![0; c.rows * c.cols / 16];
        for (i, four) in positions.as_chunks::<4>().0.iter().enumerate() {
            let word = four.iter().rev().fold(0u16, |word, &four| word << 4 | u16::from(four));
            meta[place(i / (c.cols / 16), i % (c.cols / 16), c.rows)] = word;
        }
        let mut words = vec![0u32; codes.len() / 2 / (32 / bits as usize)];
        each_code(bits, c.rows, c.cols, |code, word, shift| words[word] |= u32::from(kept[code]) << shift);
        let groups = grid.groups(c.cols);
        let order = scale_order(args, c.cols);
        let scale = |i: usize| grid.scales[row_of(i % c.rows, order) * groups + i / c.rows];
        let packed: Vec<f32> = (0..grid.scales.len()).map(scale).collect();
        let width = words.len() / (c.cols / 32);
        let words = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let meta = meta.iter().flat_map(|word| word.to_le_bytes()).collect();
        Ok(LayoutParts::from([
            ("weight_packed", LayoutPart { dtype: Dtype::I32, shape: vec![c.cols / 32, width], bytes: words }),
            ("meta", LayoutPart { dtype: Dtype::I16, shape: vec![c.cols / 32, 2 * c.rows], bytes: meta }),
            ("scale_packed", floats("scale_packed", Dtype::F16, vec![groups, c.rows], &packed)?),
        ]))
    }

    fn shape(&self, parts: &LayoutParts) -> Result<Option<(usize, usize)>> {
        let meta = parts.get("meta").ok_or_else(|| super::missing(parts, "meta"))?;
        let (tall, wide) = meta.matrix("meta")?;
        match tall.checked_mul(32) {
            Some(cols) if wide % 2 == 0 && self.check_shape(wide / 2, cols).is_ok() => Ok(Some((wide / 2, cols))),
            _ => Err(Error::parts(format!("meta: shape {:?} is not [cols / 32, 2 · rows] of rows by 64", meta.shape))),
        }
    }

    fn decode(&self, scheme: &Scheme, parts: LayoutParts) -> Result<Compressed> {
        let args = scheme.codes()?;
        let bits = width(args)?;
        let meta = take(&parts, "meta", &[Dtype::I16])?;
        let Some((rows, cols)) = self.shape(&parts)? else { return Err(super::missing(&parts, "meta")) };
        let tile = scales::tile(args, rows, cols)?;
        let packed = take(&parts, "weight_packed", &[Dtype::I32])?;
        packed.expect_shape("weight_packed", &[cols / 32, rows * bits as usize / 2])?;
        let scale = take(&parts, "scale_packed", &[Dtype::F16])?;
        let groups = cols / tile[1];
        scale.expect_shape("scale_packed", &[groups, rows])?;
        // Columns of the kept codes, `[rows, cols / 2]`.
        let mut columns = vec![0u32; rows * cols / 2];
        let meta = meta.bytes.as_chunks::<2>().0;
        for (i, sixteen) in columns.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let (row, step) = (i / (cols / 16), i % (cols / 16));
            let word = u16::from_le_bytes(meta[place(row, step, rows)]);
            for (k, pair) in sixteen.as_chunks_mut::<2>().0.iter_mut().enumerate() {
                let (first, second) = (word >> (4 * k) & 3, word >> (4 * k + 2) & 3);
                if first >= second {
                    let col = 16 * step + 4 * k;
                    let text =
                        format!("meta: positions {first} and {second} for row {row}, columns {col} to {}", col + 3);
                    return Err(Error::parts(text));
                }
                *pair = [first, second].map(|at| (16 * step + 4 * k) as u32 + u32::from(at));
            }
        }
        let words = packed.bytes.as_chunks::<4>().0;
        let (low, zero) = ((1u32 << bits) - 1, 1i16 << (bits - 1));
        let mut codes = vec![0i8; rows * cols];
        each_code(bits, rows, cols, |code, word, shift| {
            let value = u32::from_le_bytes(words[word]) >> shift & low;
            codes[code / (cols / 2) * cols + columns[code] as usize] = (value as i16 - zero) as i8;
        });
        let stored = scale.finite("scale_packed")?;
        let order = scale_order(args, cols);
        let mut scales = vec![0.0; stored.len()];
        for (i, &value) in stored.iter().enumerate() {
            scales[row_of(i % rows, order) * groups + i / rows] = value;
        }
        let grid = Grid { tile, ..Grid::int(bits, tile[1], scales, None) };
        Ok(Compressed { rows, cols, dtype: Dtype::F16, values: Values::Codes { codes, grid } })
    }

    fn check_shape(&self, rows: usize, cols: usize) -> Result<()> {
        let fits = rows.is_multiple_of(TILE.0) && cols.is_multiple_of(TILE.1) && rows.checked_mul(cols).is_some();
        if fits && rows > 0 && cols > 0 && u32::try_from(cols).is_ok() {
            return Ok(());
        }
        let text = format!("[{rows}, {cols}] does not fit the tiles of marlin-24, [{}, {}]", TILE.0, TILE.1);
        Err(Error::parts(text))
    }

    fn float_type(&self) -> Option<Dtype> {
        Some(Dtype::F16)
    }

    fn needs_two_of_four(&self) -> bool {
        true
    }

    fn instead(&self) -> Option<&'static str> {
        Some("pack-quantized, which stores the zeros too")
    }
}

/// The width of the codes. Errors on what the layout cannot say.
fn width(args: &QuantArgs) -> Result<u32> {
    let bits = args.element.int_bits().filter(|bits| [4, 8].contains(bits));
    let shared = matches!(args.strategy, Strategy::Channel | Strategy::Group(GROUP));
    let fits = bits.is_some() && shared && args.symmetric && args.scale_type == ScaleType::Float;
    let holds = "integers of 4 or 8 bits without zero points, with a scale for each row or 128 columns";
    scales::fits(fits, "marlin-24", holds, args)?;
    if args.has_group_index() {
        return Err(Error::parts(
            "the marlin-24 layout holds groups in file order, not the activation order \"group\"",
        ));
    }
    Ok(bits.unwrap_or(8))
}

/// The order of the scales in a run of eight rows: the library goes by the kept columns when it asks whether there is
/// more than one group, so that two groups of 128 have the order of whole rows.
fn scale_order(args: &QuantArgs, cols: usize) -> Option<&'static [usize; 8]> {
    matches!(args.strategy, Strategy::Group(size) if size < cols / 2).then_some(&SCALE_ORDER)
}

/// The row whose scale lies at `at`.
fn row_of(at: usize, order: Option<&[usize; 8]>) -> usize {
    order.map_or(at, |order| at - at % 8 + order[at % 8])
}

/// The place of the positions of 16 weights, those of `step` times 16 columns and on: CUTLASS's reordering of the metadata
/// of sparse products.
fn place(row: usize, step: usize, rows: usize) -> usize {
    let within = row % 2 * 2 + row % 8 / 4 + row % 4 / 2 * 32 + row % 64 / 8 * 4;
    let to = row - row % 64 + within;
    // Of two by two, the upper right and the lower left one change places.
    let (to, step) = match (to % 2, step % 2) {
        (0, 1) => (to + 1, step - 1),
        (1, 0) => (to - 1, step + 1),
        _ => (to, step),
    };
    step / 2 * rows * 2 + to * 2 + step % 2
}

/// Calls `f` with the index of each kept code in `[rows, cols / 2]`, that of its word, and its first bit in there.
fn each_code(bits: u32, rows: usize, cols: usize, mut f: impl FnMut(usize, usize, u32)) {
    let per_word = 32 / bits as usize;
    // A kernel unpacks the codes of a word in this order.
    let order: &[usize] = if bits == 4 { &[0, 2, 4, 6, 1, 3, 5, 7] } else { &[0, 2, 1, 3] };
    let source: Vec<(usize, usize)> = (0..STRIPE).map(|i| source(i - i % per_word + order[i % per_word])).collect();
    let mut at = 0;
    for tall in 0..cols / 32 {
        for stripe in 0..rows / 64 {
            for &(row, kept) in &source {
                f((64 * stripe + row) * (cols / 2) + 16 * tall + kept, at / per_word, (at % per_word) as u32 * bits);
                at += 1;
            }
        }
    }
}

/// The row and the kept column in a stripe of the code that the `i`-th slot of a kernel's 32 threads holds.
fn source(i: usize) -> (usize, usize) {
    let (thread, slot) = (i / 32, i % 32);
    let row = 16 * (thread / 8) + 8 * (thread / 4 % 2) + 4 * (slot / 4 % 2) + slot / 8;
    let kept = 2 * (thread % 4) + slot % 2 + 8 * (slot % 4 / 2);
    (row, kept)
}
