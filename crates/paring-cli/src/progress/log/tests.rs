use super::*;

fn events(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn events_are_lines_that_begin_with_their_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let log = Log::open(Some(&path), &["paring".into(), "eval".into()]).unwrap();
    log.event("note", json!({"text": "two\nlines", "number": f64::NAN}));
    // It is there while the process continues.
    let seen = events(&path);
    let keys = |event: &Value| event.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&seen[0]), ["time", "seconds", "event", "version", "program", "pid", "arguments"]);
    assert_eq!((&seen[0]["version"], &seen[0]["arguments"]), (&json!(1), &json!(["paring", "eval"])));
    let (note, time) = (&seen[1], seen[1]["time"].as_str().unwrap());
    assert_eq!((&note["event"], &note["text"], &note["number"]), (&json!("note"), &json!("two\nlines"), &Value::Null));
    assert!(time.len() == 24 && time.starts_with("20") && time.ends_with('Z'), "{time}");
    assert!(note["seconds"].as_f64().unwrap() >= seen[0]["seconds"].as_f64().unwrap());
    log.result(&json!({"seconds": 1.0, "layers": [{}], "perplexity": 2.5}));
    log.ended(None);
    let last = events(&path).pop().unwrap();
    assert_eq!((&last["event"], &last["exit_code"]), (&json!("finished"), &json!(0)));
    assert_eq!(last["result"], json!({"seconds": 1.0, "perplexity": 2.5}));
}

#[test]
fn a_second_process_goes_on_where_one_was_killed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    Log::open(Some(&path), &[]).unwrap().ended(Some(("no space", 1)));
    let mut text = std::fs::read(&path).unwrap();
    // In the middle of a line.
    text.truncate(text.len() - 7);
    std::fs::write(&path, &text).unwrap();
    Log::open(Some(&path), &[]).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<Option<Value>> = text.lines().map(|line| serde_json::from_str(line).ok()).collect();
    let kinds: Vec<Option<&Value>> = lines.iter().map(|line| line.as_ref().map(|line| &line["event"])).collect();
    assert_eq!(kinds, [Some(&json!("started")), None, Some(&json!("started"))]);
    assert!(text.ends_with('\n'));
}

#[test]
fn what_is_no_log_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("calibration.jsonl");
    for other in ["{\"text\": \"one\"}\n", "{\"event\": \"started\"}\n", "words", "\n", "[1]"] {
        std::fs::write(&path, other).unwrap();
        let error = Log::open(Some(&path), &[]).err().unwrap();
        assert!(matches!(&error, Error::Misuse(text) if text.contains("calibration.jsonl")), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), other);
    }
    for bad in [dir.path().to_path_buf(), dir.path().join("none/log")] {
        let error = Log::open(Some(&bad), &[]).err().unwrap();
        assert!(matches!(&error, Error::Io { path, .. } if *path == bad), "{error}");
    }
    let none = Log::open(None, &[]).unwrap();
    none.event("note", json!({}));
    assert!(!none.is_on_stderr() && Log::open(Some(Path::new("-")), &[]).unwrap().is_on_stderr());
}
