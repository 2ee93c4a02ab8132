//! The anatomy that families describe, against what their blocks do, and fans that are malformed.

use candle_core::{Device, Tensor};
use paring_format::{Checkpoint, Dtype, NamedTensor, writer};
use serde_json::{Value, json};

use super::{Keep, MODELS, flat, folder, golden};
use crate::anatomy::{AttentionInfo, BlockInfo, LinearInfo, MlpInfo, PositionKind};
use crate::families::family::{BlockShape, LinearShape};
use crate::families::outer;
use crate::{Dense, Error, Fan, OuterInfo, Precision, Result, Tap};

/// All kinds of blocks.
const KINDS: [&str; 12] = [
    "llama",
    "qwen3",
    "mistral_window",
    "opt_plain",
    "opt_350m",
    "opt_bare",
    "falcon_7b",
    "falcon_11b",
    "falcon_40b",
    "falcon_heads",
    "falcon_rw",
    "wide_heads",
];

fn local(full: &str) -> &str {
    full.rsplit('.').next().unwrap_or(full)
}

/// Keeps after which fan the cache was shown, and the shape of its keys.
#[derive(Default)]
struct CacheShape {
    last: usize,
    shown: Vec<(usize, Vec<usize>)>,
}

impl Tap for CacheShape {
    fn see(&mut self, fan: usize, _: &Tensor) -> Result<()> {
        self.last = fan;
        Ok(())
    }

    fn cache(&mut self, keys: &Tensor, values: &Tensor) -> Result<()> {
        assert_eq!(keys.dims(), values.dims());
        self.shown.push((self.last, keys.dims().to_vec()));
        Ok(())
    }
}

#[test]
fn blocks_are_what_their_anatomy_says() {
    for name in KINDS {
        let model = golden(name);
        let h = model.embed(&[5, 3, 60, 7, 7, 1], 2).unwrap();
        for i in 0..model.blocks() {
            let info = model.block_info(i);
            assert!(info.fused().iter().all(|set| set.len() > 1 && set.iter().all(|l| l.fan == set[0].fan)), "{name}");
            let BlockInfo { linears, attention, mlp, norms } = info;
            let mut block = model.block(i).unwrap();
            let (mut seen, mut cache) = (Keep::default(), CacheShape::default());
            block.forward(&h, &mut seen).unwrap();
            block.forward(&h, &mut cache).unwrap();
            // The attention stands between its fans, and its output is what the second of them reads.
            let keys = vec![2, 3, attention.kv_heads, attention.head_dim];
            assert_eq!(cache.shown, [(attention.after_fan, keys)], "{name}");
            assert_eq!(attention.output_fan, attention.after_fan + 1, "{name}");
            assert_eq!(seen.0[attention.output_fan].1.dims(), [2, 3, attention.width()], "{name}");
            // The MLP's last linear is the block's, and reads one number for each that its gate or first linear makes.
            let (first, down) = match mlp {
                MlpInfo::Gated { fan, down } => (fan, down),
                MlpInfo::Plain { up, down } => (up, down),
            };
            assert_eq!((down + 1, block.fan_count()), (block.fans().len(), down + 1), "{name}");
            let inner = seen.0[down].1.dims()[2];
            let makes_inner = linears.iter().filter(|linear| linear.fan == first && linear.rows == inner).count();
            let gated = matches!(mlp, MlpInfo::Gated { .. });
            assert_eq!(makes_inner, if gated { 2 } else { 1 }, "{name}");
            // What is not part of a linear is of a norm, or a bias.
            let mut rest = model.rest_names(i);
            rest.retain(|name| !linears.iter().any(|linear| *name == format!("{}.bias", linear.name)));
            assert_eq!(norms.into_iter().flat_map(|norm| norm.tensors).collect::<Vec<_>>(), rest, "{name}");
        }
    }
}

#[test]
fn readers_and_positions() {
    let fused = |name: &str| -> Vec<Vec<String>> {
        let info = golden(name).block_info(0);
        let names = |set: Vec<&LinearInfo>| set.into_iter().map(|linear| local(&linear.name).to_string()).collect();
        info.fused().into_iter().map(names).collect()
    };
    let qkv = ["q_proj", "k_proj", "v_proj"].map(String::from).to_vec();
    assert_eq!(fused("llama"), [qkv.clone(), ["gate_proj", "up_proj"].map(String::from).to_vec()]);
    assert_eq!(fused("opt_plain"), [qkv]);
    assert_eq!(fused("falcon_40b"), [] as [Vec<String>; 0]);

    let attention = |name: &str| golden(name).block_info(1).attention;
    let of = |name: &str| {
        let AttentionInfo { positions, cache_module, window, .. } = attention(name);
        (positions, cache_module, window)
    };
    let beside = |module: &str| Some(module.to_string());
    assert_eq!(of("llama"), (PositionKind::Rotary, beside("model.layers.1.self_attn"), None));
    assert_eq!(of("mistral_window").2, Some(5));
    assert_eq!(of("opt_plain"), (PositionKind::Learned, beside("model.decoder.layers.1.self_attn"), None));
    assert_eq!(of("falcon_7b"), (PositionKind::Rotary, None, None));
    assert_eq!(of("falcon_rw"), (PositionKind::Alibi, None, None));
    let falcon = attention("falcon_7b");
    assert_eq!(falcon.rotated(), (falcon.heads + 1) * falcon.head_dim);
    assert_eq!((attention("falcon_rw").rotated(), attention("opt_plain").rotated()), (0, 0));
}

