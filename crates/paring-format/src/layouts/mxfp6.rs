//! `mxfp6-pack-quantized`: 6-bit floats whose scales are powers of two (OCP MX).

use super::small_floats::SmallFloats;
use crate::{Element, ScaleType, Strategy};

/// `weight_packed` U8 `[rows, cols * 3 / 4]`, four codes in three bytes, the first one in the lowest bits, and `weight_scale` U8
/// `[rows, groups]`, usually of 32 columns: exponents + 127. The dense weight is bf16, whatever the model's type was.
pub(super) const MXFP6: SmallFloats = SmallFloats {
    name: "mxfp6-pack-quantized",
    element: Element::E2m3,
    scales: |args| matches!((args.strategy, args.scale_type), (Strategy::Group(_), ScaleType::Exponent)),
    words: "6-bit floats in groups with powers of two as scales",
    part_names: &["weight_packed", "weight_scale", "weight_g_idx"],
    inferred: Strategy::Group(32),
};
