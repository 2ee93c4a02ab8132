mod answers;
mod floats;
mod marlin_24;
mod packed;
mod properties;
mod sparse;
mod spqr;
mod spqr_hf;

use std::fs;
use std::path::Path;

use safetensors::SafeTensors;
use serde_json::{Value, json};

use super::*;
use crate::testing::{Kept, Rng, SpqrKind, encode, two_of_four};
use crate::{Element, Error, Grid, QuantArgs, QuantConfig, ScaleType, Strategy, Values, Zeros};

/// A tensor of a golden file.
pub(super) fn part(file: &SafeTensors, name: &str) -> Option<LayoutPart> {
    let view = file.tensor(name).ok()?;
    let dtype = Dtype::from_safetensors(view.dtype()).unwrap();
    Some(LayoutPart { dtype, shape: view.shape().to_vec(), bytes: view.data().to_vec() })
}

fn bits_of(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// The matrix that a golden file describes, from its codes before packing or from its dense weight, and the type that its dense weight and its
/// scales met in.
fn golden_matrix(file: &SafeTensors, scheme: &Scheme, rows: usize, cols: usize) -> (Compressed, Dtype) {
    let input = part(file, "input.weight").unwrap();
    let Some(scale) = part(file, "input.weight_scale") else {
        let values = Values::Dense(input.dtype.decode_f32(&input.bytes));
        return (Compressed { rows, cols, dtype: input.dtype, values }, input.dtype);
    };
    let signed = |part: LayoutPart| part.bytes.iter().map(|&byte| byte as i8).collect::<Vec<i8>>();
    let args = scheme.codes().unwrap();
    let global = part(file, "input.weight_global_scale").map(|part| part.dtype.decode_f32(&part.bytes)[0]);
    let zeros = part(file, "input.weight_zero_point").map(signed);
    let index =
        |part: LayoutPart| part.bytes.as_chunks::<4>().0.iter().map(|&group| u32::from_le_bytes(group)).collect();
    let grid = Grid {
        element: args.element,
        tile: scales::tile(args, rows, cols).unwrap(),
        scale_type: args.scale_type,
        global,
        group_index: part(file, "input.weight_g_idx").map(index),
        ..Grid::int(1, 1, scale.dtype.decode_f32(&scale.bytes), zeros)
    };
    let met = if input.dtype == scale.dtype && global.is_none() { input.dtype } else { Dtype::F32 };
    let dtype = if args.scale_type == ScaleType::Float { scale.dtype } else { Dtype::Bf16 };
    // Codes of packed floats are there as numbers; of old releases there are none.
    let code_of = |x: f32| (0..64).find(|&code| args.element.value(code).to_bits() == x.to_bits()).unwrap();
    let codes = match part(file, "quantized") {
        None => grid.quantize(&input.dtype.decode_f32(&input.bytes), cols, met).unwrap(),
        Some(codes) if codes.dtype == Dtype::F32 => {
            codes.dtype.decode_f32(&codes.bytes).into_iter().map(code_of).collect()
        }
        Some(codes) => signed(codes),
    };
    (Compressed { rows, cols, dtype, values: Values::Codes { codes, grid } }, met)
}

/// The parts of a model that was saved before it was compressed: the dense weight beside its scales and zero points.
fn frozen_parts(file: &SafeTensors) -> LayoutParts {
    let names = ["weight", "weight_scale", "weight_zero_point", "weight_g_idx"];
    names.iter().filter_map(|local| Some((*local, part(file, &format!("input.{local}"))?))).collect()
}

#[test]
fn official_files_byte_for_byte() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/formats");
    let index: Value = serde_json::from_slice(&fs::read(root.join("index.json")).unwrap()).unwrap();
    let mut counts = std::collections::BTreeMap::new();
    for case in index["cases"].as_array().unwrap() {
        let name = case["file"].as_str().unwrap();
        let bytes = fs::read(root.join(name)).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let group = json!({"targets": ["Linear"], "format": case["format"], "weights": case["weights"]});
        let config = json!({"quant_method": "compressed-tensors", "quantization_status": "compressed",
            "version": case["producer"].as_str().unwrap().strip_prefix("compressed-tensors "),
            "config_groups": {"group_0": group}});
        let scheme = QuantConfig::parse(&config).unwrap().groups.remove(0).1;
        let layout = layout(case["format"].as_str().unwrap()).unwrap();
        let (rows, cols) = (case["rows"].as_u64().unwrap() as usize, case["cols"].as_u64().unwrap() as usize);

        let expected: LayoutParts = part_names()
            .iter()
            .filter_map(|local| Some((*local, part(&file, &format!("expected.{local}"))?)))
            .collect();
        let decoded = layout.decode(&scheme, expected.clone()).unwrap();
        let official = part(&file, "decompressed.weight").unwrap();
        assert_eq!(decoded.dtype, official.dtype, "{name}");
        assert_eq!(bits_of(&decoded.to_dense()), bits_of(&official.dtype.decode_f32(&official.bytes)), "{name}");

        let (made, met) = golden_matrix(&file, &scheme, rows, cols);
        assert_eq!(layout.encode(&scheme, &made).unwrap(), expected, "{name}");
        assert_eq!(decoded, made, "{name}");
        if let Values::Codes { codes, grid } = &made.values {
            let input = part(&file, "input.weight").unwrap();
            let dense = input.dtype.decode_f32(&input.bytes);
            assert_eq!(grid.quantize(&dense, cols, met).unwrap(), *codes, "{name}");
            let frozen = DENSE.decode(&scheme, frozen_parts(&file));
            match grid.scale_type {
                ScaleType::Float => assert_eq!(frozen.unwrap(), made, "{name}"),
                _ => assert!(matches!(frozen, Err(Error::UnsupportedFormat { .. })), "{name}"),
            }
        }
        *counts.entry(layout.name()).or_insert(0) += 1;
    }
    let expected = [
        ("dense", 1),
        ("float-quantized", 10),
        ("int-quantized", 11),
        ("mxfp4-pack-quantized", 6),
        ("mxfp6-pack-quantized", 6),
        ("mxfp8-quantized", 6),
        ("naive-quantized", 5),
        ("nvfp4-pack-quantized", 7),
        ("pack-quantized", 100),
    ];
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), expected);
}

