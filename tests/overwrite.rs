//! Nothing that a person has is lost: outputs that replace others, files beside them, inputs under any name, single files.

mod support;

#[path = "overwrite/files.rs"]
mod files;
#[cfg(target_os = "linux")]
#[path = "overwrite/kills.rs"]
mod kills;

use std::collections::BTreeMap;
use std::fs;
#[cfg(unix)]
use std::os::unix::fs::symlink;
use std::path::Path;

use support::*;

const QUANTIZE: &str = "quantize model calib.safetensors --wbits 4 --quiet --out out";

/// Everything below a folder: a file's bytes, a link's text, nothing of a folder.
fn tree(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let (path, name) = {
            let entry = entry.unwrap();
            (entry.path(), entry.file_name().into_string().unwrap())
        };
        let meta = fs::symlink_metadata(&path).unwrap();
        if meta.is_symlink() {
            found.insert(name, fs::read_link(&path).unwrap().to_str().unwrap().as_bytes().to_vec());
        } else if meta.is_dir() {
            found.extend(tree(&path).into_iter().map(|(below, bytes)| (format!("{name}/{below}"), bytes)));
            found.insert(format!("{name}/"), Vec::new());
        } else {
            found.insert(name, fs::read(&path).unwrap());
        }
    }
    found
}

/// A sandbox with an output of a run in `out`, a token file whose tokens are not the model's, and a tokenizer.
fn with_output() -> Sandbox {
    let sandbox = Sandbox::new();
    tokenizer(&sandbox);
    sandbox.ok(QUANTIZE);
    sandbox
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// A folder that is not overwritten: its name, the function that makes it, a command, and the words of the line that says why.
#[cfg(unix)]
type Case = (&'static str, fn(&Sandbox), &'static str, &'static [&'static str]);

/// The command of most cases.
#[cfg(unix)]
const OVER: &str = "quantize model calib.safetensors --wbits 4 --out out";

