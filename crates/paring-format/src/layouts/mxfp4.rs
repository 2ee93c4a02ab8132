//! `mxfp4-pack-quantized`: 4-bit floats whose scales are powers of two (OCP MX).

use super::{pairs, scales};
use crate::{Compressed, Dtype, Element, Layout, Parts, QuantArgs, Result, ScaleType, Scheme, Strategy};

/// `weight_packed` U8 `[rows, cols / 2]`, two codes a byte, the first one in the lower half, and `weight_scale` U8
/// `[rows, groups]`, usually of 32 columns: exponents + 127. The dense weight is bf16, whatever the model's type was.
pub struct Mxfp4;

impl Layout for Mxfp4 {
    fn name(&self) -> &'static str {
        "mxfp4-pack-quantized"
    }

    fn check_args(&self, args: &QuantArgs) -> Result<()> {
        let scales = matches!((args.strategy, args.scale_type), (Strategy::Group(_), ScaleType::Exponent));
        let fits = args.element == Element::E2m1 && args.symmetric && scales;
        scales::fits(fits, self.name(), "4-bit floats in groups with powers of two as scales", args)
    }

    fn float_type(&self) -> Option<Dtype> {
        Some(Dtype::Bf16)
    }

    fn shape(&self, parts: &Parts) -> Result<Option<(usize, usize)>> {
        pairs::shape(parts).map(Some)
    }

    fn encode(&self, scheme: &Scheme, c: &Compressed) -> Result<Parts> {
        pairs::encode(self, scheme, c)
    }

    fn decode(&self, scheme: &Scheme, parts: &Parts) -> Result<Compressed> {
        pairs::decode(self, scheme, parts)
    }
}
