//! The files of a vocabulary → a tokenizer of the library: `tokenizer.json`, or `vocab.json` and `merges.txt`.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use paring_format::files;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use tokenizers::Tokenizer as Inner;
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use crate::guard::guarded;
use crate::optional::read;
use crate::{Error, Result};

/// Bytes of a `tokenizer.json` that are read at most; those of a quarter million tokens have thirty megabytes.
const LARGEST: u64 = 128 << 20;
/// The name of the file that has everything.
pub(super) const WHOLE: &str = "tokenizer.json";
/// The names of the files of GPT-2's kind of tokenizer, which OPT has too.
const PAIR: [&str; 2] = ["vocab.json", "merges.txt"];

/// A vocabulary as it was read.
pub(super) struct Vocabulary {
    pub inner: Inner,
    /// True if it is a `tokenizer.json`, which says itself what is put around a text.
    pub whole: bool,
}

/// The file of a folder that its tokenizer is read from; `None` when it has none. Nothing is opened.
pub(crate) fn file(dir: &Path) -> Option<PathBuf> {
    let there = |name: &str| dir.join(name).symlink_metadata().is_ok();
    let name = if there(WHOLE) { WHOLE } else { PAIR.into_iter().all(there).then_some(PAIR[0])? };
    Some(dir.join(name))
}

/// Reads the vocabulary in `dir`, beside the `tokenizer_config.json` that is `config`. Errors when there is none, or it
/// cannot be parsed.
pub(super) fn open(dir: &Path, config: &Value) -> Result<Vocabulary> {
    let path = dir.join(WHOLE);
    match read(&path, LARGEST)? {
        Some(bytes) => Ok(Vocabulary { inner: parse(&bytes, &path)?, whole: true }),
        None => Ok(Vocabulary { inner: pair(dir, config)?, whole: false }),
    }
}

/// The tokenizer that a `tokenizer.json` says; truncation and padding that it may ask for are switched off. Errors when
/// `json`, which is `path` in messages, is not a tokenizer.
pub(super) fn parse(json: &[u8], path: &Path) -> Result<Inner> {
    let bad = |reason: String| not_a_tokenizer(path, &reason);
    check_merges(json).map_err(bad)?;
    let inner = guarded(|| -> tokenizers::Result<Inner> {
        let mut inner = Inner::from_bytes(json)?;
        inner.with_truncation(None)?;
        inner.with_padding(None);
        Ok(inner)
    });
    inner.map_err(bad)?.map_err(|e| bad(e.to_string()))
}

fn not_a_tokenizer(path: &Path, e: &dyn Display) -> Error {
    // The library wraps some reasons in the names of its types.
    let reason = e.to_string().replace("Error(\"", "").replace("\", line: 0, column: 0)", "");
    Error::data(path.display().to_string(), format!("not a tokenizer: {reason}; download the file again"))
}

/// The parts of a `tokenizer.json` that the library takes at their word.
#[derive(Deserialize)]
struct Merging {
    model: MergingModel,
}

#[derive(Deserialize)]
struct MergingModel {
    #[serde(default)]
    continuing_subword_prefix: Option<String>,
    #[serde(default)]
    merges: Vec<Merge>,
}

/// A merge in either of its forms.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Pair(IgnoredAny, String),
    Words(String),
}

/// Errors when a merge of a BPE with a prefix for the parts inside a word does not begin with that prefix: the library
/// cuts that many bytes off the second part of every merge, whatever they are. Anything that is no BPE is for the library
/// to refuse.
fn check_merges(json: &[u8]) -> std::result::Result<(), String> {
    let Ok(Merging { model }) = serde_json::from_slice(json) else { return Ok(()) };
    let Some(prefix) = model.continuing_subword_prefix.filter(|prefix| !prefix.is_empty()) else { return Ok(()) };
    for (k, merge) in model.merges.iter().enumerate() {
        let second = match merge {
            Merge::Pair(_, second) => Some(second.as_str()),
            Merge::Words(both) => both.split_once(' ').map(|(_, second)| second),
        };
        if let Some(second) = second.filter(|second| !second.starts_with(&prefix)) {
            return Err(format!(
                "merge {k} has {second:?} inside a word, expected something that begins with {prefix:?}"
            ));
        }
    }
    Ok(())
}

/// The byte-level BPE of `vocab.json` and `merges.txt`, if the config says that they are of GPT-2's tokenizer: others cut
/// a text into words by rules of their own.
fn pair(dir: &Path, config: &Value) -> Result<Inner> {
    let [vocab, merges] = PAIR.map(|name| dir.join(name));
    let class = config.get("tokenizer_class").and_then(Value::as_str);
    if !matches!(class, Some("GPT2Tokenizer" | "GPT2TokenizerFast")) {
        let class = class.map_or("no tokenizer_class".to_string(), |class| format!("the tokenizer_class {class}"));
        let reason = format!(
            "{class} in tokenizer_config.json, expected GPT2Tokenizer; others need a tokenizer.json, which \
            AutoTokenizer.from_pretrained(…).save_pretrained(…) of transformers writes"
        );
        return Err(Error::data(vocab.display().to_string(), reason));
    }
    let [vocab_name, merges_name] = [&vocab, &merges].map(|path| path.to_string_lossy().into_owned());
    // No larger than the other form would be.
    [&vocab, &merges].into_iter().try_for_each(|path| files::read(path, LARGEST).map(drop))?;
    let model = guarded(|| BPE::from_file(&vocab_name, &merges_name).build());
    let model = model.map_err(|e| not_a_tokenizer(&vocab, &e))?.map_err(|e| not_a_tokenizer(&vocab, &e))?;
    let mut inner = Inner::new(model);
    let prefix_space = config.get("add_prefix_space").and_then(Value::as_bool).unwrap_or(false);
    inner.with_pre_tokenizer(Some(ByteLevel::new(prefix_space, true, true)));
    Ok(inner)
}
