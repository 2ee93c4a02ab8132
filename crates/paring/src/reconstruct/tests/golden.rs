//! 30 steps of Adam against torch's in float64 (tests/golden/training/reconstruct).

use candle_core::{Device, Tensor};
use paring_format::{Compressed, Dtype, Grid, Values};
use safetensors::SafeTensors;
use serde_json::Value;

use super::{folder, forms, open, pruned, run};
use crate::Precision;
use crate::reconstruct::{Form, Measure, Outcome, Rate, Schedule, Settings};

fn read(name: &str) -> Vec<u8> {
    std::fs::read(folder("tests/golden/training").join(name)).unwrap()
}

fn floats(file: &[u8], name: &str) -> Vec<f32> {
    let tensors = SafeTensors::deserialize(file).unwrap();
    let view = tensors.tensor(name).unwrap_or_else(|error| panic!("{name}: {error}"));
    view.data().as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
}

fn bytes(file: &[u8], name: &str) -> Vec<u8> {
    SafeTensors::deserialize(file).unwrap().tensor(name).unwrap().data().to_vec()
}

fn states(file: &[u8], name: &str) -> Tensor {
    let shape = SafeTensors::deserialize(file).unwrap().tensor(name).unwrap().shape().to_vec();
    Tensor::from_vec(floats(file, name), shape, &Device::Cpu).unwrap()
}

/// One case and its run.
struct Case {
    name: String,
    file: Vec<u8>,
    prefix: String,
    outcome: Outcome,
}

/// Runs a case with the forms that `make` has of a linear, by its local name.
fn case(name: &str, vectors: bool, make: impl Fn(&[u8], &str, &[f32], usize) -> Form) -> Case {
    let index: Vec<Value> = serde_json::from_slice(&read("reconstruct/index.json")).unwrap();
    let case = index.into_iter().find(|case| case["name"] == name).unwrap();
    let path = if name.starts_with("demo") { "crates/paring-cli/demo" } else { "tests/golden/trained/opt" };
    let model = open(path);
    let layer = case["layer"].as_u64().unwrap() as usize;
    let prefix = case["prefix"].as_str().unwrap().to_string();
    let (file, at) = (read(case["file"].as_str().unwrap()), read(case["states"].as_str().unwrap()));
    let forms =
        forms(&*model, layer, |linear, values, cols| make(&file, linear.strip_prefix(&prefix).unwrap(), values, cols));
    let settings = Settings {
        steps: case["steps"].as_u64().unwrap() as usize,
        rate: Rate::Absolute(case["lr"].as_f64().unwrap()),
        schedule: Schedule::Constant,
        batch: case["batch"].as_u64().unwrap() as usize,
        held_out: 0,
        check: 1,
        patience: 1,
        vectors,
        measure: Measure::Plain,
        precision: Precision::F32,
    };
    let outcome = run(&*model, layer, forms, (&states(&at, "h"), &states(&at, "target")), &settings).unwrap();
    let same = |what: &str, got: f64, want: &Value| {
        let want = want.as_f64().unwrap();
        assert!((got / want - 1.0).abs() < 1e-5, "{name} {what}: {got}, expected {want}");
    };
    let losses = case["losses"].as_array().unwrap();
    assert_eq!(outcome.losses.len(), losses.len());
    for (step, (got, want)) in outcome.losses.iter().zip(losses).enumerate() {
        same(&format!("loss of step {step}"), *got, want);
    }
    same("error before", outcome.before, &case["mse_before"]);
    same("error after", outcome.after, &case["mse_after"]);
    Case { name: name.to_string(), file, prefix, outcome }
}

/// The sign that row or column `i` has in a stored product.
fn sign(i: usize) -> f64 {
    if (2_654_435_761u64 * i as u64) % (1 << 32) < 1 << 31 { 1.0 } else { -1.0 }
}

impl Case {
    /// Asserts that `got` is within 1e-4 of the largest entry of what is stored.
    fn same(&self, name: &str, got: &[f32]) {
        let want = floats(&self.file, name);
        assert_eq!(got.len(), want.len(), "{} {name}", self.name);
        let largest = want.iter().fold(0f32, |a, v| a.max(v.abs()));
        let off = got.iter().zip(&want).fold(0f32, |a, (got, want)| a.max((got - want).abs()));
        assert!(off <= 1e-4 * largest, "{} {name}: off by {off:e} of {largest}", self.name);
    }

