//! `paring convert`: the same numbers in another layout.

mod support;

use std::collections::BTreeMap;

use paring_format::writer::NamedTensor;
use paring_format::{Checkpoint, Scheme};

use support::*;

/// Copies of an official model's files in the folder of this name.
fn official(sandbox: &Sandbox, name: &str) {
    Model::read(&Checkpoint::open(&golden("ct_models").join(name)).unwrap()).write(&sandbox.path(name));
}

fn tensors(checkpoint: &Checkpoint) -> BTreeMap<String, NamedTensor> {
    checkpoint.names().map(|name| (name.to_string(), tensor(checkpoint, name))).collect()
}

/// Formats that hold the same codes, there and back: every step means the same, and the last is what there was.
#[test]
fn there_and_back() {
    let sandbox = Sandbox::empty();
    for (model, way) in [
        ("pack_w4a16_g32_asym_bf16", &["int-quantized", "naive-quantized", "pack-quantized"][..]),
        ("pack_w3a16_g32_asym_f32", &["naive-quantized", "int-quantized", "pack-quantized"]),
        ("pack_w8a16_channel_sym_f16", &["int-quantized", "pack-quantized"]),
        ("pack_w8_with_lm_head_bf16", &["int-quantized", "pack-quantized"]),
        ("int_w8a8_static_asym_f32", &["pack-quantized", "int-quantized"]),
        ("float_fp8_static_f16", &["naive-quantized", "float-quantized"]),
        ("fp8_kvcache_bf16", &["naive-quantized", "float-quantized"]),
        ("naive_fp8_w8a16_bf16", &["float-quantized", "naive-quantized"]),
    ] {
        official(&sandbox, model);
        let before = sandbox.open(model);
        let mut from = model.to_string();
        for (i, format) in way.iter().enumerate() {
            let to = format!("{model}-{i}");
            let made = sandbox.json(&format!("convert {from} --format {format} --out {to}"));
            assert_eq!(made["format"], *format);
            let now = sandbox.open(&to);
            let quant = now.config()["quantization_config"].clone();
            assert_eq!(quant["config_groups"]["group_0"]["format"], *format, "{to}");
            assert_eq!(weights(&now), weights(&before), "{to}");
            assert_eq!(quant["ignore"], before.config()["quantization_config"]["ignore"], "{to}");
            let verified = sandbox.json(&format!("verify {to} --quiet"));
            assert_eq!(verified["formats"][*format], 14, "{to}");
            assert!(verified["digests_checked"].as_u64().unwrap() > 14, "{to}");
            from = to;
        }
        let after = sandbox.open(&from);
        assert_eq!(tensors(&after), tensors(&before), "{model}");
        for key in ["input_activations", "weights"] {
            let args = |c: &Checkpoint| {
                let args = &c.config()["quantization_config"]["config_groups"]["group_0"][key];
                ["num_bits", "strategy", "symmetric", "dynamic"].map(|name| args[name].clone())
            };
            assert_eq!(args(&after), args(&before), "{model}: {key}");
        }
        let cache = |c: &Checkpoint| c.config()["quantization_config"]["kv_cache_scheme"]["num_bits"].clone();
        assert_eq!(cache(&after), cache(&before), "{model}");
    }
}

#[test]
fn one_group_of_several() {
    let sandbox = Sandbox::empty();
    official(&sandbox, "mixed_w4_fp8_bf16");
    let before = sandbox.open("mixed_w4_fp8_bf16");
    let groups = before.config()["quantization_config"]["config_groups"].as_object().unwrap().clone();
    let (packed, _) = groups.iter().find(|(_, group)| group["format"] == "pack-quantized").unwrap();
    let (floats, _) = groups.iter().find(|(_, group)| group["format"] == "float-quantized").unwrap();
    sandbox.ok(&format!("convert mixed_w4_fp8_bf16 --format int-quantized --group {packed} --out part"));
    let part = sandbox.open("part");
    let quant = &part.config()["quantization_config"];
    assert_eq!(quant["format"], "mixed-precision");
    assert_eq!(quant["config_groups"][packed]["format"], "int-quantized");
    assert_eq!(quant["config_groups"][floats]["format"], "float-quantized");
    assert_eq!(weights(&part), weights(&before));
    // Codes of 4 bits are no 8-bit floats.
    let words = ["model.layers.0.", "cannot become float-quantized"];
    sandbox.refused("convert mixed_w4_fp8_bf16 --format float-quantized --out out", 1, &words).unwrap();
    assert!(!sandbox.path("out").exists());
    sandbox.ok(&format!("convert mixed_w4_fp8_bf16 --format dense --group {floats} --out half"));
    assert_eq!(weights(&sandbox.open("half")), weights(&before));
    let verified = sandbox.json("verify half --quiet");
    assert_eq!(
        verified["formats"]["dense"].as_u64().unwrap() + verified["formats"]["pack-quantized"].as_u64().unwrap(),
        14
    );
    let words = ["--group group_9", "group_0"];
    sandbox.refused("convert mixed_w4_fp8_bf16 --format dense --group group_9 --out out", 2, &words).unwrap();
}

#[test]
fn dense_is_what_decompress_writes() {
    let sandbox = Sandbox::empty();
    official(&sandbox, "nvfp4_w4a4_bf16");
    sandbox.ok("decompress nvfp4_w4a4_bf16 --out one");
    let made = sandbox.json("convert nvfp4_w4a4_bf16 --format dense --out two");
    assert_eq!(made["converted"], 14);
    assert_eq!(model_bytes(&sandbox.path("one")), model_bytes(&sandbox.path("two")));
}

