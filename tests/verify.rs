//! `paring verify`: good checkpoints, and everything that can be wrong with one.

mod support;

use std::fs;

use paring_format::Dtype;
use paring_format::writer::NamedTensor;
use serde_json::{Value, json};

use support::*;

const QUANTIZE: &str = "quantize model calib.safetensors --wbits 4 --groupsize 16 --quiet";
const Q: &str = "model.layers.0.self_attn.q_proj";

/// The error of verify for a broken folder.
fn check(sandbox: &Sandbox, model: &str, words: &[&str]) {
    sandbox.refused(&format!("verify {model}"), 1, words).unwrap();
}

/// A folder of another one's files but for the weights and the config, which are in one file.
fn changed(sandbox: &Sandbox, from: &str, change: impl FnOnce(&mut Model)) {
    let mut model = Model::read(&sandbox.open(from));
    change(&mut model);
    let to = sandbox.path("changed");
    let _ = fs::remove_dir_all(&to);
    model.write(&to);
    if let Ok(report) = fs::read(sandbox.path(from).join("paring.json")) {
        fs::write(to.join("paring.json"), report).unwrap();
    }
}

fn edit_json(sandbox: &Sandbox, file: &str, change: impl FnOnce(&mut Value)) {
    let mut value = json_file(&sandbox.path(file));
    change(&mut value);
    sandbox.write(file, value.to_string());
}

#[test]
fn every_output_is_right() {
    let sandbox = Sandbox::new();
    sandbox.ok(&format!("{QUANTIZE} --out packed"));
    sandbox.ok(&format!("{QUANTIZE} --layers 1..2 --outlier-threshold 0.2 --out spqr"));
    sandbox.ok("quantize model --method rtn --wbits 8 --format int-quantized --quiet --out bytes");
    sandbox.ok("sparsify model --method magnitude --pattern 2:4 --quiet --out sparse");
    for (model, formats, digests) in [
        ("packed", json!({"pack-quantized": 14}), 21),
        ("spqr", json!({"dense": 7, "paring-spqr": 7}), 21),
        ("bytes", json!({"int-quantized": 14}), 21),
        ("sparse", json!({"dense": 14}), 21),
        ("model", json!({"dense": 14}), 0),
        ("demo", json!({"dense": 42}), 0),
    ] {
        let result = sandbox.json(&format!("verify {model}"));
        assert_eq!((&result["ok"], &result["formats"]), (&true.into(), &formats), "{model}");
        assert_eq!(result["digests_checked"], digests, "{model}");
        assert_eq!(result["tensors"], if model == "demo" { 14 } else { 7 }, "{model}");
    }
    let text = sandbox.ok("verify packed").stdout;
    assert!(text.contains("14 (14 pack-quantized)") && text.contains("21 match those of the run"), "{text}");
    let text = sandbox.ok("verify model").stdout;
    assert!(text.contains("none to compare with") && text.contains("model is complete"), "{text}");
    let digests = json_file(&sandbox.path("packed/paring.json"))["digests"].clone();
    let names: Vec<&String> = digests.as_object().unwrap().keys().collect();
    assert!(names.is_sorted() && digests[Q].as_str().unwrap().len() == 16, "{digests}");
    // A report of an earlier version has none.
    edit_json(&sandbox, "packed/paring.json", |report| drop(report.as_object_mut().unwrap().remove("digests")));
    assert_eq!(sandbox.json("verify packed")["digests_checked"], 0);
}

