//! The special tokens that a template may name, as transformers finds them.

use std::path::Path;

use serde_json::Value;

use crate::Result;
use crate::special::{NAMES, keys, of_class};

/// The text of a token, which is a string or an object with `content`.
fn text(token: &Value) -> Option<&str> {
    token.as_str().or_else(|| token.get("content")?.as_str())
}

/// Names and texts of the special tokens in the files of `dir`, whose `tokenizer_config.json` is `config`.
pub(super) fn tokens(dir: &Path, config: &Value) -> Result<Vec<(String, Value)>> {
    let keys = keys(dir, config)?;
    let mut found: Vec<(String, Value)> = Vec::new();
    let mut add = |name: &str, token: &Value| {
        if let Some(token) = text(token) {
            found.retain(|(other, _)| other != name);
            found.push((name.to_owned(), token.into()));
        }
    };
    for (name, token) in of_class(config).filter(|(name, _)| keys.iter().all(|key| key.name != *name)) {
        add(name, &token.into());
    }
    // Tokens that all tokenizers have, and of a model's own: by names like image_token, or as an object of names and tokens.
    for key in keys.iter().filter(|key| NAMES.contains(&key.name.as_str()) || key.name.ends_with("_token")) {
        add(&key.name, &key.value);
    }
    for name in ["model_specific_special_tokens", "extra_special_tokens"] {
        let objects = keys.iter().filter(|key| key.name == name).filter_map(|key| key.value.as_object());
        objects.flatten().for_each(|(name, token)| add(name, token));
    }
    Ok(found)
}
