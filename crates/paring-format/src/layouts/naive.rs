//! `naive-quantized`: codes that are not packed, of any kind, for weights that are quantized alone.

use super::{scales, unpacked};
use crate::{Compressed, Element, Layout, Parts, QuantArgs, Result, Scheme};

/// As `int-quantized` or `float-quantized`. Zero points may be floats, F32 like the scale: readers take whatever numbers
/// they find there, whole or not.
pub struct Naive;

impl Layout for Naive {
    fn name(&self) -> &'static str {
        "naive-quantized"
    }

    fn check_args(&self, args: &QuantArgs) -> Result<()> {
        let kind = match args.element {
            Element::Int(bits) => (1..=8).contains(&bits),
            Element::E4m3 => args.symmetric,
            Element::E2m1 => false,
        };
        let fits = kind && scales::are_floats(args);
        scales::fits(fits, self.name(), "integers of up to 8 bits and 8-bit floats", args)
    }

    fn encode(&self, scheme: &Scheme, c: &Compressed) -> Result<Parts> {
        unpacked::encode(self, scheme, c)
    }

    fn decode(&self, scheme: &Scheme, parts: &Parts) -> Result<Compressed> {
        unpacked::decode(self, scheme, parts)
    }
}
