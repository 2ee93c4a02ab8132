//! `paring layer` on problems of the published implementations, from a Gram matrix and from activations.

mod support;

use paring_format::Checkpoint;
use paring_format::writer::{NamedTensor, write_file};
use serde_json::Value;

use support::*;

const CASES: [(&str, &str); 22] = [
    ("a48x64", "magnitude_s0.5"),
    ("a48x64", "magnitude_1of4"),
    ("a48x64", "wanda_s0.5"),
    ("a48x64", "wanda_4of8"),
    ("a48x64", "sparsegpt_s0.5"),
    ("a48x64", "sparsegpt_2of4_b4"),
    ("a48x64", "sparsegpt_s0.5_bs32"),
    ("a48x64", "sparsegpt_s0.5_b3_mse"),
    ("a48x64", "rtn_b4_g16_asym"),
    ("a48x64", "rtn_b4_g32_sym_mse"),
    ("a48x64", "rtn_b8_g-1_asym"),
    ("a48x64", "gptq_b4_g32_asym"),
    ("a48x64", "gptq_b3_g-1_sym"),
    ("a48x64", "gptq_b4_g16_actorder_static_groups_asym"),
    ("a48x64", "gptq_b4_g16_actorder_damp0.1_asym"),
    ("a48x64", "gptq_b3_g16_static_groups_asym"),
    ("d33x80", "magnitude_s0.5"),
    ("d33x80", "wanda_2of4"),
    ("d33x80", "sparsegpt_s0.5"),
    ("d33x80", "rtn_b4_g-1_asym"),
    ("d33x80", "gptq_b4_g16_asym"),
    ("d33x80", "gptq_b2_g-1_asym"),
];

/// Names a case's settings as the command line does.
fn options(settings: &Value) -> String {
    let mut options = format!("--method {}", settings["algo"].as_str().unwrap());
    let flag = |key: &str| settings.get(key).and_then(Value::as_bool).unwrap_or(false);
    for (key, option) in [
        ("sparsity", "sparsity"),
        ("bits", "wbits"),
        ("groupsize", "groupsize"),
        ("percdamp", "percdamp"),
        ("blocksize", "blocksize"),
    ] {
        if let Some(value) = settings.get(key) {
            options += &format!(" --{option} {value}");
        }
    }
    if let (Some(gone), Some(of)) = (settings["prunen"].as_u64(), settings["prunem"].as_u64()) {
        options += &format!(" --pattern {}:{of}", of - gone);
    }
    for (key, option) in [("sym", "--sym"), ("mse", "--mse"), ("static_groups", "--static-groups")] {
        if flag(key) {
            options += &format!(" {option}");
        }
    }
    match (flag("actorder"), flag("static_groups")) {
        (false, _) => options,
        (true, true) => options + " --actorder static",
        (true, false) => options + " --actorder group",
    }
}

/// The inputs of a problem as layer files; returns the number of sequences.
fn write_inputs(sandbox: &Sandbox, problem: &str) -> usize {
    let inputs = Checkpoint::open_file(&golden(&format!("algorithms/{problem}.inputs.safetensors"))).unwrap();
    let (weight, hessian) = (tensor(&inputs, "weight"), tensor(&inputs, "hessian"));
    let cols = weight.shape[1];
    write_file(&sandbox.path(&format!("{problem}.hessian.safetensors")), vec![weight.clone(), hessian]).unwrap();
    let (mut joined, mut sequences) = (Vec::new(), 0);
    for i in 0.. {
        let name = format!("x{i}");
        let Some(info) = inputs.info(&name) else { break };
        sequences += if info.shape.len() == 3 { info.shape[0] } else { 1 };
        joined.extend(floats(&inputs, &name));
    }
    let activations = f32_tensor("activations", &[joined.len() / cols, cols], &joined);
    let shaped = NamedTensor { shape: vec![sequences, joined.len() / cols / sequences, cols], ..activations.clone() };
    for (kind, x) in [("activations", activations), ("batched", shaped)] {
        write_file(&sandbox.path(&format!("{problem}.{kind}.safetensors")), vec![weight.clone(), x]).unwrap();
    }
    sequences
}

struct Case<'a> {
    problem: &'a str,
    id: &'a str,
    expected: &'a Checkpoint,
    loss: f64,
    /// Columns whose inputs are all zero: Wanda's choice among them is arbitrary.
    dead: &'a [bool],
}

