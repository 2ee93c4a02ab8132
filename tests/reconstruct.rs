//! Blocks that are trained after they were compressed, through the binary.

mod support;

use paring_format::{Checkpoint, Values};
use serde_json::Value;
use support::*;

const FEW: &str = "--nsamples 16 --seqlen 128";

fn report(sandbox: &Sandbox, out: &str) -> Value {
    json_file(&sandbox.path(&format!("{out}/report.json")))
}

fn perplexity(report: &Value) -> f64 {
    report["perplexity"]["after"].as_f64().unwrap()
}

/// The blocks of a report, each with its error before and after.
fn blocks(report: &Value) -> Vec<(f64, f64)> {
    let number = |block: &Value, key: &str| block[key].as_f64().unwrap();
    let blocks = report["blocks"].as_array().unwrap().iter();
    blocks.map(|block| (number(block, "before"), number(block, "after"))).collect()
}

#[test]
fn a_pruned_model_comes_back_and_keeps_its_zeros() {
    let sandbox = Sandbox::empty();
    let run = format!("prune demo demo --method magnitude --pattern 2:4 {FEW} --eval demo --limit 8");
    sandbox.ok(&format!("{run} --quiet --out plain"));
    let told = sandbox.ok(&format!("{run} --reconstruct --out trained"));
    let text = format!("{}{}", told.stdout, told.stderr);
    assert!(text.contains("6 of 6 blocks trained, their error to "), "{text}");
    let (plain, trained) = (report(&sandbox, "plain"), report(&sandbox, "trained"));
    let found = blocks(&trained);
    assert_eq!(found.len(), 6);
    assert!(found.iter().all(|(before, after)| after < before), "{found:?}");
    // The errors of blocks fall by a third and less; what is left of that in perplexity is small, and of the right sign.
    assert!(perplexity(&trained) < perplexity(&plain), "{} and {}", perplexity(&trained), perplexity(&plain));
    assert!(plain.get("blocks").is_none() && trained["plan"]["reconstruct_steps"] == 64);
    // At most two of four weights, and norms that moved.
    let open = |out: &str| Checkpoint::open(&sandbox.path(out)).unwrap();
    let trained = open("trained");
    let gate = trained.read_linear("model.layers.0.mlp.gate_proj", 384, 128).unwrap();
    let Values::Dense(weights) = gate.values else { panic!("codes") };
    assert!(weights.chunks_exact(4).all(|group| group.iter().filter(|&&v| v != 0.0).count() <= 2));
    let norm = "model.layers.0.input_layernorm.weight";
    assert!(trained.read(norm).unwrap() != open("plain").read(norm).unwrap());
    sandbox.ok("verify trained");
}

#[test]
fn scales_of_a_quantized_model_are_trained() {
    let sandbox = Sandbox::empty();
    let run = format!("quantize demo demo --method rtn --wbits 3 --groupsize 32 {FEW}");
    sandbox.ok(&format!("{run} --quiet --eval demo --limit 8 --out plain"));
    sandbox.ok(&format!("{run} --quiet --reconstruct-steps 48 --eval demo --limit 8 --out trained"));
    let (plain, trained) = (report(&sandbox, "plain"), report(&sandbox, "trained"));
    assert!(perplexity(&trained) < perplexity(&plain), "{} and {}", perplexity(&plain), perplexity(&trained));
    // Codes are what they were.
    let read = |out: &str| {
        let checkpoint = Checkpoint::open(&sandbox.path(out)).unwrap();
        checkpoint.read_linear("model.layers.5.mlp.down_proj", 128, 384).unwrap().values
    };
    let (Values::Codes { codes, grid }, Values::Codes { codes: after, grid: trained }) =
        (read("plain"), read("trained"))
    else {
        panic!("no codes")
    };
    assert!(codes == after && grid.zeros == trained.zeros && grid.scales != trained.scales);
    sandbox.ok("verify trained");
}

#[test]
fn what_training_takes_is_estimated_and_what_cannot_be_is_refused() {
    let sandbox = Sandbox::empty();
    let run = format!("prune demo demo --pattern 2:4 {FEW} --dry-run --verbose");
    let told = |run: &str| {
        let ran = sandbox.ok(run);
        format!("{}{}", ran.stdout, ran.stderr)
    };
    assert!(!told(&run).contains("train"));
    assert!(told(&format!("{run} --reconstruct")).contains("train"));
    sandbox.refused(&format!("{run} --reconstruct-steps 0"), 2, &["--reconstruct-steps"]).unwrap();
    // Ranges of activations would be those from before the training.
    for ranged in ["--scheme FP8", "--wbits 4 --groupsize 32 --kv-cache fp8"] {
        let run = format!("quantize demo demo {ranged} {FEW} --reconstruct --dry-run");
        sandbox.refused(&run, 2, &["--reconstruct", "before blocks are trained"]).unwrap();
    }
    // One window is trained on and chooses.
    sandbox.ok("prune demo demo --pattern 2:4 --nsamples 1 --seqlen 64 --reconstruct-steps 2 --out one");
    assert_eq!(report(&sandbox, "one")["blocks"].as_array().unwrap().len(), 6);
}
