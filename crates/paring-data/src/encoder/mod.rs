//! A model's own tokenizer and chat template at work: text and messages → token ids.
//!
//! What runs here is what others wrote into files, and it can take all memory, or no end: only [`crate::worker`] calls it
//! for a model's folder.

mod added;
#[cfg(test)]
mod tests;
mod vocabulary;

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use paring_format::files;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokenizers::{ModelWrapper, Tokenizer as Inner};

use crate::chat::{Moment, Template};
use crate::guard::guarded;
use crate::optional::read;
use crate::special;
use crate::{Error, Result};

pub(crate) use added::Added;
pub(crate) use vocabulary::file;

use added::Tokens;

const NO_TEMPLATE: &str = "messages need a chat template; add a chat_template.jinja to the model's folder, or use text";

/// A tokenizer with what lies beside it: the tokens that are added, and how messages become text.
pub(crate) struct Encoder {
    inner: Inner,
    /// Tokens before and after each text, where the tokenizer's own rules do not put them there.
    first: Option<u32>,
    last: Option<u32>,
    /// The folder it lies in, and the `tokenizer_config.json` there.
    beside: Option<(PathBuf, Value)>,
    /// The moment that chat templates may write.
    moment: Moment,
    /// Read when the first messages come: others do not need it.
    template: OnceLock<Option<Template>>,
    about: About,
}

/// Properties of an open tokenizer that a person or an error should know.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct About {
    /// Notes on what its files say and is not done.
    pub notes: Vec<String>,
    /// Tokens that are in no `tokenizer.json`.
    pub added: Vec<Added>,
    /// The tokens that texts begin and end with.
    pub ends: Ends,
}

/// The tokens that mark the ends of texts, by the files of a tokenizer, whether it adds them or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ends {
    /// The first of a text (BOS).
    pub bos: Option<u32>,
    /// The last (EOS).
    pub eos: Option<u32>,
    /// True where its settings ask for the last after each text (`add_eos_token`).
    pub adds_eos: bool,
}

/// A document that did not become tokens.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A reason, about this document.
    Document(String),
    /// A line about one of the model's files.
    Files(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Files(error.to_string())
    }
}

/// The failure of a tokenizer at what it was given.
fn failed(e: &dyn Display) -> Failure {
    Failure::Document(format!("the tokenizer failed: {e}; use other text, or token ids"))
}

impl Encoder {
    /// The tokenizer in `dir`, with the moment that its chat template may write. Errors when there is none, or one of its files
    /// cannot be parsed.
    pub fn open(dir: &Path, moment: Moment) -> Result<Self> {
        let path = dir.join("tokenizer_config.json");
        let config: Value = match read(&path, files::SETTINGS)? {
            Some(bytes) => {
                let bad = |e| Error::data(path.display().to_string(), format!("not JSON: {e}; download it again"));
                serde_json::from_slice(&bytes).map_err(bad)?
            }
            None => Value::Null,
        };
        let vocabulary = vocabulary::open(dir, &config)?;
        let mut encoder = Self { moment, ..Self::new(vocabulary.inner) };
        encoder.configure(&config, dir, vocabulary.whole)?;
        encoder.beside = Some((dir.to_path_buf(), config));
        Ok(encoder)
    }

    /// A tokenizer from the text of a `tokenizer.json` alone, which is `path` in messages, and settings, which say what its
    /// ends are.
    pub fn from_json(json: &[u8], settings: &Value, path: &Path) -> Result<Self> {
        let mut encoder = Self::new(vocabulary::parse(json, path)?);
        encoder.about.ends = encoder.ends(settings, &|name| special::content(settings.get(name)?).map(str::to_owned));
        Ok(encoder)
    }

    /// The ends of texts, where `text` gives the special token of a name. Classes of transformers have some that no file names.
    fn ends(&self, config: &Value, text: &dyn Fn(&str) -> Option<String>) -> Ends {
        let of_class = |name: &str| {
            let mut known = special::of_class(config).filter(|(of, _)| *of == name);
            known.next().filter(|_| config.get(name).is_none()).map(|(_, text)| text.to_owned())
        };
        let end = |name: &str| text(name).or_else(|| of_class(name)).and_then(|text| self.inner.token_to_id(&text));
        let adds_eos = config.get("add_eos_token").and_then(Value::as_bool) == Some(true);
        Ends { bos: end("bos_token"), eos: end("eos_token"), adds_eos }
    }

    fn new(inner: Inner) -> Self {
        let (template, about) = (OnceLock::new(), About::default());
        Self { inner, first: None, last: None, beside: None, moment: Moment::now(), template, about }
    }

