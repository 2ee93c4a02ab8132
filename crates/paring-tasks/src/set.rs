//! Documents of a task once they are asked: what is needed to count the answers.

use std::ops::Range;

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

/// FNV-1a of 64 bits over texts, each with an end.
pub(crate) fn digest<'a>(texts: impl IntoIterator<Item = &'a str>) -> u64 {
    let bytes = texts.into_iter().flat_map(|text| text.bytes().chain([0xff]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}
