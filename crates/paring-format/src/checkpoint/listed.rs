//! Objects of JSON that list something by name, each name once: an index of shards, the header of a safetensors file.
//!
//! Most parsers keep the last of two equal names, so that two programs could read two different models in one file.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use crate::names::is_plain_name;
use crate::{Error, Result, files};

/// The index: tensor name → name of a file in the same folder.
///
/// Errors when it has more than [`files::LISTS`] bytes, is no index, names a tensor twice, or a file that would lie
/// elsewhere.
pub fn read_index(path: &Path) -> Result<BTreeMap<String, String>> {
    let bad = |reason: String| Error::BadJson { path: path.to_path_buf(), reason };
    let index: Index = serde_json::from_slice(&files::read(path, files::LISTS)?)
        .map_err(|error| bad(format!("not valid JSON of an index: {error}")))?;
    let Some(WeightMap(map)) = index.0 else { return Err(bad("no weight_map in it".to_string())) };
    match map.iter().find(|(_, file)| !is_plain_name(file)) {
        Some((tensor, file)) => {
            Err(bad(format!("the shard {file:?} of {tensor} is not the name of a file in this folder")))
        }
        None => Ok(map),
    }
}

/// The first name that an object of JSON has twice, or an error when it is none.
pub(super) fn name_twice(json: &[u8]) -> serde_json::Result<Option<String>> {
    serde_json::from_slice(json).map(|Twice(name)| name)
}

/// The part of an index that is read.
struct Index(Option<WeightMap>);

impl<'de> Deserialize<'de> for Index {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Index;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Index, A::Error> {
                let mut found = Index(None);
                while let Some(key) = map.next_key::<Cow<str>>()? {
                    if key != "weight_map" {
                        map.next_value::<IgnoredAny>()?;
                    } else if found.0.replace(map.next_value()?).is_some() {
                        return Err(A::Error::custom("weight_map is there twice"));
                    }
                }
                Ok(found)
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

struct WeightMap(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for WeightMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Files;
        impl<'de> Visitor<'de> for Files {
            type Value = WeightMap;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of tensors and the files that hold them")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WeightMap, A::Error> {
                let mut files = BTreeMap::new();
                while let Some(tensor) = map.next_key::<String>()? {
                    let named = |error: A::Error| A::Error::custom(format!("the shard of {tensor}: {error}"));
                    let file: String = map.next_value().map_err(named)?;
                    if let Some(twice) = files.insert(tensor, file) {
                        return Err(A::Error::custom(format!("a tensor is there twice, the first time in {twice}")));
                    }
                }
                Ok(WeightMap(files))
            }
        }
        deserializer.deserialize_map(Files)
    }
}

struct Twice(Option<String>);

impl<'de> Deserialize<'de> for Twice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = Twice;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Twice, A::Error> {
                let (mut seen, mut twice) = (HashSet::new(), None);
                while let Some((name, _)) = map.next_entry::<Cow<str>, IgnoredAny>()? {
                    if twice.is_none() && seen.contains(&name) {
                        twice = Some(name.into_owned());
                    } else {
                        seen.insert(name);
                    }
                }
                Ok(Twice(twice))
            }
        }
        deserializer.deserialize_map(Names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(text: &str) -> Result<BTreeMap<String, String>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index.json");
        std::fs::write(&path, text).unwrap();
        read_index(&path).map_err(|error| error.to_string().replace(dir.path().to_str().unwrap(), ""))
    }

    #[test]
    fn indexes() {
        let good = index(r#"{"metadata": {"weight_map": 1}, "weight_map": {"b": "2", "a": "1"}, "more": [[]]}"#);
        assert_eq!(good.unwrap(), BTreeMap::from([("a".into(), "1".into()), ("b".into(), "2".into())]));
        for (text, words) in [
            ("{}", "/index.json: no weight_map in it"),
            ("[]", "not valid JSON of an index: invalid type: sequence, expected an object"),
            (r#"{"weight_map": {"a": 1}}"#, "the shard of a: invalid type: integer `1`, expected a string at line 1"),
            (r#"{"weight_map": {"a": "1", "a": "2"}}"#, "a tensor is there twice, the first time in 1 at line 1"),
            (r#"{"weight_map": {}, "weight_map": {}}"#, "weight_map is there twice"),
            (r#"{"weight_map": {"a": "../1"}}"#, "the shard \"../1\" of a is not the name of a file in this folder"),
            (r#"{"weight_map": {"a": "/1"}}"#, "the shard \"/1\" of a is not"),
            (r#"{"weight_map": {"a": ""}}"#, "the shard \"\" of a is not"),
        ] {
            let error = index(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn names() {
        assert_eq!(name_twice(br#"{"a": {"a": 1}, "b": [2, {"b": 3}]}"#).unwrap(), None);
        // The same name in another spelling.
        assert_eq!(name_twice(br#"{"a": 1, "b": 2, "\u0061": 3}"#).unwrap().as_deref(), Some("a"));
        assert!(name_twice(b"[1]").is_err());
    }
}
