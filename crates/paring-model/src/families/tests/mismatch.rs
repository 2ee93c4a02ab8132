//! Tensors that are missing, misshapen or too many: all of them in one error, and none for what means nothing.

use std::sync::Arc;

use paring_format::writer::NamedTensor;
use paring_format::{Checkpoint, Dtype};

use super::folder;
use crate::source::Source;
use crate::{Decoder, Error, Precision, Result};

fn zeros(name: &str, shape: &[usize], dtype: Dtype) -> NamedTensor {
    let bytes = vec![0; dtype.bytes_of(shape).unwrap()];
    NamedTensor { name: name.to_string(), dtype, shape: shape.to_vec(), bytes }
}

/// Opens a golden model whose tensors `change` changed.
fn changed(model: &str, change: impl FnOnce(&mut Vec<NamedTensor>)) -> std::result::Result<Box<dyn Decoder>, String> {
    super::changed(model, |_, tensors| change(tensors))
}

#[test]
fn everything_that_is_wrong_in_one_line() {
    let text = changed("llama", |tensors| {
        tensors.retain(|t| !(t.name.contains("layers.0") && t.name.contains("norm")));
        for t in tensors.iter_mut() {
            match t.name.as_str() {
                "model.norm.weight" => t.shape = vec![8, 4],
                "model.layers.1.self_attn.q_proj.weight" => t.dtype = Dtype::I32,
                _ => {}
            }
        }
        tensors.push(zeros("model.layers.0.self_attn.q_proj.bias", &[32], Dtype::F32));
    });
    let expected = "config.json: config and tensors do not match: 2 missing (model.layers.0.input_layernorm.weight; \
         model.layers.0.post_attention_layernorm.weight; check that all files are there and that num_hidden_layers is \
         right), 1 of another shape (model.norm.weight in model.safetensors is [8, 4], expected [32]; use \
         the config.json that belongs to these weights), 1 of a type that \
         cannot be used (model.layers.1.self_attn.q_proj.weight in model.safetensors is I32, expected F32, F16, \
         BF16 or F64), 1 that the model does not have (model.layers.0.self_attn.q_proj.bias in model.safetensors; they \
         would be lost: check the architecture and the sizes in the config)";
    assert_eq!(text.err().as_deref(), Some(expected));
}

#[test]
fn buffers_of_older_files_mean_nothing() {
    let opened = changed("llama", |tensors| {
        tensors.push(zeros("model.layers.0.self_attn.rotary_emb.inv_freq", &[4], Dtype::F32));
        tensors.push(zeros("model.layers.1.self_attn.masked_bias", &[], Dtype::F32));
        tensors.push(zeros("model.layers.1.attn.bias", &[1, 1, 8, 8], Dtype::Bool));
        tensors.push(zeros("model.embeddings.position_ids", &[1, 64], Dtype::I64));
    });
    let model = opened.unwrap_or_else(|text| panic!("{text}"));
    assert!(model.rest_names(0).iter().all(|name| !name.contains("inv_freq")));
    // A bias that is one is no buffer.
    let text = changed("llama", |tensors| tensors.push(zeros("model.layers.1.attn.bias", &[32], Dtype::F32)));
    assert!(text.err().unwrap().contains("1 that the model does not have (model.layers.1.attn.bias in"));
}

#[test]
fn a_tied_head_may_be_stored_too() {
    let twice = changed("bias_tied", |tensors| {
        let embedding = tensors.iter().find(|t| t.name == "model.embed_tokens.weight").unwrap();
        tensors.push(NamedTensor { name: "lm_head.weight".to_string(), ..embedding.clone() });
    });
    let (twice, once) = (twice.unwrap_or_else(|text| panic!("{text}")), super::golden("bias_tied"));
    let logits = |model: &dyn Decoder| super::flat(&model.logits(&super::hidden(model, &[3, 1, 4, 1, 5], 1)).unwrap());
    assert_eq!(logits(&*twice), logits(&*once));
    assert!(twice.outer_names().contains(&"lm_head.weight".to_string()));
    // Missing, it is named once, though it is wanted as embedding and as head.
    let text = changed("bias_tied", |tensors| tensors.retain(|t| t.name != "model.embed_tokens.weight"));
    let expected = "config.json: the checkpoint has no tensor model.embed_tokens.weight; check that all its files are \
                    there and that architectures is right";
    assert_eq!(text.err().as_deref(), Some(expected));
}

#[test]
fn nothing_is_read_before_all_of_it_is_checked() {
    let source = || {
        let checkpoint = Arc::new(Checkpoint::open(&folder("rope_linear")).unwrap());
        Source::new(checkpoint, "model.", Precision::F32.into())
    };
    let complete = |result: Result<()>| match result {
        Err(Error::Mismatch(mismatch)) => mismatch.to_string(),
        Err(error) => error.to_string(),
        Ok(()) => String::new(),
    };
    // A source that expected too little says so when it is read from.
    let little = source();
    little.require("model.norm.weight", &[32], "").unwrap();
    let text = complete(little.tensor("model.norm.weight", &[32]).map(drop));
    assert!(text.contains("that the model does not have (lm_head.weight in model.safetensors; "), "{text}");
    // What is asked for afterwards is answered at once.
    let all = source();
    let names: Vec<String> = all.parts_of("model").into_iter().chain(["lm_head.weight".to_string()]).collect();
    for name in &names {
        let shape = Checkpoint::open(&folder("rope_linear")).unwrap().info(name).unwrap().shape.clone();
        all.require(name, &shape, "").unwrap();
    }
    assert_eq!(complete(all.complete().map(drop)), "");
    assert!(complete(all.require("gone", &[1], "it is there")).contains("no tensor gone"));
    assert!(all.tensor("model.norm.weight", &[32]).is_ok());
}
