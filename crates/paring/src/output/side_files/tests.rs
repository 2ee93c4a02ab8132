//! The files of a model's folder that an output takes over.

use std::fs;

use super::*;
/// A folder with a golden model's config and weights, and whatever else `fill` puts there.
fn model(fill: impl FnOnce(&std::path::Path)) -> (tempfile::TempDir, Checkpoint) {
    let dir = tempfile::tempdir().unwrap();
    let from = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/models/llama");
    for name in ["config.json", "model.safetensors"] {
        fs::copy(from.join(name), dir.path().join(name)).unwrap();
    }
    fill(dir.path());
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    (dir, checkpoint)
}

#[test]
fn small_files_come_along_and_others_are_named() {
    let (_dir, checkpoint) = model(|dir| {
        let write = |name: &str, content: &str| {
            fs::create_dir_all(dir.join(name).parent().unwrap()).unwrap();
            fs::write(dir.join(name), content).unwrap();
        };
        for name in ["tekken.json", "LICENSE", "a/b/c.txt", "templates/tool_use.jinja", "vocab.txt", "code.py"] {
            write(name, name);
        }
        for name in [
            "NOTICE",
            "USE_POLICY.md",
            "additional_chat_templates/rag.jinja",
            "preprocessor_config.json",
            "spiece.model",
        ] {
            write(name, name);
        }
        for name in ["old.gguf", "pytorch_model.bin", "onnx/model.onnx", "onnx/config.txt", "checkpoint-5/config.json"]
        {
            write(name, "x");
        }
        for name in [".git/HEAD", ".secret", "model.safetensors.index.json.bak", "a/b/c/d/e/f"] {
            write(name, "x");
        }
        for name in [
            "report.json",
            "report.html",
            "paring.json",
            "journal.jsonl",
            ".activations-00001",
            "README.md",
            "layer-errors.svg",
        ] {
            write(name, "of a run");
        }
        fs::File::create(dir.join("huge.txt")).unwrap().set_len((64 << 20) + 1).unwrap();
    });
    let taken = beside(&checkpoint, vec![("LICENSE".into(), b"given".to_vec())]).unwrap();
    let names: Vec<&str> = taken.iter().map(|(name, _)| name.as_str()).collect();
    let expected = [
        "LICENSE",
        "NOTICE",
        "USE_POLICY.md",
        "a/b/c.txt",
        "additional_chat_templates/rag.jinja",
        "code.py",
        "model.safetensors.index.json.bak",
        "preprocessor_config.json",
        "spiece.model",
        "tekken.json",
        "templates/tool_use.jinja",
        "vocab.txt",
    ];
    assert_eq!(names, expected);
    assert_eq!((&taken[0].1[..], &taken[3].1[..]), (&b"given"[..], &b"a/b/c.txt"[..]));
    let note = left_behind(&checkpoint).unwrap().unwrap();
    for part in [
        "old.gguf, pytorch_model.bin (weights that the model does not use)",
        "checkpoint-5/, onnx/ (a model, or weights, of its own)",
        ".secret (hidden)",
        "huge.txt (larger than 64 MiB)",
        "a/b/c/d (folders in folders)",
    ] {
        assert!(note.contains(part), "{part}: {note}");
    }
    assert!(![".git", "report", "LICENSE", "README"].iter().any(|name| note.contains(name)), "{note}");
}

#[test]
fn what_is_taken_is_bounded() {
    let (_dir, checkpoint) = model(|dir| {
        (0..1100).for_each(|i| fs::write(dir.join(format!("f{i:04}")), "").unwrap());
    });
    assert_eq!(beside(&checkpoint, Vec::new()).unwrap().len(), 1000);
    let note = left_behind(&checkpoint).unwrap().unwrap();
    assert!(note.contains("f1000, f1001, ") && note.contains(" and 94 more (too many files)"), "{note}");
    // Five of 60 MiB are more than all together may have: nothing is read of the last.
    let (_dir, checkpoint) = model(|dir| {
        (0..5).for_each(|i| fs::File::create(dir.join(format!("f{i}"))).unwrap().set_len(60 << 20).unwrap());
    });
    assert_eq!(
        left_behind(&checkpoint).unwrap().unwrap(),
        "not copied from the model's folder: f4 (more than 256 MiB together)"
    );
    let (_dir, checkpoint) = model(|_| {});
    assert_eq!(left_behind(&checkpoint).unwrap(), None);
}

#[cfg(unix)]
#[test]
fn links_lead_to_files_alone() {
    use std::os::unix::fs::symlink;
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("blob"), "blob").unwrap();
    let (_dir, checkpoint) = model(|dir| {
        symlink(outside.path().join("blob"), dir.join("vocab.txt")).unwrap();
        symlink(outside.path(), dir.join("folder")).unwrap();
        symlink("nowhere", dir.join("gone")).unwrap();
        symlink("/dev/zero", dir.join("zero")).unwrap();
    });
    let taken = beside(&checkpoint, Vec::new()).unwrap();
    assert_eq!(taken, [("vocab.txt".to_string(), b"blob".to_vec())]);
    let note = left_behind(&checkpoint).unwrap().unwrap();
    for part in ["folder (a link to a folder)", "gone (a link that leads nowhere)", "zero (no regular file)"] {
        assert!(note.contains(part), "{part}: {note}");
    }
}
