//! Whole runs: what they write, that it means the same in every form, and what they leave as it was.

mod support;

use std::collections::BTreeSet;
use std::fs;

use paring_format::{Dtype, Element, Values};
use serde_json::Value;

use support::*;

const QUANTIZE: &str = "quantize model calib.safetensors --quiet --wbits 4";

fn same(a: f64, b: f64, what: &str) {
    assert!((a / b - 1.0).abs() < 1e-9, "{what}: {a} and {b}");
}

/// A run and the same one with `--format dense` are the same model, and decompressing the first gives the second.
#[test]
fn every_format_means_the_same() {
    let sandbox = Sandbox::new();
    Model::golden("llama").stored_as(Dtype::Bf16).write(&sandbox.path("bf16"));
    Model::golden("llama").stored_as(Dtype::F16).write(&sandbox.path("f16"));
    for (i, (model, options)) in [
        ("model", "--wbits 4"),
        ("model", "--wbits 3 --groupsize 16 --sym"),
        ("model", "--wbits 2 --groupsize 16 --actorder static --scales mse"),
        ("model", "--wbits 4 --actorder group"),
        ("model", "--wbits 8 --format int-quantized"),
        ("model", "--wbits 8 --groupsize 16 --sym --format int-quantized"),
        ("model", "--wbits 5 --groupsize 16 --method rtn"),
        ("model", "--wbits 4 --groupsize 16 --true-sequential --static-groups"),
        ("bf16", "--wbits 4 --groupsize 16"),
        ("bf16", "--wbits 8 --sym --format int-quantized"),
        ("f16", "--wbits 3 --sym --groupsize 16"),
    ]
    .into_iter()
    .enumerate()
    {
        let (packed, dense, plain) = (format!("packed{i}"), format!("dense{i}"), format!("plain{i}"));
        let command = format!("quantize {model} calib.safetensors --quiet");
        sandbox.ok(&format!("{command} {options} --out {packed}"));
        let as_dense = options.replace(" --format int-quantized", "");
        sandbox.ok(&format!("{command} {as_dense} --format dense --out {dense}"));
        let made = sandbox.ok(&format!("decompress {packed} --out {plain} --json")).json();
        assert_eq!(made["decoded"], 14, "{options}");
        let (want, got) = (sandbox.perplexity(&dense), sandbox.perplexity(&packed));
        same(got, want, options);
        same(sandbox.perplexity(&plain), want, options);
        assert!(want.is_finite() && want != sandbox.perplexity(model), "{options}: nothing changed");
        let (packed, dense, plain) = (sandbox.open(&packed), sandbox.open(&dense), sandbox.open(&plain));
        let has_config = |c: &paring_format::Checkpoint| c.quant_config().unwrap().is_some();
        assert!(has_config(&packed) && !has_config(&dense) && !has_config(&plain), "{options}");
        let original = sandbox.open(model);
        assert_eq!(plain.names().collect::<Vec<_>>(), original.names().collect::<Vec<_>>());
        for name in plain.names() {
            assert!(tensor(&plain, name) == tensor(&dense, name), "{options}: {name}");
            assert_eq!(plain.info(name).unwrap().dtype, original.info(name).unwrap().dtype, "{options}: {name}");
        }
    }
}

/// Zeros of a pruned model survive quantization, in codes as in dense weights.
#[test]
fn a_pruned_model_stays_sparse() {
    let sandbox = Sandbox::new();
    for prune in ["--method wanda --pattern 2:4", "--method sparsegpt --sparsity 0.6"] {
        sandbox.ok(&format!("sparsify model calib.safetensors --quiet --overwrite --out sparse {prune}"));
        let sparse = weights(&sandbox.open("sparse"));
        let share = sandbox.json("inspect sparse")["sparsity"].as_f64().unwrap();
        assert!((0.49..0.65).contains(&share), "{prune}: {share}");
        for options in [
            "--wbits 4",
            "--wbits 4 --sym",
            "--wbits 3 --groupsize 16 --actorder static",
            "--wbits 2 --groupsize 16 --mse",
            "--wbits 4 --groupsize 16 --method rtn",
            "--wbits 4 --groupsize 16 --sym --method rtn",
            "--wbits 8 --format int-quantized",
            "--wbits 4 --groupsize 16 --format dense",
            "--wbits 4 --groupsize 16 --sym --format dense",
        ] {
            sandbox.ok(&format!("quantize sparse calib.safetensors --quiet --overwrite --out out {options}"));
            let quantized = weights(&sandbox.open("out"));
            for (module, before) in &sparse {
                let lost = before.iter().zip(&quantized[module]).filter(|(a, b)| **a == 0.0 && **b != 0.0).count();
                assert_eq!(lost, 0, "{prune} {options}: {module} lost zeros");
            }
        }
    }
}

