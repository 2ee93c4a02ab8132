//! Non-finite numbers, overflows, and linears that came out worse than they need: named, and never ignored.

mod support;

use paring_format::writer::{NamedTensor, write_file};
use paring_format::{Checkpoint, Dtype};
use serde_json::Value;

use support::*;

const NORM: &str = "model.layers.0.input_layernorm.weight";
const Q: &str = "model.layers.0.self_attn.q_proj";
const DOWN: &str = "model.layers.0.mlp.down_proj";
/// Windows and their tokens.
const SHAPE: [usize; 2] = [8, 32];
/// Position of the token that occurs once.
const PLACE: [usize; 2] = [5, 17];
const FEATURE: usize = 3;
/// The value that the norm gives to a feature that stands alone: √32.
const ALONE: f32 = 5.656_854;

/// A model of which one token has one feature and all others have no such feature, which the first norm multiplies by
/// `factor`; and windows with that token in one place.
fn one_spike(factor: f32) -> Sandbox {
    let sandbox = Sandbox::new();
    let mut model = Model::golden("llama");
    let dim = model.tensor(NORM).shape[0];
    let table = model.tensor("model.embed_tokens.weight");
    let mut values = table.dtype.decode_f32(&table.bytes);
    values.chunks_exact_mut(dim).for_each(|row| row[FEATURE] = 0.0);
    values[..dim].fill(0.0);
    values[FEATURE] = 1.0;
    table.bytes = Dtype::F32.encode(&values);
    model.set(NORM, FEATURE, factor);
    model.write(&sandbox.path("model"));
    let mut ids: Vec<i64> = (0..(SHAPE[0] * SHAPE[1]) as i64).map(|i| 1 + i * 7 % 60).collect();
    ids[PLACE[0] * SHAPE[1] + PLACE[1]] = 0;
    token_file(&sandbox.path("tokens.safetensors"), &SHAPE, &ids);
    sandbox
}

/// Arguments of each command that uses activations, except the type of its products.
const COMMANDS: [&str; 4] = [
    "eval model tokens.safetensors --seqlen 32 --quiet",
    "quantize model tokens.safetensors --wbits 4 --groupsize 16 --overwrite --out out --quiet",
    "sparsify model tokens.safetensors --method wanda --sparsity 0.5 --overwrite --out out --quiet",
    "sparsify model tokens.safetensors --pattern 2:4 --true-sequential --overwrite --out out --quiet",
];

#[test]
fn an_input_that_is_not_finite_is_named_with_its_place() {
    let sandbox = one_spike(3e38);
    for command in COMMANDS {
        let place = "its input holds inf in window 5, position 17, feature 3 (1 such values";
        sandbox.refused(command, 1, &[Q, place, "the weights before it"]).unwrap();
    }
}

#[test]
fn an_embedding_that_is_not_finite_is_named_with_its_token() {
    // Two tables of finite numbers, tokens and positions, that add up to more than a float holds.
    let sandbox = Sandbox::with("opt");
    let mut model = Model::golden("opt");
    let (words, places) = ("model.decoder.embed_tokens.weight", "model.decoder.embed_positions.weight");
    let dim = model.tensor(words).shape[1];
    let token = 11;
    model.set(words, token * dim + 2, 3e38);
    // Positions are counted from 2.
    model.set(places, (4 + 2) * dim + 2, 3e38);
    model.write(&sandbox.path("model"));
    let mut ids = [5i64; 32];
    (ids[3], ids[16 + 4]) = (11, 11);
    token_file(&sandbox.path("tokens.safetensors"), &[2, 16], &ids);
    let place = "the embedding of token 11 holds inf in feature 2 (window 1, position 4)";
    for command in [
        "eval model tokens.safetensors --seqlen 16",
        "quantize model tokens.safetensors --wbits 4 --include re:.*q_proj --out out",
    ] {
        sandbox.refused(&format!("{command} --quiet"), 1, &[place]).unwrap();
    }
}

