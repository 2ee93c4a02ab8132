//! Official models whose activations or caches are quantized, against what transformers computes with compressed-tensors
//! (scripts/fixtures/activations).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use paring_format::writer::NamedTensor;
use paring_format::{Checkpoint, Dtype};
use paring_kernels::device::present;
use safetensors::SafeTensors;
use serde_json::{Value, json};

use super::{changed, distance, flat, golden, hidden, stored, stored_ids};
use crate::activations::Arithmetic;
use crate::{Decoder, Precision, Result, Tap, open};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/ct_models")
}

/// A model's `expected.json` and `expected.safetensors`.
fn expected(name: &str) -> (Value, Vec<u8>) {
    let read = |file: &str| std::fs::read(root().join(name).join(file)).unwrap();
    (serde_json::from_slice(&read("expected.json")).unwrap(), read("expected.safetensors"))
}

fn floats(file: &[u8], name: &str) -> Vec<f32> {
    stored(file, name, f32::from_le_bytes)
}

/// Logits of every position of the model's `input_ids`, and their perplexity.
fn run(name: &str, arithmetic: impl Into<Arithmetic>) -> (Vec<f32>, f64) {
    let ids = stored_ids(&expected(name).1, "input_ids");
    let model = open(Arc::new(Checkpoint::open(&root().join(name)).unwrap()), arithmetic).unwrap();
    let h = hidden(&*model, &ids, 1);
    let losses = model.nll(&h, &ids).unwrap();
    let mean = losses.iter().map(|&loss| f64::from(loss)).sum::<f64>() / losses.len() as f64;
    (flat(&model.logits(&h).unwrap()), mean.exp())
}

/// Root of the mean square of the difference.
fn rms(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let sum: f64 = a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
    (sum / a.len() as f64).sqrt()
}

#[test]
fn weights_alone_give_the_logits_of_transformers() {
    let mut folders: Vec<String> =
        std::fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    folders.retain(|name| root().join(name).is_dir());
    assert_eq!(folders.len(), 22);
    for name in &folders {
        let (json, file) = expected(name);
        let (got, perplexity) = run(name, Arithmetic::weights_only(Precision::F32));
        if name == "dense_frozen_w8a16_f32" {
            // `logits_f32` is of the dense weights that are stored; transformers rounds them as it runs.
            assert!(distance(&got, &floats(&file, "logits")) < 2e-5, "{name}");
            continue;
        }
        let error = distance(&got, &floats(&file, "logits_f32"));
        assert!(error < 2e-5, "{name}: off by {error}");
        let want = json["perplexity_f32"].as_f64().unwrap();
        assert!((perplexity / want - 1.0).abs() < 1e-6, "{name}: perplexity {perplexity}, expected {want}");
    }
}

#[test]
fn quantized_activations_give_the_logits_of_transformers() {
    let fixtures = std::fs::read(root().join("activations.safetensors")).unwrap();
    let names: Vec<String> =
        SafeTensors::deserialize(&fixtures).unwrap().names().into_iter().map(String::from).collect();
    assert_eq!(names.len(), 10);
    for name in &names {
        let (json, file) = expected(name);
        let want = floats(&fixtures, name);
        let (got, perplexity) = run(name, Precision::F32);
        let effect = rms(&want, &floats(&file, "logits_f32"));
        assert!(effect > 0.03, "{name}: {effect} is no effect");
        // A device that adds in another order gives a few activations the code beside: less than all of them do.
        for device in present().iter().filter(|device| !device.is_cpu()) {
            let error = rms(&run(name, Arithmetic::from(Precision::F32).on(device)).0, &got);
            assert!(error < 0.4 * effect, "{name} on {device:?}: off by {error}");
        }
        let error = rms(&got, &want);
        if name == "int_w8a8_dynamic_bf16" {
            // The most negative number of a token, if no other is larger, is 127.5 scales: halfway between two codes.
            // The last bit of an activation decides which one it gets.
            assert!(error < 0.4 * effect, "{name}: off by {error}");
            continue;
        }
        assert!(error < 1e-5, "{name}: off by {error}");
        // Near what transformers computes in the model's own type as it comes itself when it computes in f32: rounding
        // every step to 8 or 11 bits moves activations to other codes.
        let own = floats(&file, "logits");
        assert!((rms(&got, &own) - rms(&want, &own)).abs() < 1e-5, "{name}");
        if name == "int_w8a8_static_asym_f32" {
            let want = json["perplexity"].as_f64().unwrap();
            assert!((perplexity / want - 1.0).abs() < 1e-6, "{name}: perplexity {perplexity}, expected {want}");
        }
        // Products that round their inputs to bfloat16 take codes as they are; what differs is the rest of the model.
        let (rounded, _) = run(name, Precision::Bf16);
        assert!(rms(&rounded, &want) < 0.85 * effect, "{name}: {} in bfloat16", rms(&rounded, &want));
    }
}

