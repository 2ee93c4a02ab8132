mod presets;
mod sparsity;

use serde_json::{Value, json};

use super::*;
use crate::{Element, ScaleType, Strategy};

fn packed(targets: &[&str], bits: u32, symmetric: bool, strategy: Strategy) -> Scheme {
    Scheme {
        targets: targets.iter().map(|t| t.to_string()).collect(),
        format: "pack-quantized".into(),
        weights: Some(QuantArgs { symmetric, strategy, ..QuantArgs::new(Element::Int(bits)) }),
        ..Scheme::dense()
    }
}

/// The object that compressed-tensors 0.20.1 writes for one group.
fn official(bits: u32, symmetric: bool, strategy: &str, group_size: Option<usize>, ignore: &[&str]) -> Value {
    json!({
        "config_groups": {"group_0": {
            "format": "pack-quantized", "input_activations": null, "output_activations": null, "targets": ["Linear"],
            "weights": {
                "dynamic": false, "group_size": group_size, "num_bits": bits, "strategy": strategy, "symmetric": symmetric,
                "type": "int",
            },
        }},
        "format": "pack-quantized", "global_compression_ratio": null, "ignore": ignore, "kv_cache_scheme": null,
        "moe_sparsity_config": null, "quant_method": "compressed-tensors", "quantization_status": "compressed", "sparsity_config": {},
        "transform_config": {}, "version": "0.20.1",
    })
}

#[test]
fn writes_what_the_official_writer_writes() {
    let check = |bits, symmetric, strategy: Strategy, name: &str, ignore: &[&str]| {
        let size = if let Strategy::Group(size) = strategy { Some(size) } else { None };
        let group = ("group_0".to_string(), packed(&["Linear"], bits, symmetric, strategy));
        let config = QuantConfig::new(vec![group], ignore.iter().map(|i| i.to_string()).collect());
        let expected = official(bits, symmetric, name, size, ignore);
        // As text, which compares the order of the keys too.
        assert_eq!(config.to_json().to_string(), expected.to_string());
        assert_eq!(QuantConfig::parse(&expected).unwrap(), config);
    };
    check(4, false, Strategy::Group(32), "group", &["lm_head"]);
    check(4, true, Strategy::Group(32), "group", &["lm_head"]);
    check(8, true, Strategy::Channel, "channel", &[]);
    check(2, false, Strategy::Tensor, "tensor", &["re:.*head"]);
}

/// Releases up to 0.19 write keys that are not set too.
#[test]
fn what_is_not_set_may_be_written_or_left_out() {
    for (symmetric, zero) in [(true, Value::Null), (false, json!("torch.int8"))] {
        let short = official(4, symmetric, "group", Some(32), &["lm_head"]);
        let mut long = short.clone();
        long.as_object_mut().unwrap().remove("moe_sparsity_config");
        let weights = long["config_groups"]["group_0"]["weights"].as_object_mut().unwrap();
        for key in ["actorder", "block_structure", "observer", "scale_dtype"] {
            weights.insert(key.into(), Value::Null);
        }
        weights.insert("observer_kwargs".into(), json!({}));
        weights.insert("zp_dtype".into(), zero);
        let parsed = QuantConfig::parse(&long).unwrap();
        assert_eq!(parsed, QuantConfig::parse(&short).unwrap());
        assert_eq!(parsed.to_json(), short);
    }
}

#[test]
fn what_is_set_is_written() {
    let check = |args: QuantArgs, expected: Value| {
        let written = args.to_json();
        let set: Vec<(&String, &Value)> = expected.as_object().unwrap().iter().collect();
        let keys = ["actorder", "block_structure", "scale_dtype", "zp_dtype"];
        let found: Vec<(&String, &Value)> =
            written.as_object().unwrap().iter().filter(|(key, _)| keys.contains(&key.as_str())).collect();
        assert_eq!(found, set, "{args}");
        assert_eq!(QuantArgs::parse(&written, "weights").unwrap(), args);
    };
    let int = QuantArgs::new(Element::Int(4));
    check(int.clone(), json!({}));
    check(QuantArgs { actorder: Some("static".into()), ..int.clone() }, json!({"actorder": "static"}));
    check(QuantArgs { symmetric: false, float_zeros: true, ..int.clone() }, json!({"zp_dtype": "torch.float32"}));
    check(QuantArgs { strategy: Strategy::Block(128, 64), ..int }, json!({"block_structure": [128, 64]}));
    let mx =
        QuantArgs { strategy: Strategy::Group(32), scale_type: ScaleType::Exponent, ..QuantArgs::new(Element::E2m1) };
    check(mx, json!({"scale_dtype": "torch.uint8"}));
}