#[test]
fn sums_that_overflow_are_not_taken_for_inputs_that_do() {
    let sandbox = one_spike(1e30);
    for command in &COMMANDS[1..] {
        let words = [Q, "its inputs are finite", "feature 3", "(window 5, position 17)"];
        sandbox.refused(command, 1, &words).unwrap();
    }
}

#[test]
fn what_half_precision_does_not_hold_is_named() {
    let factor = 20_000f32;
    let sandbox = one_spike(factor);
    let beyond = format!("its input holds {:.0}", factor * ALONE).chars().take(20).collect::<String>();
    for command in COMMANDS {
        let words = [Q, &beyond, "window 5, position 17, feature 3 (1 such values", "float16 ends at 65504"];
        sandbox.refused(&format!("{command} --dtype f16"), 1, &words).unwrap();
    }
    for command in COMMANDS {
        for dtype in ["f32", "bf16"] {
            sandbox.ok(&format!("{command} --dtype {dtype}"));
        }
    }
    // A weight is named too, if no input is at fault.
    let sandbox = Sandbox::new();
    let mut model = Model::golden("llama");
    model.set(&format!("{DOWN}.weight"), 2 * 48 + 7, 1e5);
    model.write(&sandbox.path("model"));
    let words = [DOWN, "its weight in row 2, column 7", "--dtype"];
    sandbox.refused("eval model eval.safetensors --seqlen 32 --dtype f16", 1, &words).unwrap();
    // Half precision holds a slightly smaller one.
    let sandbox = one_spike(65_504.0 / ALONE - 1.0);
    for command in COMMANDS {
        sandbox.ok(&format!("{command} --dtype f16"));
    }
}

#[test]
fn a_loss_that_is_no_number_is_an_error() {
    let sandbox = Sandbox::new();
    let mut model = Model::golden("llama");
    let dim = model.tensor(NORM).shape[0];
    (0..dim).for_each(|i| model.set("model.norm.weight", i, 3e38));
    model.write(&sandbox.path("model"));
    sandbox
        .refused("eval model eval.safetensors --seqlen 32 --quiet", 1, &["window 0, position 0: the loss is"])
        .unwrap();
}

#[test]
fn weights_that_grow_beyond_their_type_are_not_written() {
    let sandbox = Sandbox::new();
    let mut model = Model::golden("llama").stored_as(Dtype::F16);
    let down = model.tensor(&format!("{DOWN}.weight"));
    let mut values = Dtype::F16.decode_f32(&down.bytes);
    let largest = values.iter().fold(0f32, |a, v| a.max(v.abs()));
    values.iter_mut().for_each(|v| *v *= 65_000.0 / largest);
    down.bytes = Dtype::F16.encode(&values);
    model.write(&sandbox.path("model"));
    let command = format!(
        "sparsify model calib.safetensors --sparsity 0.7 --percdamp 1e-6 --nsamples 2 --include {DOWN} --dtype f32 --quiet \
        --out out"
    );
    sandbox
        .refused(&command, 1, &[DOWN, "in row", "beyond the range of F16 after the sweep", "--allow-fallback"])
        .unwrap();
    let report = sandbox.json(&format!("{command} --allow-fallback --overwrite"));
    assert!(fallbacks(&report).contains(&DOWN.to_string()), "{}", report["notes"]);
    assert!(weights(&sandbox.open("out")).values().flatten().all(|v| v.is_finite()));
}

fn fallbacks(report: &Value) -> Vec<String> {
    let layers = report["layers"].as_array().unwrap().iter();
    layers.filter(|layer| layer["fallback"] == true).map(|layer| layer["name"].as_str().unwrap().into()).collect()
}

fn notes(report: &Value) -> Vec<&str> {
    report["notes"].as_array().unwrap().iter().map(|note| note.as_str().unwrap()).collect()
}

