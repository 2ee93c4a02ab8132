//! Tiny random models against the logits that transformers computed (scripts/fixtures/models).

use safetensors::SafeTensors;

use super::{Keep, distance, flat, folder, golden, golden_everywhere, hidden, stored, stored_ids};
use crate::{Decoder, Error, FAMILIES};

/// Compares logits, the summed loss and the inputs of linears with what is stored of them, on each device that is here.
pub fn check(name: &str, lengths: &[usize]) {
    golden_everywhere(name).iter().for_each(|model| check_model(name, &**model, lengths));
}

fn check_model(name: &str, model: &dyn Decoder, lengths: &[usize]) {
    let file = std::fs::read(folder(name).join("expected.safetensors")).unwrap();
    let names: Vec<String> = SafeTensors::deserialize(&file).unwrap().names().into_iter().map(String::from).collect();
    let name = &format!("{name} on {:?}", model.device());
    for &length in lengths {
        let ids = stored_ids(&file, &format!("ids_{length}"));
        let expected = stored(&file, &format!("logits_{length}"), f32::from_le_bytes);
        assert_eq!(ids.len(), length);
        let h = hidden(model, &ids, 1);
        let error = distance(&flat(&model.logits(&h).unwrap()), &expected);
        assert!(error < 1e-4, "{name}, {length} tokens: off by {error}");

        let loss = format!("nll_{length}");
        if length > 1 && names.contains(&loss) {
            let expected = f64::from(stored(&file, &loss, f32::from_le_bytes)[0]);
            let got = model.nll(&h, &ids).unwrap().into_iter().map(f64::from).sum::<f64>();
            assert!((got / expected - 1.0).abs() < 1e-5, "{name}, {length} tokens: loss {got}, expected {expected}");
        }
        let prefix = format!("tap_{length}.");
        let modules: Vec<&str> = names.iter().filter_map(|name| name.strip_prefix(&prefix)).collect();
        if !modules.is_empty() {
            check_taps(name, model, &ids, modules.len(), |module| {
                stored(&file, &format!("{prefix}{module}"), f32::from_le_bytes)
            });
        }
    }
}

/// Each of the `count` linears that were watched is in a fan, and the fan's tap sees what the linear was given.
fn check_taps(name: &str, model: &dyn Decoder, ids: &[u32], count: usize, expected: impl Fn(&str) -> Vec<f32>) {
    let mut h = model.embed(ids, 1).unwrap();
    let mut compared = 0;
    for i in 0..model.blocks() {
        let mut taps = Keep::default();
        h = model.block(i).unwrap().forward(&h, &mut taps).unwrap();
        for info in model.linears(i) {
            let (fan, x) = &taps.0[info.fan];
            assert_eq!((*fan, x.dims()), (info.fan, &[1, ids.len(), info.cols][..]), "{name}: {}", info.name);
            let error = distance(&flat(x), &expected(&info.name));
            assert!(error < 1e-4, "{name}: the input of {} is off by {error}", info.name);
            compared += 1;
        }
    }
    assert_eq!(compared, count, "{name}");
}

#[test]
fn every_family_has_a_model_that_transformers_ran() {
    let folders = std::fs::read_dir(folder("")).unwrap().map(|entry| entry.unwrap().path());
    let architecture = |folder: std::path::PathBuf| -> String {
        let config = std::fs::read(folder.join("config.json")).unwrap();
        let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
        config["architectures"][0].as_str().unwrap().to_string()
    };
    let ran: Vec<String> =
        folders.filter(|folder| folder.join("expected.safetensors").is_file()).map(architecture).collect();
    for family in FAMILIES {
        let has_model = ran.iter().any(|name| family.architectures.contains(&name.as_str()));
        assert!(has_model, "{} has no folder in tests/golden/models: add one to scripts/fixtures/models", family.name);
        for name in family.architectures {
            let readers = FAMILIES.iter().filter(|other| other.architectures.contains(name)).count();
            assert_eq!(readers, 1, "{name}");
        }
    }
}

#[test]
fn linear_scaling() {
    check("rope_linear", &[1, 13, 40]);
}

#[test]
fn dynamic_scaling_within_and_beyond_the_original_length() {
    // Back to a short sequence at the end: nothing of the long one may be left.
    check("rope_dynamic", &[8, 16, 17, 40, 8]);
}

#[test]
fn llama3_scaling() {
    check("rope_llama3", &[5, 64]);
}

#[test]
fn biases_and_a_tied_head() {
    check("bias_tied", &[2, 30]);
}

#[test]
fn heads_wider_than_their_share_of_the_hidden_size() {
    check("wide_heads", &[7, 33]);
}

#[test]
fn mistral_with_and_without_a_window() {
    check("mistral_window", &[5, 6, 24]);
    check("mistral_full", &[6, 24]);
}

#[test]
fn qwen2_and_which_of_its_blocks_slide() {
    check("qwen2", &[6, 24]);
    check("qwen2_window", &[6, 7, 24]);
    check("qwen2_layers", &[6, 7, 24]);
}

#[test]
fn qwen3_norms_its_heads() {
    check("qwen3", &[6, 24]);
}

#[test]
fn opt_with_norms_before() {
    check("opt_plain", &[1, 9, 40]);
    // Half precision, a head of its own, and the longest sequence there is.
    check("opt_untied", &[9, 64]);
}

#[test]
fn opt_with_norms_after_and_a_narrow_embedding() {
    check("opt_350m", &[9, 40]);
}

#[test]
fn opt_without_biases_and_weights_of_norms() {
    check("opt_bare", &[9, 40]);
}

#[test]
fn opt_with_gelu() {
    check("opt_gelu", &[2, 9]);
}

#[test]
fn learned_positions_end() {
    let model = golden("opt_plain");
    model.embed(&[0; 128], 2).unwrap();
    assert!(matches!(model.embed(&[0; 65], 1), Err(Error::TooLong { tokens: 65, max: 64 })));
}

#[test]
fn too_long_and_out_of_range() {
    let model = golden("rope_linear");
    assert!(matches!(model.embed(&[0; 65], 1), Err(Error::TooLong { tokens: 65, max: 64 })));
    model.embed(&[0; 128], 2).unwrap();
    assert!(matches!(model.embed(&[0, 64], 1), Err(Error::TokenOutOfRange { token: 64, vocab: 64 })));
    assert!(matches!(model.embed(&[0, 1, 2], 2), Err(Error::UnevenRows { tokens: 3, rows: 2 })));
    assert!(matches!(model.embed(&[], 1), Err(Error::UnevenRows { .. })));
    assert!(matches!(model.embed(&[1], 0), Err(Error::UnevenRows { .. })));
    let h = model.embed(&[0; 4], 1).unwrap();
    assert!(matches!(model.nll(&h, &[0, 1, 2, 99]), Err(Error::TokenOutOfRange { token: 99, .. })));
    let long = candle_core::Tensor::zeros((1, 65, 32), candle_core::DType::F32, h.device()).unwrap();
    assert!(matches!(model.block(0).unwrap().forward(&long, &mut ()), Err(Error::TooLong { .. })));
}
