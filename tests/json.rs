//! `--json`: stdout holds one object and nothing else, whatever the command and however it ends.

mod support;

use std::collections::BTreeSet;

use paring_format::{Adapter, AdapterConfig, Pair};
use serde_json::{Value, json};
use support::*;

/// A command, arguments with which it succeeds, and others with which it fails, with exit codes.
type Case = (&'static str, &'static str, &'static [(&'static str, i32)]);

const CASES: [Case; 21] = [
    (
        "quantize",
        "model calib.safetensors --wbits 4 --out quantized",
        &[
            ("model calib.safetensors --wbits 99", 2),
            ("model none.txt --wbits 4 --out out", 1),
            ("model calib.safetensors --wbits 4 --nonsense", 2),
        ],
    ),
    (
        "prune",
        "model calib.safetensors --pattern 2:4 --eval eval.safetensors --out pruned",
        &[("none calib.safetensors --pattern 2:4 --out out", 1), ("model calib.safetensors", 2)],
    ),
    (
        "finetune",
        "demo demo --steps 1 --batch-size 2 --seqlen 32 --limit 40 --out tuned",
        &[
            ("none demo --out out", 1),
            ("demo none.txt --out out", 1),
            ("demo demo --lora r=0 --out out", 2),
            ("demo demo --kl-weight 0.5 --out out", 2),
        ],
    ),
    (
        "eval",
        "w4 eval.safetensors --seqlen 32",
        &[("none eval.safetensors", 1), ("model eval.safetensors --limit 0", 2)],
    ),
    ("tokens", "model calib.safetensors", &[("model none.txt", 1)]),
    ("inspect", "w4", &[("none", 1), ("w4 --outliers model", 2)]),
    (
        "verify",
        "w4 --reference model --data eval.safetensors --seqlen 32",
        &[("none", 1), ("w4 --reference model --data eval.safetensors --seqlen 32 --max-kl 0", 1)],
    ),
    (
        "generate",
        "demo --prompt sesnir --max-new-tokens 3",
        &[
            ("demo --prompt sesnir --temperature -1", 2),
            ("demo", 2),
            ("none --prompt sesnir", 1),
            ("model --prompt one", 1),
            ("demo --prompt-file none.jsonl", 1),
        ],
    ),
    // Stdin is empty.
    ("chat", "demo", &[("none", 1), ("model", 1), ("demo --top-p 2", 2)]),
    ("decompress", "w4 --out dense", &[("w4 --out w4", 2), ("none --out out", 1)]),
    ("convert", "w4 --format dense --out converted", &[("w4 --format none --out out", 2)]),
    ("export-masks", "sparse --out masks", &[("none --out out", 1), ("model --out none", 1), ("sparse", 2)]),
    ("merge", "w4 adapter --out merged", &[("w4 none --out out", 1), ("w4 adapter --masks none --out out", 2)]),
    ("report", "w4", &[("model", 1), ("w4 sparse none", 1)]),
    ("rouge", "texts.txt texts.txt", &[("texts.txt none.txt", 1), ("texts.txt", 2), ("texts.txt empty.txt", 1)]),
    ("schemes", "", &[("--nonsense", 2)]),
    ("tasks", "piqa", &[("--nonsense", 2), ("hellaswg", 2)]),
    (
        "layer",
        "layer.safetensors --method rtn --wbits 4 --out made",
        &[("none --method rtn --wbits 4 --out out", 1), ("layer.safetensors --method none --out out", 2)],
    ),
    ("bench", "--ops none", &[("--ops nonsense", 2)]),
    ("completions", "bash", &[("tcsh", 2)]),
    ("man", "quantize", &[("nonsense", 2)]),
];

/// The text as one object on one line.
fn object(ran: &Ran, what: &str) -> Value {
    let value: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{what}: {e}: {}", ran.stdout));
    assert!(value.is_object() && ran.stdout.lines().count() == 1, "{what}: {}", ran.stdout);
    value
}

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    let weight = f32_tensor("weight", &[2, 4], &[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]);
    paring_format::writer::write_file(&sandbox.path("layer.safetensors"), vec![weight]).unwrap();
    sandbox.write("texts.txt", "one two\nthree\n");
    sandbox.write("empty.txt", "");
    let pair = Pair::new(1, (32, 32), vec![0.1; 32], vec![0.1; 32], 1.0).unwrap();
    let pairs = [("model.layers.0.self_attn.q_proj".to_string(), pair)].into();
    let adapter = Adapter { config: AdapterConfig::new(1, 1.0, ["q_proj"]), pairs, place: Default::default() };
    adapter.write(&sandbox.path("adapter"), false).unwrap();
    for (name, command) in [("w4", "quantize --wbits 4"), ("sparse", "sparsify --pattern 2:4")] {
        let (command, options) = command.split_once(' ').unwrap();
        sandbox.ok(&format!("{command} model calib.safetensors {options} --quiet --out {name}"));
    }
    sandbox
}

