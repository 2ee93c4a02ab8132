//! Backward passes against the gradients of torch's autograd in float64 (tests/golden/training).

use std::path::PathBuf;

use candle_core::{Device, Tensor};
use paring_kernels::adam::{Adam, Moments, clip_factor, square_sum};
use paring_kernels::attention::{Scores, causal_backward, causal_kept};
use paring_kernels::embedding::add_rows;
use paring_kernels::gelu::{gelu, gelu_backward};
use paring_kernels::gram::Cross;
use paring_kernels::likelihood::{cross_entropy, divergence};
use paring_kernels::matmul::{InputGradient, Matrix, Precision, bias_gradient};
use paring_kernels::norm::{layer, layer_backward, rms, rms_backward};
use paring_kernels::plain::{add, add_each, relu, relu_backward};
use paring_kernels::rope::{rope, rope_backward};
use paring_kernels::scales::Tiles;
use paring_kernels::squared_error::{relative_squared_error, squared_error};
use paring_kernels::swiglu::{swiglu, swiglu_backward};
use safetensors::SafeTensors;
use serde_json::Value;

/// Of the largest entry: what the data allow of f32.
const TOLERANCE: f64 = 2e-5;

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/training/ops"))
}

/// One case.
struct Golden {
    name: String,
    file: Vec<u8>,
    settings: Value,
    tolerance: f64,
}

impl Golden {
    fn read(name: &str) -> Self {
        let index: Value = serde_json::from_slice(&std::fs::read(folder().join("index.json")).unwrap()).unwrap();
        let case = index.as_array().unwrap().iter().find(|case| case["name"] == name).unwrap();
        let file = std::fs::read(folder().join(format!("{name}.safetensors"))).unwrap();
        // A row that hardly varies.
        let tolerance = if name.starts_with("layer_norm") { 5e-5 } else { TOLERANCE };
        Self { name: name.to_string(), file, settings: case["settings"].clone(), tolerance }
    }

    fn number(&self, key: &str) -> f64 {
        self.settings[key].as_f64().unwrap()
    }

    fn shape(&self, name: &str) -> Vec<usize> {
        SafeTensors::deserialize(&self.file).unwrap().tensor(name).unwrap().shape().to_vec()
    }

    /// All numbers of a tensor of any type.
    fn values(&self, name: &str) -> Vec<f64> {
        let tensors = SafeTensors::deserialize(&self.file).unwrap();
        let view = tensors.tensor(name).unwrap_or_else(|error| panic!("{} {name}: {error}", self.name));
        let data = view.data();
        match view.dtype() {
            safetensors::Dtype::F32 => {
                data.as_chunks::<4>().0.iter().map(|&b| f64::from(f32::from_le_bytes(b))).collect()
            }
            safetensors::Dtype::I64 => data.as_chunks::<8>().0.iter().map(|&b| i64::from_le_bytes(b) as f64).collect(),
            safetensors::Dtype::I32 => {
                data.as_chunks::<4>().0.iter().map(|&b| f64::from(i32::from_le_bytes(b))).collect()
            }
            safetensors::Dtype::I8 => data.iter().map(|&b| f64::from(b as i8)).collect(),
            safetensors::Dtype::U8 => data.iter().map(|&b| f64::from(b)).collect(),
            other => panic!("{} {name} of type {other:?}", self.name),
        }
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        self.values(name).into_iter().map(|v| v as f32).collect()
    }

    fn tensor(&self, name: &str) -> Tensor {
        Tensor::from_vec(self.floats(name), self.shape(name), &Device::Cpu).unwrap()
    }

    /// Asserts that `got` is the stored tensor.
    fn same(&self, name: &str, got: &[f32]) {
        let want = self.values(name);
        assert_eq!(got.len(), want.len(), "{} {name}", self.name);
        let largest = want.iter().fold(0f64, |a, v| a.max(v.abs()));
        // Where all is zero but for rounding, rounding of numbers around 1 is allowed.
        let allowed = self.tolerance * if largest < 1e-12 { 0.1 } else { largest };
        let off = got.iter().zip(&want).fold(0f64, |a, (&g, w)| a.max((f64::from(g) - w).abs()));
        assert!(off <= allowed, "{} {name}: off by {off:e}, allowed {allowed:e}", self.name);
    }

    fn same_tensor(&self, name: &str, got: &Tensor) {
        assert_eq!(got.elem_count(), self.shape(name).iter().product::<usize>());
        self.same(name, &flat(got));
    }

    fn same_loss(&self, got: f64) {
        let want = self.values("loss")[0];
        assert!((got / want - 1.0).abs() < 5e-6, "{}: {got}, expected {want}", self.name);
    }

