//! Wishes are done, or refused, or a word is said: nothing that is asked for is changed in silence.

mod support;

use std::fs;
use std::path::Path;

use paring_format::writer::NamedTensor;
use paring_format::{Checkpoint, Dtype};
use serde_json::{Value, json};
use support::*;

const QUANTIZE: &str = "quantize model calib.safetensors --nsamples 4 --seqlen 32 --quiet --out out --overwrite";
const RTN: &str = "quantize model --method rtn --quiet --out out --overwrite";

/// Reshapes the golden model's data to one long row, so that windows may have any length.
fn one_row(sandbox: &Sandbox) {
    let file = Checkpoint::open_file(&sandbox.path("eval.safetensors")).unwrap();
    let NamedTensor { bytes, .. } = tensor(&file, "input_ids");
    let ids: Vec<i64> = bytes.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap())).collect();
    token_file(&sandbox.path("long.safetensors"), &[1, ids.len()], &ids);
}

/// Changes the config of the folder `model`.
fn configure(sandbox: &Sandbox, change: impl FnOnce(&mut Value)) {
    let mut config = json_file(&sandbox.path("model/config.json"));
    change(&mut config);
    sandbox.write("model/config.json", config.to_string());
}

fn read_linears(dir: &Path) -> std::collections::BTreeMap<String, Vec<f32>> {
    weights(&Checkpoint::open(dir).unwrap())
}

#[test]
fn windows_longer_than_the_model() {
    let sandbox = Sandbox::new();
    one_row(&sandbox);
    // Before the work, with both numbers: calibration, evaluation, comparison.
    for run in [
        "eval model long.safetensors --seqlen 65",
        "quantize model long.safetensors --wbits 4 --seqlen 65 --out out",
        "quantize model long.safetensors --wbits 4 --seqlen 65 --dry-run --out out",
        "quantize model --method rtn --wbits 4 --eval long.safetensors --seqlen 65 --out out",
        "verify model --reference model --data long.safetensors --seqlen 65",
    ] {
        sandbox.refused(run, 1, &["--seqlen 65", "64 positions", "at most 64"]).unwrap();
    }
    assert!(!sandbox.path("out").exists());
    sandbox
        .refused("verify model --reference model --data long.safetensors --seqlen 64 --tokens 32", 2, &["64", "32"])
        .unwrap();
    assert_eq!(sandbox.json("eval model long.safetensors --seqlen 64")["seqlen"], 64);
    // Rows of a file of tokens are not joined for calibration.
    let rows = sandbox.refused(
        "quantize model calib.safetensors --wbits 4 --seqlen 64 --out out",
        1,
        &["--seqlen 64", "rows of 32"],
    );
    rows.unwrap();
    // The default is as long as the model, and a run says so.
    let said = sandbox.ok("quantize model long.safetensors --wbits 4 --out out");
    assert!(
        said.stderr.contains("windows have 64 tokens instead of 2048: the model has no more positions"),
        "{}",
        said.stderr
    );
    assert!(!sandbox.ok(&format!("{QUANTIZE} --wbits 4")).stderr.contains("windows have"));
    // Scaling that grows with a sequence has no limit; the value is transformers 5.24's.
    configure(&sandbox, |c| {
        c["rope_scaling"] = json!({"rope_type": "dynamic", "factor": 2.0});
        c.as_object_mut().unwrap().remove("rope_parameters");
    });
    let dynamic = |length: usize| sandbox.json(&format!("eval model long.safetensors --seqlen {length}"));
    assert_eq!((&dynamic(96)["seqlen"], &dynamic(64)["seqlen"]), (&96.into(), &64.into()));
    assert_eq!(sandbox.json("eval model long.safetensors")["seqlen"], 64);
    let long = dynamic(96)["perplexity"].as_f64().unwrap();
    assert!((long / DYNAMIC_96 - 1.0).abs() < 1e-4, "{long}");
    assert_eq!(
        sandbox.json("quantize model long.safetensors --wbits 4 --seqlen 96 --out long --quiet")["plan"]["seqlen"],
        96
    );
}

