use std::fs;
use std::path::Path;

use safetensors::SafeTensors;
use serde_json::{Value, json};

use super::*;
use crate::layouts::sparse::{MASK, OFFSETS, SHAPE, Sparse, VALUES};
use crate::testing::{Rng, two_of_four};
use crate::{QuantConfig, Values};

const BOTH: [Sparse; 2] = [Sparse::NonZero, Sparse::TwoOfFour];

/// The cases of some formats: the line of the index, and the bytes of the file.
pub(super) fn cases(wanted: &[&str]) -> Vec<(Value, Vec<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/formats");
    let index: Value = serde_json::from_slice(&fs::read(root.join("sparse.json")).unwrap()).unwrap();
    let cases = index["cases"].as_array().unwrap().iter();
    let cases = cases.filter(|case| wanted.contains(&case["format"].as_str().unwrap()));
    cases.map(|case| (case.clone(), fs::read(root.join(case["file"].as_str().unwrap())).unwrap())).collect()
}

/// The scheme of a case whose weights are quantized.
pub(super) fn scheme(case: &Value, format: &str) -> Scheme {
    let group = json!({"targets": ["Linear"], "format": format, "weights": case["weights"]});
    let config = json!({"quant_method": "compressed-tensors", "quantization_status": "compressed",
        "config_groups": {"group_0": group}});
    QuantConfig::parse(&config).unwrap().groups.remove(0).1
}

pub(super) fn expected(file: &SafeTensors) -> LayoutParts {
    part_names().iter().filter_map(|local| Some((*local, part(file, &format!("expected.{local}"))?))).collect()
}

/// Without the signs of its zeros, which are not stored.
fn unsigned(mut weight: LayoutPart) -> LayoutPart {
    let size = weight.dtype.size();
    for element in weight.bytes.chunks_exact_mut(size).filter(|_| weight.dtype != Dtype::I8) {
        if element[size - 1] == 0x80 && element[..size - 1].iter().all(|&byte| byte == 0) {
            element[size - 1] = 0;
        }
    }
    weight
}

#[test]
fn official_sparse_files_byte_for_byte() {
    let mut counts = [0; 4];
    for (case, bytes) in cases(&["sparse-bitmask", "sparse-24-bitmask"]) {
        let name = case["file"].as_str().unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let sparse = BOTH.into_iter().find(|sparse| case["format"] == sparse.name()).unwrap();
        let expected = expected(&file);
        let composed = part(&file, "stage1.weight");
        let weight = composed.clone().or_else(|| part(&file, "input.weight")).unwrap();
        let made = sparse.compress(&weight, false).unwrap();
        let stored: LayoutParts =
            expected.iter().filter(|(name, _)| **name != "weight_scale").map(|(n, p)| (*n, p.clone())).collect();
        assert_eq!(made, stored, "{name}");
        let back = sparse.restore(&expected).unwrap();
        counts[usize::from(sparse == Sparse::TwoOfFour)] += 1;
        match composed {
            None => assert_eq!(back, part(&file, "decompressed.weight").unwrap(), "{name}"),
            Some(weight) => {
                let (back, weight) = (unsigned(back), unsigned(weight));
                let lost = back.bytes.iter().zip(&weight.bytes).filter(|(back, given)| back != given);
                assert!(lost.into_iter().all(|(&back, &given)| (back, given) == (0, 0x80)), "{name}");
                counts[2] += 1;
                let inner = layout(case["quant_format"].as_str().unwrap()).unwrap();
                let scheme = scheme(&case, inner.name());
                let scale = expected["weight_scale"].clone();
                let c = inner
                    .decode(&scheme, LayoutParts::from([("weight", weight.clone()), ("weight_scale", scale)]))
                    .unwrap();
                let again = sparse.encode(&scheme, &c).unwrap();
                assert_eq!(sparse.restore(&again).unwrap(), weight, "{name}");
                assert_eq!(again == expected, back == weight, "{name}");
                assert_eq!(sparse.decode(&scheme, again.clone()).unwrap(), c, "{name}");
                counts[3] += usize::from(again == expected);
            }
        }
    }
    // Bytes of −128 are lost in one.
    assert_eq!(counts, [28, 31, 4, 3]);
}

/// Weights of any type and shape: floats, some of them zero with or without a sign, and bytes.
fn weight(rng: &mut Rng, dtype: Dtype, shape: &[usize]) -> LayoutPart {
    let count: usize = shape.iter().product();
    let bytes = (0..count).flat_map(|_| match (rng.below(3), dtype) {
        (0, _) => vec![0; dtype.size()],
        (_, Dtype::I8 | Dtype::F8E4M3) => vec![rng.next() as u8],
        _ if rng.below(9) == 0 => dtype.encode(&[-0.0]),
        _ => dtype.encode(&[rng.float(dtype)]),
    });
    LayoutPart { dtype, shape: shape.to_vec(), bytes: bytes.collect() }
}

