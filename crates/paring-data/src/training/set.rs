//! Examples and their labels, and sets of them.

use paring_format::message;
use paring_format::message::Setting;

use super::Form;
use crate::error::option;
use crate::{Error, Result, Tokenizer, dataset};

/// Tokens of a window, and which of them are learned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Example {
    /// Token ids.
    pub ids: Vec<u32>,
    /// For each token, true where it is a label: predicted from the tokens before it. Never of the first.
    pub learned: Vec<bool>,
}

impl Example {
    /// Tokens, all of which are labels but the first.
    pub fn all(ids: Vec<u32>) -> Self {
        Self::after(ids, 0)
    }

    /// Tokens, of which those from `prompt` on are labels.
    pub fn after(ids: Vec<u32>, prompt: usize) -> Self {
        let learned = (0..ids.len()).map(|t| t > 0 && t >= prompt).collect();
        Self { ids, learned }
    }

    /// Number of labels.
    pub fn labels(&self) -> usize {
        self.learned.iter().filter(|&&learned| learned).count()
    }

    /// Cuts it to `len` tokens at most, and leaves out what comes after its last label, on which nothing depends.
    pub(super) fn cut(&mut self, len: usize) {
        self.learned.truncate(len);
        let end = self.learned.iter().rposition(|&learned| learned).map_or(0, |last| last + 1);
        self.ids.truncate(end);
        self.learned.truncate(end);
    }
}

/// Windows of one length, joined: `[windows, len]` each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Token ids.
    pub ids: Vec<u32>,
    /// True where a token is a label; padding is none.
    pub learned: Vec<bool>,
    /// Tokens of a window.
    pub len: usize,
}

/// Counts of what is in the data and not in the set, or not as it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Tokens at the end of joined text that fill no window.
    pub tail: usize,
    /// Examples that were longer than a window, and are cut.
    pub cut: usize,
    /// Records of whose answer nothing fits a window: they are left out.
    pub too_long: usize,
    /// Records whose answer is empty: left out.
    pub empty: usize,
    /// Records with null in a field: left out.
    pub null: usize,
    /// Conversations without an answer to anything: left out.
    pub silent: usize,
    /// Answers that are examples of their own: the chat template writes them otherwise once others follow.
    pub apart: usize,
}

/// Examples to train on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrainingSet {
    /// The name of the data, for messages.
    pub name: String,
    /// The form of its records.
    pub form: Form,
    /// Windows of `seqlen` tokens at most, exactly so many where text was joined. Each has a label.
    pub windows: Vec<Example>,
    /// Tokens of the longest window that there may be.
    pub seqlen: usize,
    /// The token that fills windows up to the length of a batch, on the right.
    pub pad: u32,
    /// Counts of what is not in it.
    pub left_out: LeftOut,
}

impl TrainingSet {
    /// Number of tokens, without padding.
    pub fn tokens(&self) -> usize {
        self.windows.iter().map(|window| window.ids.len()).sum()
    }

    /// Number of labels.
    pub fn labels(&self) -> usize {
        self.windows.iter().map(Example::labels).sum()
    }

    /// Some windows, filled up to the longest of them, or to `len` tokens if that is more: [`TrainingSet::seqlen`] gives all batches
    /// one shape.
    ///
    /// # Errors
    /// When there is no such window.
    pub fn batch(&self, windows: &[u32], len: usize) -> Result<Batch> {
        let picked = windows.iter().map(|&window| {
            self.windows.get(window as usize).ok_or_else(|| {
                Error::data(&self.name, format!("no window {window} among {}; use one of them", self.windows.len()))
            })
        });
        let picked: Vec<&Example> = picked.collect::<Result<_>>()?;
        let len = picked.iter().map(|window| window.ids.len()).fold(len, usize::max);
        let mut batch = Batch { ids: Vec::new(), learned: Vec::new(), len };
        for (row, window) in picked.into_iter().enumerate() {
            batch.ids.extend_from_slice(&window.ids);
            batch.ids.resize((row + 1) * len, self.pad);
            batch.learned.extend_from_slice(&window.learned);
            batch.learned.resize((row + 1) * len, false);
        }
        Ok(batch)
    }

    /// Takes the last `count` windows out, to measure on.
    ///
    /// # Errors
    /// When none would be left to train on.
    pub fn hold_out(&mut self, count: usize) -> Result<Self> {
        let Some(rest) = self.windows.len().checked_sub(count).filter(|&rest| rest > 0) else {
            let there = self.windows.len();
            let reason =
                format!("{there} windows, of which {count} cannot be held out; hold out fewer, or use more data");
            return Err(Error::data(&self.name, reason));
        };
        let windows = self.windows.split_off(rest);
        Ok(Self { name: self.name.clone(), windows, left_out: LeftOut::default(), ..*self })
    }

    /// Errors when a token is outside a model's vocabulary. `tokenizer` made the tokens, if one did.
    pub fn check_vocabulary(&self, vocab: usize, tokenizer: Option<&Tokenizer>) -> Result<()> {
        let ids = self.windows.iter().flat_map(|window| &window.ids).chain([&self.pad]);
        dataset::check_vocabulary(ids, &self.name, vocab, tokenizer)
    }

    /// Things to know about what is not in it, for people.
    pub fn notes(&self) -> Vec<String> {
        let LeftOut { tail, cut, too_long, empty, null, silent, apart } = self.left_out;
        let seqlen = self.seqlen;
        let of = |count: usize, one: &str, many: &str| match count {
            0 => None,
            1 => Some(format!("1 {one}")),
            _ => Some(format!("{count} {many}")),
        };
        let notes = [
            of(tail, "token at the end fills no window", "tokens at the end fill no window"),
            of(
                too_long,
                &format!("record has no answer within {seqlen} tokens and is left out"),
                &format!("records have no answer within {seqlen} tokens and are left out"),
            ),
            of(cut, &format!("example is cut at {seqlen} tokens"), &format!("examples are cut at {seqlen} tokens")),
            of(empty, "record has an empty answer and is left out", "records have an empty answer and are left out"),
            of(null, "record has null in a field and is left out", "records have null in a field and are left out"),
            of(silent, "conversation has no answer and is left out", "conversations have no answer and are left out"),
            of(
                apart,
                "answer is an example of its own, as the chat template changes it once others follow",
                "answers are examples of their own, as the chat template changes them once others follow",
            ),
        ];
        notes.into_iter().flatten().map(|note| format!("{}: {note}", self.name)).collect()
    }

    /// The error that there is no window at all.
    pub(super) fn none(&self, tokens: usize) -> Error {
        if self.form == Form::Text {
            let problem =
                format!("{tokens} tokens do not fill one window of {}; use more text or a smaller ", self.seqlen);
            return Error::data(&self.name, message![problem, Setting::new(option::SEQLEN)]);
        }
        let notes = self.notes();
        let notes = notes.iter().filter_map(|note| note.strip_prefix(&format!("{}: ", self.name)));
        let reasons: String = notes.map(|note| format!("; {note}")).collect();
        let problem = format!("nothing to learn in it{reasons}; ");
        let advice = if self.left_out.too_long > 0 {
            message![problem, "use a larger ", Setting::new(option::SEQLEN)]
        } else {
            message![problem, "use a file with answers"]
        };
        Error::data(&self.name, advice)
    }
}
