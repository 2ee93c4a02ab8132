//! Checkpoints that others made, through the binary: every one of `tests/golden/ct_models`.

mod support;

use std::collections::BTreeSet;
use std::fs;

use ring::digest::{SHA256, digest};
use serde_json::Value;

use support::*;

/// The names of all official models.
fn models() -> Vec<String> {
    let entries = fs::read_dir(golden("ct_models")).unwrap().map(|entry| entry.unwrap());
    let mut names: Vec<String> =
        entries.filter(|e| e.path().is_dir()).map(|e| e.file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names.len(), 22);
    names
}

fn path(model: &str) -> String {
    golden("ct_models").join(model).display().to_string()
}

fn expected(model: &str) -> Value {
    json_file(&golden("ct_models").join(model).join("expected.json"))
}

#[test]
fn decompressed_as_the_library_does() {
    let sandbox = Sandbox::empty();
    for model in models() {
        let made = sandbox.json(&format!("decompress {} --out {model}", path(&model)));
        let dense = sandbox.open(&model);
        let want = expected(&model)["decompressed"].as_object().unwrap().clone();
        let names: BTreeSet<&str> = dense.names().collect();
        assert_eq!(names, want.keys().map(String::as_str).collect(), "{model}");
        for (name, want) in &want {
            let t = tensor(&dense, name);
            let hash: String = digest(&SHA256, &t.bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(t.dtype.name(), want["dtype"], "{model}: {name}");
            assert_eq!(serde_json::json!(t.shape), want["shape"], "{model}: {name}");
            assert_eq!(hash, want["sha256"], "{model}: {name}");
        }
        assert!(dense.config().get("quantization_config").is_none(), "{model}");
        assert!(dense.config()["dtype"].is_string() || dense.config()["torch_dtype"].is_string(), "{model}");
        assert_eq!(made["bytes_out"], dense.total_bytes(), "{model}");
        // The output can be checked like that of a run.
        let verified = sandbox.json(&format!("verify {model} --quiet"));
        assert_eq!(verified["digests_checked"], want.len(), "{model}");
    }
}

#[test]
fn scales_of_activations_are_left_out_and_frozen_weights_left_alone() {
    let sandbox = Sandbox::empty();
    for (model, left_out, words) in [
        ("fp8_kvcache_bf16", 4, &[][..]),
        ("float_fp8_static_f16", 14, &[]),
        ("int_w8a8_static_asym_f32", 28, &[]),
        ("nvfp4_w4a4_bf16", 14, &[]),
        ("dense_frozen_w8a16_f32", 0, &["14 matrices", "never compressed"]),
    ] {
        let ran = sandbox.ok(&format!("decompress {} --out {model} --json", path(model)));
        assert_eq!(ran.json()["left_out"], left_out, "{model}");
        assert!(words.iter().all(|word| ran.stderr.contains(word)), "{model}: {}", ran.stderr);
    }
}

#[test]
fn inspected_in_words() {
    let sandbox = Sandbox::empty();
    for (model, words) in [
        ("base_dense_bf16", &["dense, ", " 16.000 bits per weight"][..]),
        ("float_fp8_block32_bf16", &["group_0: 14 linears", "weights fp8 e4m3, blocks of 32 by 32"]),
        ("float_fp8_dynamic_bf16", &["weights fp8 e4m3, per row; inputs fp8 e4m3, per token, dynamic"]),
        ("float_fp8_static_f16", &["weights fp8 e4m3, one scale; inputs fp8 e4m3, one scale, stored scale"]),
        ("fp8_kvcache_bf16", &["keys and values: fp8 e4m3, one scale, stored scale"]),
        ("int_w8a8_static_asym_f32", &["weights 8-bit, per row, symmetric; inputs 8-bit, one scale, asymmetric"]),
        ("mixed_w4_fp8_bf16", &["mixed-precision, ", "weights 4-bit, groups of 32, symmetric; for re:"]),
        ("mxfp4a16_bf16", &["weights fp4 e2m1, groups of 32, power-of-two scales"]),
        ("mxfp8_bf16", &["mxfp8-quantized", "inputs fp8 e4m3, groups of 32, power-of-two scales"]),
        ("nvfp4_w4a4_bf16", &["weights fp4 e2m1, groups of 16 with two-level scales; inputs fp4"]),
        ("pack_w3a16_g32_asym_f32", &["weights 3-bit, groups of 32, asymmetric"]),
        ("spqr_in_int8_container_f32", &["naive-quantized 3-bit, groups of 16, asymmetric", "fractional zero points"]),
    ] {
        let text = sandbox.ok(&format!("inspect {}", path(model))).stdout;
        assert!(words.iter().all(|word| text.contains(word)), "{model}: {words:?}\n{text}");
    }
    for model in models() {
        let summary = sandbox.json(&format!("inspect {}", path(&model)));
        let groups = summary["groups"].as_array().unwrap();
        let linears: u64 = groups.iter().map(|group| group["linears"].as_u64().unwrap()).sum();
        let want = match model.as_str() {
            "base_dense_bf16" => 0,
            "pack_w8_with_lm_head_bf16" => 15,
            _ => 14,
        };
        assert_eq!(linears, want, "{model}");
    }
}

#[test]
fn verified_and_every_linear_accounted_for() {
    let sandbox = Sandbox::empty();
    for model in models() {
        let verified = sandbox.json(&format!("verify {} --quiet", path(&model)));
        let counts = ["linears", "covered", "ignored", "untargeted"].map(|key| verified[key].as_u64().unwrap());
        let want = match model.as_str() {
            "base_dense_bf16" => [14, 0, 0, 0],
            "pack_w8_with_lm_head_bf16" => [14, 15, 0, 0],
            _ => [14, 14, 1, 0],
        };
        assert_eq!(counts, want, "{model}");
        assert_eq!(verified["notes"].as_array().unwrap().len(), 0, "{model}: {}", verified["notes"]);
    }
    // Targets that mean nothing, linears that no entry covers, and scales that a reader would round.
    let mut changed =
        Model::read(&paring_format::Checkpoint::open(&golden("ct_models/pack_w4a16_g32_asym_bf16")).unwrap());
    let quant = &mut changed.config["quantization_config"];
    quant["ignore"] = serde_json::json!([]);
    quant["config_groups"]["group_0"]["targets"] =
        serde_json::json!(["re:.*self_attn.*", "re:.*mlp.*", "re:.*experts.*", "model.layers.9.mlp.up_proj"]);
    let scale = changed.tensor("model.layers.1.mlp.up_proj.weight_scale");
    let wide = paring_format::Dtype::F32.encode(&scale.dtype.decode_f32(&scale.bytes));
    (scale.dtype, scale.bytes) = (paring_format::Dtype::F32, wide);
    changed.write(&sandbox.path("changed"));
    let ran = sandbox.ok("verify changed");
    for words in [
        "note: 1 layers are dense, though quantization_config does not ignore them: lm_head",
        "note: the target re:.*experts.* of group_0 matches no module",
        "note: the target model.layers.9.mlp.up_proj of group_0 matches no module",
        "note: the scales of 1 layers are float32 in a bfloat16 model, and other programs round them to its type: \
         model.layers.1.mlp.up_proj",
    ] {
        assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
    }
    assert!(ran.stdout.contains("14 linears quantized, 0 ignored, 1 unmatched"), "{}", ran.stdout);
}

#[test]
fn a_head_of_its_own_is_not_tied_any_more() {
    let sandbox = Sandbox::empty();
    let from = paring_format::Checkpoint::open(&golden("ct_models/pack_w8_with_lm_head_bf16")).unwrap();
    let mut tied = Model::read(&from);
    tied.config["tie_word_embeddings"] = true.into();
    tied.write(&sandbox.path("tied"));
    let ran = sandbox.ok("decompress tied --out dense");
    assert!(ran.stderr.contains("lm_head is stored separately now"), "{}", ran.stderr);
    assert_eq!(sandbox.open("dense").config()["tie_word_embeddings"], false);
}