/// Perplexity of the golden Llama with dynamic scaling by 2 on windows of 96 tokens, from transformers 5.24 in float32.
const DYNAMIC_96: f64 = 64.821884;

#[test]
fn windows_of_one_token() {
    let sandbox = Sandbox::new();
    configure(&sandbox, |c| c["max_position_embeddings"] = 1.into());
    for run in [
        "eval model eval.safetensors",
        "eval model eval.safetensors --seqlen 2",
        "quantize model calib.safetensors --wbits 4 --out out",
        "verify model --reference model --data eval.safetensors",
    ] {
        sandbox.refused(run, 1, &["max_position_embeddings", "1 position"]).unwrap();
    }
    configure(&sandbox, |c| {
        c["rope_scaling"] = json!({"rope_type": "dynamic", "factor": 2.0});
        c.as_object_mut().unwrap().remove("rope_parameters");
    });
    assert_eq!(sandbox.json("eval model eval.safetensors")["seqlen"], 2);
}

#[test]
fn modules_that_are_never_compressed() {
    let sandbox = Sandbox::new();
    for (asked, words) in [
        ("--include lm_head", &["--include lm_head", "outside the blocks"][..]),
        ("--include re:.*_proj --include lm_head", &["--include lm_head", "outside the blocks"]),
        ("--include re:.*head$", &["re:.*head$", "lm_head"]),
        ("--include model.embed_tokens", &["model.embed_tokens is not a matrix"]),
        ("--include model.norm", &["model.norm is not a matrix"]),
        ("--include re:.*layernorm", &["layernorm is not a matrix"]),
        ("--include nothing", &["--include nothing: no layer of this name; names look like model.layers.0."]),
    ] {
        sandbox.refused(&format!("{RTN} --wbits 4 {asked}"), 1, words).unwrap();
    }
    sandbox.write("group.toml", "wbits = 4\n[[override]]\ntargets = ['lm_head']\nwbits = 8\n");
    sandbox.refused(&format!("{RTN} --config group.toml"), 1, &["lm_head", "outside the blocks"]).unwrap();
    let groups = "quant_stage:\n  quant_modifiers:\n    GPTQModifier:\n      config_groups:\n        \
        a: {targets: [Linear], weights: {num_bits: 4, strategy: channel}}\n        \
        b: {targets: [lm_head], weights: {num_bits: 8, strategy: channel}}\n";
    sandbox.write("groups.yaml", groups);
    sandbox.refused(&format!("{QUANTIZE} --config groups.yaml"), 1, &["lm_head", "outside the blocks"]).unwrap();
    // A pattern that is for others too: they are compressed, and the head is named.
    let note = "lm_head stays as it is, although re:.* matches it";
    assert!(sandbox.ok(&format!("{RTN} --wbits 4 --include re:.*")).stderr.contains(note));
    let quiet = sandbox.ok(&format!("{RTN} --wbits 4 --include re:.*_proj --ignore lm_head"));
    assert!(!quiet.stderr.contains("lm_head"), "{}", quiet.stderr);
}

/// The golden model with inputs of block 0's MLP that are always zero: `count` of 32.
fn deafened(sandbox: &Sandbox, count: usize) {
    let mut model = Model::golden("llama");
    let norm = "model.layers.0.post_attention_layernorm.weight";
    (0..count).for_each(|i| model.set(norm, i, 0.0));
    model.write(&sandbox.path("model"));
}

