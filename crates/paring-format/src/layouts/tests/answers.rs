//! Every layout has every answer of the trait, and the answers are those of what it stores.

use super::*;
use crate::testing::{Kept, Rng, SpqrKind, SpqrZeros, encode, two_of_four};
use crate::{Dynamic, Element, ScaleType, Strategy};

/// Matrices of every kind, each with two weights of every four and of a shape that all layouts have; codes with and
/// without groups in activation order.
fn samples() -> Vec<Compressed> {
    let mut rng = Rng(5);
    let (rows, cols) = (64, 256);
    // Not every outlier is a sum that the package can store.
    let none_kept = SpqrKind { kept: Kept::Share(0), ..SpqrKind::published() };
    let mut all =
        vec![rng.spqr(rows, cols, Dtype::F16, &SpqrKind::published()), rng.spqr(rows, cols, Dtype::F16, &none_kept)];
    for zeros in [SpqrZeros::Float, SpqrZeros::Integers] {
        all.push(rng.spqr(rows, cols, Dtype::Bf16, &SpqrKind { scale_bits: None, zeros, ..SpqrKind::published() }));
    }
    let shape = [rows, cols];
    let mut halved = vec![
        rng.dense(rows, cols, Dtype::F16),
        rng.tiled(shape, Dtype::F16, Element::E4m3, [1, 64], ScaleType::Float),
        rng.tiled(shape, Dtype::Bf16, Element::E4m3, [1, 32], ScaleType::Exponent),
        rng.tiled(shape, Dtype::Bf16, Element::E2m1, [1, 16], ScaleType::E4m3),
        rng.tiled(shape, Dtype::Bf16, Element::E2m1, [1, 32], ScaleType::Exponent),
        rng.tiled(shape, Dtype::Bf16, Element::E2m3, [1, 32], ScaleType::Exponent),
    ];
    for (bits, symmetric) in [(4, true), (4, false), (8, true), (8, false)] {
        halved.push(rng.codes(rows, cols, Dtype::F16, bits, 128, symmetric));
    }
    for c in halved {
        let c = two_of_four(c);
        let mut ordered = c.clone();
        if let Values::Codes { grid, .. } = &mut ordered.values {
            let size = grid.tile[1];
            grid.group_index = Some((0..cols).rev().map(|col| (col / size) as u32).collect());
            all.push(ordered);
        }
        all.push(c);
    }
    all
}

/// The parts that a layout stores of each sample that it holds.
fn stored(layout: &dyn Layout) -> Vec<(Compressed, LayoutParts)> {
    samples().into_iter().filter_map(|c| encode(layout, &c).ok().map(|parts| (c, parts))).collect()
}

#[test]
fn a_layout_holds_what_it_says() {
    for layout in LAYOUTS {
        let stored = stored(*layout);
        let any = |kind: &dyn Fn(&Values) -> bool| stored.iter().any(|(c, _)| kind(&c.values));
        let found = Holds {
            dense: any(&|values| matches!(values, Values::Dense(_))),
            codes: any(&|values| matches!(values, Values::Codes { .. })),
            spqr: any(&|values| matches!(values, Values::Spqr(_))),
            zero_points: any(&|values| matches!(values, Values::Codes { grid, .. } if grid.zeros.is_some())),
        };
        assert_eq!(layout.holds(), found, "{}", layout.name());
        assert_eq!(layout.is_dense(), layout.name() == DENSE.name());
        for (c, _) in &stored {
            layout.check_shape(c.rows, c.cols).unwrap();
            QuantArgs::of(c).map_or(Ok(()), |args| layout.check_args(&args)).unwrap();
        }
    }
}

#[test]
fn a_layout_names_its_parts() {
    for layout in LAYOUTS {
        let (name, said) = (layout.name(), layout.part_names());
        let stored = stored(*layout);
        let made: Vec<&str> =
            said.iter().copied().filter(|part| stored.iter().any(|(_, p)| p.contains_key(part))).collect();
        let unnamed = stored.iter().flat_map(|(_, parts)| parts.keys()).find(|part| !said.contains(part));
        assert_eq!(unnamed, None, "{name}");
        // Dense weights have others beside them where a model was calibrated and not compressed, and a checkpoint shows
        // sparse ones as the weight that they are.
        let expected: Vec<&str> = match name {
            "dense" => vec!["weight"],
            _ if layout.holds().dense => said.iter().copied().filter(|part| *part != "weight").collect(),
            _ => said.to_vec(),
        };
        assert_eq!(made, expected, "{name}");
        assert!(said.contains(&layout.weight_name()), "{name}");
        assert!(weight_names().contains(&layout.weight_name()), "{name}");
        assert_eq!(distinct(said.iter().copied()), said, "{name}");
        assert!(said.iter().all(|part| part_names().contains(part)), "{name}");
    }
    assert_eq!(weight_names(), ["weight", "weight_packed", "dense_weights"]);
}

