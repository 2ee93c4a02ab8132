//! Digests of everything that a run writes, and the comparison of an output with them.

use std::collections::BTreeMap;
use std::path::Path;

use paring_format::layouts::part_names;
use paring_format::names::CONFIG;
use paring_format::names::MANIFEST;
use paring_format::{Checkpoint, files};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, Result};

/// The key of the digests in [`MANIFEST`].
pub(crate) const DIGESTS: &str = "digests";

/// The digest that something must have when it is read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Made {
    /// xxh3, 64 bits: of shape and dense values of a linear ([`paring_format::Compressed::digest`]), of the bytes of another
    /// tensor.
    #[serde(with = "hexadecimal")]
    pub(crate) digest: u64,
    /// Rows and columns of a linear.
    pub(crate) shape: Option<(usize, usize)>,
}

/// The digests as they stand in [`paring_format::names::MANIFEST`].
pub(crate) fn to_json(made: &BTreeMap<String, Made>) -> BTreeMap<&str, String> {
    made.iter().map(|(name, made)| (name.as_str(), hexadecimal::text(made.digest))).collect()
}

/// Opens what a run wrote into `dir` like any reader would, decodes every tensor and compares. An output that fails loses
/// its config, so that nobody takes it for a model.
pub(crate) fn reopen(dir: &Path, made: &BTreeMap<String, Made>) -> Result<()> {
    let checked = Checkpoint::open(dir).map_err(Error::from).and_then(|checkpoint| compare(&checkpoint, made));
    if checked.is_err() {
        let path = dir.join(CONFIG);
        std::fs::remove_file(&path).map_err(|source| Error::Io { path, source })?;
    }
    checked
}

/// Reads back what a run made, by module path or tensor name. Errors at the first that differs.
fn compare(checkpoint: &Checkpoint, made: &BTreeMap<String, Made>) -> Result<()> {
    made.par_iter().try_for_each(|(name, made)| {
        let got = match made.shape {
            Some((rows, cols)) => checkpoint.digest_linear(name, rows, cols)?,
            None => checkpoint.digest(name)?,
        };
        equal(checkpoint, name, made.digest, got)
    })
}

/// The digests beside a checkpoint; `None` when there are none. Errors when they are not what a run writes.
pub(crate) fn read_digests(checkpoint: &Checkpoint) -> Result<Option<BTreeMap<String, u64>>> {
    let Some(path) = checkpoint.dir().map(|dir| dir.join(MANIFEST)).filter(|path| path.is_file()) else {
        return Ok(None);
    };
    let bad = |reason: String| Error::content(path.display().to_string(), reason);
    let Some(digests) = read_json(&path)?.get_mut(DIGESTS).map(Value::take) else { return Ok(None) };
    let Value::Object(digests) = digests else {
        return Err(bad(format!("{DIGESTS} is not an object of names and digests")));
    };
    let parse = |(name, digest): (String, Value)| {
        let number = digest
            .as_str()
            .and_then(hexadecimal::parse)
            .ok_or_else(|| bad(format!("the digest {digest} of {name} is not 16 hexadecimal digits")))?;
        Ok((name, number))
    };
    digests.into_iter().map(parse).collect::<Result<_>>().map(Some)
}

/// The JSON in a file.
pub(crate) fn read_json(path: &Path) -> Result<Value> {
    let bytes = files::read(path, files::LISTS)?;
    serde_json::from_slice(&bytes)
        .map_err(|e| Error::content(path.display().to_string(), format!("not valid JSON: {e}")))
}

pub(crate) fn equal(checkpoint: &Checkpoint, name: &str, expected: u64, got: u64) -> Result<()> {
    if got == expected {
        return Ok(());
    }
    Err(Error::Check { file: file_of(checkpoint, name), name: name.to_string(), expected, got })
}

pub(crate) fn wrong(checkpoint: &Checkpoint, name: &str, expected: String, got: impl Into<String>) -> Error {
    Error::Verify { file: file_of(checkpoint, name), name: name.to_string(), expected, got: got.into() }
}

/// The file that holds a tensor or the first part of a linear; the checkpoint where there is none.
pub(crate) fn file_of(checkpoint: &Checkpoint, name: &str) -> String {
    let part = || part_names().iter().find_map(|part| checkpoint.info(&format!("{name}.{part}")));
    checkpoint.info(name).or_else(part).map_or_else(|| checkpoint.describe(), |info| info.file.clone())
}

/// Digests as 16 hexadecimal digits.
pub(crate) mod hexadecimal {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    /// As it is written.
    pub fn text(digest: u64) -> String {
        format!("{digest:016x}")
    }

    /// Reads [`text`].
    pub fn parse(text: &str) -> Option<u64> {
        Some(text).filter(|text| text.len() == 16).and_then(|text| u64::from_str_radix(text, 16).ok())
    }

    pub fn serialize<S: Serializer>(digest: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&text(*digest))
    }

    pub fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<u64, D::Error> {
        let written = String::deserialize(from)?;
        parse(&written).ok_or_else(|| D::Error::custom(format!("{written:?} is not 16 hexadecimal digits")))
    }
}
