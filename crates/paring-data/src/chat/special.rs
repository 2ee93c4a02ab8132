//! The special tokens that a template may name, as transformers finds them.

use std::path::Path;

use paring_format::files;
use serde_json::{Map, Value};

use crate::optional::read;
use crate::{Error, Result};

/// The tokens that every tokenizer of transformers has a place for.
const NAMES: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// Tokens that classes of transformers have where the files say nothing of them.
const OF_CLASSES: [(&str, &[&str], &str); 2] = [
    ("GPT2Tokenizer", &["bos_token", "eos_token", "unk_token"], "<|endoftext|>"),
    ("Qwen2Tokenizer", &["eos_token", "unk_token", "pad_token"], "<|endoftext|>"),
];

/// The text of a token, which is a string or an object with `content`.
fn text(token: &Value) -> Option<&str> {
    token.as_str().or_else(|| token.get("content")?.as_str())
}

/// Names and texts of the special tokens: those of `tokenizer_config.json`, which is `config`, and of
/// `special_tokens_map.json`, which wins unless the config lists the added tokens: then it is an old file, and not read.
pub(super) fn tokens(dir: &Path, config: &Value) -> Result<Vec<(String, Value)>> {
    let mut all = config.as_object().cloned().unwrap_or_default();
    if !all.contains_key("added_tokens_decoder") {
        let path = dir.join("special_tokens_map.json");
        if let Some(bytes) = read(&path, files::SETTINGS)? {
            let bad = |reason: String| Error::data(path.display().to_string(), reason);
            let map: Map<String, Value> =
                serde_json::from_slice(&bytes).map_err(|e| bad(format!("not a JSON object: {e}")))?;
            all.extend(map);
        }
    }
    let class = config.get("tokenizer_class").and_then(Value::as_str).unwrap_or_default();
    let class = class.strip_suffix("Fast").unwrap_or(class);
    for (_, names, token) in OF_CLASSES.iter().filter(|(of, ..)| *of == class) {
        for name in *names {
            all.entry(*name).or_insert_with(|| Value::from(*token));
        }
    }
    let mut found: Vec<(String, Value)> = Vec::new();
    let mut add = |name: &str, token: Option<&Value>| {
        if let Some(token) = token.and_then(text) {
            found.retain(|(other, _)| other != name);
            found.push((name.to_owned(), token.into()));
        }
    };
    for name in NAMES {
        add(name, all.get(name));
    }
    // Tokens of a model's own: by names like image_token, or as an object of names and tokens.
    for (name, token) in all.iter().filter(|(name, _)| name.ends_with("_token") && !NAMES.contains(&name.as_str())) {
        add(name, Some(token));
    }
    for key in ["model_specific_special_tokens", "extra_special_tokens"] {
        for (name, token) in all.get(key).and_then(Value::as_object).into_iter().flatten() {
            add(name, Some(token));
        }
    }
    Ok(found)
}
