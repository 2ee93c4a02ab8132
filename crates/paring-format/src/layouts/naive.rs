//! `naive-quantized`: codes that are not packed, of any kind, for weights that are quantized alone.

use super::scales::are_floats;
use super::unpacked::Unpacked;
use crate::Element;

/// As `int-quantized` or `float-quantized`. Zero points may be floats, F32 like the scale: readers take whatever numbers
/// they find there, whole or not.
pub(super) const NAIVE: Unpacked = Unpacked {
    name: "naive-quantized",
    fits: |args| {
        let kind = match args.element {
            Element::Int(bits) => (1..=8).contains(&bits),
            Element::E4m3 => args.symmetric,
            Element::E2m3 | Element::E2m1 => false,
        };
        kind && are_floats(args)
    },
    words: "integers of up to 8 bits and 8-bit floats",
    zero_points: true,
    // It is what is left: see `inferred`.
    inferred: |_, _| false,
    float_type: None,
};
