//! Adapters: applied to models that run, and merged into their weights.

mod support;

use std::fs;

use paring_format::writer::{NamedTensor, write_file};
use paring_format::{Checkpoint, Values};
use serde_json::{Value, json};
use support::*;

/// A golden adapter in the folder of this name, with other settings.
fn adapter(sandbox: &Sandbox, name: &str, from: &str, change: impl FnOnce(&mut Value)) {
    fs::create_dir(sandbox.path(name)).unwrap();
    let golden = golden("training/lora").join(from);
    let mut config = json_file(&golden.join("adapter_config.json"));
    change(&mut config);
    sandbox.write(&format!("{name}/adapter_config.json"), config.to_string());
    let weights = "adapter_model.safetensors";
    fs::copy(golden.join(weights), sandbox.path(&format!("{name}/{weights}"))).unwrap();
}

/// The 2:4 demo in `base`, the golden adapters for it, and the tokens of their losses in `held.safetensors`.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::empty();
    sandbox.ok("prune demo demo --method magnitude --pattern 2:4 --quiet --out base");
    adapter(&sandbox, "qv", "qv", |_| ());
    adapter(&sandbox, "all", "all", |_| ());
    let tokens = Checkpoint::open_file(&golden("training/masked_training/tokens.safetensors")).unwrap();
    let held = NamedTensor { name: "input_ids".into(), ..tensor(&tokens, "held_out") };
    write_file(&sandbox.path("held.safetensors"), vec![held]).unwrap();
    sandbox
}

/// −log p of a token of `held.safetensors`.
fn loss(sandbox: &Sandbox, model: &str) -> f64 {
    let result = sandbox.json(&format!("eval {model} held.safetensors --seqlen 64 --dtype f32 --quiet"));
    result["perplexity"].as_f64().unwrap().ln()
}

#[test]
fn losses_with_adapters_are_peft_s() {
    let sandbox = sandbox();
    let index = json_file(&golden("training/lora/index.json"));
    let near = |got: f64, expected: &Value| {
        let expected = expected.as_f64().unwrap();
        // Of products in f32, and of weights that are not rounded: 5e-6, as the golden data's README has it.
        assert!((got - expected).abs() < 1e-5, "{got}, expected {expected}");
    };
    near(loss(&sandbox, "base"), &index["held_out_loss_base"]);
    for run in index["runs"].as_array().unwrap().iter().filter(|run| run["name"] != "qv_masked") {
        let name = run["name"].as_str().unwrap();
        near(loss(&sandbox, &format!("base --adapter {name}")), &run["held_out_loss"]["adapter"]);
        // Merged under the mask, and rounded to bf16.
        sandbox.ok(&format!("merge base {name} --quiet --out {name}-merged"));
        let merged = loss(&sandbox, &format!("{name}-merged"));
        let expected = run["held_out_loss"]["merged_masked"].as_f64().unwrap();
        assert!((merged - expected).abs() < 2e-3, "{name}: {merged}, expected {expected}");
        sandbox.ok(&format!("verify {name}-merged"));
    }
    let made = sandbox.json("eval base held.safetensors --seqlen 64 --adapter qv");
    assert_eq!(made["adapter"], "qv");
    let text = sandbox.ok("eval base held.safetensors --seqlen 64 --adapter qv").stdout;
    assert!(text.contains(", with the adapter qv"), "{text}");
}

#[test]
fn texts_are_those_of_the_merged_model() {
    let sandbox = sandbox();
    sandbox.ok("merge base all --masks drop --quiet --out merged");
    let text = |model: &str| {
        let made = sandbox.json(&format!("generate {model} --prompt sesnir --temperature 0 -n 24 --dtype f32 --quiet"));
        (made["text"].as_str().unwrap().to_string(), made["adapter"].clone())
    };
    let (with, told) = text("base --adapter all");
    assert_eq!((with, told), (text("merged").0, json!("all")));
    assert_eq!(text("base").1, Value::Null);
    let ran = sandbox.ok("generate base --prompt sesnir -n 2 --adapter all");
    assert!(ran.stderr.contains("note: with the adapter all"), "{}", ran.stderr);
    // A base in codes takes the adapter as well, packed or not.
    sandbox.ok("quantize base demo --wbits 4 --groupsize 32 --method rtn --quiet --out w4");
    let plain = loss(&sandbox, "w4");
    assert!(loss(&sandbox, "w4 --adapter all") < plain - 0.01, "{plain}");
    sandbox.ok("generate w4 --prompt sesnir -n 2 --adapter all");
}

