//! Tokenizers and chat templates that cannot be used, that take all memory, that overflow the stack, and that never end.

use std::fs;

use serde_json::{Value, json};

use crate::limits::LITTLE;
use crate::paths::{link, pipe};
use crate::support::*;
use crate::{BadInput, Table, check};

/// A program that may have 4 GB of addresses, so that the machine is safe, and a second of patience.
const IMPATIENT: &str = "export PARING_TOKENIZER_SECONDS=1; ulimit -v 4000000; ";

/// The same, with time enough to take all memory.
const PATIENT: &str = "export PARING_TOKENIZER_SECONDS=60; ulimit -v 4000000; ";

/// The tokenizer of two words, changed, and a text of so many letters or words.
fn changed(sandbox: &Sandbox, text: &str, change: impl Fn(&mut Value)) {
    tokenizer(sandbox);
    let path = sandbox.path("model/tokenizer.json");
    let mut json = json_file(&path);
    change(&mut json);
    fs::write(path, json.to_string()).unwrap();
    sandbox.write("text.txt", text);
}

fn words(sandbox: &Sandbox) {
    tokenizer(sandbox);
    sandbox.write("text.txt", "one two ".repeat(100));
}

/// A `tokenizer.json` of this text.
fn raw(sandbox: &Sandbox, json: impl AsRef<[u8]>) {
    words(sandbox);
    sandbox.write("model/tokenizer.json", json);
}

/// The tokenizer of two words beside this file.
fn beside(sandbox: &Sandbox, name: &str, content: &str) {
    words(sandbox);
    sandbox.write(&format!("model/{name}"), content);
}

/// The same, where this takes the place of a file of the model.
fn replaced(sandbox: &Sandbox, name: &str, put: fn(&Sandbox, &str)) {
    words(sandbox);
    let name = format!("model/{name}");
    let _ = fs::remove_file(sandbox.path(&name));
    put(sandbox, &name);
}

