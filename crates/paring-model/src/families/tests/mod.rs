//! The golden models: logits and perplexity of transformers, and what taps and fans promise.

mod activations;
mod anatomy;
mod bad;
mod falcon;
mod fixtures;
mod mismatch;
mod opt;
mod oracle;
mod packed;
mod relatives;
mod sequences;
mod training;

use std::path::PathBuf;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use paring_format::Checkpoint;
use paring_format::writer::{self, write_file};
use paring_kernels::device::present;
use safetensors::SafeTensors;
use serde_json::Value;

use crate::{Arithmetic, Decoder, Precision, Result, Tap, open};

/// Those with the tokens and the perplexity of the published drivers.
const MODELS: [&str; 6] = ["llama", "opt", "opt_post_norm", "falcon_multi_query", "falcon_new_decoder", "falcon_alibi"];

/// The folder of a model under tests/golden/models.
pub fn folder(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/models")).join(name)
}

/// Opens a golden model.
pub fn golden(name: &str) -> Box<dyn Decoder> {
    open(Arc::new(Checkpoint::open(&folder(name)).unwrap()), Precision::F32).unwrap()
}

/// Opens a golden model on each device that is here.
pub fn golden_everywhere(name: &str) -> Vec<Box<dyn Decoder>> {
    let open_on = |device: &Device| {
        let arithmetic = Arithmetic::from(Precision::F32).on(device);
        open(Arc::new(Checkpoint::open(&folder(name)).unwrap()), arithmetic).unwrap()
    };
    present().iter().map(open_on).collect()
}

/// Opens a copy of the golden model `name` with another config and other tensors. Errors come without the folder's name.
pub fn changed(
    name: &str,
    change: impl FnOnce(&mut Value, &mut Vec<writer::NamedTensor>),
) -> std::result::Result<Box<dyn Decoder>, String> {
    let original = Checkpoint::open(&folder(name)).unwrap();
    let tensor = |name: &str| {
        let info = original.info(name).unwrap();
        let (dtype, shape) = (info.dtype, info.shape.clone());
        writer::NamedTensor { name: name.to_string(), dtype, shape, bytes: original.read(name).unwrap() }
    };
    let (mut config, mut tensors) = (original.config().clone(), original.names().map(tensor).collect());
    change(&mut config, &mut tensors);
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    write_file(&dir.path().join("model.safetensors"), tensors).unwrap();
    let checkpoint = Checkpoint::open(dir.path()).map_err(|error| error.to_string());
    let opened = checkpoint.and_then(|c| open(Arc::new(c), Precision::F32).map_err(|error| error.to_string()));
    opened.map_err(|text| {
        assert!(!text.contains('\n'), "{text}");
        text.replace(&format!("{}/", dir.path().display()), "")
    })
}

/// The little-endian elements of a tensor in a golden file.
pub fn stored<T, const N: usize>(file: &[u8], name: &str, decode: fn([u8; N]) -> T) -> Vec<T> {
    let tensors = SafeTensors::deserialize(file).unwrap();
    let view = tensors.tensor(name).unwrap();
    view.data().as_chunks::<N>().0.iter().map(|&bytes| decode(bytes)).collect()
}

/// Token ids in a golden file.
pub fn stored_ids(file: &[u8], name: &str) -> Vec<u32> {
    stored(file, name, i64::from_le_bytes).into_iter().map(|id| id as u32).collect()
}

/// The output of the last block.
pub fn hidden(model: &dyn Decoder, ids: &[u32], batch: usize) -> Tensor {
    (0..model.blocks())
        .fold(model.embed(ids, batch).unwrap(), |h, i| model.block(i).unwrap().forward(&h, &mut ()).unwrap())
}

/// All values, flat.
pub fn flat(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

/// The largest difference.
pub fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, |a, b| if b > a || b.is_nan() { b } else { a })
}

/// Keeps every input it sees, with the number of its fan.
#[derive(Default)]
pub struct Keep(pub Vec<(usize, Tensor)>);

impl Tap for Keep {
    fn see(&mut self, fan: usize, x: &Tensor) -> Result<()> {
        self.0.push((fan, x.clone()));
        Ok(())
    }
}

