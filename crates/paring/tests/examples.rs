//! The examples, run on a small trained model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[allow(dead_code)]
#[path = "../examples/prune_with_observer.rs"]
mod prune_with_observer;
#[allow(dead_code)]
#[path = "../examples/quantize_and_evaluate.rs"]
mod quantize_and_evaluate;
#[allow(dead_code)]
#[path = "../examples/read_compressed.rs"]
mod read_compressed;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/trained/opt");

/// A folder with texts of words that the model knows: for calibration and for the test.
fn texts() -> (tempfile::TempDir, String, String) {
    let dir = tempfile::tempdir().unwrap();
    let tokenizer = std::fs::read_to_string(Path::new(MODEL).join("tokenizer.json")).unwrap();
    let tokenizer: serde_json::Value = serde_json::from_str(&tokenizer).unwrap();
    let words: Vec<&String> = tokenizer["model"]["vocab"].as_object().unwrap().keys().collect();
    let write = |name: &str, step: usize| {
        let text: Vec<&str> = (0..3000).map(|i| words[i * step % words.len()].as_str()).collect();
        let path = dir.path().join(name);
        std::fs::write(&path, text.join(" ")).unwrap();
        path.to_string_lossy().into_owned()
    };
    let (calibration, test) = (write("calibration.txt", 7), write("test.txt", 11));
    (dir, calibration, test)
}

fn tensors(model: &Path) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let mut tensors = BTreeMap::new();
    let insert = |name: &str, shape: &[usize], numbers: &[f32]| {
        tensors.insert(name.to_string(), (shape.to_vec(), numbers.to_vec()));
    };
    read_compressed::each_tensor(model, insert).unwrap();
    tensors
}

#[test]
fn a_model_is_quantized_measured_and_read_back() {
    let (dir, calibration, test) = texts();
    let out: PathBuf = dir.path().join("four-bit");
    let report = quantize_and_evaluate::quantize(MODEL, &calibration, &test, &out.to_string_lossy()).unwrap();
    assert!((4.0..5.0).contains(&report.bits_per_weight), "{}", report.bits_per_weight);
    let perplexity = report.perplexity.unwrap();
    assert_eq!(perplexity.dataset, test);
    assert!(perplexity.before.is_finite() && perplexity.after.is_finite() && perplexity.before != perplexity.after);
    // By the names of their matrices: `.weight` belongs to dense ones only.
    let plain = |name: &str| name.trim_end_matches(".weight").to_string();
    let (dense, made) = (tensors(Path::new(MODEL)), tensors(&out));
    let dense: BTreeMap<_, _> = dense.into_iter().map(|(name, tensor)| (plain(&name), tensor)).collect();
    let mut rounded = 0;
    for (name, (shape, numbers)) in &made {
        let (expected, original) = &dense[&plain(name)];
        assert_eq!(shape, expected, "{name}");
        rounded += usize::from(numbers != original);
    }
    assert_eq!(rounded, report.layers.len());
    assert_eq!(made.len(), dense.len());
}

#[test]
fn an_observer_hears_of_a_pruning_run() {
    let (dir, calibration, _) = texts();
    let out = dir.path().join("pruned");
    let (report, worst) = prune_with_observer::prune(MODEL, &calibration, &out.to_string_lossy()).unwrap();
    assert!((report.sparsity - 0.5).abs() < 0.01, "{}", report.sparsity);
    let errors = report.layers.iter().filter_map(|layer| Some((layer.error?, layer.name.as_str())));
    let most = errors.max_by(|(a, _), (b, _)| a.total_cmp(b)).unwrap();
    assert_eq!((worst.error, worst.name.as_str()), most);
    let (_, numbers) = &tensors(&out)[&format!("{}.weight", worst.name)];
    assert!(numbers.chunks_exact(4).all(|four| four.iter().filter(|number| **number == 0.0).count() >= 2));
}