#[cfg(unix)]
const CASES: &[Case] = &[
    ("a model", |s| copy(&s.path("model"), &s.path("out")), OVER, &["out: holds a model, and nothing says"]),
    (
        "a model, another command",
        |s| copy(&s.path("model"), &s.path("out")),
        "sparsify model --method magnitude --pattern 2:4 --out out",
        &["out: holds a model, and nothing says"],
    ),
    ("a model, decompressed over", |s| copy(&s.path("model"), &s.path("out")), "decompress made --out out", &["model"]),
    (
        "a model, converted over",
        |s| copy(&s.path("model"), &s.path("out")),
        "convert made --format int-quantized --out out",
        &["out: holds a model, and nothing says"],
    ),
    (
        "a model with the manifest of another program",
        |s| {
            copy(&s.path("model"), &s.path("out"));
            s.write("out/paring.json", r#"{"program": "sparing 1.0"}"#);
        },
        OVER,
        &["out: holds a model"],
    ),
    (
        "a model with somebody's journal",
        |s| {
            copy(&s.path("model"), &s.path("out"));
            s.write("out/journal.jsonl", "{\"day\": 1}\n");
        },
        OVER,
        &["out: holds a model"],
    ),
    (
        "notes",
        |s| {
            fs::create_dir(s.path("out")).unwrap();
            s.write("out/notes.txt", "mine");
        },
        OVER,
        &["out: holds notes.txt, and nothing says"],
    ),
    (
        "a model of links into the output",
        |s| {
            copy(&s.path("made"), &s.path("out"));
            fs::create_dir(s.path("links")).unwrap();
            for name in model_bytes(&s.path("out")).into_keys() {
                symlink(format!("../out/{name}"), s.path(&format!("links/{name}"))).unwrap();
            }
        },
        "decompress links --out out",
        &["would be removed, and is read as links/", "name another output"],
    ),
    (
        "a model with a second name for the weights of the output",
        |s| {
            copy(&s.path("made"), &s.path("out"));
            let name = "model.safetensors";
            fs::remove_file(s.path("made").join(name)).unwrap();
            fs::hard_link(s.path("out").join(name), s.path("made").join(name)).unwrap();
        },
        "convert made --format int-quantized --out out",
        &["out/model.safetensors: would be removed, and is read as made/"],
    ),
    (
        "a tokenizer that is the output's",
        |s| {
            copy(&s.path("made"), &s.path("out"));
            fs::remove_file(s.path("model/tokenizer.json")).unwrap();
            symlink("../out/tokenizer.json", s.path("model/tokenizer.json")).unwrap();
        },
        OVER,
        &["out/tokenizer.json: would be removed, and is read as model/tokenizer.json"],
    ),
    (
        "calibration data in the output",
        |s| copy(&s.path("made"), &s.path("out")),
        "quantize model out/report.json --wbits 4 --out out",
        &["out/report.json: would be removed, and is read as out/report.json"],
    ),
    (
        "data for perplexity in the output",
        |s| copy(&s.path("made"), &s.path("out")),
        "quantize model calib.safetensors --wbits 4 --out out --eval out/report.html",
        &["out/report.html: would be removed, and is read as"],
    ),
    (
        "a recipe in the output",
        |s| {
            copy(&s.path("made"), &s.path("out"));
            s.write("recipe.toml", "wbits = 4\n");
            fs::remove_file(s.path("out/report.html")).unwrap();
            fs::hard_link(s.path("recipe.toml"), s.path("out/report.html")).unwrap();
        },
        "quantize model calib.safetensors --config recipe.toml --out out",
        &["out/report.html: would be removed, and is read as recipe.toml"],
    ),
    (
        "a link under a name that is written",
        |s| {
            copy(&s.path("made"), &s.path("out"));
            fs::remove_file(s.path("out/config.json")).unwrap();
            symlink("../model/config.json", s.path("out/config.json")).unwrap();
        },
        OVER,
        &["out/config.json: no run of paring wrote this", "move it away"],
    ),
    (
        "a folder under a name that is written",
        |s| {
            copy(&s.path("made"), &s.path("out"));
            fs::remove_file(s.path("out/report.html")).unwrap();
            fs::create_dir(s.path("out/report.html")).unwrap();
        },
        OVER,
        &["out/report.html: no run of paring wrote this"],
    ),
    (
        "a folder of the name for the new output",
        |s| {
            copy(&s.path("made"), &s.path("out"));
            fs::create_dir(s.path(".out.paring-new")).unwrap();
            s.write(".out.paring-new/mine", "mine");
        },
        OVER,
        &[".out.paring-new: in the way"],
    ),
];

/// Everything stays as it is.
#[cfg(unix)]
#[test]
fn files_that_no_run_wrote_are_refused_before_the_work() {
    let mut wrong = Vec::new();
    for (what, prepare, command, words) in CASES {
        let sandbox = Sandbox::new();
        tokenizer(&sandbox);
        sandbox.ok("quantize model calib.safetensors --wbits 4 --quiet --out made");
        prepare(&sandbox);
        let before = tree(&sandbox.path(""));
        let dry = if command.starts_with("quantize") { &["", " --dry-run"][..] } else { &[""] };
        for more in dry {
            let ran = sandbox.run(&format!("{command} --overwrite --quiet{more}"));
            let lines = ran.stderr.lines().count();
            if ran.code != Some(1) || lines != 1 || !words.iter().all(|word| ran.stderr.contains(word)) {
                wrong.push(format!("{what}{more}: {:?}, expected {words:?}: {}", ran.code, ran.stderr));
            }
            if tree(&sandbox.path("")) != before {
                wrong.push(format!("{what}{more}: something changed"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Everything in an output's folder that no run wrote is there after each command.
#[cfg(unix)]
#[test]
fn a_persons_files_stay() {
    let sandbox = with_output();
    sandbox.ok("quantize model calib.safetensors --wbits 3 --quiet --out other");
    sandbox.ok("decompress other --out dense --quiet");
    let want = model_bytes(&sandbox.path("other"));
    for name in
        ["notes.txt", "vocab.json", "merges.txt", "chat_template.jinja", ".activations-notes", "config.json.bak"]
    {
        sandbox.write(&format!("out/{name}"), name);
    }
    fs::create_dir_all(sandbox.path("out/logs/deep")).unwrap();
    sandbox.write("out/logs/deep/1", "mine");
    sandbox.write("out/model.safetensors.tmp", "mine");
    symlink("nowhere", sandbox.path("out/link")).unwrap();
    symlink("logs", sandbox.path("out/latest")).unwrap();
    let is_theirs = |name: &str| {
        let first = name.split('/').next().unwrap();
        let own = [
            "README.md",
            "config.json",
            "layer-errors.svg",
            "paring.json",
            "report.html",
            "report.json",
            "tokenizer.json",
        ];
        !own.contains(&first) && (!first.starts_with("model") || first.ends_with(".tmp"))
    };
    let theirs =
        || tree(&sandbox.path("out")).into_iter().filter(|(name, _)| is_theirs(name)).collect::<BTreeMap<_, _>>();
    let before = theirs();
    assert_eq!(before.len(), 12);
    for command in [
        "quantize model calib.safetensors --wbits 3 --quiet",
        "sparsify model --method magnitude --pattern 2:4 --quiet",
        "decompress other --quiet",
        "convert other --format int-quantized --quiet",
        "quantize model calib.safetensors --wbits 3 --quiet",
    ] {
        sandbox.ok(&format!("{command} --out out --overwrite"));
        assert_eq!(theirs(), before, "{command}");
        sandbox.ok("verify out --quiet");
        assert!(!sandbox.path(".out.paring-new").exists(), "{command}");
    }
    let mut made = model_bytes(&sandbox.path("out"));
    made.remove("model.safetensors.tmp");
    assert!(made == want);
}

/// A run that fails leaves the output that it was to replace, and what it did so far beside it.
#[test]
fn a_run_that_fails_changes_nothing() {
    let sandbox = with_output();
    sandbox.write("out/notes.txt", "mine");
    let before = tree(&sandbox.path("out"));
    let mut model = Model::golden("llama");
    model.set("model.layers.1.mlp.down_proj.weight", 0, f32::NAN);
    model.write(&sandbox.path("broken"));
    let broken = "quantize broken calib.safetensors --wbits 3 --quiet --out out --overwrite";
    let ran = sandbox.run(broken);
    assert!(ran.code == Some(1) && ran.stderr.contains("NaN"), "{}", ran.stderr);
    // Where the rest lies, which can be large, is said.
    let said = "; out is unchanged, and the finished blocks of the new output are in ";
    assert!(ran.stderr.contains(said) && ran.stderr.trim_end().ends_with(".out.paring-new"), "{}", ran.stderr);
    assert!(tree(&sandbox.path("out")) == before);
    let staging = sandbox.path(".out.paring-new");
    assert!(staging.join("journal.jsonl").exists() && staging.join("model-00001-of-00005.safetensors").exists());
    // Resumed it fails again; anew, with a good model, it does not, and nothing of it is left.
    let ran = sandbox.run(&broken.replace("--overwrite", "--resume"));
    assert!(ran.code == Some(1) && ran.stderr.contains("resuming at block 2 of 2"), "{}", ran.stderr);
    assert!(tree(&sandbox.path("out")) == before);
    // Other options are not resumed.
    let ran = sandbox.run(&broken.replace("--wbits 3", "--wbits 5").replace("--overwrite", "--resume"));
    assert!(ran.code == Some(1) && ran.stderr.contains("out: cannot"), "{}", ran.stderr);
    let ran = sandbox.run("convert broken --format no-such --out out --overwrite --quiet");
    assert!(ran.code != Some(0) && tree(&sandbox.path("out")) == before, "{}", ran.stderr);
    sandbox.ok(&format!("{QUANTIZE} --overwrite"));
    let after = tree(&sandbox.path("out"));
    let model = |tree: &BTreeMap<String, Vec<u8>>| -> BTreeMap<String, Vec<u8>> {
        tree.iter().filter(|(name, _)| name.starts_with("model")).map(|(n, b)| (n.clone(), b.clone())).collect()
    };
    assert!(model(&after) == model(&before) && after["notes.txt"] == b"mine" && !staging.exists());
}

/// A limit on the size of files ends a run in a shard, and then in nothing.
#[cfg(unix)]
#[test]
fn a_disk_that_takes_no_more_changes_nothing() {
    let sandbox = with_output();
    sandbox.ok("decompress out --out made --quiet");
    let before = ["out", "made"].map(|dir| tree(&sandbox.path(dir)));
    for arguments in [
        "quantize model calib.safetensors --wbits 4 --format dense --out out --overwrite --quiet",
        "decompress out --out made --overwrite --quiet",
    ] {
        let ran = sandbox.shell(&format!("trap '' XFSZ; ulimit -f 8; exec \"$PARING\" {arguments}"));
        assert!(ran.code == Some(1) && ran.stderr.contains("File too large"), "{}", ran.stderr);
        assert!(["out", "made"].map(|dir| tree(&sandbox.path(dir))) == before, "{arguments}");
    }
    // What cannot be resumed leaves nothing beside.
    assert!(!sandbox.path(".made.paring-new").exists() && sandbox.path(".out.paring-new").exists());
    sandbox.ok("quantize model calib.safetensors --wbits 4 --format dense --out out --resume --quiet");
    sandbox.ok("verify out --quiet");
    assert!(!sandbox.path(".out.paring-new").exists());
}

/// A folder of another disk cannot change its place; one that a link leads to can.
#[cfg(target_os = "linux")]
#[test]
fn places_that_cannot_be_exchanged() {
    let sandbox = with_output();
    let script = "cd out && exec \"$PARING\" quantize ../model ../calib.safetensors --wbits 4 --out . --overwrite";
    let ran = sandbox.shell(script);
    sandbox_refused(&ran, "the working directory lies in it");
    fs::create_dir(sandbox.path("disk")).unwrap();
    let script = format!(
        "unshare -rm sh -c 'mount -t tmpfs none disk || exit 77; cp -r out disk/; touch ran
        mount --bind disk/out out || exit 77; exec \"$PARING\" {QUANTIZE} --overwrite'"
    );
    let ran = sandbox.shell(&script);
    if sandbox.path("ran").exists() && ran.code != Some(77) {
        sandbox_refused(&ran, "out: another disk is mounted here");
    }
    symlink("out", sandbox.path("link")).unwrap();
    sandbox.ok(&QUANTIZE.replace("--out out", "--out link --overwrite"));
    assert!(sandbox.path("link").is_symlink() && sandbox.holds_model("out"));
}

fn sandbox_refused(ran: &Ran, words: &str) {
    assert!(ran.code == Some(1) && ran.stderr.lines().count() == 1 && ran.stderr.contains(words), "{ran:?}");
}

/// Files that someone changed since a run wrote them are not removed: they get another name.
#[test]
fn what_changed_since_it_was_written_is_kept() {
    let sandbox = with_output();
    let mut model = Model::read(&sandbox.open("model"));
    model.config["mine"] = true.into();
    sandbox.write("out/config.json", model.config.to_string());
    let ran = sandbox.ok(&format!("{QUANTIZE} --overwrite"));
    let note = "config.json of the earlier output was changed after it was written: it is kept as config.json.kept";
    assert!(ran.stderr.contains(note), "{}", ran.stderr);
    assert!(fs::read_to_string(sandbox.path("out/config.json.kept")).unwrap().contains("\"mine\":true"));
    assert!(!fs::read_to_string(sandbox.path("out/config.json")).unwrap().contains("mine"));
}
