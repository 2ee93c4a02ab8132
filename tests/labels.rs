//! Contents over labels, through the binary: compressed checkpoints as others leave them.

mod support;

use std::fs;
use std::path::Path;

use paring_format::writer::NamedTensor;
use paring_format::{Checkpoint, Dtype};
use serde_json::{Value, json};

use support::*;

/// A model that compressed-tensors wrote.
fn official(name: &str) -> Model {
    Model::read(&Checkpoint::open(&golden("ct_models").join(name)).unwrap())
}

fn quant(model: &mut Model) -> &mut Value {
    &mut model.config["quantization_config"]
}

/// Takes a key out of every group of a quantization.
fn without_in_groups(quant: &mut Value, key: &str) {
    for group in quant["config_groups"].as_object_mut().unwrap().values_mut() {
        group.as_object_mut().unwrap().remove(key);
    }
}

/// The bytes of the dense model that a model decompresses to.
fn decompressed(sandbox: &Sandbox, model: &Model) -> Vec<(String, Vec<u8>)> {
    model.write(&sandbox.path("stored"));
    sandbox.ok("decompress stored --out dense --overwrite --quiet");
    let made = model_bytes(&sandbox.path("dense"));
    made.into_iter().filter(|(name, _)| name != "config.json").collect()
}

/// A golden Llama, quantized with these options into `made`, as one file in memory.
fn made(sandbox: &Sandbox, options: &str) -> Model {
    sandbox.ok(&format!("quantize model calib.safetensors {options} --out made --overwrite --quiet"));
    Model::read(&sandbox.open("made"))
}

/// The perplexity of a model in memory.
fn perplexity(sandbox: &Sandbox, model: &Model) -> f64 {
    fs::remove_dir_all(sandbox.path("changed")).unwrap_or(());
    model.write(&sandbox.path("changed"));
    sandbox.perplexity("changed")
}

const STATUSES: [Option<&str>; 6] =
    [Some("compressed"), Some("frozen"), Some("initialized"), Some("calibration"), Some("a word"), None];

#[test]
fn codes_are_read_whatever_the_status_says() {
    let sandbox = Sandbox::empty();
    let entries = fs::read_dir(golden("ct_models")).unwrap().map(|entry| entry.unwrap());
    let names = entries.filter(|e| e.path().is_dir()).map(|e| e.file_name().into_string().unwrap());
    let mut tried = 0;
    for name in names.filter(|name| !name.contains("dense")) {
        let wanted = decompressed(&sandbox, &official(&name));
        for (i, status) in STATUSES.into_iter().enumerate() {
            let mut changed = official(&name);
            quant(&mut changed)["quantization_status"] = status.map_or(Value::Null, Value::from);
            match i % 3 {
                0 => without_in_groups(quant(&mut changed), "format"),
                1 => quant(&mut changed)["format"] = "dense".into(),
                _ => {
                    for group in quant(&mut changed)["config_groups"].as_object_mut().unwrap().values_mut() {
                        group["format"] = "dense".into();
                    }
                }
            }
            assert!(decompressed(&sandbox, &changed) == wanted, "{name}, {status:?}");
            tried += 1;
        }
    }
    assert_eq!(tried, 20 * STATUSES.len());
}

#[test]
fn floats_beside_scales_are_rounded_whatever_the_status_says() {
    let sandbox = Sandbox::empty();
    official("dense_frozen_w8a16_f32").write(&sandbox.path("frozen"));
    let wanted = weights(&sandbox.open("frozen"));
    for status in STATUSES {
        for format in [None, Some("pack-quantized"), Some("int-quantized")] {
            let mut changed = official("dense_frozen_w8a16_f32");
            quant(&mut changed)["quantization_status"] = status.map_or(Value::Null, Value::from);
            without_in_groups(quant(&mut changed), "format");
            if let Some(format) = format {
                for group in quant(&mut changed)["config_groups"].as_object_mut().unwrap().values_mut() {
                    group["format"] = format.into();
                }
            }
            changed.write(&sandbox.path("changed"));
            assert!(weights(&sandbox.open("changed")) == wanted, "{status:?}, {format:?}");
            sandbox.ok("verify changed --quiet");
        }
    }
    // Compressed weights that say they are dense are: nothing rounds them as the model runs.
    let mut plain = official("dense_frozen_w8a16_f32");
    quant(&mut plain)["quantization_status"] = "compressed".into();
    for group in quant(&mut plain)["config_groups"].as_object_mut().unwrap().values_mut() {
        group["format"] = "dense".into();
    }
    plain.write(&sandbox.path("changed"));
    let name = "model.layers.0.mlp.up_proj";
    let read = sandbox.open("changed").read_module(name).unwrap().to_dense();
    assert_eq!(read, floats(&sandbox.open("changed"), &format!("{name}.weight")));
}

