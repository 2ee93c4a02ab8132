//! The layout `paring-spqr`: what it gives back, what it refuses, and how few bits it takes.

use serde_json::{Value, json};

use super::*;
use crate::QuantConfig;
use crate::testing::{Kept, Rng, SpqrKind, SpqrZeros, encode};
use crate::{Element, QuantArgs, SecondLevel, Spqr, Statistic, Strategy, Values};

fn of(c: &Compressed) -> &Spqr {
    let Values::Spqr(spqr) = &c.values else { panic!("no SpQR matrix") };
    spqr
}

fn spqr_layout() -> &'static dyn Layout {
    layout("paring-spqr").unwrap()
}

fn bits_of(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Kinds that differ in everything a matrix can differ in.
fn kinds() -> Vec<SpqrKind> {
    let mut kinds = Vec::new();
    for bits in 2..=8 {
        for (scale_bits, zeros) in [
            (None, SpqrZeros::Float),
            (None, SpqrZeros::Integers),
            (None, SpqrZeros::Constant),
            (Some(3), SpqrZeros::Coded(3)),
            (Some(8), SpqrZeros::Coded(1)),
            (None, SpqrZeros::Coded(5)),
            (Some(2), SpqrZeros::Float),
            (Some(4), SpqrZeros::Integers),
            (Some(1), SpqrZeros::Constant),
        ] {
            for (i, group_size) in [16, 5, 1, 9999].into_iter().enumerate() {
                let kept = [Kept::Share(10), Kept::Run, Kept::Ends, Kept::Share(0), Kept::Share(600)];
                kinds.push(SpqrKind {
                    bits,
                    group_size,
                    scale_bits,
                    zeros,
                    height: [16, 3, 1, 1000][(bits as usize + i) % 4],
                    kept: kept[(kinds.len() + bits as usize) % 5],
                    ordered: kinds.len().is_multiple_of(2),
                });
            }
        }
    }
    kinds
}

#[test]
fn every_kind_comes_back() {
    let mut rng = Rng(21);
    let mut through_json = 0;
    for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
        for (i, kind) in kinds().iter().enumerate() {
            let (rows, cols) = [(16, 32), (5, 37), (1, 1), (33, 2), (2, 300), (1, 129)][i % 6];
            let c = rng.spqr(rows, cols, dtype, &SpqrKind { group_size: kind.group_size.min(cols), ..kind.clone() });
            assert!(encode(spqr_layout(), &c).is_ok(), "{kind:?}");
            let parts = encode(spqr_layout(), &c).unwrap();
            let scheme = Scheme::of(&c, "paring-spqr", vec!["Linear".to_string()]);
            let back = spqr_layout().decode(&scheme, parts.clone()).unwrap();
            assert_eq!(back, c, "{kind:?}");
            assert_eq!(bits_of(&back.to_dense()), bits_of(&c.to_dense()));
            assert_eq!(parts.contains_key("outlier_gaps"), !of(&c).outliers.at.is_empty());
            assert_eq!(parts.contains_key("column_order"), of(&c).order.is_some());
            assert!(parts.keys().all(|name| part_names().contains(name)));

            let config = QuantConfig::new(vec![("group_0".into(), scheme)], vec!["lm_head".into()]);
            assert_eq!((config.method.name(), config.format.as_str()), ("paring", "paring-spqr"));
            assert_eq!(QuantConfig::parse(&config.to_json()).unwrap(), config);
            through_json += 1;
        }
    }
    assert_eq!(through_json, 3 * 7 * 9 * 4);
}

/// One group of a run may be wider than some of its matrices.
#[test]
fn a_group_wider_than_the_matrix_is_a_row() {
    let c = Rng(2).spqr(4, 12, Dtype::F16, &SpqrKind { group_size: 12, ..SpqrKind::published() });
    let mut scheme = Scheme::of(&c, "paring-spqr", vec![]);
    scheme.weights.as_mut().unwrap().strategy = Strategy::Group(64);
    assert_eq!(spqr_layout().decode(&scheme, encode(spqr_layout(), &c).unwrap()).unwrap(), c);
}

