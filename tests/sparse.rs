//! Legacy sparse formats: written, read back, and as old checkpoints have them.

mod support;

use paring_format::writer::NamedTensor;
use paring_format::{Checkpoint, Dtype};
use serde_json::json;

use support::*;

/// Without calibration data, on the built-in model.
const PRUNE: &str = "sparsify model --method magnitude --quiet";
const BOTH: &str = "sparsify model calib.safetensors --quiet";

fn same_tensors(a: &Checkpoint, b: &Checkpoint, what: &str) {
    assert_eq!(a.names().collect::<Vec<_>>(), b.names().collect::<Vec<_>>(), "{what}");
    for name in a.names() {
        assert!(tensor(a, name) == tensor(b, name), "{what}: {name}");
    }
}

/// A run with a sparse format and the same one without are the same model for every command.
#[test]
fn sparse_formats_mean_the_same() {
    let sandbox = Sandbox::new();
    let plain = sandbox.open("model");
    for (i, (command, options, format, shown)) in [
        (PRUNE, "--pattern 2:4", "sparse-24-bitmask", "sparse-24-bitmask"),
        (PRUNE, "--pattern 2:4", "sparse-bitmask", "sparse-bitmask"),
        (PRUNE, "--sparsity 0.7", "sparse-bitmask", "sparse-bitmask"),
        (BOTH, "--pattern 2:4 --wbits 8 --sym", "sparse-24-bitmask", "sparse-24-bitmask+int-quantized"),
        (BOTH, "--pattern 1:4 --wbits 8 --sym --groupsize 16", "sparse-bitmask", "sparse-bitmask+int-quantized"),
    ]
    .into_iter()
    .enumerate()
    {
        let what = format!("{options} --format {format}");
        let (sparse, dense, whole) = (format!("sparse{i}"), format!("dense{i}"), format!("whole{i}"));
        let ran = sandbox.ok(&format!("{command} {what} --out {sparse}"));
        let note = format!("{format} is a legacy format that no other current program reads; use");
        assert_eq!(ran.stderr.matches(&note).count(), 1, "{}", ran.stderr);
        sandbox.ok(&format!("{command} {options} --format dense --out {dense}"));
        assert_eq!(sandbox.perplexity(&sparse), sandbox.perplexity(&dense), "{what}");
        assert_eq!(sandbox.json(&format!("decompress {sparse} --out {whole}"))["decoded"], 14, "{what}");
        same_tensors(&sandbox.open(&whole), &sandbox.open(&dense), &what);
        assert!(sandbox.open(&whole).quant_config().unwrap().is_none(), "{what}");
        let verified = sandbox.json(&format!("verify {sparse}"));
        assert_eq!(verified["formats"], json!({shown: 14}), "{what}");
        assert_eq!(verified["digests_checked"], plain.names().count(), "{what}");
        let (inspected, of_dense) =
            (sandbox.json(&format!("inspect {sparse}")), sandbox.json(&format!("inspect {dense}")));
        assert_eq!(inspected["format"], shown, "{what}");
        let bits = |summary: &serde_json::Value| summary["bits_per_weight"].as_f64().unwrap();
        assert!(bits(&inspected) < 0.8 * bits(&of_dense), "{what}: {}", bits(&inspected));
        let rows = inspected["tensors"].as_array().unwrap();
        assert_eq!(rows.iter().filter(|row| row["format"].as_str().unwrap().starts_with(shown)).count(), 14, "{what}");
        // The form of release 0.14: no groups where nothing is quantized.
        let config = &json_file(&sandbox.path(&sparse).join("config.json"))["quantization_config"];
        assert_eq!(config["sparsity_config"]["format"], format);
        assert_eq!(config["sparsity_config"]["targets"], json!(["Linear"]));
        assert_eq!(config["sparsity_config"]["ignore"], json!(["lm_head"]));
        assert_eq!(config.get("config_groups").is_some(), shown.contains("int-quantized"), "{config}");
        assert_eq!(config["version"], "0.14.0.1");
    }
}

