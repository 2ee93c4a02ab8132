//! `nvfp4-pack-quantized`: 4-bit floats with scales at two levels.

use super::{pairs, scales};
use crate::{Compressed, Dtype, Element, Layout, Parts, QuantArgs, Result, ScaleType, Scheme, Strategy};

/// `weight_packed` U8 `[rows, cols / 2]`, two codes a byte, the first one in the lower half; `weight_scale` F8_E4M3
/// `[rows, groups]`, usually of 16 columns; and what these are divided by, `weight_global_scale` F32 `[1]`. The dense
/// weight is bf16, whatever the model's type was.
pub struct Nvfp4;

impl Layout for Nvfp4 {
    fn name(&self) -> &'static str {
        "nvfp4-pack-quantized"
    }

    fn check_args(&self, args: &QuantArgs) -> Result<()> {
        let scales = matches!((args.strategy, args.scale_type), (Strategy::TensorGroup(_), ScaleType::E4m3));
        let fits = args.element == Element::E2m1 && args.symmetric && scales;
        scales::fits(fits, self.name(), "4-bit floats in groups with 8-bit floats as scales, and one for all", args)
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
