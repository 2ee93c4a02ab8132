//! Runs that were ended at any moment are resumed, and write byte for byte what an unbroken run writes.

mod support;

use std::fs;
#[cfg(target_os = "linux")]
use std::process::Command;

use support::draws::Draws;
#[cfg(target_os = "linux")]
use support::stalling::{Stalling, told};
use support::*;

/// Runs to kill: pruning with and without snapshots, grids, a second level with a threshold that is searched
/// for, statistics in turns, nothing but weights, settings of each linear that are measured, blocks that are trained.
const RUNS: [&str; 9] = [
    "sparsify demo demo --pattern 2:4 --nsamples 8 --seqlen 64 --resumable",
    "sparsify demo demo --sparsity 0.5 --reconstruct-steps 3 --nsamples 8 --seqlen 64 --resumable=never",
    "quantize demo demo --wbits 3 --groupsize 32 --dense-stream none --reconstruct-steps 3 --nsamples 8 --seqlen 64 --resumable",
    "quantize demo demo --wbits 3 --groupsize 16 --outlier-share 0.01 --nsamples 8 --seqlen 64",
    "quantize demo demo --wbits 4 --nsamples 8 --seqlen 64 --true-sequential --offload activations --resumable",
    "quantize demo --wbits 4 --groupsize 32 --method rtn",
    "quantize demo demo --target-bits 3.3 --method gptq --nsamples 8 --seqlen 64 --resumable",
    "sparsify demo demo --sparsity 0.6 --allocate owl --nsamples 8 --seqlen 64",
    "quantize demo demo --wbits 3 --published --dense-stream qronos --offload activations --nsamples 8 --seqlen 64",
];

/// Number of times that runs are killed, and the seed of the moments.
const KILLS: usize = 50;
const SEED: u64 = 7;

/// All files of a folder except those that contain times, and the card, which has the command.
fn bytes(sandbox: &Sandbox, dir: &str) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(sandbox.path(dir)).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| !["README.md", "paring.json", "report.json", "report.html"].contains(&name.as_str()));
    names.sort();
    names.into_iter().map(|name| (name.clone(), fs::read(sandbox.path(dir).join(&name)).unwrap())).collect()
}

/// Lines of the journal.
fn lines(sandbox: &Sandbox, dir: &str) -> usize {
    fs::read(sandbox.path(dir).join("journal.jsonl")).map_or(0, |text| text.iter().filter(|&&b| b == b'\n').count())
}

