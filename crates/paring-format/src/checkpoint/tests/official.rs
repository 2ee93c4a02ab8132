//! Complete models as compressed-tensors stores them, weight by weight.

use std::fs;
use std::path::Path;

use ring::digest::{SHA256, digest};
use serde_json::Value;

use super::*;
use crate::{Compressed, Values};

fn sha256(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Errors of rounding are at most half a step: the weights of a frozen model are on their grid, and near what is stored.
fn check_rounded(stored: &[f32], rounded: &Compressed) {
    let Values::Codes { grid, .. } = &rounded.values else { panic!("not rounded") };
    for (row, (dense, scale)) in rounded.to_dense().chunks_exact(rounded.cols).zip(&grid.scales).enumerate() {
        let near = dense.iter().zip(&stored[row * rounded.cols..]).all(|(a, b)| (a - b).abs() <= 0.5001 * scale);
        assert!(near, "row {row}");
        assert_ne!(dense, &stored[row * rounded.cols..][..rounded.cols]);
    }
}

#[test]
fn every_weight_is_what_the_library_decompresses() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/ct_models");
    let dirs = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let mut formats = std::collections::BTreeMap::new();
    for dir in dirs {
        let checkpoint = Checkpoint::open(&dir).unwrap();
        let expected: Value = serde_json::from_slice(&fs::read(dir.join("expected.json")).unwrap()).unwrap();
        for (name, weight) in expected["decompressed"].as_object().unwrap() {
            let place = format!("{}: {name}", dir.display());
            let linear = name.strip_suffix(".weight").filter(|name| name.ends_with("_proj") || *name == "lm_head");
            let (dtype, shape, bytes) = match linear {
                None => {
                    let info = checkpoint.info(name).unwrap();
                    (info.dtype, info.shape.clone(), checkpoint.read(name).unwrap())
                }
                Some(module) => {
                    let format = checkpoint.linear_format(module).unwrap();
                    *formats.entry(format.layout).or_insert(0) += 1;
                    let c = checkpoint.read_module(module).unwrap();
                    assert_eq!(checkpoint.linear_shape(module).unwrap(), Some((c.rows, c.cols)), "{place}");
                    let mut dense = c.to_dense();
                    if format.layout == "dense" && format.scheme.is_some() {
                        let stored = checkpoint.read_f32(name, &[c.rows, c.cols]).unwrap();
                        check_rounded(&stored, &c);
                        dense = stored;
                    }
                    (c.dtype, vec![c.rows, c.cols], c.dtype.encode(&dense))
                }
            };
            assert_eq!(dtype.name(), weight["dtype"], "{place}");
            assert_eq!(serde_json::json!(shape), weight["shape"], "{place}");
            assert_eq!(sha256(&bytes), weight["sha256"], "{place}");
        }
    }
    let expected = [
        ("dense", 15 + 14 + 20),
        ("float-quantized", 4 * 14 + 8),
        ("int-quantized", 2 * 14),
        ("mxfp4-pack-quantized", 2 * 14),
        ("mxfp8-quantized", 14),
        ("naive-quantized", 2 * 14),
        ("nvfp4-pack-quantized", 2 * 14),
        ("pack-quantized", 5 * 14 + 15 + 6),
    ];
    assert_eq!(formats.into_iter().collect::<Vec<_>>(), expected);
}
