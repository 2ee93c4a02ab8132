//! Texts that ended lately. A prompt that begins like one of them, as each turn of a chat does, is computed from where they differ.

use std::collections::VecDeque;

use paring_generate::Sequence;
use paring_generate::engine::LEAST_SHARED;

/// Texts that are kept, at most.
const TEXTS: usize = 16;

/// Sequences of texts that ended, the latest last.
pub struct Recent {
    texts: VecDeque<Sequence>,
    /// Tokens in all of them, at most.
    most: usize,
}

impl Recent {
    /// Keeps as many texts as have `most` tokens together.
    pub fn new(most: usize) -> Self {
        Self { texts: VecDeque::new(), most }
    }

    /// Keeps a text, in place of those that it begins with. One that is too short to continue is dropped.
    pub fn keep(&mut self, text: Sequence) {
        if text.len() < LEAST_SHARED {
            return;
        }
        self.texts.retain(|other| other.common(text.ids()) < other.len());
        self.texts.push_back(text);
        while self.texts.len() > TEXTS || self.tokens() > self.most {
            self.texts.pop_front();
        }
    }

    /// The beginning of a text that has more tokens in common with that of `prompt` than the others.
    pub fn begin(&mut self, prompt: &[u32]) -> Option<Sequence> {
        let common = |text: &Sequence| text.common(prompt);
        let (at, found) = self.texts.iter().map(common).enumerate().max_by_key(|&(at, common)| (common, at))?;
        // At least the last token of a prompt is computed.
        let common = found.min(prompt.len().saturating_sub(1));
        if common < LEAST_SHARED {
            return None;
        }
        // One that the prompt continues comes back longer.
        let continues = self.texts.get(at).is_some_and(|text| text.len() == found);
        if continues { self.texts.remove(at) } else { self.texts.get(at)?.prefix(common).ok() }
    }

    /// Bytes of keys and values.
    pub fn bytes(&self) -> usize {
        self.texts.iter().map(Sequence::bytes).sum()
    }

    fn tokens(&self) -> usize {
        self.texts.iter().map(Sequence::len).sum()
    }
}
