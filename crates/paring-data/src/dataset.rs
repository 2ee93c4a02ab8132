//! Text and token files → windows of tokens.
//!
//! A data set is a text, a file of documents, or rows of tokens. [`crate::named`] has the sets that papers use.

use std::path::Path;

use paring_format::message::Setting;
use paring_format::{files, message};

use crate::documents::{Document, Documents};
use crate::draw::{self, Draw};
use crate::error::option;
use crate::tokenizer::{Conversations, Tokenizer};
use crate::{Error, Result, encoding, rows};

/// Default number of calibration windows.
const WINDOWS: usize = 128;
/// Default number of tokens in a window.
pub const SEQLEN: usize = 2048;
/// Tokens of a calibration at most: they are held, and windows that overlap can be more than the data.
const MOST_TOKENS: usize = 1 << 30;
/// Tokens that are read beyond those wanted from the start of a text: its cut end is tokenized as the whole would be.
const MARGIN: usize = 512;

/// A data set.
pub struct Data {
    /// Its name in messages: a path or a built-in name.
    pub name: String,
    /// Its content.
    pub content: Content,
    reading: Reading,
    /// Default seed of the windows' starts; `None` takes one window after the other.
    seed: Option<u64>,
    /// Something to know about the file that was opened.
    note: Option<String>,
}

/// Files that data is read from, for messages.
const KINDS: &str = ".txt, .jsonl or .json (also .gz or .zst), .parquet, .safetensors or .pth";
/// Extensions of plain texts, beside none at all.
const TEXTS: [&str; 3] = ["txt", "raw", "text"];

/// The content of a data set.
pub enum Content {
    /// Text, tokenized as one string.
    Text(String),
    /// A file of documents.
    Documents(Documents),
    /// Rows of token ids of equal length.
    Rows {
        /// All rows joined.
        ids: Vec<u32>,
        /// Tokens in a row.
        len: usize,
    },
}

/// The content of a file of token ids.
fn rows_of((ids, len): (Vec<u32>, usize)) -> Content {
    Content::Rows { ids, len }
}

/// The way from documents to windows.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reading {
    /// The first `documents` are joined and tokenized as one string; `windows` of it are measured at most.
    Joined { separator: &'static str, documents: usize, windows: usize },
    /// Each window from a document of its own, which has `seqlen + beyond` tokens at least; `windows` are measured.
    Drawn { beyond: usize, windows: usize },
}

/// Windows of tokens, all of the same length, joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Token ids.
    pub ids: Vec<u32>,
    /// Tokens in a window.
    pub seqlen: usize,
    /// The seed of their starts, when these were drawn.
    pub seed: Option<u64>,
}

impl Windows {
    /// Number of windows.
    pub fn count(&self) -> usize {
        self.ids.len() / self.seqlen
    }

    /// Errors when a token, which came from the data set `source`, is outside a model's vocabulary. `tokenizer` made them
    /// of text, if one did.
    pub fn check_vocabulary(&self, source: &str, vocab: usize, tokenizer: Option<&Tokenizer>) -> Result<()> {
        check_vocabulary(&self.ids, source, vocab, tokenizer)
    }
}

/// Errors when a token, which came from the data set `source`, is outside a model's vocabulary. `tokenizer` made them of text, if
/// one did.
pub(crate) fn check_vocabulary<'a>(
    ids: impl IntoIterator<Item = &'a u32>,
    source: &str,
    vocab: usize,
    tokenizer: Option<&Tokenizer>,
) -> Result<()> {
    let Some(&id) = ids.into_iter().find(|&&id| id as usize >= vocab) else { return Ok(()) };
    let added = tokenizer.and_then(|tokenizer| tokenizer.added(id));
    let text = added.map_or(String::new(), |(text, file)| format!(" ({text:?}, which {file} adds)"));
    let reason = format!(
        "token {id}{text} is outside the model's vocabulary of {vocab}; use data or a tokenizer made for this model"
    );
    Err(Error::data(source, reason))
}

/// The choice of calibration windows.
#[derive(Clone, Copy, Debug)]
pub struct Sampling {
    /// Windows wanted; `None`: 128, or as many as there are.
    pub nsamples: Option<usize>,
    /// Tokens in a window; `None`: 2048, or as many as model and data allow.
    pub seqlen: Option<usize>,
    /// Starts drawn at random as the published codes draw them; `None`: named sets are drawn with seed 0, others give
    /// one window after the other from the start of the data, unless more are wanted than it has, which are drawn with
    /// seed 0.
    pub seed: Option<u64>,
    /// Tokens of the longest window.
    pub positions: usize,
}

