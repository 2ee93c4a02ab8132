//! The statements of a configuration about its weights, and what is stored.

use super::*;

/// A checkpoint of tensors of zeros, under this configuration.
fn stored(config: Value, tensors: &[(&str, Dtype, [usize; 2])]) -> Checkpoint {
    let (mut header, mut end) = (serde_json::Map::new(), 0);
    for (name, dtype, shape) in tensors {
        let start = end;
        end += dtype.bytes_of(shape).unwrap();
        header.insert(name.to_string(), json!({"dtype": dtype.name(), "shape": shape, "data_offsets": [start, end]}));
    }
    let mut file = raw(&Value::Object(header).to_string(), 0);
    file.resize(file.len() + end, 0);
    Checkpoint::from_memory("made", &config.to_string(), &[("f", file.leak())]).unwrap()
}

/// Integers of 8 bits a row for all linears but the head.
fn eight(status: Value) -> Value {
    let weights = json!({"num_bits": 8, "type": "int", "symmetric": true, "strategy": "channel"});
    json!({
        "quant_method": "compressed-tensors",
        "quantization_status": status,
        "config_groups": {"g": {"targets": ["Linear"], "weights": weights}},
        "ignore": ["head"],
    })
}

const FLOAT: (&str, Dtype, [usize; 2]) = ("m.weight", Dtype::Bf16, [2, 4]);
const CODES: (&str, Dtype, [usize; 2]) = ("m.weight", Dtype::I8, [2, 4]);
const SCALE: (&str, Dtype, [usize; 2]) = ("m.weight_scale", Dtype::Bf16, [2, 1]);
const HEAD: (&str, Dtype, [usize; 2]) = ("head.weight", Dtype::Bf16, [2, 4]);

/// Labels are often wrong: what is stored decides.
#[test]
fn the_stored_tensors_say_what_a_weight_is() {
    for status in [json!("frozen"), json!("compressed"), json!(null)] {
        let config = json!({"quantization_config": eight(status.clone())});
        let rounded = stored(config.clone(), &[FLOAT, SCALE, HEAD]);
        assert!(rounded.is_rounded_float("m").unwrap(), "{status}");
        rounded.check_float_weight("m").unwrap();
        assert_eq!(rounded.linear_format("m").unwrap().layout, "dense");
        let coded = stored(config.clone(), &[CODES, SCALE, HEAD]);
        assert!(!coded.is_rounded_float("m").unwrap(), "{status}");
        coded.check_float_weight("m").unwrap();
        assert_eq!(coded.linear_format("m").unwrap().layout, "naive-quantized", "{status}");
        for checkpoint in [&rounded, &coded] {
            assert!(!checkpoint.is_rounded_float("head").unwrap());
            checkpoint.check_float_weight("head").unwrap();
            assert_eq!(checkpoint.linear_format("head").unwrap().layout, "dense");
        }
        // Without scales it is unknown what a float weight is rounded to.
        let bare = stored(config, &[FLOAT, HEAD]);
        let says = match &status {
            Value::Null => "quantization_config has no quantization_status".to_string(),
            status => format!("quantization_config.quantization_status is {status}"),
        };
        check_error(bare.check_float_weight("m"), &["m: f has its weight as BF16 without scales", &says]);
        bare.check_float_weight("head").unwrap();
    }
    let plain = stored(json!({"quantization_config": null}), &[FLOAT]);
    assert!(plain.quantization().is_none() && plain.quant_config().unwrap().is_none());
    assert!(!plain.is_rounded_float("m").unwrap());
    plain.check_float_weight("m").unwrap();
}

