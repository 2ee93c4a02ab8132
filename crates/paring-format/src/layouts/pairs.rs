//! Layouts with two codes in a byte: nvfp4- and mxfp4-pack-quantized differ in their scales only.

use super::{Holds, missing, order, scales, take};
use crate::floats::{pack_pairs, unpack_pairs};
use crate::{
    Compressed, Dtype, Element, Error, Layout, LayoutPart, LayoutParts, QuantArgs, Result, Scheme, Strategy, Values,
};

const PACKED: &str = "weight_packed";

/// A layout of 4-bit floats.
pub(super) struct Pairs {
    /// The format string on disk.
    pub(super) name: &'static str,
    /// Tells whether weights share scales as it stores them, and in its type.
    pub(super) scales: fn(&QuantArgs) -> bool,
    /// Its contents in words, for errors.
    pub(super) words: &'static str,
    /// Its local names.
    pub(super) part_names: &'static [&'static str],
    /// The strategy by which compressed-tensors infers it.
    pub(super) inferred: Strategy,
}

impl Layout for Pairs {
    fn name(&self) -> &'static str {
        self.name
    }

    fn part_names(&self) -> &'static [&'static str] {
        self.part_names
    }

    fn weight_name(&self) -> &'static str {
        PACKED
    }

    fn holds(&self) -> Holds {
        Holds::CODES
    }

    fn is_inferred(&self, weights: &QuantArgs, _input: Option<&QuantArgs>) -> bool {
        weights.element == Element::E2m1 && weights.strategy == self.inferred
    }

    fn check_args(&self, args: &QuantArgs) -> Result<()> {
        let fits = args.element == Element::E2m1 && args.symmetric && (self.scales)(args);
        scales::fits(fits, self.name, self.words, args)
    }

    fn float_type(&self) -> Option<Dtype> {
        Some(Dtype::Bf16)
    }

    fn shape(&self, parts: &LayoutParts) -> Result<Option<(usize, usize)>> {
        parts.get(PACKED).ok_or_else(|| missing(parts, PACKED)).and_then(size).map(Some)
    }

    /// `weight_packed` and scales.
    fn encode(&self, scheme: &Scheme, c: &Compressed) -> Result<LayoutParts> {
        let args = scheme.codes()?;
        self.check_args(args)?;
        let (codes, grid) = scales::codes(self.name, args, c)?;
        if !c.cols.is_multiple_of(2) {
            return Err(Error::parts(format!("{} columns are no whole number of bytes with two codes each", c.cols)));
        }
        if codes.iter().fold(0, |all, &code| all | code) & !15 != 0 {
            let at = codes.iter().position(|&code| code & !15 != 0).unwrap_or(0);
            return Err(Error::parts(format!("code {} (element {at}) is outside 0..=15", codes[at])));
        }
        let packed = LayoutPart { dtype: Dtype::U8, shape: vec![c.rows, c.cols / 2], bytes: pack_pairs(codes) };
        let mut parts = LayoutParts::from([(PACKED, packed), ("weight_scale", scales::encode(args, c, grid)?)]);
        parts.extend(scales::encode_global(grid));
        parts.extend(order::encode(args, grid.group_index.as_deref(), c.cols)?);
        Ok(parts)
    }

    fn decode(&self, scheme: &Scheme, parts: LayoutParts) -> Result<Compressed> {
        let args = scheme.codes()?;
        self.check_args(args)?;
        let packed = take(&parts, PACKED, &[Dtype::U8])?;
        let (rows, cols) = size(packed)?;
        let (mut grid, dtype) = scales::decode(args, &parts, rows, cols)?;
        grid.group_index = order::decode(args, &parts, cols)?;
        let codes = unpack_pairs(&packed.bytes);
        Ok(Compressed { rows, cols, dtype, values: Values::Codes { codes, grid } })
    }
}

/// Rows and columns, from a part that may have no bytes.
fn size(packed: &LayoutPart) -> Result<(usize, usize)> {
    let (rows, half) = packed.matrix(PACKED)?;
    let cols = half.checked_mul(2).filter(|cols| rows.checked_mul(*cols).is_some());
    Ok((rows, cols.ok_or_else(|| Error::parts(format!("{PACKED} is larger than any file")))?))
}
