//! Reports are read back as they were written, others are refused, and differences of two are found.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use super::difference::{Difference, NumberDifference, ValueDifference, leaves};
use super::*;

/// A report of two blocks with two linears each. JSON holds its numbers exactly.
pub(crate) fn report() -> Report {
    let layer = |block: usize, kind: &str, error: f64| LayerReport {
        name: format!("model.layers.{block}.mlp.{kind}"),
        block,
        kind: kind.to_string(),
        method: "gptq".into(),
        format: "pack-quantized".into(),
        rows: 8,
        cols: 16,
        bits: 4.5,
        sparsity_before: 0.0,
        sparsity: 0.25,
        formula_bits: None,
        outliers: 0,
        error: Some(error),
        baseline_error: Some(1.0),
        fallback: block == 1,
        damp: Some(0.0078125),
        repairs: vec!["more damping".into()],
        dead: 1,
        underflow: None,
        changes: vec![Change { step: "mask".into(), before: 0.5, after: 0.25 }],
        seconds: 0.5,
    };
    Report {
        blocks: Vec::new(),
        version: VERSION,
        out: "out".into(),
        method: "gptq".into(),
        place: DeviceReport { device: "cpu".into(), device_name: "cpu".into(), peak_vram_mib: None },
        started: "2026-01-31T23:59:59Z".into(),
        seconds: 2.5,
        peak_rss_mib: 100.0,
        command: ["paring", "quantize", "a model"].map(String::from).to_vec(),
        environment: Environment {
            program: "paring 0.1.0".into(),
            system: "Linux 6.1, x86_64".into(),
            cpu: "a processor".into(),
            instructions: vec!["avx2".into()],
            arithmetic: vec!["avx2 on x86_64 linux".into()],
            cores: 2,
            threads: 2,
            memory_mib: 4096.0,
        },
        plan: json!({"model": "a model", "recipe": {"method": "gptq", "percdamp": 0.0078125}, "ignore": [], "seed": 0}),
        bits_before: 16.0,
        bits_per_weight: 4.5,
        formula_bits: None,
        published_bits: None,
        sparsity: 0.25,
        outlier_share: 0.0,
        bytes_in: 4096,
        bytes_out: 1024,
        size: Size {
            before: Sizes { embeddings: 1024, linears: 2048, rest: 1024 },
            after: Sizes { embeddings: 512, linears: 256, rest: 256 },
        },
        tasks: None,
        perplexity: Some(PerplexityReport { before: 8.0, after: 10.0, dataset: "demo".into(), windows: 4, seqlen: 32 }),
        notes: vec!["damping was raised".into()],
        layers: vec![
            layer(0, "up_proj", 0.125),
            layer(0, "down_proj", 0.25),
            layer(1, "up_proj", 0.5),
            layer(1, "down_proj", 0.0),
        ],
        stages: vec![StageReport {
            stage: "sweep".into(),
            seconds: 1.5,
            gigaflop: 3.0,
            gigaflop_per_second: Some(2.0),
            peak_rss_mib: 96.0,
        }],
    }
}

#[test]
fn what_is_written_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut report = report();
    report.write(dir.path()).unwrap();
    assert_eq!(Report::read(dir.path()).unwrap(), report);
    assert_eq!(Report::read(&dir.path().join("report.json")).unwrap(), report);
    // Written again, in place of the first; what JSON cannot hold comes back as what it was.
    report.perplexity.as_mut().unwrap().after = f64::NAN;
    report.place.peak_vram_mib = Some(12.0);
    report.write(dir.path()).unwrap();
    let back = Report::read(dir.path()).unwrap();
    assert!(back.perplexity.is_some_and(|p| p.after.is_nan() && p.before == 8.0));
    assert_eq!(back.place.peak_vram_mib, Some(12.0));
    let files: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(files, ["report.json"]);
}