#[test]
fn experts_that_were_removed_are_refused_and_nothing_else() {
    let parse = |moe: Value| {
        let mut config = official(4, true, "group", Some(32), &[]);
        config["moe_sparsity_config"] = moe;
        QuantConfig::parse(&config).map_err(|error| error.to_string())
    };
    for nothing in [Value::Null, json!({}), json!({"method": "prune", "num_experts": [null, null]})] {
        assert!(parse(nothing.clone()).is_ok(), "{nothing}");
    }
    let error = parse(json!({"method": "prune", "num_experts": [null, 96]})).unwrap_err();
    assert!(error.contains("moe_sparsity_config (method prune: experts removed") && !error.contains('\n'), "{error}");
    for other in
        [json!({"method": "novice"}), json!({"method": "prune", "num_experts": 96}), json!("prune"), json!([1])]
    {
        assert!(parse(other.clone()).unwrap_err().contains("moe_sparsity_config"), "{other}");
    }
}

#[test]
fn the_smallest_config_and_its_defaults() {
    let parse = |weights: Value| {
        let config = json!({"quant_method": "compressed-tensors", "quantization_status": "compressed", "new_key": 1,
            "config_groups": {"a": {"targets": ["Linear"], "weights": weights}}});
        QuantConfig::parse(&config).map(|mut config| config.groups.remove(0).1)
    };
    assert_eq!(parse(json!({"num_bits": 4})).unwrap(), packed(&["Linear"], 4, true, Strategy::Tensor));
    assert_eq!(parse(json!({"group_size": -1})).unwrap(), packed(&["Linear"], 8, true, Strategy::Channel));
    let group = packed(&["Linear"], 8, false, Strategy::Group(64));
    assert_eq!(parse(json!({"group_size": 64, "symmetric": false})).unwrap(), group);
    assert_eq!(parse(json!({"actorder": "static"})).unwrap().codes().unwrap().actorder.as_deref(), Some("static"));
    assert_eq!(parse(json!({})).unwrap(), packed(&["Linear"], 8, true, Strategy::Tensor));
    assert_eq!(parse(Value::Null).unwrap(), Scheme::dense());
    // Releases that knew one type of scales for 4-bit floats did not say which.
    let small = |bits: u32, strategy: &str, group_size| {
        let args = json!({"type": "float", "num_bits": bits, "strategy": strategy, "group_size": group_size});
        let scheme = parse(args).unwrap();
        (scheme.format.clone(), scheme.codes().unwrap().scale_type)
    };
    assert_eq!(small(4, "tensor_group", 16), ("nvfp4-pack-quantized".to_string(), ScaleType::E4m3));
    assert_eq!(small(4, "group", 32), ("mxfp4-pack-quantized".to_string(), ScaleType::Exponent));
    assert_eq!(small(6, "group", 32), ("mxfp6-pack-quantized".to_string(), ScaleType::Exponent));
    for weights in [
        json!({"type": "float", "num_bits": 5}),
        json!({"type": "float", "num_bits": 6}),
        json!({"type": "float", "symmetric": false}),
        json!({"type": "complex"}),
        json!({"type": 1}),
        json!({"num_bits": 16}),
        json!({"num_bits": 0}),
        json!({"num_bits": "4"}),
        json!({"num_bits": -4}),
        json!({"strategy": "block"}),
        json!({"strategy": "block", "block_structure": [128]}),
        json!({"strategy": "block", "block_structure": [128, 0]}),
        json!({"strategy": "block", "block_structure": "128 by 128"}),
        json!({"block_structure": [128, 128]}),
        json!({"strategy": "tensor_group", "group_size": 16}),
        json!({"type": "float", "num_bits": 4}),
        json!({"type": "float", "num_bits": 8, "strategy": "tensor_group", "group_size": 16}),
        json!({"strategy": "group", "group_size": 16, "scale_dtype": "torch.float8_e4m3fn"}),
        json!({"strategy": "row"}),
        json!({"strategy": 3}),
        json!({"strategy": "group"}),
        json!({"strategy": "channel", "group_size": 32}),
        json!({"group_size": 0}),
        json!({"group_size": -2}),
        json!({"group_size": 1.5}),
        json!({"actorder": "random"}),
        json!({"dynamic": "always"}),
        json!({"dynamic": true}),
        json!({"dynamic": "local"}),
        json!({"symmetric": 1}),
        json!({"symmetric": false, "zp_dtype": "torch.uint8"}),
        json!({"scale_dtype": "torch.int8"}),
        json!({"bits": 4}),
        json!([]),
        json!("W4A16"),
    ] {
        assert!(parse(weights.clone()).is_err(), "{weights}");
    }
}