#[test]
fn merging_into_codes_says_what_it_loses() {
    let sandbox = sandbox();
    sandbox.ok("quantize demo demo --wbits 4 --groupsize 32 --method rtn --quiet --out w4");
    let lost = |made: &Value, key: &str| made["loss"][key].as_f64().unwrap();
    // The changes of ten steps of training are a small part of a step of 4 bits: most are lost.
    let few = sandbox.json("merge w4 all --dry-run --out merged");
    assert!(!sandbox.path("merged").exists() && few["out"].is_null());
    assert!(lost(&few, "vanished") > 0.8 && lost(&few, "rounding") > 0.5 && lost(&few, "distance") < 0.1, "{few}");
    // Of larger ones less.
    adapter(&sandbox, "strong", "all", |config| config["lora_alpha"] = json!(640));
    let dry = sandbox.json("merge w4 strong --dry-run --out merged");
    let ran = sandbox.ok("merge w4 strong --out merged");
    assert!(ran.stdout.contains("42 matrices rounded to the grids that they have"), "{}", ran.stdout);
    let made = sandbox.json("merge w4 strong --out again");
    assert_eq!((&made["merged"], &made["rounded"], &made["masked"]), (&json!(42), &json!(42), &json!(0)));
    assert_eq!(made["loss"], dry["loss"]);
    assert!(lost(&made, "vanished") < lost(&few, "vanished") && lost(&made, "rounding") < 0.9, "{made}");
    assert_eq!(sandbox.open("merged").config(), sandbox.open("w4").config());
    let codes = |model: &str| {
        let c = sandbox.open(model).read_linear("model.layers.0.mlp.up_proj", 384, 128).unwrap();
        let Values::Codes { codes, grid } = c.values else { panic!("no codes") };
        (codes, grid)
    };
    let ((before, grid), (after, same)) = (codes("w4"), codes("merged"));
    assert!(before != after && grid == same);
    sandbox.ok("verify merged");
    for format in ["int-quantized", "naive-quantized"] {
        sandbox.ok(&format!("convert w4 --format {format} --quiet --out {format}"));
        let other = sandbox.json(&format!("merge {format} strong --out {format}-merged"));
        assert_eq!(other["loss"], made["loss"], "{format}");
        sandbox.ok(&format!("verify {format}-merged"));
    }
    // Pruned codes keep their zeros, and their format that has no others.
    sandbox.ok("quantize base --method rtn --wbits 4 --groupsize 32 --sym --quiet --out sparse4");
    let made = sandbox.json("merge sparse4 all --out sparse4-merged");
    assert_eq!((&made["masked"], &made["loss"]["zeros_before"]), (&json!(42), &made["loss"]["zeros_before"]));
    assert!(made["loss"]["zeros_after"].as_f64() >= made["loss"]["zeros_before"].as_f64());
    sandbox.ok("quantize demo demo --target-bits 4 --quiet --nsamples 8 --seqlen 64 --out spqr");
    assert_eq!(sandbox.json("merge spqr qv --out spqr-merged")["rounded"], 12);
    sandbox.ok("verify spqr-merged");
}

#[test]
fn sparse_storage_is_written_whole() {
    let sandbox = sandbox();
    sandbox.ok("convert base --format sparse-24-bitmask --quiet --out sparse");
    let made = sandbox.json("merge sparse qv --out merged");
    assert!(made["notes"].to_string().contains("weights that were stored sparse are written whole"), "{made}");
    let merged = sandbox.open("merged");
    assert!(merged.config()["quantization_config"].is_null());
    sandbox.ok("merge base qv --quiet --out other");
    assert!(weights(&merged) == weights(&sandbox.open("other")));
}

#[test]
fn what_does_not_belong_is_refused_in_a_line() {
    let sandbox = sandbox();
    adapter(&sandbox, "dora", "qv", |config| config["use_dora"] = json!(true));
    adapter(&sandbox, "rank", "qv", |config| config["r"] = json!(4));
    adapter(&sandbox, "targets", "qv", |config| config["target_modules"] = json!(["q_proj"]));
    Model::golden("llama").write(&sandbox.path("llama"));
    Model::golden("falcon_alibi").write(&sandbox.path("falcon"));
    for (run, code, words) in [
        ("merge base none --out out", 1, &["none: not a folder", "adapter_config.json"][..]),
        ("merge base base --out out", 1, &["no adapter_config.json here"]),
        ("merge base dora --out out", 1, &["dora/adapter_config.json: use_dora", "PEFT"]),
        ("eval base held.safetensors --adapter rank", 1, &["lora_A of [4, inputs]", "[8, 128]"]),
        ("generate base --prompt a --adapter targets", 1, &["v_proj", "target_modules"]),
        ("merge llama qv --out out", 1, &["q_proj", "expected factors for"]),
        ("merge falcon qv --out out", 1, &["query_key_value"]),
        ("merge base qv --out qv", 2, &["--out qv", "the adapter's own folder"]),
        ("merge base qv --out base", 2, &["the model's own folder"]),
        ("merge base qv --masks maybe --out out", 2, &["--masks"]),
    ] {
        sandbox.refused(run, code, words).unwrap();
    }
    sandbox.ok("merge base qv --quiet --out made");
    sandbox.refused("merge base qv --out made", 1, &["--overwrite"]).unwrap();
    sandbox.ok("merge base qv --quiet --overwrite --out made");
}
