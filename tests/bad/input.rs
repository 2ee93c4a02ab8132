//! Models that are broken, each in its own way: one line that says where and what, and no output to be mistaken for a
//! model.

use std::fs;

use paring_format::Dtype;
use paring_format::writer::{NamedTensor, write_file};
use serde_json::{Value, json};

use crate::support::*;
use crate::{BadInput, MODEL, Table, check};

const Q: &str = "model.layers.0.self_attn.q_proj.weight";
const DOWN: &str = "model.layers.1.mlp.down_proj.weight";

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
    let (first, second): (Vec<NamedTensor>, Vec<NamedTensor>) =
        tensors.into_iter().partition(|t| t.name.contains("layers.0"));
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

const FOLDERS: &[BadInput] = &[
    (
        "no folder",
        |s| fs::remove_dir_all(s.path("model")).unwrap(),
        &["model: not found; a model is a folder with", "org/model"],
    ),
    (
        "a file",
        |s| {
            fs::remove_dir_all(s.path("model")).unwrap();
            s.write("model", "x");
        },
        &["model: a file, not a folder; name the folder of the model"],
    ),
    (
        "no config",
        |s| fs::remove_file(s.path("model/config.json")).unwrap(),
        &["model: no config.json here; a model is a folder with"],
    ),
    (
        "GGUF alone",
        |s| {
            fs::remove_file(s.path("model/config.json")).unwrap();
            fs::rename(s.path("model/model.safetensors"), s.path("model/model-Q4_0.gguf")).unwrap();
        },
        &["model: no config.json here; it has model-Q4_0.gguf: GGUF is not read; use the original Hugging Face folder"],
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
    (
        "a shard of an absolute path",
        |s| shards(s, |i| i["weight_map"][Q] = "/etc/passwd".into()),
        &["index.json: the shard \"/etc/passwd\" of", "is not the name of a file in this folder"],
    ),
    (
        "a shard that is no text",
        |s| shards(s, |i| i["weight_map"][Q] = 7.into()),
        &["index.json", "`7`, expected a string"],
    ),
    (
        "an index that names a tensor twice",
        |s| {
            shards(s, |_| {});
            let path = s.path("model/model.safetensors.index.json");
            let text = fs::read_to_string(&path).unwrap();
            fs::write(&path, text.replacen('}', &format!(", \"{Q}\": \"model-00002-of-00002.safetensors\"}}"), 1))
                .unwrap();
        },
        &["index.json", "a tensor is there twice, the first time in model-00001-of-00002.safetensors"],
    ),
    ("an index of a list", |s| shards(s, |i| *i = json!([])), &["index.json: not valid JSON", "expected an object"]),
    (
        "a shard that was cut off",
        |s| {
            shards(s, |_| {});
            let path = s.path("model/model-00002-of-00002.safetensors");
            let bytes = fs::read(&path).unwrap();
            fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        },
        &["model-00002-of-00002.safetensors", "is it cut off?"],
    ),
    (
        "one tensor in two shards",
        |s| {
            shards(s, |_| {});
            let model = Model::golden("llama");
            let keep = |t: &NamedTensor| !t.name.contains("layers.0") || t.name == Q;
            let tensors = model.tensors.into_iter().filter(keep).collect();
            write_file(&s.path("model/model-00002-of-00002.safetensors"), tensors).unwrap();
        },
        &["model-00002-of-00002.safetensors", "holds model.layers.0.self_attn.q_proj.weight, and so does"],
    ),
];

const WEIGHT_FILES: &[BadInput] = &[
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
    ("an unknown type", |s| header(s, |text| text.replacen("\"F32\"", "\"F33\"", 1)), &["model.safetensors", "F33"]),
    ("a missing tensor", |s| weights(s, |m| m.tensors.retain(|t| t.name != Q)), &["config.json", "no tensor"]),
    (
        "a missing norm",
        |s| weights(s, |m| m.tensors.retain(|t| t.name != "model.norm.weight")),
        &["no tensor model.norm.weight"],
    ),
    ("a misshapen linear", |s| weights(s, |m| m.tensor(Q).shape = vec![64, 16]), &[Q, "shape [64, 16]", "[32, 32]"]),
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
    (
        "a header without an end",
        |s| s.write("model/model.safetensors", [&(1u64 << 63).to_le_bytes()[..], b"{}"].concat()),
        &["model.safetensors", "header should have 9223372036854775808 bytes, but the file has 10"],
    ),
    ("an empty file", |s| s.write("model/model.safetensors", ""), &["model.safetensors: 0 bytes are no safetensors"]),
    (
        "a tensor twice in a header",
        |s| {
            header(s, |text| {
                let (first, rest) = text.split_at(1);
                format!(r#"{first}"model.norm.weight":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}},{rest}"#)
            })
        },
        &["model.safetensors: bad header: model.norm.weight is there twice"],
    ),
    (
        "more elements than numbers can count",
        |s| header(s, |text| text.replacen("\"shape\":[", "\"shape\":[4294967296,4294967296,", 1)),
        &["model.safetensors: bad header"],
    ),
    (
        "a header nested without end",
        |s| header(s, |text| text.replace(':', ":[").repeat(300)),
        &["model.safetensors: bad header"],
    ),
    (
        "a header of another encoding",
        |s| s.write("model/model.safetensors", b"\x02\0\0\0\0\0\0\0\xff\xfe"),
        &["bad header"],
    ),
    (
        "bytes behind the last tensor",
        |s| {
            let bytes = fs::read(s.path("model/model.safetensors")).unwrap();
            s.write("model/model.safetensors", [&bytes[..], b"more"].concat());
        },
        &["model.safetensors", "bytes of tensors, the file has"],
    ),
    (
        "no head",
        |s| weights(s, |m| m.tensors.retain(|t| t.name != "lm_head.weight")),
        &["no tensor lm_head;", "tie_word_embeddings"],
    ),
    (
        "no embedding",
        |s| weights(s, |m| m.tensors.retain(|t| !t.name.contains("embed_tokens"))),
        &["no tensor model.embed_tokens.weight"],
    ),
    (
        "a tensor that nobody asked for",
        |s| {
            weights(s, |m| {
                let more = NamedTensor { name: "model.layers.1.adapter.weight".into(), ..m.tensor(Q).clone() };
                m.tensors.push(more);
            })
        },
        &["model.layers.1.adapter.weight", "that the model does not have"],
    ),
];

const VALUES: &[BadInput] = &[
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
        // An overflow is found at the next product.
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
];

pub const TABLES: &[Table] = &[
    Table { name: "folders", commands: MODEL, shell: "", early: true, kinds: FOLDERS },
    Table { name: "weight files", commands: MODEL, shell: "", early: false, kinds: WEIGHT_FILES },
    Table { name: "values", commands: MODEL, shell: "", early: false, kinds: VALUES },
];

#[test]
fn folders() {
    check("folders");
}

#[test]
fn weight_files() {
    check("weight files");
}

#[test]
fn values() {
    check("values");
}
