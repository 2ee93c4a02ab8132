//! `paring rouge`: files of texts in, figures out.

mod support;

use std::fs;

use serde_json::{Value, json};
use support::*;

/// The pairs of the golden data, as files of predictions and of references.
fn pairs() -> Sandbox {
    let sandbox = Sandbox::empty();
    let text = fs::read_to_string(golden("rouge/pairs.jsonl")).unwrap();
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let file = |value: &dyn Fn(&Value) -> Value| rows.iter().map(|row| format!("{}\n", value(row))).collect::<String>();
    sandbox.write("predictions.jsonl", file(&|row| json!({"id": 1, "text": row["prediction"]})));
    sandbox.write("references.jsonl", file(&|row| json!({"id": "", "reference": row["reference"]})));
    sandbox
}

#[test]
fn means_are_those_of_the_scorer() {
    let sandbox = pairs();
    let expected = json_file(&golden("rouge/means.json"))["mean_fmeasure_times_100"].clone();
    for (option, key) in [("", "stemmed"), ("--no-stemmer", "plain")] {
        let value = sandbox.json(&format!("rouge predictions.jsonl references.jsonl {option}"));
        assert_eq!((&value["texts"], &value["stemmer"]), (&json!(40), &json!(key == "stemmed")));
        assert_eq!(value["sentences"], "lines");
        assert_eq!((&value["field"], &value["reference_field"]), (&json!("text"), &json!("reference")));
        for kind in ["rouge1", "rouge2", "rougeL", "rougeLsum"] {
            let rounded: f64 = format!("{:.4}", value[kind].as_f64().unwrap()).parse().unwrap();
            assert_eq!(json!(rounded), expected[key][kind], "{key} {kind}");
        }
    }
    let stdout = sandbox.ok("rouge predictions.jsonl references.jsonl").stdout;
    let words: Vec<Vec<&str>> = stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[1], ["precision", "recall", "F", "±", "of", "F"], "{stdout}");
    let f: Vec<(&str, &str)> = words[2..].iter().map(|row| (row[0], row[3])).collect();
    assert_eq!(f, [("rouge1", "60.74"), ("rouge2", "38.13"), ("rougeL", "52.37"), ("rougeLsum", "55.84")], "{stdout}");
}

#[test]
fn sentences_and_several_references() {
    let sandbox = Sandbox::empty();
    // Two sentences in another order: as lines they are the same, as one line they are not.
    sandbox.write("predictions.txt", "The lake froze. Nobody skated.\r\n\n");
    sandbox.write("references.txt", "Nobody skated. The lake froze.\nsomething\n");
    let plain = sandbox.json("rouge predictions.txt references.txt");
    let split = sandbox.ok("rouge predictions.txt references.txt --split-sentences");
    assert!(split.stdout.contains("rougeLsum is approximate"), "{}", split.stdout);
    let split = sandbox.json("rouge predictions.txt references.txt --split-sentences");
    assert_eq!((&plain["rougeLsum"], &split["rougeLsum"]), (&plain["rougeL"], &json!(50.0)));
    assert_eq!((&split["sentences"], &split["rouge1"]), (&json!("approximate"), &plain["rouge1"]));
    // The empty prediction counts: it overlaps with nothing.
    assert_eq!(plain["rouge1"], 50.0);
    let line = |texts: &[&str]| format!("{}\n", json!({"highlights": texts}));
    sandbox.write("several.jsonl", line(&["none", "The lakes froze; nobody skated"]) + &line(&["a"]));
    let best = sandbox.ok("rouge predictions.txt several.jsonl");
    assert!(
        best.stdout.starts_with("2 texts, stems of words, the best of up to 2 references each;"),
        "{}",
        best.stdout
    );
    let best = sandbox.json("rouge predictions.txt several.jsonl --field nothing --reference-field highlights");
    assert_eq!((&best["references"], &best["rougeL"]), (&json!(2), &json!(50.0)));
    let one = sandbox.json("rouge one.txt one.txt".replace("one.txt", "references.txt").as_str());
    assert_eq!((&one["rouge2"], &one["rougeLsum"]), (&json!(50.0), &json!(100.0)));
}

#[test]
fn what_cannot_be_compared() {
    let sandbox = Sandbox::empty();
    sandbox.write("two.txt", "one\ntwo\n");
    sandbox.write("three.txt", "one\ntwo\nthree\n");
    sandbox.write("empty.txt", "");
    sandbox.write("latin.txt", b"one\ncaf\xe9s\n");
    sandbox.write("table.csv", "one,two");
    sandbox.write("fields.jsonl", "{\"text\": \"one\"}\n{\"body\": \"two\"}\n");
    sandbox.write("broken.jsonl", "{\"text\": \"one\"}\n{\"text\": \"two\n");
    sandbox.write("null.jsonl", "{\"text\": null}\n");
    for (arguments, code, words) in [
        ("two.txt three.txt", 1, &["two.txt: 2 texts, and three.txt has 3; each prediction"][..]),
        ("two.txt empty.txt", 1, &["empty.txt: no texts in it"]),
        ("none.txt two.txt", 1, &["none.txt"]),
        ("two.txt .", 1, &["a folder, expected a file"]),
        ("latin.txt two.txt", 1, &["latin.txt: line 2: not UTF-8 at byte 4"]),
        ("two.txt table.csv", 1, &["table.csv: expected a text file with a text a line, or .jsonl"]),
        ("fields.jsonl two.txt", 1, &["fields.jsonl: line 2: no field \"text\" (it has: body)", "with --field"]),
        ("two.txt fields.jsonl --reference-field body", 1, &["line 1: no field \"body\"", "with --reference-field"]),
        ("broken.jsonl two.txt", 1, &["broken.jsonl: line 2: not JSON"]),
        ("null.jsonl two.txt", 1, &["null.jsonl: line 1: field \"text\" holds null, expected text"]),
        ("two.txt", 2, &["REFERENCES"]),
    ] {
        sandbox.refused(&format!("rouge {arguments}"), code, words).unwrap();
    }
}