#[test]
fn zeros_of_rounding_are_no_pruning() {
    let mut report = report();
    report.layers.iter_mut().for_each(|layer| layer.sparsity = 0.6);
    assert!(!report.is_pruned());
    report.layers[0].sparsity_before = 0.7;
    assert!(!report.is_pruned());
    report.layers.iter_mut().for_each(|layer| layer.sparsity_before = 0.5);
    assert!(report.is_pruned());
    report.layers.clear();
    assert!(!report.is_pruned());
    report.plan["recipe"]["pattern"] = json!({"nof_m": {"keep": 2, "of": 4}});
    assert!(report.is_pruned());
}

#[test]
fn what_is_no_report_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("report.json");
    let error = || Report::read(dir.path()).unwrap_err().to_string();
    assert!(error().contains("report.json: not found; give the output folder"), "{}", error());
    let good = json!(report());
    let changed = |key: &str, to: Value| {
        let mut value = good.clone();
        value[key] = to;
        value.to_string()
    };
    let long = "9".repeat(1000);
    let mut less = good.clone();
    less.as_object_mut().unwrap().remove("plan");
    for (text, words) in [
        (good.to_string()[..900].to_string(), "not valid JSON: EOF"),
        ("{}".into(), "has no version, expected 1"),
        ("[]".into(), "has no version, expected 1"),
        (changed("version", json!(2)), "a report of version 2, expected 1"),
        (changed("version", json!(long)), "a report of version \"9999999999999999999…, expected 1"),
        (less.to_string(), "not a report of version 1: missing field `plan`"),
        (changed("layers", json!([{"name": 7}])), "invalid type: integer `7`, expected a string"),
        (changed("seconds", json!("soon")), "invalid type: string \"soon\", expected f64"),
    ] {
        fs::write(&file, &text).unwrap();
        assert!(error().contains(words) && error().contains("report.json: "), "{words}: {}", error());
        assert_eq!(error().lines().count(), 1);
    }
    // Not even read to its end.
    fs::File::create(&file).unwrap().set_len(1 << 40).unwrap();
    assert!(error().contains("larger than 64 MiB"), "{}", error());
}

#[test]
fn differences_are_those_computed_by_hand() {
    let first = report();
    let mut second = first.clone();
    second.plan = json!({"model": "a model", "recipe": {"method": "rtn"}, "ignore": [], "seed": 0, "more": [{"a": 1}]});
    second.environment.threads = 1;
    second.perplexity = None;
    (second.seconds, second.peak_rss_mib, second.bytes_out) = (5.0, 50.0, 2048);
    second.sparsity = 0.0;
    second.layers[0].error = Some(0.375); // 3 times
    second.layers[1].error = Some(0.0625); // a quarter
    second.layers[2].error = None;
    second.layers[2].bits = 6.5;
    second.layers.remove(3);
    second.layers.push(LayerReport { name: "model.layers.1.mlp.gate_proj".into(), ..second.layers[0].clone() });
    second.stages[0].seconds = 0.75;
    let d = Difference::between(&first, &second);
    let choice = |key: &str, first: Value, second: Value| ValueDifference { key: key.into(), first, second };
    assert_eq!(
        d.plan,
        [
            choice("recipe.method", json!("gptq"), json!("rtn")),
            choice("recipe.percdamp", json!(0.0078125), Value::Null),
            choice("more.0.a", Value::Null, json!(1)),
        ]
    );
    assert_eq!(d.environment, [choice("threads", json!(2), json!(1))]);
    let number = |name: &str| d.numbers.iter().find(|n| n.name == name).unwrap();
    let values = |n: &NumberDifference| [n.first, n.second, n.difference, n.ratio];
    assert_eq!(values(number("perplexity")), [Some(10.0), None, None, None]);
    assert_eq!(values(number("seconds")), [Some(2.5), Some(5.0), Some(2.5), Some(2.0)]);
    assert_eq!(values(number("bytes_out")), [Some(1024.0), Some(2048.0), Some(1024.0), Some(2.0)]);
    assert_eq!(values(number("sparsity")), [Some(0.25), Some(0.0), Some(-0.25), Some(0.0)]);
    assert_eq!(values(number("peak_rss_mib")), [Some(100.0), Some(50.0), Some(-50.0), Some(0.5)]);
    // (1/8 + 1/4 + 1/2 + 0) / 4, and (3/8 + 1/16 + 3/8) / 3.
    assert_eq!(
        values(number("error")),
        [Some(0.21875), Some(0.8125 / 3.0), Some(0.8125 / 3.0 - 0.21875), { Some(0.8125 / 3.0 / 0.21875) }]
    );
    assert!(d.numbers.iter().all(|n| n.name != "peak_vram_mib" && n.name != "outlier_share"), "neither has one");
    assert_eq!(d.stages.iter().map(values).collect::<Vec<_>>(), [[Some(1.5), Some(0.75), Some(-0.75), Some(0.5)]]);
    // The kinds, of the layers with two errors; the layers, by ratio, then by bits.
    let kinds: Vec<_> = d.kinds.iter().map(|n| (n.name.as_str(), n.first, n.second)).collect();
    assert_eq!(kinds, [("down_proj", Some(0.25), Some(0.0625)), ("up_proj", Some(0.125), Some(0.375))]);
    let layers: Vec<_> =
        d.layers.iter().map(|l| (l.block, l.kind.as_str(), l.error.ratio, l.bits.difference)).collect();
    assert_eq!(
        layers,
        [
            (0, "down_proj", Some(0.25), Some(0.0)),
            (0, "up_proj", Some(3.0), Some(0.0)),
            (1, "up_proj", None, Some(2.0))
        ]
    );
    assert_eq!(d.only_first, ["model.layers.1.mlp.down_proj"]);
    assert_eq!(d.only_second, ["model.layers.1.mlp.gate_proj"]);
    let same = Difference::between(&first, &first);
    assert!(same.plan.is_empty() && same.environment.is_empty() && same.only_first.is_empty());
    assert!(same.numbers.iter().chain(&same.kinds).all(|n| n.difference == Some(0.0)));
}