#[test]
fn the_parts_around_the_blocks() {
    let outer = golden("opt_350m").outer();
    assert_eq!(outer.embeddings, ["embed_tokens", "embed_positions"].map(|m| format!("model.decoder.{m}.weight")));
    assert_eq!(outer.projections, ["model.decoder.project_in", "model.decoder.project_out"]);
    assert_eq!((outer.norms.len(), outer.head.as_str()), (0, "lm_head"));
    let outer = golden("falcon_7b").outer();
    assert_eq!(outer.embeddings, ["transformer.word_embeddings.weight"]);
    assert_eq!(outer.norms, ["transformer.ln_f.weight", "transformer.ln_f.bias"]);
}

#[test]
fn the_outer_parts_are_known_from_the_config_alone() {
    for name in MODELS.into_iter().chain(KINDS) {
        let checkpoint = Checkpoint::open(&folder(name)).unwrap();
        assert_eq!(outer(&checkpoint).unwrap(), golden(name).outer(), "{name}");
    }
    // Without a prefix, and of an architecture that no family reads.
    let written = |config: Value| -> Result<OuterInfo> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
        let bytes = vec![0; 64 * 32 * 4];
        let table = NamedTensor { name: "embed_tokens.weight".into(), dtype: Dtype::F32, shape: vec![64, 32], bytes };
        writer::write_file(&dir.path().join("model.safetensors"), vec![table]).unwrap();
        outer(&Checkpoint::open(dir.path()).unwrap())
    };
    let mut config = Checkpoint::open(&folder("llama")).unwrap().config().clone();
    let found = written(config.clone()).unwrap();
    assert_eq!((found.embeddings, found.norms), (vec!["embed_tokens.weight".into()], vec!["norm.weight".into()]));
    config["architectures"] = json!(["BertModel"]);
    assert!(matches!(written(config), Err(Error::UnknownArchitecture { .. })));
}