const FILES: &[BadInput] = &[
    ("a broken tokenizer", |s| raw(s, "{}"), &["model/tokenizer.json", "not a tokenizer"]),
    ("settings that are none", |s| beside(s, "tokenizer_config.json", "{"), &["model/tokenizer_config.json: not JSON"]),
    (
        "merges that do not fit their prefix",
        |s| {
            let json = r#"{"version": "1.0", "added_tokens": [], "model": {"type": "BPE", "merges": [["a", "b"]],
                "continuing_subword_prefix": "@@", "vocab": {"a": 0, "b": 1, "ab": 2}}}"#;
            raw(s, json);
        },
        &["model/tokenizer.json: not a tokenizer: merge 0 has \"b\" inside a word, expected", "begins with \"@@\""],
    ),
    (
        "a device",
        |s| replaced(s, "tokenizer.json", |s, name| link(s, "/dev/zero", name)),
        &["model/tokenizer.json: a device or a pipe, expected a file"],
    ),
    ("a pipe", |s| replaced(s, "tokenizer.json", pipe), &["model/tokenizer.json: a device or a pipe, expected a file"]),
    (
        "a link that leads nowhere",
        |s| replaced(s, "tokenizer.json", |s, name| link(s, "gone", name)),
        &["model/tokenizer.json: No such file"],
    ),
    (
        "settings that are a folder",
        |s| replaced(s, "tokenizer_config.json", |s, name| fs::create_dir(s.path(name)).unwrap()),
        &["model/tokenizer_config.json: a folder, expected a file"],
    ),
    (
        "a token of the largest number",
        |s| {
            let vocabulary = r#"{"type": "BPE", "merges": [], "vocab": {"a": 4294967296}}"#;
            raw(s, format!(r#"{{"version": "1.0", "added_tokens": [], "model": {vocabulary}}}"#));
        },
        &["model/tokenizer.json: not a tokenizer"],
    ),
    ("lists nested without end", |s| raw(s, "[".repeat(1 << 20)), &["model/tokenizer.json: not a tokenizer"]),
    (
        "normalizers nested without end",
        |s| {
            let (open, close) = (r#"{"type": "Sequence", "normalizers": ["#.repeat(50_000), "]}".repeat(50_000));
            raw(s, format!(r#"{{"version": "1.0", "added_tokens": [], "normalizer": {open}{close}, "model": {{}}}}"#));
        },
        &["model/tokenizer.json: not a tokenizer: recursion limit exceeded"],
    ),
    (
        "settings nested without end",
        |s| beside(s, "tokenizer_config.json", &"[".repeat(1 << 20)),
        &["model/tokenizer_config.json: not JSON: recursion limit exceeded"],
    ),
    (
        "added tokens that are none",
        |s| beside(s, "added_tokens.json", r#"{"<new>": -1}"#),
        &["model/added_tokens.json: \"<new>\": -1, expected a token's id"],
    ),
    (
        "a map of special tokens that is none",
        |s| beside(s, "special_tokens_map.json", "[]"),
        &["model/special_tokens_map.json: expected a JSON object"],
    ),
    (
        "added tokens without content",
        |s| beside(s, "tokenizer_config.json", r#"{"added_tokens_decoder": {"63": {"special": true}}}"#),
        &["model/tokenizer_config.json: added_tokens_decoder: token 63: expected an object with its content"],
    ),
    (
        "a charsmap that is none",
        |s| {
            changed(s, "one", |json| {
                json["normalizer"] = json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"})
            })
        },
        &["model/tokenizer.json: not a tokenizer"],
    ),
    (
        "a token that the model has no room for",
        |s| {
            beside(s, "tokenizer_config.json", r#"{"additional_special_tokens": ["three"]}"#);
            let mut json = json_file(&s.path("model/tokenizer.json"));
            for i in 3..64 {
                json["model"]["vocab"][format!("w{i}")] = i.into();
            }
            s.write("model/tokenizer.json", json.to_string());
            s.write("text.txt", "one two three ".repeat(100));
        },
        &["text.txt: token 64 (\"three\", which tokenizer_config.json adds) is outside the model's vocabulary of 64"],
    ),
];

/// Tokenizers that memory ends, however slow the machine is.
const LARGE: &[BadInput] = &[
    (
        "replacements of replacements",
        |s| {
            let one = json!({"type": "Replace", "pattern": {"Regex": "[a-z]"}, "content": "a".repeat(100)});
            changed(s, &"abc ".repeat(200), |json| {
                json["normalizer"] = json!({"type": "Sequence", "normalizers": [one, one, one, one]});
            });
        },
        &["text.txt: the tokenizer of model/tokenizer.json: it needs more than 1.0 GiB of memory"],
    ),
    (
        "a special token of a thousand ids, a hundred thousand times",
        |s| {
            let (special, text) =
                (json!({"SpecialToken": {"id": "s", "type_id": 0}}), json!({"Sequence": {"id": "A", "type_id": 0}}));
            let mut single = vec![special; 100_000];
            single.push(text.clone());
            changed(s, "one", |json| {
                json["post_processor"] = json!({"type": "TemplateProcessing", "single": single, "pair": [text],
                    "special_tokens": {"s": {"id": "s", "ids": vec![0; 1000], "tokens": vec!["s"; 1000]}}});
            });
        },
        &["model/tokenizer.json: it cannot be opened: it needs more than 1.1 GiB of memory"],
    ),
];

/// Texts with which the tokenizer's library has no end, or nearly so.
const TEXTS: &[BadInput] = &[
    (
        "prefixes of a megabyte",
        |s| {
            let one = json!({"type": "Prepend", "prepend": "x".repeat(1_000_000)});
            let all = vec![one; 40];
            changed(s, "one", |json| json["normalizer"] = json!({"type": "Sequence", "normalizers": all}));
        },
        &["text.txt: the tokenizer of model/tokenizer.json: it "],
    ),
    ("a pattern that looks ahead and back", |s| split(s, r"(?=(a+))\1*b"), ENDLESS),
    ("a pattern that looks behind", |s| split(s, r"(?<=a{1,1000}.*)b"), ENDLESS),
    (
        "a pattern that replaces",
        |s| {
            let pattern = json!({"type": "Replace", "pattern": {"Regex": r"(?=(a+))\1*b"}, "content": "c"});
            changed(s, &"a".repeat(100_000), |json| json["normalizer"] = pattern.clone());
        },
        ENDLESS,
    ),
    (
        "words of any length in pieces",
        |s| {
            changed(s, &"a".repeat(100_000), |json| {
                json["model"] = json!({"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                    "max_input_chars_per_word": u64::MAX, "vocab": {"[UNK]": 0, "b": 1, "a": 2, "##a": 3}});
            });
        },
        ENDLESS,
    ),
    (
        "pieces of any length",
        |s| {
            let pieces: Vec<Value> = (1..4000).map(|i| json!(["a".repeat(i), -1.0])).collect();
            changed(s, &"a".repeat(100_000), |json| {
                json["pre_tokenizer"] = Value::Null;
                let vocabulary: Vec<Value> = [json!(["[UNK]", 0.0])].into_iter().chain(pieces.clone()).collect();
                json["model"] = json!({"type": "Unigram", "unk_id": 0, "byte_fallback": false, "vocab": vocabulary});
            });
        },
        ENDLESS,
    ),
];

const ENDLESS: &[&str] = &["text.txt: the tokenizer of model/tokenizer.json: it takes more than 1 s"];

fn split(sandbox: &Sandbox, pattern: &str) {
    changed(sandbox, &"a".repeat(100_000), |json| {
        json["pre_tokenizer"] =
            json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
    });
}

fn chat(sandbox: &Sandbox, template: &str) {
    tokenizer(sandbox);
    sandbox.write("chat.jsonl", r#"{"messages": [{"role": "user", "content": "one two"}]}"#);
    sandbox.write("model/chat_template.jinja", template);
}

/// A template that repeats a step on a variable so many times.
fn repeated(sandbox: &Sandbox, first: &str, times: usize, step: &str) {
    let text = format!(
        "{{% set ns = namespace(s={first}) %}}{{% for i in range({times}) %}}{{% set ns.s = {step} %}}{{% endfor %}}\
        {{{{ ns.s }}}}"
    );
    chat(sandbox, &text);
}

/// The beginning of the error of a template; which of its faults is reported depends on the one that shows first.
const AT_TEMPLATE: &[&str] = &["chat.jsonl: line 1: the chat template of model/chat_template.jinja: "];

const TEMPLATES: &[BadInput] = &[
    ("text doubled", |s| repeated(s, "'a'", 40, "ns.s + ns.s"), AT_TEMPLATE),
    ("text joined to itself", |s| repeated(s, "'a'", 40, "ns.s ~ ns.s"), AT_TEMPLATE),
    ("a list doubled", |s| repeated(s, "[1]", 40, "ns.s + ns.s"), AT_TEMPLATE),
    ("a list of two lists", |s| repeated(s, "[1]", 60, "[ns.s, ns.s]"), AT_TEMPLATE),
    ("a map of two maps", |s| repeated(s, "{'a': 1}", 60, "dict(a=ns.s, b=ns.s)"), AT_TEMPLATE),
    ("letters replaced by more", |s| repeated(s, "'aaaa'", 20, "ns.s|replace('a', 'aaaa')"), AT_TEMPLATE),
    ("a method that replaces", |s| repeated(s, "'aaaa'", 20, "ns.s.replace('a', 'aaaa')"), AT_TEMPLATE),
    ("text multiplied", |s| chat(s, "{{ 'aaaaaaaaaa' * 1000000000 }}"), AT_TEMPLATE),
    ("a width of a number", |s| chat(s, "{{ '%10000000000d'|format(1) }}"), AT_TEMPLATE),
    ("a width of a method", |s| chat(s, "{{ '{:>10000000000}'.format(1) }}"), AT_TEMPLATE),
    ("an indentation", |s| chat(s, "{{ 'a\n'|indent(10000000000) }}"), AT_TEMPLATE),
    ("a centre", |s| chat(s, "{{ 'a'|center(10000000000) }}"), AT_TEMPLATE),
    ("a field of text", |s| chat(s, "{{ 'a'.ljust(10000000000) }}"), AT_TEMPLATE),
    ("batches", |s| chat(s, "{{ [1, 2]|batch(10000000000, 'x')|list }}"), AT_TEMPLATE),
    ("slices", |s| chat(s, "{{ [1, 2]|slice(10000000000, 'x')|list }}"), AT_TEMPLATE),
    ("a long list joined", |s| chat(s, "{{ range(100000)|join('aaaaaaaaaaaaaaaaaaaaaaa' * 100000) }}"), AT_TEMPLATE),
    ("a range", |s| chat(s, "{{ range(10000000000)|list }}"), AT_TEMPLATE),
    ("a macro that calls itself", |s| chat(s, "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(1) }}"), AT_TEMPLATE),
    ("parentheses", |s| chat(s, &format!("{{{{ {}1{} }}}}", "(".repeat(100_000), ")".repeat(100_000))), AT_TEMPLATE),
    ("blocks", |s| chat(s, &"{% if true %}".repeat(100_000)), AT_TEMPLATE),
];

pub const TABLES: &[Table] = &[
    Table {
        name: "files of tokenizers",
        commands: &[
            "eval model text.txt --seqlen 8 --quiet --threads 1",
            "quantize model text.txt --seqlen 8 --wbits 4 --out out --quiet --threads 1",
        ],
        shell: LITTLE,
        early: true,
        kinds: FILES,
    },
    Table {
        name: "tokenizers without bounds",
        commands: &["eval model text.txt --seqlen 8 --quiet --threads 1"],
        shell: IMPATIENT,
        early: true,
        kinds: TEXTS,
    },
    Table {
        name: "tokenizers that take all memory",
        commands: &["eval model text.txt --seqlen 8 --quiet --threads 1"],
        shell: PATIENT,
        early: true,
        kinds: LARGE,
    },
    Table {
        name: "templates without bounds",
        commands: &["eval model chat.jsonl --text-field messages --seqlen 8 --quiet --threads 1"],
        shell: IMPATIENT,
        early: true,
        kinds: TEMPLATES,
    },
];

#[test]
fn files_of_tokenizers() {
    check("files of tokenizers");
}

#[test]
fn tokenizers_without_bounds() {
    check("tokenizers without bounds");
}

#[test]
fn tokenizers_that_take_all_memory() {
    check("tokenizers that take all memory");
}

#[test]
fn templates_without_bounds() {
    check("templates without bounds");
}

/// Values nested as deep as a template can: an end, or one line, and no crash of the program.
#[test]
fn templates_of_deep_values() {
    for (first, step) in [("[1]", "[ns.s]"), ("{}", "{'a': ns.s}"), ("[1]", "(ns.s,)")] {
        let sandbox = Sandbox::new();
        repeated(&sandbox, first, 100_000, step);
        let command = TABLES[3].commands[0];
        let ran = sandbox.shell(&format!("{IMPATIENT}exec \"$PARING\" {command}"));
        assert!(ran.code == Some(0) || sandbox.refuses(&ran, 1, &[]).is_ok(), "{step}: {:?}: {}", ran.code, ran.stderr);
    }
}
