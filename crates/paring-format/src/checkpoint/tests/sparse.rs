use serde_json::json;

use super::*;
use crate::layouts::sparse::{MASK, OFFSETS, SHAPE, Sparse, VALUES};
use crate::testing::Rng;
use crate::writer::Destination;
use crate::{Dtype, Layout, LayoutPart, LayoutParts, NamedTensor, Values, Writer};

/// A weight whose second half of every four is zero.
fn half(rng: &mut Rng, dtype: Dtype, shape: &[usize]) -> LayoutPart {
    let number = |i: usize, rng: &mut Rng| match (i % 4, dtype) {
        (2 | 3, _) => vec![0; dtype.size()],
        (_, Dtype::I8 | Dtype::F8E4M3) => vec![1 + rng.below(100) as u8],
        _ => dtype.encode(&[rng.float(dtype)]),
    };
    let bytes = (0..shape.iter().product()).flat_map(|i| number(i, rng)).collect();
    LayoutPart { dtype, shape: shape.to_vec(), bytes }
}

fn tensors(prefix: &str, parts: LayoutParts) -> Vec<NamedTensor> {
    let named = |(local, part): (&str, LayoutPart)| (format!("{prefix}.{local}"), part);
    let tensor = |(name, part): (String, LayoutPart)| NamedTensor {
        name,
        dtype: part.dtype,
        shape: part.shape,
        bytes: part.bytes,
    };
    parts.into_iter().map(named).map(tensor).collect()
}

/// A checkpoint of these tensors in as many files.
fn open(files: Vec<Vec<NamedTensor>>, config: Value) -> Result<Checkpoint> {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::create(&Destination::new(dir.path(), files.len())).unwrap();
    for (i, tensors) in files.into_iter().enumerate() {
        writer.shard(i, tensors).unwrap();
    }
    writer.finish(&config, &[]).unwrap();
    Checkpoint::open(dir.path())
}

#[test]
fn parts_are_shown_as_what_they_stand_for() {
    let mut rng = Rng(31);
    for sparse in [Sparse::NonZero, Sparse::TwoOfFour] {
        // The last one has fours that cross rows.
        for (dtype, shape) in [
            (Dtype::F32, &[5, 36][..]),
            (Dtype::Bf16, &[7]),
            (Dtype::I8, &[3, 20]),
            (Dtype::F8E4M3, &[9, 8]),
            (Dtype::F16, &[6, 10]),
        ] {
            if sparse == Sparse::TwoOfFour && shape.len() == 1 {
                continue;
            }
            let weight = half(&mut rng, dtype, shape);
            let parts = sparse.compress(&weight, false).unwrap();
            let stored: usize = parts.values().map(|part| part.bytes.len()).sum();
            for prefix in ["m", "m.weight"] {
                let mut all = tensors(prefix, parts.clone());
                let mut names: Vec<String> = all.iter().map(|tensor| tensor.name.clone()).collect();
                names.push("n.shape".into());
                // In two files, beside a tensor that only looks like a part.
                let mut second = all.split_off(2);
                let part = LayoutPart { dtype: Dtype::U8, shape: vec![2], bytes: vec![1, 2] };
                second.extend(tensors("n", LayoutParts::from([("shape", part)])));
                let checkpoint = open(vec![all, second], json!({})).unwrap();
                assert_eq!(checkpoint.names().collect::<Vec<_>>(), ["m.weight", "n.shape"]);
                let mut stored_names: Vec<&str> = checkpoint.stored_names().collect();
                stored_names.sort_unstable();
                names.sort_unstable();
                assert_eq!(stored_names, names);
                assert_eq!(checkpoint.total_bytes(), stored as u64 + 2);
                let info = checkpoint.info("m.weight").unwrap();
                assert_eq!((info.dtype, &info.shape[..]), (dtype, shape));
                assert_eq!((info.bytes(), info.stored_bytes()), (weight.bytes.len(), stored));
                assert_eq!((info.sparse(), checkpoint.info("n.shape").unwrap().sparse()), (Some(sparse.name()), None));
                assert_eq!(checkpoint.read("m.weight").unwrap(), weight.bytes, "{dtype} {shape:?}");
                let row = weight.bytes.len() / shape[0];
                for first in 0..=shape[0] {
                    for count in 0..=shape[0] - first {
                        let rows = checkpoint.read_rows("m.weight", first, count).unwrap();
                        assert_eq!(rows, weight.bytes[first * row..(first + count) * row], "{shape:?} {first} {count}");
                    }
                }
                if dtype.is_float() {
                    assert_eq!(checkpoint.read_f32("m.weight", shape).unwrap(), dtype.decode_f32(&weight.bytes));
                }
                if dtype.is_float() && shape.len() == 2 {
                    let c = checkpoint.read_linear("m", shape[0], shape[1]).unwrap();
                    assert_eq!(c.values, Values::Dense(dtype.decode_f32(&weight.bytes)));
                    assert_eq!(checkpoint.linear_format("m").unwrap().describe(), sparse.name());
                }
            }
        }
    }
}