#[test]
fn leaves_have_their_paths() {
    let value = json!({"a": {"b": [1, 2], "c": {}}, "d": [{"e": null}, {"e": "x"}], "f": []});
    let want =
        [("a.b", json!([1, 2])), ("a.c", json!({})), ("d.0.e", Value::Null), ("d.1.e", json!("x")), ("f", json!([]))];
    assert_eq!(leaves(&value), want.map(|(key, value)| (key.to_string(), value)));
}

#[test]
fn commands_can_be_pasted_into_a_shell() {
    let words = ["paring", "a b", "it's", "", "--out=$HOME", "x:1/2.3"].map(String::from);
    let line = quoted(&words);
    assert_eq!(line, r#"paring 'a b' 'it'\''s' '' '--out=$HOME' x:1/2.3"#);
    let shell = std::process::Command::new("sh").args(["-c", &format!("printf '%s\\n' {line}")]).output();
    // A shell, if there is one, agrees.
    if let Ok(ran) = shell {
        assert_eq!(String::from_utf8(ran.stdout).unwrap().lines().collect::<Vec<_>>(), words);
    }
}

#[test]
fn stages_know_their_memory() {
    let mut clock = Clock::default();
    clock.add(Stage::Read, Instant::now() - Duration::from_secs(1), 0.0);
    let big = vec![1u8; 64 << 20];
    clock.add(Stage::Sweep, Instant::now() - Duration::from_secs(1), 2e9);
    let stages = clock.stages();
    assert_eq!(stages.iter().map(|s| s.stage.as_str()).collect::<Vec<_>>(), ["read", "sweep"]);
    // Memory of the second stage is seen in it, on systems that say.
    if peak_rss_mib() > 0.0 {
        assert!(stages[1].peak_rss_mib >= 64.0 && stages[0].peak_rss_mib > 0.0, "{stages:?}");
        assert!(stages.iter().all(|s| s.peak_rss_mib <= peak_rss_mib()), "{stages:?}");
    }
    assert_eq!(big.iter().map(|&b| u64::from(b)).sum::<u64>(), 64 << 20);
}
