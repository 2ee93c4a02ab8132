//! Quantized activations and caches through the binary: scales from calibration data, and how a model with them runs.

mod support;

use std::sync::Arc;

use candle_core::Tensor;
use paring::Precision;
use paring_format::{Checkpoint, Dtype};
use paring_model::{Arithmetic, Tap, open};
use serde_json::json;

use support::*;

const CALIBRATION: &str = "calib.safetensors --nsamples 4 --seqlen 32 --dtype f32 --quiet";
const ATTENTION: &str = "model.layers.0.self_attn";

/// Largest magnitudes in the first block: of its first input, of keys and of values.
#[derive(Default)]
struct Largest {
    input: f32,
    keys: f32,
    values: f32,
}

fn largest(x: &Tensor) -> f32 {
    x.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().fold(0f32, |a, b| a.max(b.abs()))
}

impl Tap for Largest {
    fn see(&mut self, fan: usize, x: &Tensor) -> paring_model::Result<()> {
        if fan == 0 {
            self.input = largest(x);
        }
        Ok(())
    }

    fn cache(&mut self, keys: &Tensor, values: &Tensor) -> paring_model::Result<()> {
        (self.keys, self.values) = (largest(keys), largest(values));
        Ok(())
    }
}

/// Returns the largest magnitudes of the calibration windows in the first block of the folder `model`.
fn first_block(sandbox: &Sandbox) -> Largest {
    let tokens = Checkpoint::open_file(&sandbox.path("calib.safetensors")).unwrap();
    let ids = tensor(&tokens, "input_ids");
    let ids: Vec<u32> = match ids.dtype {
        Dtype::I32 => ids.bytes.as_chunks::<4>().0.iter().map(|&b| i32::from_le_bytes(b) as u32).collect(),
        _ => ids.bytes.as_chunks::<8>().0.iter().map(|&b| i64::from_le_bytes(b) as u32).collect(),
    };
    let model = open(Arc::new(sandbox.open("model")), Arithmetic::weights_only(Precision::F32)).unwrap();
    let mut seen = Largest::default();
    let h = model.embed(&ids[..4 * 32], 4).unwrap();
    model.block(0).unwrap().forward(&h, &mut seen).unwrap();
    seen
}

fn near(got: f32, want: f32) {
    assert!((got / want - 1.0).abs() < 1e-5, "{got} instead of {want}");
}

fn perplexity(sandbox: &Sandbox, model: &str, options: &str) -> f64 {
    let result = sandbox.json(&format!("eval {model} eval.safetensors --seqlen 32 --dtype f32 {options}"));
    result["perplexity"].as_f64().unwrap()
}

#[test]
fn static_scales_come_from_the_calibration_data() {
    let sandbox = Sandbox::new();
    // Rounding alone needs no data, the scales of inputs do.
    sandbox.refused("quantize model --scheme FP8 --out out", 2, &["DATASET is missing"]).unwrap();
    sandbox.ok(&format!("quantize model {CALIBRATION} --scheme FP8 --kv-cache fp8 --true-sequential=false --out made"));
    let made = sandbox.open("made");
    let seen = first_block(&sandbox);
    for name in linears(&made) {
        assert_eq!(made.info(&format!("{name}.input_scale")).unwrap().shape, [1]);
    }
    for linear in ["q_proj", "k_proj", "v_proj"] {
        near(floats(&made, &format!("{ATTENTION}.{linear}.input_scale"))[0], seen.input / 448.0);
    }
    near(floats(&made, &format!("{ATTENTION}.k_scale"))[0], seen.keys / 448.0);
    near(floats(&made, &format!("{ATTENTION}.v_scale"))[0], seen.values / 448.0);
    let quant = &made.config()["quantization_config"];
    let input = &quant["config_groups"]["group_0"]["input_activations"];
    assert_eq!(
        (&input["type"], &input["strategy"], &input["dynamic"]),
        (&json!("float"), &json!("tensor"), &json!(false))
    );
    assert_eq!(quant["kv_cache_scheme"]["num_bits"], 8);
    // 14 linears, 7 other tensors, 14 scales of inputs and 4 of caches.
    assert_eq!(sandbox.json("verify made")["digests_checked"], 39);
    // A changed scale is noticed.
    let mut changed = Model::read(&made);
    changed.tensor(&format!("{ATTENTION}.o_proj.input_scale")).bytes[0] ^= 1;
    changed.write(&sandbox.path("changed"));
    std::fs::copy(sandbox.path("made/paring.json"), sandbox.path("changed/paring.json")).unwrap();
    sandbox.refused("verify changed", 1, &["model.layers.0.self_attn.o_proj.input_scale"]).unwrap();
}

