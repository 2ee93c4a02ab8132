//! Progress for people on stderr, and for programs in a file of events.

mod support;

use serde_json::{Value, json};

use support::*;

const PRUNE: &str = "sparsify model calib.safetensors --pattern 2:4 --overwrite --out out";

fn events(sandbox: &Sandbox, file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(sandbox.path(file)).unwrap();
    assert!(text.ends_with('\n'), "{text}");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn of_kind<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["event"] == kind).collect()
}

#[test]
fn a_run_reports_each_block_layer_and_stage() {
    let sandbox = Sandbox::new();
    let shown = sandbox.ok(&format!("{PRUNE} --eval eval.safetensors --log-json events --json --quiet"));
    let events = events(&sandbox, "events");
    let kinds: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!((kinds[0], kinds[kinds.len() - 1]), ("started", "finished"));
    let arguments = events[0]["arguments"].as_array().unwrap();
    assert_eq!((&arguments[1], &events[0]["version"]), (&json!("sparsify"), &json!(1)));
    let work = of_kind(&events, "work");
    assert_eq!((work.len(), &work[0]["blocks"], &work[0]["linears"]), (1, &json!(2), &json!(14)));
    let blocks: Vec<&Value> = of_kind(&events, "block").iter().map(|event| &event["block"]).collect();
    assert_eq!(blocks, [0, 1]);
    let layers = of_kind(&events, "layer");
    assert_eq!(layers.len(), 14);
    assert!(layers.iter().all(|event| event["layer"]["error"].as_f64().unwrap() > 0.0));
    // Every linear is swept, in the block that it says.
    for layer in &layers {
        let (name, sweep) = (&layer["layer"]["name"], json!("sweep"));
        let of_it = |event: &&Value| event["stage"] == sweep && event["module"] == *name;
        let step = events.iter().find(of_it).unwrap_or_else(|| panic!("{name} is not swept"));
        assert!(name.as_str().unwrap().starts_with(&format!("model.layers.{}.", step["block"])), "{step}");
    }
    for stage in ["read", "gram", "factor", "sweep", "write", "forward", "check"] {
        assert!(events.iter().any(|event| event["stage"] == stage), "no {stage}");
    }
    let gram = events.iter().find(|event| event["stage"] == "gram").unwrap();
    let windows = gram["of"].as_u64().unwrap();
    assert!(gram["done"] == 0 && windows > 1, "{gram}");
    for what in ["perplexity before", "perplexity after"] {
        let measured = of_kind(&events, "window").into_iter().rfind(|event| event["what"] == what).unwrap();
        assert_eq!(measured["done"], measured["of"]);
    }
    // Layers as they were done, and the rest of what --json prints in the last event.
    let mut printed: Value = serde_json::from_str(shown.stdout.lines().last().unwrap()).unwrap();
    let all = printed.as_object_mut().unwrap().shift_remove("layers").unwrap();
    assert!(layers.iter().map(|event| &event["layer"]).eq(all.as_array().unwrap()));
    let last = &events[events.len() - 1];
    assert_eq!((&last["result"], &last["exit_code"]), (&printed, &json!(0)));
    let seconds: Vec<f64> = events.iter().map(|event| event["seconds"].as_f64().unwrap()).collect();
    assert!(seconds.is_sorted() && shown.stderr.is_empty(), "{}", shown.stderr);
}

#[test]
fn other_commands_tell_too() {
    let sandbox = Sandbox::new();
    sandbox.ok(&format!("{PRUNE} --quiet"));
    for (command, kind) in [
        ("eval model eval.safetensors", "window"),
        ("verify out --reference model --data eval.safetensors", "window"),
        ("decompress out --out dense --overwrite", "stage"),
        ("convert out --format dense --out converted --overwrite", "stage"),
        ("export-masks out --out masks", "stage"),
    ] {
        sandbox.ok(&format!("{command} --quiet --log-json -")).events().iter().for_each(|event| {
            assert!(event["time"].is_string() && event["seconds"].is_number(), "{command}: {event}");
        });
        let file = command.replace(' ', "_");
        sandbox.ok(&format!("{command} --quiet --log-json {file}"));
        let events = events(&sandbox, &file);
        assert!(!of_kind(&events, kind).is_empty(), "{command}: {events:?}");
        let last = &events[events.len() - 1];
        assert!(last["event"] == "finished" && last["result"].is_object(), "{command}: {last}");
    }
}