/// Two of four weights in 4 or 8 bits, with the numbers that the same run packs otherwise.
#[test]
fn marlin_holds_what_is_packed_otherwise() {
    let sandbox = Sandbox::new();
    sandbox.ok("decompress demo --out bf16");
    Model::read(&sandbox.open("bf16")).stored_as(Dtype::F16).write(&sandbox.path("model"));
    let ids: Vec<i64> = (0..2 * 64).map(|i| i * i % 601).collect();
    token_file(&sandbox.path("calib.safetensors"), &[2, 64], &ids);
    token_file(&sandbox.path("eval.safetensors"), &[2, 64], &ids);
    for (i, options) in ["--wbits 4 --sym --groupsize 128", "--wbits 8 --sym"].into_iter().enumerate() {
        let run = format!("{BOTH} --pattern 2:4 {options}");
        let (marlin, packed, whole) = (format!("marlin{i}"), format!("packed{i}"), format!("whole{i}"));
        let ran = sandbox.ok(&format!("{run} --format marlin-24 --out {marlin}"));
        assert!(ran.stderr.contains("marlin-24 is a legacy format"), "{}", ran.stderr);
        sandbox.ok(&format!("{run} --format pack-quantized --out {packed}"));
        assert_eq!(weights(&sandbox.open(&marlin)), weights(&sandbox.open(&packed)), "{options}");
        assert_eq!(sandbox.perplexity(&marlin), sandbox.perplexity(&packed), "{options}");
        assert_eq!(sandbox.json(&format!("verify {marlin}"))["formats"], json!({"marlin-24": 42}));
        assert_eq!(sandbox.json(&format!("inspect {marlin}"))["format"], "marlin-24");
        sandbox.ok(&format!("decompress {marlin} --out {whole}"));
        assert_eq!(sandbox.perplexity(&whole), sandbox.perplexity(&marlin), "{options}");
    }
    // Other floats become f16, and the config says so.
    sandbox
        .ok(&format!("{} --format marlin-24 --wbits 4 --sym --pattern 2:4 --out cast", BOTH.replace("model", "bf16")));
    let cast = sandbox.open("cast");
    assert!(cast.names().all(|name| cast.info(name).unwrap().dtype != Dtype::Bf16));
    assert_eq!(cast.config()["dtype"], "float16");
    assert!(sandbox.json("verify cast")["ok"].as_bool().unwrap());
}

/// A pruned model can be stored sparse when it is quantized; any other is refused.
#[test]
fn pruned_models_are_quantized_into_sparse_formats() {
    let sandbox = Sandbox::new();
    sandbox.ok(&format!("{PRUNE} --pattern 2:4 --out pruned"));
    let quantize = "--quiet --method rtn --wbits 8 --sym --format sparse-24-bitmask --out";
    sandbox.ok(&format!("quantize pruned {quantize} out8"));
    let (pruned, quantized) = (weights(&sandbox.open("pruned")), weights(&sandbox.open("out8")));
    for (module, values) in quantized {
        assert!(values.iter().zip(&pruned[&module]).all(|(q, p)| *p != 0.0 || *q == 0.0), "{module}");
    }
    let words = ["model.layers.0.self_attn.q_proj: row 0, column ", "more than two weights of four"];
    let refused = sandbox.run(&format!("quantize model {quantize} out"));
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert!(words.iter().all(|word| refused.stderr.contains(word)), "{}", refused.stderr);
    assert!(!sandbox.holds_model("out"));
}

