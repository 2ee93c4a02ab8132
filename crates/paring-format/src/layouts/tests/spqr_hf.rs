//! The layout `spqr`: files of the package, byte for byte, and what it cannot hold.

use std::fs;
use std::path::Path;

use safetensors::SafeTensors;
use serde_json::{Value, json};

use super::*;
use crate::QuantConfig;
use crate::layouts::spqr_hf::{TENSORS, nearest};
use crate::testing::{Kept, Rng, SpqrKind, SpqrZeros, encode};
use crate::{Outliers, Spqr, Statistic, Values};

fn hf() -> &'static dyn Layout {
    layout("spqr").unwrap()
}

fn of(c: &Compressed) -> &Spqr {
    let Values::Spqr(spqr) = &c.values else { panic!("no SpQR matrix") };
    spqr
}

fn changed(c: &Compressed, change: impl FnOnce(&mut Spqr)) -> Compressed {
    let mut spqr = of(c).clone();
    change(&mut spqr);
    Compressed { values: Values::Spqr(Box::new(spqr)), ..c.clone() }
}

fn bits_of(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn list(numbers: &[i32]) -> LayoutPart {
    let bytes = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
    LayoutPart { dtype: Dtype::I32, shape: vec![numbers.len()], bytes }
}

/// A matrix that the layout holds, with values of a realistic size.
fn sample(rng: &mut Rng, rows: usize, cols: usize, ordered: bool) -> Compressed {
    let c = rng.spqr(rows, cols, Dtype::F16, &SpqrKind { kept: Kept::Share(30), ordered, ..SpqrKind::published() });
    let mut c = changed(&c, |spqr| spqr.outliers.values.iter_mut().for_each(|value| *value *= 8.0));
    settle(&mut c);
    c
}

/// Moves outliers to the nearest values that the layout can hold.
fn settle(c: &mut Compressed) {
    let (rows, cols) = (c.rows, c.cols);
    if let Values::Spqr(spqr) = &mut c.values {
        let base = spqr.base(rows, cols, Dtype::F16);
        let Outliers { at, values } = &mut spqr.outliers;
        at.iter().zip(values).for_each(|(&at, value)| *value = nearest(base[at as usize], *value).got);
    }
}

/// `[cols / 16, …]` as the package keeps statistics, to `[…, cols / 16]`.
fn turned<T: Copy>(values: Vec<T>, groups: usize) -> Vec<T> {
    let rows = values.len() / groups;
    (0..rows * groups).map(|i| values[i % groups * rows + i / groups]).collect()
}

#[test]
fn files_of_the_package() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/formats/spqr");
    let mut names: Vec<_> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    assert_eq!(names.len(), 5);
    for path in names {
        let bytes = fs::read(&path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let part = |name: &str| {
            let view = file.tensor(name).ok()?;
            let dtype = Dtype::from_safetensors(view.dtype()).unwrap();
            Some(LayoutPart { dtype, shape: view.shape().to_vec(), bytes: view.data().to_vec() })
        };
        let floats = |name: &str| part(name).map(|part| part.dtype.decode_f32(&part.bytes)).unwrap();
        let parts: LayoutParts =
            TENSORS.iter().filter_map(|name| Some((*name, part(&format!("expected.{name}"))?))).collect();
        let name = path.file_name().unwrap().to_str().unwrap();
        let codes = part("input.W").unwrap();
        let (rows, cols) = (codes.shape[0], codes.shape[1]);
        let groups = cols / 16;

        let read = hf().decode(&Scheme::spqr(vec![]), parts.clone()).unwrap();
        assert_eq!(hf().decode_shaped(&Scheme::spqr(vec![]), parts.clone(), (rows, cols)).unwrap(), read);
        assert_eq!(hf().shape(&parts).unwrap(), Some((rows, cols)));
        assert_eq!((read.rows, read.cols, read.dtype), (rows, cols, Dtype::F16), "{name}");
        let spqr = of(&read);
        assert_eq!(spqr.codes, codes.bytes, "{name}");
        for (statistic, letter) in [(&spqr.scales, 's'), (&spqr.zeros, 'z')] {
            let expected = Statistic::Coded {
                bits: 3,
                rows: 16,
                codes: turned(part(&format!("input.W_{letter}")).unwrap().bytes, groups),
                scales: turned(floats(&format!("input.W_{letter}_s")), groups),
                zeros: turned(floats(&format!("input.W_{letter}_z")), groups),
            };
            assert_eq!(statistic, &expected, "{name}");
        }
        assert_eq!(spqr.order.is_some(), parts.contains_key("in_perm"));
        assert_eq!(spqr.outliers.at.len() as u64 * 2, part("input.csr_values").unwrap().bytes.len() as u64);
        let dense = if spqr.order.is_some() { "expected.dequantized_unpermuted" } else { "expected.dequantized" };
        assert_eq!(bits_of(&read.to_dense()), bits_of(&floats(dense)), "{name}");

        let written = encode(hf(), &read).unwrap();
        assert_eq!(hf().decode(&Scheme::spqr(vec![]), written.clone()).unwrap(), read, "{name}");
        assert_eq!(written["dense_weights"], parts["dense_weights"], "{name}");
        let offsets = part("input.csr_row_offsets").unwrap();
        assert_eq!(written["row_offsets"], offsets, "{name}");
        // An order is always written, so that the shape can be told.
        assert_eq!(written["in_perm"].shape, [cols / 2]);
        if let Some(order) = parts.get("in_perm") {
            assert_eq!(&written["in_perm"], order, "{name}");
        }
    }
}

/// The first word of a tile with scale code 5, zero code 2, codes 0 to 7 twice, and 0x3c in the second level.
#[test]
fn a_worked_word() {
    let zero = |code, first| Statistic::Coded {
        bits: 3,
        rows: 16,
        codes: [&[code][..], &[0; 15]].concat(),
        // 0x003c is a subnormal f16, and 0 has no bits.
        scales: vec![if first { half::f16::from_bits(0x003c).to_f32() } else { 0.0 }],
        zeros: vec![0.0],
    };
    let spqr = Spqr {
        bits: 3,
        group_size: 16,
        order: None,
        codes: [&[0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7][..], &[0; 240]].concat(),
        scales: zero(5, true),
        zeros: zero(2, false),
        outliers: Outliers { at: vec![17], values: vec![-2.0] },
    };
    let c = Compressed { rows: 16, cols: 16, dtype: Dtype::F16, values: Values::Spqr(Box::new(spqr)) };
    let parts = encode(hf(), &c).unwrap();
    assert_eq!(parts["dense_weights"].bytes[..8], 0x0f3e_b1a2_3eb1_a215u64.to_le_bytes());
    assert_eq!(parts["dense_weights"].bytes[8..16], (0x3cu64 << 54).to_le_bytes());
    assert_eq!(parts["col_vals"], list(&[0xc000_0001u32 as i32]));
    assert_eq!(parts["row_offsets"], list(&[&[0, 0][..], &[1; 15]].concat()));
    assert_eq!(parts["in_perm"], list(&[0, 1, 2, 3, 4, 5, 6, 7].map(|i| (2 * i) | (2 * i + 1) << 16)));
}

#[test]
fn what_it_accepts_comes_back() {
    let mut rng = Rng(31);
    for (rows, cols) in [(16, 16), (32, 48), (48, 16), (256, 32), (16, 512)] {
        for ordered in [false, true] {
            let c = sample(&mut rng, rows, cols, ordered);
            assert!(encode(hf(), &c).is_ok());
            let parts = encode(hf(), &c).unwrap();
            let back = hf().decode(&Scheme::spqr(vec![]), parts.clone()).unwrap();
            assert_eq!(back, c);
            assert_eq!(bits_of(&back.to_dense()), bits_of(&c.to_dense()));
            let words = parts["col_vals"].bytes.as_chunks::<4>().0;
            assert!(words.iter().all(|word| *word != [0; 4]));
        }
    }
}

/// Outliers are sums of f16, which cannot be any number, but the nearest that they can is near.
#[test]
fn outliers_that_no_sum_gives() {
    let c = sample(&mut Rng(32), 16, 32, true);
    let base = of(&c).base(16, 32, Dtype::F16);
    let at = base.iter().position(|base| base.abs() > 0.25 && base.abs() < 4.0).unwrap();
    let value = Dtype::F16.round(1e-4);
    let put = |value| changed(&c, |spqr| spqr.outliers = Outliers { at: vec![at as u32], values: vec![value] });
    let mut far = put(value);
    assert!(encode(hf(), &far).is_err());
    let text = encode(hf(), &far).unwrap_err().to_string();
    assert!(text.contains(&format!("row {}, position {}", at / 32, at % 32)) && text.contains("no f16"), "{text}");
    settle(&mut far);
    assert!(encode(hf(), &far).is_ok() && (of(&far).outliers.values[0] - value).abs() < 2e-3);
    // The same value as the code's is an outlier too, and its word is not that of padding.
    let same = put(base[at]);
    assert_eq!(hf().decode(&Scheme::spqr(vec![]), encode(hf(), &same).unwrap()).unwrap(), same);
    let mut settled = same.clone();
    settle(&mut settled);
    assert_eq!(settled, same);
    // Other layouts hold any.
    assert!(encode(layout("paring-spqr").unwrap(), &put(value)).is_ok());
}

#[test]
fn the_shape_from_what_is_there() {
    let scheme = Scheme::spqr(vec![]);
    // Without an order, 256 x 512 might be 4096 x 32, by the lengths alone. The outliers tell.
    let c = sample(&mut Rng(33), 256, 512, false);
    let mut parts = encode(hf(), &c).unwrap();
    assert_eq!(hf().shape(&parts).unwrap(), Some((256, 512)));
    for missing in [true, false] {
        parts.insert("in_perm", list(&[]));
        if missing {
            parts.remove("in_perm");
        }
        assert_eq!(hf().shape(&parts).unwrap(), None);
        assert_eq!(hf().decode(&scheme, parts.clone()).unwrap(), c);
    }
    let bare = changed(&c, |spqr| spqr.outliers = Outliers::default());
    let mut parts = encode(hf(), &bare).unwrap();
    assert_eq!(hf().decode(&scheme, parts.clone()).unwrap(), bare);
    parts.remove("in_perm");
    let text = hf().decode(&scheme, parts.clone()).unwrap_err().to_string();
    assert!(text.contains("256 x 512 or 4096 x 32"), "{text}");
    assert_eq!(hf().decode_shaped(&scheme, parts.clone(), (256, 512)).unwrap(), bare);
    let tall = hf().decode_shaped(&scheme, parts.clone(), (4096, 32)).unwrap();
    assert_eq!((tall.rows, tall.cols), (4096, 32));
    // The package writes no outliers as an empty list of another type.
    parts.insert("col_vals", LayoutPart { dtype: Dtype::F32, shape: vec![0], bytes: vec![] });
    assert_eq!(hf().decode_shaped(&scheme, parts.clone(), (256, 512)).unwrap(), bare);
}

#[test]
fn damaged_parts_are_named() {
    let c = sample(&mut Rng(34), 32, 48, true);
    let c = changed(&c, |spqr| spqr.outliers = Outliers { at: vec![3, 4, 700], values: vec![7.0, 8.0, -9.0] });
    let parts = encode(hf(), &c).unwrap();
    let check = |name: &'static str, says: &str, change: &dyn Fn(&mut LayoutPart)| {
        let mut changed = parts.clone();
        change(changed.get_mut(name).unwrap());
        let text = hf().decode(&Scheme::spqr(vec![]), changed.clone()).expect_err(name).to_string();
        assert!(text.contains(name) && text.contains(says) && !text.contains('\n'), "{name}, {says}: {text}");
    };
    for name in TENSORS {
        let mut without = parts.clone();
        without.remove(name);
        if name != "in_perm" {
            assert!(hf().decode(&Scheme::spqr(vec![]), without.clone()).unwrap_err().to_string().contains(name));
        }
        check(name, "type BOOL", &|part| part.dtype = Dtype::Bool);
        check(name, "bytes do not make", &|part| part.bytes.push(0));
        check(name, "shape", &|part| part.shape.insert(0, 1));
        check(name, "", &|part| part.shape = vec![usize::MAX, usize::MAX]);
        check(name, "", &|part| {
            part.bytes.extend(vec![0; part.dtype.size()]);
            part.shape[0] += 1;
        });
    }
    check("dense_weights", "statistics of tile 0", &|part| {
        (0..16).for_each(|k| part.bytes[8 * k + 6..8 * k + 8].fill(0xff));
    });
    check("dense_weights", "do not fit together as a matrix", &|part| (part.shape, part.bytes) = (vec![0], vec![]));
    check("row_offsets", "ascend", &|part| part.bytes[..4].fill(1));
    check("row_offsets", "ascend", &|part| part.bytes[4..8].copy_from_slice(&(-1i32).to_le_bytes()));
    check("row_offsets", "ascend", &|part| part.bytes[4..8].copy_from_slice(&9i32.to_le_bytes()));
    check("col_vals", "position 48 in row 0", &|part| part.bytes[..2].copy_from_slice(&48u16.to_le_bytes()));
    check("col_vals", "position 3 in row 0", &|part| part.bytes[4..6].copy_from_slice(&3u16.to_le_bytes()));
    check("col_vals", "inf makes inf", &|part| part.bytes[2..4].copy_from_slice(&0x7c00u16.to_le_bytes()));
    check("in_perm", "twice", &|part| part.bytes.fill(0));
    check("in_perm", "column 65535 of 48", &|part| part.bytes.fill(0xff));
    // Rows of a tile that are stored together have the same length.
    let mut uneven = parts.clone();
    uneven.insert("row_offsets", list(&[0, 1, 3]));
    assert!(hf().decode(&Scheme::spqr(vec![]), uneven.clone()).unwrap_err().to_string().contains("different lengths"));
}

