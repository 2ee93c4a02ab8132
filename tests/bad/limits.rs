//! Small files that claim large contents, read by a program that may have little memory; and few open files.

use std::fs;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use paring_format::writer::write_file;
use serde_json::json;

use crate::support::pickles::{View, archive, state, zip};
use crate::support::*;
use crate::{BadInput, Table, check};

/// Kilobytes of addresses, most of which stacks and the program take that are never touched. What a file claims below is
/// more than this, mostly by far. One arena of the C library for all threads: each of its own takes 64 MiB of addresses.
pub const LITTLE: &str = "export MALLOC_ARENA_MAX=1; ulimit -v 1000000; ";

/// [`crate::MODEL`] with one thread: in its first product each thread that takes part reserves twice the last-level cache,
/// and how many do is a matter of chance.
const MODEL: &[&str] = &[
    "eval model eval.safetensors --seqlen 32 --quiet --threads 1",
    "quantize model calib.safetensors --wbits 4 --out out --quiet --threads 1",
];

/// A weight file of this header and these bytes after it.
fn header(sandbox: &Sandbox, name: &str, text: &str, data: &[u8]) {
    sandbox.write(name, [&(text.len() as u64).to_le_bytes()[..], text.as_bytes(), data].concat());
}

fn config(sandbox: &Sandbox, key: &str, value: u64) {
    let mut model = Model::golden("llama");
    model.config[key] = value.into();
    sandbox.write("model/config.json", model.config.to_string());
}

