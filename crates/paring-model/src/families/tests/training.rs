//! Backward passes of blocks against torch's autograd in float64 (tests/golden/training).

use std::path::PathBuf;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use paring_format::Checkpoint;
use safetensors::SafeTensors;
use serde_json::Value;

use super::{changed, distance, flat, folder, golden, stored};
use crate::{Block, Decoder, Error, Flow, Gradients, Pass, Precision};

fn read(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/training/blocks"));
    std::fs::read(folder.join(name)).unwrap()
}

fn index() -> Vec<Value> {
    serde_json::from_slice(&read("index.json")).unwrap()
}

fn tensor(file: &[u8], name: &str) -> Tensor {
    let tensors = SafeTensors::deserialize(file).unwrap();
    let shape = tensors.tensor(name).unwrap().shape().to_vec();
    Tensor::from_vec(stored(file, name, f32::from_le_bytes), shape, &Device::Cpu).unwrap()
}

/// The gradients of a block's parameters by their full names.
fn by_name(model: &dyn Decoder, i: usize, block: &mut dyn Block, gradients: &Gradients) -> Vec<(String, Vec<f32>)> {
    let mut found = Vec::new();
    for (fan, gradients) in block.fans().iter().zip(&gradients.fans) {
        assert_eq!(fan.linears.len(), gradients.len());
        for (linear, gradient) in fan.linears.iter().zip(gradients) {
            found.push((format!("{}.weight", linear.name), gradient.weight.values().to_vec()));
            found.extend(gradient.bias.clone().map(|bias| (format!("{}.bias", linear.name), bias)));
        }
    }
    for (norm, gradients) in model.block_info(i).norms.iter().zip(&gradients.norms) {
        assert_eq!(norm.tensors.len(), gradients.len());
        found.extend(norm.tensors.iter().cloned().zip(gradients.iter().cloned()));
    }
    found
}

/// A golden model as the data have it: alibi is added once, which configs of later transformers have to ask for.
fn once(name: &str) -> Box<dyn Decoder> {
    match name {
        "falcon_alibi" | "falcon_rw" => {
            changed(name, |config, _| config["attn_implementation"] = "sdpa".into()).unwrap()
        }
        _ => golden(name),
    }
}

/// Asserts that `got` is within 2e-5 of the largest entry wanted.
fn same(what: &str, got: &[f32], want: &[f32]) {
    let largest = want.iter().fold(0f32, |a, v| a.max(v.abs()));
    let off = distance(got, want);
    assert!(off <= 2e-5 * largest, "{what}: off by {off:e} of {largest}");
}

#[test]
fn gradients_of_blocks_of_every_family() {
    let cases = index();
    assert_eq!(cases.len(), 16);
    for case in &cases {
        let name = case["model"].as_str().unwrap();
        let i = case["layer"].as_u64().unwrap() as usize;
        let file = read(&format!("{name}.safetensors"));
        let model = once(name);
        let mut block = model.block(i).unwrap();
        let (h, dy) = (tensor(&file, "h"), tensor(&file, "dy"));
        let (y, tape) = block.record(&h).unwrap();
        assert!(distance(&flat(&y), &flat(&block.forward(&h, &mut ()).unwrap())) == 0.0, "{name}");
        let mut gradients = block.gradients();
        let dh = block.backward(tape, &dy, &mut gradients).unwrap();
        same(&format!("{name} y"), &flat(&y), &flat(&tensor(&file, "y")));
        same(&format!("{name} dh"), &flat(&dh), &flat(&tensor(&file, "d_h")));
        let found = by_name(&*model, i, &mut *block, &gradients);
        let wanted = case["parameters"].as_object().unwrap();
        assert_eq!(found.len(), wanted.len(), "{name}");
        let prefix = case["prefix"].as_str().unwrap();
        for (parameter, got) in &found {
            let local = parameter.strip_prefix(prefix).unwrap();
            let want = flat(&tensor(&file, &format!("grad.{local}")));
            if name.starts_with("opt") && local == "self_attn.k_proj.bias" {
                // It moves all scores of a query alike: what is stored is rounding.
                assert!(got.iter().all(|&v| v == 0.0), "{name}");
                assert!(want.iter().all(|v| v.abs() < 1e-6), "{name}");
                continue;
            }
            assert!(got.iter().any(|&v| v != 0.0), "{name} {local} has no gradient");
            same(&format!("{name} {local}"), got, &want);
        }
    }
}

/// Keys of a fused matrix without rotation: their part of the bias has no gradient, that of queries and values has.
#[test]
fn a_bias_of_keys_without_rotation_has_no_gradient() {
    let model = golden("falcon_alibi");
    let mut block = model.block(0).unwrap();
    let info = model.block_info(0).attention;
    let file = read("falcon_alibi.safetensors");
    let (_, tape) = block.record(&tensor(&file, "h")).unwrap();
    let mut gradients = block.gradients();
    block.backward(tape, &tensor(&file, "dy"), &mut gradients).unwrap();
    let found = by_name(&*model, 0, &mut *block, &gradients);
    if let Some((_, bias)) = found.iter().find(|(name, _)| name.ends_with("query_key_value.bias")) {
        let each = info.heads / info.kv_heads + 2;
        for (i, v) in bias.iter().enumerate() {
            assert_eq!(*v == 0.0, i / info.head_dim % each == each - 2, "{i}");
        }
    }
}

