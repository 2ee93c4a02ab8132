//! Files and folders: the form of their records, and what is wrong with them.

use super::*;
use crate::named::Remote;

fn opened(name: &str, content: &str, text_field: Option<&str>, form: Option<Form>) -> Result<Form> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, content).unwrap();
    TrainingData::open(&path, text_field, form).map(|data| data.form())
}

#[test]
fn forms_by_the_fields_of_the_first_record() {
    for (content, text_field, form, want) in [
        (r#"{"text": "a"}"#, None, None, Form::Text),
        (r#"{"instruction": "a", "output": "b", "text": "c"}"#, None, None, Form::Instruction),
        (r#"{"instruction": "a", "output": "b", "text": "c"}"#, None, Some(Form::Text), Form::Text),
        (r#"{"instruction": "a", "output": "b", "story": "c"}"#, Some("story"), None, Form::Text),
        (
            r#"{"instruction": "a", "output": "b", "text": "c"}"#,
            Some("text"),
            Some(Form::Instruction),
            Form::Instruction,
        ),
        (r#"{"question": "a", "answer": "b"}"#, None, None, Form::Instruction),
        (r#"[{"prompt": "a", "completion": "b"}]"#, None, None, Form::Instruction),
        (r#"{"version": 1, "data": [{"article": "a", "highlights": "b"}]}"#, None, None, Form::Instruction),
        (r#"{"messages": [{"role": "user", "content": "b"}], "prompt": "a"}"#, None, None, Form::Chat),
        (r#"{"dialog": [{"role": "user", "content": "b"}]}"#, Some("dialog"), None, Form::Chat),
        (r#"{"conversations": [{"from": "gpt", "value": "b"}]}"#, None, Some(Form::Chat), Form::Chat),
        ("", None, None, Form::Text),
    ] {
        assert_eq!(opened("x.json", content, text_field, form).unwrap(), want, "{content}");
    }
    assert_eq!(opened("x.txt", "text", None, None).unwrap(), Form::Text);
    for (name, content, form, words) in [
        (
            "x.jsonl",
            r#"{"body": "a", "n": 1}"#,
            None,
            "the first record has no fields to train on (it has: body, n), expected messages, conversations, instruction and \
                output, question and answer, article and highlights, prompt and completion or text; name a field of texts with \
                text-field",
        ),
        (
            "x.jsonl",
            r#"{"text": "a"}"#,
            Some(Form::Chat),
            "expected messages or conversations; name another with text-field",
        ),
        ("x.jsonl", r#"{"output": "a"}"#, Some(Form::Instruction), "prompt and completion; rename its fields"),
        ("x.jsonl", "{\"text\": ", None, "x.jsonl: line 1: not JSON"),
        ("x.jsonl", "[1]\n", None, "line 1: a list, expected an object"),
        ("x.txt", "text", Some(Form::Chat), "x.txt: expected .parquet, .jsonl or .json"),
    ] {
        let error = opened(name, content, None, form).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn records_that_cannot_be_learned() {
    let good = r#"{"question": "a", "answer": "b"}"#;
    for (line, words) in [
        (
            r#"{"question": "a", "answer": 3}"#,
            "x.jsonl: line 2: field \"answer\" holds a number, expected text; convert it",
        ),
        (r#"{"question": ["a"], "answer": "b"}"#, "line 2: field \"question\" holds a list, expected text"),
        (r#"{"question": "a"}"#, "line 2: no field \"answer\" (it has: question)"),
        (r#"{"question": "a", "answer": "b""#, "line 2: not JSON"),
    ] {
        let error = of(&format!("{good}\n{line}\n"), None, &model("bytes"), &settings(512)).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    let error = of(&format!("{good}\n"), None, &no_end(), &settings(512)).unwrap_err().to_string();
    assert!(error.contains("names no end of texts") && error.contains("add an eos_token"), "{error}");
    let eos = Settings { eos: Some(7), ..settings(512) };
    assert_eq!(of(&format!("{good}\n"), None, &no_end(), &eos).unwrap().windows[0].ids.last(), Some(&7));
    let error =
        of("{\"text\": \"a\"}\n{\"text\": [{\"role\": \"a\"}]}\n", None, &model("bytes"), &settings(2)).unwrap_err();
    assert!(error.to_string().contains("line 2: messages, expected text; train on them as chat"), "{error}");
}

fn no_end() -> Tokenizer {
    let json = std::fs::read(golden("chats/tokenizer.json")).unwrap();
    crate::tokenizer::tokenizer_from(&json, Path::new("tokenizer.json")).unwrap()
}

/// The golden Parquet file of messages, and that of cnn_dailymail's columns as lines.
#[test]
fn folders_and_named_sets() {
    let dir = tempfile::tempdir().unwrap();
    let article = |n: usize| json!({"article": format!("the lake {n}"), "highlights": "one two", "id": "x"});
    std::fs::write(dir.path().join("b.jsonl"), lines(&[article(3), article(4)])).unwrap();
    std::fs::write(dir.path().join("a.jsonl"), lines(&[article(1), article(2)])).unwrap();
    std::fs::write(dir.path().join("README.md"), "not data").unwrap();
    let tokenizer = model("bytes");
    let data = TrainingData::open(dir.path(), None, None).unwrap();
    let mut seen = Vec::new();
    let set = data.set(Some(&tokenizer), &settings(512), &mut |progress| {
        seen.push(progress.records);
        true
    });
    let set = set.unwrap();
    assert_eq!((set.windows.len(), seen), (4, vec![2, 4, 4]));
    let prompts: Vec<String> = set.windows.iter().map(|window| tokenizer.decode(&window.ids, true).unwrap()).collect();
    for (at, prompt) in prompts.iter().enumerate() {
        let want =
            answers::alpaca("Summarize the following news article:", &format!("the lake {}", at + 1)) + "one two";
        assert_eq!(*prompt, want);
    }
    let some = data.set(Some(&tokenizer), &Settings { limit: Some(3), ..settings(512) }, &mut |_| true).unwrap();
    assert_eq!(some.windows, set.windows[..3]);
    let some = data.set(Some(&tokenizer), &settings(512), &mut |_| false).unwrap();
    assert_eq!(some.windows, set.windows[..2]);
    let note = format!("{}: \"article\" is put into Alpaca's prompt, \"highlights\" after it is learned", data.name);
    assert_eq!(data.notes(), [note]);
    let fetch = |_: &Remote| -> Result<PathBuf> { panic!("a folder was given") };
    let files = Files { dir: Some(dir.path()), fetch: &fetch };
    assert!(TrainingData::named("cnn_dailymail", &files).is_err());
    std::fs::rename(dir.path().join("b.jsonl"), dir.path().join("train.jsonl")).unwrap();
    let named = TrainingData::named("cnn-dailymail", &files).unwrap().unwrap();
    assert_eq!(named.set(Some(&tokenizer), &settings(512), &mut |_| true).unwrap().windows, set.windows[2..]);
    assert!(TrainingData::named("other", &files).unwrap().is_none());
    let empty = tempfile::tempdir().unwrap();
    let error = TrainingData::open(empty.path(), None, None).err().unwrap().to_string();
    assert!(error.contains("a folder without data; expected files that end in .jsonl"), "{error}");
}

#[test]
fn messages_in_parquet() {
    for (file, field) in [("chat", "messages"), ("sharegpt", "conversations")] {
        let data = TrainingData::open(&golden("data").join(format!("{file}.parquet")), None, None).unwrap();
        assert_eq!(data.form(), Form::Chat);
        assert_eq!(
            data.notes()[0].split_once("parquet: ").unwrap().1,
            format!("the assistant's turns in {field:?} are learned")
        );
    }
    let read = |file: &str, field: &str| {
        let mut all = Vec::new();
        let see = &mut |number, document| {
            all.push((number, document));
            Ok(true)
        };
        Documents::of(&golden("data").join(file), field).unwrap().each(see).unwrap();
        all
    };
    let (first, document) = read("sharegpt.parquet", "conversations").remove(0);
    let want = vec![json!({"from": "human", "value": "Hi!"}), json!({"from": "gpt", "value": "Hello."})];
    assert_eq!((first, document), (1, crate::documents::Document::Chat(want)));
}

/// Whatever single byte of a file changes: examples or one line of error, but no crash.
#[test]
fn a_changed_byte_is_survived() {
    let said = |from: &str, value: &str| json!({"from": from, "value": value});
    let (_dir, tokenizer) = chats::with(&chats::template("chatml"), &json!({"eos_token": "<|im_end|>"}));
    let (mut good, mut refused) = (0, 0);
    for (seqlen, record) in [
        (8, json!({"text": "one two\nthree é"})),
        (512, json!({"instruction": "a b", "input": null, "output": "é c"})),
        (64, json!({"conversations": [said("human", "Hi!"), said("gpt", "Hello.")]})),
    ] {
        let whole = lines(&[record.clone(), record]);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.jsonl");
        for (at, bit) in (0..whole.len()).flat_map(|at| [(at, 0x01), (at, 0x04), (at, 0x80)]) {
            let mut bytes = whole.clone().into_bytes();
            bytes[at] ^= bit;
            std::fs::write(&path, &bytes).unwrap();
            let data = TrainingData::open(&path, None, None);
            match data.and_then(|data| data.set(Some(&tokenizer), &settings(seqlen), &mut |_| true)) {
                Ok(set) => {
                    assert!(set.windows.iter().all(|window| window.labels() > 0 && window.ids.len() <= seqlen));
                    assert!(
                        set.windows.iter().all(|window| window.learned.len() == window.ids.len() && !window.learned[0])
                    );
                    good += 1;
                }
                Err(error) => {
                    assert_eq!(error.to_string().lines().count(), 1, "byte {at}: {error}");
                    refused += 1;
                }
            }
        }
    }
    assert!(good > 100 && refused > 100, "{good} read, {refused} refused");
}
