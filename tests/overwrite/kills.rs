//! Runs that are to replace an output and are killed: at each moment the folder has the old one or the new one, whole.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::*;
use crate::support::draws::Draws;
use crate::support::stalling::{Stalling, told};

/// Kinds of run, the folder aside.
const RUNS: [&str; 10] = [
    "sparsify demo demo --pattern 2:4 --nsamples 8 --seqlen 64 --resumable",
    "sparsify demo demo --sparsity 0.5 --nsamples 8 --seqlen 64 --resumable=never",
    "quantize demo demo --wbits 3 --groupsize 32 --nsamples 8 --seqlen 64 --resumable",
    "quantize demo demo --wbits 3 --groupsize 16 --outlier-share 0.01 --nsamples 8 --seqlen 64",
    "quantize demo demo --wbits 4 --nsamples 8 --seqlen 64 --true-sequential --offload activations --resumable",
    "quantize demo --wbits 4 --groupsize 32 --method rtn",
    "quantize demo demo --scheme FP8_DYNAMIC --kv-cache fp8 --nsamples 8 --seqlen 64",
    "sparsify demo demo --pattern 2:4 --wbits 4 --nsamples 8 --seqlen 64",
    "decompress source",
    "convert source --format int-quantized",
];

/// Files that are waited for before a kill: those of the new output and of the exchange, from the first step to the last.
const EVENTS: [&str; 13] = [
    ".out.paring-new",
    ".out.paring-new/.paring-staged",
    ".out.paring-new/journal.jsonl",
    ".out.paring-new/model-00003-of-00008.safetensors",
    ".out.paring-new/.model.safetensors.paring-merging",
    ".out.paring-new/model.safetensors",
    ".out.paring-new/config.json",
    ".out.paring-new/README.md",
    ".out.paring-new/report.json",
    "out/.paring-replaced",
    "out/.paring-staged",
    ".out.paring-new/.paring-replaced",
    "out/report.html",
];

/// Kills by default; `PARING_KILLS` asks for more.
const KILLS: usize = 10;
const SEED: u64 = 11;

/// Puts the earlier output into `out`, with files of a person's.
fn prepare(sandbox: &Sandbox) {
    copy(&sandbox.path("earlier"), &sandbox.path("out"));
    fs::remove_file(sandbox.path("out/report.html")).unwrap();
    sandbox.write("out/notes.txt", "mine");
    fs::create_dir(sandbox.path("out/logs")).unwrap();
    sandbox.write("out/logs/1", "mine");
}

/// Checks that a person's files are there.
fn has_theirs(sandbox: &Sandbox) {
    for name in ["out/notes.txt", "out/logs/1"] {
        assert_eq!(fs::read(sandbox.path(name)).unwrap_or_default(), b"mine", "{name}");
    }
}

/// Runs until something of this name is there (again, where it was before), and kills. Returns false for a run that ended first.
fn kill_at(sandbox: &Sandbox, arguments: &str, event: &str, after: Duration) -> bool {
    let mut command = Command::new(env!("CARGO_BIN_EXE_paring"));
    command.args(arguments.split_whitespace()).current_dir(sandbox.path(""));
    let mut child: Child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let path = sandbox.path(event);
    let ended = loop {
        if path.symlink_metadata().is_ok() {
            break false;
        }
        if child.try_wait().unwrap().is_some() {
            break true;
        }
    };
    let seen = Instant::now();
    while !ended && seen.elapsed() < after {
        std::hint::spin_loop();
    }
    // Fails when it has ended.
    child.kill().unwrap_or(());
    child.wait().unwrap().code().is_none()
}

#[test]
fn killed_while_they_replace_an_output() {
    let sandbox = Sandbox::empty();
    let kills = std::env::var("PARING_KILLS").map_or(KILLS, |count| count.parse().unwrap());
    let mut draws = Draws(SEED);
    sandbox.ok("quantize demo --wbits 8 --method rtn --quiet --out earlier");
    sandbox.ok("quantize demo --wbits 4 --method rtn --groupsize 64 --quiet --out source");
    let old = model_bytes(&sandbox.path("earlier"));
    let mut whole: BTreeMap<usize, (u64, BTreeMap<String, Vec<u8>>)> = BTreeMap::new();
    // Kills, those of them that left the new output, and those by event.
    let (mut killed, mut new, mut at) = (0, 0, BTreeMap::<&str, usize>::new());
    for round in 0.. {
        if killed >= kills {
            break;
        }
        // Every second kill is aimed; all pairs of a run and an event come in turn.
        let kind = round % RUNS.len();
        let run = RUNS[kind];
        let (length, want) = whole.entry(kind).or_insert_with(|| {
            let length = told(&sandbox, &format!("{run} --quiet --out whole{kind}")).len() as u64;
            (length, model_bytes(&sandbox.path(&format!("whole{kind}"))))
        });
        prepare(&sandbox);
        let arguments = format!("{run} --quiet --out out --overwrite");
        let event = EVENTS[(round / 2 + round) % EVENTS.len()];
        let was_killed = match round % 2 {
            0 => {
                let mut child = Stalling::begin(&sandbox, &arguments, draws.below(*length) as usize);
                child.wait() && child.kill().0.code().is_none()
            }
            _ => kill_at(&sandbox, &arguments, event, Duration::from_micros(draws.below(2000))),
        };
        let now = model_bytes(&sandbox.path("out"));
        assert!(now == old || now == *want, "{run}, {event}: neither the old output nor the new one");
        has_theirs(&sandbox);
        sandbox.ok("verify out --quiet");
        if was_killed {
            killed += 1;
            new += usize::from(now == *want);
            *at.entry(if round % 2 == 0 { "random" } else { event }).or_default() += 1;
        }
        // Either way it ends in the new one.
        let is_begun = sandbox.path(".out.paring-new/.paring-staged").exists() || now == *want;
        let can_resume = kind < 8 && draws.below(2) == 0 && is_begun;
        let how = if can_resume { "--resume" } else { "--overwrite" };
        sandbox.ok(&format!("{run} --quiet --out out {how}"));
        assert!(model_bytes(&sandbox.path("out")) == *want, "{run} {how}: not the bytes of an unbroken run");
        has_theirs(&sandbox);
        let left: Vec<String> = tree(&sandbox.path("")).into_keys().filter(|name| name.starts_with(".out")).collect();
        assert!(left.is_empty(), "{run} {how}: {left:?}");
        assert!(fs::symlink_metadata(sandbox.path("out/logs")).unwrap().is_dir());
        let hidden = tree(&sandbox.path("out")).into_keys().find(|name| name.starts_with('.'));
        assert_eq!(hidden, None, "{run} {how}");
        fs::remove_dir_all(sandbox.path("out")).unwrap();
    }
    println!("{killed} kills, {new} of which left the new output: {at:?}");
}