#[test]
fn too_few_tokens_are_noted_with_numbers() {
    let sandbox = Sandbox::new();
    let few =
        "too little calibration data: 16 tokens for 48 inputs (model.layers.0.mlp.down_proj); use more --nsamples";
    let run = |options: &str| {
        sandbox.ok(&format!("quantize model calib.safetensors --wbits 4 --overwrite --out out {options}"))
    };
    let warnings = |options: &str| run(options).stderr.matches(few).count();
    assert_eq!(warnings("--nsamples 1 --seqlen 16 --dry-run"), 1);
    assert_eq!(warnings("--nsamples 1 --seqlen 16"), 1);
    assert_eq!(warnings("--nsamples 3 --seqlen 16"), 0);
    // Narrower inputs than those have enough, and rounding to nearest looks at none.
    assert_eq!(warnings("--nsamples 1 --seqlen 32 --include re:.*q_proj"), 0);
    assert!(!run("--method rtn").stderr.contains("calibration tokens"));
    let report =
        sandbox.json("quantize model calib.safetensors --wbits 4 --nsamples 1 --seqlen 16 --overwrite --out out");
    assert_eq!(notes(&report).iter().filter(|note| note.starts_with(few)).count(), 1);
}

#[test]
fn repairs_are_in_the_report_of_their_layer() {
    let sandbox = Sandbox::new();
    let report = sandbox
        .json("quantize model calib.safetensors --wbits 4 --nsamples 1 --seqlen 16 --percdamp 0 --out out --quiet");
    let mut repaired = 0;
    for layer in report["layers"].as_array().unwrap() {
        let repairs: Vec<&str> = layer["repairs"].as_array().unwrap().iter().map(|r| r.as_str().unwrap()).collect();
        let damp = layer["damp"].as_f64().unwrap();
        assert_eq!(repairs.is_empty(), damp == 0.0, "{layer}");
        for repair in repairs {
            repaired += 1;
            assert_eq!(repair, format!("the Gram matrix was singular with damping 0, so {damp} was used"));
            let note = |note: &&str| note.contains(layer["name"].as_str().unwrap()) && note.ends_with(repair);
            assert!(notes(&report).iter().any(note), "{repair}");
        }
    }
    assert!(repaired > 0, "16 tokens span no 48 features");
}

/// Fewer tokens than features and next to no damping: the remaining columns have to compensate all errors.
const OVERFITTED: &str = "quantize model calib.safetensors --wbits 2 --groupsize 8 --blocksize 8 --nsamples 1 --seqlen 16 \
    --percdamp 1e-8 --overwrite --quiet";

#[test]
fn a_linear_worse_than_rounding_to_nearest_is_noted_and_kept() {
    let sandbox = Sandbox::new();
    let report = sandbox.json(&format!("{OVERFITTED} --out out"));
    let mut worse = 0;
    for layer in report["layers"].as_array().unwrap() {
        let (error, baseline) = (layer["error"].as_f64().unwrap(), layer["baseline_error"].as_f64().unwrap());
        let name = layer["name"].as_str().unwrap();
        let note =
            format!("{name}: its error, {error:.3e}, is larger than that of rounding to nearest, {baseline:.3e}");
        assert_eq!(notes(&report).iter().any(|text| text.starts_with(&note)), error > 1.0001 * baseline, "{name}");
        worse += usize::from(error > 1.0001 * baseline);
        assert_eq!(layer["fallback"], false);
    }
    assert!(worse > 0);
    // A run that does not measure says nothing, and makes the same.
    let bytes = model_bytes(&sandbox.path("out"));
    let report = sandbox.json(&format!("{OVERFITTED} --skip-out-loss --out out"));
    assert!(notes(&report).iter().all(|note| !note.contains("is more than")));
    let layers = report["layers"].as_array().unwrap();
    assert!(layers.iter().all(|layer| layer["error"].is_null() && layer["baseline_error"].is_null()));
    assert!(model_bytes(&sandbox.path("out")) == bytes);
    let both = format!("{OVERFITTED} --skip-out-loss --allow-fallback --out out");
    assert_eq!(sandbox.run(&both).code, Some(2));
}

