//! Configs that are broken, or are not those of the weights beside them.

use serde_json::{Value, json};

use crate::support::*;
use crate::{BadInput, MODEL, Table, check};

fn config(sandbox: &Sandbox, change: impl Fn(&mut Value)) {
    let mut model = Model::golden("llama");
    change(&mut model.config);
    sandbox.write("model/config.json", model.config.to_string());
}

const CONFIGS: &[BadInput] = &[
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
    ("a quantization as text", |s| config(s, |c| c["quantization_config"] = "4 bit".into()), &["quantization_config"]),
    ("fewer layers stored", |s| config(s, |c| c["num_hidden_layers"] = 3.into()), &["layers.2", "num_hidden_layers"]),
    (
        "no UTF-8",
        |s| s.write("model/config.json", b"{\"a\": \"\xff\"}"),
        &["model/config.json: not valid JSON", "unicode"],
    ),
    ("two objects", |s| s.write("model/config.json", "{} {}"), &["model/config.json: not valid JSON: trailing"]),
    (
        "nested without end",
        |s| s.write("model/config.json", "{\"a\": ".repeat(100_000)),
        &["model/config.json: not valid JSON: recursion limit"],
    ),
    (
        "very large",
        |s| s.write("model/config.json", [vec![b' '; 16 << 20], b"{}".to_vec()].concat()),
        &["model/config.json: 16777218 bytes, expected at most 16777216"],
    ),
    ("a fraction", |s| config(s, |c| c["hidden_size"] = 32.5.into()), &["hidden_size should be", "got 32.5"]),
    ("a huge width", |s| config(s, |c| c["hidden_size"] = (1u64 << 40).into()), &["hidden_size", "got 1099511627776"]),
    (
        "a huge MLP",
        |s| config(s, |c| c["intermediate_size"] = u64::MAX.into()),
        &["intermediate_size", "got 1844674407"],
    ),
    (
        "a huge vocabulary",
        |s| config(s, |c| c["vocab_size"] = (1u64 << 32).into()),
        &["vocab_size should be a whole number from 1 to 16777216, got 4294967296"],
    ),
    (
        "a vocabulary of others",
        |s| config(s, |c| c["vocab_size"] = 65.into()),
        &["2 of another shape (model.embed_tokens.weight in model.safetensors is [64, 32], expected [65, 32]"],
    ),
    ("no positions", |s| config(s, |c| c["max_position_embeddings"] = 0.into()), &["max_position_embeddings", "got 0"]),
    (
        "endless positions",
        |s| config(s, |c| c["max_position_embeddings"] = (1u64 << 60).into()),
        &["max_position_embeddings should be", "got 1152921504606846976"],
    ),
    (
        "a negative norm",
        |s| config(s, |c| c["rms_norm_eps"] = (-1.0).into()),
        &["rms_norm_eps", "from 0 to 1, got -1.0"],
    ),
    (
        "heads that do not divide the width",
        |s| {
            config(s, |c| {
                c.as_object_mut().unwrap().remove("head_dim");
                (c["num_attention_heads"], c["num_key_value_heads"]) = (3.into(), 3.into());
            })
        },
        &["hidden_size should be a multiple of num_attention_heads (3), got 32"],
    ),
    ("no heads", |s| config(s, |c| c["num_attention_heads"] = 0.into()), &["num_attention_heads", "from 1", "got 0"]),
    (
        "wide heads",
        |s| config(s, |c| c["head_dim"] = 16.into()),
        &["of another shape", "q_proj", "is [32, 32], expected [64, 32]"],
    ),
    (
        "a bias that is not there",
        |s| config(s, |c| c["attention_bias"] = true.into()),
        &["8 missing", "self_attn.q_proj.bias", "attention_bias and mlp_bias are right"],
    ),
    (
        "rope as a list",
        |s| config(s, |c| c["rope_scaling"] = json!([1])),
        &["rope_scaling should be an object or null"],
    ),
    (
        "a base of rope below 1",
        |s| {
            config(s, |c| {
                c["rope_parameters"] = Value::Null;
                c["rope_theta"] = 0.into();
            })
        },
        &["rope_theta should be a number from 1 to 1000000000000, got 0"],
    ),
    (
        "a rope that turns halfway",
        |s| config(s, |c| c["rope_scaling"] = json!({"rope_type": "default", "partial_rotary_factor": 0.5})),
        &["rope_scaling.partial_rotary_factor should be 1 or absent, got 0.5"],
    ),
    (
        "frequencies of rope in the wrong order",
        |s| {
            config(s, |c| {
                c["rope_scaling"] =
                    json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 1.0});
            })
        },
        &["rope_scaling.high_freq_factor should be greater than low_freq_factor, got 1.0"],
    ),
    (
        "no architecture",
        |s| config(s, |c| c["architectures"] = json!([1])),
        &["config.json", "that is no string is not supported"],
    ),
    (
        "neither architecture nor type",
        |s| {
            config(s, |c| {
                c.as_object_mut().unwrap().retain(|key, _| key != "architectures" && key != "model_type");
            })
        },
        &["model/config.json: architectures is missing"],
    ),
    (
        "a window that changes",
        |s| {
            config(s, |c| {
                c["architectures"] = json!(["MistralForCausalLM"]);
                c["sliding_window"] = 8.into();
                c["layer_types"] = json!(["sliding_attention", "full_attention"]);
            })
        },
        &["layer_types should be absent or the same for all layers"],
    ),
];

