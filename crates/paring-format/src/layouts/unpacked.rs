//! Layouts with a byte for each code: int-, float- and naive-quantized are one rule of
//! compressed-tensors under three names, and mxfp8-quantized differs in its scales only.

use super::{Holds, order, scales, take};
use crate::{Compressed, Dtype, Element, Error, Layout, LayoutPart, LayoutParts, QuantArgs, Result, Scheme, Values};

/// A layout with a byte for each code.
pub(super) struct Unpacked {
    /// The format string on disk.
    pub(super) name: &'static str,
    /// Tells whether it holds codes that are quantized like this.
    pub(super) fits: fn(&QuantArgs) -> bool,
    /// Its contents in words, for errors.
    pub(super) words: &'static str,
    /// True when it holds zero points.
    pub(super) zero_points: bool,
    /// As [`Layout::is_inferred`].
    pub(super) inferred: fn(&QuantArgs, Option<&QuantArgs>) -> bool,
    /// As [`Layout::float_type`].
    pub(super) float_type: Option<Dtype>,
}

impl Layout for Unpacked {
    fn name(&self) -> &'static str {
        self.name
    }

    fn part_names(&self) -> &'static [&'static str] {
        match self.zero_points {
            true => &["weight", "weight_scale", "weight_zero_point", "weight_g_idx"],
            false => &["weight", "weight_scale", "weight_g_idx"],
        }
    }

    fn holds(&self) -> Holds {
        Holds { zero_points: self.zero_points, ..Holds::CODES }
    }

    fn is_inferred(&self, weights: &QuantArgs, input: Option<&QuantArgs>) -> bool {
        (self.inferred)(weights, input)
    }

    fn check_args(&self, args: &QuantArgs) -> Result<()> {
        scales::fits((self.fits)(args), self.name, self.words, args)
    }

    fn code_bits(&self, _element: Element) -> u32 {
        8
    }

    fn float_type(&self) -> Option<Dtype> {
        self.float_type
    }

    /// `weight` `[rows, cols]`, scales, zero points of an asymmetric grid, and the groups of columns that have their own.
    fn encode(&self, scheme: &Scheme, c: &Compressed) -> Result<LayoutParts> {
        let args = scheme.codes()?;
        self.check_args(args)?;
        let (codes, grid) = scales::codes(self.name, args, c)?;
        let bytes: Vec<u8> = codes.iter().map(|&code| code as u8).collect();
        check_numbers(args.element, &bytes, c.cols)?;
        let weight = LayoutPart { dtype: dtype(args.element), shape: vec![c.rows, c.cols], bytes };
        let mut parts = LayoutParts::from([("weight", weight), ("weight_scale", scales::encode(args, c, grid)?)]);
        parts.extend(order::encode(args, grid.group_index.as_deref(), c.cols)?);
        if let Some(zeros) = &grid.zeros {
            parts.insert("weight_zero_point", scales::encode_zeros(args, c, zeros)?);
        }
        Ok(parts)
    }

    fn decode(&self, scheme: &Scheme, mut parts: LayoutParts) -> Result<Compressed> {
        let args = scheme.codes()?;
        self.check_args(args)?;
        let weight = take(&parts, "weight", &[dtype(args.element)])?;
        let (rows, cols) = weight.matrix("weight")?;
        check_numbers(args.element, &weight.bytes, cols)?;
        let (mut grid, dtype) = scales::decode(args, &parts, rows, cols)?;
        grid.group_index = order::decode(args, &parts, cols)?;
        grid.zeros = scales::decode_zeros(args, &parts, rows, cols)?;
        // The bytes are the codes: they stay where they are.
        let bytes = parts.get_mut("weight").map(|part| std::mem::take(&mut part.bytes)).unwrap_or_default();
        let codes = bytes.into_iter().map(|byte| byte as i8).collect();
        Ok(Compressed { rows, cols, dtype, values: Values::Codes { codes, grid } })
    }
}

/// The type of a byte that holds such a code.
fn dtype(element: Element) -> Dtype {
    if element == Element::E4m3 { Dtype::F8E4M3 } else { Dtype::I8 }
}

/// Errors at the first 8-bit float that is NaN.
fn check_numbers(element: Element, bytes: &[u8], cols: usize) -> Result<()> {
    let is_nan = |byte: u8| byte & 0x7f == 0x7f;
    // Whole blocks without a way out are looked at many bytes at a time.
    let block = 4096;
    let has_nan = |block: &[u8]| block.iter().fold(false, |found, &byte| found | is_nan(byte));
    if element != Element::E4m3 {
        return Ok(());
    }
    let Some(at) = bytes.chunks(block).position(has_nan) else { return Ok(()) };
    let index = at * block + bytes[at * block..].iter().position(|&byte| is_nan(byte)).unwrap_or(0);
    Err(Error::NotFinite { tensor: "weight".to_string(), file: String::new(), index, cols, value: f32::NAN })
}
