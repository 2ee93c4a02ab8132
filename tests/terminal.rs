//! The output to terminals: nothing out of a file, a path or an option that they would obey.

mod support;

use std::fs;

use paring_format::names::is_obeyed;
use serde_json::{Value, json};
use support::{Model, Ran, Sandbox, golden, json_file};

/// Sets the clipboard, the title and colours, goes back over the line, and turns the direction of writing around.
const POISON: &str = "\u{1b}]52;c;cm0=\u{7}\u{1b}[2J\r\u{9b}31m\u{85}\u{202e}x\u{2066}y\u{200f}\u{61c}\u{2028}\t\nz";

/// Errors on a character that a terminal obeys. `what` names the run.
fn clean(ran: &Ran, what: &str) -> Result<(), String> {
    let obeyed = |text: &str| text.chars().find(|&c| c != '\n' && is_obeyed(c));
    match obeyed(&ran.stdout).or(obeyed(&ran.stderr)) {
        None => Ok(()),
        Some(c) => Err(format!("{what}: {c:?} in {:?} {:?}", ran.stdout, ran.stderr)),
    }
}

/// Puts poison into every string of a value.
fn poisoned(value: &mut Value) {
    match value {
        Value::String(text) => text.push_str(POISON),
        Value::Array(list) => list.iter_mut().for_each(poisoned),
        Value::Object(object) => object.values_mut().for_each(poisoned),
        _ => {}
    }
}

#[test]
fn reports_with_poison_in_every_field() {
    let sandbox = Sandbox::empty();
    let mut report = json_file(&golden("report.json"));
    poisoned(&mut report);
    report["plan"][format!("key{POISON}")] = POISON.into();
    report["started"] = json!("2026-01-31T23:59:59Z");
    report["version"] = json!(1);
    sandbox.write("a.json", report.to_string());
    let mut other = report.clone();
    other["plan"]["seed"] = json!(POISON);
    other["layers"][0]["error"] = json!(0.5);
    other["layers"][0]["name"] = json!(format!("other{POISON}"));
    sandbox.write("b.json", other.to_string());
    for run in [
        "report a.json --html a.html",
        "report a.json --html a.html --json",
        "report a.json --html a.html --tensorboard t --wandb w",
        "report a.json b.json",
        "report a.json b.json --json --html both.html",
    ] {
        let ran = sandbox.ok(run);
        clean(&ran, run).unwrap();
        if run.contains("--json") {
            // JSON has the same strings, escaped.
            let text = ran.json().to_string();
            assert!(text.contains("52;c;cm0="), "{text}");
        }
    }
    let printed = sandbox.json("report a.json --html a.html");
    for key in ["out", "method", "command", "plan", "layers", "notes"] {
        assert_eq!(printed[key], report[key], "nothing of a value is lost");
    }
}

#[test]
fn checkpoints_whose_names_are_poisoned() {
    let mut model = Model::golden("llama");
    model.config["architectures"] = json!([POISON]);
    let sandbox = Sandbox::new();
    model.write(&sandbox.path("model"));
    let commands = [
        "inspect model",
        "inspect model --json",
        "verify model",
        "eval model eval.safetensors",
        "quantize model calib.safetensors --wbits 4 --out out",
        "decompress model --out out",
        "convert model --format dense --out out",
    ];
    commands.iter().for_each(|run| clean(&sandbox.run(run), run).unwrap());
    // A tensor's name: refused by every command, in a line that shows it escaped and cut.
    for name in [POISON.to_string(), "a\u{202e}b".into(), format!("{POISON}{}", "n".repeat(70_000))] {
        let mut bad = Model::golden("llama");
        bad.tensor("model.norm.weight").name = name;
        bad.write(&sandbox.path("bad"));
        for run in commands {
            let run = run.replace("model", "bad");
            fs::remove_dir_all(sandbox.path("out")).unwrap_or(());
            let ran = sandbox.run(&run);
            clean(&ran, &run).unwrap();
            sandbox.refuses(&ran, 1, &["holds control characters"]).unwrap();
            assert!(ran.stderr.len() < 1000, "{}", ran.stderr);
        }
    }
    // One that is only long is cut in tables.
    let mut long = Model::golden("llama");
    long.tensor("model.norm.weight").name = "n".repeat(65_536);
    long.write(&sandbox.path("long"));
    let shown = sandbox.ok("inspect long").stdout;
    let widest = shown.lines().map(|line| line.chars().count()).max().unwrap();
    assert!(widest < 300 && shown.contains('…'), "{widest}");
    assert!(sandbox.ok("inspect long --json").stdout.len() > 65_536);
    assert!(sandbox.run("verify long").stderr.len() < 5000);
}