#[test]
fn bad_parts_are_refused_when_opened() {
    let weight = half(&mut Rng(32), Dtype::F16, &[5, 36]);
    let check = |sparse: Sparse, change: &dyn Fn(&mut LayoutParts), wanted: &[&str]| {
        let mut parts = sparse.compress(&weight, false).unwrap();
        change(&mut parts);
        let text = open(vec![tensors("m", parts)], json!({})).expect_err("an error").to_string();
        assert!(!text.contains('\n'), "{text}");
        for part in wanted.iter().chain(&["model.safetensors"]) {
            assert!(text.contains(part), "{text:?} lacks {part:?}");
        }
    };
    for sparse in [Sparse::NonZero, Sparse::TwoOfFour] {
        for gone in [VALUES, MASK, SHAPE] {
            check(sparse, &|parts| drop(parts.remove(gone)), &[&format!("no tensor m.{gone}; the module has")]);
        }
        check(
            sparse,
            &|parts| parts.get_mut(MASK).unwrap().shape = vec![25],
            &["m.bitmask: shape [25], expected [5, 5]"],
        );
        check(sparse, &|parts| parts.get_mut(MASK).unwrap().bytes[0] = 0xff, &["m.", "row "]);
        check(sparse, &|parts| parts.get_mut(MASK).unwrap().bytes[24] |= 0x80, &["m.bitmask: row 4", "36 columns"]);
        check(sparse, &|parts| parts.get_mut(SHAPE).unwrap().bytes[7] = 0x40, &["m.shape: ", "larger than any file"]);
        check(
            sparse,
            &|parts| {
                // A shape of a million dimensions.
                let part = LayoutPart { dtype: Dtype::I64, shape: vec![1 << 20], bytes: vec![1; 8 << 20] };
                parts.insert(SHAPE, part);
            },
            &["shape"],
        );
        let plain = LayoutPart { dtype: Dtype::F16, shape: vec![1], bytes: vec![0; 2] };
        check(sparse, &|parts| drop(parts.insert("weight", plain.clone())), &["m.compressed stands for m.weight"]);
    }
    let offsets = "m.row_offsets: 19 for row 1, expected 18";
    check(Sparse::NonZero, &|parts| parts.get_mut(OFFSETS).unwrap().bytes[8] += 1, &[offsets]);
    check(Sparse::NonZero, &|parts| drop(parts.remove(OFFSETS)), &["m.row_offsets"]);
    let longer = |parts: &mut LayoutParts| {
        let values = parts.get_mut(VALUES).unwrap();
        values.shape[0] += 1;
        values.bytes.extend([0; 2]);
    };
    check(Sparse::NonZero, &longer, &["m.compressed: 91 values, expected 90"]);
}

#[test]
fn a_configuration_may_promise_what_is_stored_plain() {
    let weight = half(&mut Rng(33), Dtype::Bf16, &[4, 8]);
    let config = json!({"quantization_config": {"quant_method": "compressed-tensors", "version": "0.9.1",
        "sparsity_config": {"format": "sparse-24-bitmask", "targets": ["Linear"], "ignore": ["lm_head"],
            "global_sparsity": 0.43, "registry_requires_subclass": false, "sparsity_structure": "2:4"}}});
    let plain = LayoutParts::from([("weight", weight.clone())]);
    let plain = open(vec![tensors("m", plain)], config.clone()).unwrap();
    let sparse = open(vec![tensors("m", Sparse::TwoOfFour.compress(&weight, false).unwrap())], config.clone()).unwrap();
    assert_eq!(plain.read_linear("m", 4, 8).unwrap(), sparse.read_linear("m", 4, 8).unwrap());
    assert_eq!(plain.linear_format("m").unwrap().describe(), "dense");
    assert_eq!(sparse.linear_format("m").unwrap().describe(), "sparse-24-bitmask");
    let quant = plain.quant_config().unwrap().unwrap();
    assert_eq!(quant.to_json(), config["quantization_config"]);
    assert_eq!(quant.sparsity.unwrap().global, 0.43);
}

#[test]
fn damaged_sparse_files_never_panic() {
    let mut rng = Rng(34);
    let weight = half(&mut rng, Dtype::F16, &[6, 10]);
    let mut all = tensors("m", Sparse::NonZero.compress(&weight, false).unwrap());
    all.extend(tensors("n.weight", Sparse::TwoOfFour.compress(&weight, false).unwrap()));
    let dir = tempfile::tempdir().unwrap();
    crate::writer::write_file(&dir.path().join(SINGLE), all).unwrap();
    let whole = std::fs::read(dir.path().join(SINGLE)).unwrap();
    let mut opened = 0;
    for _ in 0..4000 {
        let mut bytes = whole.clone();
        for _ in 0..1 + rng.below(2) {
            let at = rng.below(bytes.len());
            // Digits stay digits: numbers that are wrong are the ones worth trying.
            let digit = bytes[at].is_ascii_digit() && rng.below(4) > 0;
            bytes[at] = if digit { b'0' + rng.below(10) as u8 } else { rng.next() as u8 };
        }
        let bytes: &'static [u8] = Box::leak(bytes.into_boxed_slice());
        let Ok(checkpoint) = Checkpoint::from_memory("fuzz", "{}", &[("f", bytes)]) else { continue };
        opened += 1;
        for name in checkpoint.names() {
            let info = checkpoint.info(name).unwrap();
            assert_eq!(checkpoint.read(name).unwrap().len(), info.bytes());
            checkpoint.read_rows(name, 1, 1).map(drop).unwrap_or(());
        }
        checkpoint.read_linear("n", 6, 10).map(drop).unwrap_or(());
    }
    assert!(opened > 100, "only {opened} files could be opened: the damage is too great to test anything");
}