#[test]
fn what_does_not_fit_is_refused_before_the_work() {
    let sandbox = Sandbox::new();
    let mut wrong = Vec::new();
    for (options, words) in [
        ("--pattern 2:4 --format marlin-24", "add --wbits 4 --sym"),
        ("--pattern 2:4 --wbits 4 --format marlin-24", "add --sym"),
        ("--pattern 2:4 --wbits 3 --sym --format marlin-24", "integers of 4 or 8 bits in groups of 128"),
        ("--pattern 2:4 --wbits 4 --sym --groupsize 16 --format marlin-24", "in groups of 128 or whole rows"),
        ("--pattern 4:8 --wbits 4 --sym --format marlin-24", "prune with --pattern 2:4"),
        ("--sparsity 0.5 --format sparse-24-bitmask", "prune with --pattern 2:4"),
        ("--pattern 3:4 --format sparse-24-bitmask", "prune with --pattern 2:4"),
        ("--pattern 2:4 --wbits 8 --format sparse-24-bitmask", "add --sym"),
        ("--pattern 2:4 --wbits 4 --sym --format sparse-bitmask", "integers of 8 bits or unquantized weights"),
    ] {
        if let Err(text) = sandbox.refused(&format!("{BOTH} {options} --out out"), 2, &[words]) {
            wrong.push(text);
        }
    }
    let small = format!("{BOTH} --pattern 2:4 --wbits 4 --sym --format marlin-24 --out out");
    if let Err(text) = sandbox.refused(&small, 1, &["q_proj", "[32, 32] does not fit the tiles of marlin-24, [64, 32]"])
    {
        wrong.push(text);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// The parts of a tensor as compressed-tensors before 0.9 named them, by the definition.
fn old_parts(tensor: &NamedTensor) -> Vec<NamedTensor> {
    let (cols, size) = (*tensor.shape.last().unwrap(), tensor.dtype.size());
    let (mut values, mut mask, mut offsets, mut found) = (Vec::new(), Vec::new(), Vec::new(), 0i64);
    for row in tensor.bytes.chunks(cols * size) {
        let mut bits = vec![0u8; cols.div_ceil(8)];
        offsets.push(found);
        for (col, element) in row.chunks(size).enumerate().filter(|(_, e)| e.iter().any(|&byte| byte != 0)) {
            bits[col / 8] |= 1 << (col % 8);
            values.extend_from_slice(element);
            found += 1;
        }
        mask.extend(bits);
    }
    let above = tensor.shape[..tensor.shape.len() - 1].to_vec();
    let numbers = |numbers: &[i64]| numbers.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>();
    let shape: Vec<i64> = tensor.shape.iter().map(|&n| n as i64).collect();
    let part = |local: &str, dtype, shape: Vec<usize>, bytes| NamedTensor {
        name: format!("{}.{local}", tensor.name),
        dtype,
        shape,
        bytes,
    };
    vec![
        part("compressed", tensor.dtype, vec![found as usize], values),
        part("bitmask", Dtype::U8, [&above[..], &[cols.div_ceil(8)]].concat(), mask),
        part("row_offsets", Dtype::I64, above, numbers(&offsets)),
        part("shape", Dtype::I64, vec![shape.len()], numbers(&shape)),
    ]
}

/// Every tensor called weight is sparse, norms and embeddings too.
#[test]
fn old_checkpoints_are_read() {
    let sandbox = Sandbox::new();
    sandbox.ok(&format!("{PRUNE} --sparsity 0.6 --out pruned"));
    let pruned = Model::read(&sandbox.open("pruned"));
    let mut old = pruned.clone();
    old.tensors = pruned.tensors.iter().flat_map(old_parts).collect();
    old.config["quantization_config"] = json!({"quant_method": "compressed-tensors", "version": "0.8.1",
        "sparsity_config": {"format": "sparse-bitmask", "global_sparsity": 0.55, "sparsity_structure": "unstructured"}});
    old.write(&sandbox.path("old"));
    assert_eq!(sandbox.perplexity("old"), sandbox.perplexity("pruned"));
    let inspected = sandbox.json("inspect old");
    assert_eq!(inspected["format"], "sparse-bitmask");
    let norm = inspected["tensors"].as_array().unwrap().iter().find(|row| row["name"] == "model.norm.weight").unwrap();
    assert_eq!((&norm["format"], &norm["shape"]), (&json!("sparse-bitmask F32"), &json!([32])));
    assert_eq!(sandbox.json("verify old")["formats"], json!({"sparse-bitmask": 14}));
    sandbox.ok("decompress old --out whole");
    same_tensors(&sandbox.open("whole"), &sandbox.open("pruned"), "decompressed");
    let quantize = "calib.safetensors --wbits 4 --groupsize 16 --quiet --out";
    sandbox.ok(&format!("quantize old {quantize} old4"));
    sandbox.ok(&format!("quantize pruned {quantize} pruned4"));
    same_tensors(&sandbox.open("old4"), &sandbox.open("pruned4"), "quantized");

    // A bit that belongs to no value.
    let mask = old.tensor("model.layers.1.mlp.up_proj.weight.bitmask");
    let first = mask.bytes.iter().position(|&byte| byte != 0xff).unwrap();
    mask.bytes[first] = 0xff;
    old.write(&sandbox.path("old"));
    let words = ["model.safetensors: model.layers.1.mlp.up_proj.weight.row_offsets: ", "expected "];
    sandbox.refused("eval old eval.safetensors --seqlen 32 --quiet", 1, &words).unwrap();
}
