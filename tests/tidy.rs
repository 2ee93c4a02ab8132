//! Every source file is short and finished.

use std::fs;
use std::path::{Path, PathBuf};

const MAX_LINES: usize = 600;

/// Folders with source files.
const PLACES: [&str; 5] = ["crates", "fuzz", "kernels", "tests", "scripts"];

fn source_files(dir: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() && !path.ends_with("target") {
            source_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn sources_are_short_and_finished() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files = Vec::new();
    PLACES.iter().for_each(|place| source_files(&root.join(place), &mut files));
    assert!(files.len() > 60, "only {} source files found", files.len());
    // Put together here, so that this file does not hold them.
    let unfinished = [["todo", "!"], ["unimplemented", "!"], ["#[", "ignore"], ["FIX", "ME"], ["dbg", "!("]];
    let unfinished = unfinished.map(|halves| halves.concat());
    let mut complaints = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let name = file.strip_prefix(&root).unwrap_or(&file).display();
        let lines = text.lines().count();
        if lines > MAX_LINES {
            complaints.push(format!("{name}: {lines} lines, at most {MAX_LINES}"));
        }
        for (i, line) in text.lines().enumerate() {
            for word in unfinished.iter().filter(|word| line.contains(word.as_str())) {
                complaints.push(format!("{name}:{}: {word}", i + 1));
            }
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}
