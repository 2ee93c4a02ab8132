//! `int-quantized`: one byte a code, whatever its width.

use super::scales::are_floats;
use super::unpacked::Unpacked;
use crate::Element;

/// `weight` I8 `[rows, cols]`, `weight_scale` by strategy, and `weight_zero_point` I8 like the scale when the grid is
/// asymmetric. Codes may use the whole byte; readers do not clamp them to the grid's width.
pub(super) const INT: Unpacked = Unpacked {
    name: "int-quantized",
    fits: |args| matches!(args.element, Element::Int(1..=8)) && are_floats(args),
    words: "integers of up to 8 bits",
    zero_points: true,
    inferred: |weights, input| weights.element.int_bits().is_some() && input.is_some(),
    float_type: None,
};
