//! `float-quantized`: 8-bit floats.

use super::{scales, unpacked};
use crate::{Compressed, Element, Layout, Parts, QuantArgs, Result, Scheme};

/// `weight` F8_E4M3 `[rows, cols]` and `weight_scale` in the model's type: `[1]` for the tensor, `[rows, 1]` by channel,
/// `[rows, groups]` by group, and by block with tiles at the edges that may be cut off.
pub struct Float;

impl Layout for Float {
    fn name(&self) -> &'static str {
        "float-quantized"
    }

    fn check_args(&self, args: &QuantArgs) -> Result<()> {
        let fits = args.element == Element::E4m3 && args.symmetric && scales::are_floats(args);
        scales::fits(fits, self.name(), "8-bit floats without zero points", args)
    }

    fn encode(&self, scheme: &Scheme, c: &Compressed) -> Result<Parts> {
        unpacked::encode(self, scheme, c)
    }

    fn decode(&self, scheme: &Scheme, parts: &Parts) -> Result<Compressed> {
        unpacked::decode(self, scheme, parts)
    }
}