#[test]
fn refuses_what_it_cannot_honour() {
    let check = |key: &str, value: Value, part: &str| {
        let mut config = official(4, true, "group", Some(32), &[]);
        match key.strip_prefix("group.") {
            Some(key) => config["config_groups"]["group_0"][key] = value,
            None => config[key] = value,
        }
        let error = QuantConfig::parse(&config).unwrap_err().to_string();
        assert!(error.contains(part) && !error.contains('\n'), "{error}");
    };
    check("quant_method", json!("gptq"), "gptq");
    check("quant_method", Value::Null, "quant_method");
    check("kv_cache_scheme", json!({"num_bits": "8"}), "kv_cache_scheme.num_bits");
    check("transform_config", json!({"config_groups": {}}), "transform_config");
    check("sparsity_config", json!({"format": "sparse-48-bitmask"}), "sparse-48-bitmask");
    check("sparsity_config", json!({"targets": []}), "sparsity_config.format");
    check("sparsity_config", json!({"format": "dense", "global_sparsity": "half"}), "global_sparsity");
    check("sparsity_config", json!({"format": "dense", "sparsity_structure": "1:4"}), "sparsity_structure");
    check("sparsity_config", json!({"format": "dense", "targets": "Linear"}), "sparsity_config.targets");
    check("sparsity_config", json!("dense"), "sparsity_config");
    check("config_groups", Value::Null, "config_groups");
    check("config_groups", json!({"W9A16": ["Linear"]}), "W9A16");
    check("ignore", json!("lm_head"), "ignore");
    check("ignore", json!(["re:("]), "re:(");
    check("group.targets", json!(["re:[z-a]"]), "re:[z-a]");
    check("group.targets", Value::Null, "targets");
    check("group.format", json!("marlin-48"), "marlin-48");
    check("group.format", json!("sparse-bitmask"), "in a group");
    check("group.format", json!(4), "format");
    let message = "config.json: quantization_config.config_groups.group_0: the nvfp4-pack-quantized layout holds 4-bit \
        floats in groups with 8-bit floats as scales, and one for all, not 4-bit, groups of 32, symmetric";
    check("group.format", json!("nvfp4-pack-quantized"), message);
    check("group.format", json!("float-quantized"), "the float-quantized layout holds 8-bit floats");
    check("group.weights", Value::Null, "weights");
    check("group.input_activations", json!({"num_bits": 12}), "input_activations");
    check("group.input_activations", json!({"num_bits": 8, "dynamic": "global"}), "false, true, \"local\"");
    check("group.output_activations", json!([]), "output_activations");
    check("group.kv_cache", json!({}), "the key kv_cache");
}

#[test]
fn the_strongest_target_wins() {
    let group = |name: &str, targets: &[&str], bits| (name.to_string(), packed(targets, bits, true, Strategy::Channel));
    let config = QuantConfig::new(
        vec![
            group("class", &["Linear"], 8),
            group("late", &[r"re:model\.layers"], 7),
            group("early", &[r"re:.*down_proj$", r"re:.*layers\.1\."], 6),
            group("exact", &["model.layers.1.mlp.down_proj"], 5),
        ],
        vec!["lm_head".into(), "q_proj".into(), r"re:vision\.".into()],
    );
    let bits = |module: &str| config.scheme(module).unwrap().map(|scheme| scheme.codes().unwrap().element.bits());
    assert_eq!(bits("model.layers.1.mlp.down_proj"), Some(5));
    assert_eq!(bits("model.layers.0.mlp.down_proj"), Some(6));
    assert_eq!(bits("model.layers.1.mlp.up_proj"), Some(6));
    assert_eq!(bits("model.layers.0.mlp.up_proj"), Some(7));
    // Anchored at the start; an ignored name is no suffix.
    assert_eq!(bits("old.model.layers.0.q_proj"), Some(8));
    assert_eq!(bits("lm_head"), None);
    assert_eq!(bits("lm_head.extra"), Some(8));
    assert_eq!(bits("vision.fc1"), None);
    let falcon = QuantConfig::new(vec![group("class", &["FalconLinear"], 3)], vec!["lm_head".into()]);
    let covered = |module: &str| falcon.scheme(module).unwrap().is_some();
    assert!(covered("transformer.h.0.mlp.dense_h_to_4h") && !covered("lm_head"));
    assert_eq!(config.format, "pack-quantized");
}

#[test]
fn the_summary_names_mixed_formats() {
    let int = Scheme { format: "int-quantized".into(), ..packed(&["a"], 8, true, Strategy::Channel) };
    let pack = packed(&["b"], 4, true, Strategy::Channel);
    let config = QuantConfig::new(vec![("a".into(), int), ("b".into(), pack)], vec![]);
    assert_eq!(config.format, MIXED);
    assert_eq!(QuantConfig::parse(&config.to_json()).unwrap(), config);
    assert_eq!(QuantConfig::new(vec![], vec![]).format, "dense");
}

#[test]
fn the_version_says_that_words_are_padded() {
    let c = crate::testing::Rng(24).codes(4, 32, crate::Dtype::F32, 3, 8, false);
    let scheme = Scheme { padded: true, ..Scheme::of(&c, "pack-quantized", vec!["Linear".into()]) };
    let config = QuantConfig::new(vec![("group_0".into(), scheme)], vec![]);
    assert_eq!(config.version, PADDED_VERSION);
    assert_eq!(QuantConfig::parse(&config.to_json()).unwrap(), config);
}
