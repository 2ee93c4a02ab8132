use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::writer::{InputFiles, NamedFile, NamedTensor, tensor_file, write_file};

fn tensor(name: &str, dtype: Dtype, shape: &[usize], bytes: &[u8]) -> NamedTensor {
    NamedTensor { name: name.into(), dtype, shape: shape.to_vec(), bytes: bytes.to_vec() }
}

/// Two rows of ten: the bits that stay are those of 0b…01 and all.
fn bits() -> Bits {
    let weight: Vec<f32> = (0..20).map(|i| if i == 0 || i >= 10 { 0.5 } else { -0.0 }).collect();
    Bits::of_weight(2, 10, &weight).unwrap()
}

fn written(dir: &Path) -> PathBuf {
    let path = dir.join("masks.safetensors");
    let inputs = InputFiles::default();
    let file = NamedFile { path: &path, inputs: &inputs, is_own: &is_own, overwrite: false };
    let module = |name: &str| MaskedModule { name: name.into(), rows: 2, cols: 10 };
    let mut digest = Digest::default();
    ["a", "a.b"].iter().for_each(|name| digest.add(name, &bits()));
    // A second time it is its own.
    for _ in 0..2 {
        write(&file, &[module("a"), module("a.b")], digest.finish(), &mut |_| Ok(bits())).unwrap();
    }
    path
}

#[test]
fn bits_are_what_the_weights_are() {
    let bits = bits();
    assert_eq!(bits.bytes(), [1, 0, 255, 3]);
    assert_eq!(bits.removed(), [&[0u8][..], &[1; 9], &[0; 10]].concat());
    assert!(bits.kept(0, 0) && !bits.kept(0, 1) && bits.kept(1, 9) && !bits.kept(1, 10) && !bits.kept(2, 0));
    assert_eq!(bits.row(0).collect::<Vec<_>>(), [&[true][..], &[false; 9]].concat());
    assert_eq!((bits.row(2).count(), bits.iter().count(), bits.iter().filter(|kept| *kept).count()), (0, 20, 11));
    assert_eq!((bits.kept_in_row(0), bits.kept_in_row(1), bits.kept_in_row(7), bits.count()), (1, 10, 0, 11));
    let mut weight = vec![1.0; 21];
    bits.apply(&mut weight);
    assert_eq!(weight, [&[1.0][..], &[0.0; 9], &[1.0; 11]].concat());
    assert!((bits.sparsity() - 0.45).abs() < 1e-12);
    assert_eq!(bits.check(2, 2), Ok(()));
    assert_eq!(bits.check(1, 2), Err(Crowded { row: 1, column: 0, kept: 2 }));
    assert_eq!(bits.check(3, 4), Err(Crowded { row: 1, column: 0, kept: 4 }));
    assert_eq!(Bits::of_weight(2, 10, &[0.0; 19]), None);
    assert_eq!(Bits::from_packed(2, 10, vec![255; 4]).unwrap().bytes(), [255, 3, 255, 3]);
    assert!(Bits::from_packed(2, 0, vec![]).is_none() && Bits::from_packed(usize::MAX, 99, vec![]).is_none());
}

#[test]
fn patterns_are_found() {
    let of = |cols: usize, keep: &dyn Fn(usize) -> bool| {
        let weight: Vec<f32> = (0..4 * cols).map(|i| f32::from(u8::from(keep(i)))).collect();
        Bits::of_weight(4, cols, &weight).unwrap().pattern()
    };
    assert_eq!(of(32, &|i| i % 4 < 2), Some((2, 4)));
    assert_eq!(of(32, &|i| i % 2 == 0), Some((1, 2)));
    assert_eq!(of(32, &|i| i % 4 == 3), Some((1, 4)));
    assert_eq!(of(32, &|i| i % 8 < 4), Some((4, 8)));
    // A zero of rounding more, and columns that fours do not divide.
    assert_eq!(of(32, &|i| i % 4 < 2 && i > 0), Some((2, 4)));
    assert_eq!(of(6, &|i| i % 2 == 0), Some((1, 2)));
    assert_eq!((of(24, &|i| i % 8 < 4), of(12, &|i| i % 12 < 6)), (Some((4, 8)), None));
    // None: a full group, and few weights that stay as they come.
    assert_eq!(of(32, &|i| i % 4 < 2 || i < 32), None);
    assert_eq!(of(32, &|i| [3, 4, 40, 41, 42, 90].contains(&i)), None);
}