/// Tokens to read of a text of which that many are wanted, from its start, and bytes that mostly hold so many.
fn enough(wanted: Option<usize>) -> (usize, usize) {
    let tokens = wanted.map_or(usize::MAX, |wanted| wanted.saturating_add(MARGIN));
    (tokens, tokens.saturating_mul(8))
}

impl Data {
    /// A text.
    pub fn text(name: impl Into<String>, text: String) -> Self {
        let reading = Reading::Joined { separator: "", documents: usize::MAX, windows: usize::MAX };
        Self { name: name.into(), content: Content::Text(text), reading, seed: None, note: None }
    }

    /// Opens a file: `.jsonl` and `.json` (an object a line, or a list of objects), also packed as `.gz` or `.zst`, or
    /// `.parquet`, with text or messages in the field or column `text_field`, joined by an empty line, or `.safetensors`
    /// (a tensor `input_ids` of integers, `[n, t]`) or `.pth` and `.pt` (rows of integers that torch saved, as SpQR's). Any
    /// other is one text. Errors when the file cannot be read, or is no text then; what is wrong with its documents shows
    /// when windows are made.
    pub fn open(path: &Path, text_field: &str) -> Result<Self> {
        let name = path.display().to_string();
        let mut data = Self::text(&name, String::new());
        data.reading = Reading::Joined { separator: "\n\n", documents: usize::MAX, windows: usize::MAX };
        data.content = match (path.extension().and_then(|e| e.to_str()), Documents::of(path, text_field)) {
            (_, Some(documents)) => Content::Documents(documents),
            (Some("safetensors"), None) => rows_of(rows::safetensors(path)?),
            (Some("pth" | "pt"), None) => rows_of(rows::pickled(path)?),
            (extension, None) => {
                let is_text = extension.is_none_or(|extension| TEXTS.contains(&extension));
                data.note = (!is_text).then(|| "unknown kind of file, read as plain text".into());
                let text = encoding::text(files::read(path, u64::MAX)?);
                let other = if is_text { String::new() } else { format!("; other data is {KINDS}") };
                Content::Text(text.map_err(|reason| Error::data(&name, reason + &other))?)
            }
        };
        Ok(data)
    }

