//! Llama's relatives: configs and checkpoints that lie.

use serde_json::{Value, json};

use super::bad::{check_words, error_of};

fn check(name: &str, changes: Value, expected: &str) {
    assert_eq!(error_of(name, changes.clone()), Err(expected.to_string()), "{changes}");
}

#[test]
fn found_by_their_names() {
    for (name, model_type, base) in [
        ("mistral_full", "mistral", "MistralModel"),
        ("qwen2", "qwen2", "Qwen2Model"),
        ("qwen3", "qwen3", "Qwen3Model"),
    ] {
        assert_eq!(error_of(name, json!({"architectures": null, "model_type": model_type})), Ok(()));
        assert_eq!(error_of(name, json!({"architectures": [base]})), Ok(()));
    }
}

#[test]
fn configs_that_do_not_fit_the_weights() {
    // A model of one family under the name of another.
    let bias = "model.layers.0.self_attn.q_proj.bias";
    check_words("mistral_full", json!({"architectures": ["Qwen2ForCausalLM"]}), &[bias, "architectures is right"]);
    let norm = "model.layers.0.self_attn.q_norm.weight";
    check_words("mistral_full", json!({"architectures": ["Qwen3ForCausalLM"]}), &[norm, "architectures is right"]);
    check_words("qwen3", json!({"attention_bias": true}), &[bias, "attention_bias is right"]);
    check_words("qwen3", json!({"head_dim": 32}), &[norm, "[16]", "[32]"]);
    check(
        "mistral_full",
        json!({"num_key_value_heads": null}),
        "config.json: num_key_value_heads should be a divisor of num_attention_heads (4), got nothing",
    );
}

#[test]
fn values() {
    check(
        "qwen2",
        json!({"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}}),
        "config.json: rope_scaling.type should be one of default, linear, dynamic, llama3, got \"yarn\"",
    );
    check(
        "qwen2_layers",
        json!({"layer_types": ["sliding_attention", "linear_attention"]}),
        "config.json: layer_types should be 2 names, full_attention or sliding_attention, got \
         [\"sliding_attention\",\"linear_attention\"]",
    );
    check(
        "mistral_window",
        json!({"sliding_window": 0}),
        "config.json: sliding_window should be a whole number from 1 to 1073741824, got 0",
    );
    check("qwen3", json!({"hidden_act": "gelu"}), "config.json: hidden_act should be silu, got \"gelu\"");
    check(
        "qwen3",
        json!({"head_dim": 15}),
        "config.json: head_dim should be such that each head has an even number of elements, got 15",
    );
}
