//! Falcons of every kind against transformers, and configs that lie.

use serde_json::{Map, Value, json};

use super::bad::{check_words, error_of, with_config};
use super::fixtures::check;
use super::opt::{IDS, rewritten};
use super::{distance, flat, folder, golden, hidden, stored, stored_ids};
use crate::Error;

#[test]
fn multi_query_with_a_shared_norm() {
    check("falcon_7b", &[1, 9, 40]);
}

#[test]
fn grouped_queries_with_two_norms() {
    check("falcon_40b", &[9, 40]);
}

#[test]
fn grouped_queries_with_one_norm_and_a_head_of_its_own() {
    check("falcon_11b", &[9, 40]);
}

#[test]
fn keys_for_each_head() {
    check("falcon_heads", &[9, 40]);
}

#[test]
fn attention_before_the_mlp_with_alibi() {
    check("falcon_rw", &[5, 32]);
}

#[test]
fn alibi_is_added_as_often_as_the_reference_does() {
    let file = std::fs::read(folder("falcon_rw").join("expected.safetensors")).unwrap();
    let ids = stored_ids(&file, "ids_5");
    let eager = stored(&file, "logits_5", f32::from_le_bytes);
    // The first logits of the last token by transformers' sdpa attention.
    let once = [-0.292_035_82f32, -1.957_781_3, -2.149_051_4, -8.233_087, 13.838_12, 3.598_559];
    for (changes, twice) in [
        (json!({}), true),
        (json!({"transformers_version": "4.45.0.dev0"}), true),
        (json!({"attn_implementation": "eager"}), true),
        (json!({"attn_implementation": "sdpa"}), false),
        (json!({"transformers_version": "4.44.2"}), false),
        (json!({"transformers_version": "4.27.4", "attn_implementation": "eager"}), false),
        (json!({"transformers_version": null}), false),
    ] {
        let model = with_config("falcon_rw", &changes).unwrap_or_else(|error| panic!("{error}"));
        let logits = flat(&model.logits(&hidden(&*model, &ids, 1)).unwrap());
        assert_eq!(distance(&logits, &eager) < 1e-4, twice, "{changes}");
        // A note says which.
        assert_eq!(model.notes().iter().any(|note| note.contains("alibi is added 2 times")), twice, "{changes}");
        assert_eq!(distance(&logits[4 * 64..][..once.len()], &once) < 1e-4, !twice, "{changes}");
    }
    let expected = "transformers_version should be a version, such as 4.45.0, got \"five\"";
    refused("falcon_rw", json!({"transformers_version": "five"}), expected);
    let expected = "attn_implementation should be eager, sdpa or absent with alibi, got \"flash_attention_2\"";
    refused("falcon_rw", json!({"attn_implementation": "flash_attention_2"}), expected);
}

#[test]
fn configs_of_refined_web() {
    check("falcon_old", &[9, 40]);
    check("falcon_old_7b", &[9, 40]);
}

#[test]
fn the_fused_matrix_is_one_linear() {
    let rows = [("falcon_7b", 48), ("falcon_40b", 64), ("falcon_11b", 64), ("falcon_heads", 96), ("falcon_rw", 144)];
    for (name, rows) in rows {
        let model = golden(name);
        let shared = !["falcon_40b", "falcon_rw"].contains(&name);
        let fans: &[&str] = if shared { &["qkv_up", "o", "down"] } else { &["qkv", "o", "up", "down"] };
        let mut block = model.block(1).unwrap();
        let block = block.fans();
        assert_eq!(block.iter().map(|fan| fan.name).collect::<Vec<_>>(), fans, "{name}");
        let first: Vec<&str> = block[0].linears.iter().map(|linear| linear.name.as_str()).collect();
        let fused = "transformer.h.1.self_attention.query_key_value";
        let up = "transformer.h.1.mlp.dense_h_to_4h";
        assert_eq!(first, if shared { vec![fused, up] } else { vec![fused] }, "{name}");
        assert_eq!((block[0].linears[0].rows, block[0].linears[0].cols), (rows, model.hidden_size()), "{name}");
        // Fans hold what `linears` lists, in its order.
        let held = block.iter().enumerate().flat_map(|(i, fan)| fan.linears.iter().map(move |l| (l.name.clone(), i)));
        let listed = model.linears(1).into_iter().map(|info| (info.name, info.fan));
        assert_eq!(held.collect::<Vec<_>>(), listed.collect::<Vec<_>>(), "{name}");
    }
}

