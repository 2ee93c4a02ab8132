//! `float-quantized`: 8-bit floats.

use super::mxfp8::MXFP8;
use super::scales::are_floats;
use super::unpacked::Unpacked;
use crate::{Element, Layout};

/// `weight` F8_E4M3 `[rows, cols]` and `weight_scale` in the model's type: `[1]` for the tensor, `[rows, 1]` by channel,
/// `[rows, groups]` by group, and by block with tiles at the edges that may be cut off.
pub(super) const FLOAT: Unpacked = Unpacked {
    name: "float-quantized",
    fits: |args| args.element == Element::E4m3 && args.symmetric && are_floats(args),
    words: "8-bit floats without zero points",
    zero_points: false,
    inferred: |weights, input| {
        weights.element == Element::E4m3 && input.is_some() && !MXFP8.is_inferred(weights, input)
    },
    float_type: None,
};