/// Matrices of all kinds, small.
fn samples() -> Vec<Compressed> {
    let mut rng = Rng(7);
    let mut all = vec![
        two_of_four(rng.dense(4, 24, Dtype::Bf16)),
        two_of_four(rng.codes(3, 20, Dtype::F32, 8, 20, true)),
        two_of_four(rng.codes(64, 64, Dtype::F16, 4, 64, true)),
        two_of_four(rng.codes(64, 256, Dtype::F16, 8, 128, true)),
        two_of_four(rng.codes(128, 384, Dtype::F16, 4, 128, true)),
    ];
    for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
        all.push(rng.dense(3, 5, dtype));
        all.push(rng.dense(1, 1, dtype));
        for bits in 1..=8 {
            for symmetric in [false, true] {
                for (rows, cols, group_size) in [(5, 33, 33), (33, 64, 16), (9, 6, 3), (1, 1, 1), (2, 4, 1)] {
                    all.push(rng.codes(rows, cols, dtype, bits, group_size, symmetric));
                }
            }
        }
        for element in [Element::Int(8), Element::E4m3] {
            for tile in [[1, 48], [10, 48], [1, 16], [4, 16], [4, 20]] {
                all.push(rng.tiled([10, 48], dtype, element, tile, ScaleType::Float));
            }
        }
        // Fractional zero points.
        let mut fractional = rng.codes(6, 32, dtype, 3, 16, false);
        if let Values::Codes { grid, .. } = &mut fractional.values {
            grid.zeros = Some(Zeros::Floats((0..12).map(|_| rng.float(dtype)).collect()));
        }
        all.push(fractional);
    }
    for [rows, cols] in [[3, 64], [1, 32], [5, 96]] {
        all.push(rng.tiled([rows, cols], Dtype::Bf16, Element::E2m1, [1, 16], ScaleType::E4m3));
        all.push(rng.tiled([rows, cols], Dtype::Bf16, Element::E2m1, [1, 32], ScaleType::Exponent));
        all.push(rng.tiled([rows, cols], Dtype::Bf16, Element::E2m3, [1, 32], ScaleType::Exponent));
        all.push(rng.tiled([rows, cols], Dtype::Bf16, Element::E4m3, [1, 32], ScaleType::Exponent));
    }
    all
}

