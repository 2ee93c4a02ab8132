//! `mxfp8-quantized`: 8-bit floats whose scales are powers of two (OCP MX).

use super::{scales, unpacked};
use crate::{Compressed, Dtype, Element, Layout, Parts, QuantArgs, Result, ScaleType, Scheme, Strategy};

/// `weight` F8_E4M3 `[rows, cols]` and `weight_scale` U8 `[rows, groups]`, exponents + 127. The dense weight is bf16,
/// whatever the model's type was.
pub struct Mxfp8;

impl Layout for Mxfp8 {
    fn name(&self) -> &'static str {
        "mxfp8-quantized"
    }

    fn check_args(&self, args: &QuantArgs) -> Result<()> {
        let scales = matches!((args.strategy, args.scale_type), (Strategy::Group(_), ScaleType::Exponent));
        let fits = args.element == Element::E4m3 && args.symmetric && scales;
        scales::fits(fits, self.name(), "8-bit floats in groups with powers of two as scales", args)
    }

    fn float_type(&self) -> Option<Dtype> {
        Some(Dtype::Bf16)
    }

    fn encode(&self, scheme: &Scheme, c: &Compressed) -> Result<Parts> {
        unpacked::encode(self, scheme, c)
    }

    fn decode(&self, scheme: &Scheme, parts: &Parts) -> Result<Compressed> {
        unpacked::decode(self, scheme, parts)
    }
}
