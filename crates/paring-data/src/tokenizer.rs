//! A model's tokenizer, with what lies beside it: which token begins a text, and how messages become one.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use paring_format::{Checkpoint, files};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer as Inner};

use crate::chat::{Moment, Template};
use crate::documents::{Document, Documents};
use crate::guard::guarded;
use crate::optional::{read, special};
use crate::{Error, Result};

/// Bytes of a `tokenizer.json` that are read at most; those of a quarter million tokens have thirty megabytes.
const VOCABULARY: u64 = 128 << 20;

const NO_TEMPLATE: &str = "messages need a chat template: a chat_template.jinja or chat_template.json beside the model, \
    or chat_template in its tokenizer_config.json";

/// Text → tokens, as the model was trained to see it.
pub struct Tokenizer {
    inner: Inner,
    /// A token before each text, where the tokenizer's own rules do not put it there.
    bos: Option<u32>,
    /// The folder it lies in, and the `tokenizer_config.json` there.
    beside: Option<(PathBuf, Value)>,
    /// The moment that chat templates may write.
    moment: Moment,
    /// Read when the first messages come: others do not need it.
    template: OnceLock<Option<Template>>,
}

/// The tokenizer beside a model: `tokenizer.json`, or the `vocab.json` and `merges.txt` of GPT-2's kind of tokenizer, as
/// OPT has them. `None` when there is neither. Errors when one of the files cannot be parsed.
pub fn tokenizer(checkpoint: &Checkpoint) -> Result<Option<Tokenizer>> {
    let Some(dir) = checkpoint.dir() else { return Ok(None) };
    let path = dir.join("tokenizer.json");
    let config = dir.join("tokenizer_config.json");
    let config: Value = match read(&config, files::SETTINGS)? {
        Some(bytes) => {
            let bad = |e| Error::data(config.display().to_string(), format!("not JSON: {e}"));
            serde_json::from_slice(&bytes).map_err(bad)?
        }
        None => Value::Null,
    };
    let mut tokenizer = match read(&path, VOCABULARY)? {
        Some(bytes) => tokenizer_from(&bytes, &path)?,
        None => match pairs(dir, &config)? {
            Some(inner) => Tokenizer::new(inner),
            None => return Ok(None),
        },
    };
    tokenizer.configure(config, dir)?;
    Ok(Some(tokenizer))
}

/// A tokenizer from the text of a `tokenizer.json` alone; truncation and padding that it may ask for are switched off.
/// Errors when `json`, which is `path` in messages, is not a tokenizer.
pub fn tokenizer_from(json: &[u8], path: &Path) -> Result<Tokenizer> {
    let bad = |reason: String| not_a_tokenizer(path, &reason);
    check_merges(json).map_err(bad)?;
    let inner = guarded(|| -> tokenizers::Result<Inner> {
        let mut inner = Inner::from_bytes(json)?;
        inner.with_truncation(None)?;
        inner.with_padding(None);
        Ok(inner)
    });
    Ok(Tokenizer::new(inner.map_err(bad)?.map_err(|e| bad(e.to_string()))?))
}