    /// The same for a matrix of which rows and two products are stored.
    fn same_matrix(&self, name: &str, got: &[f32], cols: usize) {
        if got.len() <= 4096 {
            return self.same(name, got);
        }
        let rows: Vec<&[f32]> = got.chunks_exact(cols).collect();
        let some: Vec<f32> = rows.iter().step_by(8).flat_map(|row| row.iter().copied()).collect();
        self.same(name, &some);
        let product = |row: &&[f32]| row.iter().enumerate().map(|(i, &v)| sign(i) * f64::from(v)).sum::<f64>() as f32;
        self.same(&format!("{name}.row_dot"), &rows.iter().map(product).collect::<Vec<_>>());
        let of_column =
            |col: usize| rows.iter().enumerate().map(|(i, row)| sign(i) * f64::from(row[col])).sum::<f64>() as f32;
        self.same(&format!("{name}.col_dot"), &(0..cols).map(of_column).collect::<Vec<_>>());
    }
}

/// The linears of a block by local name, in the order of its fans.
fn names(model: &str) -> Vec<String> {
    let decoder = open(if model == "demo" { "crates/paring-cli/demo" } else { "tests/golden/trained/opt" });
    let local = |info: paring_model::LinearInfo| {
        let mut parts = info.name.rsplit('.');
        let last = parts.next().unwrap().to_string();
        let above = parts.next().unwrap();
        if above.chars().all(|c| c.is_ascii_digit()) { last } else { format!("{above}.{last}") }
    };
    decoder.linears(1).into_iter().map(local).collect()
}

#[test]
fn everything_of_a_pruned_block() {
    for model in ["demo", "opt"] {
        let case = case(&format!("{model}.pruned"), true, |file, name, values, cols| {
            let compressed = pruned(values, cols, Dtype::F32);
            let mask = bytes(file, &format!("{name}.weight.mask"));
            let kept = |i: usize| mask[i / 8] >> (i % 8) & 1 == 1;
            // A weight that was zero before may be kept; it has no value to tell that by.
            let dense = compressed.to_dense();
            let same = |(i, (new, old)): (usize, (&f32, &f32))| *old == 0.0 || (*new != 0.0) == kept(i);
            assert!(dense.iter().zip(values).enumerate().all(same), "{name}");
            Form::Compressed(compressed)
        });
        for (name, compressed) in names(model).iter().zip(case.outcome.linears.iter().flatten()) {
            let compressed = compressed.as_ref().unwrap();
            case.same_matrix(&format!("{name}.weight"), &compressed.to_dense(), compressed.cols);
        }
        let mut vectors = 0;
        for (name, values) in &case.outcome.vectors {
            let local = name.strip_prefix(&case.prefix).unwrap();
            vectors += 1;
            // Its gradient is zero; what torch computes is rounding, of which Adam makes steps.
            if local != "self_attn.k_proj.bias" {
                case.same(local, values);
            }
        }
        assert_eq!(vectors, if model == "demo" { 2 } else { 10 });
    }
}

#[test]
fn scales_of_a_block_in_codes() {
    for model in ["demo", "opt"] {
        let case = case(&format!("{model}.scales"), false, |file, name, values, cols| {
            let of = |what: &str| bytes(file, &format!("{name}.weight.{what}"));
            let signed = |codes: Vec<u8>| codes.into_iter().map(|code| code as i8 - 4).collect::<Vec<i8>>();
            let grid =
                Grid::int(3, 32, floats(file, &format!("{name}.weight.scales_before")), Some(signed(of("zeros"))));
            let values = (values.len() / cols, Values::Codes { codes: signed(of("codes")), grid });
            Form::Compressed(Compressed { rows: values.0, cols, dtype: Dtype::F32, values: values.1 })
        });
        for (name, compressed) in names(model).iter().zip(case.outcome.linears.iter().flatten()) {
            let Values::Codes { grid, codes } = &compressed.as_ref().unwrap().values else { panic!("no codes") };
            case.same(&format!("{name}.weight.scales_after"), &grid.scales);
            let stored = bytes(&case.file, &format!("{name}.weight.codes"));
            assert!(codes.iter().zip(&stored).all(|(code, stored)| *code == *stored as i8 - 4));
        }
    }
}