#[test]
fn a_file_is_read_as_it_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let masks = Masks::open(&written(dir.path())).unwrap();
    assert_eq!(masks.modules().collect::<Vec<_>>(), [("a", 2, 10), ("a.b", 2, 10)]);
    assert_eq!((masks.of("a"), masks.of("b"), masks.shape("a.b")), (Some(bits()), None, Some((2, 10))));
    // The bytes are those that docs/formats.md promises.
    let bytes = fs::read(masks.path()).unwrap();
    assert!(bytes.ends_with(&[1, 0, 255, 3, 1, 0, 255, 3]) && is_own(&bytes[..200]));
    let header = String::from_utf8_lossy(&bytes).into_owned();
    for part in [
        r#""mask_version":"1""#,
        r#""mask_shapes":"{\"a\":[2,10],\"a.b\":[2,10]}""#,
        r#""a.mask":{"dtype":"U8","shape":[2,2],"data_offsets":[0,4]}"#,
        &format!(r#""mask_digest":"{:016x}""#, masks.digest()),
    ] {
        assert!(header.contains(part), "{part}: {header}");
    }
    let mut content = Vec::new();
    for name in ["a", "a.b"] {
        content.extend([name.as_bytes(), &[0], &2u64.to_le_bytes(), &10u64.to_le_bytes(), &[1, 0, 255, 3]].concat());
    }
    assert_eq!(masks.digest(), xxhash_rust::xxh3::xxh3_64(&content));
}

#[test]
fn masks_of_other_programs_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("plain.safetensors");
    let plain: Vec<u8> = bits().iter().map(u8::from).collect();
    let floats: Vec<f32> = plain.iter().map(|&kept| f32::from(kept)).collect();
    let own = Masks::open(&written(dir.path())).unwrap().digest();
    for (first, second) in [("a.mask", "a.b.mask"), ("a._weight_mask", "a.b.weight_mask")] {
        for (dtype, bytes) in
            [(Dtype::Bool, plain.clone()), (Dtype::U8, plain.clone()), (Dtype::Bf16, Dtype::Bf16.encode(&floats))]
        {
            let other = tensor("a.weight_orig", Dtype::U8, &[1], &[7]);
            let masks = [first, second].map(|name| tensor(name, dtype, &[2, 10], &bytes));
            write_file(&path, [masks.to_vec(), vec![other]].concat()).unwrap();
            let masks = Masks::open(&path).unwrap();
            // The same masks, in whatever form.
            assert_eq!((masks.of("a.b"), masks.digest()), (Some(bits()), own), "{first} {dtype}");
        }
    }
    write_file(&path, vec![tensor("a.weight._weight_mask", Dtype::U8, &[2, 10], &plain)]).unwrap();
    assert_eq!(Masks::open(&path).unwrap().of("a"), Some(bits()));
}