/// The tensors of a module with their bytes.
fn parts(checkpoint: &Checkpoint, module: &str) -> Vec<NamedTensor> {
    let names = checkpoint.names().filter(|name| name.starts_with(&format!("{module}.")));
    names.map(|name| tensor(checkpoint, name)).collect()
}

#[test]
fn a_fallback_is_what_rounding_to_nearest_writes() {
    let sandbox = Sandbox::new();
    let report = sandbox.json(&format!("{OVERFITTED} --published --allow-fallback --out out"));
    sandbox.ok("quantize model --method rtn --wbits 2 --groupsize 8 --out rtn --quiet");
    let (made, rtn) = (sandbox.open("out"), sandbox.open("rtn"));
    let fallen = fallbacks(&report);
    assert!(!fallen.is_empty() && fallen.len() < 14, "{fallen:?}");
    for layer in report["layers"].as_array().unwrap() {
        let name = layer["name"].as_str().unwrap();
        let (ours, theirs) = (parts(&made, name), parts(&rtn, name));
        let same = ours.len() == theirs.len() && ours.iter().zip(&theirs).all(|(a, b)| a.bytes == b.bytes);
        assert_eq!(same, fallen.contains(&name.to_string()), "{name}");
        if same {
            assert_eq!(layer["error"], layer["baseline_error"]);
            let note = format!("{name}: stored by rounding to nearest (error ");
            assert!(notes(&report).iter().any(|text| text.starts_with(&note)));
        }
    }
    sandbox.ok("verify out --json");
    // Twice the same.
    let bytes = model_bytes(&sandbox.path("out"));
    sandbox.ok(&format!("{OVERFITTED} --published --allow-fallback --out out --threads 1"));
    assert!(model_bytes(&sandbox.path("out")) == bytes);
}

#[test]
fn pruning_falls_back_to_magnitude_and_spqr_to_its_own_grids() {
    let sandbox = Sandbox::new();
    // Nearly no curvature, and a share of every four columns instead of one of all.
    let options = "--sparsity 0.9 --blocksize 4 --percdamp 1e6 --quiet --out";
    let report =
        sandbox.json(&format!("sparsify model calib.safetensors --dense-stream none --allow-fallback {options} out"));
    sandbox.ok("sparsify model --method magnitude --sparsity 0.9 --quiet --out plain");
    let (made, plain) = (weights(&sandbox.open("out")), weights(&sandbox.open("plain")));
    let fallen = fallbacks(&report);
    assert!(!fallen.is_empty());
    fallen.iter().for_each(|name| assert!(made[name] == plain[name], "{name}"));
    let spqr = "--qq-scale-bits 3 --qq-zero-bits 3 --qq-groupsize 16 --permutation-order act_order";
    let report = sandbox.json(&format!("{OVERFITTED} --published --allow-fallback {spqr} --out spqr"));
    assert!(!fallbacks(&report).is_empty(), "{}", report["notes"]);
    for layer in report["layers"].as_array().unwrap() {
        assert!(layer["error"].as_f64().unwrap() <= 1.0001 * layer["baseline_error"].as_f64().unwrap(), "{layer}");
    }
    sandbox.ok("verify spqr --json");
}

#[test]
fn layers_of_a_file_are_not_written_where_they_overflow() {
    // A file of one layer gets the same checks as a model's tensors.
    let sandbox = Sandbox::empty();
    let x: Vec<f32> = (0..64).map(|i| if i == 5 { 1e30 } else { 0.1 * i as f32 }).collect();
    let tensors = vec![f32_tensor("weight", &[2, 8], &[0.5; 16]), f32_tensor("activations", &[8, 8], &x)];
    write_file(&sandbox.path("layer.safetensors"), tensors).unwrap();
    let command = "layer layer.safetensors --method gptq --wbits 4 --out out.safetensors";
    sandbox.refused(command, 1, &["layer.safetensors", "feature 5"]).unwrap();
}
