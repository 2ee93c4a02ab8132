//! Prompts and their answers → examples in which the answer is learned, with the token that ends it.

use std::path::PathBuf;

use serde_json::Value;

use super::Example;
use super::collect::Collector;
use super::form::{Answers, Writing};
use crate::worker::{BATCH, BATCH_BYTES};
use crate::{Error, Result, Tokenizer, records};

/// Alpaca's prompts, as its training code writes them: nothing comes after the last colon.
const WITH_INPUT: &str = "Below is an instruction that describes a task, paired with an input that provides further context. \
    Write a response that appropriately completes the request.\n\n### Instruction:\n";
const WITHOUT_INPUT: &str = "Below is an instruction that describes a task. Write a response that appropriately completes the \
    request.\n\n### Instruction:\n";
const INPUT: &str = "\n\n### Input:\n";
const RESPONSE: &str = "\n\n### Response:";

/// The prompt of an instruction.
pub(super) fn alpaca(instruction: &str, input: &str) -> String {
    match input {
        "" => [WITHOUT_INPUT, instruction, RESPONSE].concat(),
        input => [WITH_INPUT, instruction, INPUT, input, RESPONSE].concat(),
    }
}

/// A prompt and its answer, as text.
struct Asked {
    place: String,
    prompt: String,
    answer: String,
}

/// Reads the records of files.
pub(super) fn read(
    files: &[PathBuf],
    fields: &Answers,
    tokenizer: &Tokenizer,
    collector: &mut Collector<'_>,
) -> Result<()> {
    let mut writer = Writer::new(fields, tokenizer, collector)?;
    let also: Vec<&str> = fields.input.into_iter().collect();
    for path in files {
        let name = path.display().to_string();
        records::each(path, &[fields.prompt, fields.answer], &also, &mut |record| {
            if writer.collector.count() {
                writer.record(format!("{name}: {}", record.place), &record.values)?;
            }
            Ok(writer.collector.wants_more())
        })?;
        writer.flush()?;
    }
    Ok(())
}

struct Writer<'a, 'c> {
    fields: &'a Answers,
    tokenizer: &'a Tokenizer,
    collector: &'a mut Collector<'c>,
    eos: u32,
    /// Tokens that the tokenizer puts after every text: a prompt continues.
    after: usize,
    waiting: Vec<Asked>,
    bytes: usize,
}

impl<'a, 'c> Writer<'a, 'c> {
    fn new(fields: &'a Answers, tokenizer: &'a Tokenizer, collector: &'a mut Collector<'c>) -> Result<Self> {
        let eos = collector.settings.eos.or(tokenizer.ends()?.eos).ok_or_else(|| {
            Error::Tokenizer(
                "the tokenizer names no end of texts, with which answers end; add an eos_token to its tokenizer_config.json"
                    .into(),
            )
        })?;
        let after = after(tokenizer)?;
        Ok(Self { fields, tokenizer, collector, eos, after, waiting: Vec::new(), bytes: 0 })
    }

    /// Takes a record: the values of prompt and answer, and of what may be absent.
    fn record(&mut self, place: String, values: &[Value]) -> Result<()> {
        let text = |at: usize, field: &str| match values.get(at) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(other) => {
                let reason = format!("field {field:?} holds {}, expected text; convert it", kind(other));
                Err(Error::data(&place, reason))
            }
        };
        let (Some(prompt), Some(answer)) = (text(0, self.fields.prompt)?, text(1, self.fields.answer)?) else {
            self.collector.left_out.null += 1;
            return Ok(());
        };
        if answer.is_empty() {
            self.collector.left_out.empty += 1;
            return Ok(());
        }
        let prompt = match self.fields.writing {
            Writing::Alpaca => alpaca(prompt, text(2, self.fields.input.unwrap_or_default())?.unwrap_or_default()),
            Writing::Asked(instruction) => alpaca(instruction, prompt),
            Writing::Verbatim => prompt.to_owned(),
        };
        self.bytes += prompt.len() + answer.len();
        self.waiting.push(Asked { prompt, answer: answer.to_owned(), place });
        if self.waiting.len() >= BATCH || self.bytes >= BATCH_BYTES { self.flush() } else { Ok(()) }
    }

    /// Makes examples of what waits.
    ///
    /// Prompt and answer are tokenized apart, so that an example begins as generation does. A tokenizer may cut or mark a word by what is
    /// before it: the answer is tokenized after the last word of the prompt, and alone where a token would reach across the border.
    fn flush(&mut self) -> Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        self.bytes = 0;
        let place = |at: usize| waiting.get(at).map_or_else(String::new, |asked| asked.place.clone());
        let tokens = |texts: &[&str], bare| self.tokenizer.encode_all(texts, bare, &place);
        let prompts: Vec<&str> = waiting.iter().map(|asked| asked.prompt.as_str()).collect();
        let words: Vec<&str> = prompts.iter().map(|prompt| last_word(prompt)).collect();
        let joined: Vec<String> =
            waiting.iter().zip(&words).map(|(asked, word)| format!("{word}{}", asked.answer)).collect();
        let joined = tokens(&joined.iter().map(String::as_str).collect::<Vec<_>>(), true)?;
        let before = tokens(&words, true)?;
        let shown = self.tokenizer.texts(&before.iter().map(Vec::as_slice).collect::<Vec<_>>(), false)?;
        for (at, mut ids) in tokens(&prompts, false)?.into_iter().enumerate() {
            // Where the word is an unknown token, that may hold some of the answer.
            let is_whole = shown[at].trim() == words[at].trim();
            let rest = joined[at].strip_prefix(&before[at][..]).filter(|rest| is_whole && !rest.is_empty());
            let answer = match rest {
                Some(rest) => rest,
                None => &self.tokenizer.encode_all(&[&waiting[at].answer], true, &|_| place(at))?.concat(),
            };
            if answer.is_empty() {
                self.collector.left_out.empty += 1;
                continue;
            }
            ids.truncate(ids.len().saturating_sub(self.after));
            let prompt = ids.len();
            ids.extend_from_slice(answer);
            if answer.last() != Some(&self.eos) {
                ids.push(self.eos);
            }
            self.collector.add(Example::after(ids, prompt))?;
        }
        self.collector.report();
        Ok(())
    }
}

/// The last word of a text, with the spaces after it.
fn last_word(text: &str) -> &str {
    let start = text.trim_end().rfind(char::is_whitespace);
    // The space itself may be of several bytes.
    start.and_then(|at| text[at..].char_indices().nth(1).map(|(width, _)| &text[at + width..])).unwrap_or(text)
}

/// Tokens that a tokenizer puts after every text.
fn after(tokenizer: &Tokenizer) -> Result<usize> {
    let source = |_| "a text of one letter".into();
    let whole = tokenizer.encode_all(&["a"], false, &source)?.pop().unwrap_or_default();
    let bare = tokenizer.encode_all(&["a"], true, &source)?.pop().unwrap_or_default();
    let added = whole.len().saturating_sub(bare.len());
    let before = (0..=added).find(|&at| !bare.is_empty() && whole[at..].starts_with(&bare));
    Ok(before.map_or(0, |before| added - before))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
