//! The files that have chat templates.

use std::path::{Path, PathBuf};

use paring_format::files;
use serde_json::Value;

use crate::optional::read;
use crate::{Error, Result};

/// Templates of other names than `default`, a file each.
const FOLDER: &str = "additional_chat_templates";

fn bad(path: &Path, reason: impl Into<String>) -> Error {
    Error::data(path.display().to_string(), reason.into())
}

fn text(path: &Path) -> Result<Option<String>> {
    let Some(bytes) = read(path, files::SETTINGS)? else { return Ok(None) };
    let text = String::from_utf8(bytes).map_err(|e| bad(path, format!("not UTF-8: {}; convert it", e.utf8_error())))?;
    Ok(Some(text))
}

/// The template that transformers uses where nobody names one, and its file: `chat_template.jinja`, a `default.jinja` in
/// `additional_chat_templates`, `chat_template.json`, or `chat_template` in `tokenizer_config.json`, which is `config`.
pub(super) fn find(dir: &Path, config: &Value) -> Result<Option<(String, String)>> {
    let found = |path: PathBuf, source: String| Ok(Some((path.display().to_string(), source)));
    // One of this name in the folder takes the place of the file.
    let others = dir.join(FOLDER);
    for path in [others.join("default.jinja"), dir.join("chat_template.jinja")] {
        if let Some(source) = text(&path)? {
            return found(path, source);
        }
    }
    let json = dir.join("chat_template.json");
    if let Some(source) = text(&json)? {
        let value: Value =
            serde_json::from_str(&source).map_err(|e| bad(&json, format!("not JSON: {e}; download it again")))?;
        return match default_of(&value) {
            Default::Is(source) => found(json, source),
            Default::Lacks(names) => Err(bad(&json, no_default(&names))),
            Default::Absent | Default::NoText => Err(bad(&json, "chat_template holds no text; expected a template")),
        };
    }
    // Where there are files, transformers does not look into the config.
    let names = names_in(&others)?;
    if !names.is_empty() {
        return Err(bad(&others, no_default(&names)));
    }
    let own = dir.join("tokenizer_config.json");
    match default_of(config) {
        Default::Is(source) => found(own, source),
        Default::Absent => Ok(None),
        Default::Lacks(names) => Err(bad(&own, no_default(&names))),
        Default::NoText => Err(bad(&own, "chat_template: expected text, or a list with one named default")),
    }
}

fn no_default(names: &[String]) -> String {
    format!(
        "chat templates {}, and none is named default; put the one to use into chat_template.jinja",
        names.join(", ")
    )
}

/// The names of the templates in a folder, in the order of the alphabet.
fn names_in(folder: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(Error::Io { path: folder.to_path_buf(), source }),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| Error::Io { path: folder.to_path_buf(), source })?;
        names.extend(entry.file_name().to_string_lossy().strip_suffix(".jinja").map(|name| format!("{name:?}")));
    }
    names.sort();
    Ok(names)
}

/// The default one, as `chat_template` has it.
enum Default {
    Is(String),
    Absent,
    /// There are templates of these names only.
    Lacks(Vec<String>),
    NoText,
}

/// The text of `chat_template`, or of the one named `default` among several: a list of names and templates, of which the last
/// of a name counts, or an object.
fn default_of(value: &Value) -> Default {
    let named: Option<Vec<(&str, &Value)>> = match value.get("chat_template") {
        None | Some(Value::Null) => return Default::Absent,
        Some(Value::String(source)) => return Default::Is(source.clone()),
        Some(Value::Object(map)) => Some(map.iter().map(|(name, template)| (name.as_str(), template)).collect()),
        Some(Value::Array(list)) => {
            list.iter().map(|item| Some((item.get("name")?.as_str()?, item.get("template")?))).collect()
        }
        Some(_) => None,
    };
    let Some(named) = named.filter(|named| !named.is_empty()) else { return Default::NoText };
    match named.iter().rev().find(|(name, _)| *name == "default").map(|(_, template)| template.as_str()) {
        Some(Some(source)) => Default::Is(source.to_owned()),
        Some(None) => Default::NoText,
        None => Default::Lacks(named.iter().map(|(name, _)| format!("{name:?}")).collect()),
    }
}
