use std::path::PathBuf;

use paring_format::{AdapterConfig, Checkpoint, Compressed, Dtype, Grid, Outliers, Spqr, Statistic, Values};
use paring_kernels::device::present;
use paring_kernels::quantize::{Rounding, Scales};

use super::*;
use crate::weight::QuantizedInput;
use crate::{Arithmetic, Decoder, Packed, open};

/// Numbers in -1..1 that look random.
fn numbers(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|i| ((i + seed) * 2654435761 % 4093) as f32 / 2046.5 - 1.0).collect()
}

fn pair(rank: usize, rows: usize, cols: usize) -> Pair {
    Pair::new(rank, (rows, cols), numbers(rank * cols, 5), numbers(rows * rank, 9), 0.75).unwrap()
}

/// Weights `[rows, cols]` of each kind, with their dense values.
fn kinds(device: &Device, rows: usize, cols: usize) -> Vec<(&'static str, Arc<dyn Weight>)> {
    let count = rows * cols;
    let dense = numbers(count, 1);
    let sparse = dense.iter().enumerate().map(|(i, &v)| if i % 4 < 2 { 0.0 } else { v }).collect::<Vec<_>>();
    let codes = Values::Codes {
        codes: (0..count).map(|i| (i * 7 % 16) as i8 - 8).collect(),
        grid: Grid::int(4, 16, vec![0.05; rows * cols.div_ceil(16)], None),
    };
    let spqr = Values::Spqr(Box::new(Spqr {
        bits: 3,
        group_size: 16,
        order: None,
        codes: (0..count).map(|i| (i * 5 % 8) as u8).collect(),
        scales: Statistic::Plain(vec![0.125; rows * cols.div_ceil(16)]),
        zeros: Statistic::Plain(vec![3.5; rows * cols.div_ceil(16)]),
        outliers: Outliers { at: vec![3, 40], values: vec![2.0, -3.0] },
    }));
    let plain = |values: Vec<f32>| -> Arc<dyn Weight> {
        Arc::new(Dense::on(device, rows, cols, values, Precision::F32).unwrap())
    };
    let packed = |values: Values| -> Arc<dyn Weight> {
        let matrix = Compressed { rows, cols, dtype: Dtype::F32, values };
        Arc::new(Packed::on(device, &matrix, Precision::F32).unwrap())
    };
    vec![
        ("dense", plain(dense.clone())),
        ("sparse", plain(sparse)),
        ("packed floats", packed(Values::Dense(dense))),
        ("codes", packed(codes)),
        ("spqr", packed(spqr)),
    ]
}

/// The largest difference of two tensors, and the largest entry of the second.
fn apart(a: &Tensor, b: &Tensor) -> (f32, f32) {
    let values = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let (a, b) = (values(a), values(b));
    assert_eq!(a.len(), b.len());
    let largest = |values: &mut dyn Iterator<Item = f32>| values.fold(0f32, |most, v| most.max(v.abs()));
    (largest(&mut a.iter().zip(&b).map(|(a, b)| a - b)), largest(&mut b.iter().copied()))
}

#[track_caller]
fn assert_near(got: &Tensor, expected: &Tensor, name: &str) {
    let (error, most) = apart(got, expected);
    // Sums of some hundred products in f32, in another order.
    assert!(got.dims() == expected.dims() && error <= 2e-5 * most, "{name}: off by {error} of {most}");
}

#[test]
fn every_product_is_that_of_the_merged_weight() {
    let (rows, cols) = (48, 64);
    for device in present() {
        let adapted = |base: &Arc<dyn Weight>| Adapted::new(Arc::clone(base), &pair(4, rows, cols), &device).unwrap();
        for (name, base) in kinds(&device, rows, cols) {
            let first = adapted(&base);
            let merged = first.dense().unwrap().flatten_all().unwrap().to_vec1().unwrap();
            let merged = Dense::on(&device, rows, cols, merged, Precision::F32).unwrap();
            let bare = Adapted::beside(Arc::clone(&base));
            for tokens in [1, 3, 70] {
                let x = Tensor::from_vec(numbers(tokens * cols, 3), (1, tokens, cols), &device).unwrap();
                let onto = Tensor::from_vec(numbers(tokens * rows, 4), (1, tokens, rows), &device).unwrap();
                let bias = Tensor::from_vec(numbers(rows, 6), rows, &device).unwrap();
                let name = &format!("{name}, {tokens} tokens on {device:?}");
                assert_near(&first.matmul(&x).unwrap(), &merged.matmul(&x).unwrap(), name);
                let expected = merged.matmul_onto(&x, Some(&bias), &onto).unwrap();
                assert_near(&first.matmul_onto(&x, Some(&bias), &onto).unwrap(), &expected, name);
                // Together with one that is not adapted, in both orders, and with one of another kind.
                let plain = base.matmul(&x).unwrap();
                let each = first.matmul_each(&[&bare, &first], &x).unwrap();
                assert_near(&each[1], &plain, name);
                assert_near(&each[2], &merged.matmul(&x).unwrap(), name);
                let each = bare.matmul_each(&[&first], &x).unwrap();
                assert_near(&each[1], &merged.matmul(&x).unwrap(), name);
                let each = first.matmul_each(&[&merged], &x).unwrap();
                assert_near(&each[0], &each[1], name);
                let expected = merged.matmul_gated(&merged, &x).unwrap();
                assert_near(&first.matmul_gated(&first, &x).unwrap(), &expected, name);
            }
        }
    }
}