const DTYPES: [Dtype; 5] = [Dtype::F32, Dtype::F16, Dtype::Bf16, Dtype::I8, Dtype::F8E4M3];
const SHAPES: [&[usize]; 12] =
    [&[1], &[7], &[8], &[1000], &[1, 1], &[3, 8], &[5, 33], &[16, 4], &[2, 6], &[6, 10], &[2, 2], &[9, 520]];

#[test]
fn what_is_not_zero_comes_back() {
    let mut rng = Rng(11);
    for (dtype, shape) in DTYPES.iter().flat_map(|dtype| SHAPES.map(|shape| (*dtype, shape))) {
        let weight = weight(&mut rng, dtype, shape);
        let parts = Sparse::NonZero.compress(&weight, false).unwrap();
        let back = Sparse::NonZero.restore(&parts).unwrap();
        assert_eq!(back, unsigned(weight.clone()), "{dtype} {shape:?}");
        // As plain loops do it.
        let (cols, size) = (*shape.last().unwrap(), dtype.size());
        let is_set = |i: usize| back.bytes[i * size..(i + 1) * size].iter().any(|&byte| byte != 0);
        let count = shape.iter().product::<usize>();
        let mut mask = vec![0u8; count / cols * cols.div_ceil(8)];
        for i in (0..count).filter(|&i| is_set(i)) {
            mask[i / cols * cols.div_ceil(8) + i % cols / 8] |= 1 << (i % cols % 8);
        }
        assert_eq!(parts[MASK].bytes, mask, "{dtype} {shape:?}");
        let before =
            (0..count / cols).flat_map(|row| ((0..row * cols).filter(|&i| is_set(i)).count() as i64).to_le_bytes());
        assert_eq!(parts[OFFSETS].bytes, before.collect::<Vec<u8>>(), "{dtype} {shape:?}");
        assert_eq!(parts[VALUES].shape, [(0..count).filter(|&i| is_set(i)).count()]);
    }
}

#[test]
fn the_two_largest_of_four_are_kept() {
    let mut rng = Rng(12);
    for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
        for shape in SHAPES.into_iter().filter(|shape| shape.len() == 2) {
            let weight = weight(&mut rng, dtype, shape);
            let fits = shape[1] % 2 == 0 && shape[0] * shape[1] % 4 == 0;
            let Ok(parts) = Sparse::TwoOfFour.compress(&weight, false) else {
                assert!(!fits, "{shape:?}");
                continue;
            };
            let back = dtype.decode_f32(&Sparse::TwoOfFour.restore(&parts).unwrap().bytes);
            let given = dtype.decode_f32(&weight.bytes);
            for (back, given) in back.chunks(4).zip(given.chunks(4)) {
                let mut sorted: Vec<f32> = given.iter().map(|v| v.abs()).collect();
                sorted.sort_by(f32::total_cmp);
                let mut kept: Vec<f32> = back.iter().map(|v| v.abs()).collect();
                kept.sort_by(f32::total_cmp);
                assert_eq!(kept, [0.0, 0.0, sorted[2], sorted[3]], "{given:?}");
                assert!(back.iter().zip(given).all(|(b, g)| *b == 0.0 || b == g), "{given:?} {back:?}");
            }
        }
    }
}

/// The weights that torch keeps of ones and zeros, by their bits.
#[test]
fn ties_are_those_of_topk() {
    let kept = [12, 5, 10, 3, 12, 5, 6, 6, 12, 9, 10, 10, 12, 12, 12, 12];
    for dtype in DTYPES {
        for (bits, kept) in kept.into_iter().enumerate() {
            let one = if dtype.is_float() { dtype.encode(&[1.0]) } else { vec![1] };
            let each = (0..4).flat_map(|i| if bits >> i & 1 == 1 { one.clone() } else { vec![0; dtype.size()] });
            let weight = LayoutPart { dtype, shape: vec![1, 4], bytes: each.collect() };
            assert_eq!(Sparse::TwoOfFour.compress(&weight, false).unwrap()[MASK].bytes, [kept], "{dtype} {bits:04b}");
        }
    }
}

/// The original takes the byte for the smallest of all.
#[test]
fn the_least_byte_is_not_lost() {
    for shape in [vec![2, 4], vec![4, 2]] {
        let bytes = [0, 0x80, 1, 0, 0, 0, 0x80, 0].to_vec();
        let weight = LayoutPart { dtype: Dtype::I8, shape, bytes };
        let official = Sparse::TwoOfFour.compress(&weight, false).unwrap();
        assert_eq!(Sparse::TwoOfFour.restore(&official).unwrap().bytes, [0, 0, 1, 0, 0, 0, 0, 0]);
        let whole = Sparse::TwoOfFour.compress(&weight, true).unwrap();
        assert_eq!(Sparse::TwoOfFour.restore(&whole).unwrap(), weight);
    }
}

