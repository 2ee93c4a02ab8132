//! `nvfp4-pack-quantized`: 4-bit floats with scales at two levels.

use super::small_floats::SmallFloats;
use crate::{Element, ScaleType, Strategy};

/// `weight_packed` U8 `[rows, cols / 2]`, two codes a byte, the first one in the lower half; `weight_scale` F8_E4M3
/// `[rows, groups]`, usually of 16 columns; and what these are divided by, `weight_global_scale` F32 `[1]`. The dense
/// weight is bf16, whatever the model's type was.
pub(super) const NVFP4: SmallFloats = SmallFloats {
    name: "nvfp4-pack-quantized",
    element: Element::E2m1,
    scales: |args| matches!((args.strategy, args.scale_type), (Strategy::TensorGroup(_), ScaleType::E4m3)),
    words: "4-bit floats in groups with 8-bit floats as scales, and one for all",
    part_names: &["weight_packed", "weight_scale", "weight_global_scale"],
    inferred: Strategy::TensorGroup(16),
};