#[test]
fn every_layout_gives_back_what_it_accepts() {
    for layout in LAYOUTS {
        assert_eq!(super::layout(layout.name()).map(|found| found.name()), Some(layout.name()));
        let mut accepted = 0;
        let spqr = Rng(8).spqr(32, 48, Dtype::Bf16, &SpqrKind::published());
        let half = Rng(8).spqr(32, 48, Dtype::F16, &SpqrKind { kept: Kept::Share(0), ..SpqrKind::published() });
        for c in samples().into_iter().chain([spqr, half]) {
            let scheme = Scheme::of(&c, layout.name(), vec![]);
            let Ok(parts) = layout.encode(&scheme, &c) else { continue };
            let back = layout.decode(&scheme, parts.clone()).unwrap();
            assert_eq!(back, c, "{}", layout.name());
            assert_eq!(bits_of(&back.to_dense()), bits_of(&c.to_dense()));
            accepted += 1;
        }
        assert!(accepted > 0, "{} accepts nothing", layout.name());
    }
}

#[test]
fn every_layout_rejects_parts_that_do_not_fit() {
    for layout in LAYOUTS {
        for c in samples().iter().filter(|c| c.rows > 1) {
            let scheme = Scheme::of(c, layout.name(), vec![]);
            let Ok(parts) = layout.encode(&scheme, c) else { continue };
            let check = |name: &str, change: &dyn Fn(&mut LayoutParts)| {
                let mut changed = parts.clone();
                change(&mut changed);
                let text = layout.decode(&scheme, changed.clone()).expect_err(name).to_string();
                assert!(!text.contains('\n'), "{text}");
            };
            for name in parts.keys().copied() {
                check(name, &|parts| drop(parts.remove(name)));
                check(name, &|parts| parts.get_mut(name).unwrap().bytes.truncate(1));
                check(name, &|parts| parts.get_mut(name).unwrap().bytes.extend([0; 8]));
                check(name, &|parts| parts.get_mut(name).unwrap().dtype = Dtype::Bool);
                check(name, &|parts| parts.get_mut(name).unwrap().dtype = Dtype::F64);
                check(name, &|parts| parts.get_mut(name).unwrap().shape.push(2));
                check(name, &|parts| parts.get_mut(name).unwrap().shape[0] += 1);
                check(name, &|parts| parts.get_mut(name).unwrap().shape = vec![usize::MAX, usize::MAX]);
                // One row more of a dense weight, with bytes for it, is a matrix like any other; so it is where rows share
                // a scale.
                let rows_share =
                    matches!(&c.values, Values::Codes { grid, .. } if grid.tile[0] > 1 && name == "weight");
                // Zero points in one word more may be padded ones.
                let padded = name == "weight_zero_point"
                    && scheme
                        .codes()
                        .is_ok_and(|args| layout.was_padded() && !32u32.is_multiple_of(args.element.bits()));
                if parts.len() > 1 && !rows_share && !padded {
                    check(name, &|parts| {
                        let part = parts.get_mut(name).unwrap();
                        part.shape[0] += 1;
                        part.bytes.resize(part.dtype.bytes_of(&part.shape).unwrap(), 0);
                    });
                }
            }
        }
    }
}

