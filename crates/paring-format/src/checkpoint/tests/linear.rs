use super::*;
use crate::testing::{Rng, SpqrKind, encode, two_of_four};
use crate::writer::Destination;
use crate::{Compressed, Dtype, LAYOUTS, NamedTensor, QuantConfig, Scheme, Values, Writer};

/// Writes one linear `m` beside a dense `lm_head`, and returns folder and quantization.
fn store(c: &Compressed, layout: &str) -> (tempfile::TempDir, QuantConfig) {
    let scheme = Scheme::of(c, layout, vec!["Linear".to_string()]);
    let layout = crate::layouts::layout(layout).unwrap();
    let parts = layout.encode(&scheme, c).unwrap();
    let quant = QuantConfig::new(vec![("group_0".to_string(), scheme)], vec!["lm_head".to_string()]);
    let mut tensors = NamedTensor::of_module("m", parts);
    tensors.push(NamedTensor {
        name: "lm_head.weight".to_string(),
        dtype: Dtype::F16,
        shape: vec![1, 2],
        bytes: Dtype::F16.encode(&[1.0, -2.0]),
    });
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::create(&Destination::new(dir.path(), 1)).unwrap();
    writer.shard(0, tensors).unwrap();
    let config = serde_json::json!({"model_type": "llama", "quantization_config": quant.to_json()});
    writer.finish(&config, &[]).unwrap();
    (dir, quant)
}

#[test]
fn a_quantization_under_its_first_name() {
    let c = Rng(3).codes(4, 16, Dtype::Bf16, 4, 8, false);
    let (dir, quant) = store(&c, "pack-quantized");
    let path = dir.path().join(CONFIG);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("quantization_config", "compression_config")).unwrap();
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(checkpoint.quant_config().unwrap(), Some(quant));
    assert_eq!(checkpoint.read_linear("m", 4, 16).unwrap(), c);
}

#[test]
fn every_layout_through_a_folder() {
    let mut rng = Rng(2);
    let made = [
        rng.dense(4, 16, Dtype::Bf16),
        rng.codes(4, 16, Dtype::Bf16, 4, 8, false),
        rng.codes(4, 16, Dtype::F32, 3, 16, true),
        two_of_four(rng.dense(4, 16, Dtype::F16)),
        two_of_four(rng.codes(4, 16, Dtype::Bf16, 8, 16, true)),
        rng.spqr(4, 16, Dtype::F16, &SpqrKind { height: 3, ..SpqrKind::published() }),
        rng.spqr(4, 16, Dtype::F32, &SpqrKind { group_size: 5, ..SpqrKind::published() }),
    ];
    for layout in LAYOUTS {
        for c in made.iter().filter(|c| encode(*layout, c).is_ok()) {
            let (dir, quant) = store(c, layout.name());
            let checkpoint = Checkpoint::open(dir.path()).unwrap();
            assert_eq!(checkpoint.quant_config().unwrap(), Some(quant.clone()));
            assert_eq!(&checkpoint.read_linear("m", 4, 16).unwrap(), c);
            assert_eq!(checkpoint.digest_linear("m", 4, 16).unwrap(), c.digest());
            let format = checkpoint.linear_format("m").unwrap();
            assert_eq!(format.scheme.as_ref(), quant.groups.first().map(|(_, scheme)| scheme));
            let name = match (format.sparse, &c.values) {
                (None, _) | (_, Values::Dense(_)) => layout.name().to_string(),
                _ => format!("{}+int-quantized", layout.name()),
            };
            assert_eq!(format.describe(), name);
            let head = checkpoint.read_linear("lm_head", 1, 2).unwrap();
            assert_eq!((head.dtype, head.to_dense()), (Dtype::F16, vec![1.0, -2.0]));
            let dense = LinearFormat { layout: "dense", scheme: None, sparse: None };
            assert_eq!(checkpoint.linear_format("lm_head").unwrap(), dense);

            let text = checkpoint.read_linear("m", 16, 4).unwrap_err().to_string();
            assert!(text.contains("model.safetensors: m.weight: shape [4, 16], expected [16, 4]"), "{text}");
            let text = checkpoint.read_linear("gone", 4, 16).unwrap_err().to_string();
            assert!(text.contains("gone.weight") || text.contains("no tensor"), "{text}");
        }
    }
}

/// A checkpoint with the linear `m` as a packed matrix, under another configuration.
fn with_config(config: &str) -> Checkpoint {
    let c = Rng(2).codes(4, 16, Dtype::Bf16, 4, 8, false);
    let (dir, _) = store(&c, "pack-quantized");
    std::fs::write(dir.path().join(CONFIG), config).unwrap();
    Checkpoint::open(dir.path()).unwrap()
}

