//! Models that are broken, each in its own way: one line that says where and what, and no output to be mistaken for a
//! model.

mod support;

use std::fs;

use paring_format::Dtype;
use paring_format::writer::{Tensor, write_file};
use serde_json::{Value, json};

use support::*;

const Q: &str = "model.layers.0.self_attn.q_proj.weight";
const DOWN: &str = "model.layers.1.mlp.down_proj.weight";

fn config(sandbox: &Sandbox, change: impl Fn(&mut Value)) {
    let mut model = Model::golden("llama");
    change(&mut model.config);
    sandbox.write("model/config.json", model.config.to_string());
}

fn weights(sandbox: &Sandbox, change: impl Fn(&mut Model)) {
    let mut model = Model::golden("llama");
    change(&mut model);
    model.write(&sandbox.path("model"));
}

/// Changes the header of the weight file, as text.
fn header(sandbox: &Sandbox, change: impl Fn(String) -> String) {
    let path = sandbox.path("model/model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let (len, rest) = bytes.split_first_chunk::<8>().unwrap();
    let (text, data) = rest.split_at(u64::from_le_bytes(*len) as usize);
    let text = change(String::from_utf8(text.to_vec()).unwrap());
    fs::write(&path, [&(text.len() as u64).to_le_bytes()[..], text.as_bytes(), data].concat()).unwrap();
}

/// Moves the weights into two shards with an index, which `change` may break.
fn shards(sandbox: &Sandbox, change: impl Fn(&mut Value)) {
    let tensors = Model::golden("llama").tensors;
    let (first, second): (Vec<Tensor>, Vec<Tensor>) = tensors.into_iter().partition(|t| t.name.contains("layers.0"));
    let mut map = serde_json::Map::new();
    for (file, tensors) in [("model-00001-of-00002.safetensors", first), ("model-00002-of-00002.safetensors", second)] {
        map.extend(tensors.iter().map(|t| (t.name.clone(), file.into())));
        write_file(&sandbox.path("model").join(file), tensors).unwrap();
    }
    let mut index = json!({"weight_map": map});
    change(&mut index);
    sandbox.write("model/model.safetensors.index.json", index.to_string());
    fs::remove_file(sandbox.path("model/model.safetensors")).unwrap();
}

#[test]
fn folders() {
    check(&[
        ("no folder", |s| fs::remove_dir_all(s.path("model")).unwrap(), &["model: not a folder"]),
        (
            "a file",
            |s| {
                fs::remove_dir_all(s.path("model")).unwrap();
                s.write("model", "x");
            },
            &["model: not a folder"],
        ),
        (
            "no config",
            |s| fs::remove_file(s.path("model/config.json")).unwrap(),
            &["model: no config.json", "folder of a model?"],
        ),
        (
            "no weights",
            |s| fs::remove_file(s.path("model/model.safetensors")).unwrap(),
            &["model: neither model.safetensors nor"],
        ),
        (
            "pickled weights",
            |s| fs::rename(s.path("model/model.safetensors"), s.path("model/pytorch_model.bin")).unwrap(),
            &["pytorch_model.bin", "convert"],
        ),
        (
            "no shard",
            |s| {
                shards(s, |_| {});
                fs::remove_file(s.path("model/model-00002-of-00002.safetensors")).unwrap();
            },
            &["model.safetensors.index.json", "model-00002-of-00002.safetensors", "not in the folder"],
        ),
        ("a shard elsewhere", |s| shards(s, |i| i["weight_map"][Q] = "../x".into()), &["index.json", "\"../x\"", Q]),
        (
            "a tensor in another shard",
            |s| shards(s, |i| i["weight_map"][Q] = "model-00002-of-00002.safetensors".into()),
            &["model-00002-of-00002.safetensors", Q, "it is not"],
        ),
        ("an index without map", |s| shards(s, |i| *i = json!({})), &["index.json", "no weight_map"]),
        ("a broken tokenizer", |s| s.write("model/tokenizer.json", "{}"), &["model/tokenizer.json", "not a tokenizer"]),
    ]);
}

#[test]
fn configs() {
    check(&[
        ("no JSON", |s| s.write("model/config.json", "{\n\"a\": }"), &["model/config.json: not valid JSON", "line 2"]),
        ("a list", |s| s.write("model/config.json", "[]"), &["model/config.json", "not a JSON object"]),
        (
            "no hidden_size",
            |s| config(s, |c| drop(c.as_object_mut().unwrap().remove("hidden_size"))),
            &["model/config.json: hidden_size is missing"],
        ),
        (
            "a size as text",
            |s| config(s, |c| c["intermediate_size"] = "48".into()),
            &["model/config.json: intermediate_size should be a whole number", "got \"48\""],
        ),
        ("a size of 0", |s| config(s, |c| c["vocab_size"] = 0.into()), &["vocab_size should be", "from 1", "got 0"]),
        (
            "many layers",
            |s| config(s, |c| c["num_hidden_layers"] = 1_000_000_000.into()),
            &["num_hidden_layers should be", "got 1000000000"],
        ),
        ("a negative size", |s| config(s, |c| c["hidden_size"] = (-32).into()), &["hidden_size should be", "got -32"]),
        (
            "odd groups",
            |s| config(s, |c| c["num_key_value_heads"] = 3.into()),
            &["num_key_value_heads", "divisor of num_attention_heads (4)", "got 3"],
        ),
        ("odd heads", |s| config(s, |c| c["head_dim"] = 7.into()), &["head_dim should be", "even", "got 7"]),
        ("no norm", |s| config(s, |c| c["rms_norm_eps"] = "tiny".into()), &["rms_norm_eps", "a number", "\"tiny\""]),
        ("a flag as text", |s| config(s, |c| c["tie_word_embeddings"] = "yes".into()), &["tie_word_embeddings"]),
        ("another activation", |s| config(s, |c| c["hidden_act"] = "gelu".into()), &["hidden_act", "silu", "gelu"]),
        (
            "another architecture",
            |s| config(s, |c| c["architectures"] = json!(["MambaForCausalLM"])),
            &["model/config.json", "MambaForCausalLM is not supported", "LlamaForCausalLM"],
        ),
        ("architectures as text", |s| config(s, |c| c["architectures"] = "Llama".into()), &["architectures", "list"]),
        (
            "another rope",
            |s| config(s, |c| c["rope_scaling"] = json!({"rope_type": "yarn", "factor": 2.0})),
            &["rope_scaling.rope_type should be one of default, linear", "got \"yarn\""],
        ),
        (
            "rope without its factor",
            |s| config(s, |c| c["rope_scaling"] = json!({"rope_type": "linear"})),
            &["rope_scaling.factor is missing"],
        ),
        (
            "another quantization",
            |s| config(s, |c| c["quantization_config"] = json!({"quant_method": "awq", "bits": 4})),
            &["quant", "awq"],
        ),
        (
            "a quantization as text",
            |s| config(s, |c| c["quantization_config"] = "4 bit".into()),
            &["quantization_config"],
        ),
        (
            "fewer layers stored",
            |s| config(s, |c| c["num_hidden_layers"] = 3.into()),
            &["layers.2", "num_hidden_layers"],
        ),
    ]);
}

#[test]
fn weight_files() {
    check(&[
        ("four bytes", |s| s.write("model/model.safetensors", "four"), &["model.safetensors: 4 bytes"]),
        (
            "cut off",
            |s| {
                let bytes = fs::read(s.path("model/model.safetensors")).unwrap();
                s.write("model/model.safetensors", &bytes[..bytes.len() - 100]);
            },
            &["model.safetensors", "bytes of tensors", "is it cut off?"],
        ),
        (
            "a header beyond the file",
            |s| {
                let bytes = [&(1u64 << 40).to_le_bytes()[..], b"{}"].concat();
                s.write("model/model.safetensors", bytes);
            },
            &["model.safetensors", "header should have 1099511627776 bytes", "the file has 10"],
        ),
        ("a header of noise", |s| header(s, |text| text.replace('{', "(")), &["model.safetensors: bad header"]),
        (
            "overlapping tensors",
            // The last tensor's start moves into the one before it.
            |s| {
                header(s, |text| {
                    let at = text.rfind("\"data_offsets\":[").unwrap() + "\"data_offsets\":[".len();
                    let comma = at + text[at..].find(',').unwrap();
                    let start: usize = text[at..comma].parse().unwrap();
                    format!("{}{}{}", &text[..at], start - 4, &text[comma..])
                })
            },
            &["model.safetensors: bad header"],
        ),
        (
            "a tensor beyond the file",
            |s| {
                header(s, |text| {
                    let end = text.rfind("]}").unwrap();
                    let comma = text[..end].rfind(',').unwrap();
                    format!("{},999999{}", &text[..comma], &text[end..])
                })
            },
            &["model.safetensors: bad header"],
        ),
        (
            "an unknown type",
            |s| header(s, |text| text.replacen("\"F32\"", "\"F33\"", 1)),
            &["model.safetensors", "F33"],
        ),
        ("a missing tensor", |s| weights(s, |m| m.tensors.retain(|t| t.name != Q)), &["config.json", "no tensor"]),
        (
            "a missing norm",
            |s| weights(s, |m| m.tensors.retain(|t| t.name != "model.norm.weight")),
            &["no tensor model.norm.weight"],
        ),
        (
            "a misshapen linear",
            |s| weights(s, |m| m.tensor(Q).shape = vec![64, 16]),
            &[Q, "shape [64, 16]", "[32, 32]"],
        ),
        (
            "a misshapen norm",
            |s| weights(s, |m| m.tensor("model.norm.weight").shape = vec![1, 32]),
            &["model.norm.weight", "[1, 32]", "[32]"],
        ),
        (
            "a linear of integers",
            |s| weights(s, |m| m.tensor(Q).dtype = Dtype::I32),
            &["model.safetensors", Q, "type I32", "expected"],
        ),
        (
            "a norm of integers",
            |s| weights(s, |m| m.tensor("model.norm.weight").dtype = Dtype::I32),
            &["model.norm.weight", "type I32", "expected"],
        ),
    ]);
}

#[test]
fn values() {
    check(&[
        (
            "a NaN",
            |s| weights(s, |m| m.set(DOWN, 2 * 48 + 7, f32::NAN)),
            &["model.safetensors", DOWN, "NaN at row 2, column 7"],
        ),
        ("an infinity", |s| weights(s, |m| m.set(Q, 33, f32::NEG_INFINITY)), &[Q, "-inf at row 1, column 1"]),
        (
            "a NaN in a norm",
            |s| weights(s, |m| m.set("model.layers.1.input_layernorm.weight", 3, f32::NAN)),
            &["model.safetensors: model.layers.1.input_layernorm.weight", "NaN"],
        ),
        (
            // What overflows is found where it is multiplied next.
            "weights too large to multiply",
            |s| {
                weights(s, |m| {
                    for name in ["model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.down_proj.weight"] {
                        (0..32 * 48).for_each(|i| m.set(name, i, 3e38));
                    }
                })
            },
            &["model.layers.0.mlp.down_proj: its input holds", "in window 0, position 0, feature 0"],
        ),
    ]);
}

/// A 4-bit checkpoint, broken; only reading it makes sense.
#[test]
fn packed_models() {
    let sandbox = Sandbox::new();
    sandbox.ok("quantize model calib.safetensors --wbits 4 --groupsize 16 --out packed --quiet");
    let packed = Model::read(&sandbox.open("packed"));
    type Change = fn(&mut Model);
    let module = "model.layers.0.self_attn.q_proj";
    let cases: [(&str, Change, &[&str]); 8] = [
        (
            "no scales",
            |m| m.tensors.retain(|t| !t.name.ends_with("0.self_attn.q_proj.weight_scale")),
            &[module, "weight_scale"],
        ),
        ("no codes", |m| m.tensors.retain(|t| !t.name.ends_with("0.self_attn.q_proj.weight_packed")), &[module]),
        (
            "no shape",
            |m| m.tensors.retain(|t| !t.name.ends_with("0.self_attn.q_proj.weight_shape")),
            &[module, "weight_shape"],
        ),
        (
            "another shape",
            |m| m.tensor("model.layers.0.self_attn.q_proj.weight_shape").bytes[0] = 31,
            &[module, "[31, 32]", "[32, 32]"],
        ),
        (
            "a NaN scale",
            |m| m.set("model.layers.0.self_attn.q_proj.weight_scale", 5, f32::NAN),
            &[module, "weight_scale", "NaN at row 2, column 1"],
        ),
        (
            "other bits",
            |m| m.config["quantization_config"]["config_groups"]["group_0"]["weights"]["num_bits"] = 8.into(),
            &["model.layers.0", "weight_packed"],
        ),
        (
            "an unknown format",
            |m| {
                m.config["quantization_config"]["format"] = "zip-quantized".into();
                m.config["quantization_config"]["config_groups"]["group_0"]["format"] = "zip-quantized".into();
            },
            &["zip-quantized", "not supported"],
        ),
        (
            "another group size",
            |m| m.config["quantization_config"]["config_groups"]["group_0"]["weights"]["group_size"] = 12.into(),
            &["model.layers.0", "32"],
        ),
    ];
    let mut wrong = Vec::new();
    for (what, change, words) in cases {
        let mut model = packed.clone();
        change(&mut model);
        model.write(&sandbox.path("broken"));
        if sandbox.path("out").exists() {
            fs::remove_dir_all(sandbox.path("out")).unwrap();
        }
        for command in ["eval broken eval.safetensors --seqlen 32 --quiet", "decompress broken --out out"] {
            // The shape of a matrix is what decompressing goes by: only a model can contradict it.
            let alone = what == "another shape" && command.starts_with("decompress");
            let words = if alone { &[module][..] } else { words };
            if let Err(text) = sandbox.refused(command, 1, words) {
                wrong.push(format!("{what}: {text}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