/// Zeros that are whole numbers but not all codes: that matrix stores them as floats.
#[test]
fn whole_zeros_that_are_no_codes() {
    let mut rng = Rng(3);
    let whole =
        rng.spqr(4, 12, Dtype::F16, &SpqrKind { group_size: 6, zeros: SpqrZeros::Integers, ..SpqrKind::published() });
    let floats =
        rng.spqr(4, 12, Dtype::F16, &SpqrKind { group_size: 6, zeros: SpqrZeros::Float, ..SpqrKind::published() });
    let scheme = Scheme::of(&whole, "paring-spqr", vec![]);
    assert!(!scheme.codes().unwrap().float_zeros);
    for c in [&whole, &floats] {
        assert_eq!(&spqr_layout().decode(&scheme, encode(spqr_layout(), c).unwrap()).unwrap(), c);
    }
    let mut both = encode(spqr_layout(), &whole).unwrap();
    both.extend(encode(spqr_layout(), &floats).unwrap().remove_entry("weight_zero_point"));
    let text = spqr_layout().decode(&scheme, both.clone()).unwrap_err().to_string();
    assert!(text.contains("zero_codes: stored, but the scheme"), "{text}");
}

#[test]
fn far_apart_and_wide() {
    let mut rng = Rng(5);
    let kind = SpqrKind { group_size: 1 << 16, kept: Kept::Ends, ordered: true, ..SpqrKind::published() };
    let wide = rng.spqr(3, 1 << 16, Dtype::Bf16, &kind);
    let scheme = Scheme::of(&wide, "paring-spqr", vec![]);
    let parts = encode(spqr_layout(), &wide).unwrap();
    assert_eq!(parts["column_order"].bytes.len(), 2 << 16);
    assert_eq!(spqr_layout().decode(&scheme, parts.clone()).unwrap(), wide);
    // One column more is one more than an order can name.
    let wider = rng.spqr(1, (1 << 16) + 1, Dtype::Bf16, &kind);
    let text = encode(spqr_layout(), &wider).unwrap_err().to_string();
    assert!(text.contains("order of 65537 columns"), "{text}");
    let plain = rng.spqr(1, (1 << 16) + 1, Dtype::Bf16, &SpqrKind { ordered: false, ..kind });
    let scheme = Scheme::of(&plain, "paring-spqr", vec![]);
    assert_eq!(spqr_layout().decode(&scheme, encode(spqr_layout(), &plain).unwrap()).unwrap(), plain);
}

#[test]
fn the_formula_counts_what_is_stored() {
    let mut rng = Rng(6);
    for dtype in [Dtype::Bf16, Dtype::F32] {
        for (rows, cols) in [(64, 256), (128, 512), (256, 1000)] {
            for kind in kinds().into_iter().step_by(3) {
                let kind = SpqrKind { group_size: kind.group_size.min(cols), ..kind };
                let c = rng.spqr(rows, cols, dtype, &kind);
                let bytes: usize = encode(spqr_layout(), &c).unwrap().values().map(|part| part.bytes.len()).sum();
                let stored = bytes as f64 * 8.0 / (rows * cols) as f64;
                let formula = of(&c).formula_bits(rows, cols, dtype);
                assert!(stored >= formula && stored < formula * 1.01, "{kind:?}: {stored}, by formula {formula}");
            }
        }
    }
    // By hand: codes, two statistics of 3 bits for 16 weights, four floats for 256, and no outliers.
    let kind = SpqrKind { kept: Kept::Share(0), ordered: false, ..SpqrKind::published() };
    let c = rng.spqr(64, 256, Dtype::F16, &kind);
    assert_eq!(of(&c).formula_bits(64, 256, Dtype::F16), 3.0 + 6.0 / 16.0 + 64.0 / 256.0);
}

