//! The keys that name special tokens, of the files beside a vocabulary, by the rules of transformers: for the tokens that are
//! added to a tokenizer, and for those that a chat template may write.

use std::path::Path;

use paring_format::files;
use serde_json::{Map, Value};

use crate::optional::read;
use crate::{Error, Result};

/// The tokens that every tokenizer of transformers has a place for.
pub(crate) const NAMES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// The file of a tokenizer's settings.
pub(crate) const CONFIG: &str = "tokenizer_config.json";
/// The file that older folders have beside it.
pub(crate) const MAP: &str = "special_tokens_map.json";

/// Tokens that classes of transformers have where the files say nothing of them.
const OF_CLASSES: [(&str, &[&str], &str); 2] = [
    ("GPT2Tokenizer", &["bos_token", "eos_token", "unk_token"], "<|endoftext|>"),
    ("Qwen2Tokenizer", &["eos_token", "unk_token", "pad_token"], "<|endoftext|>"),
];

/// A key that may name a token, or several.
pub(crate) struct Key {
    pub name: String,
    pub value: Value,
    /// The file that has it.
    pub file: &'static str,
}

/// The keys of `tokenizer_config.json`, which is `config`, and of `special_tokens_map.json` in `dir`, which win. A config that
/// lists the added tokens is of a newer folder: the map is an old file then, and not read. Lists of tokens without a name
/// are there of both files.
pub(crate) fn keys(dir: &Path, config: &Value) -> Result<Vec<Key>> {
    let of = |object: Map<String, Value>, file| object.into_iter().map(move |(name, value)| Key { name, value, file });
    let mut keys: Vec<Key> = of(config.as_object().cloned().unwrap_or_default(), CONFIG).collect();
    if added_tokens(config).is_none() {
        for key in of(object(dir, MAP)?, MAP) {
            keys.retain(|other| other.name != key.name || is_list_of_extra(&key.name));
            keys.push(key);
        }
    }
    Ok(keys)
}

/// The added tokens that a config lists by their ids.
pub(crate) fn added_tokens(config: &Value) -> Option<&Value> {
    config.get("added_tokens_decoder").filter(|value| !value.is_null())
}

/// True for a key of tokens without a name.
pub(crate) fn is_list_of_extra(name: &str) -> bool {
    ["additional_special_tokens", "extra_special_tokens"].contains(&name)
}

/// Names and texts of the tokens that the class of a config has by itself.
pub(crate) fn of_class(config: &Value) -> impl Iterator<Item = (&'static str, &'static str)> {
    let class = config.get("tokenizer_class").and_then(Value::as_str).unwrap_or_default();
    let class = class.strip_suffix("Fast").unwrap_or(class).to_string();
    let known = OF_CLASSES.into_iter().filter(move |(of, ..)| *of == class);
    known.flat_map(|(_, names, token)| names.iter().map(move |name| (*name, token)))
}

/// The text of a token as JSON: a string, or an object with its content.
pub(crate) fn content(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

/// The object in a file of `dir`, empty where there is no such file.
pub(crate) fn object(dir: &Path, name: &str) -> Result<Map<String, Value>> {
    let path = dir.join(name);
    let Some(bytes) = read(&path, files::SETTINGS)? else { return Ok(Map::new()) };
    let bad = |reason: String| Error::data(path.display().to_string(), reason);
    match serde_json::from_slice(&bytes).map_err(|e| bad(format!("not JSON: {e}; download it again")))? {
        Value::Object(object) => Ok(object),
        _ => Err(bad("expected a JSON object".into())),
    }
}