#[test]
fn it_holds_one_kind_only() {
    let mut rng = Rng(35);
    let kind = SpqrKind::published();
    let mut check = |says: &str, dtype: Dtype, rows: usize, cols: usize, kind: SpqrKind| {
        let c = rng.spqr(rows, cols, dtype, &kind);
        let text = encode(hf(), &c).expect_err(says).to_string();
        assert!(text.contains(says), "{says}: {text}");
    };
    check("F16, not BF16", Dtype::Bf16, 16, 16, kind.clone());
    check("not 8 x 16", Dtype::F16, 8, 16, kind.clone());
    check("not 16 x 24", Dtype::F16, 16, 24, kind.clone());
    check("not 16 x 32768", Dtype::F16, 16, 1 << 15, kind.clone());
    check("not 4 in groups of 16", Dtype::F16, 16, 32, SpqrKind { bits: 4, ..kind.clone() });
    check("not 3 in groups of 32", Dtype::F16, 16, 32, SpqrKind { group_size: 32, ..kind.clone() });
    check("coded with 3 bits for 16 rows", Dtype::F16, 16, 32, SpqrKind { scale_bits: None, ..kind.clone() });
    check("coded with 3 bits for 16 rows", Dtype::F16, 16, 32, SpqrKind { height: 8, ..kind.clone() });
    check("coded with 3 bits for 16 rows", Dtype::F16, 16, 32, SpqrKind { zeros: SpqrZeros::Integers, ..kind });
    assert!(encode(hf(), &rng.dense(16, 16, Dtype::F16)).is_err());
}