#[test]
fn a_shape_needs_the_bytes_of_one_part_alone() {
    for layout in LAYOUTS {
        for (c, mut parts) in stored(*layout) {
            for (name, part) in &mut parts {
                if layout.shape_name() != Some(name) {
                    part.bytes.clear();
                }
            }
            // The lengths of SpQR's tensors and of sparse ones may leave it open.
            let shape = layout.shape(&parts).unwrap();
            let open = layout.method() == QuantMethod::Spqr || layout.name() == "sparse-bitmask";
            assert!(shape == Some((c.rows, c.cols)) || open && shape.is_none(), "{}: {shape:?}", layout.name());
        }
    }
}

#[test]
fn floats_and_codes_are_as_wide_as_a_layout_says() {
    for layout in LAYOUTS {
        for (c, parts) in stored(*layout) {
            assert_eq!(layout.float_type().unwrap_or(c.dtype), c.dtype, "{}", layout.name());
            let Values::Codes { grid, .. } = &c.values else { continue };
            // A sparse layout stores some codes, each as wide as it says.
            let (codes, local) = match layout.holds().dense {
                true => (parts["compressed"].shape.iter().product(), "compressed"),
                false if layout.needs_two_of_four() => (c.rows * c.cols / 2, layout.weight_name()),
                false => (c.rows * c.cols, layout.weight_name()),
            };
            let bits = layout.code_bits(grid.element) as usize;
            assert_eq!(parts[local].bytes.len() * 8, codes * bits, "{} {}", layout.name(), grid.element);
        }
    }
}

#[test]
fn limits_are_those_of_what_is_refused() {
    let mut rng = Rng(6);
    for layout in LAYOUTS {
        let holds = layout.holds();
        // A matrix with nothing but ones.
        let mut full =
            if holds.dense { rng.dense(64, 256, Dtype::F16) } else { rng.codes(64, 256, Dtype::F16, 8, 128, true) };
        match &mut full.values {
            Values::Dense(values) => values.fill(1.0),
            Values::Codes { codes, .. } => codes.fill(1),
            Values::Spqr(_) => {}
        }
        if layout.needs_two_of_four() {
            let error = encode(*layout, &full).unwrap_err().to_string();
            assert!(error.contains("more than two weights"), "{error}");
        }
        if holds.dense {
            let negative = Compressed { values: Values::Dense(vec![-0.0; 64 * 256]), ..full };
            assert_eq!(encode(*layout, &negative).is_ok(), layout.keeps_zero_signs(), "{}", layout.name());
        }
    }
}

/// The choice of compressed-tensors 0.20 as one list; no two layouts may claim the same arguments.
#[test]
fn at_most_one_layout_is_inferred() {
    let elements = [Element::Int(4), Element::Int(8), Element::E4m3, Element::E2m3, Element::E2m1];
    let strategies = [
        Strategy::Tensor,
        Strategy::Channel,
        Strategy::Group(16),
        Strategy::Group(32),
        Strategy::TensorGroup(16),
        Strategy::TensorGroup(32),
        Strategy::Block(128, 128),
    ];
    let input = QuantArgs { strategy: Strategy::Token, dynamic: Dynamic::Yes, ..QuantArgs::new(Element::Int(8)) };
    for (element, strategy) in elements.into_iter().flat_map(|element| strategies.map(|strategy| (element, strategy))) {
        for scale_type in [ScaleType::Float, ScaleType::E4m3, ScaleType::Exponent] {
            for input in [None, Some(&input)] {
                let args = QuantArgs { strategy, scale_type, ..QuantArgs::new(element) };
                let claims = LAYOUTS.iter().filter(|layout| layout.is_inferred(&args, input)).count();
                let expected = match (element, strategy, scale_type, input) {
                    (Element::E2m1, Strategy::Group(32), ..) => "mxfp4-pack-quantized",
                    (Element::E2m3, Strategy::Group(32), ..) => "mxfp6-pack-quantized",
                    (Element::E4m3, Strategy::Group(32), ScaleType::Exponent, _) => "mxfp8-quantized",
                    (Element::E2m1, Strategy::TensorGroup(16), ..) => "nvfp4-pack-quantized",
                    (Element::Int(_), _, _, Some(_)) => "int-quantized",
                    (Element::Int(_), _, _, None) => "pack-quantized",
                    (Element::E4m3, _, _, Some(_)) => "float-quantized",
                    (Element::E4m3 | Element::E2m3 | Element::E2m1, ..) => "naive-quantized",
                };
                assert_eq!(inferred(Some(&args), input).name(), expected, "{args}");
                assert_eq!(claims, usize::from(expected != "naive-quantized"), "{args}");
            }
        }
    }
    assert_eq!(inferred(None, None).name(), DENSE.name());
}
