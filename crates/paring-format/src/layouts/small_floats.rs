//! Layouts of floats that share bytes: nvfp4- and mxfp4-pack-quantized differ in their scales only, mxfp6-pack-quantized from the
//! latter in the width of its codes.

use super::{Holds, missing, order, scales, take};
use crate::floats::{pack_pairs, pack_quads, unpack_pairs, unpack_quads};
use crate::{
    Compressed, Dtype, Element, Error, Layout, LayoutPart, LayoutParts, QuantArgs, Result, Scheme, Strategy, Values,
};

const PACKED: &str = "weight_packed";

/// A layout of floats of 4 or 6 bits.
pub(super) struct SmallFloats {
    /// The format string on disk.
    pub(super) name: &'static str,
    /// The type of its codes.
    pub(super) element: Element,
    /// Tells whether weights share scales as it stores them, and in its type.
    pub(super) scales: fn(&QuantArgs) -> bool,
    /// Its contents in words, for errors.
    pub(super) words: &'static str,
    /// Its local names.
    pub(super) part_names: &'static [&'static str],
    /// The strategy by which compressed-tensors infers it.
    pub(super) inferred: Strategy,
}

impl SmallFloats {
    /// The least number of codes that fill whole bytes, and how many bytes these are.
    fn unit(&self) -> (usize, usize) {
        if self.element.bits() == 6 { (4, 3) } else { (2, 1) }
    }

    fn pack(&self, codes: &[i8]) -> Vec<u8> {
        if self.element.bits() == 6 { pack_quads(codes) } else { pack_pairs(codes) }
    }

    fn unpack(&self, bytes: &[u8]) -> Vec<i8> {
        if self.element.bits() == 6 { unpack_quads(bytes) } else { unpack_pairs(bytes) }
    }

    /// Rows and columns, from a part that may have no bytes. Errors when its rows are no whole number of units.
    fn size(&self, packed: &LayoutPart) -> Result<(usize, usize)> {
        let (rows, width) = packed.matrix(PACKED)?;
        let (codes, bytes) = self.unit();
        if !width.is_multiple_of(bytes) {
            let reason = format!("{PACKED}: rows of {width} bytes, expected a multiple of {bytes} ({codes} codes)");
            return Err(Error::parts(reason));
        }
        let cols = (width / bytes).checked_mul(codes).filter(|cols| rows.checked_mul(*cols).is_some());
        Ok((rows, cols.ok_or_else(|| Error::parts(format!("{PACKED} is larger than any file")))?))
    }
}

impl Layout for SmallFloats {
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
        weights.element == self.element && weights.strategy == self.inferred
    }

    fn check_args(&self, args: &QuantArgs) -> Result<()> {
        let fits = args.element == self.element && args.symmetric && (self.scales)(args);
        scales::fits(fits, self.name, self.words, args)
    }

    fn float_type(&self) -> Option<Dtype> {
        Some(Dtype::Bf16)
    }

    fn shape(&self, parts: &LayoutParts) -> Result<Option<(usize, usize)>> {
        parts.get(PACKED).ok_or_else(|| missing(parts, PACKED)).and_then(|packed| self.size(packed)).map(Some)
    }

    /// `weight_packed` and scales.
    fn encode(&self, scheme: &Scheme, c: &Compressed) -> Result<LayoutParts> {
        let args = scheme.codes()?;
        self.check_args(args)?;
        let (codes, grid) = scales::codes(self.name, args, c)?;
        let (unit, bytes) = self.unit();
        if !c.cols.is_multiple_of(unit) {
            let reason = format!("the {} layout needs columns in multiples of {unit}, not {}", self.name, c.cols);
            return Err(Error::parts(reason));
        }
        let most = (1 << self.element.bits()) - 1;
        if codes.iter().fold(0, |all, &code| all | code) & !most != 0 {
            let at = codes.iter().position(|&code| code & !most != 0).unwrap_or(0);
            return Err(Error::parts(format!("code {} (element {at}) is outside 0..={most}", codes[at])));
        }
        let packed =
            LayoutPart { dtype: Dtype::U8, shape: vec![c.rows, c.cols / unit * bytes], bytes: self.pack(codes) };
        let mut parts = LayoutParts::from([(PACKED, packed), ("weight_scale", scales::encode(args, c, grid)?)]);
        parts.extend(scales::encode_global(grid));
        parts.extend(order::encode(args, grid.group_index.as_deref(), c.cols)?);
        Ok(parts)
    }

    fn decode(&self, scheme: &Scheme, parts: LayoutParts) -> Result<Compressed> {
        let args = scheme.codes()?;
        self.check_args(args)?;
        let packed = take(&parts, PACKED, &[Dtype::U8])?;
        let (rows, cols) = self.size(packed)?;
        let (mut grid, dtype) = scales::decode(args, &parts, rows, cols)?;
        grid.group_index = order::decode(args, &parts, cols)?;
        let codes = self.unpack(&packed.bytes);
        Ok(Compressed { rows, cols, dtype, values: Values::Codes { codes, grid } })
    }
}
