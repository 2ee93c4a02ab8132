//! Linears that a quantization accounts for, and parts that are left over.

use std::fs;
use std::path::Path;

use paring_format::Dtype;
use paring_format::writer::{NamedTensor, write_file};
use serde_json::{Value, json};

use super::accounts::{Accounts, accounts};
use super::*;

const PACKED: &str = "pack_w4a16_g32_sym_bf16";

/// A golden model with its config changed, and with more tensors.
fn changed(model: &str, change: impl Fn(&mut Value), more: Vec<NamedTensor>) -> (tempfile::TempDir, Arc<Checkpoint>) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/ct_models").join(model);
    let dir = tempfile::tempdir().unwrap();
    let mut config: Value = serde_json::from_slice(&fs::read(from.join("config.json")).unwrap()).unwrap();
    change(&mut config["quantization_config"]);
    fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    let file = Checkpoint::open_file(&from.join("model.safetensors")).unwrap();
    let stored = file.stored_names().map(|name| {
        let info = file.info(name).unwrap();
        NamedTensor {
            name: name.to_string(),
            dtype: info.dtype,
            shape: info.shape.clone(),
            bytes: file.read(name).unwrap(),
        }
    });
    write_file(&dir.path().join("model.safetensors"), stored.chain(more).collect()).unwrap();
    let checkpoint = Arc::new(Checkpoint::open(dir.path()).unwrap());
    (dir, checkpoint)
}

/// The accounts of a checkpoint with the linears of `model`, which it is made of.
fn count(checkpoint: &Checkpoint, model: &str) -> Accounts {
    let (_dir, whole) = changed(model, |_| (), Vec::new());
    let decoder = families::open(whole, Precision::F32).unwrap();
    let linears: Vec<LinearInfo> = (0..decoder.blocks()).flat_map(|i| decoder.linears(i)).collect();
    accounts(checkpoint, &linears, &decoder.outer_linears()).unwrap()
}

#[test]
fn every_linear_is_accounted_for() {
    // Model; change of its config; linears that are covered, ignored and neither; words of the notes.
    type Case = (&'static str, fn(&mut Value), [usize; 3], &'static [&'static str]);
    let cases: [Case; 7] = [
        (PACKED, |_| (), [14, 1, 0], &[]),
        ("pack_w8_with_lm_head_bf16", |_| (), [15, 0, 0], &[]),
        ("mixed_w4_fp8_bf16", |_| (), [14, 1, 0], &[]),
        // A class targets the head, too.
        (PACKED, |q| q["ignore"] = json!([]), [15, 0, 0], &[]),
        (
            PACKED,
            |q| q["config_groups"]["group_0"]["targets"] = json!(["re:.*mlp.*"]),
            [6, 1, 8],
            &["8 layers are dense, though quantization_config does not ignore them: model.layers.0.self_attn.", ", …"],
        ),
        (
            PACKED,
            |q| q["config_groups"]["group_0"]["targets"] = json!(["Linear", "re:.*nothing.*"]),
            [14, 1, 0],
            &["the target re:.*nothing.* of group_0 matches no module"],
        ),
        (PACKED, |q| q["ignore"] = json!(["lm_head", "re:.*down_proj"]), [12, 3, 0], &[]),
    ];
    for (model, change, expected, words) in cases {
        let (_dir, checkpoint) = changed(model, change, Vec::new());
        let Accounts { covered, ignored, untargeted, notes } = count(&checkpoint, model);
        assert_eq!([covered, ignored, untargeted], expected, "{model}: {notes:?}");
        let notes = notes.join("; ");
        assert_eq!(notes.is_empty(), words.is_empty(), "{model}: {notes}");
        assert!(words.iter().all(|words| notes.contains(words)), "{model}: {notes}");
    }
}

#[test]
fn a_part_that_no_layout_stores_is_left_over() {
    let module = "model.layers.1.mlp.down_proj";
    let part = |local: &str, dtype: Dtype, shape: &[usize]| {
        let bytes = vec![0; dtype.size() * shape.iter().product::<usize>()];
        NamedTensor { name: format!("{module}.{local}"), dtype, shape: shape.to_vec(), bytes }
    };
    for (model, more, words) in [
        (PACKED, None, ""),
        ("nvfp4a16_bf16", None, ""),
        ("int_w8a8_static_asym_f32", None, ""),
        ("dense_frozen_w8a16_f32", None, ""),
        (
            PACKED,
            Some(part("weight", Dtype::Bf16, &[64, 128])),
            "only the parts of pack-quantized (weight_packed, weight_scale",
        ),
        ("nvfp4a16_bf16", Some(part("weight_shape", Dtype::I64, &[2])), "only the parts of nvfp4-pack-quantized"),
        ("dense_frozen_w8a16_f32", Some(part("weight_shape", Dtype::I64, &[2])), "only the parts of dense (weight, "),
    ] {
        let (_dir, checkpoint) = changed(model, |_| (), more.into_iter().collect());
        let decoder = families::open(checkpoint.clone(), Precision::F32).unwrap();
        let linear = decoder.linears(1).into_iter().find(|linear| linear.name == module).unwrap();
        let c = checkpoint.read_linear(module, linear.rows, linear.cols).unwrap();
        match check_parts(&checkpoint, module, &c) {
            Ok(()) => assert_eq!(words, "", "{model}"),
            Err(error) => {
                let text = error.to_string();
                assert!(!words.is_empty() && text.contains(words), "{model}: {text}");
            }
        }
    }
}