/// A pickled model of one tensor with these properties.
fn pickled(sandbox: &Sandbox, change: impl Fn(&mut View)) {
    let mut view = View::new("model.norm.weight", "FloatStorage", "0", &[32]);
    change(&mut view);
    sandbox.write("model/pytorch_model.bin", zip(&archive(&state(&[view]), &[("0", &[0; 128])])));
    fs::remove_file(sandbox.path("model/model.safetensors")).unwrap();
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A Parquet file with four bytes of it replaced, which are these from its start or, below 0, from its end.
fn parquet(sandbox: &Sandbox, at: isize, bytes: [u8; 4]) {
    tokenizer(sandbox);
    let mut file = fs::read(golden("data/required.parquet")).unwrap();
    let at = if at < 0 { file.len() - at.unsigned_abs() } else { at.unsigned_abs() };
    file[at..at + 4].copy_from_slice(&bytes);
    sandbox.write("rows.parquet", file);
}

const MODELS: &[BadInput] = &[
    (
        "a header of eighty million bytes",
        |s| s.write("model/model.safetensors", [&80_000_000u64.to_le_bytes()[..], b"{}"].concat()),
        &["model.safetensors", "header should have 80000000 bytes, but the file has 10"],
    ),
    (
        "a tensor of four terabytes",
        |s| {
            let text = r#"{"a":{"dtype":"F32","shape":[1048576,1048576],"data_offsets":[0,4398046511104]}}"#;
            header(s, "model/model.safetensors", text, b"1234");
        },
        &["model.safetensors", "describes 4398046511104 bytes of tensors, the file has 4"],
    ),
    (
        "the widest model",
        |s| config(s, "hidden_size", 1 << 20),
        &["config.json: config and tensors do not match", "1048576"],
    ),
    ("the largest MLP", |s| config(s, "intermediate_size", 1 << 22), &["of another shape", "4194304"]),
    ("the largest vocabulary", |s| config(s, "vocab_size", 1 << 24), &["of another shape", "16777216"]),
    ("the deepest model", |s| config(s, "num_hidden_layers", 10_000), &["89982 missing", "num_hidden_layers is right"]),
    (
        "half a million names in an index",
        |s| {
            let map: serde_json::Map<_, _> = (0..500_000).map(|i| (format!("t{i}"), "1.safetensors".into())).collect();
            s.write("model/model.safetensors.index.json", json!({"weight_map": map}).to_string());
            fs::rename(s.path("model/model.safetensors"), s.path("model/1.safetensors")).unwrap();
        },
        &["1.safetensors: model.safetensors.index.json says that t0 is in here, and it is not"],
    ),
    (
        "half a million shards",
        |s| {
            let map: serde_json::Map<_, _> = (0..500_000).map(|i| (format!("t{i}"), format!("{i}").into())).collect();
            s.write("model/model.safetensors.index.json", json!({"weight_map": map}).to_string());
            fs::remove_file(s.path("model/model.safetensors")).unwrap();
        },
        &["model.safetensors.index.json: names the shard 0, which is not in the folder"],
    ),
    (
        "a pickled storage of terabytes",
        |s| pickled(s, |v| v.count = 1 << 40),
        &["pytorch_model.bin", "should have 1099511627776 x 4 bytes and has 128"],
    ),
    (
        "a pickled tensor of terabytes",
        |s| pickled(s, |v| (v.shape, v.strides) = (vec![1 << 40], vec![0])),
        &["pytorch_model.bin", "does not lie inside the 128 bytes"],
    ),
];

const DATA: &[BadInput] = &[
    (
        "metadata of two gigabytes",
        |s| parquet(s, -8, 0x7fff_ffffu32.to_le_bytes()),
        &["rows.parquet", "metadata of 2147483647 bytes in a file of 1946"],
    ),
    (
        "pages of large sizes",
        |s| parquet(s, 7, [0xfe, 0xff, 0xff, 0x7f]),
        &["rows.parquet: row 1: column \"text\": it unpacks to more than 64 MiB"],
    ),
];

const LINES: &[BadInput] = &[
    (
        "a line of lists",
        |s| {
            tokenizer(s);
            let text = format!(r#"{{"text": [{}[]]}}"#, "[],".repeat(20 << 20));
            s.write("text.jsonl.gz", gzip(text.as_bytes()));
        },
        &["text.jsonl.gz: line 1: not JSON: a list in a line of more than 8 MiB"],
    ),
    (
        "a line of objects that nobody wants",
        |s| {
            tokenizer(s);
            let text = format!(r#"{{"more": [{}{{}}], "text": "one"}}"#, "{},".repeat(20 << 20));
            s.write("text.jsonl.gz", gzip(text.as_bytes()));
        },
        &["text.jsonl.gz", "1 tokens"],
    ),
];

const TOKENS: &[BadInput] = &[
    (
        "rows of terabytes",
        |s| {
            header(
                s,
                "ids.safetensors",
                r#"{"input_ids":{"dtype":"I64","shape":[0,1099511627776],"data_offsets":[0,0]}}"#,
                b"",
            )
        },
        &["ids.safetensors"],
    ),
    (
        "rows beyond the file",
        |s| {
            let text = r#"{"input_ids":{"dtype":"I64","shape":[2,68719476736],"data_offsets":[0,1099511627776]}}"#;
            header(s, "ids.safetensors", text, b"12345678");
        },
        &["ids.safetensors", "describes 1099511627776 bytes of tensors, the file has 8"],
    ),
];

pub const TABLES: &[Table] = &[
    Table { name: "models of little memory", commands: MODEL, shell: LITTLE, early: true, kinds: MODELS },
    Table {
        name: "columns of little memory",
        commands: &["eval model rows.parquet --quiet --seqlen 32 --threads 1"],
        shell: LITTLE,
        early: true,
        kinds: DATA,
    },
    Table {
        name: "lines of little memory",
        commands: &["eval model text.jsonl.gz --quiet --seqlen 32 --threads 1"],
        shell: LITTLE,
        early: true,
        kinds: LINES,
    },
    Table {
        name: "tokens of little memory",
        commands: &[
            "eval model ids.safetensors --quiet --threads 1",
            "quantize model ids.safetensors --wbits 4 --out out --quiet --threads 1",
        ],
        shell: LITTLE,
        early: true,
        kinds: TOKENS,
    },
];

#[test]
fn models_of_little_memory() {
    check("models of little memory");
}

#[test]
fn columns_of_little_memory() {
    check("columns of little memory");
}

#[test]
fn lines_of_little_memory() {
    check("lines of little memory");
}

#[test]
fn tokens_of_little_memory() {
    check("tokens of little memory");
}

/// The limit allows good runs: the failures above are not for want of a stack.
#[test]
fn little_memory_is_enough() {
    let sandbox = Sandbox::new();
    for command in MODEL {
        let ran = sandbox.shell(&format!("{LITTLE}exec \"$PARING\" {command}"));
        assert_eq!(ran.code, Some(0), "{command}: {}", ran.stderr);
    }
}

/// Whatever the system refuses to open is one line, and no output stays that looks like a model.
#[test]
fn few_open_files() {
    let sandbox = Sandbox::new();
    // A model of two shards, beside the text of its index.
    let tensors = Model::golden("llama").tensors;
    let (first, second): (Vec<_>, Vec<_>) = tensors.into_iter().partition(|t| t.name.contains("layers.0"));
    let mut map = serde_json::Map::new();
    for (file, tensors) in [("1.safetensors", first), ("2.safetensors", second)] {
        map.extend(tensors.iter().map(|t| (t.name.clone(), file.into())));
        write_file(&sandbox.path("model").join(file), tensors).unwrap();
    }
    sandbox.write("model/model.safetensors.index.json", json!({"weight_map": map}).to_string());
    fs::remove_file(sandbox.path("model/model.safetensors")).unwrap();
    let (mut refused, mut finished) = (0, 0);
    for files in 4..=16 {
        for command in crate::MODEL {
            let ran = sandbox.shell(&format!("ulimit -n {files}; exec \"$PARING\" {command}"));
            if ran.code == Some(0) {
                assert!(command.starts_with("eval") || sandbox.holds_model("out"), "{files} files");
                finished += 1;
            } else if ran.code == Some(127) {
                // The system does not even start the program.
                assert!(ran.stderr.contains("shared libraries"), "{files} files: {}", ran.stderr);
            } else {
                sandbox.refuses(&ran, 1, &["open files"]).unwrap_or_else(|text| panic!("{files} files: {text}"));
                refused += 1;
            }
            if sandbox.path("out").exists() {
                fs::remove_dir_all(sandbox.path("out")).unwrap();
            }
        }
    }
    assert!(refused > 0 && finished > 0, "{refused} runs were refused, {finished} finished");
}
