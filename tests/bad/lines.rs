//! Data that cannot be used: lines of JSON and lists, packed and not.

use crate::data::{both, gzip, table, with_tokenizer};
use crate::support::tokenizer;
use crate::{BadInput, Table, check};

const JSON_LINES: &[BadInput] = &[
    (
        "a line of noise",
        |s| {
            tokenizer(s);
            s.write("text.jsonl", "{\"text\": \"one\"}\n\n{\"text\": two\n");
        },
        &["text.jsonl", "line 3: not JSON"],
    ),
    (
        "no such field",
        |s| {
            tokenizer(s);
            s.write("text.jsonl", "{\"text\": \"one\"}\n{\"body\": \"two\"}\n");
        },
        &["text.jsonl: line 2: no field \"text\" (it has: body); name another with --text-field"],
    ),
    (
        "a field that is no text",
        |s| {
            tokenizer(s);
            s.write("text.jsonl", "{\"text\": 1}\n");
        },
        &["text.jsonl", "line 1", "field \"text\" holds a number, expected text or a list of messages"],
    ),
    (
        "nulls alone",
        |s| with_tokenizer(s, "text.jsonl", "{\"text\": null}\n{\"text\": null}\n"),
        &["text.jsonl: no tokens in it; 2 documents have null for \"text\" and are left out"],
    ),
    (
        "NaN for text",
        |s| with_tokenizer(s, "text.jsonl", "{\"a\": NaN, \"text\": NaN}\n"),
        &["text.jsonl: line 1: field \"text\" holds NaN, expected text or a list of messages"],
    ),
    (
        "a comma after the object",
        |s| with_tokenizer(s, "text.jsonl", "{\"text\": \"one\"},\n"),
        &["text.jsonl: line 1: not JSON: a comma after the object", "(column 16)"],
    ),
    (
        "objects of Python",
        |s| with_tokenizer(s, "text.jsonl", "{\"text\": \"one\"}\n{'text': 'two'}\n"),
        &["text.jsonl: line 2: not JSON: single quotes, as Python prints them", "(column 2)"],
    ),
    (
        "cut off",
        |s| with_tokenizer(s, "text.jsonl", "{\"text\": \"one\"}\n{\"text\": \"tw"),
        &["text.jsonl: line 2: not JSON: it ends in the middle of a text: was it cut off?"],
    ),
    (
        "a list with a comma at its end",
        |s| with_tokenizer(s, "text.jsonl", "[\n  {\"text\": \"one\"},\n]\n"),
        &["text.jsonl: line 3: not JSON: a comma before ]"],
    ),
    (
        "a list with an element that is no object",
        |s| with_tokenizer(s, "text.jsonl", "[\n  {\"text\": \"one\"},\n  7\n]\n"),
        &["text.jsonl: document 2: a number, expected an object"],
    ),
    (
        "a list with a comment",
        |s| with_tokenizer(s, "text.jsonl", "[\n  {\"text\": \"one\"},\n  {\"a\": 1, // all\n \"text\": \"two\"}\n]\n"),
        &["text.jsonl: document 2: not JSON: a comment, which JSON does not have (line 3)"],
    ),
    (
        "UTF-16",
        |s| with_tokenizer(s, "text.jsonl", b"\xff\xfe{\0\"\0t\0"),
        &["text.jsonl: not UTF-8 but UTF-16: convert it with iconv -f UTF-16 -t UTF-8"],
    ),
    (
        "a line that is no object",
        |s| with_tokenizer(s, "text.jsonl", "[\"one\"]\n"),
        &["text.jsonl: line 1: a list, expected an object"],
    ),
    (
        "not UTF-8",
        |s| with_tokenizer(s, "text.jsonl", b"\n{\"text\": \"\xff\"}\n"),
        &["text.jsonl: line 2: not UTF-8 at byte 11: it looks like Latin-1; convert it with iconv -f LATIN1 -t UTF-8"],
    ),
];

const GZIP: &[BadInput] = &[
    ("no file", |s| tokenizer(s), &["text.jsonl.gz: no such file or data set"]),
    (
        "no gzip",
        |s| with_tokenizer(s, "text.jsonl.gz", "{\"text\": \"one\"}\n"),
        &["text.jsonl.gz: line 1: cannot be unpacked as gzip"],
    ),
    (
        "cut off",
        |s| {
            let packed = gzip(&b"{\"text\": \"one two\"}\n".repeat(9));
            with_tokenizer(s, "text.jsonl.gz", &packed[..packed.len() - 9]);
        },
        &["text.jsonl.gz: line ", "cannot be unpacked as gzip"],
    ),
    (
        "not UTF-8",
        |s| with_tokenizer(s, "text.jsonl.gz", gzip(b"{\"text\": \"one\"}\n{\"text\": \"\xff\"}\n")),
        &["text.jsonl.gz: line 2: not UTF-8"],
    ),
    (
        "a bomb of one line",
        |s| with_tokenizer(s, "text.jsonl.gz", gzip(&vec![b' '; (64 << 20) + 1])),
        &["text.jsonl.gz: line 1: ", "64 MiB"],
    ),
    (
        "a bomb of empty lines",
        |s| with_tokenizer(s, "text.jsonl.gz", gzip(&vec![b'\n'; (64 << 20) + 1])),
        &["text.jsonl.gz: line ", "more than 64 MiB and 200 times its size"],
    ),
];

const ZSTANDARD: &[BadInput] = &[(
    "no Zstandard",
    |s| with_tokenizer(s, "text.jsonl.zst", "{\"text\": \"one\"}\n"),
    &["text.jsonl.zst: line 1: cannot be unpacked as Zstandard"],
)];

pub const TABLES: &[Table] = &[
    table("json lines", both!("text.jsonl", "--seqlen 32"), JSON_LINES),
    table("gzip", both!("text.jsonl.gz", "--seqlen 32"), GZIP),
    table("zstandard", both!("text.jsonl.zst", "--seqlen 32"), ZSTANDARD),
];

#[test]
fn json_lines() {
    check("json lines");
}

#[test]
fn gzip_files() {
    check("gzip");
}

#[test]
fn zstandard() {
    check("zstandard");
}
