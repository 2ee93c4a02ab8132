use std::fs;
use std::path::Path;

use serde_json::json;

use super::watch::Watch;
use super::*;
use crate::chat::Moment;
use crate::encoder::Failure;

/// A folder with the tokenizer of two words, and this chat template.
fn folder(template: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let json = json!({"version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "Whitespace"},
        "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "one": 1, "two": 2}, "unk_token": "[UNK]"}});
    fs::write(dir.path().join("tokenizer.json"), json.to_string()).unwrap();
    fs::write(dir.path().join("chat_template.jinja"), template).unwrap();
    dir
}

fn open(dir: &Path) -> crate::Result<Worker> {
    Worker::open(dir, &dir.join("tokenizer.json"), Moment::now(), &Isolation::Thread)
}

#[test]
fn documents_in_their_order() {
    let dir = folder("{% for m in messages %}{{ m.content }} {% endfor %}");
    let mut worker = open(dir.path()).unwrap();
    let messages = [json!({"role": "user", "content": "two two"}), json!({"role": "assistant", "content": "one"})];
    let documents = [Question::Text("one two"), Question::Chat(&messages), Question::Text("")];
    let (answers, failure) = worker.encode(&documents, false);
    assert!(failure.is_none());
    assert_eq!(
        answers.iter().map(|answer| answer.ids.clone()).collect::<Vec<_>>(),
        [vec![1, 2], vec![2, 2, 1], vec![]]
    );
    let (answers, failure) = worker.encode(&documents[1..2], true);
    assert!(failure.is_none());
    assert_eq!((answers[0].text.as_str(), &answers[0].ids[..]), ("two two one ", [2, 2, 1].as_slice()));
    let (answers, _) = worker.encode(&[Question::Ids(&[1, 2]), Question::Text("two")], true);
    assert_eq!(answers.iter().map(|answer| answer.text.as_str()).collect::<Vec<_>>(), ["one two", "two"]);
    // More than pipes hold, both ways.
    let long = "one two ".repeat(1 << 18);
    let (answers, _) = worker.encode(&[Question::Text(&long)], false);
    assert_eq!(answers[0].ids, [1, 2].repeat(1 << 18));
}

#[test]
fn prompts_have_the_header_of_an_answer_and_tokens_become_text() {
    let template = "{% for m in messages %}{{ m.content }} {% endfor %}{% if add_generation_prompt %}two{% endif %}";
    let dir = folder(template);
    let special = json!({"additional_special_tokens": ["<end>"]});
    fs::write(dir.path().join("tokenizer_config.json"), special.to_string()).unwrap();
    let messages = [json!({"role": "user", "content": "one"})];
    let mut worker = open(dir.path()).unwrap();
    let documents = [
        Question::Chat(&messages),
        Question::Prompt(&messages),
        Question::Ids(&[1, 3, 2]),
        Question::Plain(&[1, 3, 2]),
    ];
    let (answers, failure) = worker.encode(&documents, true);
    assert!(failure.is_none());
    let texts: Vec<&str> = answers.iter().map(|answer| answer.text.as_str()).collect();
    assert_eq!(texts, ["one ", "one two", "one <end> two", "one two"]);
    assert_eq!((answers[0].ids.as_slice(), answers[1].ids.as_slice()), (&[1][..], &[1, 2][..]));
}

#[test]
fn documents_up_to_the_first_that_fails() {
    let dir = folder("{% if messages|length > 1 %}{{ raise_exception('one at a time') }}{% endif %}one");
    let mut worker = open(dir.path()).unwrap();
    let messages = [json!({"content": "x"}), json!({"content": "y"})];
    let documents = [Question::Chat(&messages[..1]), Question::Chat(&messages), Question::Chat(&messages[1..])];
    let (answers, failure) = worker.encode(&documents, false);
    assert_eq!(answers.len(), 1);
    assert!(matches!(failure, Some(Failure::Document(reason)) if reason.contains("one at a time")));
    assert!(worker.is_over());
}

#[test]
fn files_that_cannot_be_used() {
    let dir = folder("one");
    fs::write(dir.path().join("chat_template.jinja"), b"\xff").unwrap();
    let messages = [json!({"content": "x"})];
    let (answers, failure) = open(dir.path()).unwrap().encode(&[Question::Chat(&messages)], false);
    assert!(answers.is_empty());
    assert!(matches!(failure, Some(Failure::Files(line)) if line.contains("chat_template.jinja: not UTF-8")));
    fs::write(dir.path().join("tokenizer.json"), "{}").unwrap();
    let error = open(dir.path()).err().unwrap().to_string();
    assert!(error.contains("tokenizer.json: not a tokenizer: "), "{error}");
    let isolation = Isolation::Process { program: dir.path().join("nothing"), patience: PATIENCE };
    let error = Worker::open(dir.path(), &dir.path().join("tokenizer.json"), Moment::now(), &isolation)
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("no process can be started to tokenize in") && error.lines().count() == 1, "{error}");
}

/// A program that is no worker ends with what it says.
#[cfg(unix)]
#[test]
fn a_program_that_ends_at_once() {
    let dir = folder("one");
    for (script, words) in [("echo one >&2; echo two >&2", "cannot be opened: one"), ("exit 3", "exit status: 3")] {
        let program = dir.path().join("program");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&program, mode).unwrap();
        let isolation = Isolation::Process { program, patience: PATIENCE };
        let error = Worker::open(dir.path(), &dir.path().join("tokenizer.json"), Moment::now(), &isolation)
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("tokenizer.json: it cannot be opened: ") && error.contains(words), "{error}");
    }
}

#[test]
fn what_is_late_is_ended_once_and_the_rest_never() {
    let (late, ended) = std::sync::mpsc::channel();
    let watch = Watch::start(Box::new(move || late.send(()).unwrap())).unwrap();
    watch.begin(Duration::from_secs(3600));
    watch.rest();
    assert!(!watch.is_late());
    watch.begin(Duration::from_millis(1));
    ended.recv().unwrap();
    assert!(watch.is_late() && ended.try_recv().is_err());
    drop(watch);
    // The sender is gone with the thread.
    assert!(ended.recv().is_err());
}

#[test]
fn messages_are_read_as_they_were_written() {
    let mut written = Vec::new();
    frame::write(&mut written, b'a', b"one").unwrap();
    frame::write(&mut written, b'b', b"").unwrap();
    let mut read = &written[..];
    let mut content = Vec::new();
    assert_eq!(frame::read(&mut read, &mut content, 3).unwrap(), Some(b'a'));
    assert_eq!(content, b"one");
    assert_eq!(frame::read(&mut read, &mut content, 3).unwrap(), Some(b'b'));
    assert_eq!(frame::read(&mut read, &mut content, 3).unwrap(), None);
    assert!(frame::read(&mut &written[..], &mut content, 2).is_err());
    assert!(frame::read(&mut &written[..11], &mut content, 3).is_err());
    let (kind, one, rest) = frame::split(&written).unwrap();
    assert_eq!((kind, one, frame::split(rest).unwrap().0), (b'a', b"one".as_slice(), b'b'));
    assert!(frame::split(&written[..11]).is_none());
}