#[test]
fn gradients_add_up_and_do_not_depend_on_threads() {
    let model = golden("qwen3");
    let block = model.block(0).unwrap();
    let file = read("qwen3.safetensors");
    let (h, dy) = (tensor(&file, "h"), tensor(&file, "dy"));
    let run = |threads: usize| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
            let mut gradients = block.gradients();
            let mut parts = Vec::new();
            for row in 0..2 {
                let (_, tape) = block.record(&h.narrow(0, row, 1).unwrap()).unwrap();
                let dh = block.backward(tape, &dy.narrow(0, row, 1).unwrap(), &mut gradients).unwrap();
                parts.extend(flat(&dh));
            }
            parts.extend(gradients.fans.iter().flatten().flat_map(|linear| linear.weight.values().to_vec()));
            parts.extend(gradients.norms.iter().flatten().flatten());
            parts
        })
    };
    let one = run(1);
    assert!([2, 3, 7].into_iter().all(|threads| run(threads) == one));
    // Two micro batches give what one batch gives.
    let (_, tape) = block.record(&h).unwrap();
    let mut gradients = block.gradients();
    block.backward(tape, &dy, &mut gradients).unwrap();
    let whole: Vec<f32> = gradients.fans.iter().flatten().flat_map(|linear| linear.weight.values().to_vec()).collect();
    assert!(distance(&one[h.elem_count()..][..whole.len()], &whole) < 1e-5);
}

/// Gradients are those of the model in f32, but for what rounding changes in its products.
#[test]
fn gradients_of_a_model_in_bfloat16() {
    for name in ["llama", "opt"] {
        let file = read(&format!("{name}.safetensors"));
        let (h, dy) = (tensor(&file, "h"), tensor(&file, "dy"));
        let run = |precision: Precision| {
            let checkpoint = Arc::new(Checkpoint::open(&folder(name)).unwrap());
            let model = crate::open(checkpoint, precision).unwrap();
            let block = model.block(0).unwrap();
            let (y, tape) = block.record(&h).unwrap();
            let mut gradients = block.gradients();
            let dh = block.backward(tape, &dy, &mut gradients).unwrap();
            let linears = gradients.fans.into_iter().flatten().map(|linear| linear.weight.finish(1.0));
            [vec![flat(&y), flat(&dh)], linears.collect()].concat()
        };
        for (i, (rounded, exact)) in run(Precision::Bf16).iter().zip(run(Precision::F32)).enumerate() {
            let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
            let cosine = product(rounded, &exact) / (product(rounded, rounded) * product(&exact, &exact)).sqrt();
            // Of few tokens: one that rounding puts on the other side of a ReLU is a part of fc1's gradient.
            let least = if name == "opt" { 0.995 } else { 0.999 };
            assert!(cosine > least, "{name} {i}: {cosine}");
        }
    }
}

#[test]
fn a_gradient_that_nobody_needs_is_left_out() {
    let model = golden("llama");
    let block = model.block(0).unwrap();
    let file = read("llama.safetensors");
    let run = |without: bool| {
        let (_, tape) = block.record(&tensor(&file, "h")).unwrap();
        let mut gradients = block.gradients();
        if without {
            gradients.fans[0][1].without_weight();
        }
        let dh = block.backward(tape, &tensor(&file, "dy"), &mut gradients).unwrap();
        let of = |linear: &crate::LinearGradient| linear.weight.values().to_vec();
        (flat(&dh), gradients.fans.iter().flatten().map(of).collect::<Vec<_>>())
    };
    let ((dh, mut all), (dh_without, some)) = (run(false), run(true));
    assert!(!all[1].is_empty());
    all[1].clear();
    assert!(dh == dh_without && all == some);
}

#[test]
fn what_has_no_backward_pass_is_an_error() {
    let model = golden("llama");
    let block = model.block(0).unwrap();
    let h = model.embed(&[1, 2, 3], 1).unwrap();
    // A tape of another input: the first step reads what it does not know.
    let (_, mut tape) = block.record(&h).unwrap();
    let other = h.affine(2.0, 0.0).unwrap();
    let run = block.run(&other, &mut Pass { tape: Some(&mut tape), ..Pass::whole(&mut ()) });
    assert!(matches!(run, Err(Error::OffTape)));
    // Without a tape nothing is kept, and a pass that stops has no output to go back from.
    let mut ignored = ();
    let mut pass = Pass::whole(&mut ignored);
    assert!(pass.tape.is_none());
    assert!(matches!(block.run(&h, &mut pass), Ok(Flow::Out(_))));
}