#[test]
fn damaged_parts_are_named() {
    // 3 x 7 codes of 3 bits leave one bit over, as do most of the other streams.
    let kind = SpqrKind { group_size: 3, height: 2, kept: Kept::Run, ..SpqrKind::published() };
    let c = Rng(11).spqr(3, 7, Dtype::Bf16, &kind);
    let scheme = Scheme::of(&c, "paring-spqr", vec![]);
    let parts = encode(spqr_layout(), &c).unwrap();
    let check = |name: &'static str, says: &str, change: &dyn Fn(&mut LayoutPart)| {
        let mut changed = parts.clone();
        change(changed.get_mut(name).unwrap());
        assert_ne!(changed, parts);
        let text = spqr_layout().decode(&scheme, changed.clone()).expect_err(name).to_string();
        assert!(text.contains(name) && text.contains(says) && !text.contains('\n'), "{name}, {says}: {text}");
    };
    let numbers = |shape: [i64; 3]| shape.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>();
    for name in parts.keys().copied() {
        let mut without = parts.clone();
        without.remove(name);
        // A matrix without an order is a matrix too.
        if name != "column_order" {
            let text = spqr_layout().decode(&scheme, without.clone()).expect_err(name).to_string();
            assert!(text.contains(name), "{text}");
        }
        check(name, "type BOOL", &|part| part.dtype = Dtype::Bool);
        check(name, "type I16", &|part| part.dtype = Dtype::I16);
        check(name, "bytes do not make", &|part| part.bytes.push(0));
        check(name, "bytes do not make", &|part| part.bytes.truncate(part.bytes.len() - 1));
        check(name, "bytes do not make", &|part| part.shape = vec![usize::MAX, usize::MAX]);
        check(name, "shape", &|part| part.shape.insert(0, 1));
        if part_is_stream(&parts[name]) {
            check(name, "", &|part| {
                part.shape[0] += 1;
                part.bytes.push(0);
            });
            check(name, "", &|part| {
                part.shape[0] -= 1;
                part.bytes.pop();
            });
        }
    }
    for name in ["weight", "scale_codes", "zero_codes", "column_order"] {
        check(name, "not zero", &|part| *part.bytes.last_mut().unwrap() |= 0x80);
    }
    for name in ["scale_grid", "zero_grid", "outlier_values"] {
        check(name, "NaN", &|part| part.bytes[2..4].fill(0xff));
    }
    // The type of the scales is that of the matrix.
    for name in ["zero_grid", "outlier_values"] {
        check(name, "type F16", &|part| part.dtype = Dtype::F16);
    }
    check("scale_grid", "shape [2, 3, 2]", &|part| part.shape = vec![2, 3, 2]);
    for shape in [[-3, 7, 1], [3, 0, 1], [0, 7, 1], [3, 7, 17], [3, 7, -1], [i64::MIN, 7, 1]] {
        check("weight_shape", "are not rows, columns", &|part| part.bytes = numbers(shape));
    }
    check("weight_shape", "larger than any file", &|part| part.bytes = numbers([i64::MAX, i64::MAX, 1]));
    check("outlier_values", "empty", &|part| (part.shape, part.bytes) = (vec![0], vec![]));
    check("outlier_gaps", "ends after 0 of 7", &|part| part.bytes.fill(0xff));
    check("outlier_gaps", "outside the matrix", &|part| (part.shape, part.bytes) = (vec![4], vec![0xff; 4]));
    check("column_order", "twice", &|part| part.bytes.fill(0));
    check("column_order", "lists column 7 of 7", &|part| part.bytes = vec![0xff, 0xff, 0x1f]);
    let identity = crate::bits::stream::pack(&[0u8, 1, 2, 3, 4, 5, 6], 3).unwrap();
    check("column_order", "not stored", &|part| part.bytes = identity.clone());

    // Numbers in weight_shape that other parts contradict.
    for (shape, name) in [([3, 8, 1], ""), ([4, 7, 1], "weight"), ([7, 3, 1], "scale_codes"), ([3, 7, 0], "outl")] {
        let mut changed = parts.clone();
        changed.get_mut("weight_shape").unwrap().bytes = numbers(shape);
        let text = spqr_layout().decode(&scheme, changed.clone()).unwrap_err().to_string();
        assert!(text.contains(name), "{shape:?}: {text}");
    }
}

fn part_is_stream(part: &LayoutPart) -> bool {
    part.dtype == Dtype::U8
}

#[test]
fn schemes_of_other_matrices_are_refused() {
    let c = Rng(12).spqr(6, 40, Dtype::F16, &SpqrKind { height: 4, ..SpqrKind::published() });
    let scheme = Scheme::of(&c, "paring-spqr", vec![]);
    let parts = encode(spqr_layout(), &c).unwrap();
    let check = |says: &str, change: &dyn Fn(&mut QuantArgs)| {
        let mut changed = scheme.clone();
        change(changed.weights.as_mut().unwrap());
        let text = spqr_layout().decode(&changed, parts.clone()).expect_err(says).to_string();
        assert!(text.contains(says) && !text.contains('\n'), "{says}: {text}");
    };
    let second = |scale_bits, zero_bits, rows| Some(SecondLevel { scale_bits, zero_bits, rows });
    for bits in [0, 1, 9, 33, u32::MAX] {
        check("codes of", &|args| args.element = Element::Int(bits));
    }
    check("weight", &|args| args.element = Element::Int(4));
    check("scales a row or group", &|args| args.strategy = Strategy::Tensor);
    check("scales a row or group", &|args| args.strategy = Strategy::Group(0));
    check("scale_codes", &|args| args.strategy = Strategy::Group(8));
    check("scale_codes", &|args| args.strategy = Strategy::Channel);
    check("weight_scale", &|args| args.second = None);
    check("weight_zero_point", &|args| args.second = second(Some(3), None, 4));
    check("weight_scale", &|args| args.second = second(None, Some(3), 4));
    check("scale_codes", &|args| args.second = second(Some(4), Some(3), 4));
    check("zero_codes", &|args| args.second = second(Some(3), Some(5), 4));
    check("scale_grid", &|args| args.second = second(Some(3), Some(3), 2));
    check("scale_codes: 3 bits for 0 rows", &|args| args.second = second(Some(3), Some(3), 0));
    check("scale_codes: 9 bits", &|args| args.second = second(Some(9), Some(3), 4));
    check("zero_grid: stored, but the scheme", &|args| {
        (args.second, args.float_zeros) = (second(Some(3), None, 4), false);
    });
    check("does not use it", &|args| (args.second, args.symmetric) = (second(Some(3), None, 4), true));
}