    /// The targets of labels: position t predicts label t + 1.
    fn targets(&self) -> Vec<Option<u32>> {
        let t = self.shape("labels")[1];
        let labels = self.values("labels");
        let of = |i: usize| if i % t + 1 < t { u32::try_from(labels[i + 1] as i64).ok() } else { None };
        (0..labels.len()).map(of).collect()
    }
}

fn flat(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

/// y = x Wᵀ, dx and dW.
fn linear(x: &Tensor, w: &Tensor, dy: &Tensor) -> (Tensor, Tensor, Vec<f32>) {
    let (rows, cols) = w.dims2().unwrap();
    let matrix = Matrix::new(rows, cols, flat(w), Precision::F32);
    let mut dx = InputGradient::new(x.dims());
    matrix.add_input_gradient(dy, &mut dx).unwrap();
    let mut dw = Cross::new(rows, cols, Precision::F32);
    dw.add(dy, x).unwrap();
    (matrix.matmul(x).unwrap(), dx.finish().unwrap(), dw.finish(1.0))
}

#[test]
fn products() {
    for name in ["linear", "linear_bias", "linear_wide", "linear_masked"] {
        let golden = Golden::read(name);
        let (x, dy) = (golden.tensor("x"), golden.tensor("dy"));
        let masked = name == "linear_masked";
        let w = if masked { (golden.tensor("w") * golden.tensor("mask")).unwrap() } else { golden.tensor("w") };
        let (mut y, dx, mut dw) = linear(&x, &w, &dy);
        if name == "linear_bias" {
            y = add_each(&y, &golden.tensor("b")).unwrap();
            golden.same("d_b", &bias_gradient(&dy).unwrap());
        }
        if masked {
            dw.iter_mut().zip(golden.floats("mask")).for_each(|(dw, mask)| *dw *= mask);
        }
        golden.same_tensor("y", &y);
        golden.same_tensor("d_x", &dx);
        golden.same("d_w", &dw);
    }
}

#[test]
fn norms() {
    for name in ["rms_norm", "rms_norm_heads"] {
        let golden = Golden::read(name);
        let (x, w, eps) = (golden.tensor("x"), golden.tensor("w"), golden.number("eps") as f32);
        golden.same_tensor("y", &rms(&x, &w, eps).unwrap());
        let (dx, dw) = rms_backward(&golden.tensor("dy"), &x, &w, eps).unwrap();
        golden.same_tensor("d_x", &dx);
        golden.same("d_w", &dw);
    }
    let golden = Golden::read("layer_norm");
    let (x, w, eps) = (golden.tensor("x"), golden.tensor("w"), golden.number("eps") as f32);
    golden.same_tensor("y", &layer(&x, &w, &golden.tensor("b"), eps).unwrap());
    let (dx, dw, db) = layer_backward(&golden.tensor("dy"), &x, &w, eps).unwrap();
    golden.same_tensor("d_x", &dx);
    golden.same("d_w", &dw);
    golden.same("d_b", &db);
    let golden = Golden::read("layer_norm_bare");
    let (x, one) = (golden.tensor("x"), Tensor::from_vec(vec![1f32; 16], 16, &Device::Cpu).unwrap());
    golden.same_tensor("d_x", &layer_backward(&golden.tensor("dy"), &x, &one, 1e-5).unwrap().0);
}

#[test]
fn positions_and_attention() {
    let golden = Golden::read("rope");
    let (cos, sin) = (golden.tensor("cos"), golden.tensor("sin"));
    golden.same_tensor("y", &rope(&golden.tensor("x"), &cos, &sin).unwrap());
    golden.same_tensor("d_x", &rope_backward(&golden.tensor("dy"), &cos, &sin).unwrap());
    for name in ["", "_groups", "_multi_query", "_window", "_alibi", "_one_token", "_long", "_long_window"] {
        let golden = Golden::read(&format!("attention{name}"));
        let [q, k, v] = ["q", "k", "v"].map(|name| golden.tensor(name));
        let scale = golden.number("scale");
        // The stored bias is divided by √d with the products.
        let bias = (name == "_alibi").then(|| (golden.tensor("bias") * scale).unwrap());
        let window = golden.settings["window"].as_u64().map(|window| window as usize);
        let scores = Scores { scale: scale as f32, window, bias: bias.as_ref() };
        let kept = causal_kept(&q, &k, &v, &scores).unwrap();
        golden.same_tensor("y", &kept.out);
        golden.same_tensor("lse", &kept.sums.transpose(1, 2).unwrap());
        let dy = golden.tensor("dy").reshape(kept.out.shape()).unwrap();
        let gradients = causal_backward(&dy, [&q, &k, &v], &kept, &scores).unwrap();
        for (name, gradient) in ["d_q", "d_k", "d_v"].iter().zip(&gradients) {
            golden.same_tensor(name, gradient);
        }
    }
}

#[test]
fn activations() {
    let golden = Golden::read("swiglu");
    let (gate, up) = (golden.tensor("gate"), golden.tensor("up"));
    golden.same_tensor("y", &swiglu(&gate, &up).unwrap());
    let [d_gate, d_up] = swiglu_backward(&golden.tensor("dy"), &gate, &up).unwrap();
    golden.same_tensor("d_gate", &d_gate);
    golden.same_tensor("d_up", &d_up);
    let golden = Golden::read("gelu");
    golden.same_tensor("y", &gelu(&golden.tensor("x")).unwrap());
    golden.same_tensor("d_x", &gelu_backward(&golden.tensor("dy"), &golden.tensor("x")).unwrap());
    let golden = Golden::read("relu");
    golden.same_tensor("y", &relu(&golden.tensor("x")).unwrap());
    golden.same_tensor("d_x", &relu_backward(&golden.tensor("dy"), &golden.tensor("x")).unwrap());
}

#[test]
fn ends_of_a_model() {
    let golden = Golden::read("embedding");
    let ids: Vec<u32> = golden.values("ids").iter().map(|&id| id as u32).collect();
    let mut table = vec![0f32; golden.values("table").len()];
    add_rows(&mut table, &ids, &golden.tensor("dy")).unwrap();
    golden.same("d_table", &table);

    let golden = Golden::read("cross_entropy_tied");
    let (h, table, targets) = (golden.tensor("h"), golden.tensor("table"), golden.targets());
    let valid = golden.number("valid");
    let logits = golden.tensor("logits").flatten(0, 1).unwrap();
    let (sum, dz) = cross_entropy(&logits, &targets, 1.0 / valid).unwrap();
    golden.same_loss(sum / valid);
    let (z, dh, d_table) = linear(&h, &table, &dz.reshape((2, 6, 20)).unwrap());
    golden.same_tensor("logits", &z);
    golden.same_tensor("d_h", &dh);
    golden.same("d_table", &d_table);
}

#[test]
fn losses() {
    let golden = Golden::read("mse");
    let (loss, dy) = squared_error(&golden.tensor("y"), &golden.tensor("target")).unwrap();
    golden.same_loss(loss);
    golden.same_tensor("d_y", &dy);

    let golden = Golden::read("squarehead");
    let valid: Vec<bool> = golden.values("valid").iter().map(|&valid| valid != 0.0).collect();
    let (student, teacher) = (golden.tensor("student"), golden.tensor("teacher"));
    let (loss, dy) = relative_squared_error(&student, &teacher, &valid, golden.number("eps")).unwrap();
    golden.same_loss(loss);
    golden.same_tensor("d_student", &dy);

    for name in ["distill_t1", "distill_t2", "distill_mix"] {
        let golden = Golden::read(name);
        let [z, teacher] = ["z", "teacher"].map(|name| golden.tensor(name).flatten(0, 1).unwrap());
        let targets = golden.targets();
        let marked: Vec<bool> = targets.iter().map(Option::is_some).collect();
        let (share, count) = (if name == "distill_mix" { 0.5 } else { 1.0 }, golden.number("valid"));
        let (sum, mut dz) = divergence(&z, &teacher, &marked, golden.number("temperature"), share / count).unwrap();
        let mut loss = share * sum / count;
        if share < 1.0 {
            let (sum, more) = cross_entropy(&z, &targets, 0.5 / count).unwrap();
            loss += 0.5 * sum / count;
            dz = add(&dz, &more).unwrap();
        }
        golden.same_loss(loss);
        golden.same_tensor("d_z", &dz);
    }
}

/// Adapters are made of products: y = x Wᵀ + s (x Aᵀ) Bᵀ, or x (M ∘ (W + s B A))ᵀ.
#[test]
fn adapters() {
    let golden = Golden::read("lora");
    let scale = golden.number("scaling");
    let [x, w, a, b, dy] = ["x", "w", "A", "B", "dy"].map(|name| golden.tensor(name));
    let scaled = (&dy * scale).unwrap();
    let narrow = Matrix::new(3, 12, flat(&a), Precision::F32).matmul(&x).unwrap();
    let (y_adapter, d_narrow, d_b) = linear(&narrow, &b, &scaled);
    let (_, dx_adapter, d_a) = linear(&x, &a, &d_narrow);
    let (y, dx, _) = linear(&x, &w, &dy);
    golden.same_tensor("y", &add(&y, &(y_adapter * scale).unwrap()).unwrap());
    golden.same_tensor("d_x", &add(&dx, &dx_adapter).unwrap());
    golden.same("d_A", &d_a);
    golden.same("d_B", &d_b);

    let golden = Golden::read("lora_masked");
    let [x, w, a, b, dy, mask] = ["x", "w", "A", "B", "dy", "mask"].map(|name| golden.tensor(name));
    let merged = ((w + (b.matmul(&a).unwrap() * scale).unwrap()).unwrap() * &mask).unwrap();
    let (y, dx, mut dw) = linear(&x, &merged, &dy);
    dw.iter_mut().zip(flat(&mask)).for_each(|(dw, mask)| *dw *= mask * scale as f32);
    // dB = s G Aᵀ and dA = s Bᵀ G, which are the products of a linear B with inputs Aᵀ and upstream Gᵀ.
    let turned = |x: &Tensor| x.t().unwrap().contiguous().unwrap();
    let g = Tensor::from_vec(dw, (8, 12), &Device::Cpu).unwrap();
    let (_, d_a, d_b) = linear(&turned(&a), &b, &turned(&g));
    golden.same_tensor("y", &y);
    golden.same_tensor("d_x", &dx);
    golden.same_tensor("d_A", &turned(&d_a));
    golden.same("d_B", &d_b);
}

#[test]
fn scales_of_codes() {
    let golden = Golden::read("scales");
    let (codes, zeros, scales) = (golden.values("codes"), golden.values("zeros"), golden.values("scales"));
    let (rows, cols, group) = (6, 16, golden.number("group") as usize);
    let at = |i: usize| i / cols * (cols / group) + i % cols / group;
    let units: Vec<f32> = (0..rows * cols).map(|i| (codes[i] - zeros[at(i)]) as f32).collect();
    let w: Vec<f32> = (0..rows * cols).map(|i| scales[at(i)] as f32 * units[i]).collect();
    let w = Tensor::from_vec(w, (rows, cols), &Device::Cpu).unwrap();
    let (y, dx, dw) = linear(&golden.tensor("x"), &w, &golden.tensor("dy"));
    golden.same_tensor("y", &y);
    golden.same_tensor("d_x", &dx);
    golden.same("d_scales", &Tiles { cols, height: 1, width: group, index: None }.sums(&dw, &units));
}

#[test]
fn steps_of_adam_with_clipping_and_a_mask() {
    let golden = Golden::read("adamw");
    let (mut p, mut n) = (golden.floats("p0"), golden.floats("n0"));
    let mut moments = [Moments::new(p.len()), Moments::new(n.len())];
    let list = |key: &str| -> Vec<f64> {
        golden.settings[key].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
    };
    let (rates, norms, factors) = (list("lr"), list("norms"), list("factors"));
    let decay = golden.settings["weight_decay"]["p"].as_f64().unwrap();
    let matrices = Adam { decay, ..Adam::default() };
    for step in 0..3 {
        let (gp, gn) = (golden.floats(&format!("g{step}")), golden.floats(&format!("gn{step}")));
        let norm = (square_sum(&gp) + square_sum(&gn)).sqrt();
        let factor = clip_factor(norm, golden.number("clip"));
        assert!((norm / norms[step] - 1.0).abs() < 1e-6 && (factor / factors[step] - 1.0).abs() < 1e-6);
        matrices.step(step + 1, rates[step], factor, &mut p, &gp, &mut moments[0]);
        Adam::default().step(step + 1, rates[step], factor, &mut n, &gn, &mut moments[1]);
        golden.same(&format!("p{}", step + 1), &p);
        golden.same(&format!("n{}", step + 1), &n);
        let [first, second] = moments[0].values();
        golden.same(&format!("m{}", step + 1), first);
        golden.same(&format!("v{}", step + 1), second);
        // What the mask removed is exactly 0, with either sign, in the weight and in both moments.
        for (i, mask) in golden.values("mask").into_iter().enumerate().filter(|(_, mask)| *mask == 0.0) {
            assert_eq!((p[i], first[i], second[i], mask), (0.0, 0.0, 0.0, 0.0));
        }
    }
}

#[test]
fn all_cases_are_compared() {
    let index: Value = serde_json::from_slice(&std::fs::read(folder().join("index.json")).unwrap()).unwrap();
    assert_eq!(index.as_array().unwrap().len(), 31);
}
