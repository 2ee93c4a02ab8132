//! Tiny random models against the logits that transformers computed (scripts/make-model-fixtures.py).

use super::tests::{distance, flat, folder, golden, hidden, stored, stored_ids};
use crate::Error;

fn check(name: &str, lengths: &[usize]) {
    let file = std::fs::read(folder(name).join("expected.safetensors")).unwrap();
    let model = golden(name);
    for &length in lengths {
        let ids = stored_ids(&file, &format!("ids_{length}"));
        let expected = stored(&file, &format!("logits_{length}"), f32::from_le_bytes);
        assert_eq!(ids.len(), length);
        let logits = flat(&model.logits(&hidden(&*model, &ids, 1)).unwrap());
        let error = distance(&logits, &expected);
        assert!(error < 1e-4, "{name}, {length} tokens: off by {error}");
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