#[test]
fn a_model_runs_as_a_server_runs_it() {
    let sandbox = Sandbox::new();
    let before = perplexity(&sandbox, "model", "");
    for (scheme, cache, words) in [
        ("FP8", " --kv-cache fp8", "inputs and cache"),
        ("FP8_DYNAMIC", "", "inputs"),
        ("W8A8", " --kv-cache fp8", "inputs and cache"),
    ] {
        sandbox.ok(&format!("quantize model {CALIBRATION} --scheme {scheme}{cache} --out {scheme}"));
        let line = sandbox.ok(&format!("eval {scheme} eval.safetensors --seqlen 32 --dtype f32 --quiet")).stdout;
        assert!(line.contains(&format!(", {words} quantized, ")), "{line}");
        let weights = format!("eval {scheme} eval.safetensors --seqlen 32 --weight-only --quiet");
        assert!(sandbox.ok(&weights).stdout.contains("activations as they are"));
        let (all, weights) = (perplexity(&sandbox, scheme, ""), perplexity(&sandbox, scheme, "--weight-only"));
        assert_ne!(all, weights, "{scheme}");
        for got in [all, weights] {
            assert!((got / before - 1.0).abs() < 0.05, "{scheme}: {got} instead of {before}");
        }
        for (options, quantized) in [("", json!(words)), ("--weight-only", json!(null))] {
            let options = format!("eval {scheme} eval.safetensors --limit 1 --seqlen 32 {options}");
            assert_eq!(sandbox.json(&options)["quantized"], quantized);
        }
        // A model that is quantized again is read as it is, and loses its scales.
        sandbox.ok(&format!("quantize {scheme} --method rtn --wbits 8 --out again --overwrite --quiet"));
        assert_eq!(sandbox.json("verify again")["tensors"], 7);
    }
}

#[test]
fn caches_beside_weights_of_any_kind() {
    let sandbox = Sandbox::new();
    sandbox.ok(&format!("sparsify model {CALIBRATION} --pattern 2:4 --kv-cache fp8 --out sparse"));
    let sparse = sandbox.open("sparse");
    let quant = &sparse.config()["quantization_config"];
    assert_eq!((&quant["config_groups"], &quant["format"]), (&json!({}), &json!("dense")));
    assert_eq!(sandbox.json("verify sparse")["digests_checked"], 25);
    let sequential = "--wbits 4 --groupsize 16 --true-sequential --kv-cache fp8 --layers 1..2";
    sandbox.ok(&format!("quantize model {CALIBRATION} {sequential} --out later"));
    // The scales of blocks that are left alone are needed too.
    near(floats(&sandbox.open("later"), &format!("{ATTENTION}.k_scale"))[0], first_block(&sandbox).keys / 448.0);
    assert_ne!(perplexity(&sandbox, "later", ""), perplexity(&sandbox, "later", "--weight-only"));
    let falcon = Sandbox::with("falcon_multi_query");
    let refused = format!("quantize model {CALIBRATION} --wbits 4 --kv-cache fp8 --out out");
    falcon.refused(&refused, 1, &["transformer.h.0.self_attention", "--kv-cache"]).unwrap();
    let refused = "quantize model calib.safetensors --wbits 4 --outlier-threshold 0.2 --kv-cache fp8 --out out";
    sandbox.refused(refused, 2, &["--kv-cache", "paring-spqr"]).unwrap();
    sandbox.refused("quantize model --method rtn --wbits 4 --kv-cache fp8 --out out", 2, &["DATASET"]).unwrap();
}
