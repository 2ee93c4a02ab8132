//! Data that cannot be used: text, documents, messages, named sets.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::support::*;
use crate::{BadArguments, BadInput, Questions, Table, check};

pub fn with_tokenizer(sandbox: &Sandbox, name: &str, content: impl AsRef<[u8]>) {
    tokenizer(sandbox);
    sandbox.write(name, content);
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn fixture(sandbox: &Sandbox, name: &str) {
    with_tokenizer(sandbox, "rows.parquet", std::fs::read(golden("data").join(name)).unwrap());
}

fn chat(sandbox: &Sandbox, template: &str) {
    let line = r#"{"messages": [{"role": "user", "content": "one"}]}"#;
    with_tokenizer(sandbox, "chat.jsonl", line);
    sandbox.write("model/chat_template.jinja", template);
}

const TEXTS: &[BadInput] = &[
    ("no file", |s| tokenizer(s), &["text.txt: no such file or data set; name a file, or one of wikitext2"]),
    ("no tokenizer", |s| s.write("text.txt", "one two"), &["text.txt", "tokenizer.json", "token ids"]),
    (
        "empty",
        |s| {
            tokenizer(s);
            s.write("text.txt", "");
        },
        &["text.txt", "no tokens"],
    ),
    (
        "not UTF-8",
        |s| {
            tokenizer(s);
            s.write("text.txt", b"one\n\xff two");
        },
        &["text.txt: not UTF-8 at byte 5, line 2: it looks like Latin-1; convert it with iconv -f LATIN1 -t UTF-8"],
    ),
    (
        "UTF-16",
        |s| with_tokenizer(s, "text.txt", b"\xfe\xff\0o\0n\0e"),
        &["text.txt: not UTF-8 but UTF-16: convert it with iconv -f UTF-16 -t UTF-8"],
    ),
    (
        "too short",
        |s| {
            tokenizer(s);
            s.write("text.txt", "one two one");
        },
        &["text.txt", "3 tokens", "32", "--seqlen"],
    ),
    (
        "a folder",
        |s| {
            tokenizer(s);
            std::fs::create_dir(s.path("text.txt")).unwrap();
        },
        &["text.txt"],
    ),
];

const OTHER_DATA: &[BadInput] = &[
    (
        "no text",
        |s| with_tokenizer(s, "data.csv", b"\x93NUMPY\x01\0v\0"),
        &["data.csv: not UTF-8 at byte 1, line 1", "other data is .txt, .jsonl"],
    ),
    (
        "Latin-1",
        |s| with_tokenizer(s, "data.csv", b"caf\xe9s"),
        &["data.csv: not UTF-8 at byte 4, line 1: it looks like Latin-1; convert it with iconv -f LATIN1"],
    ),
];

const PARQUET: &[BadInput] = &[
    (
        "no Parquet",
        |s| with_tokenizer(s, "rows.parquet", "one two one two"),
        &["rows.parquet: not a Parquet file that can be read: it does not begin and end with PAR1"],
    ),
    (
        "cut off",
        |s| {
            let whole = std::fs::read(golden("data/snappy.parquet")).unwrap();
            with_tokenizer(s, "rows.parquet", &whole[..1000]);
        },
        &["rows.parquet: not a Parquet file", "cut off?"],
    ),
    ("nulls alone", |s| fixture(s, "all_null.parquet"), &["rows.parquet: no tokens in it; 2 documents have null"]),
    (
        "no such column",
        |s| fixture(s, "chat.parquet"),
        &["rows.parquet: no column \"text\" (it has: id, messages); name another with --text-field"],
    ),
    ("nested", |s| fixture(s, "lists.parquet"), &["rows.parquet: column \"text\" is nested, expected text"]),
    (
        "another encoding",
        |s| fixture(s, "split.parquet"),
        &["rows.parquet: row 1", "values in encoding 9, expected plain"],
    ),
    ("another packing", |s| fixture(s, "lzo.parquet"), &["rows.parquet", "LZO, expected Snappy, gzip"]),
];

const PARQUET_OF_NUMBERS: &[BadInput] =
    &[("numbers", |s| fixture(s, "plain.parquet"), &["rows.parquet: column \"id\" holds integers, expected text"])];

const MESSAGES: &[BadInput] = &[
    (
        "no template",
        |s| with_tokenizer(s, "chat.jsonl", r#"{"messages": [{"role": "user", "content": "one"}]}"#),
        &["chat.jsonl: line 1: messages need a chat template"],
    ),
    (
        "a template that raises",
        |s| chat(s, "{{ raise_exception('no\nsystem message') }}"),
        &["chat.jsonl: line 1: the chat template of ", "chat_template.jinja", "no system message"],
    ),
    (
        "a template without an end",
        |s| chat(s, "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"),
        &["chat.jsonl: line 1: ", "does not come to an end in 2000000 steps"],
    ),
    ("a template that is none", |s| chat(s, "{% for %}"), &["chat.jsonl: line 1: ", "syntax error"]),
    (
        "a template of bytes",
        |s| {
            chat(s, "");
            s.write("model/chat_template.jinja", b"\xff");
        },
        &["chat_template.jinja: not UTF-8"],
    ),
    (
        "a message that is text",
        |s| with_tokenizer(s, "chat.jsonl", r#"{"messages": [{"role": "user"}, "one"]}"#),
        &["chat.jsonl: line 1: field \"messages\": message 2 is not an object"],
    ),
    (
        "no messages",
        |s| with_tokenizer(s, "chat.jsonl", r#"{"messages": []}"#),
        &["chat.jsonl: line 1: field \"messages\" is an empty list, expected messages"],
    ),
];

const NAMED_SETS: &[BadInput] = &[
    ("no such file", |s| tokenizer(s), &["c4: --data-dir . has none of en/c4-", ".json.gz", "(it has: ", "model"]),
    (
        "short documents",
        |s| {
            let lines = gzip(&b"{\"text\": \"one two one\"}\n".repeat(7));
            with_tokenizer(s, "c4-train.00000-of-01024.json.gz", &lines);
            s.write("c4-validation.00000-of-00008.json.gz", &lines);
        },
        &["c4: no document fills a window of 32 tokens", "the 7 that were tried (of 7) has 3, expected 32", "--seqlen"],
    ),
    (
        "nothing in it",
        |s| {
            with_tokenizer(s, "c4-train.00000-of-01024.json.gz", gzip(b"\n\n"));
            s.write("c4-validation.00000-of-00008.json.gz", gzip(b""));
        },
        &["c4: no documents in it"],
    ),
];

/// Data that are wrong only together with the arguments.
fn short_data(sandbox: &Sandbox) {
    tokenizer(sandbox);
    sandbox.write("red_pajama_n=1024.pth", "no pickle");
    sandbox.write("text.txt", "one two ".repeat(50));
    sandbox.write("short.txt", "one two ".repeat(10));
}

const NAMES: &[BadArguments] = &[
    ("eval model wikitxt2", &["wikitxt2: no such file or data set; did you mean wikitext2?"]),
    ("eval model pajama --data-dir .", &["pajama: a set of tokens to calibrate on; measure on wikitext2"]),
    ("quantize model pajama --wbits 4 --out out", &["pajama: ", "data/red_pajama_n=1024.pth", "--data-dir"]),
    ("quantize model pajama --wbits 4 --data-dir . --out out", &["red_pajama_n=1024.pth"]),
    ("quantize model refinedweb --wbits 4 --data-dir . --out out", &["refinedweb: ", "refined_web_n=128.pth"]),
    (
        "eval model wikitext2 --data-dir nowhere",
        &[
            "wikitext2: --data-dir nowhere: no such folder",
            "wikitext-2-raw-v1/test-00000-of-00001.parquet",
            "wiki.test.raw",
        ],
    ),
];

const TOO_LITTLE: &[BadArguments] = &[
    (
        "calib.safetensors --nsamples 9",
        &["calib.safetensors", "8 rows of tokens, fewer than --nsamples 9; use at most 8"],
    ),
    (
        "short.txt --seqlen 32 --nsamples 4",
        &["short.txt", "20 tokens do not fill one window of 32; use more text or a smaller --seqlen"],
    ),
    (
        "calib.safetensors --eval text.txt --seqlen 32 --nsamples 9",
        &["calib.safetensors", "8 rows of tokens, fewer than --nsamples 9"],
    ),
    (
        "text.txt --seqlen 32 --nsamples 4294967295",
        &["--nsamples 4294967295: 4294967295 windows of 32 tokens are more than 1073741824 tokens in all"],
    ),
    ("calib.safetensors --eval gone.txt", &["gone.txt: no such file or data set"]),
];

/// The two commands that read a data set, one to measure and one to calibrate.
macro_rules! both {
    ($file:literal, $options:literal) => {
        &[
            concat!("eval model ", $file, " --quiet ", $options),
            concat!("quantize model ", $file, " --wbits 4 --out out --quiet ", $options),
        ]
    };
}

pub(crate) use both;

pub const fn table(name: &'static str, commands: &'static [&'static str], kinds: &'static [BadInput]) -> Table {
    Table { name, commands, shell: "", early: true, kinds }
}

pub const TABLES: &[Table] = &[
    table("texts", both!("text.txt", "--seqlen 32"), TEXTS),
    table("other data", both!("data.csv", ""), OTHER_DATA),
    table("parquet", both!("rows.parquet", "--seqlen 32"), PARQUET),
    table("parquet of numbers", both!("rows.parquet", "--seqlen 32 --text-field id"), PARQUET_OF_NUMBERS),
    table("messages", both!("chat.jsonl", "--seqlen 32 --text-field messages"), MESSAGES),
    table("named sets", both!("c4", "--seqlen 32 --data-dir ."), NAMED_SETS),
];

pub const QUESTIONS: &[Questions] = &[
    Questions { name: "names of sets", prepare: short_data, command: "{} --quiet", code: 1, kinds: NAMES },
    Questions {
        name: "too little data",
        prepare: short_data,
        command: "quantize model {} --wbits 4 --out out --quiet",
        code: 1,
        kinds: TOO_LITTLE,
    },
];

#[test]
fn texts() {
    check("texts");
}

#[test]
fn other_data() {
    check("other data");
}

#[test]
fn parquet() {
    check("parquet");
}

#[test]
fn parquet_of_numbers() {
    check("parquet of numbers");
}

#[test]
fn messages() {
    check("messages");
}

#[test]
fn named_sets() {
    check("named sets");
}

#[test]
fn names_of_sets() {
    check("names of sets");
}

#[test]
fn too_little_data() {
    check("too little data");
}