/// One flipped bit in a file, anywhere in the data: the tensor is named.
#[test]
fn a_flipped_bit() {
    let sandbox = Sandbox::new();
    sandbox
        .ok(&format!("{QUANTIZE} --outlier-threshold 0.2 --qq-scale-bits 3 --permutation-order act_order --out out"));
    let checkpoint = sandbox.open("out");
    let names: Vec<String> = checkpoint.names().map(String::from).collect();
    for name in names.iter().filter(|name| !name.contains("layers.1")) {
        let info = checkpoint.info(name).unwrap().clone();
        let path = sandbox.path("out").join(&info.file);
        let (before, tensor) = (fs::read(&path).unwrap(), checkpoint.read(name).unwrap());
        // Tensors of the same bytes can't be told apart here.
        let places: Vec<usize> =
            (0..=before.len() - tensor.len()).filter(|&i| before[i..].starts_with(&tensor)).collect();
        let &[at] = &places[..] else { continue };
        let mut bytes = before.clone();
        // The lowest bit of a float, or of a code.
        bytes[at] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let ran = sandbox.run("verify out");
        let module = name.rsplit_once('.').unwrap().0;
        let named = ran.stderr.contains(module) && ran.stderr.lines().count() == 1 && ran.stdout.is_empty();
        assert!(ran.code == Some(1) && named, "{name}: {}", ran.stderr);
        fs::write(&path, before).unwrap();
    }
    sandbox.ok("verify out");
}

#[test]
fn what_is_missing_and_what_is_left_over() {
    let sandbox = Sandbox::new();
    sandbox.ok(&format!("{QUANTIZE} --out made"));
    sandbox.ok(&format!("{QUANTIZE} --outlier-threshold 0.2 --out spqr"));
    for (folder, part) in
        [("made", "weight_scale"), ("made", "weight_packed"), ("spqr", "weight"), ("spqr", "weight_scale")]
    {
        let name = format!("{Q}.{part}");
        changed(&sandbox, folder, |model| model.tensors.retain(|t| t.name != name));
        check(&sandbox, "changed", &[Q]);
    }
    changed(&sandbox, "made", |model| model.tensors.retain(|t| t.name != "model.norm.weight"));
    check(&sandbox, "changed", &["model.norm.weight"]);
    let extra = |name: &str| f32_tensor(name, &[32, 32], &[0.5; 1024]);
    for (folder, name, words) in [
        ("made", "model.layers.0.self_attn.q_proj.weight", &["only the parts of pack-quantized", "weight_packed"][..]),
        ("spqr", "model.layers.0.self_attn.q_proj.outlier_gaps", &["outlier_gaps"]),
        (
            "made",
            "model.layers.2.self_attn.q_proj.weight_packed",
            &["model.layers.2.self_attn.q_proj.weight_packed in model.safetensors", "that the model does not have"],
        ),
        ("made", "model.rotary.inv_freq", &["only the tensors that paring.json lists"]),
    ] {
        changed(&sandbox, folder, |model| {
            model.tensors.retain(|t| t.name != name);
            model.tensors.push(extra(name));
        });
        check(&sandbox, "changed", &[&[name.rsplit_once('.').unwrap().0], words].concat());
    }
    // Others' files beside the weights are no fault if nothing says what there was.
    changed(&sandbox, "model", |model| model.tensors.push(extra("model.rotary.inv_freq")));
    assert_eq!(sandbox.json("verify changed")["tensors"], 8);
    // A dense model with parts of a compressed matrix.
    changed(&sandbox, "model", |model| model.tensors.push(extra(&format!("{Q}.weight_scale"))));
    check(&sandbox, "changed", &[Q, "weight_scale", "only the parts of dense (weight)"]);
}

#[test]
fn a_config_that_says_something_else() {
    let sandbox = Sandbox::new();
    sandbox.ok(&format!("{QUANTIZE} --out made"));
    let quant = |change: fn(&mut Value)| {
        changed(&sandbox, "made", |model| change(&mut model.config["quantization_config"]));
    };
    quant(|quant| quant["ignore"].as_array_mut().unwrap().push(Q.into()));
    check(&sandbox, "changed", &[Q]);
    quant(|quant| quant["config_groups"]["group_0"]["weights"]["num_bits"] = 8.into());
    check(&sandbox, "changed", &["self_attn", "shape"]);
    quant(|quant| quant["ignore"] = json!([]));
    check(&sandbox, "changed", &["lm_head.weight", "expected the parts of pack-quantized", "does not ignore"]);
    changed(&sandbox, "model", |model| model.config["num_hidden_layers"] = 3.into());
    check(&sandbox, "changed", &["model.layers.2", "num_hidden_layers"]);
    // The same codes for other numbers: only the digests can tell.
    changed(&sandbox, "made", |model| {
        let name = format!("{Q}.weight_packed");
        model.tensor(&name).bytes.reverse();
    });
    check(&sandbox, "changed", &["model.safetensors", Q, "reads back differently", "digest"]);
}