    /// Adds the tokens of the files beside the vocabulary, and does what the config says of the first and last token.
    fn configure(&mut self, config: &Value, dir: &Path, whole: bool) -> Result<()> {
        let mut tokens = Tokens::read(dir, config)?;
        if !whole {
            // Where the files have nothing else.
            for (name, text) in special::of_class(config) {
                if config.get(name).is_none() && tokens.text(name).is_none() {
                    tokens.assume(name, text);
                }
            }
        }
        let ends = [("add_bos_token", "bos_token"), ("add_eos_token", "eos_token")];
        let ends = ends.map(|(key, name)| {
            let wanted = config.get(key).and_then(Value::as_bool);
            (key, wanted, tokens.text(name).map(str::to_owned))
        });
        let failed = |reason: String| {
            let path = file(dir).unwrap_or_else(|| dir.to_path_buf());
            Error::data(
                path.display().to_string(),
                format!("its tokens cannot be added: {reason}; check the files beside it"),
            )
        };
        let named = ["bos_token", "eos_token"].map(|name| (name, tokens.text(name).map(str::to_owned)));
        let (added, notes) = tokens.add_to(&mut self.inner).map_err(failed)?;
        let text = |wanted: &str| named.iter().find(|(name, _)| *name == wanted)?.1.clone();
        self.about = About { notes, added, ends: self.ends(config, &text) };
        let ids = ends.each_ref().map(|(.., text)| text.as_deref().and_then(|text| self.inner.token_to_id(text)));
        if whole {
            let around = self.ids("", true).unwrap_or_default();
            let begins = ids[0].is_some() && around.first().copied() == ids[0];
            let ends_so = ids[1].is_some() && around.len() > usize::from(begins) && around.last().copied() == ids[1];
            for ((key, wanted, text), has) in ends.iter().zip([begins, ends_so]) {
                if let (Some(wanted), Some(text)) = (wanted.filter(|&wanted| wanted != has), text) {
                    let does = if has { "adds" } else { "does not add" };
                    let note = format!(
                        "tokenizer_config.json: {key} is {wanted}, but tokenizer.json {does} {text:?}: this one \
                        is followed, as in transformers 5"
                    );
                    self.about.notes.push(note);
                }
            }
        } else {
            let [first, last] = [0, 1].map(|k| ids[k].filter(|_| ends[k].1 == Some(true)));
            (self.first, self.last) = (first, last);
        }
        if let ModelWrapper::BPE(bpe) = self.inner.get_model()
            && bpe.dropout.is_some_and(|dropout| dropout > 0.0)
        {
            let note =
                "tokenizer.json: because of its dropout, the same text gets other tokens each time, as in transformers";
            self.about.notes.push(note.into());
        }
        if config.get("split_special_tokens").and_then(Value::as_bool) == Some(true) {
            let note =
                "tokenizer_config.json: split_special_tokens is not done here: special tokens in a text stay whole";
            self.about.notes.push(note.into());
        }
        Ok(())
    }

    /// Its notes and added tokens.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// The chat template. Errors when the model has none, or it cannot be read.
    pub fn template(&self) -> Result<&Template, Failure> {
        let none = || Failure::Document(NO_TEMPLATE.into());
        let (dir, config) = self.beside.as_ref().ok_or_else(none)?;
        if self.template.get().is_none() {
            let read = Template::beside(dir, config)?;
            let _ = self.template.set(read);
        }
        self.template.get().and_then(Option::as_ref).ok_or_else(none)
    }

    /// The text that a template makes of messages, with the header of an answer where it is a `prompt`.
    pub fn render(&self, template: &Template, messages: &[Value], prompt: bool) -> Result<String, Failure> {
        template.render(messages, self.moment, prompt).map_err(Failure::Document)
    }

    /// The tokens of a text, with those that the tokenizer puts around every text.
    pub fn text(&self, text: &str) -> Result<Vec<u32>, Failure> {
        let mut ids = self.ids(text, true)?;
        if let Some(first) = self.first {
            ids.insert(0, first);
        }
        ids.extend(self.last);
        Ok(ids)
    }

    /// The tokens of a text; `special` has the tokenizer's own rules put tokens around it.
    pub fn ids(&self, text: &str, special: bool) -> Result<Vec<u32>, Failure> {
        let encoding = guarded(|| self.inner.encode_fast(text, special));
        let encoding = encoding.map_err(|e| failed(&e))?.map_err(|e| failed(&e))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// A text with the tokens that are put around it, and all tokens.
    pub fn shown(&self, text: &str) -> Result<(String, Vec<u32>), Failure> {
        let (plain, ids) = (self.ids(text, false)?, self.text(text)?);
        let added = ids.len().saturating_sub(plain.len());
        let Some(start) = (0..=added).find(|&start| ids[start..].starts_with(&plain)) else {
            return Ok((self.decoded(&ids, false)?, ids));
        };
        let around = |ids: &[u32]| ids.iter().filter_map(|&id| self.inner.id_to_token(id)).collect::<String>();
        Ok((format!("{}{text}{}", around(&ids[..start]), around(&ids[start + plain.len()..])), ids))
    }

    /// The text that tokens stand for; `plain`: without special tokens.
    pub fn decoded(&self, ids: &[u32], plain: bool) -> Result<String, Failure> {
        guarded(|| self.inner.decode(ids, plain)).map_err(|e| failed(&e))?.map_err(|e| failed(&e))
    }
}
