//! Names that lead elsewhere: links, pipes, devices, folders of others.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::support::*;
use crate::{BadArguments, BadInput, MODEL, Questions, Table, check};

/// Replaces a file of the sandbox by a link.
pub fn link(sandbox: &Sandbox, to: &str, name: &str) {
    let path = sandbox.path(name);
    if path.exists() {
        fs::remove_file(&path).unwrap();
    }
    symlink(to, path).unwrap();
}

/// A pipe that nobody writes to.
pub fn pipe(sandbox: &Sandbox, name: &str) {
    assert!(Command::new("mkfifo").arg(sandbox.path(name)).status().unwrap().success());
}

const MODELS: &[BadInput] = &[
    ("a config that leads nowhere", |s| link(s, "gone", "model/config.json"), &["model: no config.json here"]),
    ("a config in a circle", |s| link(s, "config.json", "model/config.json"), &["model: no config.json here"]),
    ("a config that is a folder", |s| link(s, ".", "model/config.json"), &["model: no config.json here"]),
    (
        "weights that lead nowhere",
        |s| link(s, "gone", "model/model.safetensors"),
        &["model: neither model.safetensors nor"],
    ),
    (
        "weights that are a device",
        |s| link(s, "/dev/zero", "model/model.safetensors"),
        &["model: neither model.safetensors nor"],
    ),
    (
        "a shard in a circle",
        |s| {
            fs::remove_file(s.path("model/model.safetensors")).unwrap();
            s.write("model/model.safetensors.index.json", r#"{"weight_map": {"a": "1.safetensors"}}"#);
            link(s, "1.safetensors", "model/1.safetensors");
        },
        &["model.safetensors.index.json: names the shard 1.safetensors, which is not in the folder"],
    ),
    (
        "an output that was not finished",
        |s| {
            fs::remove_file(s.path("model/config.json")).unwrap();
            s.write("model/journal.jsonl", "{}");
        },
        &["model: an unfinished run, not a model yet", "--resume"],
    ),
];

const ASKED: &[BadArguments] = &[
    ("eval model zeros.txt", &["zeros.txt: a device or a pipe, expected a file"]),
    ("eval model zeros.jsonl", &["zeros.jsonl: a device or a pipe, expected a file"]),
    ("eval model pipe.jsonl", &["pipe.jsonl: a device or a pipe, expected a file"]),
    ("eval model pipe.jsonl.gz", &["pipe.jsonl.gz: a device or a pipe, expected a file"]),
    ("eval model pipe.parquet", &["pipe.parquet: a device or a pipe, expected a file"]),
    ("eval model pipe.safetensors", &["pipe.safetensors: a device or a pipe, expected a file"]),
    ("eval model pipe.pth", &["pipe.pth: a device or a pipe, expected a file"]),
    ("eval model folder.safetensors", &["folder.safetensors: a folder, expected a file"]),
    ("eval model circle.txt", &["circle.txt: Too many levels of symbolic links"]),
    ("eval circle.txt eval.safetensors", &["circle.txt: not found"]),
    ("quantize model calib.safetensors --wbits 4 --out /proc/out", &["/proc/out: cannot write here"]),
    ("sparsify model --pattern 2:4 --method magnitude --out /dev/null", &["/dev/null: exists and is not a folder"]),
    ("quantize model calib.safetensors --wbits 4 --out circle.txt", &["circle.txt"]),
];

fn places(sandbox: &Sandbox) {
    tokenizer(sandbox);
    for name in ["zeros.txt", "zeros.jsonl"] {
        link(sandbox, "/dev/zero", name);
    }
    for name in ["pipe.jsonl", "pipe.jsonl.gz", "pipe.parquet", "pipe.safetensors", "pipe.pth"] {
        pipe(sandbox, name);
    }
    fs::create_dir(sandbox.path("folder.safetensors")).unwrap();
    link(sandbox, "circle.txt", "circle.txt");
}

pub const TABLES: &[Table] =
    &[Table { name: "links and pipes of models", commands: MODEL, shell: "", early: true, kinds: MODELS }];

pub const QUESTIONS: &[Questions] = &[Questions {
    name: "links and pipes beside models",
    prepare: places,
    command: "{} --quiet",
    code: 1,
    kinds: ASKED,
}];

#[test]
fn links_and_pipes_of_models() {
    check("links and pipes of models");
}

#[test]
fn links_and_pipes_beside_models() {
    check("links and pipes beside models");
}

/// Links to files are what the cache of the hub is made of.
#[test]
fn links_are_followed_to_files() {
    let sandbox = Sandbox::new();
    sandbox.ok("quantize model calib.safetensors --wbits 4 --out plain --quiet");
    fs::rename(sandbox.path("model"), sandbox.path("blobs")).unwrap();
    fs::create_dir(sandbox.path("model")).unwrap();
    for name in ["config.json", "model.safetensors"] {
        symlink(format!("../blobs/{name}"), sandbox.path(&format!("model/{name}"))).unwrap();
    }
    sandbox.ok("quantize model calib.safetensors --wbits 4 --out out --quiet");
    assert!(model_bytes(&sandbox.path("out")) == model_bytes(&sandbox.path("plain")));
}

/// Links in an output are a person's: where a file is to be written they are in the way, and their targets stay as they are.
#[test]
fn links_in_an_output_are_not_followed() {
    let sandbox = Sandbox::new();
    sandbox.ok("quantize model calib.safetensors --wbits 4 --out out --quiet");
    let before = model_bytes(&sandbox.path("out"));
    sandbox.write("mine", "mine");
    for name in before.keys() {
        let path = sandbox.path(&format!("out/{name}"));
        let aside = sandbox.path(name);
        fs::rename(&path, &aside).unwrap();
        symlink("../mine", &path).unwrap();
        let ran = sandbox.run("quantize model calib.safetensors --wbits 4 --out out --overwrite --quiet");
        assert!(ran.code == Some(1) && ran.stderr.contains(&format!("out/{name}: no run of paring")), "{}", ran.stderr);
        fs::rename(&aside, &path).unwrap();
        symlink("../mine", sandbox.path(&format!("out/{name}.tmp"))).unwrap();
    }
    sandbox.ok("quantize model calib.safetensors --wbits 4 --out out --overwrite --quiet");
    assert_eq!(fs::read_to_string(sandbox.path("mine")).unwrap(), "mine");
    let mut after = model_bytes(&sandbox.path("out"));
    after.retain(|name, _| !name.ends_with(".tmp"));
    assert!(after == before);
    assert!(before.keys().all(|name| sandbox.path(&format!("out/{name}.tmp")).is_symlink()));
}

#[test]
fn paths_that_are_not_utf_8() {
    let sandbox = Sandbox::new();
    for arguments in ["inspect \"$(printf 'mod\\377')\"", "decompress model --out \"$(printf 'out\\377')\""] {
        let ran = sandbox.shell(&format!("exec \"$PARING\" {arguments}"));
        // Either is fine, a name that is used as it is and one that is refused, as long as it is said.
        match ran.code {
            Some(0) => assert!(ran.stderr.is_empty() || !ran.stderr.contains("error"), "{}", ran.stderr),
            code => sandbox.refuses(&ran, code.unwrap_or(-1), &["error: "]).unwrap(),
        }
        assert!(matches!(ran.code, Some(0..=2)), "{ran:?}");
    }
}
