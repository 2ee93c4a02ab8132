//! Configs and checkpoints that lie: each gets its own one-line error before any work.

use serde_json::{Value, json};

use super::changed;
use crate::Decoder;

/// The golden model `name` with changed config values (null removes a key), or the error's text after the folder's name.
pub fn with_config(name: &str, changes: &Value) -> Result<Box<dyn Decoder>, String> {
    changed(name, |config, _| {
        for (key, value) in changes.as_object().unwrap() {
            match value {
                Value::Null => drop(config.as_object_mut().unwrap().remove(key)),
                value => config[key] = value.clone(),
            }
        }
    })
}

/// The error that the changes cause.
pub fn error_of(name: &str, changes: Value) -> Result<(), String> {
    with_config(name, &changes).map(drop)
}

/// The error that the changes cause holds all of these words.
pub fn check_words(name: &str, changes: Value, words: &[&str]) {
    let error = error_of(name, changes.clone()).expect_err(&changes.to_string());
    let missing: Vec<&&str> = words.iter().filter(|word| !error.contains(**word)).collect();
    assert!(missing.is_empty(), "{changes}: the error does not say {missing:?}: {error}");
}

fn check(changes: Value, expected: &str) {
    assert_eq!(error_of("llama", changes.clone()), Err(expected.to_string()), "{changes}");
}

#[test]
fn architectures() {
    for (changes, got) in [
        (json!({"architectures": ["GPT2LMHeadModel"]}), "GPT2LMHeadModel"),
        (json!({"architectures": null, "model_type": "gpt2"}), "gpt2"),
    ] {
        let error = error_of("llama", changes).unwrap_err();
        let start =
            format!("config.json: architecture {got} is not supported; use a model of one of: LlamaForCausalLM, ");
        assert!(error.starts_with(&start) && error.contains(", OPTForCausalLM"), "{error}");
    }
    check(
        json!({"architectures": null, "model_type": null}),
        "config.json: architectures is missing; add it as it is in the original model's config",
    );
    check(json!({"architectures": 3}), "config.json: architectures should be a list of names, got 3");
    assert_eq!(error_of("llama", json!({"architectures": null})), Ok(()));
}

#[test]
fn values() {
    check(
        json!({"hidden_size": null}),
        "config.json: hidden_size is missing; add it as it is in the original model's config",
    );
    check(
        json!({"hidden_size": "32"}),
        "config.json: hidden_size should be a whole number from 1 to 1048576, got \"32\"",
    );
    check(json!({"hidden_size": 0}), "config.json: hidden_size should be a whole number from 1 to 1048576, got 0");
    check(
        json!({"num_hidden_layers": 1e18}),
        "config.json: num_hidden_layers should be a whole number from 1 to 10000, got 1e+18",
    );
    check(
        json!({"vocab_size": u64::MAX}),
        "config.json: vocab_size should be a whole number from 1 to 16777216, got 18446744073709551615",
    );
    check(
        json!({"intermediate_size": -48}),
        "config.json: intermediate_size should be a whole number from 1 to 4194304, got -48",
    );
    check(
        json!({"num_key_value_heads": 3}),
        "config.json: num_key_value_heads should be a divisor of num_attention_heads (4), got 3",
    );
    check(
        json!({"num_attention_heads": 5, "num_key_value_heads": 5, "head_dim": null}),
        "config.json: hidden_size should be a multiple of num_attention_heads (5), got 32",
    );
    check(
        json!({"head_dim": 7}),
        "config.json: head_dim should be such that each head has an even number of elements, got 7",
    );
    check(json!({"hidden_act": "gelu"}), "config.json: hidden_act should be silu, got \"gelu\"");
    check(json!({"rms_norm_eps": "x"}), "config.json: rms_norm_eps should be a number from 0 to 1, got \"x\"");
    check(json!({"attention_bias": 1}), "config.json: attention_bias should be true or false, got 1");
    check(
        json!({"rope_parameters": {"rope_type": "longrope"}}),
        "config.json: rope_parameters.rope_type should be one of default, linear, dynamic, llama3, got \"longrope\"",
    );
    check(
        json!({"max_position_embeddings": 0}),
        "config.json: max_position_embeddings should be a whole number from 1 to 1073741824, got 0",
    );
}

#[test]
fn configs_that_do_not_fit_the_weights() {
    check(
        json!({"vocab_size": 65}),
        "config.json: config and tensors do not match: 2 of another shape (model.embed_tokens.weight in \
         model.safetensors is [64, 32], expected [65, 32]; lm_head.weight in model.safetensors is [64, 32], expected \
         [65, 32]; use the config.json that belongs to these weights)",
    );
    check(
        json!({"intermediate_size": 50}),
        "config.json: config and tensors do not match: 6 of another shape (model.layers.0.mlp.gate_proj.weight in \
         model.safetensors is [48, 32], expected [50, 32]; model.layers.0.mlp.up_proj.weight in model.safetensors is \
         [48, 32], expected [50, 32]; model.layers.0.mlp.down_proj.weight in model.safetensors is [32, 48], expected \
         [32, 50]; model.layers.1.mlp.gate_proj.weight in model.safetensors is [48, 32], expected [50, 32]; 2 more; \
         use the config.json that belongs to these weights)",
    );
    check(
        json!({"num_hidden_layers": 3}),
        "config.json: config and tensors do not match: 9 missing (model.layers.2.input_layernorm.weight; \
         model.layers.2.post_attention_layernorm.weight; model.layers.2.self_attn.q_proj; \
         model.layers.2.self_attn.k_proj; 5 more; check that all files are there and that num_hidden_layers is right)",
    );
    check(
        json!({"attention_bias": true}),
        "config.json: config and tensors do not match: 8 missing (model.layers.0.self_attn.q_proj.bias; \
         model.layers.0.self_attn.k_proj.bias; model.layers.0.self_attn.v_proj.bias; \
         model.layers.0.self_attn.o_proj.bias; 4 more; check that all files are there and that attention_bias and \
         mlp_bias are right)",
    );
    // Layers that the config does not know of would not reach an output.
    check(
        json!({"num_hidden_layers": 1}),
        "config.json: config and tensors do not match: 9 that the model does not have \
         (model.layers.1.input_layernorm.weight in model.safetensors; model.layers.1.mlp.down_proj.weight in \
         model.safetensors; model.layers.1.mlp.gate_proj.weight in model.safetensors; \
         model.layers.1.mlp.up_proj.weight in model.safetensors; 5 more; they would be lost: check the \
         architecture and the sizes in the config); lenient ignores them",
    );
    let untied = "config.json: the checkpoint has no tensor lm_head; check that all its files are there and that \
                  tie_word_embeddings is right";
    assert_eq!(error_of("bias_tied", json!({"tie_word_embeddings": false})), Err(untied.to_string()));
}
