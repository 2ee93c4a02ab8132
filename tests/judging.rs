//! Models judged by tasks: `eval --tasks`, and `--eval` of runs.

mod support;

use std::path::Path;

use serde_json::{Value, json};
use support::hub::{Hub, ok, run};
use support::*;

/// Tasks whose decisions have room in the golden data of the demo.
const TASKS: &str = "piqa,arc_easy,arc_challenge,openbookqa,boolq,lambada_openai,mmlu_anatomy,wikitext";

fn data() -> String {
    golden("tasks").display().to_string()
}

/// The lines of a file of samples.
fn samples(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn tasks_are_counted_as_the_harness_counts_them() {
    let sandbox = Sandbox::empty();
    let data = data();
    let asked = format!("eval demo --tasks {TASKS} --data-dir {data} --dtype f32 --bootstrap-iters 1000");
    let answer = sandbox.json(&format!("{asked} --log-samples samples.jsonl"));
    let want = json_file(&golden("tasks/results/demo.json"));
    let mut own = samples(&sandbox.path("samples.jsonl")).into_iter();
    for name in TASKS.split(',') {
        let (got, want) = (&answer["tasks"][name], &want["tasks"][name]);
        for (metric, want) in want.as_object().unwrap().iter().filter(|(name, _)| *name != "docs") {
            let (got, want) = (got[metric].as_f64().unwrap(), want.as_f64().unwrap());
            // Perplexities are exponentials of sums of some hundreds; the errors of lambada's were drawn 100,000 times there.
            let allowed = match metric.as_str() {
                "perplexity_stderr" => 1.0,
                name if name.contains("perplexity") => 1e-3,
                "bits_per_byte" => 2e-5,
                _ => 1e-6,
            };
            assert!((got / want - 1.0).abs() < allowed, "{name} {metric}: {got}, expected {want}");
        }
        for want in want["docs"].as_array().unwrap() {
            let got = own.next().unwrap();
            let asked = if name == "wikitext" { &want["windows"] } else { &want["requests"] };
            for (got, want) in got["requests"].as_array().unwrap().iter().zip(asked.as_array().unwrap()) {
                assert_eq!(got["continuation"], want["continuation"], "{name}");
                let (got, want) = (got["loglikelihood"].as_f64().unwrap(), want["loglikelihood"].as_f64().unwrap());
                assert!((got - want).abs() <= (2e-5 * want.abs()).max(1e-4), "{name}: {got}, expected {want}");
            }
        }
    }
    assert!(own.next().is_none());
    assert_eq!((&answer["protocol"], &answer["tasks"]["piqa"]["n"]), (&json!("lm-evaluation-harness"), &json!(24)));
    // The file is replaced, as this command wrote it; another one is not.
    let few = format!("eval demo --tasks piqa --data-dir {data} --limit 2");
    sandbox.ok(&format!("{few} --log-samples samples.jsonl"));
    assert_eq!(samples(&sandbox.path("samples.jsonl")).len(), 2);
    sandbox.write("mine.jsonl", "{}");
    sandbox.refused(&format!("{few} --log-samples mine.jsonl"), 1, &["mine.jsonl", "did not write it"]).unwrap();
    sandbox.ok(&format!("{few} --log-samples mine.jsonl --overwrite"));
}

#[test]
fn documents_come_from_the_hub_and_then_from_its_cache() {
    let (sandbox, hub) = (Sandbox::empty(), Hub::start());
    let published = |path: &str, file: &str| (path.to_string(), std::fs::read(golden("tasks").join(file)).unwrap());
    hub.publish("datasets/baber/piqa", "main", &[published("piqa_validation.parquet", "piqa/piqa_validation.parquet")]);
    // A repository of another form, whose converted copy is read.
    let nothing = [("README.md".to_string(), b"text".to_vec())];
    hub.publish("datasets/Rowan/hellaswag", "main", &nothing);
    let file = "hellaswag/data/validation-00000-of-00001.parquet";
    let converted = [published("default/validation/0000.parquet", file)];
    hub.publish("datasets/Rowan/hellaswag", "refs/convert/parquet", &converted);
    let asked = "eval demo --tasks piqa,hellaswag --json";
    let fetched = ok(&sandbox, &hub, asked).json();
    let here = sandbox.json(&format!("eval demo --tasks piqa,hellaswag --data-dir {}", data()));
    assert_eq!(fetched["tasks"], here["tasks"]);
    hub.publish("datasets/aps/super_glue", "main", &nothing);
    hub.publish("datasets/aps/super_glue", "refs/convert/parquet", &nothing);
    let missing = run(&sandbox, &hub, "eval demo --tasks boolq");
    sandbox.refuses(&missing, 1, &["aps/super_glue", "boolq", "--data-dir"]).unwrap();
    let offline = sandbox.run_with(asked, &[("HF_HUB_OFFLINE", "1"), ("HF_ENDPOINT", &hub.address())]);
    assert_eq!(offline.json()["tasks"], here["tasks"], "{}", offline.stdout);
}

#[test]
fn limits_examples_and_protocols_count() {
    let sandbox = Sandbox::empty();
    let asked = |more: &str| sandbox.json(&format!("eval demo --tasks piqa --data-dir {} {more}", data()));
    for (limit, n) in [("5", 5), ("0.1", 3), ("100", 24)] {
        assert_eq!(asked(&format!("--limit {limit}"))["tasks"]["piqa"]["n"], n);
    }
    let few = asked("--num-fewshot 2 --limit 3");
    assert_eq!((&few["tasks"]["piqa"]["num_fewshot"], &few["requests"]), (&json!(2), &json!(6)));
    assert_eq!(asked("--eval-protocol spqr --limit 3")["protocol"], "spqr");
    let amount = asked("--dry-run");
    let number = |name: &str| amount[name].as_u64().unwrap();
    assert_eq!((number("requests"), number("rounds")), (48, 1));
    assert!(number("computed") < number("tokens") && number("activations") > 0, "{amount}");
}

#[test]
fn questions_of_a_file_are_a_task() {
    let sandbox = Sandbox::empty();
    let line = |gold: usize| json!({"context": "visae tesho", "choices": ["gourt", "visae", "tesho"], "gold": gold});
    sandbox.write("mine.jsonl", (0..3).map(|gold| format!("{}\n", line(gold))).collect::<String>());
    let answer = sandbox.json("eval demo --task-file mine.jsonl");
    let mine = &answer["tasks"]["mine"];
    // One of the three answers is the likeliest, whatever it is.
    assert!((mine["acc"].as_f64().unwrap() - 1.0 / 3.0).abs() < 1e-12, "{answer}");
    assert_eq!((&mine["n"], &answer["requests"]), (&json!(3), &json!(9)));
    let shown = sandbox.ok("eval demo --task-file mine.jsonl");
    assert!(shown.stdout.starts_with("mine  acc 0.3333 ± 0.3333  acc_norm"), "{}", shown.stdout);
}

#[test]
fn articles_are_summarized() {
    let sandbox = Sandbox::empty();
    let article = |text: &str, highlights: &str| json!({"id": "1", "article": text, "highlights": highlights});
    let lines = [article("visae tesho gourt .", "visae tesho ."), article("tin lilt ka .", "ka ."), article("a", "b")];
    std::fs::create_dir_all(sandbox.path("data/cnn_dailymail")).unwrap();
    sandbox.write("data/cnn_dailymail/test.jsonl", lines.map(|line| format!("{line}\n")).concat());
    let asked = "eval demo --tasks cnn_dailymail --data-dir data --max-new-tokens 12 --min-new-tokens 2";
    let answer = sandbox.json(&format!("{asked} --limit 2 --log-samples samples.jsonl"));
    let found = &answer["tasks"]["cnn_dailymail"];
    for kind in ["rouge1", "rouge2", "rougeL", "rougeLsum"] {
        assert!((0.0..=100.0).contains(&found[kind].as_f64().unwrap()), "{answer}");
        assert!(found[format!("{kind}_stderr")].as_f64().is_some());
    }
    assert_eq!((&found["n"], &found["num_beams"]), (&json!(2), &json!(4)));
    let samples = samples(&sandbox.path("samples.jsonl"));
    assert!(samples.len() == 2 && samples.iter().all(|sample| sample["prediction"].as_str().is_some()));
    let shown = sandbox.ok(&format!("{asked} --num-beams 1")).stdout;
    assert!(shown.contains("rougeLsum") && shown.contains("(approximate") && shown.contains("3 articles"), "{shown}");
    sandbox.refused("eval demo --tasks cnn_dailymail --data-dir .", 1, &["cnn_dailymail"]).unwrap();
    let words = "summaries are measured by `paring eval MODEL --tasks cnn_dailymail`";
    sandbox.refused("quantize demo demo --eval cnn_dailymail --out a", 2, &[words]).unwrap();
}

#[test]
fn runs_are_judged_before_and_after_and_compared() {
    let sandbox = Sandbox::empty();
    let run = |out: &str, more: &str| {
        let eval = format!("--eval demo,piqa,arc_easy --data-dir {} --limit 12", data());
        sandbox.json(&format!("quantize demo demo --nsamples 4 --method rtn {more} {eval} --out {out}"))
    };
    let (four, two) = (run("four", "--wbits 4 --groupsize 32"), run("two", "--wbits 2 --groupsize 32"));
    let dense = sandbox.json(&format!("eval demo --tasks piqa,arc_easy --data-dir {} --limit 12", data()));
    for report in [&four, &two] {
        let tasks = &report["tasks"];
        assert_eq!(tasks["before"][0]["metrics"][0]["value"], dense["tasks"]["piqa"]["acc"]);
        assert_eq!(tasks["after"][1]["task"], "arc_easy");
        let found = &tasks["differences"][0];
        let (before, after) = (found["before"].as_f64().unwrap(), found["after"].as_f64().unwrap());
        assert!((after - before - found["difference"].as_f64().unwrap()).abs() < 1e-12);
        assert!(report["perplexity"]["after"].as_f64().is_some());
    }
    let estimate = |eval: &str| {
        let eval = format!("--eval {eval} --data-dir {} --limit 12 --dry-run", data());
        let costs = sandbox.json(&format!("quantize demo demo --nsamples 4 --method rtn --wbits 4 --out none {eval}"));
        let stages = costs["stages"].as_array().unwrap();
        stages.iter().find(|stage| stage["stage"] == "eval").unwrap()["operations"].as_f64().unwrap()
    };
    let [both, text, tasks] = ["demo,piqa", "demo", "piqa"].map(estimate);
    assert!(tasks > 0.0 && (both - text - tasks).abs() < 1e-6 * both, "{both} {text} {tasks}");
    let written = json_file(&sandbox.path("two/report.json"));
    assert_eq!(written["tasks"], two["tasks"]);
    let card = std::fs::read_to_string(sandbox.path("two/README.md")).unwrap();
    assert!(card.contains("| arc\\_easy acc, 0-shot, 12 documents |"), "{card}");
    let compared = sandbox.json("report four two");
    let rows = compared["tasks"].as_array().unwrap();
    assert_eq!((&rows[0]["task"], &rows[0]["metric"], rows.len()), (&json!("piqa"), &json!("acc"), 4));
    assert_eq!((&rows[0]["differences"][0], &rows[0]["differences"][1]["documents"]), (&Value::Null, &json!(12)));
    let shown = sandbox.ok("report four two").stdout;
    assert!(shown.contains("piqa acc") && shown.contains(" ± "), "{shown}");
}

#[test]
fn what_cannot_be_judged() {
    let sandbox = Sandbox::empty();
    sandbox.write("empty.jsonl", "");
    sandbox.write("gold.jsonl", "{\"context\": \"visae\", \"choices\": [\"gourt\", \"tin\"], \"gold\": 2}");
    sandbox.write("nothing.jsonl", "{\"context\": \"visae\", \"choices\": [\"gourt\", \"\"], \"gold\": 0}");
    let data = data();
    for (arguments, code, words) in [
        ("eval demo --tasks piqqa".to_string(), 2, "piqa"),
        ("eval demo demo --tasks piqa".into(), 2, "leave one of them out"),
        ("eval demo --num-fewshot 2".into(), 2, "--num-fewshot is for tasks"),
        ("eval demo --log-samples a.jsonl".into(), 2, "--log-samples is for tasks"),
        ("eval demo --dry-run".into(), 2, "--dry-run is for tasks"),
        ("eval demo --limit 0.5".into(), 2, "perplexity has windows"),
        ("eval demo --tasks piqa --limit 0".into(), 2, "expected a number from 1"),
        ("eval demo --tasks piqa --data-dir .".into(), 1, "piqa"),
        ("eval demo --task-file absent.jsonl".into(), 1, "absent.jsonl"),
        ("eval demo --task-file empty.jsonl".into(), 1, "empty.jsonl"),
        ("eval demo --task-file gold.jsonl".into(), 1, "gold"),
        ("eval demo --task-file nothing.jsonl".into(), 1, "nothing.jsonl"),
        (format!("eval demo --tasks piqa --num-fewshot 9 --data-dir {data}"), 1, "--num-fewshot 9"),
        ("quantize demo demo --eval piqa,demo,other --out a".into(), 2, "perplexity is measured on one"),
        ("quantize demo demo --eval piqa --data-dir . --out a".into(), 1, "piqa"),
    ] {
        sandbox.refused(&arguments, code, &[words]).unwrap();
    }
    assert!(!sandbox.path("a").exists());
}