/// A scheme of compressed-tensors for all linears.
fn quantized(sandbox: &Sandbox, weights: Value) {
    config(sandbox, |c| {
        c["quantization_config"] = json!({"quant_method": "compressed-tensors", "format": "pack-quantized",
            "quantization_status": "compressed", "ignore": ["lm_head"],
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights.clone()}}});
    });
}

const QUANTIZATIONS: &[BadInput] = &[
    ("no bits", |s| quantized(s, json!({"num_bits": 0, "type": "int"})), &["config.json", "num_bits", "0"]),
    ("many bits", |s| quantized(s, json!({"num_bits": 99, "type": "int"})), &["config.json", "num_bits", "99"]),
    ("another type", |s| quantized(s, json!({"num_bits": 4, "type": "posit"})), &["config.json", "posit"]),
    (
        "another strategy",
        |s| quantized(s, json!({"num_bits": 4, "type": "int", "strategy": "sideways"})),
        &["config.json", "strategy", "sideways"],
    ),
    (
        "groups of nothing",
        |s| quantized(s, json!({"num_bits": 4, "type": "int", "strategy": "group", "group_size": 0})),
        &["config.json", "group_size", "0"],
    ),
    (
        "groups without their size",
        |s| quantized(s, json!({"num_bits": 4, "type": "int", "strategy": "group"})),
        &["config.json", "group_size"],
    ),
    ("weights as a list", |s| quantized(s, json!([4])), &["config.json", "weights"]),
    ("no method", |s| config(s, |c| c["quantization_config"] = json!({"bits": 4})), &["config.json", "quant_method"]),
    (
        "a pattern that is none",
        |s| {
            config(s, |c| {
                c["quantization_config"] = json!({"quant_method": "compressed-tensors", "format": "pack-quantized",
                    "quantization_status": "compressed", "ignore": ["re:("], "config_groups": {"group_0": {"targets": ["Linear"],
                    "weights": {"num_bits": 4, "type": "int"}}}});
            })
        },
        &["config.json", "re:("],
    ),
];

pub const TABLES: &[Table] = &[
    Table { name: "configs", commands: MODEL, shell: "", early: true, kinds: CONFIGS },
    Table { name: "quantizations of configs", commands: MODEL, shell: "", early: true, kinds: QUANTIZATIONS },
];

#[test]
fn configs() {
    check("configs");
}

#[test]
fn quantizations_of_configs() {
    check("quantizations of configs");
}
