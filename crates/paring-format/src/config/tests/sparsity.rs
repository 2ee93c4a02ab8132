use serde_json::{Value, json};

use super::*;

fn group(name: &str, format: &str, weights: Option<QuantArgs>) -> (String, Scheme) {
    let targets = vec![format!("re:.*{name}")];
    (name.to_string(), Scheme { targets, format: format.to_string(), weights, ..Scheme::dense() })
}

fn again(config: &QuantConfig) -> QuantConfig {
    QuantConfig::parse(&config.to_json()).unwrap()
}

/// The objects that the library left beside the golden tensors.
#[test]
fn official_objects_come_back() {
    let index = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/formats/sparse.json");
    let index: Value = serde_json::from_slice(&std::fs::read(index).unwrap()).unwrap();
    let objects = index["cases"].as_array().unwrap().iter().filter_map(|case| case.get("sparsity_config"));
    let mut count = 0;
    for object in objects {
        let config = json!({"quant_method": "compressed-tensors", "sparsity_config": object, "version": "0.14.0.1"});
        let parsed = QuantConfig::parse(&config).unwrap();
        assert_eq!(parsed.to_json().to_string(), config.to_string());
        assert_eq!((parsed.groups.len(), &parsed.format[..]), (0, "dense"));
        count += 1;
    }
    assert_eq!(count, 55);
}

#[test]
fn sparse_layouts_are_named_beside_the_groups() {
    let int8 = QuantArgs::new(Element::Int(8));
    let ignore = vec!["lm_head".to_string()];
    let dense = QuantConfig::new(vec![group("a", "sparse-24-bitmask", None)], ignore.clone());
    assert_eq!(again(&dense), dense);
    let expected = json!({
        "quant_method": "compressed-tensors",
        "sparsity_config": {"format": "sparse-24-bitmask", "global_sparsity": 0.0, "ignore": ["lm_head"],
            "registry_requires_subclass": false, "sparsity_structure": "2:4", "targets": ["re:.*a"]},
        "version": LEGACY_VERSION,
    });
    assert_eq!(dense.to_json().to_string(), expected.to_string());
    assert_eq!(dense.scheme("x.a").unwrap(), None, "a dense weight");

    let composed = vec![
        group("a", "sparse-bitmask", Some(int8.clone())),
        group("b", "sparse-bitmask", Some(QuantArgs::new(Element::E4m3))),
        group("c", "sparse-bitmask", None),
    ];
    let composed = QuantConfig::new(composed, ignore.clone());
    assert_eq!(again(&composed), composed);
    let formats: Vec<&str> = composed.groups.iter().map(|(_, scheme)| &scheme.format[..]).collect();
    assert_eq!(formats, ["int-quantized", "float-quantized"]);
    let sparsity = composed.sparsity.as_ref().unwrap();
    assert_eq!(sparsity.targets.as_deref().unwrap(), ["re:.*a", "re:.*b", "re:.*c"]);
    assert_eq!((&composed.ignore, &sparsity.ignore), (&ignore, &Some(ignore.clone())));
    assert_eq!((&sparsity.structure[..], &composed.version[..]), ("unstructured", LEGACY_VERSION));

    // Packed codes lie as current releases have them, and the version says so.
    let packed = group("d", "pack-quantized", Some(QuantArgs::new(Element::Int(3))));
    let mixed = QuantConfig::new(vec![group("a", "sparse-bitmask", Some(int8)), packed], ignore);
    assert_eq!((mixed.version.clone(), again(&mixed)), (VERSION.to_string(), mixed));
}

#[test]
fn what_old_releases_left_out() {
    let parse = |sparsity: Value| {
        let config = json!({"quant_method": "compressed-tensors", "sparsity_config": sparsity});
        QuantConfig::parse(&config).unwrap().sparsity.unwrap()
    };
    let least = parse(json!({"format": "sparse-bitmask"}));
    assert_eq!((least.targets, least.ignore, least.global, &least.structure[..]), (None, None, 0.0, "unstructured"));
    assert_eq!(parse(json!({"format": "dense", "sparsity_structure": "0:0", "new_key": 1})).structure, "0:0");
    assert_eq!(parse(json!({"format": "dense", "sparsity_structure": "UNSTRUCTURED"})).structure, "unstructured");
    // Groups that name no layout have the one on top, which nothing else tells.
    let weights = json!({"num_bits": 4, "strategy": "group", "group_size": 128});
    let mut config = json!({"quant_method": "compressed-tensors", "quantization_status": "compressed",
        "format": "marlin-24", "config_groups": {"a": {"targets": ["Linear"], "weights": weights}}});
    let format = |config: &Value| QuantConfig::parse(config).unwrap().groups[0].1.format.clone();
    assert_eq!(format(&config), "marlin-24");
    for (on_top, sparsity, inferred) in [
        ("dense", json!({}), "pack-quantized"),
        ("int-quantized", json!({}), "pack-quantized"),
        ("int-quantized", json!({"format": "sparse-bitmask"}), "int-quantized"),
        ("dense", json!({"format": "sparse-bitmask"}), "pack-quantized"),
    ] {
        (config["format"], config["sparsity_config"]) = (json!(on_top), sparsity);
        assert_eq!(format(&config), inferred, "{on_top}");
    }
}
