//! Every family through every method and format: what is compressed, what is left alone, and that all commands read it.

mod support;

use std::collections::BTreeSet;

use support::*;

/// Folders of `tests/golden/models` and the linears inside their blocks. All have the golden Llama's vocabulary, so that
/// its tokens serve them.
const MODELS: [(&str, usize); 12] = [
    ("opt_post_norm", 12),
    ("opt_bare", 12),
    ("opt_untied", 12),
    ("mistral_window", 14),
    ("mistral_full", 14),
    ("qwen2_window", 14),
    ("qwen3", 14),
    ("falcon_7b", 8),
    ("falcon_11b", 8),
    ("falcon_40b", 8),
    ("falcon_old_7b", 8),
    ("falcon_rw", 8),
];

/// The golden Llama's tokens, and another model.
fn sandbox(model: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    Model::golden(model).write(&sandbox.path("model"));
    sandbox
}

/// Runs a command that writes the folder `out`, and checks that it changed the weights of `linears` linears of the blocks,
/// that it left each other tensor as it was, and that `verify` finds nothing wrong. Returns the perplexity.
fn made(sandbox: &Sandbox, name: &str, command: &str, linears: usize, out: &str) -> f64 {
    let report = sandbox.json(&format!("{command} --quiet --out {out}"));
    let layers = report["layers"].as_array().unwrap().iter().map(|layer| layer["name"].as_str().unwrap());
    let modules: BTreeSet<&str> = layers.collect();
    assert_eq!(modules.len(), linears, "{name}: {command}");
    let (original, made) = (sandbox.open("model"), sandbox.open(out));
    for tensor_name in original.names() {
        let module = tensor_name.strip_suffix(".weight").unwrap_or_default();
        if !modules.contains(module) {
            assert!(tensor(&made, tensor_name) == tensor(&original, tensor_name), "{name}: {command}: {tensor_name}");
        } else {
            let dense = made.read_module(module).unwrap().to_dense();
            assert!(dense != floats(&original, tensor_name), "{name}: {command}: {module} is as it was");
        }
    }
    let verified = sandbox.json(&format!("verify {out}"));
    assert_eq!(
        (&verified["ok"], verified["linears"].as_u64()),
        (&true.into(), Some(linears as u64)),
        "{name}: {command}"
    );
    let perplexity = sandbox.perplexity(out);
    assert!(perplexity.is_finite() && perplexity > 1.0, "{name}: {command}: perplexity {perplexity}");
    perplexity
}

#[test]
fn pruned() {
    for (name, linears) in MODELS {
        let sandbox = sandbox(name);
        for (i, method) in ["magnitude", "wanda", "sparsegpt"].into_iter().enumerate() {
            let out = format!("out{i}");
            let command = format!("sparsify model calib.safetensors --method {method} --pattern 2:4");
            made(&sandbox, name, &command, linears, &out);
            let pruned = sandbox.open(&out);
            let summary = sandbox.json(&format!("inspect {out}"));
            let tensors = summary["tensors"].as_array().unwrap();
            let half = tensors.iter().filter(|t| t["sparsity"].as_f64().unwrap() == 0.5).count();
            assert_eq!(half, linears, "{name}: {method}");
            assert!(pruned.quant_config().unwrap().is_none());
        }
    }
}

#[test]
fn quantized_in_every_format() {
    for (name, linears) in MODELS {
        let sandbox = sandbox(name);
        let spqr = "--outlier-threshold 0.2 --qq-scale-bits 3 --qq-zero-bits 3 --qq-groupsize 8";
        for (i, (options, format)) in [
            ("--method rtn --wbits 8 --groupsize 8", "int-quantized"),
            ("--method gptq --wbits 4 --groupsize 8 --true-sequential", "pack-quantized"),
            ("--method gptq --wbits 3 --groupsize 8 --actorder static", "pack-quantized"),
            (&format!("--method spqr --wbits 4 --groupsize 8 {spqr}"), "paring-spqr"),
        ]
        .into_iter()
        .enumerate()
        {
            let command = format!("quantize model calib.safetensors {options} --format");
            let (packed, dense, plain) = (format!("packed{i}"), format!("dense{i}"), format!("plain{i}"));
            let perplexity = made(&sandbox, name, &format!("{command} {format}"), linears, &packed);
            assert_eq!(sandbox.json(&format!("inspect {packed}"))["format"], format, "{name}: {options}");
            // The same weights, stored plainly and decoded again.
            let stored_plainly = made(&sandbox, name, &format!("{command} dense"), linears, &dense);
            assert!((perplexity / stored_plainly - 1.0).abs() < 1e-9, "{name}: {options}");
            let decoded = sandbox.json(&format!("decompress {packed} --out {plain}"));
            assert_eq!(decoded["decoded"].as_u64(), Some(linears as u64), "{name}: {options}");
            let (dense, plain) = (sandbox.open(&dense), sandbox.open(&plain));
            assert!(plain.names().eq(dense.names()), "{name}: {options}");
            for tensor_name in plain.names() {
                assert!(tensor(&plain, tensor_name) == tensor(&dense, tensor_name), "{name}: {options}: {tensor_name}");
            }
        }
    }
}

/// A quantization of all linears does not mean those around the blocks, and says so to other readers.
#[test]
fn projections_around_the_blocks_are_ignored() {
    let sandbox = sandbox("opt_post_norm");
    let outer = ["model.decoder.project_in", "model.decoder.project_out", "lm_head"];
    let command = "quantize model --method rtn --wbits 4 --groupsize 8";
    made(&sandbox, "opt_post_norm", command, 12, "packed");
    assert_eq!(sandbox.open("packed").config()["quantization_config"]["ignore"], serde_json::json!(outer));
    // Naming one is harmless, as it is for the head.
    made(&sandbox, "opt_post_norm", &format!("{command} --ignore model.decoder.project_in"), 12, "named");

    let mut forgotten = Model::read(&sandbox.open("packed"));
    forgotten.config["quantization_config"]["ignore"] = serde_json::json!(["lm_head"]);
    forgotten.write(&sandbox.path("forgotten"));
    sandbox.refused("eval forgotten eval.safetensors --seqlen 32", 1, &["model.decoder.project_in"]).unwrap();
}
