//! Documents of a task once they are asked: what is needed to count the answers.

use std::ops::Range;

use xxhash_rust::xxh3::Xxh3;

use crate::table::Kind;

/// The documents of a task that are asked.
#[derive(Clone, Debug)]
pub(crate) struct Set {
    pub task: String,
    pub version: f64,
    pub kind: Kind,
    pub documents: Vec<Asked>,
}

/// A document and its requests.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Its requests in the list of all.
    pub requests: Range<usize>,
    /// A checksum of its texts.
    pub digest: u64,
    pub what: What,
}

/// The question.
#[derive(Clone, Debug)]
pub(crate) enum What {
    Choices { choices: Vec<String>, gold: usize },
    Page { words: usize, bytes: usize },
}

/// A checksum of texts, each with an end.
pub(crate) fn digest<'a>(texts: impl IntoIterator<Item = &'a str>) -> u64 {
    let mut hash = Xxh3::new();
    for text in texts {
        hash.update(text.as_bytes());
        // No text holds it.
        hash.update(&[0xff]);
    }
    hash.digest()
}