#[test]
fn a_failed_run_says_why_and_the_next_one_is_appended() {
    let sandbox = Sandbox::new();
    let mut model = Model::golden("llama");
    model.set("model.layers.1.mlp.up_proj.weight", 3, f32::NAN);
    model.write(&sandbox.path("broken"));
    let ran = sandbox.run(&format!("{} --log-json events", PRUNE.replace("model ", "broken ")));
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    let written = events(&sandbox, "events");
    let last = &written[written.len() - 1];
    let error = last["error"].as_str().unwrap();
    assert!(last["event"] == "failed" && last["exit_code"] == 1, "{last}");
    assert!(ran.stderr.lines().last().unwrap() == format!("error: {error}"), "{} {error}", ran.stderr);
    sandbox.ok(&format!("{PRUNE} --quiet --log-json events"));
    let both = events(&sandbox, "events");
    assert_eq!(both[..written.len()], written);
    assert_eq!(of_kind(&both, "started").len(), 2);
    assert_eq!(both[both.len() - 1]["event"], "finished");
}

#[test]
fn a_log_that_cannot_be_written_is_an_error_before_the_work() {
    let sandbox = Sandbox::new();
    let calibration = std::fs::read(sandbox.path("calib.safetensors")).unwrap();
    for (file, code, words) in [
        ("none/events", 1, &["none/events", "No such file"][..]),
        ("model", 1, &["model", "directory"]),
        ("calib.safetensors", 2, &["--log-json calib.safetensors", "name another file"]),
    ] {
        sandbox.refused(&format!("{PRUNE} --log-json {file}"), code, words).unwrap();
    }
    assert!(!sandbox.path("out").exists());
    assert_eq!(std::fs::read(sandbox.path("calib.safetensors")).unwrap(), calibration);
}

#[test]
fn events_take_the_place_of_progress_on_stderr() {
    let sandbox = Sandbox::new();
    let ran = sandbox.ok(&format!("{PRUNE} --log-json -"));
    let events = ran.events();
    assert_eq!(of_kind(&events, "block").len(), 2);
    assert!(ran.stdout.contains("(checked: "), "{}", ran.stdout);
    let bytes = model_bytes(&sandbox.path("out"));
    // Progress changes nothing in the output.
    sandbox.ok(&format!("{PRUNE} --verbose"));
    assert!(model_bytes(&sandbox.path("out")) == bytes);
}

#[test]
fn lines_have_a_time_and_quiet_has_none() {
    let sandbox = Sandbox::new();
    let lines = sandbox.ok(PRUNE).stderr;
    // A short run says only that it is over.
    let blocks: Vec<&str> = lines.lines().filter(|line| line.contains(" block ")).collect();
    assert!(blocks.len() == 1 && blocks[0].contains("Z block 2/2, ") && !blocks[0].contains("left"), "{lines}");
    for line in lines.lines() {
        let (time, _) = line.split_once(' ').unwrap();
        let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(shape, "0000-00-00T00:00:00Z", "{line}");
    }
    assert_eq!(sandbox.ok(&format!("{PRUNE} --quiet")).stderr, "");
    let all = sandbox.ok(&format!("{PRUNE} --verbose")).stderr;
    assert!(
        all.contains("14 linears in 2 blocks")
            && all.contains("model.layers.1.mlp.down_proj             32x48")
            && all.contains("GFLOP/s")
    );
}

impl Ran {
    /// Events, when there is nothing else on stderr.
    fn events(&self) -> Vec<Value> {
        self.stderr.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }
}