#[test]
fn what_would_be_lost_is_refused() {
    let mut rng = Rng(13);
    let check = |sparse: Sparse, c: &Compressed, part: &str| {
        let text = crate::testing::encode(&sparse, c).unwrap_err().to_string();
        assert!(text.contains(part) && !text.contains('\n'), "{text}");
    };
    let mut c = two_of_four(rng.dense(6, 12, Dtype::Bf16));
    let Values::Dense(values) = &mut c.values else { unreachable!() };
    values[4 * 12 + 4..4 * 12 + 8].copy_from_slice(&[0.5, 0.0, 0.25, 1.0]);
    check(Sparse::TwoOfFour, &c, "row 4, column 6: more than two weights of four");
    assert!(crate::testing::encode(&Sparse::NonZero, &c).is_ok());
    let Values::Dense(values) = &mut c.values else { unreachable!() };
    values[4 * 12 + 4..4 * 12 + 8].copy_from_slice(&[0.5, -0.0, 0.25, 0.0]);
    for sparse in BOTH {
        check(sparse, &c, "row 4, column 5: a zero with a sign");
        let (same, dense) = c.without_zero_signs(&c.to_dense()).unwrap();
        assert_eq!(same.to_dense(), c.to_dense(), "equal as numbers");
        let scheme = Scheme::of(&same, sparse.name(), vec![]);
        let back = sparse.decode(&scheme, sparse.encode(&scheme, &same).unwrap()).unwrap();
        assert_eq!(back, same);
        assert_eq!(back.digest(), crate::compressed::digest(6, 12, &dense));
        assert!(same.without_zero_signs(&dense).is_none());
    }
    for (rows, cols) in [(3, 5), (3, 6), (1, 2)] {
        assert!(Sparse::TwoOfFour.check_shape(rows, cols).is_err());
        check(Sparse::TwoOfFour, &rng.dense(rows, cols, Dtype::F32), "cannot be cut into fours");
    }
    let wide = LayoutPart { dtype: Dtype::I64, shape: vec![2, 4], bytes: vec![0; 64] };
    assert!(BOTH.into_iter().all(|sparse| sparse.compress(&wide, false).is_err()));
}

#[test]
fn parts_that_contradict_each_other_are_refused() {
    let mut rng = Rng(14);
    let dense = weight(&mut rng, Dtype::F16, &[5, 36]);
    let check = |sparse: Sparse, change: &dyn Fn(&mut LayoutParts), part: &str| {
        let mut parts = sparse.compress(&dense, false).unwrap();
        change(&mut parts);
        let text = sparse.restore(&parts).unwrap_err().to_string();
        assert!(text.contains(part) && !text.contains('\n'), "{text:?} lacks {part:?}");
    };
    let shape = |a: i64, b: i64| [a, b].iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>();
    for sparse in BOTH {
        for (a, b) in [(0, 36), (-5, 36), (5, i64::MIN), (i64::MAX, i64::MAX)] {
            check(sparse, &|parts| parts.get_mut(SHAPE).unwrap().bytes = shape(a, b), "shape: ");
        }
        check(
            sparse,
            &|parts| parts.get_mut(SHAPE).unwrap().bytes = shape(36, 5),
            "bitmask: shape [5, 5], expected [36, 1]",
        );
        check(
            sparse,
            &|parts| parts.get_mut(SHAPE).unwrap().bytes = shape(5, 42),
            "bitmask: shape [5, 5], expected [5, 6]",
        );
        check(
            sparse,
            &|parts| parts.get_mut(MASK).unwrap().bytes[4] |= 0x10,
            "row 0 has bits set after its 36 columns",
        );
        check(sparse, &|parts| parts.get_mut(VALUES).unwrap().dtype = Dtype::I16, "compressed: type I16");
        check(sparse, &|parts| parts.get_mut(MASK).unwrap().dtype = Dtype::I8, "bitmask: type I8");
    }
    check(
        Sparse::NonZero,
        &|parts| {
            let values = parts.get_mut(VALUES).unwrap();
            values.shape[0] -= 1;
            values.bytes.truncate(values.shape[0] * 2);
        },
        "the bits of bitmask",
    );
    check(Sparse::NonZero, &|parts| parts.get_mut(OFFSETS).unwrap().bytes[8] ^= 1, "row_offsets: ");
    check(Sparse::NonZero, &|parts| drop(parts.remove(OFFSETS)), "row_offsets");
    check(
        Sparse::TwoOfFour,
        &|parts| {
            // As many bits as before, in other fours.
            let mask = &mut parts.get_mut(MASK).unwrap().bytes;
            (mask[5], mask[6]) = (0xff, 0);
        },
        "row 1, columns 0 to 3: not two of four",
    );
}