/// Terminal, page and card say the same: zeros are those of the run or of its input, and not the codes that happen to be 0.
#[test]
fn only_what_was_removed_is_called_pruned() {
    let sandbox = Sandbox::new();
    sandbox.ok("prune model --method magnitude --pattern 2:4 --quiet --out sparse");
    for (model, zeros) in [("model", false), ("sparse", true)] {
        let run = format!("quantize {model} --method rtn --wbits 2 --sym --quiet --overwrite --out out");
        let shown = sandbox.ok(&run).stdout;
        assert!(json_file(&sandbox.path("out/report.json"))["sparsity"].as_f64().unwrap() > 0.45);
        let file = |name: &str| std::fs::read_to_string(sandbox.path("out").join(name)).unwrap();
        assert_eq!(shown.contains("% zeros"), zeros, "{shown}");
        assert_eq!(file("report.html").contains("<dt>Zeros</dt>"), zeros, "{model}");
        assert_eq!(file("README.md").contains("% pruned"), zeros, "{model}");
    }
}

/// Both at once is one sweep: the pattern holds, and codes say zero where it dropped.
#[test]
fn pruning_and_quantizing_in_one_sweep() {
    let sandbox = Sandbox::new();
    let run = "sparsify model calib.safetensors --quiet --pattern 2:4 --wbits 4 --groupsize 16";
    let report = sandbox.json(&format!("{run} --out out"));
    assert!(report["sparsity"].as_f64().unwrap() >= 0.5);
    for (module, weight) in weights(&sandbox.open("out")) {
        let full = weight.chunks(4).filter(|four| four.iter().filter(|v| **v != 0.0).count() > 2).count();
        assert_eq!(full, 0, "{module}");
    }
    sandbox.ok(&format!("{run} --format dense --out dense"));
    same(sandbox.perplexity("out"), sandbox.perplexity("dense"), "one sweep");
}

/// A model that is packed already is read as what it stands for.
#[test]
fn a_packed_model_is_compressed_again() {
    let sandbox = Sandbox::new();
    let first = sandbox.json(&format!("{QUANTIZE} --groupsize 16 --out packed"));
    sandbox.ok("decompress packed --out plain");
    for (i, command) in ["quantize --wbits 3 --sym", "sparsify --pattern 2:4", "quantize --wbits 8 --method rtn"]
        .into_iter()
        .enumerate()
    {
        let (name, options) = command.split_once(' ').unwrap();
        for from in ["packed", "plain"] {
            sandbox.ok(&format!("{name} {from} calib.safetensors --quiet {options} --out {from}{i}"));
        }
        let (a, b) = (model_bytes(&sandbox.path(&format!("packed{i}"))), format!("plain{i}"));
        assert!(a == model_bytes(&sandbox.path(&b)), "{command}");
    }
    // Linears that are not chosen are stored dense: there is one scheme per checkpoint.
    let run = "quantize packed calib.safetensors --wbits 3 --layers 1..2 --out half";
    sandbox.ok(&format!("{run} --quiet"));
    let (plain, half) = (weights(&sandbox.open("plain")), sandbox.open("half"));
    let kept = plain.iter().filter(|(module, _)| module.contains("layers.0."));
    kept.for_each(|(module, weight)| assert!(floats(&half, &format!("{module}.weight")) == *weight, "{module}"));
    assert!(sandbox.perplexity("half").is_finite());
    // Bits before and after are counted alike.
    sandbox.ok("quantize packed calib.safetensors --wbits 4 --groupsize 16 --quiet --out again");
    let row = |out: &str| -> Vec<String> {
        let shown = sandbox.ok(&format!("report {out}")).stdout;
        let line = shown.lines().find(|line| line.starts_with("bits per weight")).unwrap();
        line.split_whitespace().skip(3).map(String::from).collect()
    };
    let bits = format!("{:.2}", first["bits_per_weight"].as_f64().unwrap());
    assert_eq!(row("again"), [bits.as_str(), bits.as_str()]);
    assert_eq!(row("half")[0], bits);
}

