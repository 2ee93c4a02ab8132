//! A model's tokenizer, with what lies beside it: tokens that are added, and how messages become text.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use paring_format::Checkpoint;
use serde_json::Value;

use crate::chat::Moment;
use crate::documents::{Document, Documents};
pub use crate::encoder::Ends;
use crate::encoder::{self, About, Encoder, Failure};
use crate::worker::{Answer, BATCH, BATCH_BYTES, Isolation, Question, Worker};
use crate::{Error, Result};

/// Text → tokens, as the model was trained to see it. The files of a folder are opened when the first text comes: what is
/// wrong with them does not matter to data that is tokens already.
pub struct Tokenizer {
    source: Source,
    /// Known once it is open.
    about: OnceLock<About>,
    /// The moment that chat templates may write.
    moment: Moment,
    is_timed: AtomicBool,
}

/// The place where it runs.
enum Source {
    /// In this thread: its author is the caller's.
    Here(Box<Encoder>),
    Folder {
        dir: PathBuf,
        /// The file that it is read from.
        file: PathBuf,
        isolation: Isolation,
        worker: Mutex<Option<Box<Worker>>>,
    },
}

/// The tokenizer beside a model: `tokenizer.json`, or the `vocab.json` and `merges.txt` of GPT-2's kind of tokenizer, as
/// OPT has them. `None` when there is neither. Nothing is opened: it will run where `isolation` says.
pub fn tokenizer(checkpoint: &Checkpoint, isolation: &Isolation) -> Option<Tokenizer> {
    let dir = checkpoint.dir()?;
    let (file, isolation) = (encoder::file(dir)?, isolation.clone());
    let source = Source::Folder { dir: dir.to_path_buf(), file, isolation, worker: Mutex::new(None) };
    Some(Tokenizer::new(source, OnceLock::new()))
}

/// A tokenizer from the text of a `tokenizer.json` alone, which the caller vouches for: it runs in the caller's thread,
/// without bounds. Truncation and padding that it may ask for are switched off. Errors when `json`, which is `path` in
/// messages, is not a tokenizer.
pub fn tokenizer_from(json: &[u8], path: &Path) -> Result<Tokenizer> {
    tokenizer_with(json, b"null", path)
}

/// The same with the text of a `tokenizer_config.json`, of which only the tokens that begin and end texts are read
/// ([`Tokenizer::ends`]). Errors, too, when `settings` is not JSON.
pub fn tokenizer_with(json: &[u8], settings: &[u8], path: &Path) -> Result<Tokenizer> {
    let bad = |e| Error::data(path.display().to_string(), format!("its settings are not JSON: {e}"));
    let encoder = Encoder::from_json(json, &serde_json::from_slice(settings).map_err(bad)?, path)?;
    let about = OnceLock::from(encoder.about().clone());
    Ok(Tokenizer::new(Source::Here(Box::new(encoder)), about))
}

/// The tokenizer that the data set `name` needs.
pub(crate) fn needed<'a>(name: &str, tokenizer: Option<&'a Tokenizer>) -> Result<&'a Tokenizer> {
    tokenizer.ok_or_else(|| {
        Error::data(
            name,
            "text needs a tokenizer.json in the model's folder; add it, or use a .safetensors file of token ids",
        )
    })
}

impl Tokenizer {
    fn new(source: Source, about: OnceLock<About>) -> Self {
        Self { source, about, moment: Moment::now(), is_timed: AtomicBool::new(false) }
    }

    /// One more of the same files, which does not wait for this one: each runs one text at a time. Where texts run in the
    /// caller's thread there is no need of another.
    pub fn another(self: &Arc<Self>) -> Arc<Self> {
        match &self.source {
            Source::Here(_) => self.clone(),
            Source::Folder { dir, file, isolation, .. } => {
                let (dir, file, isolation) = (dir.clone(), file.clone(), isolation.clone());
                let source = Source::Folder { dir, file, isolation, worker: Mutex::new(None) };
                Arc::new(Self { moment: self.moment, ..Self::new(source, OnceLock::new()) })
            }
        }
    }