#[test]
fn names_with_and_without_their_prefix() {
    for name in ["falcon_7b", "falcon_rw"] {
        let model = golden(name);
        let expected = flat(&model.logits(&hidden(&*model, &IDS, 1)).unwrap());
        for prefix in ["transformer.", ""] {
            let (logits, outer) = rewritten(name, |_, tensors| {
                for tensor in tensors {
                    tensor.name = tensor.name.replace("transformer.", prefix);
                }
            });
            assert_eq!(logits, expected, "{name} {prefix}");
            assert!(outer.contains(&format!("{prefix}ln_f.bias")), "{outer:?}");
        }
    }
}

#[test]
fn only_alibi_goes_beyond_the_positions() {
    assert!(matches!(golden("falcon_7b").embed(&[0; 65], 1), Err(Error::TooLong { tokens: 65, max: 64 })));
    let model = golden("falcon_rw");
    assert_eq!((model.max_positions(), model.longest()), (64, None));
    let longest = ["falcon_7b", "llama", "opt", "rope_linear", "rope_dynamic"].map(|name| golden(name).longest());
    assert_eq!(longest[..3], [Some(64); 3]);
    assert!(longest[3].is_some() && longest[4].is_none(), "{longest:?}");
    let ids: Vec<u32> = (0..80).map(|i| i * 13 % 64).collect();
    let long = flat(&model.logits(&hidden(&*model, &ids, 1)).unwrap());
    let short = flat(&model.logits(&hidden(&*model, &ids[..40], 1)).unwrap());
    assert!(distance(&long[..short.len()], &short) < 1e-5);
    assert!(matches!(model.embed(&[64], 1), Err(Error::TokenOutOfRange { token: 64, vocab: 64 })));
    // What the config does not say.
    assert_eq!(golden("falcon_old").max_positions(), 2048);
}

#[test]
fn defaults_of_absent_keys() {
    let absent = |keys: &[&str]| -> Value {
        keys.iter().map(|key| (key.to_string(), Value::Null)).collect::<Map<String, Value>>().into()
    };
    // The 7B is what the defaults of later configs describe.
    let keys = [
        "activation",
        "alibi",
        "bias",
        "ffn_hidden_size",
        "layer_norm_epsilon",
        "max_position_embeddings",
        "multi_query",
        "new_decoder_architecture",
        "num_kv_heads",
        "num_ln_in_parallel_attn",
        "parallel_attn",
        "rope_parameters",
        "tie_word_embeddings",
    ];
    assert_eq!(error_of("falcon_7b", absent(&keys)), Ok(()));
    assert_eq!(error_of("falcon_40b", absent(&["num_ln_in_parallel_attn", "multi_query", "parallel_attn"])), Ok(()));
    assert_eq!(error_of("falcon_old", absent(&["parallel_attn", "alibi", "bias"])), Ok(()));
    assert_eq!(error_of("falcon_old", json!({"architectures": null})), Ok(()));
    assert_eq!(error_of("falcon_old", json!({"hidden_size": null, "n_embed": 32})), Ok(()));
    assert_eq!(error_of("falcon_old_7b", json!({"architectures": null})), Ok(()));
    assert_eq!(error_of("falcon_7b", json!({"architectures": null})), Ok(()));
}

fn refused(name: &str, changes: Value, expected: &str) {
    assert_eq!(error_of(name, changes.clone()), Err(format!("config.json: {expected}")), "{name} {changes}");
}

#[test]
fn values() {
    for (name, keys) in [
        ("falcon_7b", ["hidden_size", "num_attention_heads", "num_hidden_layers", "vocab_size"]),
        ("falcon_old", ["hidden_size", "n_head", "n_layer", "vocab_size"]),
    ] {
        for key in keys {
            let current = match key {
                "n_head" => "num_attention_heads",
                "n_layer" => "num_hidden_layers",
                key => key,
            };
            let expected = format!("{current} is missing; add it as it is in the original model's config");
            refused(name, json!({key: null}), &expected);
        }
    }
    for key in ["alibi", "bias", "multi_query", "parallel_attn", "new_decoder_architecture", "tie_word_embeddings"] {
        refused("falcon_7b", json!({key: "yes"}), &format!("{key} should be true or false, got \"yes\""));
    }
    refused("falcon_7b", json!({"activation": "gelu_new"}), "activation should be gelu, got \"gelu_new\"");
    refused("falcon_7b", json!({"activation": 1}), "activation should be a string, got 1");
    let expected = "hidden_size should be a multiple of the number of heads (5), got 32";
    refused("falcon_7b", json!({"num_attention_heads": 5}), expected);
    refused("falcon_old", json!({"n_head": 5}), expected);
    let expected = "hidden_size should be such that each head has an even number of elements, got 32";
    refused("falcon_7b", json!({"num_attention_heads": 32}), expected);
    let expected = "num_attention_heads should be a whole number from 1 to 65536, got 0";
    refused("falcon_7b", json!({"num_attention_heads": 0}), expected);
    let expected = "ffn_hidden_size should be a whole number from 1 to 4194304, got 18446744073709551615";
    refused("falcon_7b", json!({"ffn_hidden_size": u64::MAX}), expected);
    let expected = "layer_norm_epsilon should be a number from 0 to 1, got -1";
    refused("falcon_7b", json!({"layer_norm_epsilon": -1}), expected);
    let expected = "apply_residual_connection_post_layernorm should be false or absent, got true";
    refused("falcon_old", json!({"apply_residual_connection_post_layernorm": true}), expected);
}