#[test]
fn files_that_do_not_fit_together() {
    let sandbox = Sandbox::new();
    let fresh = || {
        sandbox.ok(&format!("{QUANTIZE} --overwrite --out made"));
    };
    fresh();
    split(&sandbox.path("made"));
    let file = sandbox.open("made").info(&format!("{Q}.weight_packed")).unwrap().file.clone();
    edit_json(&sandbox, "made/model.safetensors.index.json", |index| {
        index["weight_map"].as_object_mut().unwrap().remove(&format!("{Q}.weight_packed"));
    });
    check(&sandbox, "made", &[&file, &format!("{Q}.weight_packed"), "an entry in made/model.safetensors.index.json"]);
    fs::remove_dir_all(sandbox.path("made")).unwrap();
    fresh();
    let file = sandbox.open("made").info(&format!("{Q}.weight_packed")).unwrap().file.clone();
    assert_eq!(file, "model.safetensors");
    let bytes = fs::read(sandbox.path("made").join(&file)).unwrap();
    sandbox.write(&format!("made/{file}"), &bytes[..bytes.len() - 1]);
    check(&sandbox, "made", &[&file, "cut off"]);
    fs::remove_file(sandbox.path("made").join(&file)).unwrap();
    check(&sandbox, "made", &[&file]);
    fresh();
    for (digest, words) in [
        (json!("0123456789abcdef"), &[&file, Q, "digest", "expected 0123456789abcdef"][..]),
        (json!("0123"), &["made/paring.json", Q, "16 hexadecimal digits"]),
        (json!(7), &["made/paring.json", Q, "16 hexadecimal digits"]),
    ] {
        edit_json(&sandbox, "made/paring.json", |report| report["digests"][Q] = digest);
        check(&sandbox, "made", words);
    }
    edit_json(&sandbox, "made/paring.json", |report| report["digests"] = json!({"gone": "0123456789abcdef"}));
    check(&sandbox, "made", &["gone", "paring.json", "no such tensor or linear"]);
    edit_json(&sandbox, "made/paring.json", |report| report["digests"] = json!([]));
    check(&sandbox, "made", &["made/paring.json", "digests is not an object"]);
    sandbox.write("made/paring.json", "{");
    check(&sandbox, "made", &["made/paring.json", "not valid JSON"]);
    check(&sandbox, "nowhere", &["nowhere: not found"]);
}

/// Non-finite numbers, in a tensor that a run copies without looking.
#[test]
fn values_that_are_not_finite() {
    let sandbox = Sandbox::new();
    for (name, value) in [
        ("model.embed_tokens.weight", f32::NAN),
        ("model.layers.1.input_layernorm.weight", f32::INFINITY),
        ("model.layers.1.mlp.down_proj.weight", f32::NEG_INFINITY),
        ("lm_head.weight", f32::NAN),
    ] {
        changed(&sandbox, "model", |model| model.set(name, 5, value));
        check(&sandbox, "changed", &["model.safetensors", name, &value.to_string()]);
    }
    changed(&sandbox, "model", |model| {
        let bytes = f32::NAN.to_le_bytes().to_vec();
        let name = "model.rotary.inv_freq".into();
        model.tensors.push(NamedTensor { name, dtype: Dtype::F32, shape: vec![], bytes });
    });
    check(&sandbox, "changed", &["model.rotary.inv_freq", "NaN"]);
}
