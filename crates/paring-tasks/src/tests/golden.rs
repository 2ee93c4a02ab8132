use std::collections::BTreeSet;

use paring_data::tokenizer::tokenizer;
use paring_data::{Isolation, Tokenizer};
use paring_format::Checkpoint;
use serde_json::{Value, json};

use super::{folder, golden, words};
use crate::document::Document;
use crate::files::Finder;
use crate::request::Score;
use crate::results::{Sample, TaskResult};
use crate::work::Texts;
use crate::{Options, Plan, Protocol};

/// Files of `results`, without that of a model which is not in the repository.
const RESULTS: [&str; 9] = [
    "demo",
    "demo.2-shot",
    "trained_opt",
    "trained_falcon",
    "bytes",
    "bytes.add-bos",
    "bytes.separate",
    "pieces",
    "pieces.no-bos",
];

fn lines(path: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(golden(path)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The same requests, as text.
#[test]
fn requests_are_those_of_the_harness() {
    let names = [
        "winogrande",
        "piqa",
        "hellaswag",
        "arc_easy",
        "arc_challenge",
        "openbookqa",
        "boolq",
        "lambada_openai",
        "mmlu_anatomy",
        "wikitext",
    ];
    let plan = Plan::new(names).unwrap();
    let (dir, mut compared) = (golden(""), 0);
    for task in plan.tasks() {
        for (shots, file) in [(0, "requests.jsonl"), (2, "requests.2-shot.jsonl")] {
            if task.name == "wikitext" && shots > 0 {
                continue;
            }
            let options = Options { shots, ..Options::default() };
            let texts = Texts::read(task, &options, &Finder::new(&folder(&dir))).unwrap();
            let want = lines(&format!("{}/{file}", task.name));
            assert_eq!(texts.documents.len(), want.len(), "{}", task.name);
            for (number, (loaded, want)) in texts.documents.iter().zip(&want).enumerate() {
                let got = match &loaded.document {
                    Document::Page { text, .. } => json!({"text": text}),
                    Document::Article(_) => panic!("{} makes no requests", task.name),
                    Document::Choices(choices) => {
                        let pairs = texts.pairs(number);
                        let pairs: Vec<_> = pairs.iter().map(|pair| [&pair.context, &pair.continuation]).collect();
                        json!({"gold": choices.gold, "requests": pairs})
                    }
                };
                for (key, got) in got.as_object().unwrap() {
                    assert_eq!(*got, want[key], "{} {number}, {shots} examples: {key}", task.name);
                    compared += 1;
                }
            }
        }
    }
    assert_eq!(compared, 2 * 2 * (8 * 24 + 8) + 6);
}

/// The tokenizer of a row of results.
fn tokenizer_of(model: &str) -> Tokenizer {
    match model.split(' ').next().unwrap() {
        // All three have the same one.
        "crates/paring-cli/demo" | "tests/golden/trained/opt" | "tests/golden/trained/falcon" => words(),
        model => tokenizer(&Checkpoint::open(&golden(model)).unwrap(), &Isolation::Thread).unwrap(),
    }
}

/// The stored answers, in the order of the requests.
fn answers(document: &Value) -> &Vec<Value> {
    document.get("requests").or(document.get("windows")).and_then(Value::as_array).unwrap()
}

fn score(answer: &Value) -> Score {
    Score {
        loglikelihood: answer["loglikelihood"].as_f64().unwrap(),
        is_greedy: answer.get("is_greedy").is_some_and(|greedy| greedy.as_bool().unwrap()),
    }
}

/// The same tokens, and the same part in each metric.
fn compare_document(got: &Sample, want: &Value, what: &str) {
    for (k, (got_one, want_one)) in got.requests.iter().zip(answers(want)).enumerate() {
        let context = got_one.context.as_ref().or(got.context.as_ref());
        let want_context = want_one.get("context").or(want.get("context")).unwrap();
        assert_eq!(json!(context), *want_context, "{what}, request {k}: context");
        assert_eq!(json!(got_one.continuation), want_one["continuation"], "{what}, request {k}: continuation");
    }
    assert_eq!(got.requests.len(), answers(want).len(), "{what}");
    for name in ["acc", "acc_norm"] {
        assert_eq!(got.values.get(name).copied(), want.get(name).and_then(Value::as_f64), "{what}: {name}");
    }
}

/// Log-likelihoods are stored with 9 digits, so what is an exponential of their sums has 7; all else is exact but for the order of
/// sums.
fn compare_metrics(got: &TaskResult, want: &Value, what: &str) {
    let mut known = BTreeSet::from(["version", "docs"].map(String::from));
    assert_eq!(json!(got.version), want["version"], "{what}");
    for metric in &got.metrics {
        let tolerance = if metric.metric.starts_with("acc") { 1e-12 } else { 1e-7 };
        let near = |got: f64, want: &Value| {
            let want = want.as_f64().unwrap();
            assert!((got - want).abs() <= tolerance * want.abs(), "{what}: {}: {got}, expected {want}", metric.metric);
        };
        near(metric.value, &want[&metric.metric]);
        let stderr = format!("{}_stderr", metric.metric);
        assert_eq!(metric.stderr.is_some(), want.get(&stderr).is_some(), "{what}: {stderr}");
        if let Some(got) = metric.stderr {
            near(got, &want[&stderr]);
        }
        known.extend([metric.metric.clone(), stderr]);
    }
    let unknown: Vec<&String> = want.as_object().unwrap().keys().filter(|key| !known.contains(*key)).collect();
    assert!(unknown.is_empty(), "{what}: {unknown:?}");
}

fn compare_run(name: &str) -> usize {
    let row: Value = serde_json::from_slice(&std::fs::read(golden(&format!("results/{name}.json"))).unwrap()).unwrap();
    let separate = row.get("encoding").is_some_and(|encoding| encoding == "separate");
    let options = Options {
        shots: row.get("num_fewshot").map_or(0, |shots| shots.as_u64().unwrap() as usize),
        protocol: if separate { Protocol::Spqr } else { Protocol::Harness },
        add_bos: row.get("add_bos_token").map(|add| add.as_bool().unwrap()),
        bootstrap: if name == "demo" { 100_000 } else { 1000 },
        ..Options::default()
    };
    let tasks = row["tasks"].as_object().unwrap();
    let plan = Plan::new(tasks.keys().map(String::as_str)).unwrap();
    let tokenizer = tokenizer_of(row["model"].as_str().unwrap());
    let longest = row["max_length"].as_u64().unwrap() as usize;
    let work = plan.prepare(&options, &folder(&golden("")), &tokenizer, longest).unwrap();
    let documents: Vec<&Value> = tasks.values().flat_map(|task| task["docs"].as_array().unwrap()).collect();
    let scores: Vec<Score> = documents.iter().flat_map(|document| answers(document)).map(score).collect();
    let samples: Vec<Sample> = work.samples(&scores).unwrap().collect();
    assert_eq!(samples.len(), documents.len(), "{name}");
    for (sample, document) in samples.iter().zip(&documents) {
        compare_document(sample, document, &format!("{name}, {} {}", sample.task, sample.doc));
    }
    let results = work.results(&scores).unwrap();
    assert_eq!(results.len(), tasks.len(), "{name}");
    for (result, (task, want)) in results.iter().zip(tasks) {
        assert_eq!(&result.task, task);
        compare_metrics(result, want, &format!("{name}, {task}"));
    }
    scores.len()
}

/// Tokens, accuracies, errors and perplexities of each model and variant.
#[test]
fn results_are_those_of_the_harness() {
    let compared: usize = RESULTS.into_iter().chain(["pieces.separate"]).map(compare_run).sum();
    assert!(compared > 4000, "only {compared} requests compared");
}

/// `add_bos_token` of a `tokenizer_config.json` changes nothing beside a `tokenizer.json`: transformers, and so the harness, does not
/// follow it, and hears it only from a call.
#[test]
fn settings_of_a_tokenizer_add_no_bos() {
    let plan = Plan::new(["piqa", "boolq"]).unwrap();
    for model in ["models/bytes", "models/pieces"] {
        let requests = |tokenizer: &Tokenizer| {
            plan.prepare(&Options::default(), &folder(&golden("")), tokenizer, 128).unwrap().requests
        };
        let want = requests(&tokenizer_of(model));
        for add in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            for entry in std::fs::read_dir(golden(model)).unwrap().flatten() {
                std::fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
            }
            let path = dir.path().join("tokenizer_config.json");
            let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            config["add_bos_token"] = json!(add);
            std::fs::write(&path, config.to_string()).unwrap();
            let tokenizer = tokenizer(&Checkpoint::open(dir.path()).unwrap(), &Isolation::Thread).unwrap();
            assert!(requests(&tokenizer) == want, "{model}, {add}");
        }
    }
}