#[test]
fn encoding_refuses_what_the_layout_cannot_say() {
    let c = Rng(13).spqr(6, 40, Dtype::F16, &SpqrKind { height: 4, ..SpqrKind::published() });
    let check = |says: &str, change: &dyn Fn(&mut Compressed, &mut Spqr)| {
        let mut changed = c.clone();
        let mut spqr = of(&c).clone();
        change(&mut changed, &mut spqr);
        changed.values = Values::Spqr(Box::new(spqr));
        let text = encode(spqr_layout(), &changed).expect_err(says).to_string();
        assert!(text.contains(says) && !text.contains('\n'), "{says}: {text}");
    };
    check("I8 [6, 40]", &|c, _| c.dtype = Dtype::I8);
    check("expected 280", &|c, _| c.rows = 7);
    check("[0, 40]", &|c, _| c.rows = 0);
    check("codes of 9 bits", &|_, spqr| spqr.bits = 9);
    check("groups of 41", &|_, spqr| spqr.group_size = 41);
    check("the codes: 8 (element 5)", &|_, spqr| spqr.codes[5] = 8);
    check("twice", &|_, spqr| spqr.order = Some(vec![0; 40]));
    check("not stored", &|_, spqr| spqr.order = Some((0..40).collect()));
    check("the column order lists 1", &|_, spqr| spqr.order = Some(vec![0]));
    check("do not ascend", &|_, spqr| spqr.outliers.at = vec![3, 3]);
    check("do not ascend", &|_, spqr| {
        (spqr.outliers.at, spqr.outliers.values) = (vec![240], vec![1.0]);
    });
    check("the outliers: 0.1 (element 0)", &|_, spqr| spqr.outliers.values[0] = 0.1);
    check("the scales are neither", &|_, spqr| spqr.scales = Statistic::Constant(4.0));
    check("the scales are 1, expected 18", &|_, spqr| spqr.scales = Statistic::Plain(vec![1.0]));
    check("the zeros are 3.5", &|_, spqr| spqr.zeros = Statistic::Constant(3.5));
    check("the zeros: 8 (element 0)", &|_, spqr| spqr.zeros = Statistic::Integers(vec![8; 18]));
    check("by 4 rows and zeros by 5", &|_, spqr| {
        let Statistic::Coded { rows, .. } = &mut spqr.zeros else { unreachable!() };
        *rows = 5;
    });
    check("the zeros: NaN", &|_, spqr| {
        let Statistic::Coded { zeros, .. } = &mut spqr.zeros else { unreachable!() };
        zeros[0] = f32::NAN;
    });
    assert!(encode(spqr_layout(), &Rng(1).dense(2, 2, Dtype::F16)).is_err());
    for other in ["dense", "int-quantized", "pack-quantized"] {
        assert!(encode(layout(other).unwrap(), &c).is_err());
    }
}

/// Bytes changed at random give a matrix or an error.
#[test]
fn damaged_bytes_never_panic() {
    let mut rng = Rng(14);
    for kind in kinds().iter().step_by(5) {
        let c = rng.spqr(5, 37, Dtype::F16, &SpqrKind { group_size: kind.group_size.min(37), ..kind.clone() });
        let scheme = Scheme::of(&c, "paring-spqr", vec![]);
        let parts = encode(spqr_layout(), &c).unwrap();
        for _ in 0..200 {
            let mut changed = parts.clone();
            let which = rng.below(changed.len());
            let part = changed.values_mut().nth(which).unwrap();
            let at = rng.below(part.bytes.len());
            part.bytes[at] = rng.next() as u8;
            if let Ok(c) = spqr_layout().decode(&scheme, changed.clone()) {
                assert_eq!(c.to_dense().len(), c.rows * c.cols);
            }
        }
    }
}