/// A group in which one weight is in codes has their layout, and its float weights are dense.
#[test]
fn a_group_may_hold_codes_and_floats() {
    let config = json!({"quantization_config": eight(json!("compressed"))});
    let other = [("n.weight", Dtype::Bf16, [2, 4]), ("n.weight_scale", Dtype::Bf16, [2, 1])];
    let both = stored(config.clone(), &[CODES, SCALE, other[0], other[1]]);
    assert_eq!(["m", "n"].map(|module| both.linear_format(module).unwrap().layout), ["naive-quantized", "dense"]);
    let packed = [
        ("m.weight_packed", Dtype::I32, [2, 1]),
        ("m.weight_scale", Dtype::Bf16, [2, 1]),
        ("m.weight_shape", Dtype::I64, [1, 2]),
    ];
    let both = stored(config, &[packed[0], packed[1], packed[2], other[0], other[1]]);
    assert_eq!(["m", "n"].map(|module| both.linear_format(module).unwrap().layout), ["pack-quantized", "dense"]);
    assert_eq!(["m", "n"].map(|module| both.is_rounded_float(module).unwrap()), [false, true]);
}

/// Releases of 2024 had other names and one object inside another; errors have the names of the file.
#[test]
fn objects_of_earlier_releases_are_read() {
    let with = |change: &dyn Fn(&mut Value)| {
        let mut inner = eight(json!("frozen"));
        change(&mut inner);
        inner
    };
    let groups =
        |config: Value| stored(config, &[CODES, SCALE]).quant_config().map(|config| config.unwrap().groups.len());
    let without = with(&|inner| drop(inner.as_object_mut().unwrap().remove("quant_method")));
    let bad = with(&|inner| inner["config_groups"]["g"]["targets"] = json!(7));
    for method in [json!("sparseml"), json!("compressed_tensors"), json!("compressed-tensors"), json!(null)] {
        let first = with(&|inner| inner["quant_method"] = method.clone());
        assert_eq!(groups(json!({"compression_config": first})).unwrap(), 1, "{method}");
        let nested = json!({"quantization_config": without, "quant_method": method});
        assert_eq!(groups(json!({"compression_config": nested})).unwrap(), 1, "{method}");
        assert_eq!(groups(json!({"quantization_config": nested})).unwrap(), 1, "{method}");
    }
    check_error(groups(json!({"quantization_config": without})), &["quantization_config.quant_method", "missing"]);
    let other = with(&|inner| inner["quant_method"] = json!("gptq"));
    check_error(groups(json!({"compression_config": other})), &["compression_config: the quantization method gptq"]);
    check_error(groups(json!({"compression_config": 7})), &["compression_config", "not an object"]);
    for (config, place) in [
        (json!({"quantization_config": bad}), "config.json: quantization_config.config_groups.g.targets"),
        (json!({"compression_config": bad}), "config.json: compression_config.config_groups.g.targets"),
        (
            json!({"compression_config": {"quantization_config": bad}}),
            "config.json: compression_config.quantization_config.config_groups.g.targets",
        ),
    ] {
        check_error(groups(config), &[&format!("{place}: not a list of strings")]);
    }
}

/// Beside a nested object, the outer one has what is said of sparse weights.
#[test]
fn sparsity_is_taken_from_the_object_around() {
    let sparsity = |format: &str| json!({"format": format, "sparsity_structure": "2:4"});
    let read = |inner: Value, outer: Value| {
        let mut nested = eight(json!("frozen"));
        nested["sparsity_config"] = inner;
        let nested = json!({"quantization_config": nested, "sparsity_config": outer});
        let config = stored(json!({"compression_config": nested}), &[CODES, SCALE]).quant_config();
        config.map(|config| config.unwrap().sparsity.map(|sparsity| sparsity.format))
    };
    let dense = Some("dense".to_string());
    for empty in [json!(null), json!({})] {
        assert_eq!(read(empty.clone(), sparsity("dense")).unwrap(), dense);
        assert_eq!(read(empty.clone(), empty).unwrap(), None);
    }
    assert_eq!(read(sparsity("dense"), sparsity("odd")).unwrap(), dense);
    check_error(read(json!(null), sparsity("odd")), &["compression_config.sparsity_config: the format odd"]);
    let alone = json!({"compression_config": {"sparsity_config": sparsity("dense"), "quantization_config": null}});
    let config = stored(alone, &[FLOAT]).quant_config().unwrap().unwrap();
    assert_eq!((config.groups.len(), config.sparsity.map(|sparsity| sparsity.format)), (0, dense));
}
