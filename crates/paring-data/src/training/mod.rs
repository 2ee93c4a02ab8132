//! Data to train on: text, instructions with their answers, or conversations → examples whose labels are known.
//!
//! * [`TrainingData`]: files of one [`Form`], which is seen from their first record; [`TrainingData::set`] makes their
//!   [`TrainingSet`].
//! * [`Example`]: tokens, and which of them are labels; [`TrainingSet`]: all of them, batches, and a part that is held out.
//! * [`Order`]: the windows of a step, which follow from the step alone.
//!
//! What is no label is still seen: prompts, questions, padding. Sums over labels need their number before the first backward
//! pass, which is [`Example::labels`].

mod answers;
mod articles;
mod collect;
mod conversations;
mod form;
mod order;
mod pack;
mod set;
mod stream;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub use form::Form;
pub use order::{Order, order};
pub use set::{Batch, Example, LeftOut, TrainingSet};

use crate::dataset::Data;
use crate::documents::Documents;
use crate::named::{self, Files, Protocol, Purpose};
use crate::{Error, Result, Tokenizer};
use collect::Collector;
use form::Layout;

/// Tokens of a set at most: they are held, which takes 2.5 GiB.
const MOST_TOKENS: usize = 512 << 20;
/// Files of a folder at most.
const MOST_FILES: usize = 10_000;

/// The choice of examples.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Tokens of a window: of each where text is joined, at most where examples are apart.
    pub seqlen: usize,
    /// Joins several examples in a window, without borders between them for attention. `None`: not. Text is always joined.
    pub packing: Option<bool>,
    /// Documents, records or conversations that are read at most, from the start.
    pub limit: Option<usize>,
    /// The token that ends an answer, and that pads; `None`: the tokenizer's.
    pub eos: Option<u32>,
}

/// The reading so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Documents, records or conversations that were read.
    pub records: usize,
    /// Tokens that they have become.
    pub tokens: usize,
}

/// Data to train on, of one form. Nothing of a file of records is held: each use reads it anew.
pub struct TrainingData {
    /// Its name in messages: a path or a built-in name.
    pub name: String,
    content: Content,
}

/// The place of the records.
enum Content {
    Text(Vec<Data>),
    Files(Vec<PathBuf>, Layout),
}

/// Text, as calibration reads it.
impl From<Data> for TrainingData {
    fn from(data: Data) -> Self {
        Self { name: data.name.clone(), content: Content::Text(vec![data]) }
    }
}

impl TrainingData {
    /// Opens a file, of the kinds that [`Data::open`] reads, or all files of a folder that hold documents, in the order of their names.
    ///
    /// The form is `form`, or that of the fields of the first record: messages, then an instruction and its answer, then text. Text and
    /// messages are those of the field `text_field`, if one is named.
    ///
    /// # Errors
    /// When a file cannot be read, and when the first record has none of the fields of the form.
    pub fn open(path: &Path, text_field: Option<&str>, form: Option<Form>) -> Result<Self> {
        let name = path.display().to_string();
        let files = if path.is_dir() { files_of(path)? } else { vec![path.to_path_buf()] };
        let layout = match files.first() {
            Some(first) => form::layout(first, text_field, form)?,
            None => {
                let reason =
                    "a folder without data; expected files that end in .jsonl, .json (also .gz or .zst) or .parquet";
                return Err(Error::data(name, reason));
            }
        };
        let content = match layout {
            Layout::Text(field) => {
                Content::Text(files.iter().map(|file| Data::open(file, &field)).collect::<Result<_>>()?)
            }
            layout => Content::Files(files, layout),
        };
        Ok(Self { name, content })
    }

    /// Opens the training part of a named set, `cnn_dailymail` or one of [`named::NAMES`]; `None` when `name` is the name of none.
    ///
    /// # Errors
    /// When a file of the set is nowhere.
    pub fn named(name: &str, files: &Files<'_>) -> Result<Option<Self>> {
        if name.replace('-', "_") == articles::NAME {
            let content = Content::Files(articles::files(files)?, form::articles());
            return Ok(Some(Self { name: articles::NAME.into(), content }));
        }
        Ok(named::open(name, Purpose::Calibration, Protocol::Gptq, files)?.map(Self::from))
    }

    /// The form of its records.
    pub fn form(&self) -> Form {
        match &self.content {
            Content::Text(_) => Form::Text,
            Content::Files(_, layout) => layout.form(),
        }
    }

    /// The examples, with their labels; `progress` hears how far the reading is after each batch of records, and ends it with `false`,
    /// whereupon the set has what was read.
    ///
    /// # Errors
    /// When a file cannot be read, a record lacks a field or holds something else there, the tokenizer or the chat template fails,
    /// there is no example, and on more than 512 Mi tokens.
    pub fn set(
        &self,
        tokenizer: Option<&Tokenizer>,
        settings: &Settings,
        progress: &mut dyn FnMut(Progress) -> bool,
    ) -> Result<TrainingSet> {
        if settings.seqlen < 2 {
            let reason = format!("windows of {} tokens, expected 2 or more", settings.seqlen);
            return Err(Error::data(&self.name, reason));
        }
        let mut collector = Collector::new(&self.name, settings, progress);
        let ends = match (&self.content, tokenizer) {
            (Content::Text(all), _) => {
                stream::read(all, tokenizer, &mut collector)?;
                tokenizer.map(Tokenizer::ends).transpose()?.unwrap_or_default()
            }
            (Content::Files(files, layout), tokenizer) => {
                let tokenizer = crate::tokenizer::needed(&self.name, tokenizer)?;
                match layout {
                    Layout::Answers(fields) => answers::read(files, fields, tokenizer, &mut collector)?,
                    Layout::Chat(field) => conversations::read(files, field, tokenizer, &mut collector)?,
                    Layout::Text(_) => {}
                }
                tokenizer.ends()?
            }
        };
        let pad = settings.eos.or(ends.eos).unwrap_or(0);
        let mut set = collector.end(self.form(), pad)?;
        if settings.packing == Some(true) && self.form() != Form::Text {
            set.pack();
        }
        Ok(set)
    }

    /// Things to know about the data, once a set was made of it.
    pub fn notes(&self) -> Vec<String> {
        match &self.content {
            Content::Text(all) => all.iter().flat_map(Data::notes).collect(),
            Content::Files(_, layout) => {
                layout.note().map(|note| format!("{}: {note}", self.name)).into_iter().collect()
            }
        }
    }
}

/// The files of a folder that hold documents, in the order of their names.
fn files_of(dir: &Path) -> Result<Vec<PathBuf>> {
    let io = |source| Error::Io { path: dir.to_path_buf(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.is_file() && Documents::of(&path, "").is_some() {
            files.push(path);
        }
        if files.len() > MOST_FILES {
            let reason = format!("a folder of more than {MOST_FILES} files; join some, or name another folder");
            return Err(Error::data(dir.display().to_string(), reason));
        }
    }
    files.sort();
    Ok(files)
}