#[test]
fn inputs_are_rounded_for_the_weight_and_not_for_the_adapter() {
    let (rows, cols, device) = (16, 32, Device::Cpu);
    let (_, base) = kinds(&device, rows, cols).remove(0);
    let rounding =
        Rounding { element: paring_kernels::element::Element::Int(3), symmetric: true, scales: Scales::Token };
    let rounded: Arc<dyn Weight> = Arc::new(QuantizedInput::new(base, rounding));
    let adapted = Adapted::new(Arc::clone(&rounded), &pair(2, rows, cols), &device).unwrap();
    let zero = Dense::on(&device, rows, cols, vec![0.0; rows * cols], Precision::F32).unwrap();
    let change = Adapted::new(Arc::new(zero), &pair(2, rows, cols), &device).unwrap();
    let x = Tensor::from_vec(numbers(5 * cols, 3), (5, cols), &device).unwrap();
    let expected = (rounded.matmul(&x).unwrap() + change.matmul(&x).unwrap()).unwrap();
    assert_near(&adapted.matmul(&x).unwrap(), &expected, "rounded inputs");
}

#[test]
fn gradients_of_inputs_pass_both() {
    let (rows, cols, device) = (24, 32, Device::Cpu);
    for (name, base) in kinds(&device, rows, cols) {
        let adapted = Adapted::new(base, &pair(3, rows, cols), &device).unwrap();
        let dy = Tensor::from_vec(numbers(7 * rows, 2), (7, rows), &device).unwrap();
        let mut sum = InputGradient::new(&[7, cols]);
        adapted.add_input_gradient(&dy, &mut sum).unwrap();
        let expected = dy.matmul(&adapted.dense().unwrap()).unwrap();
        assert_near(&sum.finish().unwrap(), &expected, name);
    }
}

fn checkpoint(name: &str) -> Arc<Checkpoint> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/models")).join(name);
    Arc::new(Checkpoint::open(&folder).unwrap())
}

/// An adapter for all linears of a model whose path ends in one of these, under paths that `rename` changes.
fn adapter(model: &dyn Decoder, ends: &[&str], rename: impl Fn(&str) -> String) -> Adapter {
    let mut pairs = BTreeMap::new();
    for linear in (0..model.blocks()).flat_map(|i| model.linears(i)) {
        if ends.iter().any(|end| linear.name.ends_with(end)) {
            let mut pair = pair(2, linear.rows, linear.cols);
            pair.scale = 0.05;
            pairs.insert(rename(&linear.name), pair);
        }
    }
    Adapter { config: AdapterConfig::new(2, 0.1, ends.iter().copied()), pairs, place: "adapter".into() }
}

fn opened(name: &str, adapter: Adapter, packed: bool) -> Result<Box<dyn Decoder>> {
    let arithmetic = Arithmetic { packed, ..Arithmetic::from(Precision::F32) };
    open(checkpoint(name), arithmetic.adapted(Some(Arc::new(adapter))))
}

