use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::*;

const VOCABULARY: &str = r#"{"<s>": 0, "o": 1, "n": 2, "e": 3, "on": 4, "one": 5, "Ġ": 6, "Ġone": 7, "</s>": 8}"#;

fn folder(config: &Value, template: Option<&str>) -> (tempfile::TempDir, Encoder) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("vocab.json"), VOCABULARY).unwrap();
    fs::write(dir.path().join("merges.txt"), "#version: 0.2\no n\non e\nĠ one\n").unwrap();
    if let Some(template) = template {
        fs::write(dir.path().join("chat_template.jinja"), template).unwrap();
    }
    let mut config = config.clone();
    config["tokenizer_class"] = "GPT2Tokenizer".into();
    fs::write(dir.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    let encoder = Encoder::open(dir.path(), Moment::now()).unwrap();
    (dir, encoder)
}

#[test]
fn a_byte_level_vocabulary_with_its_first_and_last_token() {
    let (_dir, plain) = folder(&json!({"bos_token": "<s>"}), None);
    assert_eq!(plain.text("one one<s>e").unwrap(), [5, 7, 0, 3]);
    let (_dir, opt) = folder(&json!({"bos_token": {"content": "<s>"}, "add_bos_token": true}), None);
    assert_eq!(opt.text("one one").unwrap(), [0, 5, 7]);
    let config = json!({"bos_token": null, "eos_token": "</s>", "add_bos_token": true, "add_eos_token": true});
    let (_dir, last) = folder(&config, None);
    assert_eq!(last.text("one one").unwrap(), [5, 7, 8]);
    let (_dir, spaced) = folder(&json!({"add_prefix_space": true}), None);
    assert_eq!(spaced.text("one").unwrap(), [7]);
}

/// The same files belong to tokenizers that cut words differently.
#[test]
fn a_vocabulary_of_another_kind_of_tokenizer_is_not_read() {
    let (dir, _) = folder(&json!({}), None);
    for (config, words) in
        [(json!({}), "no tokenizer_class"), (json!({"tokenizer_class": "Qwen2Tokenizer"}), "Qwen2Tokenizer")]
    {
        fs::write(dir.path().join("tokenizer_config.json"), config.to_string()).unwrap();
        let error = Encoder::open(dir.path(), Moment::now()).err().unwrap().to_string();
        assert!(error.contains("vocab.json: ") && error.contains(words), "{error}");
        assert!(error.contains("expected GPT2Tokenizer") && error.contains("need a tokenizer.json"), "{error}");
    }
}

#[test]
fn a_template_writes_the_first_token_or_nobody_does() {
    let config = json!({"bos_token": "<s>", "add_bos_token": true});
    let with = "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}";
    let without = "{% for m in messages %}{{ m['content'].strip() }}{% endfor %}";
    for (template, want) in [(with, [0, 5].as_slice()), (without, &[5])] {
        let (_dir, encoder) = folder(&config, Some(template));
        let messages = [json!({"role": "user", "content": "one"})];
        let text = encoder.render(encoder.template().unwrap(), &messages, false).unwrap();
        assert_eq!(encoder.ids(&text, false).unwrap(), want, "{template}");
    }
    let (_dir, encoder) = folder(&config, None);
    assert!(matches!(encoder.template(), Err(Failure::Document(reason)) if reason.contains("need a chat template")));
}

fn parsed(json: Value) -> Result<Encoder> {
    Encoder::from_json(json.to_string().as_bytes(), &Value::Null, Path::new("tokenizer.json"))
}

/// The library would cut bytes off that are not there, or half a letter.
#[test]
fn merges_that_do_not_fit_their_prefix() {
    let bpe = |merges: Value| {
        parsed(json!({"version": "1.0", "added_tokens": [], "model": {"type": "BPE", "merges": merges,
            "continuing_subword_prefix": "##", "vocab": {"a": 0, "##b": 1, "ab": 2, "é": 3, "aé": 4, "x": 5}}}))
    };
    let good = bpe(json!([["a", "##b"]])).unwrap();
    assert_eq!(good.text("ab").unwrap(), [2]);
    for merges in [json!([["a", "x"]]), json!(["a x"]), json!([["a", "##b"], ["a", "é"]])] {
        let error = bpe(merges).err().unwrap().to_string();
        assert!(error.contains("tokenizer.json: not a tokenizer: merge") && error.contains("##"), "{error}");
    }
}