    /// Lets chat templates write this moment; by default it is the one at which the tokenizer was made.
    pub fn set_moment(&mut self, moment: Moment) {
        self.rest();
        self.moment = moment;
    }

    /// The moment that tokens made so far may depend on: there were messages, and their template asks what day it is.
    pub fn moment(&self) -> Option<Moment> {
        self.is_timed.load(Ordering::Relaxed).then_some(self.moment)
    }

    /// Notes on what its files say and is not done; none before the first text was tokenized.
    pub fn notes(&self) -> &[String] {
        self.about.get().map_or(&[], |about| &about.notes)
    }

    /// The text of a token that is in no `tokenizer.json`, and the file that has it.
    pub fn added(&self, id: u32) -> Option<(&str, &str)> {
        let added = self.about.get()?.added.iter().find(|added| added.id == id)?;
        Some((&added.content, &added.file))
    }

    /// Gives back the memory that it takes while it is open. The next text opens it again.
    pub fn rest(&self) {
        if let Source::Folder { worker, .. } = &self.source {
            *worker.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// The tokens of some documents in their order, up to the first that has none, and why it has none.
    fn encode(&self, documents: &[Question<'_>], show: bool) -> Result<(Vec<Answer>, Option<Failure>)> {
        let (dir, file, isolation, worker) = match &self.source {
            Source::Here(encoder) => return Ok(here(encoder, documents, show)),
            Source::Folder { dir, file, isolation, worker } => (dir, file, isolation, worker),
        };
        let mut worker = worker.lock().unwrap_or_else(PoisonError::into_inner);
        let open = match worker.take() {
            Some(open) => open,
            None => Box::new(Worker::open(dir, file, self.moment, isolation)?),
        };
        let open = worker.insert(open);
        self.about.get_or_init(|| open.about.clone());
        let encoded = open.encode(documents, show);
        self.is_timed.fetch_or(open.is_timed, Ordering::Relaxed);
        if open.is_over() {
            *worker = None;
        }
        Ok(encoded)
    }

    /// The tokens of one document; `bad` makes an error of a reason.
    fn one(&self, document: Question<'_>, show: bool, bad: &dyn Fn(String) -> Error) -> Result<Answer> {
        let (mut answers, failure) = self.encode(&[document], show)?;
        match (answers.pop(), failure) {
            (Some(answer), _) => Ok(answer),
            (None, Some(failure)) => Err(failed(failure, bad)),
            (None, None) => Err(bad("the tokenizer gave no answer; use token ids".into())),
        }
    }

    /// The tokens of a text, with those that the tokenizer puts around every text. Errors when it fails.
    pub fn tokens(&self, text: &str) -> Result<Vec<u32>> {
        self.text("the text", text)
    }

    /// The tokens of texts, each with those that the tokenizer puts around every text, or without: `bare`. Many at a time cost
    /// less than one after the other. Errors when it fails at one, which has its place in the data from `source`.
    pub fn encode_all(&self, texts: &[&str], bare: bool, source: &dyn Fn(usize) -> String) -> Result<Vec<Vec<u32>>> {
        let form = if bare { Question::Bare } else { Question::Text };
        let mut all = Vec::with_capacity(texts.len());
        while all.len() < texts.len() {
            let mut bytes = 0;
            let rest = texts[all.len()..].iter().take(BATCH);
            // One text at least.
            let some = rest.take_while(|text| {
                let fits = bytes < BATCH_BYTES;
                bytes += text.len();
                fits
            });
            let questions: Vec<Question<'_>> = some.map(|text| form(text)).collect();
            let (answers, failure) = self.encode(&questions, false)?;
            let known = all.len() + answers.len();
            all.extend(answers.into_iter().map(|answer| answer.ids));
            if let Some(failure) = failure {
                return Err(failed(failure, &|reason| Error::data(source(known), reason)));
            }
        }
        Ok(all)
    }

    /// The tokens of renderings of a conversation, of at most [`BATCH`]; `bad` makes an error of a reason.
    pub(crate) fn renderings(&self, all: &[Question<'_>], bad: &dyn Fn(String) -> Error) -> Result<Vec<Vec<u32>>> {
        let (answers, failure) = self.encode(all, false)?;
        match failure {
            Some(failure) => Err(failed(failure, bad)),
            None => Ok(answers.into_iter().map(|answer| answer.ids).collect()),
        }
    }

    /// The tokens that texts begin and end with, by its files; whether it adds them is another question. Errors when it cannot
    /// be opened.
    pub fn ends(&self) -> Result<Ends> {
        if self.about.get().is_none() {
            self.encode(&[], false)?;
        }
        Ok(self.about.get().map_or_else(Ends::default, |about| about.ends))
    }

    /// A conversation that is to be answered, as the chat template writes it with the header of the answer, and its tokens.
    /// Errors when there is no template, or it refuses the messages.
    pub fn prompt(&self, messages: &[Value]) -> Result<(String, Vec<u32>)> {
        let bad = |reason| Error::data("the conversation", reason);
        let Answer { ids, text } = self.one(Question::Prompt(messages), true, &bad)?;
        Ok((text, ids))
    }

    /// The text that tokens stand for; `plain`: without special tokens. Bytes that are no whole character become U+FFFD.
    /// Errors when the tokenizer fails.
    pub fn decode(&self, ids: &[u32], plain: bool) -> Result<String> {
        Ok(self.texts(&[ids], plain)?.pop().unwrap_or_default())
    }

    /// The same of several sequences of tokens, each by itself.
    pub fn texts(&self, all: &[&[u32]], plain: bool) -> Result<Vec<String>> {
        let mut texts = Vec::with_capacity(all.len());
        for some in all.chunks(BATCH) {
            let form = if plain { Question::Plain } else { Question::Ids };
            let questions: Vec<Question<'_>> = some.iter().map(|ids| form(ids)).collect();
            let (answers, failure) = self.encode(&questions, true)?;
            if let Some(failure) = failure {
                return Err(failed(failure, &|reason| Error::data("the tokens", reason)));
            }
            texts.extend(answers.into_iter().map(|answer| answer.text));
        }
        Ok(texts)
    }

    /// The tokens of a text, which came from `source`, with those that the tokenizer puts around every text.
    pub(super) fn text(&self, source: &str, text: &str) -> Result<Vec<u32>> {
        Ok(self.one(Question::Text(text), false, &|reason| Error::data(source, reason))?.ids)
    }

    /// The tokens of a document, which has the number `number` in `documents`. Messages go through the chat template,
    /// which writes all special tokens itself: none is put before or after what it makes, as in transformers.
    pub(super) fn document(&self, documents: &Documents, number: usize, document: &Document) -> Result<Vec<u32>> {
        Ok(self.one(document.into(), false, &|reason| documents.bad(number, reason))?.ids)
    }

    /// The text of a document with its special tokens, and its tokens.
    pub(super) fn shown(
        &self,
        documents: &Documents,
        number: usize,
        document: &Document,
    ) -> Result<(String, Vec<u32>)> {
        let Answer { ids, text } = self.one(document.into(), true, &|reason| documents.bad(number, reason))?;
        Ok((text, ids))
    }

    /// A text, which came from `source`, with the tokens that are put around it, and all tokens.
    pub(super) fn shown_text(&self, source: &str, text: &str) -> Result<(String, Vec<u32>)> {
        let Answer { ids, text } = self.one(Question::Text(text), true, &|reason| Error::data(source, reason))?;
        Ok((text, ids))
    }

    /// The text that tokens, which came from `source`, stand for.
    pub(super) fn decoded(&self, source: &str, ids: &[u32]) -> Result<String> {
        Ok(self.one(Question::Ids(ids), true, &|reason| Error::data(source, reason))?.text)
    }
}

impl<'a> From<&'a Document> for Question<'a> {
    fn from(document: &'a Document) -> Self {
        match document {
            Document::Text(text) => Question::Text(text),
            Document::Chat(messages) => Question::Chat(messages),
        }
    }
}

/// An error of a failure, about a document where it is about one.
fn failed(failure: Failure, bad: &dyn Fn(String) -> Error) -> Error {
    match failure {
        Failure::Document(reason) => bad(reason),
        Failure::Files(line) => Error::Tokenizer(line),
    }
}

/// As a worker does it, in this thread.
fn here(encoder: &Encoder, documents: &[Question<'_>], show: bool) -> (Vec<Answer>, Option<Failure>) {
    let one = |document: &Question<'_>| match document {
        Question::Bare(text) => encoder.ids(text, false).map(|ids| (String::new(), ids)),
        Question::Text(text) if show => encoder.shown(text),
        Question::Text(text) => encoder.text(text).map(|ids| (String::new(), ids)),
        Question::Chat(messages) | Question::Prompt(messages) => {
            let is_prompt = matches!(document, Question::Prompt(_));
            let text = encoder.render(encoder.template()?, messages, is_prompt)?;
            encoder.ids(&text, false).map(|ids| (text, ids))
        }
        Question::Ids(ids) => encoder.decoded(ids, false).map(|text| (text, Vec::new())),
        Question::Plain(ids) => encoder.decoded(ids, true).map(|text| (text, Vec::new())),
    };
    let mut answers = Vec::new();
    for document in documents {
        match one(document) {
            Ok((text, ids)) => answers.push(Answer { ids, text }),
            Err(failure) => return (answers, Some(failure)),
        }
    }
    (answers, None)
}

/// Conversations of a file that become one sequence of tokens, until that is long enough. Several at a time are sent to the
/// tokenizer: which ones, and what is wrong with those that are not needed, makes no difference to the result.
pub(super) struct Conversations<'a> {
    tokenizer: &'a Tokenizer,
    documents: &'a Documents,
    enough: usize,
    waiting: Vec<(usize, Vec<Value>)>,
    bytes: usize,
    ids: Vec<u32>,
    any: bool,
}

impl<'a> Conversations<'a> {
    pub fn new(tokenizer: &'a Tokenizer, documents: &'a Documents, enough: usize) -> Self {
        Self { tokenizer, documents, enough, waiting: Vec::new(), bytes: 0, ids: Vec::new(), any: false }
    }

    /// True if one was added.
    pub fn any(&self) -> bool {
        self.any
    }

    /// True if those whose tokens are known are enough.
    pub fn are_enough(&self) -> bool {
        self.ids.len() >= self.enough
    }

    /// Adds one.
    pub fn push(&mut self, number: usize, messages: Vec<Value>) -> Result<()> {
        self.any = true;
        self.bytes += messages.iter().map(size).sum::<usize>();
        self.waiting.push((number, messages));
        if self.waiting.len() >= BATCH || self.bytes >= BATCH_BYTES { self.encode() } else { Ok(()) }
    }

    /// All tokens, where the reading of the file ended as `read` says. It may have read more than is needed.
    pub fn end(mut self, read: Result<()>) -> Result<Vec<u32>> {
        self.encode()?;
        if !self.are_enough() {
            read?;
        }
        Ok(self.ids)
    }

    fn encode(&mut self) -> Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        self.bytes = 0;
        let questions: Vec<Question<'_>> = waiting.iter().map(|(_, messages)| Question::Chat(messages)).collect();
        if questions.is_empty() {
            return Ok(());
        }
        let (answers, failure) = self.tokenizer.encode(&questions, false)?;
        let known = answers.len();
        for answer in answers {
            if self.are_enough() {
                return Ok(());
            }
            self.ids.extend(answer.ids);
        }
        match (failure, waiting.get(known)) {
            (Some(failure), Some((number, _))) if !self.are_enough() => {
                Err(failed(failure, &|reason| self.documents.bad(*number, reason)))
            }
            _ => Ok(()),
        }
    }
}

/// Bytes of text in a value, about.
fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(list) => list.iter().map(size).sum(),
        Value::Object(object) => object.iter().map(|(key, value)| key.len() + size(value)).sum(),
        _ => 8,
    }
}