#[test]
fn bad_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let good = fs::read(written(dir.path())).unwrap();
    let path = dir.path().join("bad.safetensors");
    let refused = |words: &[&str]| {
        let error = Masks::open(&path).unwrap_err().to_string();
        let missing: Vec<_> = words.iter().filter(|word| !error.contains(**word)).collect();
        assert!(missing.is_empty() && error.lines().count() == 1, "{missing:?}: {error}");
    };
    // Cut off anywhere.
    for end in 0..good.len() {
        fs::write(&path, &good[..end]).unwrap();
        refused(&["bad.safetensors: "]);
    }
    // Changed bits: one that counts, and one after the columns.
    for (at, bit, words) in [(4, 2, "it was changed"), (1, 4, "the mask of a.b: row 1: bits after its 10 columns")] {
        let mut bytes = good.clone();
        let last = bytes.len() - at;
        bytes[last] |= bit;
        fs::write(&path, &bytes).unwrap();
        refused(&[words]);
    }
    let metadata = |tensors: &[NamedTensor], notes: &[(&str, &str)]| {
        let (pieces, _) = tensor_file("bad", tensors.to_vec(), notes).unwrap();
        fs::write(&path, pieces.concat()).unwrap();
    };
    let mask = |dtype, shape: &[usize]| tensor("a.mask", dtype, shape, &[0, 0, 0, 0]);
    let shapes = |text| (SHAPES, text);
    let [ten, digest] = [r#"{"a": [2, 10]}"#, "0123456789abcdef"];
    for (tensor, notes, words) in [
        (mask(Dtype::U8, &[2, 2]), vec![FORMAT], ["version no, expected 1", "export"]),
        (mask(Dtype::U8, &[2, 2]), vec![FORMAT, ("mask_version", "2")], ["version 2, expected 1", "export"]),
        (mask(Dtype::U8, &[2, 2]), vec![FORMAT, VERSION], ["mask_shapes", "export"]),
        (mask(Dtype::U8, &[2, 2]), vec![FORMAT, VERSION, shapes("[]")], ["mask_shapes", "export"]),
        (mask(Dtype::U8, &[2, 2]), vec![FORMAT, VERSION, shapes(r#"{"a": [0, 9]}"#)], ["a.mask", "[rows, columns]"]),
        (mask(Dtype::U8, &[2, 2]), vec![FORMAT, VERSION, shapes(r#"{"a": [2, -1]}"#)], ["a.mask", "[rows, columns]"]),
        (mask(Dtype::U8, &[4, 1]), vec![FORMAT, VERSION, shapes(ten)], ["U8 [4, 1]", "expected U8 [2, 2]"]),
        (mask(Dtype::Bool, &[2, 2]), vec![FORMAT, VERSION, shapes(ten)], ["BOOL [2, 2]", "expected U8 [2, 2]"]),
        (mask(Dtype::U8, &[2, 2]), vec![FORMAT, VERSION, shapes(ten)], ["no mask_digest", "export"]),
        (mask(Dtype::U8, &[2, 2]), vec![FORMAT, VERSION, shapes(ten), (DIGEST, digest)], [digest, "changed"]),
        (
            mask(Dtype::U8, &[2, 2]),
            vec![FORMAT, VERSION, shapes(r#"{"a": [2, 10], "b": [1, 1]}"#)],
            ["no tensor b.mask", "export"],
        ),
        (
            mask(Dtype::U8, &[2, 2]),
            vec![FORMAT, VERSION, shapes(r#"{"a": [2, 18446744073709551615]}"#)],
            ["a.mask", "expected U8"],
        ),
        (tensor("a", Dtype::U8, &[1], &[1]), vec![FORMAT, VERSION, shapes(ten)], ["a is no mask", ".mask"]),
        (tensor("a", Dtype::U8, &[1], &[1]), vec![], ["no masks", "._weight_mask"]),
        (tensor(".mask", Dtype::U8, &[1, 1], &[1]), vec![], ["no masks", "._weight_mask"]),
        (mask(Dtype::U8, &[4]), vec![], ["a.mask: shape [4]", "[rows, columns]"]),
        (tensor("a.mask", Dtype::U8, &[0, 4], &[]), vec![], ["a.mask: shape [0, 4]", "empty"]),
        (mask(Dtype::I8, &[2, 2]), vec![], ["a.mask: type I8", "expected 0 and 1"]),
        (tensor("a.mask", Dtype::U8, &[2, 2], &[0, 1, 1, 2]), vec![], ["a: 2 in row 1, column 1", "0 or 1"]),
        (
            tensor("a.mask", Dtype::F32, &[1, 2], &Dtype::F32.encode(&[1.0, f32::NAN])),
            vec![],
            ["a: NaN in row 0, column 1", "0 or 1"],
        ),
    ] {
        metadata(&[tensor], &notes);
        refused(&words);
    }
    metadata(&[mask(Dtype::U8, &[2, 2]), tensor("a.weight_mask", Dtype::U8, &[1, 1], &[1])], &[]);
    refused(&["two masks of a"]);
}

#[test]
fn errors_of_masks_leave_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("masks.safetensors");
    let inputs = InputFiles::default();
    let file = NamedFile { path: &path, inputs: &inputs, is_own: &is_own, overwrite: false };
    let modules =
        [MaskedModule { name: "a".into(), rows: 2, cols: 10 }, MaskedModule { name: "b".into(), rows: 1, cols: 10 }];
    let error = write(&file, &modules, 0, &mut |_| Ok(bits())).unwrap_err().to_string();
    assert!(error.contains("b: its shape changed"), "{error}");
    let fails = |_: &MaskedModule| Err(Error::shard("model", "broken"));
    assert_eq!(write(&file, &modules, 0, &mut { fails }).unwrap_err().to_string(), "model: broken");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