const STATIC: &str = "../ct_models/int_w8a8_static_asym_f32";
const NVFP4: &str = "../ct_models/nvfp4_w4a4_bf16";
const CACHED: &str = "../ct_models/fp8_kvcache_bf16";

/// The message about a model that was changed; empty when it opens and runs.
fn message(name: &str, change: impl FnOnce(&mut Value, &mut Vec<NamedTensor>)) -> String {
    match changed(name, change) {
        Err(text) => text,
        Ok(model) => model.block(0).err().map(|error| error.to_string()).unwrap_or_default(),
    }
}

fn tensor<'a>(tensors: &'a mut [NamedTensor], name: &str) -> &'a mut NamedTensor {
    tensors.iter_mut().find(|tensor| tensor.name == name).unwrap()
}

#[test]
fn scales_that_are_not_there_or_are_none() {
    let q = "model.layers.0.self_attn.q_proj";
    let set = |name: &str, local: &str, dtype: Dtype, shape: Vec<usize>, bytes: Vec<u8>| {
        let full = format!("{q}.{local}");
        message(name, |_, tensors| {
            let tensor = tensor(tensors, &full);
            (tensor.dtype, tensor.shape, tensor.bytes) = (dtype, shape, bytes);
        })
    };
    let f32s = |values: &[f32]| Dtype::F32.encode(values);
    let cases = [
        (
            set(STATIC, "input_scale", Dtype::F32, vec![2], f32s(&[1.0, 1.0])),
            "q_proj.input_scale has shape [2] but the config implies [1]",
        ),
        (
            set(STATIC, "input_scale", Dtype::F32, vec![1], f32s(&[0.0])),
            "q_proj.input_scale holds 0, expected numbers above 0",
        ),
        (
            set(STATIC, "input_scale", Dtype::F32, vec![1], f32s(&[-1.0])),
            "q_proj.input_scale holds -1, expected numbers above 0",
        ),
        (set(STATIC, "input_scale", Dtype::F32, vec![1], f32s(&[f32::NAN])), "q_proj.input_scale"),
        (set(STATIC, "input_zero_point", Dtype::F32, vec![1], f32s(&[1.0])), "has type F32, expected I8"),
        (
            set(NVFP4, "input_global_scale", Dtype::Bf16, vec![1], Dtype::Bf16.encode(&[1.0])),
            "q_proj.input_global_scale has type BF16, expected F32",
        ),
        (
            message(STATIC, |_, tensors| tensors.retain(|tensor| !tensor.name.contains("_proj.input_"))),
            "28 missing (model.layers.0.self_attn.q_proj.input_scale; \
             model.layers.0.self_attn.q_proj.input_zero_point; ",
        ),
        (
            message(CACHED, |_, tensors| tensors.retain(|tensor| !tensor.name.ends_with("1.self_attn.v_scale"))),
            "no tensor model.layers.1.self_attn.v_scale; check that all its files are there and that kv_cache_scheme of \
             the quantization_config is right",
        ),
        (
            message(CACHED, |config, _| config["quantization_config"]["kv_cache_scheme"] = Value::Null),
            "4 that the model does not have (model.layers.0.self_attn.k_scale in ",
        ),
        (
            message(CACHED, |config, _| config["quantization_config"]["kv_cache_scheme"]["dynamic"] = json!(true)),
            "kv_cache_scheme: fp8 e4m3, one scale, dynamic (expected symmetric codes",
        ),
    ];
    for (text, part) in &cases {
        assert!(text.contains(part), "{text:?} lacks {part:?}");
    }
}