impl Case<'_> {
    /// Compares codes, mask, grids and weights of a file with the published ones.
    fn compare(&self, sandbox: &Sandbox, file: &str) {
        let place = format!("{} {} {file}", self.problem, self.id);
        let got = Checkpoint::open_file(&sandbox.path(file)).unwrap();
        let shape = got.info("dense").unwrap().shape.clone();
        let (rows, cols) = (shape[0], shape[1]);
        let theirs = |name: &str| {
            let name = format!("{}/{name}", self.id);
            self.expected.info(&name).map(|_| tensor(self.expected, &name))
        };
        let dense = floats(&got, "dense");
        if let Some(mask) = theirs("mask") {
            let mine = got.read("mask").unwrap();
            let tied = |i: usize| self.id.starts_with("wanda") && self.dead[i % cols];
            let differ = (0..rows * cols).filter(|&i| mask.bytes[i] != mine[i] && !tied(i)).count();
            assert_eq!(differ, 0, "{place}: mask");
            let kept = (0..rows * cols).filter(|&i| mine[i] == 1 && dense[i] != 0.0).count();
            assert_eq!(kept, 0, "{place}: removed weights that are there");
        }
        if let Some(codes) = theirs("codes") {
            let (mine, zeros) = (got.read("codes").unwrap(), floats(&got, "zeros"));
            let index = tensor(&got, "group_index");
            let group = |col: usize| i32::from_le_bytes(index.bytes[col * 4..][..4].try_into().unwrap()) as usize;
            let groups = zeros.len() / rows;
            let scales = floats(&got, "scales");
            let reference = theirs("zeros").map(|z| z.dtype.decode_f32(&z.bytes));
            for i in 0..rows * cols {
                let at = i / cols * groups + group(i % cols);
                let level = f32::from(mine[i]) - zeros[at];
                let expected = f32::from(codes.bytes[i]) - reference.as_ref().map_or(zeros[at], |z| z[at]);
                assert_eq!(level, expected, "{place}: code {i}");
                assert_eq!(level * scales[at], dense[i], "{place}: codes and weights disagree at {i}");
            }
        }
        if let Some(weight) = theirs("weight") {
            let weight = weight.dtype.decode_f32(&weight.bytes);
            let worst = dense.iter().zip(&weight).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst <= 5e-6, "{place}: weights differ by {worst:e}");
        }
        let loss = f64::from(floats(&got, "loss")[0]);
        assert!((loss / self.loss - 1.0).abs() < 1e-4, "{place}: loss {loss}, expected {}", self.loss);
    }
}

#[test]
fn layers_of_the_published_implementations() {
    let index = json_file(&golden("algorithms/index.json"));
    let sandbox = Sandbox::empty();
    for problem in ["a48x64", "d33x80"] {
        let sequences = write_inputs(&sandbox, problem);
        let inputs = Checkpoint::open_file(&sandbox.path(&format!("{problem}.hessian.safetensors"))).unwrap();
        let (h, cols) = (floats(&inputs, "hessian"), inputs.info("hessian").unwrap().shape[0]);
        let dead: Vec<bool> = (0..cols).map(|j| h[j * cols + j] == 0.0).collect();
        for (_, id) in CASES.iter().filter(|(of, _)| *of == problem) {
            let found = index.as_array().unwrap().iter().find(|c| c["problem"] == problem && c["id"] == *id);
            let case = found.unwrap_or_else(|| panic!("no case {problem} {id}"));
            let file = golden("algorithms").join(case["file"].as_str().unwrap());
            let expected = &Checkpoint::open_file(&file).unwrap();
            let compare = Case { problem, id, expected, loss: case["loss"].as_f64().unwrap(), dead: &dead };
            let options = options(&case["settings"]);
            for (kind, how) in [
                ("hessian", String::new()),
                ("activations", format!(" --sequences {sequences}")),
                ("batched", String::new()),
            ] {
                let out = format!("{problem}.{id}.{kind}.safetensors");
                sandbox.ok(&format!("layer {problem}.{kind}.safetensors --out {out} {options}{how}"));
                compare.compare(&sandbox, &out);
            }
        }
    }
}

#[test]
fn no_inputs_are_needed_where_nothing_is_to_be_known() {
    let sandbox = Sandbox::empty();
    let weight: Vec<f32> = (0..32).map(|i| (i as f32 * 0.7).sin()).collect();
    write_file(&sandbox.path("w.safetensors"), vec![f32_tensor("weight", &[4, 8], &weight)]).unwrap();
    let result = sandbox.json("layer w.safetensors --method magnitude --pattern 2:4 --save pruned.safetensors");
    assert_eq!((&result["rows"], &result["cols"]), (&4.into(), &8.into()));
    assert_eq!(result["sparsity"], 0.5);
    assert!(result["loss"].is_null() && result["error"].is_null());
    let result = sandbox.json("layer w.safetensors --method rtn --wbits 4 --groupsize 4 --out rounded.safetensors");
    assert_eq!(result["damp"], Value::Null);
    let made = Checkpoint::open_file(&sandbox.path("rounded.safetensors")).unwrap();
    for (name, shape) in [
        ("dense", vec![4, 8]),
        ("mask", vec![4, 8]),
        ("codes", vec![4, 8]),
        ("outlier_mask", vec![4, 8]),
        ("scales", vec![4, 2]),
        ("zeros", vec![4, 2]),
        ("group_index", vec![8]),
        ("loss", vec![1]),
    ] {
        assert_eq!(made.info(name).unwrap().shape, shape, "{name}");
    }
}

#[test]
fn what_layer_says_as_json() {
    let sandbox = Sandbox::empty();
    write_inputs(&sandbox, "a48x64");
    let result = sandbox.json("layer a48x64.hessian.safetensors --method gptq --wbits 4 --out made.safetensors");
    let error = result["error"].as_f64().unwrap();
    assert!(0.0 < error && error < 0.1, "{error}");
    assert_eq!(result["damp"], 0.01);
    for key in ["rows", "cols", "loss", "error", "sparsity", "damp"] {
        assert!(result.get(key).is_some(), "{key}");
    }
}
