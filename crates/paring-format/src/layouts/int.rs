//! `int-quantized`: one byte a code, whatever its width.

use super::{scales, unpacked};
use crate::{Compressed, Element, Layout, Parts, QuantArgs, Result, Scheme};

/// `weight` I8 `[rows, cols]`, `weight_scale` by strategy, and `weight_zero_point` I8 like the scale when the grid is
/// asymmetric. Codes may use the whole byte; readers do not clamp them to the grid's width.
pub struct Int;

impl Layout for Int {
    fn name(&self) -> &'static str {
        "int-quantized"
    }

    fn check_args(&self, args: &QuantArgs) -> Result<()> {
        let fits = matches!(args.element, Element::Int(1..=8)) && scales::are_floats(args);
        scales::fits(fits, self.name(), "integers of up to 8 bits", args)
    }

    fn encode(&self, scheme: &Scheme, c: &Compressed) -> Result<Parts> {
        unpacked::encode(self, scheme, c)
    }

    fn decode(&self, scheme: &Scheme, parts: &Parts) -> Result<Compressed> {
        unpacked::decode(self, scheme, parts)
    }
}
