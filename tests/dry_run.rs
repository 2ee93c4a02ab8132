//! `--dry-run`: the estimate of a run comes before it, holds afterwards, and costs no file.

mod support;

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use support::*;

/// All names below the sandbox.
fn names(sandbox: &Sandbox) -> BTreeSet<String> {
    let entries = fs::read_dir(sandbox.path(".")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn number(value: &Value, key: &str) -> f64 {
    value[key].as_f64().unwrap_or_else(|| panic!("no number {key} in {value}"))
}

/// Estimates a run, checks that nothing came of it, and runs.
fn both(sandbox: &Sandbox, command: &str) -> (Value, Value) {
    let before = names(sandbox);
    let estimate = sandbox.json(&format!("{command} --out out --dry-run --quiet"));
    assert_eq!(names(sandbox), before, "{command}");
    let run = sandbox.json(&format!("{command} --out out --quiet"));
    fs::remove_dir_all(sandbox.path("out")).unwrap();
    (estimate, run)
}

#[cfg(target_os = "linux")]
#[test]
fn memory_is_estimated_to_a_quarter() {
    let sandbox = Sandbox::empty();
    for family in ["opt", "falcon"] {
        std::os::unix::fs::symlink(golden("trained").join(family), sandbox.path(family)).unwrap();
    }
    let mut wrong = Vec::new();
    for model in ["demo", "opt", "falcon"] {
        for (method, calibration) in [
            ("quantize --method rtn --wbits 4 --groupsize 32", ""),
            ("quantize --wbits 4 --groupsize 32", "demo"),
            ("quantize --wbits 3 --groupsize 16 --qq-scale-bits 3 --qq-zero-bits 3 --outlier-threshold 0.2", "demo"),
            ("sparsify --pattern 2:4", "demo"),
            ("sparsify --method wanda --sparsity 0.5", "demo"),
        ] {
            let (verb, options) = method.split_once(' ').unwrap();
            let windows = if calibration.is_empty() { "" } else { "--nsamples 64 --seqlen 256" };
            let command = format!("{verb} {model} {calibration} {options} {windows}");
            let (estimate, run) = both(&sandbox, &command);
            let estimate = number(&estimate, "peak_rss") / f64::from(1u32 << 20);
            let measured = number(&run, "peak_rss_mib");
            if !(0.75..1.25).contains(&(estimate / measured)) {
                wrong.push(format!("{command}: {estimate:.1} MiB estimated, {measured:.1} measured"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_output_is_estimated_to_the_byte() {
    let sandbox = Sandbox::new();
    for command in [
        "sparsify model calib.safetensors --pattern 2:4",
        "sparsify model calib.safetensors --pattern 2:4 --format sparse-24-bitmask",
        "sparsify model calib.safetensors --pattern 2:4 --wbits 4 --groupsize 16 --layers 1..2",
        "quantize model calib.safetensors --wbits 3 --groupsize 16",
        "quantize model calib.safetensors --wbits 3 --groupsize 16 --sym --ignore re:.*down_proj",
        "quantize model calib.safetensors --wbits 5 --format dense",
        "quantize model calib.safetensors --wbits 8 --format int-quantized",
        "quantize model calib.safetensors --scheme FP8",
        "quantize model calib.safetensors --scheme W8A8 --kv-cache fp8",
        "quantize model --scheme NVFP4A16 --method rtn",
        "quantize model --scheme MXFP4A16 --method rtn --ignore re:.*down_proj",
        "quantize model calib.safetensors --method spqr --wbits 3 --groupsize 16",
        "quantize model calib.safetensors --wbits 3 --groupsize 16 --qq-scale-bits 3 --qq-zero-bits 3 \
        --permutation-order act_order",
    ] {
        let (estimate, run) = both(&sandbox, command);
        assert_eq!(estimate["bytes_out"], run["bytes_out"], "{command}");
        assert_eq!(estimate["bytes_out_known"], true, "{command}");
        // The same parts, in the same order.
        let stages = |value: &Value| -> Vec<String> {
            let all = value["stages"].as_array().unwrap();
            all.iter().map(|stage| stage["stage"].as_str().unwrap().to_string()).collect()
        };
        let done = stages(&run);
        assert!(done.iter().all(|stage| stages(&estimate).contains(stage)), "{command}: {estimate} {run}");
    }
    // Outliers show in the weights alone.
    let outliers = "quantize model calib.safetensors --wbits 3 --groupsize 16 --outlier-threshold 0.2";
    let (estimate, run) = both(&sandbox, outliers);
    assert_eq!(estimate["bytes_out_known"], false);
    assert!(number(&estimate, "bytes_out") < number(&run, "bytes_out"));
}

#[test]
fn activations_that_are_kept_need_disk() {
    let sandbox = Sandbox::empty();
    let disk = |when: &str| {
        let costs = sandbox.json(&format!("quantize demo --nsamples 8 --seqlen 64 --wbits 4 --dry-run --quiet {when}"));
        number(&costs, "disk")
    };
    // The snapshot of the last block and that of the next, in f32, of the dense model too where it runs beside; demo is no long run.
    sandbox.ok("decompress demo --out dense");
    let width = number(&json_file(&sandbox.path("dense/config.json")), "hidden_size");
    for (stream, models) in [("", 2.0), ("--dense-stream none", 1.0)] {
        let kept = disk(&format!("--resumable {stream}")) - disk(&format!("--resumable=never {stream}"));
        assert_eq!(kept, models * 2.0 * 4.0 * 8.0 * 64.0 * width, "{stream}");
    }
    assert_eq!(disk(""), disk("--resumable=never"));
    let ran = sandbox.ok("quantize demo --nsamples 8 --seqlen 64 --wbits 4 --dry-run --quiet --resumable");
    let words = "for two snapshots of activations, which are left out where the disk is full";
    assert!(ran.stdout.contains(words), "{}", ran.stdout);
}

#[test]
fn the_work_is_what_the_report_counts() {
    let sandbox = Sandbox::new();
    let (estimate, run) = both(&sandbox, "quantize model calib.safetensors --wbits 4 --groupsize 16");
    let stage_value = |value: &Value, stage: &str, key: &str| {
        let all = value["stages"].as_array().unwrap();
        number(all.iter().find(|entry| entry["stage"] == stage).unwrap(), key)
    };
    for stage in ["forward", "gram", "factor", "sweep", "error"] {
        let (estimate, counted) =
            (stage_value(&estimate, stage, "operations"), 1e9 * stage_value(&run, stage, "gigaflop"));
        assert!((estimate / counted - 1.0).abs() < 1e-9, "{stage}: {estimate} {counted}");
    }
}

#[test]
fn a_table_for_people_and_the_errors_of_a_run() {
    let sandbox = Sandbox::new();
    let ran = sandbox.ok("quantize model calib.safetensors --wbits 4 --dry-run --quiet");
    let lines: Vec<&str> = ran.stdout.lines().collect();
    let [time, memory, disk] = lines[..] else { panic!("{}", ran.stdout) };
    assert!(time.starts_with("time      about ") && memory.starts_with("memory    at most "), "{}", ran.stdout);
    assert!(disk.starts_with("disk      at most ") && disk.ends_with("; nothing was written"), "{}", ran.stdout);
    assert_eq!(ran.stderr, "");
    let every = sandbox.ok("quantize model calib.safetensors --wbits 4 --dry-run --verbose").stdout;
    let table: Vec<&str> = every.lines().take_while(|line| !line.is_empty()).collect();
    assert!(table[0].starts_with("stage") && table.iter().any(|line| line.starts_with("sweep")), "{every}");
    assert!(table.iter().all(|line| line.chars().count() <= 80), "{every}");
    fs::create_dir(sandbox.path("full")).unwrap();
    sandbox.write("full/notes.txt", "mine");
    for (arguments, code, words) in [
        ("--wbits 4 --out full", 1, "the output folder is not empty"),
        ("--wbits 4 --groupsize 12 --out out", 1, "--groupsize 12"),
        ("--wbits 9 --out out", 2, "--wbits 9"),
        ("--wbits 4 --nsamples 9999 --out out", 1, "calib.safetensors"),
    ] {
        let command = format!("quantize model calib.safetensors --quiet --dry-run {arguments}");
        sandbox.refused(&command, code, &[words]).unwrap();
    }
    // Nor is it overwritten, as no run wrote it.
    let command = "quantize model calib.safetensors --wbits 4 --dry-run --quiet --overwrite --out full";
    sandbox.refused(command, 1, &["full: holds notes.txt, and nothing says that a run of paring wrote it"]).unwrap();
    assert_eq!(fs::read_to_string(sandbox.path("full/notes.txt")).unwrap(), "mine");
    // An earlier output stays on the disk until the new one is finished.
    sandbox.ok("quantize model calib.safetensors --wbits 4 --quiet --out out");
    let ran = sandbox.ok("quantize model calib.safetensors --wbits 4 --quiet --out out --overwrite --dry-run");
    assert!(
        ran.stdout.contains("), and the ") && ran.stdout.contains(" of the earlier output until"),
        "{}",
        ran.stdout
    );
}
