//! Models whose linears are stored as packed codes.

use std::any::Any;
use std::path::Path;
use std::sync::Arc;

use paring_format::writer::Destination;
use paring_format::{Checkpoint, Compressed, Dtype, Grid, NamedTensor, QuantConfig, Scheme, Values, Writer, layouts};
use paring_kernels::device::present;
use serde_json::Value;

use super::{distance, flat, folder, golden, hidden};
use crate::{Arithmetic, Decoder, Packed, Precision, open};

/// Codes of 4 bits that have nothing to do with the model.
fn codes(rows: usize, cols: usize) -> Compressed {
    let codes = (0..rows * cols).map(|i| (i * 7 % 16) as i8 - 8).collect();
    let groups = cols / 16;
    let scales = (0..rows * groups).map(|i| 0.01 + 0.001 * (i % 8) as f32).collect();
    let zeros = Some((0..rows * groups).map(|i| (i % 5) as i8 - 2).collect());
    let grid = Grid::int(4, 16, scales, zeros);
    Compressed { rows, cols, dtype: Dtype::F32, values: Values::Codes { codes, grid } }
}

/// The golden Llama with [`codes`] for all its linears, the head among them, written to `dir`.
fn write(dir: &Path) {
    let original = Checkpoint::open(&folder("llama")).unwrap();
    let mut tensors = Vec::new();
    let mut scheme = None;
    for name in original.names() {
        let info = original.info(name).unwrap();
        let module = name.trim_end_matches(".weight");
        if !(module.ends_with("_proj") || module == "lm_head") {
            let (dtype, shape, bytes) = (info.dtype, info.shape.clone(), original.read(name).unwrap());
            tensors.push(NamedTensor { name: name.to_string(), dtype, shape, bytes });
            continue;
        }
        let packed = codes(info.shape[0], info.shape[1]);
        let like = Scheme::of(&packed, "pack-quantized", vec!["Linear".to_string()]);
        let parts = layouts::layout("pack-quantized").unwrap().encode(&like, &packed).unwrap();
        tensors.extend(NamedTensor::of_module(module, parts));
        scheme = Some(like);
    }
    let mut config: Value = original.config().clone();
    config["quantization_config"] =
        QuantConfig::new(vec![("group_0".to_string(), scheme.unwrap())], Vec::new()).to_json();
    let mut writer = Writer::create(&Destination::new(dir, 1)).unwrap();
    writer.shard(0, tensors).unwrap();
    writer.finish(&config, &[]).unwrap();
}

#[test]
fn packed_linears_are_what_to_dense_says() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    let packed = open(Arc::new(Checkpoint::open(dir.path()).unwrap()), Precision::F32).unwrap();
    for i in 0..packed.blocks() {
        let mut block = packed.block(i).unwrap();
        for linear in block.fans().into_iter().flat_map(|fan| &fan.linears) {
            assert_eq!(flat(&linear.weight.dense().unwrap()), codes(linear.rows, linear.cols).to_dense());
        }
    }
    assert!(packed.outer_names().contains(&"lm_head.weight_packed".to_string()));

    // The compressed head gives the product with its dense weight, in logits and in likelihoods.
    let ids: Vec<u32> = (0..20).map(|i| i * 11 % 64).collect();
    let h = hidden(&*packed, &ids, 1);
    let logits = flat(&packed.logits(&h).unwrap());
    let nll = packed.nll(&h, &ids).unwrap();
    for (at, row) in logits.chunks_exact(64).enumerate().take(19) {
        let sum = row.iter().map(|&v| f64::from(v).exp()).sum::<f64>();
        let expected = sum.ln() - f64::from(row[ids[at + 1] as usize]);
        assert!((f64::from(nll[at]) - expected).abs() < 1e-5);
    }
    assert_ne!(logits, flat(&golden("llama").logits(&h).unwrap()));
}

#[test]
fn weights_that_stay_packed_give_the_same_logits() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    let names = ["llama", "opt_350m", "falcon_7b", "qwen2"].map(folder);
    let ids: Vec<u32> = (0..20).map(|i| i * 11 % 61).collect();
    let folders = names.iter().map(|folder| &**folder).chain([dir.path()]);
    for (folder, device) in folders.flat_map(|folder| present().into_iter().map(move |device| (folder, device))) {
        for precision in [Precision::F32, Precision::Bf16] {
            let open_as = |arithmetic| open(Arc::new(Checkpoint::open(folder).unwrap()), arithmetic).unwrap();
            let decoded = open_as(Arithmetic::from(precision).on(&device));
            let packed = open_as(Arithmetic::from(precision).on(&device).packed());
            for i in 0..packed.blocks() {
                let (mut block, mut other) = (packed.block(i).unwrap(), decoded.block(i).unwrap());
                let fans = block.fans().into_iter().zip(other.fans());
                for (linear, other) in fans.flat_map(|(fan, other)| fan.linears.iter().zip(&other.linears)) {
                    assert!((&*linear.weight as &dyn Any).is::<Packed>());
                    assert_eq!(flat(&linear.weight.dense().unwrap()), flat(&other.weight.dense().unwrap()));
                }
            }
            let logits = |model: &dyn Decoder| flat(&model.logits(&hidden(model, &ids, 1)).unwrap());
            let (got, want) = (logits(&*packed), logits(&*decoded));
            // Sums in another order; with bfloat16 that rounds inputs of later products the other way now and then.
            let allowed = if precision == Precision::F32 { 1e-5 } else { 1e-2 };
            let size = want.iter().fold(1f32, |a, b| a.max(b.abs()));
            let error = distance(&got, &want);
            assert!(error < allowed * size, "{} with {precision:?} on {device:?}: {error} of {size}", folder.display());
        }
    }
}

#[test]
fn a_packed_linear_of_another_shape_is_found_at_once() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    let path = dir.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config["intermediate_size"] = 40.into();
    std::fs::write(&path, config.to_string()).unwrap();
    let error = open(Arc::new(Checkpoint::open(dir.path()).unwrap()), Precision::F32).err().unwrap();
    assert_eq!(
        error.to_string().replace(&format!("{}/", dir.path().display()), ""),
        "config.json: config and tensors do not match: 6 of another shape (model.layers.0.mlp.gate_proj in \
         model.safetensors is [48, 32], expected [40, 32]; model.layers.0.mlp.up_proj in model.safetensors is \
         [48, 32], expected [40, 32]; model.layers.0.mlp.down_proj in model.safetensors is [32, 48], expected [32, 40]; \
         model.layers.1.mlp.gate_proj in model.safetensors is [48, 32], expected [40, 32]; 2 more; use the config.json \
         that belongs to these weights)"
    );
}