#[test]
fn what_makes_the_library_panic_is_an_error() {
    // A template with a token that it does not explain.
    let template = json!({"version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {"type": "TemplateProcessing", "pair": [], "special_tokens": {},
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]},
        "model": {"type": "WordLevel", "vocab": {"<s>": 0, "one": 1}, "unk_token": "<s>"}});
    let failure = parsed(template).unwrap().text("one").unwrap_err();
    assert!(matches!(failure, Failure::Document(reason) if reason.starts_with("the tokenizer failed: ")));
}

/// `tests/golden/tokenizers.json`: the ids of transformers for folders with tokens in files beside the vocabulary.
#[test]
fn tokens_beside_a_vocabulary() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/tokenizers.json");
    let golden: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let texts: Vec<&str> = golden["texts"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    let (mut wrong, mut compared) = (Vec::new(), 0);
    for case in golden["cases"].as_array().unwrap() {
        let dir = tempfile::tempdir().unwrap();
        let base = case["base"].as_str().unwrap();
        for files in [&golden["bases"][base], &case["files"]] {
            for (name, text) in files.as_object().unwrap() {
                fs::write(dir.path().join(name), text.as_str().unwrap()).unwrap();
            }
        }
        let what = format!("{base}, {}", case["beside"]);
        let encoder = Encoder::open(dir.path(), Moment::now()).unwrap_or_else(|error| panic!("{what}: {error}"));
        for (text, want) in texts.iter().zip(case["ids"].as_array().unwrap()) {
            let got = json!(encoder.text(text).unwrap_or_else(|failure| panic!("{what}: {failure:?}")));
            if got != *want {
                wrong.push(format!("{what}: {text:?} is {got}, expected {want}"));
            }
            compared += 1;
        }
    }
    assert!(wrong.is_empty(), "{} of {compared} differ\n{}", wrong.len(), wrong.join("\n"));
    assert!(compared > 900, "only {compared} texts compared");
}

/// Everything that is not done as a file says is a note.
#[test]
fn notes() {
    let word = json!({"version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "Whitespace"},
        "model": {"type": "WordLevel", "vocab": {"<s>": 0, "one": 1}, "unk_token": "<s>"}});
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("tokenizer.json"), word.to_string()).unwrap();
    let of = |config: Value| {
        fs::write(dir.path().join("tokenizer_config.json"), config.to_string()).unwrap();
        Encoder::open(dir.path(), Moment::now()).map(|encoder| (encoder.about().clone(), encoder))
    };
    let decoder = |id: &str| json!({"added_tokens_decoder": {id: {"content": "<new>", "special": true}}});
    let (about, encoder) = of(decoder("2")).unwrap();
    assert_eq!((about.notes.len(), encoder.text("<new>one").unwrap()), (0, vec![2, 1]));
    let added = Added { id: 2, content: "<new>".into(), file: "tokenizer_config.json".into() };
    assert_eq!(about.added, [added]);
    for (config, words) in [
        (decoder("1"), "tokenizer_config.json gives \"<new>\" the id 1; here, as in transformers, it is token 2"),
        (json!({"add_bos_token": true, "bos_token": "<s>"}), "tokenizer.json does not add \"<s>\""),
        (json!({"split_special_tokens": true}), "split_special_tokens is not done"),
    ] {
        let (about, _) = of(config).unwrap();
        assert!(about.notes.len() == 1 && about.notes[0].contains(words), "{:?}", about.notes);
    }
    let bpe = json!({"version": "1.0", "added_tokens": [],
        "model": {"type": "BPE", "dropout": 0.5, "merges": [], "vocab": {"a": 0}}});
    fs::write(dir.path().join("tokenizer.json"), bpe.to_string()).unwrap();
    let (about, _) = of(json!({})).unwrap();
    assert!(about.notes.len() == 1 && about.notes[0].contains("because of its dropout"), "{:?}", about.notes);
    for (config, words) in [
        (json!({"added_tokens_decoder": {"x": {}}}), "added_tokens_decoder: \"x\", expected a token's id"),
        (
            json!({"added_tokens_decoder": {"3": {}}}),
            "added_tokens_decoder: token 3: expected an object with its content",
        ),
        (json!({"bos_token": 3}), "bos_token: expected a token's text"),
        (json!({"extra_special_tokens": [3]}), "extra_special_tokens: expected a list of tokens"),
    ] {
        let error = of(config).err().unwrap().to_string();
        assert!(error.contains("tokenizer_config.json: ") && error.contains(words), "{error}");
    }
}
