//! `paring bench` on the CPU: cases, a table and JSON.

mod support;

use serde_json::Value;

use support::*;

#[test]
fn the_cases_hold_and_operations_are_measured() {
    let sandbox = Sandbox::empty();
    let layers = golden("algorithms");
    let command =
        format!("bench --device cpu --check --golden {} --shapes tiny --ops gram,sweep-gptq --json", layers.display());
    let ran = sandbox.run(&command);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let lines: Vec<&str> = ran.stderr.lines().collect();
    assert_eq!(lines[0], "cpu");
    assert!(lines[1].contains(" cases hold: ") && lines[1].contains("205 layers"), "{}", lines[1]);
    assert!(lines.contains(&"| operation | shape | ms | floor ms | ratio | rate | at best |"), "{ran:?}");
    assert!(lines.iter().any(|line| line.starts_with("| sweep-gptq-g64 | 64 x 160 | ")), "{ran:?}");
    let value: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(value["check"]["failed"].as_array().map(Vec::len), Some(0));
    assert_eq!(value["check"]["layer_ties"], 0);
    let measured = value["benches"][0]["measured"].as_array().unwrap();
    assert_eq!(measured.len(), 2 + 2 * 3, "{measured:?}");
    for one in measured {
        let number = |key: &str| one[key].as_f64().unwrap();
        assert!((number("seconds") / number("floor") / number("ratio") - 1.0).abs() < 1e-9, "{one}");
        assert!(number("rate") > 0.0 && one["rate_of"] == "operations", "{one}");
    }
}

#[test]
fn what_cannot_be_measured_is_one_line() {
    let sandbox = Sandbox::empty();
    for (command, code, want) in [
        ("bench --ops nothing", 2, "error: --ops nothing: no such operation; there are gram, "),
        ("bench --shapes huge", 2, "huge"),
        ("bench --device gpu", 2, "expected auto, cpu, cuda or cuda:N"),
        ("bench --golden nowhere", 2, "--check"),
        ("bench --device cpu --check --golden nowhere --ops none", 1, "error: nowhere/index.json: "),
        ("bench --device cuda:4095 --ops none", -1, "--device cuda:4095: "),
    ] {
        let ran = sandbox.run(command);
        // Without CUDA in the build a GPU is misuse, with it the driver fails.
        let fits = if code < 0 { matches!(ran.code, Some(1 | 2)) } else { ran.code == Some(code) };
        assert!(fits && ran.stderr.contains(want), "{command}: {ran:?}");
    }
}
