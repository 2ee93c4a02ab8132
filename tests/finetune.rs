//! `paring finetune`: zeros stay, a broken run writes what an unbroken one writes, adapters are PEFT's.

mod support;

use std::collections::BTreeMap;
use std::fs;

#[cfg(target_os = "linux")]
use support::draws::Draws;
#[cfg(target_os = "linux")]
use support::stalling::{Stalling, told};
use support::*;

/// Moments at which trainings are killed, and the seed of them.
#[cfg(target_os = "linux")]
const KILLS: usize = 20;
#[cfg(target_os = "linux")]
const SEED: u64 = 11;

/// The demo at 2:4, and a training of a few steps on it.
fn pruned() -> Sandbox {
    let sandbox = Sandbox::empty();
    sandbox.ok("prune demo --pattern 2:4 --method magnitude --out pruned --quiet");
    sandbox
}

/// Words of a short training.
const SHORT: &str = "--steps 6 --batch-size 4 --seqlen 64 --limit 300 --learning-rate 2e-4";

#[test]
fn zeros_stay_and_the_loss_falls() {
    let sandbox = pruned();
    let run = format!("finetune pruned demo --teacher demo {SHORT} --hold-out 8 --eval-every 2 --out tuned");
    let report = sandbox.json(&run);
    let number = |value: &serde_json::Value| value.as_f64().unwrap();
    assert_eq!(report["zeros"][0], report["zeros"][1]);
    let held_out = report["held_out"].as_array().unwrap();
    assert_eq!(held_out.iter().map(|m| m["steps"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 2, 4, 6]);
    assert!(number(&held_out[3]["perplexity"]) < number(&held_out[0]["perplexity"]), "{held_out:?}");
    assert_eq!(report["steps"].as_array().unwrap().len(), 6);
    assert_eq!(report["plan"]["loss"]["divergence"], 0.5);
    assert_eq!(json_file(&sandbox.path("tuned/training.json"))["steps"], report["steps"]);
    assert!(!sandbox.path(".tuned.paring-training").exists());

    let (before, after) = (weights(&sandbox.open("pruned")), weights(&sandbox.open("tuned")));
    let mut moved = 0;
    for (name, before) in &before {
        for (was, is) in before.iter().zip(&after[name]) {
            assert!((*was == 0.0) == (*is == 0.0), "{name}");
            moved += usize::from(was != is);
        }
    }
    assert!(moved * 4 > before.values().map(Vec::len).sum::<usize>());
    sandbox.ok("verify tuned --quiet");
    // A second run does not replace it unasked.
    let refused = sandbox.refused(&format!("{run} --quiet"), 1, &["tuned", "--overwrite"]);
    refused.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn threads_and_masks() {
    let sandbox = pruned();
    for (out, more) in [("one", "--threads 1"), ("two", "--threads 3"), ("all", "--masks drop")] {
        sandbox.ok(&format!("finetune pruned demo {SHORT} {more} --out {out} --quiet"));
    }
    assert!(model_bytes(&sandbox.path("one")) == model_bytes(&sandbox.path("two")), "another number of threads");
    let zeros = |dir: &str| weights(&sandbox.open(dir)).values().flatten().filter(|v| **v == 0.0).count();
    assert!(zeros("one") > 1000 * zeros("all").max(1));
}

#[test]
fn an_adapter_is_peft_s() {
    let sandbox = pruned();
    sandbox.ok("quantize pruned --wbits 4 --groupsize 32 --method rtn --out w4 --quiet");
    for base in ["pruned", "w4"] {
        let lora = "--lora r=4,alpha=8,targets=q_proj,down_proj";
        let report = sandbox.json(&format!(
            "finetune {base} demo {lora} --steps 6 --seqlen 64 --limit 300 --learning-rate 3e-3 --hold-out 8 --out {base}-adapter"
        ));
        let held_out = report["held_out"].as_array().unwrap();
        assert!(held_out[0]["perplexity"].as_f64() > held_out.last().unwrap()["perplexity"].as_f64(), "{held_out:?}");
        let config = json_file(&sandbox.path(&format!("{base}-adapter/adapter_config.json")));
        assert_eq!((&config["peft_type"], &config["r"]), (&"LORA".into(), &4.into()));
        assert_eq!(config["target_modules"], serde_json::json!(["down_proj", "q_proj"]));
        // The model with the adapter is that which was measured last, on windows of its own here.
        let eval =
            |more: &str| sandbox.json(&format!("eval {base} demo --seqlen 64 --limit 40 {more}"))["perplexity"].clone();
        let adapted = eval(&format!("--adapter {base}-adapter"));
        assert!(adapted.as_f64() < eval("").as_f64(), "{base}: {adapted}");
    }
}

#[test]
fn an_adapter_under_a_mask_is_for_merging() {
    let sandbox = pruned();
    sandbox.ok(&format!("finetune pruned demo --lora r=4,masked {SHORT} --out adapter --quiet"));
    let refused = sandbox.refused("eval pruned demo --adapter adapter --quiet", 1, &["adapter", "paring merge"]);
    refused.unwrap_or_else(|error| panic!("{error}"));
    let refused = sandbox.refused("merge pruned adapter --masks drop --out merged --quiet", 1, &["keep the masks"]);
    refused.unwrap_or_else(|error| panic!("{error}"));
    sandbox.ok("merge pruned adapter --out merged --quiet");
    let (before, after) = (weights(&sandbox.open("pruned")), weights(&sandbox.open("merged")));
    for (name, before) in &before {
        assert!(before.iter().zip(&after[name]).all(|(was, is)| *was != 0.0 || *is == 0.0), "{name}");
    }
    assert!(before != after);
}

#[cfg(target_os = "linux")]
#[test]
fn killed_at_random_moments() {
    let sandbox = pruned();
    let runs = [
        format!(
            "finetune pruned demo --teacher demo --squarehead-weight 0.1 {SHORT} --checkpoint-every 2 --eval-every 3 --hold-out 4"
        ),
        format!("finetune pruned demo --lora r=4 {SHORT} --checkpoint-every 1 --hold-out 4"),
    ];
    let bytes = |dir: &str| -> BTreeMap<String, Vec<u8>> {
        let entries = fs::read_dir(sandbox.path(dir)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        // A lock that is left over hinders nobody.
        let names = names
            .filter(|name| ![".paring.lock", "README.md", "paring.json", "training.json"].contains(&name.as_str()));
        names.map(|name| (name.clone(), fs::read(sandbox.path(dir).join(&name)).unwrap())).collect()
    };
    let mut draws = Draws(SEED);
    let whole: Vec<(u64, BTreeMap<String, Vec<u8>>)> = (0..runs.len())
        .map(|i| {
            let told = told(&sandbox, &format!("{} --quiet --out whole{i}", runs[i]));
            // The last event has the whole report.
            let length = told.find("\"finished\"").unwrap() as u64;
            (length, bytes(&format!("whole{i}")))
        })
        .collect();
    let (mut killed, mut at, mut resumed) = (0, 0, 0);
    while killed < KILLS {
        let (run, (length, want)) = (&runs[at % runs.len()], &whole[at % runs.len()]);
        at += 1;
        for _ in 0..1 + draws.below(3) {
            let room = draws.below(*length) as usize;
            let mut child = Stalling::begin(&sandbox, &format!("{run} --quiet --out out --resume"), room);
            if !child.wait() {
                let (ended, told) = child.finish();
                assert!(ended.success(), "{told}");
                break;
            }
            let (_, told) = child.kill();
            resumed += usize::from(told.contains("\"resumed\""));
            killed += 1;
        }
        assert!(!sandbox.path("out/config.json").exists() || sandbox.holds_model("out"));
        if !sandbox.path("out").exists() || sandbox.path(".out.paring-training").exists() {
            sandbox.ok(&format!("{run} --quiet --out out --resume"));
        }
        let got = bytes("out");
        let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&got), names(want), "{run}");
        for (name, got) in &got {
            assert!(*got == want[name], "{run}: {name} differs from that of an unbroken run");
        }
        fs::remove_dir_all(sandbox.path("out")).unwrap();
    }
    assert!(resumed > 0, "{resumed} of {killed} had something to resume");
}

#[test]
fn what_does_not_fit_is_refused_before_the_work() {
    let sandbox = pruned();
    sandbox.ok("quantize demo --wbits 4 --groupsize 32 --method rtn --out w4 --quiet");
    sandbox.write("empty.txt", "");
    sandbox.write("answers.jsonl", "{\"instruction\": \"a\", \"output\": \"\"}\n");
    let golden = golden("models/llama");
    let other = golden.display();
    for (run, code, words) in [
        ("w4 demo --out out".to_string(), 1, &["stored compressed", "adapter"][..]),
        ("pruned empty.txt --out out".into(), 1, &["empty.txt"]),
        ("pruned answers.jsonl --out out".into(), 1, &["eos_token"]),
        ("pruned demo --out pruned".into(), 2, &["--out", "own folder"]),
        (format!("pruned demo --teacher {other} --out out"), 1, &["--teacher", "token ids"]),
        ("pruned demo --teacher demo --kl-weight 0 --out out".into(), 1, &["teacher"]),
        ("pruned demo --steps 5 --warmup-steps 5 --out out".into(), 1, &["warm-up"]),
        ("pruned demo --eval demo --hold-out 0 --out out".into(), 2, &["no windows"]),
        ("pruned demo --form chat --out out".into(), 2, &["form"]),
        ("pruned demo --lora targets=all,q_proj --out out".into(), 2, &["all linears"]),
        ("pruned demo --lora targets=query --out out".into(), 1, &["--lora", "query", "q_proj"]),
        ("pruned demo --seqlen 100000 --out out".into(), 1, &["100000"]),
        ("pruned demo --hold-out 100000 --seqlen 64 --out out".into(), 1, &["held out"]),
    ] {
        let refused = sandbox.refused(&format!("finetune {run} --quiet"), code, words);
        refused.unwrap_or_else(|error| panic!("{run}: {error}"));
        assert!(!sandbox.path("out").exists() && !sandbox.path(".out.paring-training").exists(), "{run}");
    }
    // A run that is not the same is not resumed.
    let run = format!("finetune pruned demo {SHORT} --checkpoint-every 1 --out out --quiet");
    #[cfg(target_os = "linux")]
    {
        // It may be ended before its first step.
        while !sandbox.path(".out.paring-training/point.json").exists() {
            let mut child = Stalling::begin(&sandbox, &run, 1900);
            assert!(child.wait());
            child.kill();
        }
        for (more, words) in
            [("", &["did not end", "--resume", "--overwrite"][..]), ("--resume --seed 5", &["seed was 0"])]
        {
            let ran = sandbox.run(&format!("{run} {more}"));
            assert!(
                ran.code == Some(1) && words.iter().all(|word| ran.stderr.contains(word)),
                "{more}: {}",
                ran.stderr
            );
        }
    }
    sandbox.ok(&format!("{run} --overwrite"));
    let dry = sandbox.json(&format!("finetune pruned demo {SHORT} --out elsewhere --dry-run"));
    assert!(dry["seconds"].as_f64().unwrap() > 0.0 && dry["steps"] == 6 && !sandbox.path("elsewhere").exists());
}
