//! A second opinion: candle-transformers' Llama, which gives logits of the last position only.

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::llama::{Cache, Llama, LlamaConfig};

use super::{distance, flat, folder, golden, hidden};

#[test]
fn last_position_agrees_with_candle_transformers() {
    let config: LlamaConfig =
        serde_json::from_slice(&std::fs::read(folder("llama").join("config.json")).unwrap()).unwrap();
    let config = config.into_config(false);
    let weights = std::fs::read(folder("llama").join("model.safetensors")).unwrap();
    let vars = VarBuilder::from_buffered_safetensors(weights, DType::F32, &Device::Cpu).unwrap();
    let oracle = Llama::load(vars, &config).unwrap();
    let model = golden("llama");
    for length in [1, 2, 31, 64] {
        let ids: Vec<u32> = (0..length).map(|i| (i * 37 + 11) % 64).collect();
        let mut cache = Cache::new(false, DType::F32, &config, &Device::Cpu).unwrap();
        let x = Tensor::from_slice(&ids, (1, ids.len()), &Device::Cpu).unwrap();
        let expected = oracle.forward(&x, 0, &mut cache).unwrap();
        let logits = model.logits(&hidden(&*model, &ids, 1)).unwrap();
        let last = logits.narrow(1, ids.len() - 1, 1).unwrap();
        assert!(distance(&flat(&last), &flat(&expected)) < 1e-4, "{length} tokens");
    }
}