    /// The same under another name.
    pub(crate) fn named(self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self }
    }

    /// The same with something to know about its file.
    pub(crate) fn noted(self, note: Option<String>) -> Self {
        Self { note, ..self }
    }

    /// A published set, whose windows are drawn with seed 0.
    pub(crate) fn published(name: String, documents: Documents, reading: Reading) -> Self {
        Self { name, content: Content::Documents(documents), reading, seed: Some(0), note: None }
    }

    /// Things to know about the data, once windows were made of it: what was left out.
    pub fn notes(&self) -> Vec<String> {
        let notes = match &self.content {
            Content::Documents(documents) => documents.notes(),
            Content::Text(text) if text.starts_with('\u{feff}') => {
                vec!["it begins with a byte order mark, which is part of the text, as Python's open() reads it".into()]
            }
            _ => Vec::new(),
        };
        self.note.iter().cloned().chain(notes).map(|note| format!("{}: {note}", self.name)).collect()
    }

    /// True where windows are drawn at random by default.
    pub fn is_drawn(&self) -> bool {
        self.seed.is_some()
    }

    pub(crate) fn tokenizer<'a>(&self, tokenizer: Option<&'a Tokenizer>) -> Result<&'a Tokenizer> {
        crate::tokenizer::needed(&self.name, tokenizer)
    }

    /// The text between two documents that are joined.
    pub(crate) fn separator(&self) -> &'static str {
        match self.reading {
            Reading::Joined { separator, .. } => separator,
            Reading::Drawn { .. } => "\n\n",
        }
    }

    /// The tokens of the whole data, or of a beginning that has at least `wanted`.
    fn tokens(&self, tokenizer: Option<&Tokenizer>, wanted: Option<usize>) -> Result<Vec<u32>> {
        match &self.content {
            Content::Rows { ids, .. } => Ok(ids.clone()),
            Content::Text(text) => self.beginning(text, self.tokenizer(tokenizer)?, wanted),
            Content::Documents(documents) => self.joined(documents, self.tokenizer(tokenizer)?, wanted),
        }
    }

    /// The tokens of a text, or of a beginning of it, longer each time, until that has more than the wanted tokens.
    fn beginning(&self, text: &str, tokenizer: &Tokenizer, wanted: Option<usize>) -> Result<Vec<u32>> {
        let (enough, mut bytes) = enough(wanted);
        loop {
            let rest = text.as_bytes().get(bytes..).and_then(|rest| rest.iter().position(|&b| b == b'\n'));
            let end = rest.map_or(text.len(), |line| bytes + line + 1);
            let ids = tokenizer.text(&self.name, &text[..end])?;
            if end == text.len() || ids.len() >= enough {
                return Ok(ids);
            }
            bytes = bytes.saturating_mul(4);
        }
    }

    /// Documents as one sequence of tokens: texts joined and tokenized as one string, conversations one by one. Reads a
    /// beginning of the file, longer each time, until that has more than the wanted tokens.
    fn joined(&self, documents: &Documents, tokenizer: &Tokenizer, wanted: Option<usize>) -> Result<Vec<u32>> {
        let most = if let Reading::Joined { documents, .. } = self.reading { documents } else { usize::MAX };
        let (enough, mut bytes) = enough(wanted);
        loop {
            let (mut text, mut count, mut cut) = (String::new(), 0, false);
            let mut chats = Conversations::new(tokenizer, documents, enough);
            let read = documents.each(&mut |number, document| {
                if count == most || text.len() > bytes || chats.are_enough() {
                    cut = count < most;
                    return Ok(false);
                }
                let mixed =
                    |what| documents.bad(number, format!("{what}; put texts and messages into files of their own"));
                match document {
                    Document::Text(_) if chats.any() => return Err(mixed("text among messages")),
                    Document::Chat(_) if !text.is_empty() => return Err(mixed("messages among texts")),
                    Document::Text(more) => {
                        if count > 0 {
                            text.push_str(self.separator());
                        }
                        text.push_str(&more);
                    }
                    Document::Chat(messages) => chats.push(number, messages)?,
                }
                count += 1;
                Ok(true)
            });
            let mut ids = chats.end(read)?;
            // A tokenizer may put a token before no text at all, which is not a token of the data.
            if !text.is_empty() {
                ids = tokenizer.text(&self.name, &text)?;
            }
            if !cut || ids.len() >= enough {
                return Ok(ids);
            }
            bytes = bytes.saturating_mul(4);
        }
    }

    /// Windows to calibrate on. A token file gives one window per row (its first `seqlen` tokens). Errors when the data
    /// is too short for one window, or has not the rows that are asked for, and on more than 2³⁰ tokens.
    pub fn calibration(&self, tokenizer: Option<&Tokenizer>, how: &Sampling) -> Result<Windows> {
        let wanted = how.nsamples.unwrap_or(WINDOWS);
        let seqlen = self.length(how.seqlen, how.positions)?;
        if wanted.saturating_mul(seqlen) > MOST_TOKENS {
            let text =
                format!("{wanted} windows of {seqlen} tokens are more than {MOST_TOKENS} tokens in all; use fewer");
            return Err(Error::Sampling(message![Setting::with(option::NSAMPLES, wanted), ": ", text]));
        }
        if let Content::Rows { ids, len } = &self.content {
            if let Some(asked) = how.seqlen.filter(|&asked| asked > *len) {
                let asked = message![Setting::with(option::SEQLEN, asked), format!(": rows of {len} tokens")];
                let shorter = message![format!("; use at most {len}, or leave out "), Setting::new(option::SEQLEN)];
                return Err(Error::data(&self.name, asked.then(shorter)));
            }
            return self.first_rows(ids, *len, how.nsamples, seqlen);
        }
        if let (Content::Documents(documents), Reading::Drawn { beyond, .. }) = (&self.content, self.reading) {
            let seed = how.seed.or(self.seed).unwrap_or(0);
            let draw = Draw { seqlen, shortest: seqlen + beyond, count: wanted, seed };
            let ids = draw.windows(&self.name, documents, self.tokenizer(tokenizer)?)?;
            return Ok(Windows { ids, seqlen, seed: Some(seed) });
        }
        // From the start, no more is read than that.
        let first = how.seed.or(self.seed).is_none().then(|| wanted.saturating_mul(seqlen));
        let tokens = self.tokens(tokenizer, first)?;
        self.check_any(&tokens)?;
        let there = tokens.len() / seqlen;
        if there == 0 {
            let tokens = tokens.len();
            let problem = format!("{tokens} tokens do not fill one window of {seqlen}; use more text or a smaller ");
            let smaller = Setting::new(option::SEQLEN);
            return Err(Error::data(&self.name, message![problem].then(smaller)));
        }
        // More windows than fit side by side overlap, as those of the published codes do.
        let crowded = how.nsamples.is_some_and(|wanted| wanted > there);
        let seed = how.seed.or(self.seed).or(crowded.then_some(0));
        let most = if self.is_drawn() { WINDOWS } else { wanted.min(there) };
        let ids = match seed {
            None => tokens[..most * seqlen].to_vec(),
            Some(seed) => {
                let starts = draw::starts(tokens.len(), seqlen, how.nsamples.unwrap_or(most), seed)?;
                starts.into_iter().flat_map(|start| tokens[start..start + seqlen].iter().copied()).collect()
            }
        };
        Ok(Windows { ids, seqlen, seed })
    }

    fn first_rows(&self, ids: &[u32], len: usize, nsamples: Option<usize>, seqlen: usize) -> Result<Windows> {
        let seqlen = seqlen.min(len);
        let rows = ids.len().checked_div(len).unwrap_or(0);
        if let Some(wanted) = nsamples.filter(|&n| n > rows) {
            let asked =
                message![Setting::with(option::NSAMPLES, wanted), format!("; use at most {rows}, or another file")];
            return Err(Error::data(&self.name, message![format!("{rows} rows of tokens, fewer than ")].then(asked)));
        }
        if rows == 0 || seqlen < 2 {
            return Err(Error::data(
                &self.name,
                format!("{rows} rows of {len} tokens; use a file with rows of 2 tokens or more"),
            ));
        }
        let picked = ids.chunks_exact(len).take(nsamples.unwrap_or(WINDOWS)).flat_map(|row| &row[..seqlen]);
        Ok(Windows { ids: picked.copied().collect(), seqlen, seed: None })
    }

    /// Windows to measure perplexity on: the whole data joined and cut, the tail dropped, or windows drawn as the set's
    /// protocol has it; `limit` windows at most. Errors when the data does not fill one window.
    pub fn evaluation(
        &self,
        tokenizer: Option<&Tokenizer>,
        seqlen: Option<usize>,
        positions: usize,
        limit: Option<usize>,
    ) -> Result<Windows> {
        let seqlen = self.length(seqlen, positions)?;
        let limit = limit.unwrap_or(usize::MAX);
        let limit = match self.reading {
            Reading::Joined { windows, .. } => limit.min(windows),
            Reading::Drawn { beyond, windows } => {
                let Content::Documents(documents) = &self.content else {
                    return Err(Error::data(
                        &self.name,
                        "windows can be drawn from documents only; use a .jsonl or .parquet file",
                    ));
                };
                // Whatever seed the calibration has, evaluation has this one.
                let draw = Draw { seqlen, shortest: seqlen + beyond, count: limit.min(windows), seed: 0 };
                let ids = draw.windows(&self.name, documents, self.tokenizer(tokenizer)?)?;
                return Ok(Windows { ids, seqlen, seed: Some(0) });
            }
        };
        let wanted = (limit < usize::MAX).then(|| limit.saturating_mul(seqlen));
        let mut ids = self.tokens(tokenizer, wanted)?;
        self.check_any(&ids)?;
        let windows = (ids.len() / seqlen).min(limit);
        if windows == 0 {
            let text = format!("{} tokens do not fill one window of {seqlen}; use more text or a smaller ", ids.len());
            return Err(Error::data(&self.name, message![text, Setting::new(option::SEQLEN)]));
        }
        ids.truncate(windows * seqlen);
        Ok(Windows { ids, seqlen, seed: None })
    }

    /// Tokens of a window. Errors when there is nothing after the first.
    fn length(&self, asked: Option<usize>, positions: usize) -> Result<usize> {
        let length = asked.unwrap_or(SEQLEN).min(positions);
        let short = || Error::data(&self.name, format!("windows of {length} tokens, expected 2 or more"));
        if length < 2 { Err(short()) } else { Ok(length) }
    }

    fn check_any(&self, tokens: &[u32]) -> Result<()> {
        if !tokens.is_empty() {
            return Ok(());
        }
        let notes = if let Content::Documents(documents) = &self.content { documents.notes() } else { Vec::new() };
        let reasons: String = notes.iter().map(|note| format!("; {note}")).collect();
        Err(Error::data(&self.name, format!("no tokens in it{reasons}; use a file with text")))
    }
}