#[test]
fn inputs_that_are_never_anything_but_zero() {
    let sandbox = Sandbox::new();
    deafened(&sandbox, 32);
    let (gate, up) = ("model.layers.0.mlp.gate_proj", "model.layers.0.mlp.up_proj");
    let prune = "sparsify model calib.safetensors --nsamples 4 --seqlen 32 --quiet --out out --overwrite";
    let plain_prune = "sparsify model --method magnitude --quiet --out plain --overwrite";
    for (run, plain) in [
        (format!("{QUANTIZE} --published --wbits 4 --groupsize 16"), format!("{RTN} --wbits 4 --groupsize 16")),
        (format!("{QUANTIZE} --scheme FP8_DYNAMIC --method gptq --published"), format!("{RTN} --scheme FP8_DYNAMIC")),
        (
            format!("{QUANTIZE} --published --wbits 4 --groupsize 16 --actorder static"),
            format!("{RTN} --wbits 4 --groupsize 16"),
        ),
        (format!("{prune} --pattern 2:4"), format!("{plain_prune} --pattern 2:4")),
        (format!("{prune} --sparsity 0.5"), format!("{plain_prune} --sparsity 0.5")),
        (format!("{prune} --method wanda --pattern 2:4"), format!("{plain_prune} --pattern 2:4")),
    ] {
        let ran = sandbox.ok(&run);
        for part in ["gate_proj", "up_proj", "all 32 inputs were zero in all calibration tokens"] {
            assert!(ran.stderr.contains(part), "{run}: {part}\n{}", ran.stderr);
        }
        assert!(!ran.stderr.contains("more zeros"), "{run}: {}", ran.stderr);
        let made = read_linears(&sandbox.path("out"));
        sandbox.ok(&plain.replace("--out out", "--out plain"));
        let expected = read_linears(&sandbox.path("plain"));
        for name in [gate, up] {
            assert!(made[name] == expected[name], "{run}: {name} is not what plain rounding makes");
        }
    }
    // SpQR's grids are its own: what counts is that the weights stay.
    let spqr = sandbox.json(&format!(
        "{QUANTIZE} --wbits 4 --groupsize 16 --qq-scale-bits 3 --qq-zero-bits 3 --outlier-threshold 0.5"
    ));
    let layer = spqr["layers"].as_array().unwrap().iter().find(|l| l["name"] == gate).unwrap();
    assert!(layer["sparsity"].as_f64().unwrap() < 0.1 && layer["dead"] == 32, "{layer}");
    let (made, before) = (read_linears(&sandbox.path("out")), read_linears(&sandbox.path("model")));
    let squares = |of: &mut dyn Iterator<Item = f32>| of.map(|v| f64::from(v * v)).sum::<f64>();
    let off = squares(&mut made[gate].iter().zip(&before[gate]).map(|(a, b)| a - b))
        / squares(&mut before[gate].iter().copied());
    assert!(off < 0.05, "{off}");
}