#[test]
fn spqr_in_both_of_its_layouts() {
    let sandbox = Sandbox::new();
    Model::golden("llama").stored_as(paring_format::Dtype::F16).write(&sandbox.path("model"));
    sandbox.ok("quantize model calib.safetensors --wbits 3 --groupsize 16 --qq-scale-bits 3 --qq-zero-bits 3 \
         --qq-groupsize 16 --outlier-threshold 0.2 --format spqr --quiet --out theirs");
    sandbox.ok("convert theirs --format paring-spqr --out ours");
    assert_eq!(weights(&sandbox.open("ours")), weights(&sandbox.open("theirs")));
    assert_eq!(sandbox.json("verify ours --quiet")["formats"]["paring-spqr"], 14);
    sandbox.ok("convert ours --format spqr --out again");
    assert_eq!(tensors(&sandbox.open("again")), tensors(&sandbox.open("theirs")));
    let quant = |model: &str| sandbox.open(model).config()["quantization_config"].clone();
    assert_eq!(quant("again"), quant("theirs"));
    assert_eq!(sandbox.perplexity("again"), sandbox.perplexity("ours"));
}

/// A matrix that the layout cannot hold is an error before anything is written.
#[test]
fn what_a_layout_cannot_hold() {
    let sandbox = Sandbox::new();
    let first = "model.layers.0.mlp.down_proj";
    for (model, format, words) in [
        ("pack_w4a16_g32_sym_bf16", "float-quantized", &[first, "cannot become float-quantized"][..]),
        ("pack_w4a16_g32_sym_bf16", "paring-spqr", &[first, "SpQR"]),
        ("float_fp8_dynamic_bf16", "pack-quantized", &[first, "cannot become pack-quantized"]),
        ("spqr_in_int8_container_f32", "pack-quantized", &[first, "cannot become pack-quantized"]),
        ("nvfp4a16_bf16", "mxfp4-pack-quantized", &[first, "cannot become mxfp4-pack-quantized"]),
    ] {
        official(&sandbox, model);
        sandbox.refused(&format!("convert {model} --format {format} --out out"), 1, words).unwrap();
        assert!(!sandbox.path("out").exists(), "{model}");
    }
    let words = ["model.layers.0.mlp.down_proj", "cannot become pack-quantized"];
    sandbox.refused("convert model --format pack-quantized --out out", 1, &words).unwrap();
    sandbox.refused("convert model --format zip --out out", 2, &["--format zip", "pack-quantized"]).unwrap();
    sandbox.refused("convert model --format dense --out model", 2, &["model's own folder"]).unwrap();
    sandbox.refused("convert nowhere --format dense --out out", 1, &["nowhere: not found"]).unwrap();
}

/// Zeros leave the file and come back.
#[test]
fn sparse_formats() {
    let sandbox = Sandbox::new();
    sandbox.ok("sparsify model --method magnitude --pattern 2:4 --quiet --out pruned");
    sandbox.ok(
        "sparsify model calib.safetensors --pattern 2:4 --wbits 8 --sym --format int-quantized --quiet --out bytes",
    );
    for format in ["sparse-24-bitmask", "sparse-bitmask"] {
        for (from, back) in [("pruned", "dense"), ("bytes", "int-quantized")] {
            let to = format!("{from}-{format}");
            let made = sandbox.json(&format!("convert {from} --format {format} --out {to}"));
            assert!(made["bytes_out"].as_u64() < made["bytes_in"].as_u64(), "{to}: {made}");
            assert_eq!(
                json_file(&sandbox.path(&to).join("config.json"))["quantization_config"]["sparsity_config"]["format"],
                format
            );
            assert_eq!(weights(&sandbox.open(&to)), weights(&sandbox.open(from)), "{to}");
            let formats = sandbox.json(&format!("verify {to} --quiet"))["formats"].clone();
            assert!(formats.as_object().unwrap().keys().all(|name| name.starts_with(format)), "{to}: {formats}");
            sandbox.ok(&format!("convert {to} --format {back} --out {to}-back"));
            assert_eq!(tensors(&sandbox.open(&format!("{to}-back"))), tensors(&sandbox.open(from)), "{to}");
        }
    }
    let words = ["model.layers.0.mlp.down_proj", "cannot become sparse-24-bitmask"];
    sandbox.refused("convert model --format sparse-24-bitmask --out out", 1, &words).unwrap();
    assert!(!sandbox.path("out").exists());
}

/// Words of 3-bit codes as releases before 0.18 padded them.
#[test]
fn padded_words_become_those_of_today() {
    let sandbox = Sandbox::empty();
    official(&sandbox, "pack_w3a16_g32_asym_f32");
    let today = sandbox.open("pack_w3a16_g32_asym_f32");
    let layout = paring_format::layouts::layout("pack-quantized").unwrap();
    let mut old = Model::read(&today);
    for module in linears(&today) {
        let scheme = Scheme { padded: true, ..today.linear_format(&module).unwrap().scheme.unwrap() };
        for (local, part) in layout.encode(&scheme, &today.read_module(&module).unwrap()).unwrap() {
            let t = old.tensor(&format!("{module}.{local}"));
            (t.shape, t.bytes) = (part.shape, part.bytes);
        }
    }
    old.config["quantization_config"]["version"] = "0.17.1".into();
    old.write(&sandbox.path("old"));
    assert_ne!(tensors(&sandbox.open("old")), tensors(&today));
    sandbox.ok("convert old --format pack-quantized --out new");
    assert_eq!(tensors(&sandbox.open("new")), tensors(&today));
    assert_eq!(sandbox.open("new").config()["quantization_config"]["version"], "0.20.1");
}
