//! Small floats: what their layouts refuse, and how they say it.

use super::*;
use crate::testing::{Rng, encode};
use crate::{Element, Error, Grid, QuantArgs, ScaleType, Strategy, Values};

/// Layouts of small floats, each with a matrix that it holds.
fn matrices() -> Vec<(&'static str, Compressed)> {
    let mut rng = Rng(21);
    vec![
        ("float-quantized", rng.tiled([6, 64], Dtype::F16, Element::E4m3, [4, 48], ScaleType::Float)),
        ("naive-quantized", rng.tiled([6, 64], Dtype::F32, Element::E4m3, [1, 64], ScaleType::Float)),
        ("nvfp4-pack-quantized", rng.tiled([6, 64], Dtype::Bf16, Element::E2m1, [1, 16], ScaleType::E4m3)),
        ("mxfp4-pack-quantized", rng.tiled([6, 64], Dtype::Bf16, Element::E2m1, [1, 32], ScaleType::Exponent)),
        ("mxfp8-quantized", rng.tiled([6, 64], Dtype::Bf16, Element::E4m3, [1, 32], ScaleType::Exponent)),
        ("mxfp6-pack-quantized", rng.tiled([6, 64], Dtype::Bf16, Element::E2m3, [1, 32], ScaleType::Exponent)),
    ]
}

/// The error of decoding parts of this matrix after a change.
fn changed(name: &str, c: &Compressed, change: impl Fn(&mut LayoutParts)) -> String {
    let layout = layout(name).unwrap();
    let mut parts = encode(layout, c).unwrap();
    change(&mut parts);
    let read = layout.decode(&Scheme::of(c, name, vec![]), parts.clone());
    read.expect_err(name).in_module("model.fc1", "a.safetensors").to_string()
}

fn byte(part: &'static str, at: usize, value: u8) -> impl Fn(&mut LayoutParts) {
    move |parts| parts.get_mut(part).unwrap().bytes[at] = value
}

fn global(value: f32) -> impl Fn(&mut LayoutParts) {
    move |parts| parts.get_mut("weight_global_scale").unwrap().bytes = value.to_le_bytes().to_vec()
}

#[test]
fn what_is_no_number_is_named() {
    let (nan, damaged) = ("NaN at row 1, column", "; the file is damaged, download it again");
    for (name, c) in matrices() {
        if name.starts_with("float") || name.starts_with("naive") || name.starts_with("mxfp8") {
            for code in [0x7f, 0xff] {
                let text = changed(name, &c, byte("weight", 67, code));
                assert_eq!(text, format!("a.safetensors: model.fc1.weight: {nan} 3 (element 67){damaged}"), "{name}");
            }
        }
        let scale = match name {
            "nvfp4-pack-quantized" => changed(name, &c, byte("weight_scale", 6, 0xff)),
            "mxfp4-pack-quantized" | "mxfp6-pack-quantized" | "mxfp8-quantized" => {
                changed(name, &c, byte("weight_scale", 3, 0xff))
            }
            _ => continue,
        };
        let (col, at) = if name.starts_with("nvfp4") { (2, 6) } else { (1, 3) };
        let expected = format!("a.safetensors: model.fc1.weight_scale: {nan} {col} (element {at}){damaged}");
        assert_eq!(scale, expected, "{name}");
    }
    let (name, c) = &matrices()[2];
    let text = changed(name, c, global(f32::NAN));
    let place = "a.safetensors: model.fc1.weight_global_scale: NaN at row 0, column 0 (element 0)";
    assert_eq!(text, format!("{place}{damaged}"));
    for value in [0.0, -0.0, 1e-40, 1e-36] {
        let text = changed(name, c, global(value));
        let expected = format!("model.fc1: weight_global_scale: scales cannot be divided by {value:e}");
        assert_eq!(text, expected);
    }
    assert!(changed(name, c, global(f32::NEG_INFINITY)).contains("weight_global_scale: -inf at row 0"));
}

