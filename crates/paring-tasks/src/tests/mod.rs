//! Whole tasks, against what lm-evaluation-harness made of the same data (`tests/golden/tasks`).

mod bad;
mod golden;
mod own;
mod summaries;

use std::path::{Path, PathBuf};

use paring_data::Tokenizer;
use paring_data::tokenizer::tokenizer_with;

use crate::files::Files;

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/tasks").join(path)
}

/// The files of a folder.
fn folder(dir: &Path) -> Files<'_> {
    Files { dir: Some(dir), remote: None }
}

/// A tokenizer of words, as the built-in model has it.
fn words() -> Tokenizer {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../paring-cli/demo");
    let read = |name: &str| std::fs::read(demo.join(name)).unwrap();
    tokenizer_with(&read("tokenizer.json"), &read("tokenizer_config.json"), Path::new("demo")).unwrap()
}
