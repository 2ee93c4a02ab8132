//! Outputs that cannot be written: found before the work if possible, and half a model never remains.

use std::fs;

use crate::support::*;

const QUANTIZE: &str = "quantize model calib.safetensors --wbits 4 --quiet";

#[test]
fn folders_that_cannot_be_used() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("full")).unwrap();
    sandbox.write("full/notes.txt", "mine");
    sandbox.write("file", "mine");
    let mut wrong = Vec::new();
    for command in [QUANTIZE, "decompress model"] {
        for (out, code, words) in [
            ("full", 1, &["full: the output folder is not empty; choose another --out"][..]),
            ("file", 1, &["file: exists and is not a folder"]),
            ("file/deeper", 1, &["file/deeper: cannot write here", "Not a directory"]),
            ("model", 2, &["--out model", "the model's own folder"]),
            ("./full/../model", 2, &["the model's own folder"]),
        ] {
            wrong.extend(sandbox.refused(&format!("{command} --out {out}"), code, words).err());
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert_eq!(fs::read_to_string(sandbox.path("full/notes.txt")).unwrap(), "mine");
    assert_eq!(fs::read_to_string(sandbox.path("file")).unwrap(), "mine");
    assert_eq!(model_bytes(&sandbox.path("model")).len(), 2);
}

#[test]
fn a_failure_leaves_the_output_that_was_to_be_replaced() {
    let sandbox = Sandbox::new();
    sandbox.ok(&format!("{QUANTIZE} --out out"));
    let before = model_bytes(&sandbox.path("out"));
    sandbox.write("out/notes.txt", "mine");
    // An output that is known to be wrong before the work costs nothing.
    token_file(&sandbox.path("beyond.safetensors"), &[2, 32], &[64; 64]);
    for arguments in [
        "quantize model calib.safetensors --wbits 4 --groupsize 12",
        "quantize model calib.safetensors --wbits 4 --nsamples 9",
        "quantize model beyond.safetensors --wbits 4",
        "quantize model calib.safetensors --wbits 4 --eval beyond.safetensors",
        "quantize gone calib.safetensors --wbits 4",
    ] {
        let ran = sandbox.run(&format!("{arguments} --quiet --overwrite --out out"));
        assert_eq!(ran.code, Some(1), "{arguments}: {}", ran.stderr);
        assert!(model_bytes(&sandbox.path("out")) == before, "{arguments}: the earlier output was touched");
    }
    // And so does a failure during the work.
    let mut broken = Model::golden("llama");
    broken.set("model.layers.1.mlp.down_proj.weight", 0, f32::NAN);
    broken.write(&sandbox.path("broken"));
    let again = "quantize broken calib.safetensors --wbits 4 --quiet --overwrite --out out";
    let ran = sandbox.run(again);
    assert!(ran.code == Some(1) && ran.stderr.contains("down_proj") && ran.stderr.contains("NaN"), "{}", ran.stderr);
    assert!(model_bytes(&sandbox.path("out")) == before, "the earlier output was touched");
    sandbox.ok(&format!("{QUANTIZE} --overwrite --out out"));
    assert!(model_bytes(&sandbox.path("out")) == before);
    assert_eq!(fs::read_to_string(sandbox.path("out/notes.txt")).unwrap(), "mine");
}

/// A limit on the size of files stands for a disk that takes no more: writing fails in the middle of a shard.
#[cfg(unix)]
#[test]
fn a_file_that_cannot_grow() {
    let sandbox = Sandbox::new();
    // Blocks of 512 bytes; the signal that would end the program is switched off.
    let limited = |arguments: &str| sandbox.shell(&format!("trap '' XFSZ; ulimit -f 8; exec \"$PARING\" {arguments}"));
    for arguments in [
        format!("{QUANTIZE} --format dense --out out"),
        "decompress model --out out".to_string(),
        "sparsify model --method magnitude --pattern 2:4 --quiet --out out".to_string(),
    ] {
        let ran = limited(&arguments);
        sandbox.refuses(&ran, 1, &["out/model", "File too large"]).unwrap();
        // A run leaves what it can be resumed from.
        let left = fs::read_dir(sandbox.path("out")).unwrap().map(|entry| entry.unwrap().file_name());
        let other: Vec<_> = left.filter(|name| name != "journal.jsonl").collect();
        assert!(other.is_empty(), "{arguments}: remains of a shard: {other:?}");
        fs::remove_dir_all(sandbox.path("out")).unwrap();
    }
}

/// A disk of 64 kB, where the system lets a test have one.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("disk")).unwrap();
    let ran = sandbox.shell(&format!(
        "unshare -rm sh -c 'mount -t tmpfs -o size=64k none disk || exit 77
        \"$PARING\" {QUANTIZE} --format dense --out disk/out; code=$?; ls disk/out > left; exit $code'"
    ));
    if !sandbox.path("left").exists() {
        // No namespaces, or no mounts in them: nothing of the program ran.
        let refused = ["permitted", "ermission", "not found", "unshare", "mount"];
        assert!(refused.iter().any(|word| ran.stderr.contains(word)), "{}", ran.stderr);
        return;
    }
    sandbox.refuses(&ran, 1, &["disk/out/model-0000", "no space left for", "another disk"]).unwrap();
    let left = fs::read_to_string(sandbox.path("left")).unwrap();
    assert!(left.lines().all(|name| name.ends_with(".safetensors") || name == "journal.jsonl"), "{left}");
    assert!(left.lines().count() < 6, "{left}");
}