#[test]
fn what_a_small_type_cannot_hold_is_refused() {
    let with = |n: usize, change: &dyn Fn(&mut Compressed, &mut Vec<i8>, &mut Grid)| {
        let (name, mut c) = matrices().swap_remove(n);
        let Values::Codes { codes, grid } = c.values.clone() else { unreachable!() };
        let (mut codes, mut grid) = (codes, grid);
        change(&mut c, &mut codes, &mut grid);
        c.values = Values::Codes { codes, grid };
        encode(layout(name).unwrap(), &c).unwrap_err().to_string()
    };
    let check = |text: String, part: &str| assert!(text.contains(part), "{text}");
    check(with(0, &|_, codes, _| codes[70] = 0x7f), "weight: NaN at row 1, column 6");
    check(with(2, &|_, codes, _| codes[70] = 16), "code 16 (element 70) is outside 0..=15");
    check(with(3, &|_, codes, _| codes[383] = -1), "code -1 (element 383)");
    check(with(5, &|_, codes, _| codes[70] = 64), "code 64 (element 70) is outside 0..=63");
    check(with(5, &|_, _, grid| grid.element = Element::E2m1), "holds 6-bit floats in groups with powers of two");
    check(with(2, &|_, _, grid| grid.scales[3] = 0.3), "weight_scale: 0.3 (element 3) is not a number of F8_E4M3");
    check(with(2, &|_, _, grid| grid.scales[3] = 480.0), "480 (element 3)");
    check(with(2, &|_, _, grid| grid.global = Some(0.0)), "cannot be divided by 0e0");
    check(with(2, &|_, _, grid| grid.global = None), "layout holds");
    check(with(3, &|_, _, grid| grid.scales[5] = 0.75), "7.5e-1 (element 5) is not a power of two");
    check(with(4, &|_, _, grid| grid.scales[0] = 0.0), "0e0 (element 0) is not a power of two");
    check(with(3, &|c, _, _| c.dtype = Dtype::F16), "makes BF16 matrices, not F16");
    check(with(4, &|_, _, grid| grid.element = Element::E2m1), "holds 8-bit floats in groups with powers of two");
    check(with(0, &|_, _, grid| grid.element = Element::Int(8)), "not 8-bit, blocks of 4 by 48, symmetric");
    check(with(1, &|_, _, grid| grid.group_index = Some(vec![0; 64])), "activation order");
    // Bytes have two codes.
    let odd = Rng(1).tiled([2, 9], Dtype::Bf16, Element::E2m1, [1, 3], ScaleType::Exponent);
    check(encode(layout("mxfp4-pack-quantized").unwrap(), &odd).unwrap_err().to_string(), "multiples of 2, not 9");
    let odd = Rng(1).tiled([2, 18], Dtype::Bf16, Element::E2m3, [1, 3], ScaleType::Exponent);
    check(encode(layout("mxfp6-pack-quantized").unwrap(), &odd).unwrap_err().to_string(), "multiples of 4, not 18");
    let (name, c) = matrices().swap_remove(5);
    let text = changed(name, &c, |parts| {
        let packed = parts.get_mut("weight_packed").unwrap();
        packed.shape[1] -= 1;
        packed.bytes.truncate(6 * 47);
    });
    assert_eq!(text, "model.fc1: weight_packed: rows of 47 bytes, expected a multiple of 3 (4 codes)");
}

#[test]
fn layouts_say_before_a_run_what_they_hold() {
    let floats = |element, strategy, scale_type| QuantArgs { strategy, scale_type, ..QuantArgs::new(element) };
    let accepts = |args: &QuantArgs| -> Vec<&str> {
        let bytes_or_pairs = LAYOUTS.iter().filter(|layout| layout.float_type() != Some(Dtype::F16));
        let named = bytes_or_pairs.filter(|layout| layout.name() != "dense" && layout.check_args(args).is_ok());
        let of_this_file = |name: &&str| name.contains("fp") || name.ends_with("-quantized");
        named.map(|layout| layout.name()).filter(of_this_file).filter(|name| *name != "pack-quantized").collect()
    };
    let block = Strategy::Block(128, 128);
    assert_eq!(accepts(&floats(Element::E4m3, block, ScaleType::Float)), ["float-quantized", "naive-quantized"]);
    assert_eq!(accepts(&floats(Element::Int(8), block, ScaleType::Float)), ["int-quantized", "naive-quantized"]);
    let group = Strategy::Group(32);
    assert_eq!(accepts(&floats(Element::E4m3, group, ScaleType::Exponent)), ["mxfp8-quantized"]);
    assert_eq!(accepts(&floats(Element::E2m1, group, ScaleType::Exponent)), ["mxfp4-pack-quantized"]);
    assert_eq!(accepts(&floats(Element::E2m3, group, ScaleType::Exponent)), ["mxfp6-pack-quantized"]);
    assert!(accepts(&floats(Element::E2m3, group, ScaleType::Float)).is_empty());
    let both = Strategy::TensorGroup(16);
    assert_eq!(accepts(&floats(Element::E2m1, both, ScaleType::E4m3)), ["nvfp4-pack-quantized"]);
    assert!(accepts(&floats(Element::E2m1, group, ScaleType::Float)).is_empty());
    assert!(accepts(&floats(Element::E4m3, Strategy::Token, ScaleType::Float)).is_empty());
    assert!(accepts(&QuantArgs { symmetric: false, ..QuantArgs::new(Element::E4m3) }).is_empty());
    assert!(accepts(&QuantArgs::new(Element::Int(9))).is_empty());
}

