//! Tokens → text, as they come: only whole characters, and nothing that may belong to a stop string.

use paring_data::Tokenizer;

use crate::Result;

/// Tokens that may wait for the rest of a character: after more of them the bytes are taken for no text.
const LONGEST: usize = 16;

/// The text of a sequence of tokens that grows.
#[derive(Clone, Debug, Default)]
pub struct Text {
    stop: Stop,
    ids: Vec<u32>,
    /// Start of the tokens that are decoded again with the next ones, which may be written otherwise without them.
    context: usize,
    /// Number of tokens whose text was returned.
    known: usize,
}

impl Text {
    /// No text yet; one of `stop` will end it.
    pub fn new(stop: &[String]) -> Self {
        Self { stop: Stop::new(stop), ..Self::default() }
    }

    /// The text after `before`, the tokens of a prompt: some tokenizers write a token differently at the start of a text.
    pub fn after(before: &[u32], stop: &[String]) -> Self {
        let ids = before[before.len().saturating_sub(LONGEST)..].to_vec();
        Self { stop: Stop::new(stop), context: 0, known: ids.len(), ids }
    }

    /// Adds a token. Returns what is certain to be part of the text: whole characters, without what may begin a stop string.
    /// Nothing after a stop string is complete.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn push(&mut self, tokenizer: &Tokenizer, token: u32) -> Result<String> {
        self.ids.push(token);
        if self.is_stopped() {
            return Ok(String::new());
        }
        let piece = self.decoded(tokenizer, false)?;
        Ok(self.stop.push(&piece))
    }

    /// The rest of the text, after the last token: bytes that are no whole character become replacement characters.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn finish(&mut self, tokenizer: &Tokenizer) -> Result<String> {
        if self.is_stopped() {
            return Ok(String::new());
        }
        let piece = self.decoded(tokenizer, true)?;
        let mut rest = self.stop.push(&piece);
        rest.push_str(&self.stop.finish());
        Ok(rest)
    }

    /// True once a stop string was complete.
    pub fn is_stopped(&self) -> bool {
        self.stop.found
    }

    /// The text of the tokens that are not known, if it is whole, or has to be.
    fn decoded(&mut self, tokenizer: &Tokenizer, whole: bool) -> Result<String> {
        let (before, all) = (&self.ids[self.context..self.known], &self.ids[self.context..]);
        let mut texts = tokenizer.texts(&[before, all], true)?;
        let (all, before) = (texts.pop().unwrap_or_default(), texts.pop().unwrap_or_default());
        let waits = self.ids.len() - self.known < LONGEST && !whole;
        if (all.ends_with(char::REPLACEMENT_CHARACTER) && waits) || !all.is_char_boundary(before.len().min(all.len())) {
            return Ok(String::new());
        }
        let piece = all.get(before.len()..).unwrap_or_default().to_string();
        if !piece.is_empty() {
            (self.context, self.known) = (self.known, self.ids.len());
        }
        Ok(piece)
    }
}

/// Text up to the first of some strings.
#[derive(Clone, Debug, Default)]
struct Stop {
    strings: Vec<String>,
    /// Text that may begin one of them.
    held: String,
    found: bool,
}

impl Stop {
    fn new(strings: &[String]) -> Self {
        Self { strings: strings.iter().filter(|text| !text.is_empty()).cloned().collect(), ..Self::default() }
    }

    /// Takes more text; returns what is before any stop string that is complete or may be.
    fn push(&mut self, piece: &str) -> String {
        self.held.push_str(piece);
        if let Some(at) = self.strings.iter().filter_map(|text| self.held.find(text.as_str())).min() {
            self.found = true;
            self.held.truncate(at);
            return std::mem::take(&mut self.held);
        }
        let held = self.strings.iter().map(|text| overlap(&self.held, text)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - held);
        std::mem::replace(&mut self.held, rest)
    }

    /// The text that was held back, since nothing follows.
    fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// The number of bytes at the end of `text` that `stop` begins with, if it goes no further.
fn overlap(text: &str, stop: &str) -> usize {
    let most = text.len().min(stop.len() - 1);
    (1..=most).rev().find(|&n| stop.is_char_boundary(n) && text.ends_with(&stop[..n])).unwrap_or(0)
}

#[cfg(test)]
mod tests;
