//! Texts that ended lately. A prompt that begins like one of them, as each turn of a chat does, is computed from where they differ.

use std::collections::VecDeque;

use paring_generate::Sequence;

/// Tokens in common for which a copy is worth it.
const LEAST: usize = 16;
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

    /// Keeps a text, in place of those that it begins with.
    pub fn keep(&mut self, text: Sequence) {
        self.texts.retain(|other| other.common(text.ids()) < other.len());
        self.texts.push_back(text);
        while self.texts.len() > TEXTS || self.tokens() > self.most {
            self.texts.pop_front();
        }
    }

    /// A text that has more tokens in common with the beginning of `prompt` than the others, and the number of them.
    pub fn begin(&mut self, prompt: &[u32]) -> Option<(Sequence, usize)> {
        let common = |text: &Sequence| text.common(prompt);
        let (at, found) = self.texts.iter().map(common).enumerate().max_by_key(|&(at, common)| (common, at))?;
        // At least the last token of a prompt is computed.
        let common = found.min(prompt.len().saturating_sub(1));
        if common < LEAST {
            return None;
        }
        // One that the prompt continues comes back longer.
        let continues = self.texts.get(at).is_some_and(|text| text.len() == found);
        let text = if continues { self.texts.remove(at) } else { self.texts.get(at).cloned() };
        text.map(|text| (text, common))
    }

    /// Bytes of keys and values.
    pub fn bytes(&self) -> usize {
        self.texts.iter().map(Sequence::bytes).sum()
    }

    fn tokens(&self) -> usize {
        self.texts.iter().map(Sequence::len).sum()
    }
}
