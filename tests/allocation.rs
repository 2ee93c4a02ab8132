//! Bits and sparsities of each layer, chosen by measuring under a budget for all.

mod support;

use std::collections::BTreeMap;

use serde_json::Value;
use support::*;

const DATA: &str = "--nsamples 8 --seqlen 64 --quiet";

/// The layers of a report, by name.
fn layers(report: &Value) -> BTreeMap<String, &Value> {
    let all = report["layers"].as_array().unwrap();
    all.iter().map(|layer| (layer["name"].as_str().unwrap().to_string(), layer)).collect()
}

fn number(layer: &Value, key: &str) -> f64 {
    layer[key].as_f64().unwrap()
}

/// The mean of a number of all layers over their weights.
fn mean(report: &Value, key: &str) -> f64 {
    let weights = |layer: &&Value| number(layer, "rows") * number(layer, "cols");
    let all = layers(report);
    all.values().map(|layer| number(layer, key) * weights(layer)).sum::<f64>() / all.values().map(weights).sum::<f64>()
}

/// Asserts that the layers of the sets that servers fuse have the same number.
fn fused_are_alike(report: &Value, key: &str) {
    let all = layers(report);
    for (name, layer) in &all {
        let first = [("k_proj", "q_proj"), ("v_proj", "q_proj"), ("up_proj", "gate_proj")];
        for (of, with) in first.into_iter().filter(|(of, _)| name.ends_with(of)) {
            let other = all[&name.replace(of, with)];
            // A few bytes of shapes are other shares of matrices of other sizes.
            assert!((number(layer, key) - number(other, key)).abs() < 0.05, "{name}");
        }
    }
}

#[test]
fn bits_on_disk_are_at_most_those_that_are_asked_for() {
    let sandbox = Sandbox::empty();
    let mut perplexities = Vec::new();
    for (options, least) in [
        ("--target-bits 3.5 --method gptq", 3.4),
        ("--target-bits 4 --method gptq --sym --groupsize 32", 3.9),
        ("--target-bits 5.5 --method rtn", 5.4),
    ] {
        let report = sandbox.json(&format!("quantize demo demo {options} {DATA} --out made --overwrite"));
        let target: f64 = options.split(' ').nth(1).unwrap().parse().unwrap();
        let bits = number(&report, "bits_per_weight");
        assert!(bits <= target && bits > least, "{options}: {bits}");
        assert!((mean(&report, "bits") - bits).abs() < 1e-6);
        fused_are_alike(&report, "bits");
        let kinds: Vec<f64> = layers(&report).values().map(|layer| number(layer, "bits").round()).collect();
        assert!(kinds.iter().any(|bits| *bits != kinds[0]), "{options}: all layers are alike");
        let said = report["notes"].to_string();
        assert!(said.contains("chosen by measuring: ") && said.contains("predicted divergence"), "{said}");
        assert_eq!(report["plan"]["allocation"]["bits"]["target"], target);
        sandbox.ok("verify made --quiet");
        perplexities.push(number(&sandbox.json("eval made demo --limit 4 --quiet"), "perplexity"));
    }
    let config = json_file(&sandbox.path("made/config.json"));
    assert!(config["quantization_config"]["config_groups"].as_object().unwrap().len() > 1);
    // More bits lose less.
    assert!(perplexities[2] < perplexities[0], "{perplexities:?}");
}

#[test]
fn groups_stay_as_they_are_asked_for() {
    let sandbox = Sandbox::empty();
    let run = format!("quantize demo demo --target-bits 4 --method gptq --groupsize 32 {DATA} --out made");
    sandbox.json(&run);
    let config = json_file(&sandbox.path("made/config.json"));
    let groups = config["quantization_config"]["config_groups"].as_object().unwrap();
    assert!(groups.values().all(|group| group["weights"]["group_size"] == 32), "{groups:?}");
}

#[test]
fn the_mean_sparsity_is_the_one_that_is_asked_for() {
    let sandbox = Sandbox::empty();
    for by in ["owl", "error"] {
        for method in ["sparsegpt", "wanda", "magnitude"] {
            let run = format!("prune demo demo --sparsity 0.5 --allocate {by} --method {method}");
            let report = sandbox.json(&format!("{run} {DATA} --out made --overwrite"));
            assert!((mean(&report, "sparsity") - 0.5).abs() < 0.01, "{run}: {}", mean(&report, "sparsity"));
            fused_are_alike(&report, "sparsity");
            let all = layers(&report);
            let shares: Vec<f64> = all.values().map(|layer| number(layer, "sparsity")).collect();
            let range = |of: &dyn Fn(&&&Value) -> bool| {
                let some: Vec<f64> = all.values().filter(of).map(|layer| number(layer, "sparsity")).collect();
                let most = some.iter().copied().fold(0.0, f64::max);
                most - some.iter().copied().fold(1.0, f64::min)
            };
            assert!(range(&|_| true) > 0.02, "{run}: {shares:?}");
            if by == "owl" {
                // Blocks differ, and their layers do not.
                assert!(range(&|layer| layer["block"] == 0) < 0.02, "{run}: {shares:?}");
            }
        }
    }
}

#[test]
fn what_cannot_be_chosen_is_refused_before_the_work() {
    let sandbox = Sandbox::empty();
    let refused = |arguments: &str, words: &[&str]| {
        sandbox.refused(&format!("{arguments} --out made"), 2, words).unwrap();
        assert!(!sandbox.path("made").exists());
    };
    refused("quantize demo demo --target-bits 12 --method gptq", &["--target-bits 12: must be 2.", " for this model"]);
    refused("quantize demo demo --target-bits 4 --method gptq --wbits 4", &["--target-bits 4", "--wbits 4"]);
    refused("quantize demo demo --target-bits 4 --method gptq --strict", &["--strict", "--target-bits"]);
    refused("prune demo demo --pattern 2:4 --allocate owl", &["--allocate needs --sparsity S"]);
    refused("prune demo demo --sparsity 0.5 --allocate luck", &["--allocate", "luck", "owl"]);
    sandbox.write("some.toml", "[[override]]\ntargets = [\"re:.*q_proj\"]\nwbits = 8\n");
    refused("quantize demo demo --target-bits 4 --method gptq --config some.toml", &["--target-bits", "override"]);
}

#[test]
fn a_dry_run_says_what_all_layers_will_take() {
    let sandbox = Sandbox::empty();
    let costs = |options: &str| sandbox.json(&format!("quantize demo demo {options} {DATA} --dry-run --out made"));
    let (chosen, alike) = (costs("--target-bits 4.5 --method gptq"), costs("--wbits 4 --groupsize 32 --sym"));
    let bytes = |costs: &Value| number(costs, "bytes_out");
    // The same bits per weight, but for shapes.
    assert!((bytes(&chosen) / bytes(&alike) - 1.0).abs() < 0.01, "{} and {}", bytes(&chosen), bytes(&alike));
    assert_eq!((&chosen["bytes_out_known"], &alike["bytes_out_known"]), (&Value::Bool(false), &Value::Bool(true)));
    let measuring =
        |costs: &Value| costs["stages"].as_array().unwrap().iter().any(|stage| stage["stage"] == "allocate");
    assert!(measuring(&chosen) && !measuring(&alike));
}