#[test]
fn models_with_an_adapter_are_models_with_merged_weights() {
    for (name, ends, rename) in [
        ("llama", &["q_proj", "v_proj", "up_proj"][..], ("", "")),
        ("qwen2", &["k_proj", "o_proj", "gate_proj", "down_proj"], ("", "")),
        // PEFT's path of a model without its head.
        ("llama", &["down_proj"], ("model.", "")),
        ("opt", &["fc1", "fc2", "out_proj"], ("", "")),
        ("falcon_new_decoder", &["query_key_value", "dense_h_to_4h"], ("", "")),
    ] {
        let base = open(checkpoint(name), Precision::F32).unwrap();
        let adapter = adapter(&*base, ends, |path| path.replace(rename.0, rename.1));
        let ids: Vec<u32> = (0..24).map(|i| i * 11 % 64).collect();
        let through = |model: &dyn Decoder, merge: bool| {
            let mut h = model.embed(&ids, 2).unwrap();
            for i in 0..model.blocks() {
                let mut block = model.block(i).unwrap();
                for linear in block.fans().into_iter().flat_map(|fan| &mut fan.linears).filter(|_| merge) {
                    let Some((_, pair)) = pair_of(&adapter, &linear.name) else { continue };
                    let adapted = Adapted::new(Arc::clone(&linear.weight), pair, &Device::Cpu).unwrap();
                    let dense = flat_of(&adapted.dense().unwrap());
                    linear.weight =
                        Arc::new(Dense::on(&Device::Cpu, linear.rows, linear.cols, dense, Precision::F32).unwrap());
                }
                h = block.forward(&h, &mut ()).unwrap();
            }
            model.logits(&h).unwrap()
        };
        let expected = through(&*base, true);
        assert!(apart(&expected, &through(&*base, false)).0 > 1e-3, "{name}: the adapter changes nothing");
        for packed in [false, true] {
            let model = opened(name, adapter.clone(), packed).unwrap();
            let (error, most) = apart(&through(&*model, false), &expected);
            assert!(error < 1e-4 * most.max(1.0), "{name}: off by {error} of {most}");
        }
    }
}

fn flat_of(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn projections_around_the_blocks_are_linears() {
    let base = open(checkpoint("opt_350m"), Precision::F32).unwrap();
    let mut adapter = adapter(&*base, &["fc1"], str::to_string);
    let ids: Vec<u32> = (0..9).collect();
    let (dim, before) = (base.hidden_size(), base.embed(&ids, 1).unwrap());
    let projection = base.outer().projections[0].clone();
    let width = base.checkpoint().info(&format!("{projection}.weight")).unwrap().shape[1];
    adapter.pairs.insert(projection, pair(2, dim, width));
    adapter.config = AdapterConfig::new(2, 0.1, ["fc1", "project_in"]);
    let model = opened("opt_350m", adapter, false).unwrap();
    assert!(apart(&model.embed(&ids, 1).unwrap(), &before).0 > 1e-3);
}

#[test]
fn adapters_of_other_models_are_refused_by_name() {
    let base = open(checkpoint("llama"), Precision::F32).unwrap();
    let llama = || adapter(&*base, &["q_proj"], str::to_string);
    let error = |adapter: Adapter, model: &str| {
        let error = opened(model, adapter, false).map(|model| model.notes()).unwrap_err().to_string();
        assert!(error.starts_with("adapter: ") && !error.contains('\n'), "{error}");
        error
    };
    let with = |module: &str, rows: usize, cols: usize| {
        let mut adapter = llama();
        adapter.pairs.insert(module.to_string(), pair(2, rows, cols));
        adapter
    };
    let text = error(with("model.layers.0.self_attn.qproj", 32, 32), "llama");
    assert!(text.contains("did you mean model.layers.0.self_attn.q_proj?"), "{text}");
    assert!(
        error(with("model.layers.7.self_attn.q_proj", 32, 32), "llama").contains("model.layers.7.self_attn.q_proj")
    );
    for module in ["lm_head", "model.embed_tokens", "embed_tokens"] {
        assert!(error(with(module, 32, 32), "llama").contains("embeddings and heads"), "{module}");
    }
    let mut short = llama();
    short.pairs.values_mut().for_each(|q| *q = pair(2, q.rows, q.cols + 1));
    assert!(error(short, "llama").contains("expected factors for [32, 32] (outputs, inputs), got [32, 33]"));
    let text = error(llama(), "falcon_new_decoder");
    assert!(text.contains("dense, dense_4h_to_h, dense_h_to_4h, query_key_value"), "{text}");
    // One path for the linears of two blocks.
    let mut adapter = llama();
    adapter.pairs.insert("q_proj".into(), pair(2, 32, 32));
    adapter.pairs.retain(|path, _| path == "q_proj");
    assert!(error(adapter, "llama").contains("it means model.layers.0"));
    // What the settings mean and the file does not have stays as it is.
    let mut fewer = llama();
    fewer.pairs.retain(|path, _| path.contains("layers.0."));
    let notes = opened("llama", fewer, false).unwrap().notes();
    assert!(notes.iter().any(|note| note.contains("without factors")), "{notes:?}");
}
