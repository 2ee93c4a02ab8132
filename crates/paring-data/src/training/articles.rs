//! News articles with summaries that people wrote: the training part of cnn_dailymail.

use std::path::PathBuf;

use crate::Result;
use crate::named::{Files, Part, part};

/// The name of the set.
pub(super) const NAME: &str = "cnn_dailymail";

/// The part that training sees, in three files: 287113 articles. In a folder, one file may have them all.
const TRAINING: [Part; 3] = [
    of_training(
        "3.0.0/train-00000-of-00003.parquet",
        &["cnn_dailymail.train.parquet", "cnn_dailymail.train.jsonl", "train.parquet", "train.jsonl"],
    ),
    of_training("3.0.0/train-00001-of-00003.parquet", &[]),
    of_training("3.0.0/train-00002-of-00003.parquet", &[]),
];

const fn of_training(path: &'static str, also: &'static [&'static str]) -> Part {
    part("abisee/cnn_dailymail", path, also, "article")
}

/// The files of the set's training part.
///
/// # Errors
/// When one is nowhere.
pub(super) fn files(files: &Files<'_>) -> Result<Vec<PathBuf>> {
    let [first, others @ ..] = &TRAINING;
    let mut paths = vec![first.find(NAME, files)?];
    let is_whole = paths.iter().all(|path| !path.ends_with(first.file_name()));
    for part in others.iter().filter(|_| !is_whole) {
        paths.push(part.find(NAME, files)?);
    }
    Ok(paths)
}