/// A file of a golden model.
fn file(model: &str, name: &str) -> Vec<u8> {
    std::fs::read(folder(model).join(name)).unwrap()
}

#[test]
fn logits_of_the_first_calibration_sequence() {
    for name in MODELS {
        let tokens = file(name, "tokens.safetensors");
        let expected = stored(&file(name, "dense.safetensors"), "logits_calibration_0", f32::from_le_bytes);
        let ids = &stored_ids(&tokens, "calibration")[..32];
        for model in golden_everywhere(name) {
            let name = format!("{name} on {:?}", model.device());
            let logits = model.logits(&hidden(&*model, ids, 1)).unwrap();
            assert_eq!(logits.dims(), [1, 32, 64]);
            assert!(distance(&flat(&logits), &expected) < 1e-4, "{name}");
            // Rows of a batch don't see each other.
            let all = &stored_ids(&tokens, "calibration")[..96];
            let batch = flat(&model.logits(&hidden(&*model, all, 3)).unwrap());
            assert!(distance(&batch[..32 * 64], &expected) < 1e-4, "{name}");
        }
    }
}

#[test]
fn perplexity_of_the_evaluation_tokens() {
    for name in MODELS {
        let runs: Value = serde_json::from_slice(&file(name, "runs.json")).unwrap();
        let expected = runs["dense_perplexity"].as_f64().unwrap();
        let ids = stored_ids(&file(name, "tokens.safetensors"), "evaluation");
        let windows = ids.len() / 32;
        let ids = &ids[..windows * 32];
        for model in golden_everywhere(name) {
            let nll = model.nll(&hidden(&*model, ids, windows), ids).unwrap();
            assert_eq!(nll.len(), windows * 31);
            let mean = nll.iter().map(|&v| f64::from(v)).sum::<f64>() / nll.len() as f64;
            assert!((mean.exp() / expected - 1.0).abs() < 1e-4, "{name} on {:?}: {}", model.device(), mean.exp());
        }
    }
}

#[test]
fn nll_is_the_log_softmax_of_the_logits() {
    let tokens = file("llama", "tokens.safetensors");
    let ids = &stored_ids(&tokens, "calibration")[..4 * 32];
    let model = golden("llama");
    // Larger activations make the likelihoods uneven.
    let h = (hidden(&*model, ids, 4) * 3.0).unwrap();
    let logits = flat(&model.logits(&h).unwrap());
    let mut expected = Vec::new();
    for (at, row) in logits.chunks_exact(64).enumerate().filter(|(at, _)| at % 32 != 31) {
        let sum = row.iter().map(|&v| f64::from(v).exp()).sum::<f64>();
        expected.push((sum.ln() - f64::from(row[ids[at + 1] as usize])) as f32);
    }
    assert!(distance(&model.nll(&h, ids).unwrap(), &expected) < 1e-5);
    assert!(model.nll(&h.narrow(1, 0, 1).unwrap(), &ids[..4]).unwrap().is_empty());
    assert!(model.nll(&h, &ids[..64]).is_err());
}