/// Linears that are not chosen stay as they were, and the config says so.
#[test]
fn chosen_linears() {
    let sandbox = Sandbox::new();
    let original = sandbox.open("model");
    let all = linears(&original);
    for (i, (options, chosen)) in [
        ("--layers 1..2", (|name: &str| name.contains("layers.1.")) as fn(&str) -> bool),
        ("--include re:.*mlp", |name| name.contains("mlp")),
        ("--include model.layers.0.self_attn.q_proj", |name| name == "model.layers.0.self_attn.q_proj"),
        ("--ignore re:.*down_proj --ignore lm_head", |name| !name.contains("down_proj")),
        ("--include re:.*proj --ignore re:model.layers.0 --ignore model.layers.1.mlp.up_proj", |name| {
            name.contains("layers.1.") && !name.ends_with("up_proj")
        }),
        ("--include re:.*k_proj --true-sequential", |name| name.ends_with("k_proj")),
        ("--ignore re:.*v_proj --method rtn", |name| !name.ends_with("v_proj")),
    ]
    .into_iter()
    .enumerate()
    {
        let report = sandbox.json(&format!("{QUANTIZE} --out out{i} {options}"));
        let made = sandbox.open(&format!("out{i}"));
        let expected: BTreeSet<&str> = all.iter().map(String::as_str).filter(|name| chosen(name)).collect();
        let layers = report["layers"].as_array().unwrap();
        let reported: BTreeSet<&str> = layers.iter().map(|layer| layer["name"].as_str().unwrap()).collect();
        assert_eq!(reported, expected, "{options}");
        let ignored: BTreeSet<String> = made.quant_config().unwrap().unwrap().ignore.into_iter().collect();
        for module in &all {
            let name = format!("{module}.weight");
            let kept = !expected.contains(module.as_str());
            assert_eq!(ignored.contains(module), kept, "{options}: {module}");
            assert_eq!(made.info(&name).is_some(), kept, "{options}: {module}");
            if kept {
                assert!(tensor(&made, &name) == tensor(&original, &name), "{options}: {module} changed");
            }
        }
        assert!(ignored.contains("lm_head"), "{options}");
        for name in original.names().filter(|name| !name.contains("_proj")) {
            assert!(tensor(&made, name) == tensor(&original, name), "{options}: {name} changed");
        }
        assert!(sandbox.perplexity(&format!("out{i}")).is_finite());
    }
}

#[test]
fn threads_and_repetition_change_no_byte() {
    let sandbox = Sandbox::new();
    for (i, command) in [
        "quantize model calib.safetensors --wbits 3 --groupsize 16 --true-sequential",
        "quantize model calib.safetensors --wbits 4 --actorder static --groupsize 16",
        "sparsify model calib.safetensors --sparsity 0.5",
        "sparsify model calib.safetensors --pattern 2:4 --method wanda",
        "sparsify model --pattern 4:8 --method magnitude",
    ]
    .into_iter()
    .enumerate()
    {
        let outputs = [1, 2, 2].into_iter().enumerate().map(|(j, threads)| {
            let out = format!("out{i}.{j}");
            sandbox.ok(&format!("{command} --quiet --threads {threads} --out {out}"));
            model_bytes(&sandbox.path(&out))
        });
        let outputs: Vec<_> = outputs.collect();
        assert_eq!(outputs[0].len(), 2, "{command}: a config and one file of weights");
        assert!(outputs[0] == outputs[1] && outputs[1] == outputs[2], "{command}");
    }
}