#[test]
fn a_weight_that_cannot_be_what_the_label_says_is_named_with_the_label() {
    let sandbox = Sandbox::new();
    let quantized = made(&sandbox, "--method rtn --wbits 4 --groupsize 16");
    for (status, words) in [(Some("frozen"), "is \"frozen\""), (None, "has no quantization_status")] {
        let mut dense = Model::golden("llama");
        dense.config["quantization_config"] = quantized.config["quantization_config"].clone();
        quant(&mut dense)["quantization_status"] = status.map_or(Value::Null, Value::from);
        dense.write(&sandbox.path("dense"));
        let words = [
            "model.layers.0.self_attn.q_proj",
            "F32 without scales",
            "4-bit, groups of 16, asymmetric",
            words,
            "ignore",
        ];
        sandbox.refused("eval dense eval.safetensors --seqlen 32 --quiet", 1, &words).unwrap();
        let command = "quantize dense calib.safetensors --wbits 4 --out out --quiet";
        sandbox.refused(command, 1, &words).unwrap();
    }
    let mut lacking = quantized;
    quant(&mut lacking)["quantization_status"] = "frozen".into();
    lacking.tensors.retain(|t| !t.name.ends_with("q_proj.weight_scale"));
    lacking.write(&sandbox.path("lacking"));
    let words = ["q_proj.weight_scale", "quantization_config.quantization_status is \"frozen\""];
    sandbox.refused("eval lacking eval.safetensors --seqlen 32 --quiet", 1, &words).unwrap();
}

/// A tensor of zeros beside another one.
fn zeros(name: String, dtype: Dtype, shape: &[usize]) -> NamedTensor {
    NamedTensor { name, dtype, shape: shape.to_vec(), bytes: vec![0; dtype.bytes_of(shape).unwrap()] }
}

#[test]
fn zero_points_of_symmetric_schemes_mean_nothing() {
    let sandbox = Sandbox::new();
    let model = made(&sandbox, "--scheme FP8 --kv-cache fp8 --nsamples 4 --seqlen 32");
    let wanted = perplexity(&sandbox, &model);
    for (dtype, shape, fill) in [(Dtype::F8E4M3, &[1][..], 0), (Dtype::I8, &[], 0), (Dtype::I8, &[1], 1)] {
        let mut changed = model.clone();
        for t in &model.tensors {
            let beside = |end: &str, with: &str| t.name.strip_suffix(end).map(|module| format!("{module}{with}"));
            let names = [
                beside("input_scale", "input_zero_point"),
                beside("input_scale", "output_zero_point").filter(|_| fill == 0),
                beside("weight_scale", "weight_zero_point"),
                beside("k_scale", "k_zero_point"),
                beside("v_scale", "v_zero_point"),
            ];
            for name in names.into_iter().flatten() {
                let mut more = zeros(name, dtype, shape);
                more.bytes.fill(fill);
                changed.tensors.push(more);
            }
        }
        assert!(changed.tensors.len() > model.tensors.len() + 28);
        // transformers 5.24 reports the tensors as unexpected, whatever they hold, and computes without them.
        assert_eq!(perplexity(&sandbox, &changed), wanted, "{dtype} {fill}");
        if fill == 0 {
            sandbox.ok("verify changed --quiet");
            sandbox.ok("decompress changed --out dense --overwrite --quiet");
            assert!(sandbox.open("dense").names().all(|name| !name.contains("zero_point") || name.contains("weight")));
        }
    }
    // Those of an asymmetric scheme count.
    let mut asymmetric = official("int_w8a8_static_asym_f32");
    let at = asymmetric.tensors.iter().position(|t| t.name.ends_with("input_zero_point")).unwrap();
    asymmetric.tensors.remove(at);
    asymmetric.write(&sandbox.path("changed"));
    sandbox.refused("verify changed --quiet", 1, &["input_zero_point", "input_activations"]).unwrap();
}