#[test]
fn every_command_prints_one_object() {
    let sandbox = sandbox();
    for (command, good, bad) in CASES {
        let run = format!("{command} {good} --json");
        let ran = sandbox.ok(&run);
        let value = object(&ran, &run);
        assert!(
            value["error"]["message"].is_null() && value.as_object().is_some_and(|all| !all.is_empty()),
            "{run}: {value}"
        );
        for (arguments, code) in bad {
            // The option may come first too.
            for run in [format!("{command} {arguments} --json"), format!("--json {command} {arguments}")] {
                let ran = sandbox.run(&run);
                assert_eq!(ran.code, Some(*code), "{run}: {}", ran.stderr);
                let error = object(&ran, &run)["error"].clone();
                assert_eq!(error["code"], *code, "{run}: {error}");
                let message = error["message"].as_str().unwrap_or_else(|| panic!("{run}: {error}"));
                let line = ran.stderr.lines().find(|line| line.starts_with("error: "));
                let line = line.unwrap_or_else(|| panic!("{run}: {}", ran.stderr));
                assert!(message.starts_with(line.trim_start_matches("error: ").trim_end()), "{run}: {message}");
                assert!(!sandbox.holds_model("out"), "{run}");
            }
        }
    }
    // The program has no other commands: each has a page in its manual.
    sandbox.ok("man --out pages");
    let pages = std::fs::read_dir(sandbox.path("pages")).unwrap();
    let pages = pages.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names: BTreeSet<String> =
        pages.filter_map(|page| Some(page.strip_prefix("paring-")?.strip_suffix(".1")?.to_string())).collect();
    // A server does not end by itself: tests/serve.rs has its object.
    let known = CASES.iter().map(|(command, ..)| *command).chain(["serve"]);
    assert_eq!(names, known.map(String::from).collect());
}

#[test]
fn text_for_people_moves_to_stderr() {
    let sandbox = sandbox();
    for run in ["inspect w4", "schemes", "verify w4", "report w4", "eval w4 eval.safetensors --seqlen 32"] {
        let plain = sandbox.ok(run).stdout;
        let json = sandbox.ok(&format!("{run} --json"));
        let first = plain.lines().next().unwrap();
        if !run.starts_with("eval") {
            assert!(json.stderr.contains(first), "{run}: {first}\n{}", json.stderr);
        }
        assert!(!json.stderr.is_empty(), "{run}");
        assert_eq!(sandbox.ok(&format!("{run} --json --quiet")).stderr, "", "{run}");
    }
}

#[test]
fn a_misuse_before_the_command_is_known() {
    let sandbox = Sandbox::empty();
    for run in ["--json", "--json nonsense", "nonsense --json"] {
        let ran = sandbox.run(run);
        assert_eq!(ran.code, Some(2), "{run}");
        assert_eq!(object(&ran, run)["error"]["code"], 2, "{run}");
    }
    let missing = object(&sandbox.run("--json"), "--json")["error"]["message"].clone();
    assert_eq!(missing, "the command is missing; `paring --help` lists them");
    // After two dashes it is a name.
    assert_eq!(sandbox.run("inspect -- --json").stdout, "");
}

#[cfg(target_os = "linux")]
#[test]
fn a_stdout_that_takes_nothing() {
    let sandbox = sandbox();
    // Without a turn a conversation prints nothing.
    for (command, good, bad) in CASES.into_iter().filter(|(command, ..)| *command != "chat") {
        for json in ["", "--json"] {
            let out = |name: &str| good.replace("--out ", &format!("--out {name}{}", json.len()));
            let run = format!("$PARING {command} {} --quiet {json}", out("full"));
            let full = sandbox.shell(&format!("exec {run} >/dev/full"));
            let lines = full.stderr.lines().filter(|line| line.starts_with("error: stdout: ")).count();
            assert!(full.code == Some(1) && lines == 1 && !full.stderr.contains("panicked"), "{run}: {full:?}");
            let (arguments, code) = bad[0];
            let failed = sandbox.shell(&format!("exec $PARING {command} {arguments} {json} >/dev/full"));
            assert!(failed.code == Some(code) && !failed.stderr.contains("panicked"), "{run}: {failed:?}");
            // One that has seen enough is none.
            let run = format!("$PARING {command} {} --quiet {json}", out("gone"));
            let gone = sandbox.shell(&format!("{{ {run}; echo $? >&2; }} | head -c 1"));
            // Notes are for those who want quiet too.
            let told: Vec<&str> = gone.stderr.lines().filter(|line| !line.starts_with("note: ")).collect();
            assert_eq!(told, ["0"], "{run}: {gone:?}");
        }
    }
}

/// Bits of SIGINT and SIGTERM in a mask.
#[cfg(target_os = "linux")]
const SIGNALS: u64 = 1 << 1 | 1 << 14;

/// True once the process answers both itself.
#[cfg(target_os = "linux")]
fn listens(process: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & SIGNALS == SIGNALS)
}

#[cfg(target_os = "linux")]
#[test]
fn a_measurement_that_is_stopped() {
    use std::process::{Command, Stdio};
    use std::{thread, time::Duration};

    let sandbox = Sandbox::new();
    // Far more than is measured before the signal comes.
    token_file(&sandbox.path("long.safetensors"), &[8, 1 << 20], &vec![1; 8 << 20]);
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_paring"));
        command.args(["eval", "model", "long.safetensors", "--seqlen", "64", "--json"]).current_dir(sandbox.path(""));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        while !listens(child.id()) {
            assert!(child.try_wait().unwrap().is_none(), "the measurement was over too soon");
            thread::sleep(Duration::from_millis(1));
        }
        assert!(Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap().success());
        let ended = child.wait_with_output().unwrap();
        let (stdout, stderr) = (String::from_utf8(ended.stdout).unwrap(), String::from_utf8(ended.stderr).unwrap());
        assert_eq!(ended.status.code(), Some(code), "{stderr}");
        assert_eq!(stderr.lines().last(), Some("error: stopped"), "{stderr}");
        let object: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(object["error"], json!({"message": "stopped", "code": code}));
    }
}