#[test]
fn methods_that_need_no_data() {
    let sandbox = Sandbox::new();
    let rtn = sandbox.json("quantize model --method rtn --wbits 4 --groupsize 16 --quiet --out rtn");
    let magnitude = sandbox.json("sparsify model --method magnitude --sparsity 0.5 --quiet --out magnitude");
    for report in [&rtn, &magnitude] {
        let layer = &report["layers"][0];
        assert!(layer["error"].is_null() && layer["damp"].is_null(), "{layer}");
    }
    let share = magnitude["sparsity"].as_f64().unwrap();
    assert!((0.5..0.51).contains(&share), "{share}");
    assert!(sandbox.perplexity("rtn").is_finite() && sandbox.perplexity("magnitude").is_finite());
}

/// Options as the published scripts write them.
#[test]
fn underscores_and_save() {
    let sandbox = Sandbox::new();
    sandbox.ok(&format!("{QUANTIZE} --perchannel --true_sequential --save scripted"));
    sandbox.ok(&format!("{QUANTIZE} --perchannel --true-sequential --out plain"));
    assert!(model_bytes(&sandbox.path("scripted")) == model_bytes(&sandbox.path("plain")));
    sandbox.ok(&format!("{QUANTIZE} --true-sequential=false --out otherwise"));
    assert!(model_bytes(&sandbox.path("otherwise")) != model_bytes(&sandbox.path("plain")));
    sandbox.ok("quantize model calib.safetensors --quiet --wbits=4 --static_groups --save=equals");
    assert!(sandbox.holds_model("equals"));
}

/// A head that is the embedding, and biases: neither is lost or doubled.
#[test]
fn tied_heads_and_biases() {
    let sandbox = Sandbox::new();
    Model::golden("bias_tied").write(&sandbox.path("tied"));
    sandbox.ok("quantize tied calib.safetensors --wbits 8 --groupsize -1 --quiet --out out");
    let (original, made) = (sandbox.open("tied"), sandbox.open("out"));
    assert!(made.info("lm_head.weight").is_none());
    assert_eq!(made.config()["tie_word_embeddings"], true);
    let biases: Vec<&str> = original.names().filter(|name| name.ends_with(".bias")).collect();
    assert_eq!(biases.len(), 7);
    for name in biases.into_iter().chain(["model.embed_tokens.weight", "model.norm.weight"]) {
        assert!(tensor(&made, name) == tensor(&original, name), "{name}");
    }
    let (before, after) = (sandbox.perplexity("tied"), sandbox.perplexity("out"));
    assert!((after / before - 1.0).abs() < 0.05, "perplexity from {before} to {after}");
    sandbox.ok("decompress out --out plain");
    same(sandbox.perplexity("plain"), after, "decompressed");
}

/// Files agree with the report: bits are counted on disk, and codes stay in their range.
#[test]
fn bits_on_disk() {
    let sandbox = Sandbox::new();
    let report = sandbox.json(&format!("{QUANTIZE} --groupsize 16 --out out"));
    let made = sandbox.open("out");
    for layer in report["layers"].as_array().unwrap() {
        let name = layer["name"].as_str().unwrap();
        let parts = made.names().filter(|n| n.strip_prefix(name).is_some_and(|rest| rest.starts_with(".weight")));
        let bytes: usize = parts.map(|part| made.info(part).unwrap().bytes()).sum();
        let elements = layer["rows"].as_u64().unwrap() * layer["cols"].as_u64().unwrap();
        assert_eq!(layer["bits"].as_f64().unwrap(), bytes as f64 * 8.0 / elements as f64, "{name}");
        let Values::Codes { codes, grid } = made.read_module(name).unwrap().values else { panic!("{name} is dense") };
        assert_eq!((grid.element, grid.tile), (Element::Int(4), [1, 16]));
        assert!(codes.iter().all(|code| (-8..8).contains(code)), "{name}");
    }
    let files: u64 = model_bytes(&sandbox.path("out")).values().map(|bytes| bytes.len() as u64).sum();
    assert!(report["bytes_out"].as_u64().unwrap() < files);
    let plan: Value = json_file(&sandbox.path("out/paring.json"));
    assert_eq!(plan["plan"]["recipe"]["rounding"]["weights"]["num_bits"], 4);
    assert!(fs::read_to_string(sandbox.path("out/config.json")).unwrap().contains("pack-quantized"));
}
