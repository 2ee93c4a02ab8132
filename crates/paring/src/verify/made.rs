//! What is noted of something that was written.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What something that was written must read back as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Made {
    /// xxh3, 64 bits: of shape and dense values of a linear ([`paring_format::Compressed::digest`]), of the bytes of another
    /// tensor.
    #[serde(with = "hexadecimal")]
    pub(crate) digest: u64,
    /// Rows and columns of a linear.
    pub(crate) shape: Option<(usize, usize)>,
}

/// The digests as they stand in [`paring_format::writer::REPORT`].
pub(crate) fn to_json(made: &BTreeMap<String, Made>) -> BTreeMap<&str, String> {
    made.iter().map(|(name, made)| (name.as_str(), hexadecimal::text(made.digest))).collect()
}

/// Digests as 16 hexadecimal digits.
pub(crate) mod hexadecimal {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    /// As it is written.
    pub fn text(digest: u64) -> String {
        format!("{digest:016x}")
    }

    /// What was written so.
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
