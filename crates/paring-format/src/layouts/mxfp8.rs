//! `mxfp8-quantized`: 8-bit floats whose scales are powers of two (OCP MX).

use super::unpacked::Unpacked;
use crate::{Dtype, Element, ScaleType, Strategy};

/// `weight` F8_E4M3 `[rows, cols]` and `weight_scale` U8 `[rows, groups]`, exponents + 127. The dense weight is bf16,
/// whatever the model's type was.
pub(super) const MXFP8: Unpacked = Unpacked {
    name: "mxfp8-quantized",
    fits: |args| {
        let scales = matches!((args.strategy, args.scale_type), (Strategy::Group(_), ScaleType::Exponent));
        args.element == Element::E4m3 && args.symmetric && scales
    },
    words: "8-bit floats in groups with powers of two as scales",
    zero_points: false,
    inferred: |weights, _| {
        let scales = (weights.strategy, weights.scale_type) == (Strategy::Group(32), ScaleType::Exponent);
        weights.element == Element::E4m3 && scales
    },
    float_type: Some(Dtype::Bf16),
};
