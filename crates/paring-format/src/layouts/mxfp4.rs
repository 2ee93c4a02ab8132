//! `mxfp4-pack-quantized`: 4-bit floats whose scales are powers of two (OCP MX).

use super::small_floats::SmallFloats;
use crate::{Element, ScaleType, Strategy};

/// `weight_packed` U8 `[rows, cols / 2]`, two codes a byte, the first one in the lower half, and `weight_scale` U8
/// `[rows, groups]`, usually of 32 columns: exponents + 127. The dense weight is bf16, whatever the model's type was.
pub(super) const MXFP4: SmallFloats = SmallFloats {
    name: "mxfp4-pack-quantized",
    element: Element::E2m1,
    scales: |args| matches!((args.strategy, args.scale_type), (Strategy::Group(_), ScaleType::Exponent)),
    words: "4-bit floats in groups with powers of two as scales",
    part_names: &["weight_packed", "weight_scale", "weight_g_idx"],
    inferred: Strategy::Group(32),
};
