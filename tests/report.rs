//! Reports of runs: report.json and report.html, and `paring report`.

mod support;

use std::fs;

use serde_json::{Value, json};
use support::{Sandbox, golden, json_file};

/// A golden Llama in 4 bits, and the same in 3 with other groups.
const RUNS: [&str; 2] = [
    "quantize model calib.safetensors --wbits 4 --groupsize 16 --nsamples 4 --seqlen 32 --out a --quiet",
    "quantize model calib.safetensors --wbits 3 --groupsize 8 --nsamples 4 --seqlen 32 --out b --quiet",
];

#[test]
fn a_run_leaves_its_report() {
    let sandbox = Sandbox::new();
    let printed = sandbox.json(&format!("{} --threads 1 --eval eval.safetensors --limit 3", RUNS[0]));
    let report = json_file(&sandbox.path("a/report.json"));
    assert_eq!(printed, report, "--json prints the report");
    assert_eq!((&report["version"], &report["method"], &report["out"]), (&json!(1), &json!("gptq"), &json!("a")));
    assert_eq!(report["plan"], json_file(&sandbox.path("a/paring.json"))["plan"]);
    assert!(json_file(&sandbox.path("a/paring.json")).get("report").is_none());
    let words: Vec<&str> = report["command"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    assert!(words[0].ends_with("paring") && words[1..4] == ["quantize", "model", "calib.safetensors"], "{words:?}");
    assert_eq!(words[words.len() - 3..], ["--limit", "3", "--json"]);
    assert_eq!((&report["environment"]["threads"], &report["device"]), (&json!(1), &json!("cpu")));
    assert!(report["started"].as_str().unwrap().len() == 20 && report["seconds"].as_f64().unwrap() > 0.0);

    // The contents of the files.
    let (before, after) = (sandbox.open("model"), sandbox.open("a"));
    assert_eq!(report["bytes_in"], before.total_bytes());
    assert_eq!(report["bytes_out"], after.total_bytes());
    for (side, total) in [("before", "bytes_in"), ("after", "bytes_out")] {
        let parts = report["size"][side].as_object().unwrap().values().map(|bytes| bytes.as_u64().unwrap());
        assert_eq!(parts.sum::<u64>(), report[total].as_u64().unwrap(), "{side}");
    }
    let bytes = |name: &str| before.info(name).unwrap().bytes() as u64;
    let outer = before.names().filter(|name| ["model.embed_tokens.weight", "lm_head.weight"].contains(name));
    assert_eq!(report["size"]["before"]["embeddings"], outer.map(bytes).sum::<u64>());
    assert_eq!(report["size"]["after"]["embeddings"], report["size"]["before"]["embeddings"]);
    assert_eq!(report["bits_before"], 32.0);
    for layer in report["layers"].as_array().unwrap() {
        let name = layer["name"].as_str().unwrap();
        let parts = name.split('.').collect::<Vec<_>>();
        assert_eq!((&layer["block"], &layer["kind"]), (&json!(parts[2].parse::<usize>().unwrap()), &json!(parts[4])));
        let weight = format!("{name}.weight");
        assert_eq!(
            before.info(&weight).unwrap().shape,
            [&layer["rows"], &layer["cols"]].map(|n| n.as_u64().unwrap() as usize)
        );
    }
    // Perplexity of both, as eval measures it.
    let measured = &report["perplexity"];
    assert_eq!((&measured["windows"], &measured["dataset"]), (&json!(3), &json!("eval.safetensors")));
    for (model, key) in [("model", "before"), ("a", "after")] {
        let eval = sandbox.json(&format!("eval {model} eval.safetensors --seqlen 32 --limit 3 --quiet"));
        assert_eq!(eval["perplexity"], measured[key], "{model}");
    }
}

#[test]
fn a_report_is_shown_and_its_page_rewritten() {
    let sandbox = Sandbox::new();
    sandbox.ok(RUNS[0]);
    let page = fs::read_to_string(sandbox.path("a/report.html")).unwrap();
    fs::remove_file(sandbox.path("a/report.html")).unwrap();
    let shown = sandbox.ok("report a").stdout;
    for part in [
        "command",
        "quantize model calib.safetensors",
        "bits per weight",
        "stage",
        "down_proj",
        "as a page: a/report.html",
    ] {
        assert!(shown.contains(part), "{part}\n{shown}");
    }
    assert_eq!(fs::read_to_string(sandbox.path("a/report.html")).unwrap(), page, "a function of report.json");
    let report = json_file(&sandbox.path("a/report.json"));
    for layer in report["layers"].as_array().unwrap() {
        let point = format!("<title>{}: ", layer["name"].as_str().unwrap());
        assert!(page.matches(&point).count() >= 2, "{point} in a chart and a map");
    }
    // The file will do, and the page may go elsewhere.
    let elsewhere = sandbox.json("report a/report.json --html page.html");
    assert_eq!(elsewhere, report);
    assert_eq!(fs::read_to_string(sandbox.path("page.html")).unwrap(), page);
    // An output made anew loses both, and gets new ones.
    sandbox.write("a/report.html", "old");
    sandbox.ok(&format!("{} --overwrite", RUNS[0]));
    assert!(fs::read_to_string(sandbox.path("a/report.html")).unwrap().starts_with("<!DOCTYPE html>"));
    // Notes of a report are shown.
    let shown = sandbox.ok(&format!("report {} --html golden.html", golden("report.json").display())).stdout;
    assert!(shown.contains("note: layers.1.up_proj: more damping") && shown.contains("8.500"), "{shown}");
}

#[test]
fn runs_are_held_against_each_other() {
    let sandbox = Sandbox::new();
    RUNS.iter().for_each(|run| drop(sandbox.ok(run)));
    let [a, b] = ["a", "b"].map(|run| json_file(&sandbox.path(run).join("report.json")));
    let difference = sandbox.json("report a b --html both.html");
    let plan: Vec<Value> = difference["plan"].as_array().unwrap().iter().map(|c| c["key"].clone()).collect();
    assert_eq!(plan, ["recipe.rounding.weights.group_size", "recipe.rounding.weights.num_bits"]);
    assert_eq!((&difference["plan"][1]["first"], &difference["plan"][1]["second"]), (&json!(4), &json!(3)));
    assert_eq!(difference["environment"], json!([]));
    let bytes = difference["numbers"].as_array().unwrap().iter().find(|n| n["name"] == "bytes_out").unwrap();
    let [of_a, of_b] = [&a, &b].map(|report| report["bytes_out"].as_f64().unwrap());
    assert_eq!(bytes["first"].as_f64().zip(bytes["second"].as_f64()), Some((of_a, of_b)));
    assert_eq!((bytes["difference"].as_f64(), &bytes["unit"]), (Some(of_b - of_a), &json!("bytes")));
    assert!((bytes["ratio"].as_f64().unwrap() - of_b / of_a).abs() < 1e-12);
    assert_eq!(difference["layers"].as_array().unwrap().len(), a["layers"].as_array().unwrap().len());
    let shown = sandbox.ok("report a b").stdout;
    for part in [
        "B: mean error +",
        "A  a    4-bit GPTQ in groups of 16",
        "B  b    3-bit GPTQ in groups of 8",
        "--wbits              4   3",
        "the same environment",
        "mean error by kind",
        "errors that differ most",
    ] {
        assert!(shown.contains(part), "{part}\n{shown}");
    }
    let page = fs::read_to_string(sandbox.path("both.html")).unwrap();
    assert!(page.contains("<h1>Comparison of a, b</h1>") && page.contains("Error of B relative to A"));
    assert!(!sandbox.ok("report a a").stdout.contains("differ most"));
}

#[test]
fn any_number_of_runs_is_compared() {
    let sandbox = Sandbox::empty();
    let mut report = json_file(&golden("report.json"));
    for (name, bits, perplexity) in [("a", 4.5, 8.5), ("b", 3.5, 9.25), ("c", 5.0, 8.75), ("d", 8.0, 8.25)] {
        report["out"] = json!(name);
        report["bits_per_weight"] = json!(bits);
        report["perplexity"]["after"] = json!(perplexity);
        report["plan"]["nsamples"] = json!(16.0 * bits);
        sandbox.write(&format!("{name}.json"), report.to_string());
    }
    let all = "report a.json b.json c.json d.json";
    let shown = sandbox.ok(all).stdout;
    for part in [
        "B: perplexity +0.75, the same size\n",
        "Best trade-offs of bits and perplexity: B (3.50 bits, 9.250), A (4.50 bits, 8.500), D (8.00 bits, 8.250)",
        "C  c    SpQR    5.00  1.00 MB       8.750  1 h 7 min  512 MiB",
        "--nsamples           72  56  80  128",
    ] {
        assert!(shown.contains(part), "{part}\n{shown}");
    }
    assert!(!sandbox.path("report.html").exists(), "a page only where one is asked for");
    let compared = sandbox.json(&format!("{all} --html all.html"));
    let runs = compared["runs"].as_array().unwrap();
    let best: Vec<&Value> = runs.iter().filter(|run| run["best"] == true).map(|run| &run["label"]).collect();
    assert_eq!((runs.len(), best), (4, vec![&json!("A"), &json!("B"), &json!("D")]));
    assert_eq!(
        (&runs[1]["out"], &runs[1]["perplexity"], &compared["measure"]),
        (&json!("b"), &json!(9.25), &json!("perplexity"))
    );
    assert_eq!(compared["options"], json!([{"option": "nsamples", "values": ["72", "56", "80", "128"]}]));
    assert_eq!(compared["layers"], json!([]), "all errors are the same");
    let page = fs::read_to_string(sandbox.path("all.html")).unwrap();
    assert!(
        page.contains("<h1>Comparison of 4 runs</h1>") && page.contains("<title id=\"runs-title\">Bits and perplexity")
    );
    // Perplexities of other tokens are not compared; errors of the same model are.
    report["perplexity"]["seqlen"] = json!(7);
    sandbox.write("d.json", report.to_string());
    assert_eq!(sandbox.json(all)["measure"], json!("error"));
    report["plan"]["model"] = json!("another");
    sandbox.write("d.json", report.to_string());
    assert_eq!(sandbox.json(all)["measure"], Value::Null);
    assert!(sandbox.ok(all).stdout.contains("The runs had different inputs"));
    // Some number is too large.
    let many = format!("report{}", " a.json".repeat(65));
    sandbox.refused(&many, 2, &["65 runs, expected at most 64"]).unwrap();
}

#[test]
fn what_is_no_report_is_one_line() {
    let sandbox = Sandbox::empty();
    let good = fs::read_to_string(golden("report.json")).unwrap();
    sandbox.write("good.json", &good);
    sandbox.write("damaged.json", &good[..700]);
    sandbox.write("next.json", good.replace("\"version\": 1", "\"version\": 2"));
    sandbox.write("other.json", r#"{"model_type": "llama"}"#);
    sandbox.write("worse.json", good.replace("\"seconds\": 4000.0", "\"seconds\": \"4000\""));
    fs::create_dir(sandbox.path("empty")).unwrap();
    let mut wrong = Vec::new();
    for (arguments, code, words) in [
        ("report nowhere", 1, &["nowhere: not found"][..]),
        ("report empty", 1, &["empty/report.json: not found", "finished run"]),
        ("report damaged.json", 1, &["damaged.json: not valid JSON", "line"]),
        ("report next.json", 1, &["next.json: a report of version 2, expected 1"]),
        ("report other.json", 1, &["other.json: has no version"]),
        ("report worse.json", 1, &["worse.json: not a report of version 1", "string \"4000\""]),
        ("report good.json nowhere", 1, &["nowhere: not found"]),
        ("report good.json damaged.json", 1, &["damaged.json: not valid JSON"]),
        ("report good.json --html empty", 2, &["--html empty: is a folder"]),
        ("report good.json --html empty/no/page.html", 1, &["empty/no/page.html"]),
        ("report", 2, &["RUN"]),
        ("report good.json good.json damaged.json", 1, &["damaged.json: not valid JSON"]),
    ] {
        wrong.extend(sandbox.refused(arguments, code, words).err());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert!(!sandbox.path("report.html").exists(), "no page of what is no report");
}

/// The contents of the files are tested beside the code.
#[test]
fn other_programs_get_the_numbers_too() {
    let sandbox = Sandbox::new();
    sandbox.ok(RUNS[0]);
    let shown = sandbox.ok("report a --tensorboard runs --wandb wandb").stdout;
    let path = |front: &str| {
        let line = shown.lines().find_map(|line| line.strip_prefix(front));
        line.unwrap_or_else(|| panic!("no {front} in {shown}")).to_string()
    };
    let events = path("for TensorBoard: ");
    assert!(events.starts_with("runs/a/events.out.tfevents."), "{events}");
    let bytes = fs::read(sandbox.path(&events)).unwrap();
    assert!(
        bytes.windows(13).any(|word| word == b"brain.Event:2") && bytes.windows(12).any(|word| word == b"error/q_proj")
    );
    let run = path("for Weights & Biases: wandb sync ");
    let (front, id) = run.rsplit_once('-').unwrap();
    assert!(front.starts_with("wandb/offline-run-2"), "{run}");
    let log = sandbox.path(&format!("{run}/run-{id}.wandb"));
    let bytes = fs::read(&log).unwrap();
    assert!(bytes.starts_with(b":W&B") && bytes.windows(12).any(|word| word == b"error/q_proj"));
    // A second time it is the same run.
    sandbox.ok("report a --tensorboard runs --wandb wandb");
    assert_eq!(fs::read(&log).unwrap(), bytes);
    for folder in ["runs", "runs/a", "wandb"] {
        assert_eq!(fs::read_dir(sandbox.path(folder)).unwrap().count(), 1, "{folder}");
    }
    sandbox.write("file", "");
    for option in ["--tensorboard", "--wandb"] {
        sandbox.refused(&format!("report a a {option} runs"), 2, &[option, "OTHER"]).unwrap();
        sandbox.refused(&format!("report a {option} file"), 1, &["file/", "Not a directory"]).unwrap();
    }
}

/// A golden report as `golden.json`, and the same with a change as `r.json`.
struct Reports {
    sandbox: Sandbox,
    golden: Value,
}

impl Reports {
    fn new() -> Self {
        let (sandbox, golden) = (Sandbox::empty(), json_file(&golden("report.json")));
        sandbox.write("golden.json", golden.to_string());
        Self { sandbox, golden }
    }

    fn change(&self, change: &dyn Fn(&mut Value)) {
        let mut report = self.golden.clone();
        change(&mut report);
        self.sandbox.write("r.json", report.to_string());
    }
}

/// All ways to look at one.
const LOOKS: [&str; 4] = [
    "report r.json --html r.html",
    "report r.json --html r.html --tensorboard t --wandb w",
    "report golden.json r.json --html both.html",
    "report golden.json r.json golden.json r.json --html many.html",
];

#[test]
fn numbers_that_no_run_has_are_drawn_all_the_same() {
    let reports = Reports::new();
    let looked = |change: &dyn Fn(&mut Value)| {
        reports.change(change);
        LOOKS.iter().for_each(|run| drop(reports.sandbox.ok(run)));
    };
    for (key, value) in [
        ("error", "1e-320"),
        ("error", "1e308"),
        ("error", "-1.0"),
        ("error", "0.0"),
        ("error", "null"),
        ("baseline_error", "1e308"),
        ("baseline_error", "1e-320"),
        ("bits", "1e308"),
        ("sparsity", "-1e308"),
        ("rows", "18446744073709551615"),
        ("cols", "18446744073709551615"),
        ("outliers", "18446744073709551615"),
        ("block", "10000"),
        ("dead", "18446744073709551615"),
        ("seconds", "1e308"),
        ("seconds", "-5"),
        ("damp", "1e308"),
    ] {
        looked(&|report| report["layers"][0][key] = serde_json::from_str(value).unwrap());
        looked(&|report| {
            for layer in report["layers"].as_array_mut().unwrap() {
                layer[key] = serde_json::from_str(value).unwrap();
            }
        });
    }
    for key in ["seconds", "peak_rss_mib", "bits_before", "bits_per_weight", "sparsity", "outlier_share"] {
        for value in ["1e308", "-1e308", "1e-320", "0"] {
            looked(&|report| report[key] = serde_json::from_str(value).unwrap());
        }
    }
    looked(&|report| report["layers"] = json!([]));
}

#[test]
fn reports_of_no_run_are_refused() {
    let reports = Reports::new();
    let (sandbox, golden) = (&reports.sandbox, &reports.golden);
    let nested = (0..40).fold(json!(1), |inner, _| json!({"a": inner}));
    let layer = |i: usize| {
        let mut layer = golden["layers"][0].clone();
        layer["kind"] = json!(format!("kind{i}"));
        layer
    };
    let kinds: Vec<Value> = (0..1000).map(layer).collect();
    let stages = vec![golden["stages"][0].clone(); 1000];
    let many: serde_json::Map<String, Value> = (0..100_001).map(|i| (i.to_string(), json!(1))).collect();
    type Case<'a> = (&'a dyn Fn(&mut Value), &'a str);
    let cases: [Case; 7] = [
        (&|r| r["layers"][0]["block"] = json!(i64::MAX), "block 9223372036854775807, expected at most 10000"),
        (&|r| r["layers"][0]["block"] = json!(10_001), "block 10001"),
        (&|r| r["layers"] = json!(kinds), "1000 kinds"),
        (&|r| r["stages"] = json!(stages), "1000 stages"),
        (&|r| r["plan"] = json!(many), "a plan of more"),
        (&|r| r["plan"]["x"] = nested.clone(), "a plan of more"),
        (&|r| r["plan"] = json!({"k".repeat(1000): 1}), "a plan of more"),
    ];
    for (change, words) in cases {
        reports.change(change);
        LOOKS.iter().for_each(|run| sandbox.refused(run, 1, &["r.json", words]).unwrap());
    }
    for (text, words) in
        [("[".repeat(100_000), "not valid JSON"), ("".into(), "not valid JSON"), ("{}".into(), "no version")]
    {
        sandbox.write("r.json", text);
        sandbox.refused(LOOKS[0], 1, &["r.json", words]).unwrap();
    }
    #[cfg(unix)]
    {
        fs::remove_file(sandbox.path("r.json")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", sandbox.path("r.json")).unwrap();
        sandbox.refused(LOOKS[0], 1, &["a device or a pipe"]).unwrap();
    }
}

/// The card that a hub shows of an output; one that somebody changed is kept.
#[test]
fn a_model_card() {
    let sandbox = Sandbox::new();
    sandbox.write("model/README.md", "---\nlicense: apache-2.0\nlanguage: en\ntags: [chat]\n---\n# Base\n");
    let place = sandbox.path("").display().to_string();
    let run = format!("quantize {place}/model calib.safetensors --wbits 4 --groupsize 16 --sym --quiet --out out");
    sandbox.ok(&format!("{run} --eval eval.safetensors --seqlen 32 --limit 4"));
    let read = |name: &str| fs::read_to_string(sandbox.path("out").join(name)).unwrap();
    let card = read("README.md");
    let front = "---\nlibrary_name: transformers\npipeline_tag: text-generation\nlicense: apache-2.0\nlanguage:\n- en\ntags:\n\
        - paring\n- compressed-tensors\n- W4A16\n---\n\n# model, W4A16\n";
    assert!(card.starts_with(front), "{card}");
    let report = json_file(&sandbox.path("out/report.json"));
    let [before, after] = ["before", "after"].map(|when| report["perplexity"][when].as_f64().unwrap());
    for part in [
        format!("| perplexity, eval.safetensors, 4 windows of 32 tokens | {before:.3} | {after:.3} |"),
        "    paring quantize model calib.safetensors --wbits 4".to_string(),
        "![Error of each block](layer-errors.svg)".to_string(),
        "AutoModelForCausalLM.from_pretrained".to_string(),
        "vllm serve".to_string(),
    ] {
        assert!(card.contains(&part), "{part}: {card}");
    }
    assert!(!card.contains(&place) && read("layer-errors.svg").contains("<svg "), "{card}");
    sandbox.ok("verify out --quiet");
    // As it was written it is replaced, changed it is kept.
    sandbox.ok(&format!("{run} --overwrite"));
    assert!(!sandbox.path("out/README.md.kept").exists() && read("README.md").contains("was not measured"));
    sandbox.write("out/README.md", "mine");
    let ran = sandbox.ok(&format!("{run} --overwrite"));
    assert!(ran.stderr.contains("it is kept as README.md.kept"), "{}", ran.stderr);
    assert!(read("README.md.kept") == "mine" && read("README.md").starts_with(front));
}