#[test]
fn one_number_has_any_shape_of_one_number() {
    let sandbox = Sandbox::new();
    for options in
        ["--scheme FP8 --kv-cache fp8 --nsamples 4 --seqlen 32", "--scheme FP8_DYNAMIC", "--scheme W8A8 --method rtn"]
    {
        let model = made(&sandbox, options);
        let wanted = perplexity(&sandbox, &model);
        for shape in [&[][..], &[1, 1], &[1, 1, 1]] {
            let mut changed = model.clone();
            for t in changed.tensors.iter_mut().filter(|t| t.name.ends_with("_scale")) {
                t.shape = match t.shape[..] {
                    [1] => shape.to_vec(),
                    [rows, 1] => vec![rows],
                    _ => panic!("{} {:?}", t.name, t.shape),
                };
            }
            assert_eq!(perplexity(&sandbox, &changed), wanted, "{options} {shape:?}");
        }
    }
    let mut wrong = made(&sandbox, "--scheme FP8_DYNAMIC");
    let scale = wrong.tensor("model.layers.0.mlp.up_proj.weight_scale");
    scale.shape = vec![2, scale.shape[0] / 2];
    wrong.write(&sandbox.path("wrong"));
    sandbox
        .refused("eval wrong eval.safetensors --seqlen 32 --quiet", 1, &["up_proj.weight_scale", "expected"])
        .unwrap();
}

#[test]
fn scales_of_caches_have_older_names() {
    let sandbox = Sandbox::new();
    let model = made(&sandbox, "--method rtn --wbits 8 --kv-cache fp8 --nsamples 4 --seqlen 32");
    let mut same = model.clone();
    for t in same.tensors.iter_mut().filter(|t| t.name.ends_with(".k_scale") || t.name.ends_with(".v_scale")) {
        t.bytes = Dtype::F32.encode(&[0.25]);
    }
    for names in
        [["k_proj.k_scale", "v_proj.v_scale"], ["k_proj.output_scale", "v_proj.output_scale"], ["kv_scale", ""]]
    {
        let mut changed = same.clone();
        if names[1].is_empty() {
            changed.tensors.retain(|t| !t.name.ends_with(".v_scale"));
        }
        for t in &mut changed.tensors {
            t.name = t.name.replace("self_attn.k_scale", &format!("self_attn.{}", names[0]));
            t.name = t.name.replace("self_attn.v_scale", &format!("self_attn.{}", names[1]));
        }
        assert_eq!(perplexity(&sandbox, &changed), perplexity(&sandbox, &same), "{names:?}");
    }
    assert_ne!(perplexity(&sandbox, &same), perplexity(&sandbox, &model));
}

#[test]
fn a_compression_config_is_read_flat_and_nested() {
    let sandbox = Sandbox::new();
    let model = made(&sandbox, "--method rtn --wbits 4 --groupsize 16 --sym");
    let wanted = perplexity(&sandbox, &model);
    let inner = model.config["quantization_config"].clone();
    let bare = |keys: &[&str]| {
        let mut bare = inner.clone();
        keys.iter().for_each(|key| drop(bare.as_object_mut().unwrap().remove(*key)));
        bare
    };
    let store = |key: &str, value: Value| {
        let mut changed = model.clone();
        changed.config.as_object_mut().unwrap().remove("quantization_config");
        changed.config[key] = value;
        changed
    };
    for (key, value) in [
        ("compression_config", inner.clone()),
        ("compression_config", bare(&["quant_method"])),
        ("compression_config", json!({"quantization_config": inner, "sparsity_config": {}})),
        ("compression_config", json!({"quantization_config": bare(&["quant_method"]), "sparsity_config": null})),
        ("compression_config", json!({"quant_method": "sparseml", "quantization_config": bare(&["quant_method"])})),
        ("quantization_config", json!({"quant_method": "compressed-tensors", "quantization_config": inner})),
    ] {
        assert_eq!(perplexity(&sandbox, &store(key, value.clone())), wanted, "{key} {value}");
    }
    let mut wrong = inner.clone();
    wrong["config_groups"]["group_0"]["weights"]["num_bits"] = 99.into();
    let sparsity = json!({"format": "sparse-48-bitmask"});
    for (value, words) in [
        (wrong.clone(), "compression_config.config_groups.group_0.weights: num_bits 99"),
        (json!({"quantization_config": wrong}), "compression_config.quantization_config.config_groups.group_0.weights"),
        (json!({"quantization_config": inner, "sparsity_config": sparsity}), "compression_config.sparsity_config"),
        (json!({"quantization_config": 4}), "compression_config.quantization_config: not an object"),
    ] {
        store("compression_config", value).write(&sandbox.path("changed"));
        let ran = sandbox.run("eval changed eval.safetensors --seqlen 32 --quiet");
        sandbox.refuses(&ran, 1, &[words]).unwrap();
        assert!(!ran.stderr.contains("json: quantization_config"), "{}", ran.stderr);
    }
}