#[test]
fn the_config_of_transformers() {
    let parts = encode(hf(), &sample(&mut Rng(36), 16, 32, true)).unwrap();
    let names: Vec<(String, usize)> =
        parts.iter().map(|(local, part)| (format!("model.fc1.{local}"), part.shape[0])).collect();
    let others = [("model.norm.weight".to_string(), 32)];
    let tensors = names.iter().chain(&others).map(|(name, length)| (name.as_str(), *length));
    let config = QuantConfig::spqr(tensors, vec!["lm_head".to_string()]);
    let value = config.to_json();
    let outliers = parts["col_vals"].shape[0];
    let expected = json!({
        "beta1": 16, "beta2": 16, "bits": 3, "modules_to_not_convert": ["lm_head", "lm_head.weight"],
        "quant_method": "spqr", "shapes": {
            "model.fc1.col_vals.shape": outliers, "model.fc1.dense_weights.shape": 32,
            "model.fc1.in_perm.shape": 16, "model.fc1.row_offsets.shape": 17,
        },
    });
    assert_eq!(value, expected);
    assert_eq!(QuantConfig::parse(&value).unwrap(), config);
    assert_eq!(config.scheme("model.fc1").unwrap(), Some(&Scheme::spqr(vec!["model.fc1".to_string()])));
    assert_eq!((config.scheme("model.fc2").unwrap(), config.scheme("lm_head").unwrap()), (None, None));
    // Without lengths, every linear that is not left out.
    let bare = QuantConfig::parse(&json!({"quant_method": "spqr", "modules_to_not_convert": ["a.weight"]})).unwrap();
    assert!(bare.scheme("b").unwrap().is_some() && bare.scheme("a").unwrap().is_none());
    for (key, value) in [
        ("bits", json!(4)),
        ("beta1", json!(8)),
        ("beta2", Value::Null),
        ("modules_to_not_convert", json!("lm_head")),
        ("shapes", json!([1])),
        ("shapes", json!({"a.dense_weights.shape": -1})),
    ] {
        let mut changed = expected.clone();
        changed[key] = value;
        let text = QuantConfig::parse(&changed).unwrap_err().to_string();
        assert!(text.contains(key) && !text.contains('\n'), "{text}");
    }
}