#[test]
fn ways_of_quantizing_that_cannot_be_run() {
    let with = |key: &'static str, args: Value| {
        message(STATIC, move |config, _| config["quantization_config"]["config_groups"]["group_0"][key] = args)
    };
    let args = |strategy: &str, dynamic: bool, size: Option<usize>| {
        json!({"num_bits": 8, "type": "int", "symmetric": true, "strategy": strategy, "dynamic": dynamic,
               "group_size": size})
    };
    let cases = [
        (with("output_activations", args("tensor", false, None)), "output_activations"),
        (
            with("input_activations", args("channel", false, None)),
            "the quantization of its inputs (8-bit, per row, symmetric) is not supported",
        ),
        (
            with("input_activations", args("token", false, None)),
            "the quantization of its inputs (8-bit, per token, symmetric) is not supported",
        ),
        (with("input_activations", args("group", true, Some(48))), "groups of 48, which do not divide 64 features"),
    ];
    for (text, part) in &cases {
        assert!(text.contains(part), "{text:?} lacks {part:?}");
    }
}

/// Keeps the largest key and value of each block.
#[derive(Default)]
struct Largest(Vec<([usize; 4], f32, f32)>);

impl Tap for Largest {
    fn see(&mut self, _: usize, _: &candle_core::Tensor) -> Result<()> {
        Ok(())
    }

    fn cache(&mut self, keys: &candle_core::Tensor, values: &candle_core::Tensor) -> Result<()> {
        let largest = |x: &candle_core::Tensor| flat(x).iter().fold(0f32, |a, b| a.max(b.abs()));
        assert_eq!(keys.dims(), values.dims());
        let (b, t, groups, dim) = keys.dims4()?;
        self.0.push(([b, t, groups, dim], largest(keys), largest(values)));
        Ok(())
    }
}

/// The model with caches of 8-bit floats, with a scale for each layer or one for each head.
fn cached(name: &str, scales: &[(String, f32, f32)], heads: Option<usize>) -> Box<dyn Decoder> {
    let model = changed(name, |config, tensors| {
        let strategy = if heads.is_some() { "attn_head" } else { "tensor" };
        config["quantization_config"] = json!({
            "quant_method": "compressed-tensors", "quantization_status": "compressed", "format": "dense",
            "config_groups": {}, "ignore": [],
            "kv_cache_scheme": {"num_bits": 8, "type": "float", "symmetric": true, "strategy": strategy},
        });
        for (attention, keys, values) in scales {
            for (local, scale) in [("k_scale", *keys), ("v_scale", *values)] {
                let shape = heads.map_or(vec![1], |heads| vec![heads, 1, 1]);
                let bytes = Dtype::F32.encode(&vec![scale; heads.unwrap_or(1)]);
                tensors.push(NamedTensor { name: format!("{attention}.{local}"), dtype: Dtype::F32, shape, bytes });
            }
        }
    });
    model.unwrap()
}

#[test]
fn every_family_has_a_cache() {
    let names = ["qwen3", "mistral_window", "opt_plain", "opt_350m", "falcon_7b", "falcon_40b", "falcon_alibi"];
    for name in names {
        let plain = golden(name);
        let ids: Vec<u32> = (0..14).map(|i| i * 3 % 60).collect();
        let mut seen = Largest::default();
        let mut h = plain.embed(&ids, 2).unwrap();
        for i in 0..plain.blocks() {
            h = plain.block(i).unwrap().forward(&h, &mut seen).unwrap();
        }
        assert_eq!(seen.0.len(), plain.blocks(), "{name}");
        let groups = seen.0[0].0[2];
        assert_eq!(seen.0[0].0[..2], [2, 7], "{name}");
        let before = flat(&plain.logits(&h).unwrap());
        let size = rms(&before, &vec![0.0; before.len()]);
        let logits = |model: &dyn Decoder| flat(&model.logits(&hidden(model, &ids, 2)).unwrap());
        let scale = |i: usize, (_, k, v): &([usize; 4], f32, f32)| {
            (plain.block_info(i).attention.module, k.max(0.01) / 448.0, v.max(0.01) / 448.0)
        };
        let scales: Vec<(String, f32, f32)> = seen.0.iter().enumerate().map(|(i, seen)| scale(i, seen)).collect();
        let by_layer = logits(&*cached(name, &scales, None));
        // Three bits after the leading one: an error of some percent at most, but one that shows.
        let error = rms(&by_layer, &before) / size;
        assert!(error > 1e-4 && error < 0.2, "{name}: {error}");
        assert_eq!(by_layer, logits(&*cached(name, &scales, Some(groups))), "{name}");
        // Scales that are far too small cut keys and values off.
        let small: Vec<_> = scales.iter().map(|(name, k, v)| (name.clone(), k / 100.0, v / 100.0)).collect();
        let cut = rms(&logits(&*cached(name, &small, None)), &before) / size;
        assert!(cut > 2.0 * error, "{name}: {cut}");
    }
}