/// All floats of a model as float64.
fn widened(mut model: Model) -> Model {
    for t in model.tensors.iter_mut().filter(|t| t.dtype.is_float()) {
        t.bytes = Dtype::F64.encode(&t.dtype.decode_f32(&t.bytes));
        t.dtype = Dtype::F64;
    }
    model
}

#[test]
fn float64_is_read_everywhere() {
    for name in ["llama", "opt", "falcon_multi_query"] {
        let sandbox = Sandbox::with(name);
        let model = Model::golden(name);
        assert_eq!(perplexity(&sandbox, &widened(model.clone())), sandbox.perplexity("model"), "{name}");
        sandbox.ok("verify changed --quiet");
        sandbox.ok("inspect changed");
        for options in ["quantize -- --wbits 4 --groupsize 16", "sparsify -- --pattern 2:4"] {
            let (command, options) = options.split_once(" -- ").unwrap();
            for model in ["model", "changed"] {
                sandbox.ok(&format!(
                    "{command} {model} calib.safetensors {options} --out {model}-out --overwrite --quiet"
                ));
            }
            let linears = |dir: &str| {
                let made = Model::read(&sandbox.open(dir));
                let of_block = |t: &NamedTensor| t.name.contains("weight_") || t.name.contains("proj.weight");
                made.tensors.into_iter().filter(of_block).collect::<Vec<_>>()
            };
            assert!(linears("model-out") == linears("changed-out"), "{name} {options}");
        }
    }
    let sandbox = Sandbox::new();
    for options in
        ["--scheme FP8 --kv-cache fp8 --nsamples 4 --seqlen 32", "--wbits 3 --groupsize 16", "--qq-scale-bits 3"]
    {
        let options = if options.starts_with("--qq") {
            "--method spqr --wbits 3 --groupsize 16 --outlier-share 0.01"
        } else {
            options
        };
        let model = made(&sandbox, options);
        assert_eq!(perplexity(&sandbox, &widened(model.clone())), perplexity(&sandbox, &model), "{options}");
    }
    for (name, at) in
        [("model.layers.1.mlp.up_proj.weight", 5), ("model.norm.weight", 3), ("model.embed_tokens.weight", 7)]
    {
        let mut large = widened(Model::golden("llama"));
        large.tensor(name).bytes[at * 8..][..8].copy_from_slice(&1e300f64.to_le_bytes());
        large.write(&sandbox.path("changed"));
        sandbox.refused("verify changed --quiet", 1, &[name, "inf"]).unwrap();
    }
}

#[test]
fn embeddings_in_codes_are_refused_by_name() {
    let sandbox = Sandbox::new();
    let mut packed = official("pack_w8_with_lm_head_bf16");
    for group in quant(&mut packed)["config_groups"].as_object_mut().unwrap().values_mut() {
        group["targets"].as_array_mut().unwrap().push("Embedding".into());
    }
    for tied in [false, true] {
        let mut changed = packed.clone();
        changed.config["tie_word_embeddings"] = tied.into();
        let head: Vec<NamedTensor> =
            changed.tensors.iter().filter(|t| t.name.starts_with("lm_head.")).cloned().collect();
        changed
            .tensors
            .retain(|t| !(t.name.starts_with("model.embed_tokens.") || tied && t.name.starts_with("lm_head.")));
        for t in head {
            changed.tensors.push(NamedTensor { name: t.name.replace("lm_head", "model.embed_tokens"), ..t });
        }
        changed.write(&sandbox.path("changed"));
        let words = ["embedding model.embed_tokens is quantized (weight_packed I32), which paring does not read"];
        sandbox.refused("eval changed eval.safetensors --quiet", 1, &words).unwrap();
        sandbox.refused("quantize changed calib.safetensors --wbits 4 --out out --quiet", 1, &words).unwrap();
        // What the message advises.
        sandbox.ok("decompress changed --out dense --overwrite --quiet");
        assert_eq!(sandbox.open("dense").info("model.embed_tokens.weight").unwrap().dtype, Dtype::Bf16);
    }
    let mut alone = packed;
    alone.config["tie_word_embeddings"] = true.into();
    alone.tensors.retain(|t| !t.name.starts_with("model.embed_tokens."));
    alone.write(&sandbox.path("changed"));
    let words = ["embedding model.embed_tokens, stored as lm_head, is quantized (weight_packed I32)"];
    sandbox.refused("eval changed eval.safetensors --quiet", 1, &words).unwrap();
    assert!(Path::new(&sandbox.path("changed")).is_dir());
}