/// The example of `docs/format-spqr.md`.
#[test]
fn the_documented_example() {
    let second = |codes, scales, zeros| Statistic::Coded { bits: 3, rows: 2, codes, scales, zeros };
    let spqr = Spqr {
        bits: 3,
        group_size: 4,
        order: Some(vec![2, 0, 1, 3, 5, 4]),
        codes: vec![0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3],
        scales: second(vec![1, 2, 3, 4], vec![0.25, 0.5], vec![-1.0, 0.5]),
        zeros: second(vec![5, 6, 7, 0], vec![0.5, 0.25], vec![0.5, -2.0]),
        outliers: crate::Outliers { at: vec![1, 9], values: vec![10.0, -20.5] },
    };
    let c = Compressed { rows: 2, cols: 6, dtype: Dtype::F16, values: Values::Spqr(Box::new(spqr)) };
    let parts = encode(spqr_layout(), &c).unwrap();
    let hex = |name: &str| parts[name].bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
    let expected = [
        ("column_order", "42 56 02"),
        ("outlier_gaps", "7d"),
        ("outlier_values", "00 49 20 cd"),
        ("scale_codes", "d1 08"),
        ("scale_grid", "00 34 00 38 00 bc 00 38"),
        ("weight", "88 c6 fa 88 06"),
        ("weight_shape", "02 00 00 00 00 00 00 00 06 00 00 00 00 00 00 00 02 00 00 00 00 00 00 00"),
        ("zero_codes", "f5 01"),
        ("zero_grid", "00 38 00 34 00 38 00 c0"),
    ];
    assert_eq!(parts.keys().map(|name| (*name, hex(name))).collect::<Vec<_>>(), expected.map(|(n, h)| (n, h.into())));
    let dense = [10.0, -0.125, -1.125, 0.375, 2.25, 1.5, 3.75, -3.25, 2.75, -20.5, 4.375, 2.625];
    assert_eq!(c.to_dense(), dense);
}

#[test]
fn the_config_is_this_programs_own() {
    let c = Rng(15).spqr(16, 32, Dtype::F16, &SpqrKind::published());
    let scheme = Scheme::of(&c, "paring-spqr", vec!["Linear".to_string()]);
    let config = QuantConfig::new(vec![("group_0".into(), scheme)], vec!["lm_head".into()]).to_json();
    let expected = json!({
        "config_groups": {"group_0": {"format": "paring-spqr", "targets": ["Linear"], "weights": {
            "actorder": null, "group_size": 16, "num_bits": 3,
            "second_level": {"rows": 16, "scale_bits": 3, "zero_bits": 3},
            "strategy": "group", "symmetric": false, "zero_point": "float",
        }}},
        "format": "paring-spqr", "ignore": ["lm_head"], "quant_method": "paring", "version": "1",
    });
    assert_eq!(config, expected);
    let check = |says: &str, path: &str, value: Value| {
        let mut changed = expected.clone();
        *changed.pointer_mut(path).unwrap() = value;
        let text = QuantConfig::parse(&changed).expect_err(path).to_string();
        assert!(text.contains(says) && !text.contains('\n'), "{path}: {text}");
    };
    let group = |key: &str| format!("/config_groups/group_0/{key}");
    let weights = |key: &str| format!("/config_groups/group_0/weights/{key}");
    check("with the method compressed-tensors", "/quant_method", json!("compressed-tensors"));
    check("version 2", "/version", json!("2"));
    check("version", "/version", Value::Null);
    check("pack-quantized with the method paring", &group("format"), json!("pack-quantized"));
    check("format", &group("format"), Value::Null);
    check("weights: missing", &group("weights"), Value::Null);
    check("zero_point", &weights("zero_point"), Value::Null);
    check("zero_point", &weights("zero_point"), json!("half"));
    check("zero_point", &weights("symmetric"), json!(true));
    check("zero_bits", &weights("zero_point"), json!("integer"));
    check("second_level", &weights("second_level"), json!(3));
    check("neither scales nor zeros", &weights("second_level"), json!({"rows": 16}));
    for rows in [Value::Null, json!(0), json!(-1), json!("16")] {
        check("rows", &weights("second_level/rows"), rows);
    }
    for bits in [json!(0), json!(9), json!("3"), json!(-3)] {
        check("scale_bits", &weights("second_level/scale_bits"), bits);
    }
    let mut old = json!({"quantization_status": "compressed", "quant_method": "compressed-tensors"});
    old["config_groups"] = expected["config_groups"].clone();
    let text = QuantConfig::parse(&old).unwrap_err().to_string();
    assert!(text.contains("paring-spqr with the method compressed-tensors"), "{text}");
}