#[cfg(unix)]
#[test]
fn paths_and_options() {
    let sandbox = Sandbox::new();
    let run = |arguments: &[&str]| {
        let quoted: Vec<String> = arguments.iter().map(|a| format!("'{}'", a.replace('\'', ""))).collect();
        let ran = sandbox.shell(&format!("\"$PARING\" {}", quoted.join(" ")));
        clean(&ran, &format!("{arguments:?}")).unwrap();
        ran
    };
    let out = format!("out{}", POISON.replace('/', ""));
    let made = run(&["quantize", "model", "--method", "rtn", "--wbits", "4", "--out", &out]);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    assert!(made.stdout.contains("  try it   vllm serve 'out"), "{}", made.stdout);
    assert_eq!(run(&["report", &out]).code, Some(0));
    assert_eq!(run(&["inspect", &out]).code, Some(0));
    assert_eq!(run(&["verify", &out]).code, Some(0));
    assert_eq!(
        run(&["verify", &out, "--reference", "model", "--data", "eval.safetensors", "--seqlen", "32"]).code,
        Some(0)
    );
    assert_eq!(run(&["eval", &out, "eval.safetensors", "--seqlen", "32"]).code, Some(0));
    assert_eq!(run(&["decompress", &out, "--out", &format!("dense{POISON}")]).code, Some(0));
    assert_eq!(
        run(&["quantize", "model", "--method", "rtn", "--wbits", "4", "--dry-run", "--out", POISON]).code,
        Some(0)
    );
    // A file of data, and what is said of it.
    fs::copy(sandbox.path("calib.safetensors"), sandbox.path(&format!("c{POISON}.safetensors"))).unwrap();
    let calibrated = run(&[
        "quantize",
        "model",
        &format!("c{POISON}.safetensors"),
        "--wbits",
        "4",
        "--out",
        "o2",
        "--verbose",
        "--eval",
        &format!("c{POISON}.safetensors"),
    ]);
    assert_eq!(calibrated.code, Some(0), "{}", calibrated.stderr);
    assert_eq!(run(&["report", "o2"]).code, Some(0));
    // What is refused, by the parser and later.
    for (arguments, code) in [
        (vec!["eval", POISON, "eval.safetensors"], 1),
        (vec!["eval", "model", POISON], 1),
        (vec!["quantize", "model", "--wbits", POISON], 2),
        (vec!["quantize", "model", POISON, POISON, POISON], 2),
        (vec![POISON], 2),
        (vec!["eval", "model", "eval.safetensors", "--device", POISON], 2),
        (vec!["quantize", "model", "--wbits", "4", "--method", "rtn", "--include", POISON, "--out", "o3"], 1),
        (vec!["quantize", "model", "--wbits", "4", "--method", "rtn", "--format", POISON, "--out", "o3"], 2),
        (vec!["report", POISON], 1),
        (vec!["convert", "model", "--format", POISON, "--out", "o3"], 2),
    ] {
        let ran = run(&arguments);
        assert_eq!(ran.code, Some(code), "{arguments:?}: {}", ran.stderr);
    }
    // Events are JSON that a terminal can show, and that say the same.
    let log = run(&["eval", "model", "eval.safetensors", "--seqlen", "32", "--log-json", "-", "--text-field", POISON]);
    assert_eq!(log.code, Some(0), "{}", log.stderr);
    let started: Value = serde_json::from_str(log.stderr.lines().next().unwrap()).unwrap();
    assert!(started["arguments"].as_array().unwrap().contains(&json!(POISON)), "{started}");
}

/// The output is found again under a name that is no text.
#[cfg(target_os = "linux")]
#[test]
fn outputs_whose_names_are_no_text() {
    let sandbox = Sandbox::new();
    let ran = sandbox.shell(
        "\"$PARING\" quantize model --method rtn --wbits 8 --eval eval.safetensors --seqlen 32 --limit 1 \
         --out \"$(printf 'out\\377')\"",
    );
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stdout.contains("perplexity"), "{}", ran.stdout);
}
