//! Presets against a dump of the library's own table, with the format that it infers for each.

use serde_json::{Map, Value, json};

use super::*;

fn official() -> Map<String, Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/formats/presets.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn every_preset_is_the_librarys() {
    let official = official();
    assert_eq!(official.len(), PRESETS.len());
    for (name, expected) in &official {
        let preset = Preset::find(&name.to_lowercase()).unwrap();
        let args = |key: &str| match &expected[key] {
            Value::Null => None,
            value => Some(QuantArgs::parse(value, name).unwrap()),
        };
        assert_eq!(
            (preset.weights.clone(), preset.input.clone()),
            (args("weights"), args("input_activations")),
            "{name}"
        );
        for (args, key) in [(&preset.weights, "weights"), (&preset.input, "input_activations")] {
            assert_eq!(args.as_ref().map_or(Value::Null, QuantArgs::to_json), expected[key], "{name}");
        }
        assert_eq!(expected["format"], preset.scheme(vec![]).format.as_str(), "{name}");
    }
    assert_eq!(Preset::find("W9A16"), None);
}

#[test]
fn groups_may_be_presets() {
    let parse = |groups: Value| {
        QuantConfig::parse(&json!({"quant_method": "compressed-tensors", "quantization_status": "compressed",
            "config_groups": groups}))
    };
    let config = parse(json!({"w4a16": ["Linear"], "FP8_DYNAMIC": ["re:.*down_proj"]})).unwrap();
    let scheme = |module: &str| config.scheme(module).unwrap().unwrap();
    assert_eq!(scheme("model.up_proj"), &Preset::find("W4A16").unwrap().scheme(vec!["Linear".into()]));
    let fp8 = Preset::find("FP8_DYNAMIC").unwrap().scheme(vec!["re:.*down_proj".into()]);
    assert_eq!(scheme("model.down_proj"), &fp8);
    assert_eq!(config.format, MIXED);
    for groups in [json!({"W9A16": ["Linear"]}), json!({"W4A16": [4]}), json!({"W4A16": "Linear"})] {
        assert!(parse(groups.clone()).is_err(), "{groups}");
    }
}
