//! Recipes in files: options by name, for all linears and for some of them.
//!
//! [`read`] takes two forms: TOML with the names of the command line's long options, and llm-compressor's YAML. Both become
//! a list of settings; the caller, which has the options, says what they mean and checks their values.

mod groups;
mod modifiers;
#[cfg(test)]
mod tests;
mod toml;
mod yaml;

use std::io::Read;
use std::path::Path;

use paring_format::message;
use paring_format::near;

use crate::plan::Opt;
use crate::{Error, Result};

/// The largest file that is read, in bytes: a recipe is short.
const MOST: u64 = 1 << 20;

/// YAML text, which is called `name` in errors, as JSON: numbers and bools as its core schema has them, a key twice, anchors, tags
/// and nesting beyond 16 levels are errors.
pub(crate) fn yaml_value(name: &str, text: &str) -> Result<serde_json::Value> {
    Ok(yaml::parse(name, text)?.json())
}

/// An option of a recipe file.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// The long option, without its dashes.
    pub name: String,
    /// Its values; several for options that may be repeated.
    pub values: Vec<String>,
    /// The line of the file, from 1.
    pub line: usize,
}

/// Settings for some linears.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Exact names or `re:` patterns.
    pub targets: Vec<String>,
    /// True if the linears are left as they are.
    pub skip: bool,
    /// Options that differ from those of the others.
    pub settings: Vec<Setting>,
    /// The line of the file, from 1.
    pub line: usize,
}

/// A recipe file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RecipeFile {
    /// Its path, for messages.
    pub path: String,
    /// Settings for all linears.
    pub settings: Vec<Setting>,
    /// Settings for some, in their order: of those that name a linear the last one counts.
    pub groups: Vec<Group>,
    /// Notes on keys without effect.
    pub notes: Vec<String>,
    /// Modifiers whose linears are named differently.
    pub alike: Option<Alike>,
}

/// The linears of a modifier, as its recipe names them.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// The modifier.
    pub modifier: String,
    /// Names, `re:` patterns or classes.
    pub targets: Vec<String>,
    /// Those that it leaves alone.
    pub ignore: Vec<String>,
}

/// Two modifiers of one sweep, which must have the same linears; whether they do shows when the model is known.
#[derive(Clone, Debug, PartialEq)]
pub struct Alike {
    /// The file and the line of the second, for messages.
    pub place: String,
    /// The one that prunes.
    pub first: Named,
    /// The one that rounds, whose names count.
    pub second: Named,
}

/// The options that a file may set.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// On top.
    pub options: Vec<String>,
    /// For some linears.
    pub of_groups: Vec<String>,
}

impl RecipeFile {
    /// A message about a line of the file.
    pub fn error(&self, line: usize, text: impl std::fmt::Display) -> Error {
        at(&self.path, line, text)
    }
}

/// Reads a recipe: TOML, or YAML where the name ends in `.yaml` or `.yml`.
///
/// Errors with the file, the line and the key when the file is larger than 1 MiB, is not of its form, or says something
/// that is not in `known`.
pub fn read(path: &Path, known: &Known) -> Result<RecipeFile> {
    let io = |source| Error::Io { path: path.to_path_buf(), source };
    let name = path.display().to_string();
    let mut bytes = Vec::new();
    // One byte more than may be there tells that there is more.
    std::fs::File::open(path).map_err(io)?.take(MOST + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > MOST {
        return Err(Error::Misuse(format!(
            "{name}: larger than the {MOST} bytes that a recipe may have; is it a recipe?"
        )));
    }
    let text = String::from_utf8(bytes).map_err(|_| {
        Error::Misuse(format!("{name}: not UTF-8 text; a recipe is TOML, or YAML in a file that ends in .yaml"))
    })?;
    let is_yaml = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("yaml") || e.eq_ignore_ascii_case("yml"));
    if !is_yaml {
        return toml::parse(&name, &text, known);
    }
    let file = modifiers::convert(&name, &yaml::parse(&name, &text)?, known)?;
    match file.settings.iter().find(|setting| !known.options.contains(&setting.name)) {
        None => Ok(file),
        Some(Setting { name, line, .. }) => Err(absent(&file.path, *line, name, known)),
    }
}

fn at(path: &str, line: usize, text: impl std::fmt::Display) -> Error {
    Error::Misuse(format!("{path}, line {line}: {text}"))
}

/// The error that a command does not have this option, nor a file this key.
fn absent(path: &str, line: usize, name: &str, known: &Known) -> Error {
    match Opt::named(name) {
        Some(option @ (Opt::Pattern | Opt::Sparsity)) => {
            let belongs = message![option, " belongs to `paring sparsify`, which also quantizes with "];
            option.misuse(belongs.then(message![Opt::Wbits, " or ", Opt::Scheme])).at(format!("{path}, line {line}"))
        }
        _ => at(path, line, unknown_key(name, known.options.iter().map(String::as_str))),
    }
}

/// Errors unless the key is one of those that are known.
fn expect_known<'a>(path: &str, line: usize, key: &str, known: impl Iterator<Item = &'a str>) -> Result<()> {
    let known: Vec<&str> = known.collect();
    match known.contains(&key) {
        true => Ok(()),
        false => Err(at(path, line, unknown_key(key, known))),
    }
}

/// The problem with a key that none of these is.
fn unknown_key<'a>(key: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    format!("unknown key {key}; {}", near::suggestion(key, known))
}

/// The line of a byte, from 1.
fn line_of(text: &str, byte: usize) -> usize {
    1 + text.as_bytes().iter().take(byte).filter(|&&b| b == b'\n').count()
}
