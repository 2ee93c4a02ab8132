use std::path::PathBuf;

use serde_json::json;

use super::*;

fn read(path: &Path, needed: &[&str], also: &[&str]) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    each(path, needed, also, &mut |record| {
        records.push(record);
        Ok(true)
    })?;
    Ok(records)
}

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(path)
}

fn json(content: &str, needed: &[&str], also: &[&str]) -> Result<Vec<Record>> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.jsonl");
    std::fs::write(&path, content).unwrap();
    read(&path, needed, also)
}

/// Files of two writers: each Parquet file of a task holds what its JSON holds.
#[test]
fn parquet_has_what_json_has() {
    let mut compared = 0;
    for (parquet, lines, fields) in [
        (
            "winogrande/winogrande_xl/validation-00000-of-00001.parquet",
            "winogrande/validation.jsonl",
            &["answer", "option1"][..],
        ),
        ("piqa/piqa_validation.parquet", "piqa/validation.jsonl", &["goal", "label"]),
        (
            "hellaswag/data/validation-00000-of-00001.parquet",
            "hellaswag/validation.jsonl",
            &["ind", "endings", "label", "ctx_b"],
        ),
        ("arc_easy/ARC-Easy/test-00000-of-00001.parquet", "arc_easy/test.jsonl", &["choices", "answerKey"]),
        ("openbookqa/main/test-00000-of-00001.parquet", "openbookqa/test.jsonl", &["question_stem", "choices"]),
        ("boolq/boolq/validation-00000-of-00001.parquet", "boolq/validation.jsonl", &["idx", "label", "passage"]),
        ("mmlu_anatomy/anatomy/test-00000-of-00001.parquet", "mmlu_anatomy/test.jsonl", &["choices", "answer"]),
        ("lambada_openai/default/test/0000.parquet", "lambada_openai/test.jsonl", &["text"]),
    ] {
        let columns = read(&golden("tasks").join(parquet), fields, &[]).unwrap();
        let lines = read(&golden("tasks").join(lines), fields, &[]).unwrap();
        let values = |records: &[Record]| records.iter().map(|record| record.values.clone()).collect::<Vec<_>>();
        assert_eq!(values(&columns), values(&lines), "{parquet}");
        assert_eq!((columns[1].place.as_str(), lines[1].place.as_str()), ("row 2", "line 2"));
        compared += columns.len();
    }
    assert_eq!(compared, 7 * 24 + 8);
}

#[test]
fn fields_that_may_be_absent() {
    let text = "{\"b\": [1, \"x\"], \"a\": {\"c\": null}}\n\n{\"a\": 2}\n";
    let records = json(text, &["a"], &["b"]).unwrap();
    let values = |k: usize| json!(records[k].values);
    assert_eq!((values(0), values(1)), (json!([{"c": null}, [1, "x"]]), json!([2, null])));
    assert_eq!(records[1].place, "line 3");
    let records = read(&golden("tasks/piqa/piqa_validation.parquet"), &["label"], &["idx", "sol1"]).unwrap();
    assert_eq!(json!(records[0].values), json!([0, null, "put a flat stone in the bottom of it"]));
}

#[test]
fn reading_ends_when_enough_was_seen() {
    for name in ["piqa/piqa_validation.parquet", "piqa/validation.jsonl"] {
        let mut seen = 0;
        let see = &mut |_| {
            seen += 1;
            Ok(seen < 3)
        };
        each(&golden("tasks").join(name), &["label"], &[], see).unwrap();
        assert_eq!(seen, 3, "{name}");
    }
}

#[test]
fn rows_that_cannot_be_read() {
    for (text, words) in [
        ("{\"a\": 1}\n{\"b\": 1, \"c\": 2}\n", "x.jsonl: line 2: no field \"a\" (it has: b, c)"),
        ("{\"a\": NaN}\n", "line 1: not JSON: NaN in field \"a\""),
        ("{\"a\": \"\\ud800\"}\n", "line 1: not JSON: half a character"),
        ("{\"a\": 1\n", "x.jsonl: line 1: not JSON"),
        ("[1]\n", "line 1: a list, expected an object"),
    ] {
        let error = json(text, &["a"], &[]).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    for (path, needed, words) in [
        (
            "tasks/piqa/piqa_validation.parquet",
            &["goal", "gold"][..],
            "no column \"gold\" (it has: goal, sol1, sol2, label)",
        ),
        ("data/plain.parquet", &["length"], "column \"length\" holds floats, expected texts or integers"),
        ("data/chat.parquet", &["messages"], "is nested too deeply, expected texts or integers, or lists of them"),
        ("README.md", &["a"], "an unknown kind of file, expected .parquet, .jsonl or .json"),
        ("nowhere.parquet", &["a"], "nowhere.parquet"),
    ] {
        let error = read(&golden(path), needed, &[]).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

/// Whatever single byte changes: rows or one line of error, but no crash.
#[test]
fn a_changed_byte_is_survived() {
    let whole = std::fs::read(golden("tasks/arc_easy/ARC-Easy/train-00000-of-00001.parquet")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.parquet");
    std::fs::write(&path, &whole).unwrap();
    let (mut good, mut refused) = (0, 0);
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= [0x01, 0x80, 0xff][at % 3];
        let mut file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        std::io::Write::write_all(&mut file, &bytes).unwrap();
        match read(&path, &["question", "choices", "answerKey"], &["id"]) {
            Ok(_) => good += 1,
            Err(error) => {
                assert_eq!(error.to_string().lines().count(), 1, "byte {at}: {error}");
                refused += 1;
            }
        }
    }
    assert!(good > 0 && refused > 0, "{good} read, {refused} refused");
}