#[test]
fn fans_cover_each_linear_once_and_taps_see_their_inputs() {
    let tokens = file("llama", "tokens.safetensors");
    let ids = &stored_ids(&tokens, "calibration")[..64];
    let model = golden("llama");
    let h = model.embed(ids, 2).unwrap();
    let mut block = model.block(0).unwrap();
    let mut taps = Keep::default();
    let out = block.forward(&h, &mut taps).unwrap();
    assert_eq!(taps.0.iter().map(|(fan, _)| *fan).collect::<Vec<_>>(), [0, 1, 2, 3]);

    let infos = model.linears(0);
    let fans = block.fans();
    assert_eq!(fans.iter().map(|fan| fan.name).collect::<Vec<_>>(), ["qkv", "o", "gate_up", "down"]);
    let listed = fans
        .iter()
        .enumerate()
        .flat_map(|(i, fan)| fan.linears.iter().map(move |l| (l.name.clone(), l.rows, l.cols, i)));
    let expected = infos.iter().map(|info| (info.name.clone(), info.rows, info.cols, info.fan));
    assert_eq!(listed.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    assert_eq!(infos.len(), 7);

    // Recompute the block from what the taps saw: each product must be that of the seen input and the stored weight.
    let product = |fan: usize, linear: usize| {
        let linear = &fans[fan].linears[linear];
        let (weight, x) = (linear.weight.dense().unwrap(), &taps.0[fan].1);
        assert_eq!(weight.dims(), [linear.rows, linear.cols]);
        assert_eq!(x.dims(), [2, 32, linear.cols]);
        x.broadcast_matmul(&weight.t().unwrap()).unwrap()
    };
    let middle = (&h + product(1, 0)).unwrap();
    let silu = candle_nn::ops::silu(&product(2, 0)).unwrap();
    assert!(distance(&flat(&(silu * product(2, 1)).unwrap()), &flat(&taps.0[3].1)) < 1e-5);
    assert!(distance(&flat(&(middle + product(3, 0)).unwrap()), &flat(&out)) < 1e-5);
}

#[test]
fn tap_only_sees_what_forward_sees() {
    for name in MODELS {
        let model = golden(name);
        let ids: Vec<u32> = (0..40).map(|i| i * 7 % 64).collect();
        let h = model.embed(&ids, 2).unwrap();
        let block = model.block(1).unwrap();
        let mut full = Keep::default();
        block.forward(&h, &mut full).unwrap();
        let fans = full.0.len();
        assert!((3..=4).contains(&fans), "{name}");
        for upto in [None, Some(0), Some(1), Some(2), Some(3), Some(9)] {
            let mut taps = Keep::default();
            block.tap_only(&h, &mut taps, upto).unwrap();
            assert_eq!(taps.0.len(), upto.map_or(fans, |upto| fans.min(upto + 1)), "{name}");
            for ((fan, x), (expected_fan, expected)) in taps.0.iter().zip(&full.0) {
                assert_eq!((fan, flat(x)), (expected_fan, flat(expected)), "{name}");
            }
        }
    }
}

#[test]
fn a_swapped_weight_is_used() {
    let model = golden("llama");
    let h = model.embed(&[1, 2, 3], 1).unwrap();
    let mut block = model.block(0).unwrap();
    for fan in block.fans() {
        for linear in fan.linears.iter_mut().filter(|l| l.name.ends_with("o_proj") || l.name.ends_with("down_proj")) {
            let zeros = vec![0.0; linear.rows * linear.cols];
            linear.weight =
                Arc::new(crate::Dense::on(&Device::Cpu, linear.rows, linear.cols, zeros, Precision::F32).unwrap());
        }
    }
    assert_eq!(flat(&block.forward(&h, &mut ()).unwrap()), flat(&h));
}

#[test]
fn every_stored_tensor_has_one_owner() {
    let others = [
        "bias_tied",
        "wide_heads",
        "opt_plain",
        "opt_350m",
        "opt_bare",
        "opt_untied",
        "mistral_full",
        "qwen2",
        "qwen3",
        "falcon_7b",
        "falcon_11b",
        "falcon_40b",
        "falcon_heads",
        "falcon_old",
        "falcon_old_7b",
        "falcon_rw",
    ];
    for name in MODELS.into_iter().chain(others) {
        let checkpoint = Arc::new(Checkpoint::open(&folder(name)).unwrap());
        let model = open(Arc::clone(&checkpoint), Precision::F32).unwrap();
        let mut listed = model.outer_names();
        for i in 0..model.blocks() {
            listed.extend(model.rest_names(i));
            listed.extend(model.linears(i).into_iter().map(|info| format!("{}.weight", info.name)));
        }
        listed.sort();
        let mut stored: Vec<String> = checkpoint.names().map(String::from).collect();
        stored.sort();
        assert_eq!(listed, stored, "{name}");
    }
}

#[test]
fn dense_refuses_the_wrong_size() {
    let error = crate::Dense::on(&Device::Cpu, 2, 3, vec![0.0; 5], Precision::F32).err().unwrap();
    assert_eq!(error.to_string(), "a weight of 2 x 3 needs 6 values, got 5");
}
