//! The properties that layouts state, by which runs choose types, patterns and notes.

use crate::{Dtype, LAYOUTS};

#[test]
fn layouts_state_what_they_need() {
    let of = |name: &str| LAYOUTS.iter().find(|layout| layout.name() == name).unwrap();
    for layout in LAYOUTS {
        let name = layout.name();
        let float_type = match name {
            "marlin-24" | "spqr" => Some(Dtype::F16),
            "mxfp4-pack-quantized" | "mxfp6-pack-quantized" | "mxfp8-quantized" | "nvfp4-pack-quantized" => {
                Some(Dtype::Bf16)
            }
            _ => None,
        };
        assert_eq!(layout.float_type(), float_type, "{name}");
        assert_eq!(layout.is_dense(), name == "dense", "{name}");
        assert_eq!(layout.was_padded(), name == "pack-quantized", "{name}");
        assert_eq!(layout.adds_outliers(), name == "spqr", "{name}");
        assert_eq!(layout.needs_two_of_four(), ["marlin-24", "sparse-24-bitmask"].contains(&name), "{name}");
        assert_eq!(layout.keeps_zero_signs(), !["sparse-24-bitmask", "sparse-bitmask"].contains(&name), "{name}");
    }
    assert!(of("marlin-24").instead().is_some_and(|other| other.starts_with("pack-quantized")));
    assert_eq!(of("pack-quantized").instead(), None);
}