fn not_a_tokenizer(path: &Path, e: &dyn Display) -> Error {
    Error::data(path.display().to_string(), format!("not a tokenizer: {e}"))
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
fn pairs(dir: &Path, config: &Value) -> Result<Option<Inner>> {
    let [vocab, merges] = ["vocab.json", "merges.txt"].map(|name| dir.join(name));
    let class = config.get("tokenizer_class").and_then(Value::as_str);
    if !matches!(class, Some("GPT2Tokenizer" | "GPT2TokenizerFast")) || !vocab.exists() || !merges.exists() {
        return Ok(None);
    }
    let names = [&vocab, &merges].map(|path| path.to_string_lossy().into_owned());
    let [vocab_name, merges_name] = names;
    // No larger than the other form would be.
    [&vocab, &merges].into_iter().try_for_each(|path| files::read(path, VOCABULARY).map(drop))?;
    let model = guarded(|| BPE::from_file(&vocab_name, &merges_name).build());
    let model = model.map_err(|e| not_a_tokenizer(&vocab, &e))?.map_err(|e| not_a_tokenizer(&vocab, &e))?;
    let mut inner = Inner::new(model);
    let prefix_space = config.get("add_prefix_space").and_then(Value::as_bool).unwrap_or(false);
    inner.with_pre_tokenizer(Some(ByteLevel::new(prefix_space, true, true)));
    for key in ["bos_token", "eos_token", "unk_token", "pad_token"] {
        // A token that the vocabulary does not have would get a number that the model does not have.
        if let Some(text) = special(config, key).filter(|text| inner.token_to_id(text).is_some()) {
            let added = inner.add_special_tokens([AddedToken::from(text.to_owned(), true)]);
            added.map_err(|e| not_a_tokenizer(&vocab, &e))?;
        }
    }
    Ok(Some(inner))
}

impl Tokenizer {
    fn new(inner: Inner) -> Self {
        Self { inner, bos: None, beside: None, moment: Moment::now(), template: OnceLock::new() }
    }

    fn configure(&mut self, config: Value, dir: &Path) -> Result<()> {
        // The published codes use the slow tokenizers, which heed this whatever tokenizer.json says.
        if config.get("add_bos_token").and_then(Value::as_bool) == Some(true) {
            let text = special(&config, "bos_token");
            let bos = text.and_then(|text| self.inner.token_to_id(text)).ok_or_else(|| {
                let file = dir.join("tokenizer_config.json");
                let text = format!("add_bos_token: bos_token is {text:?}, expected a token of the vocabulary");
                Error::data(file.display().to_string(), text)
            })?;
            let empty = self.ids("tokenizer_config.json", "", true)?;
            self.bos = (empty.first() != Some(&bos)).then_some(bos);
        }
        self.beside = Some((dir.to_path_buf(), config));
        Ok(())
    }

    /// The chat template, if the model has one.
    fn template(&self) -> Result<Option<&Template>> {
        let Some((dir, config)) = &self.beside else { return Ok(None) };
        if let Some(template) = self.template.get() {
            return Ok(template.as_ref());
        }
        let read = Template::beside(dir, config)?;
        Ok(self.template.get_or_init(|| read).as_ref())
    }

    /// Lets chat templates write this moment; by default it is the one at which the tokenizer was made.
    pub fn set_moment(&mut self, moment: Moment) {
        self.moment = moment;
    }

    /// The moment that tokens made so far may depend on: there were messages, and their template asks what day it is.
    pub fn moment(&self) -> Option<Moment> {
        let template = self.template.get()?.as_ref()?;
        template.has_time.then_some(self.moment)
    }

    fn ids(&self, source: &str, text: &str, special: bool) -> Result<Vec<u32>> {
        let failed = |e: &dyn Display| Error::data(source, format!("the tokenizer failed: {e}"));
        let encoding = guarded(|| self.inner.encode_fast(text, special));
        let encoding = encoding.map_err(|e| failed(&e))?.map_err(|e| failed(&e))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The tokens of a text, which came from `source`, with those that the tokenizer puts around every text.
    pub(super) fn text(&self, source: &str, text: &str) -> Result<Vec<u32>> {
        let mut ids = self.ids(source, text, true)?;
        if let Some(bos) = self.bos {
            ids.insert(0, bos);
        }
        Ok(ids)
    }

    /// The tokens of a document, which has the number `number` in `documents`. Messages go through the chat template,
    /// which writes all special tokens itself: none is put before or after what it makes, as in transformers.
    pub(super) fn document(&self, documents: &Documents, number: usize, document: &Document) -> Result<Vec<u32>> {
        let place = documents.place(number);
        match document {
            Document::Text(text) => self.text(&place, text),
            Document::Chat(messages) => self.ids(&place, &self.rendered(documents, number, messages)?, false),
        }
    }

    /// The text that the chat template makes of the messages of a document.
    fn rendered(&self, documents: &Documents, number: usize, messages: &[Value]) -> Result<String> {
        let Some(template) = self.template()? else { return Err(documents.bad(number, NO_TEMPLATE)) };
        template.render(messages, self.moment).map_err(|reason| documents.bad(number, reason))
    }

    /// The text of a document with its special tokens, and its tokens.
    pub(super) fn shown(
        &self,
        documents: &Documents,
        number: usize,
        document: &Document,
    ) -> Result<(String, Vec<u32>)> {
        match document {
            Document::Text(text) => self.shown_text(&documents.place(number), text),
            Document::Chat(messages) => {
                let text = self.rendered(documents, number, messages)?;
                let ids = self.ids(&documents.place(number), &text, false)?;
                Ok((text, ids))
            }
        }
    }

    /// A text, which came from `source`, with the tokens that are put around it, and all tokens.
    pub(super) fn shown_text(&self, source: &str, text: &str) -> Result<(String, Vec<u32>)> {
        let (plain, ids) = (self.ids(source, text, false)?, self.text(source, text)?);
        let added = ids.len().saturating_sub(plain.len());
        let Some(start) = (0..=added).find(|&start| ids[start..].starts_with(&plain)) else {
            return Ok((self.decoded(source, &ids)?, ids));
        };
        let around = |ids: &[u32]| ids.iter().filter_map(|&id| self.inner.id_to_token(id)).collect::<String>();
        Ok((format!("{}{text}{}", around(&ids[..start]), around(&ids[start + plain.len()..])), ids))
    }

    /// The text that tokens, which came from `source`, stand for.
    pub(super) fn decoded(&self, source: &str, ids: &[u32]) -> Result<String> {
        let failed = |e: &dyn Display| Error::data(source, format!("the tokenizer failed: {e}"));
        guarded(|| self.inner.decode(ids, false)).map_err(|e| failed(&e))?.map_err(|e| failed(&e))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use std::fs;

    use super::*;

    const VOCABULARY: &str = r#"{"<s>": 0, "o": 1, "n": 2, "e": 3, "on": 4, "one": 5, "Ġ": 6, "Ġone": 7}"#;

    fn folder(config: &Value, template: Option<&str>) -> (tempfile::TempDir, Tokenizer) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("vocab.json"), VOCABULARY).unwrap();
        fs::write(dir.path().join("merges.txt"), "#version: 0.2\no n\non e\nĠ one\n").unwrap();
        if let Some(template) = template {
            fs::write(dir.path().join("chat_template.jinja"), template).unwrap();
        }
        let mut config = config.clone();
        config["tokenizer_class"] = "GPT2Tokenizer".into();
        let mut tokenizer = Tokenizer::new(pairs(dir.path(), &config).unwrap().unwrap());
        tokenizer.configure(config, dir.path()).unwrap();
        (dir, tokenizer)
    }

    #[test]
    fn a_byte_level_vocabulary_and_its_first_token() {
        let (_dir, plain) = folder(&json!({"bos_token": "<s>"}), None);
        assert_eq!(plain.text("text", "one one<s>e").unwrap(), [5, 7, 0, 3]);
        let (_dir, opt) = folder(&json!({"bos_token": {"content": "<s>"}, "add_bos_token": true}), None);
        assert_eq!(opt.text("text", "one one").unwrap(), [0, 5, 7]);
        let (_dir, spaced) = folder(&json!({"add_prefix_space": true}), None);
        assert_eq!(spaced.text("text", "one").unwrap(), [7]);
    }

    /// The same files belong to tokenizers that cut words differently.
    #[test]
    fn a_vocabulary_of_another_kind_of_tokenizer_is_not_read() {
        let (dir, _) = folder(&json!({}), None);
        for config in [json!({}), json!({"tokenizer_class": "Qwen2Tokenizer"})] {
            assert!(pairs(dir.path(), &config).unwrap().is_none(), "{config}");
        }
    }

    #[test]
    fn a_first_token_that_the_tokenizer_adds_itself_is_not_doubled() {
        let json = json!({
            "version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": {"type": "Whitespace"},
            "decoder": null, "truncation": null, "padding": null,
            "post_processor": {"type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
                "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}},
            "model": {"type": "WordLevel", "vocab": {"<s>": 0, "one": 1}, "unk_token": "<s>"}});
        let mut tokenizer = tokenizer_from(json.to_string().as_bytes(), Path::new("tokenizer.json")).unwrap();
        let dir = tempfile::tempdir().unwrap();
        tokenizer.configure(json!({"bos_token": "<s>", "add_bos_token": true}), dir.path()).unwrap();
        assert_eq!(tokenizer.text("text", "one one").unwrap(), [0, 1, 1]);
    }

    #[test]
    fn a_template_writes_the_first_token_or_nobody_does() {
        let documents = Documents::lines(Path::new("chat.jsonl"));
        let chat = Document::Chat(vec![json!({"role": "user", "content": "one"})]);
        let config = json!({"bos_token": "<s>", "add_bos_token": true});
        let with = "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}";
        let without = "{% for m in messages %}{{ m['content'].strip() }}{% endfor %}";
        for (template, ids) in [(with, [0, 5].as_slice()), (without, &[5])] {
            let (_dir, tokenizer) = folder(&config, Some(template));
            assert_eq!(tokenizer.document(&documents, 1, &chat).unwrap(), ids, "{template}");
        }
    }

    #[test]
    fn a_first_token_that_is_none() {
        let (dir, mut tokenizer) = folder(&json!({}), None);
        let error = tokenizer.configure(json!({"add_bos_token": true, "bos_token": "</s>"}), dir.path()).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("tokenizer_config.json: add_bos_token: bos_token is Some(\"</s>\")"), "{error}");
    }

    fn parsed(json: Value) -> Result<Tokenizer> {
        tokenizer_from(json.to_string().as_bytes(), Path::new("tokenizer.json"))
    }

    /// The library would cut bytes off that are not there, or half a letter.
    #[test]
    fn merges_that_do_not_fit_their_prefix() {
        let bpe = |merges: Value| {
            parsed(json!({"version": "1.0", "added_tokens": [], "model": {"type": "BPE", "merges": merges,
                "continuing_subword_prefix": "##", "vocab": {"a": 0, "##b": 1, "ab": 2, "é": 3, "aé": 4, "x": 5}}}))
        };
        let good = bpe(json!([["a", "##b"]])).unwrap();
        assert_eq!(good.text("text", "ab").unwrap(), [2]);
        for merges in [json!([["a", "x"]]), json!(["a x"]), json!([["a", "##b"], ["a", "é"]])] {
            let error = bpe(merges).err().unwrap().to_string();
            assert!(error.contains("tokenizer.json: not a tokenizer: merge") && error.contains("##"), "{error}");
        }
    }

    #[test]
    fn what_makes_the_library_panic_is_an_error() {
        // A template with a token that it does not explain.
        let template = json!({"version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "Whitespace"},
            "post_processor": {"type": "TemplateProcessing", "pair": [], "special_tokens": {},
                "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]},
            "model": {"type": "WordLevel", "vocab": {"<s>": 0, "one": 1}, "unk_token": "<s>"}});
        let error = parsed(template).unwrap().text("text.txt", "one").unwrap_err().to_string();
        assert!(error.starts_with("text.txt: the tokenizer failed: "), "{error}");
    }
}