/// Nothing that is not finished passes for a model.
fn is_no_model(sandbox: &Sandbox, dir: &str) {
    if !sandbox.holds_model(dir) && sandbox.path(dir).join("journal.jsonl").exists() {
        let ran = sandbox.run(&format!("eval {dir} demo --limit 1 --quiet"));
        assert_eq!(ran.code, Some(1));
        assert!(ran.stderr.contains("an unfinished run"), "{}", ran.stderr);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn killed_at_random_moments() {
    let sandbox = Sandbox::empty();
    let mut draws = Draws(SEED);
    let (mut killed, mut after) = (0, [0; 16]);
    let mut whole = Vec::new();
    for (i, run) in RUNS.iter().enumerate() {
        let length = told(&sandbox, &format!("{run} --quiet --out whole{i}")).len() as u64;
        whole.push((length, bytes(&sandbox, &format!("whole{i}"))));
    }
    let mut at = 0;
    while killed < KILLS {
        let (run, (length, want)) = (RUNS[at % RUNS.len()], &whole[at % RUNS.len()]);
        at += 1;
        // As many times as it is killed before it is done, at most three.
        let mut resume = "";
        for _ in 0..1 + draws.below(3) {
            let room = draws.below(*length) as usize;
            let mut child = Stalling::begin(&sandbox, &format!("{run} --quiet --out out {resume}"), room);
            if !child.wait() {
                let (ended, told) = child.finish();
                assert!(ended.success(), "{told}");
                break;
            }
            let (ended, told) = child.kill();
            assert_eq!(ended.code(), None, "{told}");
            killed += 1;
            after[lines(&sandbox, "out")] += 1;
            resume = "--resume";
        }
        is_no_model(&sandbox, "out");
        sandbox.ok(&format!("{run} --quiet --out out --resume"));
        let got = bytes(&sandbox, "out");
        let names = |files: &[(String, Vec<u8>)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&got), names(want), "{run}");
        for ((name, got), (_, want)) in got.iter().zip(want) {
            assert!(got == want, "{run}: {name} differs from that of an unbroken run");
        }
        fs::remove_dir_all(sandbox.path("out")).unwrap();
    }
    // The moments lie before the first block, between blocks, and after the last.
    let places = after.iter().filter(|&&count| count > 0).count();
    assert!(places >= 5, "kills by lines of the journal: {after:?}");
}

#[test]
fn a_full_disk_loses_nothing() {
    let sandbox = Sandbox::empty();
    let run = "sparsify demo demo --pattern 2:4 --nsamples 8 --seqlen 64 --resumable --quiet";
    sandbox.ok(&format!("{run} --out whole"));
    let want = bytes(&sandbox, "whole");
    fs::create_dir(sandbox.path("disk")).unwrap();
    // A disk of a size that the shards outgrow, then one that is made larger. Not everyone may make one.
    let script = format!(
        "unshare -rm sh -c 'mount -t tmpfs -o size=1500k tmpfs disk || exit 77; \
        $PARING {run} --out disk/out; echo code $? >&2; ls disk/out >&2; \
        mount -o remount,size=16m disk; $PARING {run} --out disk/out --resume >&2 && cp -r disk/out out'"
    );
    let ran = sandbox.shell(&script);
    if ran.code == Some(0) {
        for words in ["no space left for", "code 1", "journal.jsonl", "model-00002-of-00008", "resuming at block"] {
            assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
        }
        assert!(!ran.stderr.contains("config.json\n"), "{}", ran.stderr);
        assert!(bytes(&sandbox, "out") == want, "what went on differs from an unbroken run");
        fs::remove_dir_all(sandbox.path("out")).unwrap();
    }
    // A limit to the size of files works everywhere, and the first shard meets it.
    let run = run.replace("--resumable", "--resumable=never");
    let limited = sandbox.shell(&format!("trap '' XFSZ; ulimit -f 100; exec $PARING {run} --out out"));
    sandbox.refuses(&limited, 1, &["out/model-00001-of-00008.safetensors", "too large"]).unwrap();
    let ran = sandbox.ok(&format!("{run} --out out --resume"));
    assert!(ran.stderr.contains("resuming at block 1 of 6"), "{}", ran.stderr);
    assert!(bytes(&sandbox, "out") == want, "what went on differs from an unbroken run");
}

/// A disk that holds the shards, and not the largest of them a second time: the run ends while they are merged.
#[cfg(target_os = "linux")]
#[test]
fn a_disk_without_room_for_merging_loses_nothing() {
    let sandbox = Sandbox::empty();
    let run = "quantize demo --wbits 4 --groupsize 32 --method rtn --quiet";
    sandbox.ok(&format!("{run} --out whole"));
    fs::create_dir(sandbox.path("disk")).unwrap();
    let script = format!(
        "unshare -rm sh -c 'mount -t tmpfs -o size=960k tmpfs disk || exit 77; \
        $PARING {run} --out disk/out; echo code $? >&2; ls -A disk/out >&2; \
        mount -o remount,size=16m disk; $PARING {run} --out disk/out --resume >&2 && cp -r disk/out out'"
    );
    let ran = sandbox.shell(&script);
    if ran.code == Some(0) {
        let words = [
            "out/model.safetensors: no space left for",
            "code 1",
            ".model.safetensors.paring-merging",
            "journal.jsonl",
        ];
        assert!(words.iter().all(|word| ran.stderr.contains(word)), "{}", ran.stderr);
        assert_eq!(ran.stderr.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{}", ran.stderr);
        assert!(bytes(&sandbox, "out") == bytes(&sandbox, "whole"), "other bytes than those of an unbroken run");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn asked_to_stop_it_finishes_the_block() {
    let sandbox = Sandbox::empty();
    let run = "quantize demo demo --wbits 4 --nsamples 64 --seqlen 128 --quiet";
    let length = told(&sandbox, &format!("{run} --out whole")).len();
    let want = bytes(&sandbox, "whole");
    for (signal, times) in [("INT", 1), ("TERM", 1), ("INT", 2)] {
        let mut child = Stalling::begin(&sandbox, &format!("{run} --out out"), length / 3);
        assert!(child.wait(), "the run was over too soon");
        for _ in 0..times {
            let sent = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap();
            assert!(sent.success());
        }
        let (ended, stderr) = child.finish();
        assert_eq!(ended.code(), Some(if signal == "INT" { 130 } else { 143 }), "{stderr}");
        let errors = stderr.lines().filter(|line| line.starts_with("error: ")).count();
        assert!(errors == 1 && stderr.contains("--resume"), "{stderr}");
        assert!(stderr.contains("finishing this block; press ctrl-C again to stop now"), "{stderr}");
        if times == 1 {
            assert!(
                stderr.contains("error: stopped after block ") && stderr.contains(" of 6. To continue:"),
                "{stderr}"
            );
        }
        // The command to paste.
        let command = stderr.lines().last().unwrap().trim_start();
        assert!(
            command.ends_with(" --quiet --out out --log-json - --resume") && command.contains("quantize demo"),
            "{stderr}"
        );
        assert!(!sandbox.holds_model("out"));
        sandbox.ok(&format!("{run} --out out --resume"));
        assert!(bytes(&sandbox, "out") == want, "{signal} {times}: what went on differs from an unbroken run");
        fs::remove_dir_all(sandbox.path("out")).unwrap();
    }
}

/// A run on the golden model that is ended after its first block by a non-finite weight.
fn broken(sandbox: &Sandbox, run: &str) {
    let mut model = Model::golden("llama");
    model.set("model.layers.1.mlp.down_proj.weight", 0, f32::NAN);
    model.write(&sandbox.path("model"));
    sandbox.refused(run, 1, &["down_proj", "NaN"]).unwrap();
    assert_eq!(lines(sandbox, "out"), 2);
}

#[test]
fn a_different_run_is_not_resumed() {
    let sandbox = Sandbox::new();
    let run = "quantize model calib.safetensors --wbits 4 --quiet --out out";
    let whole = sandbox.path("model");
    broken(&sandbox, run);
    let journal = sandbox.path("out/journal.jsonl");
    let text = fs::read_to_string(&journal).unwrap();
    let mut wrong = Vec::new();
    let mut refused = |arguments: &str, words: &[&str]| wrong.extend(sandbox.refused(arguments, 1, words).err());
    refused(run, &["out: contains an unfinished run", "--resume", "--overwrite"]);
    let resume = format!("{run} --resume");
    for (more, words) in [
        ("--percdamp 0.02", "--percdamp was 0.01 at the start, and is 0.02 now"),
        ("--groupsize 8", "at the start, and is 8 now"),
        ("--ignore re:.*up_proj", "ignore"),
        ("--nsamples 3", "nsamples"),
        ("--dtype bf16", "--dtype was f32 at the start"),
        ("--true-sequential=false", "--true-sequential was set at the start, and is false now"),
    ] {
        refused(&format!("{resume} {more}"), &["out: cannot be resumed", words, "--overwrite"]);
    }
    token_file(&sandbox.path("other.safetensors"), &[8, 32], &[5; 256]);
    refused(&resume.replace("calib", "other"), &["out: cannot be resumed", "the calibration tokens changed"]);
    sandbox.write("model/tokenizer_config.json", "{}");
    refused(&resume, &["a file next to the model's weights changed"]);
    fs::remove_file(sandbox.path("model/tokenizer_config.json")).unwrap();
    // Other weights of the same length and time: one tensor of them, in its middle.
    let file = whole.join("model.safetensors");
    let (good, written) = (fs::read(&file).unwrap(), fs::metadata(&file).unwrap().modified().unwrap());
    let mut model = Model::golden("llama");
    let values = model.tensor("model.layers.0.mlp.up_proj.weight").bytes.len() / 4;
    model.set("model.layers.1.mlp.down_proj.weight", 0, f32::NAN);
    model.set("model.layers.0.mlp.up_proj.weight", values / 2, 0.25);
    model.write(&whole);
    fs::File::open(&file).unwrap().set_modified(written).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().len(), good.len() as u64);
    refused(&resume, &["out: cannot be resumed: the weights in model.safetensors changed", "--overwrite"]);
    // The same bytes written again are the same input: the run continues, to the weight that ended it.
    fs::write(&file, &good).unwrap();
    let ran = sandbox.run(&resume);
    let words = ["resuming at block 2 of 2", "down_proj", "NaN"];
    assert!(ran.code == Some(1) && words.iter().all(|word| ran.stderr.contains(word)), "{}", ran.stderr);
    // Journals that are not what a run leaves.
    for (text, words) in [
        (String::new(), "not the journal of a run; remove it"),
        (text.replacen("\"journal\":2", "\"journal\":1", 1), "a journal of version 1, and this program reads 2"),
        (text.replacen("paring ", "cutting ", 1), "started by cutting"),
        (format!("{text}{{\"line\":\"block\"}}\n{{}}\n"), "line 3: damaged"),
        (format!("{text}{text}"), "line 3: another run begins"),
    ] {
        fs::write(&journal, text).unwrap();
        refused(&resume, &["out", words]);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// PARING_ISA makes of this machine one that lacks instructions.
#[cfg(target_os = "linux")]
#[test]
fn arithmetic_is_not_mixed_unless_it_is_allowed() {
    let sandbox = Sandbox::empty();
    let run = "quantize demo demo --wbits 3 --groupsize 16 --nsamples 16 --seqlen 64 --quiet --out out --resumable";
    let plainest = [("PARING_ISA", "portable")];
    let unknown = sandbox.run_with(run, &[("PARING_ISA", "mmx")]);
    sandbox.refuses(&unknown, 2, &["PARING_ISA=mmx: expected one of", "portable"]).unwrap();
    let unknown = sandbox.run_with(&format!("{run} --isa mmx"), &plainest);
    sandbox.refuses(&unknown, 2, &["--isa mmx: expected one of", "portable"]).unwrap();
    assert!(!sandbox.path("out").exists());
    let whole = run.replace("--out out", "--out whole");
    let length = told(&sandbox, &whole).len();
    let want = bytes(&sandbox, "whole");
    let alone = sandbox.run_with(&format!("{} --json", run.replace("--out out", "--out alone")), &plainest);
    let used = |ran: &Ran| ran.json()["environment"]["arithmetic"].as_array().unwrap().clone();
    let there = used(&alone)[0].as_str().unwrap().to_string();
    assert!(there.starts_with("portable"), "{there}");
    sandbox.ok(&format!("{} --isa portable", run.replace("--out out", "--out asked")));
    assert!(bytes(&sandbox, "asked") == bytes(&sandbox, "alone"));
    let here =
        json_file(&sandbox.path("whole/report.json"))["environment"]["arithmetic"][0].as_str().unwrap().to_string();
    if here == there {
        return;
    }
    let mut child = Stalling::begin(&sandbox, run, length * 2 / 3);
    assert!(child.wait(), "the run was over too soon");
    child.kill();
    assert!(lines(&sandbox, "out") > 2);
    // The lock of the run that was killed is another matter.
    let left = || bytes(&sandbox, "out").into_iter().filter(|(name, _)| name != ".paring.lock").collect::<Vec<_>>();
    let kept = left();
    let resume = format!("{run} --resume --json");
    let refused = sandbox.run_with(&resume, &plainest);
    let words = ["out: cannot be resumed here", &here, &there, "--allow-mixed-arithmetic", "--overwrite"];
    sandbox.refuses(&refused, 1, &words).unwrap();
    assert!(left() == kept, "what was refused changed the folder");
    // Allowed, it is done, noted and reported; from then on either machine may continue.
    sandbox.shell("cp -r out mixed");
    let mixed = format!("{} --allow-mixed-arithmetic", resume.replace("--out out", "--out mixed"));
    let ran = sandbox.run_with(&mixed, &plainest);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let note = format!("computed with {here}, and {there}, whose sums differ in their last bits");
    assert!(ran.stderr.contains(&note), "{}", ran.stderr);
    assert_eq!(used(&ran), [here.as_str(), there.as_str()]);
    assert!(ran.json()["notes"].as_array().unwrap().iter().any(|text| text == note.as_str()));
    let made = bytes(&sandbox, "mixed");
    assert!(made != want && made != bytes(&sandbox, "alone"), "the versions have the same bits");
    // What is done is done, wherever one asks; and the machine that began it finishes its own.
    sandbox.ok(&resume.replace("--out out", "--out mixed"));
    let ran = sandbox.ok(&resume);
    assert_eq!(used(&ran), [here.as_str()]);
    assert!(bytes(&sandbox, "out") == want);
}

#[test]
fn what_is_finished_is_not_done_again() {
    let sandbox = Sandbox::empty();
    let run = "quantize demo demo --wbits 4 --nsamples 4 --seqlen 64 --out out";
    let first = sandbox.json(&format!("{run} --resume"));
    let before = bytes(&sandbox, "out");
    // As a run leaves it that is killed when all but this file is finished.
    fs::write(sandbox.path("out/.paring.lock"), "4095\n").unwrap();
    let again = sandbox.ok(&format!("{run} --resume --json"));
    assert!(again.stderr.contains("already complete"), "{}", again.stderr);
    assert_eq!(again.json()["layers"], first["layers"]);
    assert!(bytes(&sandbox, "out") == before);
    let other = run.replace("--wbits 4", "--wbits 3");
    let ran = sandbox.run(&format!("{other} --resume"));
    assert!(
        ran.code == Some(1) && ran.stderr.contains("out: cannot be resumed: --wbits was 4 at the start, and is 3 now"),
        "{}",
        ran.stderr
    );
    sandbox.ok("decompress out --out dense");
    let ran = sandbox.run(&format!("{} --resume", run.replace("--out out", "--out dense")));
    assert!(
        ran.code == Some(1) && ran.stderr.contains("dense: cannot be resumed: the model in it was not written by"),
        "{}",
        ran.stderr
    );
    assert!(bytes(&sandbox, "out") == before);
}

#[cfg(target_os = "linux")]
#[test]
fn files_of_the_output_that_changed_are_found() {
    let sandbox = Sandbox::empty();
    let run = "quantize demo demo --wbits 4 --nsamples 8 --seqlen 64 --quiet --out out --resumable";
    let length = told(&sandbox, &run.replace("--out out", "--out first")).len();
    let mut child = Stalling::begin(&sandbox, run, length * 2 / 3);
    assert!(child.wait(), "the run was over too soon");
    child.kill();
    assert!(lines(&sandbox, "out") > 2);
    let shard = sandbox.path("out/model-00002-of-00008.safetensors");
    let good = fs::read(&shard).unwrap();
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    fs::write(&shard, &bad).unwrap();
    let resume = format!("{run} --resume");
    sandbox.refused(&resume, 1, &["model-00002-of-00008.safetensors", "it was changed since"]).unwrap();
    fs::write(&shard, &good).unwrap();
    // Activations can be computed again, which a note says.
    let journal = fs::read_to_string(sandbox.path("out/journal.jsonl")).unwrap();
    let noted = journal.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let kept = noted.filter_map(|line| Some(line["hidden"]["name"].as_str()?.to_string())).next_back().unwrap();
    fs::write(sandbox.path("out").join(kept), b"nothing").unwrap();
    let ran = sandbox.ok(&resume);
    assert!(
        ran.stderr.contains("saved activations cannot be used, computing them again: ")
            && ran.stderr.contains("7 bytes"),
        "{}",
        ran.stderr
    );
    sandbox.ok(&format!("{} --resumable=never", run.replace("--out out --resumable", "--out whole")));
    assert!(bytes(&sandbox, "out") == bytes(&sandbox, "whole"));
}

#[cfg(target_os = "linux")]
#[test]
fn one_run_in_a_folder() {
    let sandbox = Sandbox::empty();
    let run = "quantize demo demo --wbits 4 --nsamples 8 --seqlen 64 --quiet --out out";
    let length = told(&sandbox, &run.replace("--out out", "--out first")).len();
    let mut first = Stalling::begin(&sandbox, run, length / 2);
    assert!(first.wait(), "the first run was over too soon to be in the way");
    let words = format!("out: another run writes here (process {})", first.id());
    for more in ["--overwrite", "--resume"] {
        let second = sandbox.run(&format!("{run} {more}"));
        assert!(second.code == Some(1) && second.stderr.contains(&words), "{}", second.stderr);
    }
    let decompress = sandbox.run("decompress demo --out out --overwrite");
    assert!(decompress.code == Some(1) && decompress.stderr.contains(&words), "{}", decompress.stderr);
    first.kill();
    sandbox.ok(&format!("{run} --resume"));
    assert!(sandbox.holds_model("out") && !sandbox.path("out/.paring.lock").exists());
}