#[test]
fn some_inputs_that_are_zero() {
    let sandbox = Sandbox::new();
    deafened(&sandbox, 12);
    let prune = "sparsify model calib.safetensors --nsamples 4 --seqlen 32 --quiet --out out --overwrite --pattern 2:4";
    // Twelve dead columns are three whole groups of four: 16 of 32 would be zero, and 22 are.
    let ran = sandbox.ok(prune);
    let dead = "(their weights are 0 now): model.layers.0.mlp.gate_proj, up_proj (12 of 32)";
    let more = "more zeros than requested: model.layers.0.mlp.gate_proj, up_proj (68.8 %, requested 50.0 %)";
    assert!(ran.stderr.contains(dead) && ran.stderr.contains(more), "{}", ran.stderr);
    let report = json_file(&sandbox.path("out/report.json"));
    let notes: Vec<&str> = report["notes"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(notes.iter().any(|note| note.contains(dead)) && notes.iter().any(|note| note.contains(more)), "{notes:?}");
    assert!(sandbox.ok(&format!("{QUANTIZE} --wbits 4")).stderr.contains(dead));
    let wanda = sandbox.ok(&format!("{prune} --method wanda"));
    assert!(wanda.stderr.contains("removed first") && wanda.stderr.contains("12 of 32"), "{}", wanda.stderr);
    // A model without any is not spoken of.
    Model::golden("llama").write(&sandbox.path("model"));
    let none = sandbox.ok(prune);
    assert!(!none.stderr.contains("zero"), "{}", none.stderr);
    // Weights that are all the same have one threshold.
    let mut same = Model::golden("llama");
    let weight = same.tensor("model.layers.1.mlp.up_proj.weight");
    weight.bytes = Dtype::F32.encode(&vec![0.5; weight.bytes.len() / 4]);
    same.write(&sandbox.path("model"));
    let ran = sandbox.ok("sparsify model --method magnitude --sparsity 0.3 --quiet --out out --overwrite");
    assert!(ran.stderr.contains("model.layers.1.mlp.up_proj (100.0 %, requested 30."), "{}", ran.stderr);
}

/// The golden model with one linear, or one row of it, times a factor.
fn scaled(dtype: Dtype, factor: f32, rows: std::ops::Range<usize>) -> Model {
    let mut model = Model::golden("llama");
    let weight = model.tensor("model.layers.1.mlp.up_proj.weight");
    let cols = weight.shape[1];
    let mut values = weight.dtype.decode_f32(&weight.bytes);
    values[rows.start * cols..rows.end * cols].iter_mut().for_each(|v| *v *= factor);
    weight.bytes = Dtype::F32.encode(&values);
    if dtype == Dtype::F32 { model } else { model.stored_as(dtype) }
}

#[test]
fn weights_that_scales_turn_to_zero() {
    let sandbox = Sandbox::new();
    let note = "weights too small for the scales that the file can hold: model.layers.1.mlp.up_proj (";
    let spqr = "--wbits 3 --groupsize 16 --qq-scale-bits 3 --qq-zero-bits 3";
    for (what, model, options, data) in [
        ("fp8 of f16", scaled(Dtype::F16, 1e-5, 0..48), "--scheme FP8_DYNAMIC", false),
        ("a few rows", scaled(Dtype::F16, 1e-5, 3..9), "--scheme FP8_DYNAMIC", false),
        ("gptq", scaled(Dtype::F16, 1e-5, 0..48), "--scheme FP8_DYNAMIC --method gptq", true),
        ("spqr", scaled(Dtype::F32, 1e-8, 0..48), spqr, true),
        ("nvfp4", scaled(Dtype::Bf16, 1e-39, 0..48), "--scheme NVFP4A16 --method rtn", false),
    ] {
        model.write(&sandbox.path("model"));
        let run = if data { QUANTIZE } else { "quantize model --quiet --out out --overwrite" };
        let ran = sandbox.ok(&format!("{run} {options}"));
        assert!(ran.stderr.contains(note) && ran.stderr.contains("--ignore"), "{what}: {}", ran.stderr);
        let report = json_file(&sandbox.path("out/report.json"));
        let layers = report["layers"].as_array().unwrap();
        let lost: Vec<&Value> = layers.iter().filter(|layer| layer.get("underflow").is_some()).collect();
        assert_eq!(lost.len(), 1, "{what}");
        assert!(report["notes"].as_array().unwrap().iter().any(|n| n.as_str().unwrap().contains(note)), "{what}");
    }
    // Small, and not too small: rounding alone.
    for (model, options) in [
        (scaled(Dtype::F32, 1e-8, 0..48), "--scheme FP8_DYNAMIC"),
        (scaled(Dtype::F16, 1e-2, 0..48), "--scheme FP8_DYNAMIC"),
        (scaled(Dtype::Bf16, 1e-10, 0..48), "--wbits 4 --groupsize 16 --method rtn"),
        (scaled(Dtype::Bf16, 1.0, 0..48), "--scheme NVFP4A16 --method rtn"),
    ] {
        model.write(&sandbox.path("model"));
        let ran = sandbox.ok(&format!("quantize model --quiet --out out --overwrite {options}"));
        assert!(!ran.stderr.contains("too small"), "{options}: {}", ran.stderr);
    }
}

#[test]
fn models_that_are_compressed_already() {
    let sandbox = Sandbox::new();
    sandbox.ok(
        "quantize model calib.safetensors --nsamples 4 --seqlen 32 --scheme FP8 --kv-cache fp8 --quiet --out first",
    );
    sandbox.ok("sparsify model --method magnitude --pattern 2:4 --format sparse-24-bitmask --quiet --out sparse");
    for (model, words) in [
        ("first", &["input is already quantized", "float-quantized", "inputs and cache is dropped"][..]),
        ("sparse", &["input is already compressed", "errors are relative to it"]),
    ] {
        for run in ["quantize MODEL --method rtn --wbits 8", "sparsify MODEL --method magnitude --sparsity 0.5"] {
            let ran = sandbox.ok(&format!("{} --quiet --out out --overwrite", run.replace("MODEL", model)));
            assert!(words.iter().all(|word| ran.stderr.contains(word)), "{model} {run}: {}", ran.stderr);
        }
    }
    assert!(!sandbox.ok(&format!("{RTN} --wbits 8")).stderr.contains("already"));
}

#[test]
fn zero_points_that_some_readers_do_not_open() {
    let sandbox = Sandbox::new();
    let loud =
        |options: &str| sandbox.ok(&format!("quantize model --method rtn {options} --out out --overwrite")).stderr;
    let note = loud("--wbits 4 --groupsize 16");
    let words = ["transformers 5.24 runs this format", "asymmetric) only with dequantize=True. To avoid this: --sym"];
    assert!(words.iter().all(|word| note.contains(word)), "{note}");
    for options in ["--wbits 4 --groupsize 16 --sym", "--wbits 8 --format int-quantized"] {
        assert!(!loud(options).contains("dequantize"), "{options}");
    }
    fs::remove_dir_all(sandbox.path("out")).unwrap();
    sandbox
        .refused("quantize model --method rtn --wbits 4 --strict --out out", 2, &["dequantize=True", "--sym"])
        .unwrap();
}

#[test]
fn files_beside_a_model() {
    let sandbox = Sandbox::new();
    fs::create_dir_all(sandbox.path("model/additional_chat_templates")).unwrap();
    fs::create_dir_all(sandbox.path("model/onnx")).unwrap();
    let small = ["additional_chat_templates/tool_use.jinja", "tekken.json", "vocab.txt", "modeling_x.py", "LICENSE"];
    small.iter().for_each(|name| sandbox.write(&format!("model/{name}"), *name));
    sandbox.write("model/README.md", "---\nlicense: mit\n---\n# Base\n");
    for left in ["model/model.gguf", "model/onnx/model.onnx", "model/.hidden"] {
        sandbox.write(left, "x");
    }
    sandbox.ok(&format!("{RTN} --wbits 8"));
    for run in [
        format!("{RTN} --wbits 8"),
        "decompress out --out plain".to_string(),
        "convert model --format dense --out converted".to_string(),
    ] {
        let ran = sandbox.ok(&run);
        let out = run.split(" --out ").nth(1).unwrap().split(' ').next().unwrap();
        for name in small {
            assert_eq!(fs::read_to_string(sandbox.path(out).join(name)).unwrap(), name, "{run}");
        }
        // The output has a card of its own, with the licence of the base.
        let card = fs::read_to_string(sandbox.path(out).join("README.md")).unwrap();
        assert!(card.contains("\nlicense: mit\n") && card.contains("by paring") && !card.contains("# Base"), "{card}");
        for left in ["model.gguf", "onnx", ".hidden"] {
            assert!(!sandbox.path(out).join(left).exists(), "{run}: {left}");
            assert!(ran.stderr.contains(left) != run.starts_with("decompress"), "{run}: {left}: {}", ran.stderr);
        }
    }
    // A person's file in such a folder is in the way before the work, and stays.
    sandbox.write("out/additional_chat_templates/mine.jinja", "mine");
    let ran = sandbox.run(&format!("{RTN} --wbits 8"));
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(ran.stderr.contains("additional_chat_templates") && ran.stderr.contains("move it away"), "{}", ran.stderr);
    assert_eq!(fs::read_to_string(sandbox.path("out/additional_chat_templates/mine.jinja")).unwrap(), "mine");
    fs::remove_file(sandbox.path("out/additional_chat_templates/mine.jinja")).unwrap();
    // Where the model has no such folder any more, the output's goes with the rest of it.
    fs::remove_dir_all(sandbox.path("model/additional_chat_templates")).unwrap();
    sandbox.ok(&format!("{RTN} --wbits 8"));
    assert!(!sandbox.path("out/additional_chat_templates").exists() && sandbox.path("out/tekken.json").exists());
    // A folder in the output that leads elsewhere is not followed.
    #[cfg(unix)]
    {
        fs::create_dir(sandbox.path("elsewhere")).unwrap();
        fs::create_dir(sandbox.path("model/additional_chat_templates")).unwrap();
        sandbox.write("model/additional_chat_templates/tool_use.jinja", "x");
        fs::create_dir(sandbox.path("linked")).unwrap();
        std::os::unix::fs::symlink(sandbox.path("elsewhere"), sandbox.path("linked/additional_chat_templates"))
            .unwrap();
        sandbox.run("quantize model --method rtn --wbits 8 --out linked --overwrite");
        assert_eq!(fs::read_dir(sandbox.path("elsewhere")).unwrap().count(), 0);
    }
}

#[test]
fn stages_that_name_the_same_linears_in_other_words() {
    let sandbox = Sandbox::new();
    let recipe = |first: &str, second: &str| {
        format!(
            "sparsity_stage:\n  sparsity_modifiers:\n    SparseGPTModifier: {{sparsity: 0.5, mask_structure: '2:4', {first}}}\n\
             quantization_stage:\n  quantization_modifiers:\n    GPTQModifier:\n      ignore: [{second}]\n      \
             config_groups: {{group_0: {{targets: [Linear], weights: {{num_bits: 4, type: int, symmetric: true, strategy: \
             channel}}}}}}\n"
        )
    };
    let run = "sparsify model calib.safetensors --nsamples 4 --seqlen 32 --quiet --overwrite --config r.yaml";
    sandbox.write("r.yaml", recipe("targets: [Linear], ignore: [lm_head]", "lm_head"));
    sandbox.ok(&format!("{run} --out same"));
    for (first, second) in [
        ("ignore: []", "lm_head"),
        ("targets: [Linear]", "lm_head"),
        ("ignore: ['re:.*lm_head']", "lm_head"),
        ("targets: ['re:.*_proj']", "lm_head"),
        ("targets: [Linear], ignore: [lm_head]", "'re:lm_head'"),
    ] {
        sandbox.write("r.yaml", recipe(first, second));
        sandbox.ok(&format!("{run} --out out"));
        assert!(model_bytes(&sandbox.path("out")) == model_bytes(&sandbox.path("same")), "{first}");
    }
    for (first, second) in [
        ("targets: ['re:.*mlp.*']", "lm_head"),
        ("ignore: [lm_head]", "'re:.*down_proj'"),
        ("ignore: ['re:.*layers.1.*']", "lm_head"),
    ] {
        sandbox.write("r.yaml", recipe(first, second));
        let words = ["r.yaml, line 6", "different targets", "model.layers."];
        fs::remove_dir_all(sandbox.path("out")).unwrap();
        sandbox.refused(&format!("{run} --out out"), 2, &words).unwrap();
        // What is typed holds for both.
        sandbox.ok(&format!("{run} --out out --ignore lm_head --include re:.*_proj"));
    }
}