#[test]
fn encoding_refuses_what_the_format_cannot_say() {
    let mut rng = Rng(3);
    let codes = rng.codes(2, 8, Dtype::Bf16, 4, 4, false);
    let check = |c: &Compressed, part: &str| {
        for name in ["int-quantized", "pack-quantized"] {
            let layout = layout(name).unwrap();
            let text = encode(layout, c).unwrap_err().to_string();
            assert!(text.contains(part), "{text}");
        }
    };
    let with = |change: &dyn Fn(&mut Compressed, &mut Vec<i8>, &mut Grid)| {
        let mut c = codes.clone();
        let Values::Codes { codes, grid } = c.values.clone() else { unreachable!() };
        let (mut codes, mut grid) = (codes, grid);
        change(&mut c, &mut codes, &mut grid);
        c.values = Values::Codes { codes, grid };
        c
    };
    check(&with(&|_, codes, _| codes.truncate(1)), "1 codes, 4 scales");
    check(&with(&|_, _, grid| grid.scales.truncate(1)), "1 scales and 4 zero points");
    check(&with(&|_, _, grid| grid.zeros = Some(Zeros::Codes(vec![]))), "0 zero points");
    check(&with(&|_, _, grid| grid.element = Element::Int(9)), "9-bit, ");
    check(&with(&|_, _, grid| grid.tile = [1, 0]), "do not fit");
    check(&with(&|c, _, _| c.dtype = Dtype::I8), "of a weight");
    check(&with(&|_, _, grid| grid.tile = [1, 5]), "multiple of the group size 5");
    check(&with(&|_, _, grid| grid.scales[1] = 0.1), "not a number of BF16");
    check(&with(&|c, _, grid| (c.dtype, grid.scales[1]) = (Dtype::F32, f32::NAN)), "row 0, column 1");
    let wide = with(&|_, codes, _| codes[3] = 8);
    assert!(encode(layout("pack-quantized").unwrap(), &wide).is_err());
    // Bytes hold any code, and readers do not clamp it.
    let int = layout("int-quantized").unwrap();
    assert_eq!(int.decode(&Scheme::of(&wide, "", vec![]), encode(int, &wide).unwrap()).unwrap(), wide);
    assert!(encode(layout("dense").unwrap(), &wide).is_err());
    let mut dense = rng.dense(2, 2, Dtype::F16);
    dense.values = Values::Dense(vec![0.0, 1.0, 0.1, 2.0]);
    let text = encode(layout("dense").unwrap(), &dense).unwrap_err().to_string();
    assert!(text.contains("element 2"), "{text}");
}

#[test]
fn decoding_survives_lies() {
    let packed = layout("pack-quantized").unwrap();
    let c = Rng(5).codes(4, 32, Dtype::F32, 4, 8, false);
    let scheme = Scheme::of(&c, "pack-quantized", vec![]);
    let parts = encode(packed, &c).unwrap();
    let shaped = |rows: i64, cols: i64| {
        let mut parts = parts.clone();
        parts.get_mut("weight_shape").unwrap().bytes = [rows, cols].iter().flat_map(|n| n.to_le_bytes()).collect();
        packed.decode(&scheme, parts.clone())
    };
    assert_eq!(shaped(4, 32).unwrap(), c);
    let lies =
        [(-4, 32), (4, -32), (0, 32), (4, 0), (i64::MAX, i64::MAX), (4, i64::MAX), (i64::MIN, 1), (4, 33), (5, 32)];
    for (rows, cols) in lies {
        assert!(shaped(rows, cols).is_err(), "{rows} {cols}");
    }
    // Old writers stored the shape in 32 bits.
    let mut narrow = parts.clone();
    let bytes = [4i32, 32].iter().flat_map(|n| n.to_le_bytes()).collect();
    narrow.insert("weight_shape", LayoutPart { dtype: Dtype::I32, shape: vec![2], bytes });
    assert_eq!(packed.decode(&scheme, narrow.clone()).unwrap(), c);

    let with = |change: &dyn Fn(&mut QuantArgs)| {
        let mut scheme = scheme.clone();
        change(scheme.weights.as_mut().unwrap());
        scheme
    };
    for bits in [0, 2, 5, 9, 32, 33, u32::MAX] {
        assert!(packed.decode(&with(&|args| args.element = Element::Int(bits)), parts.clone()).is_err(), "{bits} bits");
    }
    for group in [0, 3, 16, 64, usize::MAX] {
        assert!(
            packed.decode(&with(&|args| args.strategy = Strategy::Group(group)), parts.clone()).is_err(),
            "group {group}"
        );
    }
    let mut infinite = parts.clone();
    infinite.get_mut("weight_scale").unwrap().bytes[20..24].copy_from_slice(&f32::INFINITY.to_le_bytes());
    let error = packed.decode(&scheme, infinite.clone()).unwrap_err().in_module("model.fc1", "model.safetensors");
    assert_eq!(
        error.to_string(),
        "model.safetensors: model.fc1.weight_scale: inf at row 1, column 1 (element 5); the file is damaged, \
        download it again"
    );
    // A symmetric scheme has no use for zero points; the official reader leaves them alone too.
    assert!(packed.decode(&with(&|args| args.symmetric = true), parts.clone()).is_ok());
}