/// The error of a forward pass after a change of the block's fans.
fn error_after(name: &str, change: impl FnOnce(&mut [&mut Fan])) -> String {
    let model = golden(name);
    let h = model.embed(&[1, 2, 3], 1).unwrap();
    let mut block = model.block(0).unwrap();
    change(&mut block.fans());
    block.forward(&h, &mut ()).err().map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn a_malformed_fan_is_an_error() {
    for name in MODELS.into_iter().chain(KINDS) {
        let fans = golden(name).block_info(0).fans();
        for i in 0..fans {
            let text = error_after(name, |fans| drop(fans[i].linears.pop()));
            assert!(text.starts_with("fan ") && text.contains("where its block needs"), "{name}, fan {i}: {text}");
            let text = error_after(name, |fans| {
                let spare = fans[(i + 1) % fans.len()].linears.pop().unwrap();
                fans[i].linears.push(spare);
            });
            assert!(text.starts_with("fan "), "{name}, fan {i}: {text}");
        }
    }
    let text = error_after("llama", |fans| drop(fans[2].linears.remove(0)));
    assert_eq!(
        text,
        "fan gate_up holds 1 (model.layers.0.mlp.up_proj) where its block needs 2; a block's fans must keep their linears"
    );
}

/// A block of one gated MLP whose description is changed.
fn described(change: impl FnOnce(&mut BlockShape)) -> String {
    let linear = |name, rows, cols, fan| LinearShape { name, rows, cols, fan, bias: None };
    let mut shape = BlockShape {
        fans: &["qkv", "o", "gate_up", "down"],
        linears: vec![
            linear("qkv", 24, 8, 0),
            linear("o", 8, 8, 1),
            linear("gate", 16, 8, 2),
            linear("up", 16, 8, 2),
            linear("down", 8, 16, 3),
        ],
        linears_hint: "",
        norms: Vec::new(),
        attention: AttentionInfo {
            module: "attention".to_string(),
            after_fan: 0,
            output_fan: 1,
            heads: 2,
            kv_heads: 2,
            head_dim: 4,
            window: None,
            positions: PositionKind::Learned,
            cache_module: None,
        },
        mlp: MlpInfo::Gated { fan: 2, down: 3 },
        fused: &[&[2, 3]],
    };
    change(&mut shape);
    shape.check("h.0").err().map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn a_description_that_contradicts_itself_is_an_error() {
    assert_eq!(described(|_| ()), "");
    type Case = (fn(&mut BlockShape), &'static str);
    let cases: [Case; 11] = [
        (|shape| shape.linears.swap(0, 1), "linears in another order than their fans"),
        (|shape| shape.linears[4].fan = 4, "down in fan 4 of 4"),
        (|shape| shape.linears.retain(|l| l.name != "o"), "no linear in fan o"),
        (|shape| shape.linears[3].cols = 9, "gate and up in one fan, with inputs of two widths"),
        (|shape| shape.attention.heads = 3, "an attention of 3 heads on 2 between fans 0 and 1"),
        (|shape| shape.attention.kv_heads = 0, "an attention of 2 heads on 0 between fans 0 and 1"),
        (|shape| shape.attention.output_fan = 9, "an attention of 2 heads on 2 between fans 0 and 9"),
        (|shape| shape.linears.retain(|l| l.name != "gate"), "a gated fan 2 of 1 linears"),
        (|shape| shape.linears[2].rows = 15, "a gated fan 2 of 2 linears"),
        (|shape| shape.mlp = MlpInfo::Plain { up: 3, down: 2 }, "an MLP between fans 3 and 2 of 4"),
        (|shape| shape.fused = &[&[1, 2]], "fused linears [[1, 2]], not all of one fan"),
    ];
    for (change, problem) in cases {
        assert_eq!(described(change), format!("h.0: the family describes {problem}; this is an error of the program"));
    }
}

/// A weight that is not a matrix: products one by one.
struct Negated(Dense);

impl crate::Weight for Negated {
    fn matmul(&self, x: &Tensor) -> Result<Tensor> {
        Ok(self.0.matmul(x)?.neg()?)
    }

    fn dense(&self) -> Result<Tensor> {
        Ok(self.0.dense()?.neg()?)
    }
}

#[test]
fn weights_of_any_kind_go_through_fused_products() {
    for name in ["llama", "opt_plain", "falcon_7b"] {
        let model = golden(name);
        let h = model.embed(&[1, 2, 3, 9], 1).unwrap();
        let expected = flat(&model.block(0).unwrap().forward(&h, &mut ()).unwrap());
        // All weights, and every second one, so that fans hold two kinds.
        for step in [1, 2] {
            let mut block = model.block(0).unwrap();
            let linears = block.fans().into_iter().flat_map(|fan| fan.linears.iter_mut());
            for linear in linears.step_by(step) {
                let values = linear.weight.dense().unwrap().neg().unwrap();
                let dense = Dense::on(&Device::Cpu, linear.rows, linear.cols, flat(&values), Precision::F32).unwrap();
                linear.weight = std::sync::Arc::new(Negated(dense));
            }
            let got = flat(&block.forward(&h, &mut ()).unwrap());
            assert!(super::distance(&got, &expected) < 1e-5, "{name}, step {step}");
        }
    }
}

/// Keeps what the outputs of fans are added to, and inputs.
#[derive(Default)]
struct Sums {
    inputs: Vec<(usize, Tensor)>,
    sums: Vec<(usize, Tensor)>,
}

impl Tap for Sums {
    fn see(&mut self, fan: usize, x: &Tensor) -> Result<()> {
        self.inputs.push((fan, x.clone()));
        Ok(())
    }

    fn adds_to(&mut self, fan: usize, sum: &Tensor) -> Result<()> {
        assert!(self.inputs.iter().all(|(seen, _)| *seen != fan), "before its input");
        self.sums.push((fan, sum.clone()));
        Ok(())
    }
}

/// The attention's output joins the block's input, and the MLP's what that became: the sums that a block is made of.
#[test]
fn taps_see_what_outputs_are_added_to() {
    for name in KINDS {
        let model = golden(name);
        let h = model.embed(&[5, 3, 60, 7, 7, 1], 2).unwrap();
        let mut block = model.block(0).unwrap();
        let info = model.block_info(0);
        let (mut seen, output_fan, down) = (Sums::default(), info.attention.output_fan, info.mlp.fans().1);
        let made = block.forward(&h, &mut seen).unwrap();
        let fans: Vec<usize> = seen.sums.iter().map(|(fan, _)| *fan).collect();
        assert_eq!(fans, [output_fan, down], "{name}");
        assert_eq!(flat(&seen.sums[0].1), flat(&h), "{name}");
        let mut fans = block.fans();
        let mut plus = |fan: usize| {
            let x = seen.inputs.iter().find(|(of, _)| *of == fan).map(|(_, x)| x).unwrap();
            let sum = seen.sums.iter().find(|(of, _)| *of == fan).map(|(_, sum)| sum).unwrap();
            flat(&(sum + fans[fan].linears.iter_mut().next_back().unwrap().forward(x).unwrap()).unwrap())
        };
        // Norms after the sum are part of opt-350m alone.
        if name != "opt_350m" {
            assert!(super::distance(&plus(output_fan), &flat(&seen.sums[1].1)) < 1e-5, "{name}");
            assert!(super::distance(&plus(down), &flat(&made)) < 1e-5, "{name}");
        }
        let mut stopped = Sums::default();
        block.tap_only(&h, &mut stopped, Some(output_fan)).unwrap();
        assert_eq!(stopped.sums.len(), 1, "{name}");
    }
}