#[test]
fn configurations_and_tensors_that_disagree() {
    let check = |config: &str, parts: &[&str]| {
        let text = with_config(config).read_linear("m", 4, 16).unwrap_err().to_string();
        for part in parts {
            assert!(text.contains(part), "{text:?} lacks {part:?}");
        }
    };
    check("{}", &["m.weight", "no group covers it; no quantization_config"]);
    check(r#"{"quantization_config": {"quant_method": "gptq"}}"#, &["gptq"]);
    check(r#"{"quantization_config": 7}"#, &["quantization_config", "not an object"]);
    let group = |scheme: &str| {
        format!(
            r#"{{"quantization_config": {{"quant_method": "compressed-tensors", "quantization_status": "compressed",
            "config_groups": {{"g": {{"targets": ["Linear"], {scheme}}}}}}}}}"#
        )
    };
    check(&group(r#""format": "int-quantized", "weights": {}"#), &["m.weight", "the module has weight_packed"]);
    check(&group(r#""format": "dense", "weights": null"#), &["m.weight", "the module has weight_packed"]);
    check(&group(r#""weights": {"num_bits": 8, "group_size": 8}"#), &["m.weight_packed", "[4, 2]", "[4, 4]"]);
    check(&group(r#""weights": {"num_bits": 4, "group_size": 16}"#), &["m.weight_scale", "[4, 2]", "[4, 1]"]);
    check(&group(r#""weights": {"num_bits": 4, "group_size": 5}"#), &["m: 16 columns", "group size 5"]);
}

#[test]
fn an_unreadable_quantization_stops_linears_only() {
    let checkpoint = with_config(r#"{"quantization_config": {"quant_method": "awq"}}"#);
    assert!(checkpoint.quant_config().is_err());
    assert!(checkpoint.linear_format("m").is_err());
    assert!(checkpoint.read("m.weight_packed").is_ok());
}

#[test]
fn damaged_configurations_never_panic() {
    let c = Rng(2).codes(4, 16, Dtype::Bf16, 4, 8, false);
    let (dir, quant) = store(&c, "pack-quantized");
    let shard = std::fs::read(dir.path().join(SINGLE)).unwrap();
    let config = serde_json::json!({"quantization_config": quant.to_json()}).to_string();
    let mut rng = Rng(13);
    for round in 0..4000 {
        let (mut config, mut shard) = (config.clone().into_bytes(), shard.clone());
        let damaged = if round % 2 == 0 { &mut config } else { &mut shard };
        for _ in 0..1 + rng.below(3) {
            let at = rng.below(damaged.len());
            damaged[at] =
                if damaged[at].is_ascii_digit() { b'0' + rng.below(10) as u8 } else { b' ' + rng.below(95) as u8 };
        }
        let shard: &'static [u8] = Box::leak(shard.into_boxed_slice());
        let config = String::from_utf8(config).unwrap();
        let Ok(checkpoint) = Checkpoint::from_memory("fuzz", &config, &[("f", shard)]) else { continue };
        checkpoint.quant_config().map(drop).unwrap_or(());
        if let Ok(c) = checkpoint.read_linear("m", 4, 16) {
            assert_eq!(c.to_dense().len(), 64);
        }
    }
}

#[test]
fn digests_of_plain_weights_are_those_of_what_is_read() {
    // More than the pages that are held and than a piece, and no multiple of either.
    let (rows, cols) = (1501, 1003);
    let mut rng = Rng(12);
    for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
        let c = rng.dense(rows, cols, dtype);
        let bytes = c.to_dense_bytes();
        let open = |bytes: Vec<u8>| {
            let dir = tempfile::tempdir().unwrap();
            let mut writer = Writer::create(&Destination::new(dir.path(), 1)).unwrap();
            let tensor = NamedTensor { name: "m.weight".into(), dtype, shape: vec![rows, cols], bytes };
            writer.shard(0, vec![tensor]).unwrap();
            writer.finish(&serde_json::json!({}), &[]).unwrap();
            (Checkpoint::open(dir.path()).unwrap(), dir)
        };
        let (checkpoint, _dir) = open(bytes.clone());
        assert_eq!(checkpoint.digest_linear("m", rows, cols).unwrap(), c.digest());
        assert_eq!(checkpoint.digest("m.weight").unwrap(), xxhash_rust::xxh3::xxh3_64(&bytes));
        // Errors are those of reading.
        for (module, rows, part) in [("m", rows + 1, "1502"), ("n", rows, "n.weight")] {
            let text = checkpoint.digest_linear(module, rows, cols).unwrap_err().to_string();
            assert_eq!(text, checkpoint.read_linear(module, rows, cols).unwrap_err().to_string());
            assert!(text.contains(part), "{text}");
        }
        assert!(checkpoint.digest("n").unwrap_err().to_string().contains('n'));
        let mut bad = bytes;
        let at = bad.len() - dtype.size();
        bad[at..].copy_from_slice(&dtype.encode(&[f32::NAN]));
        let text = open(bad).0.digest_linear("m", rows, cols).unwrap_err().to_string();
        assert!(text.contains("m.weight") && text.contains("NaN"), "{text}");
    }
}