#[test]
fn heads_of_keys() {
    let expected = "num_kv_heads should be a divisor of the number of heads (4), got 3";
    refused("falcon_40b", json!({"num_kv_heads": 3}), expected);
    refused("falcon_old", json!({"n_head_kv": 3}), "n_head_kv should be a divisor of the number of heads (4), got 3");
    let expected = "num_kv_heads should be a whole number from 1 to 65536, got 0";
    refused("falcon_40b", json!({"num_kv_heads": 0}), expected);
    let expected = "num_kv_heads should be the number of heads (4) without multi_query and new_decoder_architecture, \
                    got 2";
    refused("falcon_heads", json!({"num_kv_heads": 2}), expected);
    // Multi-query attention does not ask.
    assert_eq!(error_of("falcon_7b", json!({"num_kv_heads": 3})), Ok(()));
}

#[test]
fn positions() {
    for key in ["rope_parameters", "rope_scaling"] {
        let linear = json!({"rope_parameters": null, key: {"rope_type": "linear", "factor": 2.0}});
        assert_eq!(error_of("falcon_7b", linear.clone()), Ok(()));
        let expected = format!("{key}.rope_type should be default or absent with alibi, got \"linear\"");
        refused("falcon_rw", linear, &expected);
    }
    let expected = "rope_scaling.type should be default or absent with alibi, got \"dynamic\"";
    refused("falcon_rw", json!({"rope_scaling": {"type": "dynamic", "factor": 2.0}}), expected);
    let expected = "rope_scaling.type should be one of default, linear, dynamic, llama3, got \"yarn\"";
    refused("falcon_7b", json!({"rope_scaling": {"type": "yarn", "factor": 2.0}}), expected);
}

#[test]
fn flows() {
    let expected = "num_ln_in_parallel_attn should be a whole number from 1 to 2, got 3";
    refused("falcon_40b", json!({"num_ln_in_parallel_attn": 3}), expected);
    let expected = "num_ln_in_parallel_attn should be 1 or absent without new_decoder_architecture, got 2";
    refused("falcon_7b", json!({"num_ln_in_parallel_attn": 2}), expected);
    let expected = "parallel_attn should be true or absent with new_decoder_architecture, got false";
    refused("falcon_40b", json!({"parallel_attn": false}), expected);
}

#[test]
fn configs_that_do_not_fit_the_weights() {
    let norms = "the number of layers, parallel_attn, new_decoder_architecture and num_ln_in_parallel_attn are right";
    for (name, changes, norm) in [
        ("falcon_7b", json!({"num_hidden_layers": 3}), "2.input_layernorm"),
        ("falcon_old", json!({"n_layer": 3}), "2.ln_attn"),
        ("falcon_7b", json!({"parallel_attn": false}), "0.post_attention_layernorm"),
        ("falcon_40b", json!({"num_ln_in_parallel_attn": 1}), "0.input_layernorm"),
    ] {
        check_words(name, changes, &[&format!("transformer.h.{norm}.weight"), norms]);
    }
    let fused = "transformer.h.0.self_attention.query_key_value";
    check_words("falcon_7b", json!({"bias": true}), &[&format!("{fused}.bias"), "bias is right"]);
    // A bias that is stored would be lost.
    check_words(
        "falcon_rw",
        json!({"bias": false}),
        &["the model does not have", "transformer.h.0.mlp.dense_4h_to_h.bias"],
    );
    check_words("falcon_7b", json!({"tie_word_embeddings": false}), &["lm_head", "tie_word_embeddings is right"]);
    let up = "transformer.h.0.mlp.dense_h_to_4h.weight";
    check_words("falcon_7b", json!({"ffn_hidden_size": 100}), &[up, "[128, 32]", "[100, 32]"]);
    // Of the smaller RefinedWeb models, the attention has a key for each head unless it is said.
    check_words("falcon_old_7b", json!({"multi_query": null}), &[&format!("{fused}.weight"), "[48, 32]", "[96, 32]"]);
}
