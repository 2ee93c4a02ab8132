//! OPT's own ways to be stored, and configs that lie.

use paring_format::{Checkpoint, NamedTensor};
use serde_json::{Value, json};

use super::bad::{check_words, error_of};
use super::{changed, distance, flat, folder, golden, hidden};

/// Of a changed model: logits of a few tokens, and the names it calls its own outside the blocks.
pub fn rewritten(name: &str, change: impl FnOnce(&mut Value, &mut Vec<NamedTensor>)) -> (Vec<f32>, Vec<String>) {
    let model = changed(name, change).unwrap_or_else(|error| panic!("{error}"));
    (flat(&model.logits(&hidden(&*model, &IDS, 1)).unwrap()), model.outer_names())
}

pub const IDS: [u32; 5] = [3, 1, 4, 63, 5];
const EMBEDDING: &str = "model.decoder.embed_tokens.weight";

#[test]
fn names_with_and_without_their_prefixes() {
    for name in ["opt_plain", "opt_350m"] {
        let model = golden(name);
        let expected = flat(&model.logits(&hidden(&*model, &IDS, 1)).unwrap());
        for prefix in ["model.decoder.", "decoder.", ""] {
            let (logits, outer) = rewritten(name, |_, tensors| {
                for tensor in tensors {
                    tensor.name = tensor.name.replace("model.decoder.", prefix);
                }
            });
            assert_eq!(logits, expected, "{name} {prefix}");
            assert!(outer.contains(&format!("{prefix}embed_positions.weight")), "{outer:?}");
        }
    }
}

#[test]
fn a_tied_head_may_be_stored_too() {
    let model = golden("opt_350m");
    let expected = flat(&model.logits(&hidden(&*model, &IDS, 1)).unwrap());
    let add_head = |_: &mut Value, tensors: &mut Vec<NamedTensor>| {
        let mut head = tensors.iter().find(|tensor| tensor.name == EMBEDDING).unwrap().clone();
        head.name = "lm_head.weight".to_string();
        tensors.push(head);
    };
    let (logits, outer) = rewritten("opt_350m", add_head);
    assert_eq!(logits, expected);
    assert!(outer.contains(&"lm_head.weight".to_string()));
}

#[test]
fn a_final_norm_that_was_removed() {
    let final_norm = "model.decoder.final_layer_norm.";
    let (logits, outer) = rewritten("opt_plain", |config, tensors| {
        config["_remove_final_layer_norm"] = true.into();
        tensors.retain(|tensor| !tensor.name.starts_with(final_norm));
    });
    // What leaves the last block meets the tied head as it is.
    let embedding = Checkpoint::open(&folder("opt_plain")).unwrap().read_f32(EMBEDDING, &[64, 32]).unwrap();
    let h = flat(&hidden(&*golden("opt_plain"), &IDS, 1));
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum();
    let expected: Vec<f32> =
        h.chunks_exact(32).flat_map(|h| embedding.chunks_exact(32).map(move |row| dot(h, row))).collect();
    assert!(distance(&logits, &expected) < 1e-4);
    assert!(!outer.iter().any(|name| name.starts_with(final_norm)), "{outer:?}");
}

#[test]
fn defaults_of_absent_keys() {
    let absent = [
        "do_layer_norm_before",
        "_remove_final_layer_norm",
        "enable_bias",
        "layer_norm_elementwise_affine",
        "word_embed_proj_dim",
        "tie_word_embeddings",
        "activation_function",
    ];
    let absent: serde_json::Map<String, Value> = absent.iter().map(|key| (key.to_string(), Value::Null)).collect();
    assert_eq!(error_of("opt_plain", Value::Object(absent)), Ok(()));
    assert_eq!(error_of("opt_plain", json!({"architectures": null})), Ok(()));
    assert_eq!(error_of("opt_plain", json!({"architectures": ["OPTModel"]})), Ok(()));
}

fn check(name: &str, changes: Value, expected: &str) {
    assert_eq!(error_of(name, changes.clone()), Err(expected.to_string()), "{changes}");
}

#[test]
fn values() {
    for key in
        ["hidden_size", "ffn_dim", "num_attention_heads", "num_hidden_layers", "vocab_size", "max_position_embeddings"]
    {
        let expected = format!("config.json: {key} is missing; add it as it is in the original model's config");
        check("opt_plain", json!({key: null}), &expected);
    }
    for key in [
        "do_layer_norm_before",
        "_remove_final_layer_norm",
        "enable_bias",
        "layer_norm_elementwise_affine",
        "tie_word_embeddings",
    ] {
        let expected = format!("config.json: {key} should be true or false, got \"yes\"");
        check("opt_plain", json!({key: "yes"}), &expected);
    }
    check(
        "opt_plain",
        json!({"activation_function": "gelu_fast"}),
        "config.json: activation_function should be relu or gelu, got \"gelu_fast\"",
    );
    check(
        "opt_plain",
        json!({"activation_function": ["relu"]}),
        "config.json: activation_function should be a string, got [\"relu\"]",
    );
    check(
        "opt_plain",
        json!({"num_attention_heads": 5}),
        "config.json: hidden_size should be a multiple of num_attention_heads (5), got 32",
    );
    check(
        "opt_plain",
        json!({"word_embed_proj_dim": 0}),
        "config.json: word_embed_proj_dim should be a whole number from 1 to 1048576, got 0",
    );
    check(
        "opt_plain",
        json!({"ffn_dim": 48.5}),
        "config.json: ffn_dim should be a whole number from 1 to 4194304, got 48.5",
    );
    check(
        "opt_plain",
        json!({"max_position_embeddings": u64::MAX}),
        "config.json: max_position_embeddings should be a whole number from 1 to 1073741824, got 18446744073709551615",
    );
}

#[test]
fn configs_that_do_not_fit_the_weights() {
    let embedding = "model.decoder.embed_tokens.weight";
    check_words("opt_plain", json!({"word_embed_proj_dim": 16}), &[embedding, "[64, 32]", "[64, 16]"]);
    check_words("opt_350m", json!({"word_embed_proj_dim": null}), &[embedding, "[64, 16]", "[64, 32]"]);
    // Two rows more than positions.
    let positions = "model.decoder.embed_positions.weight";
    check_words("opt_plain", json!({"max_position_embeddings": 66}), &[positions, "[66, 32]", "[68, 32]"]);
    let fc1 = "model.decoder.layers.0.fc1.weight";
    check_words("opt_plain", json!({"ffn_dim": 40}), &[fc1, "[48, 32]", "[40, 32]"]);
    check_words("opt_plain", json!({"tie_word_embeddings": false}), &["lm_head", "tie_word_embeddings is right"]);
    let norm = "model.decoder.layers.2.self_attn_layer_norm.weight";
    let hint = "num_hidden_layers and layer_norm_elementwise_affine are right";
    check_words("opt_plain", json!({"num_hidden_layers": 3}), &[norm, hint]);
    let bias = "model.decoder.layers.0.self_attn.q_proj.bias";
    check_words("opt_bare", json!({"enable_bias": true}), &[bias, "enable_bias is right"]);
    let norm = "model.decoder.final_layer_norm.weight";
    let hint = "do_layer_norm_before and _remove_final_layer_norm are right";
    check_words("opt_350m", json!({"do_layer_norm_before": true}), &[norm, hint]);
}