#[test]
fn shapes_come_from_headers() {
    for (name, c) in matrices() {
        let layout = layout(name).unwrap();
        let mut parts = encode(layout, &c).unwrap();
        parts.values_mut().for_each(|part| part.bytes.clear());
        assert_eq!(layout.shape(&parts).unwrap(), Some((6, 64)), "{name}");
        let weight = if name.contains("-pack-") { "weight_packed" } else { "weight" };
        parts.get_mut(weight).unwrap().shape = vec![2, usize::MAX / 2 + 1];
        let lies = layout.shape(&parts).map(|_| layout.decode(&Scheme::of(&c, name, vec![]), parts.clone()));
        assert!(lies.is_err() || lies.is_ok_and(|read| read.is_err()), "{name}");
        parts.remove(weight);
        assert!(matches!(layout.shape(&parts), Err(Error::MissingTensor { .. })), "{name}");
    }
}

/// The error of a model's status `frozen` about a dense weight that cannot be rounded.
#[test]
fn frozen_weights_need_scales_to_round_by() {
    let c = Rng(2).codes(2, 8, Dtype::F32, 8, 8, true);
    let weight = Rng(3).dense(2, 8, Dtype::F32);
    let mut parts = encode(DENSE, &weight).unwrap();
    let scheme = Scheme { format: "dense".into(), ..Scheme::of(&c, "int-quantized", vec![]) };
    assert!(matches!(DENSE.decode(&scheme, parts.clone()), Err(Error::MissingTensor { .. })));
    let scale = |scales: &[f32]| LayoutPart { dtype: Dtype::F32, shape: vec![2, 1], bytes: Dtype::F32.encode(scales) };
    parts.insert("weight_scale", scale(&[0.01, 0.02]));
    let read = DENSE.decode(&scheme, parts.clone()).unwrap();
    assert!(matches!(&read.values, Values::Codes { grid, .. } if grid.scales == [0.01, 0.02]));
    parts.insert("weight_scale", scale(&[0.01, 0.0]));
    let text = DENSE.decode(&scheme, parts.clone()).unwrap_err().to_string();
    assert!(text.contains("weight_scale: 0 (element 1)"), "{text}");
    let wide = |element| Scheme { weights: Some(QuantArgs::new(element)), ..scheme.clone() };
    parts.insert("weight_scale", scale(&[0.01, 0.02]));
    for bits in [0, 9, u32::MAX] {
        assert!(DENSE.decode(&wide(Element::Int(bits)), parts.clone()).is_err(), "{bits} bits");
    }
    // Zero points of a symmetric scheme count before it is compressed: what fake_quantize of compressed-tensors 0.20.1 makes
    // of this weight, with scales 0.25 and 0.5 and zero points 3 and -2, and with those of 0.
    let values = [0.5, -1.0, 0.26, 1.9, -0.3, 0.9, 0.0, -2.0];
    let zeros = |zeros: [i8; 2]| {
        let weight = LayoutPart { dtype: Dtype::F32, shape: vec![2, 4], bytes: Dtype::F32.encode(&values) };
        let bytes = zeros.iter().map(|&zero| zero as u8).collect();
        let zeros = LayoutPart { dtype: Dtype::I8, shape: vec![2, 1], bytes };
        let scale = scale(&[0.25, 0.5]);
        let parts = LayoutParts::from([("weight", weight), ("weight_scale", scale), ("weight_zero_point", zeros)]);
        DENSE.decode(&wide(Element::Int(4)), parts).unwrap().to_dense()
    };
    assert_eq!(zeros([3, -2]), [0.5, -1.0, 0.25, 1.0, -0.5, 1.0, 0.0, -2.0]);
    assert_eq!(zeros([0, 0]), [0.5, -1.0, 0.25, 1.75, -0.5, 1.0, 0.0, -2.0]);
    // Type and sign of what stands there are kept.
    let eight = DENSE.decode(&wide(Element::E4m3), parts.clone()).unwrap();
    assert!(matches!(&eight.values, Values::Codes { grid, .. } if grid.element == Element::E4m3));
}
