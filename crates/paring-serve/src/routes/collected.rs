//! Texts as their news come.

use paring_generate::Scored;
use serde_json::Value;

use crate::problem::Problem;
use crate::protocol::{ChatLogs, CompletionLogs, Kind, ids};
use crate::scheduler::{End, Note};
use crate::words::Words;

/// A text of an answer.
pub struct Text {
    /// Its part that has not been sent.
    pub pending: String,
    /// New tokens.
    pub tokens: usize,
    /// The reason of its end.
    pub reason: Option<&'static str>,
    /// The first token of a prompt that is part of the answer, until it is taken.
    first: Option<u32>,
    /// Tokens whose probabilities have not been sent.
    scored: Vec<Scored>,
    logs: Logs,
}

enum Logs {
    Nothing,
    Completion(CompletionLogs),
    Chat(ChatLogs),
}

impl Text {
    /// A text that begins with the text `echo`, and with its probabilities where it has tokens that begin with `first`.
    pub fn new(kind: Kind, with_logs: bool, echo: String, first: Option<u32>) -> Self {
        let logs = match kind {
            _ if !with_logs => Logs::Nothing,
            Kind::Completion => Logs::Completion(CompletionLogs::default()),
            Kind::Chat => Logs::Chat(ChatLogs::default()),
        };
        Self { pending: echo, tokens: 0, reason: None, first, scored: Vec::new(), logs }
    }

    /// Takes news. True if they are more than those of a prompt.
    pub fn take(&mut self, note: Note) -> Result<bool, Problem> {
        let Note { prompt, token, text, end, .. } = note;
        let is_more = token.is_some() || end.is_some();
        self.scored.extend(prompt);
        self.tokens += usize::from(token.is_some());
        self.scored.extend(token.and_then(|token| token.scored));
        self.pending.push_str(&text);
        self.reason = match end {
            None => self.reason,
            Some(End::Stop) => Some("stop"),
            Some(End::Length) => Some("length"),
            Some(End::Failed(problem)) => return Err(problem),
        };
        Ok(is_more)
    }

    /// True if there are probabilities that have not been sent.
    pub fn has_logs(&self) -> bool {
        !self.scored.is_empty()
    }

    /// The probabilities that have not been sent; null where nobody asked for them.
    pub async fn logs(&mut self, words: &Words) -> Result<Value, Problem> {
        let scored = std::mem::take(&mut self.scored);
        match &mut self.logs {
            Logs::Nothing => Ok(Value::Null),
            Logs::Completion(logs) => {
                if let Some(first) = self.first.take() {
                    words.pieces(vec![first]).await?.iter().for_each(|text| logs.first(text));
                }
                logs.extend(&scored, &words.pieces(ids(&scored)).await?);
                Ok(logs.take())
            }
            Logs::Chat(logs) => {
                logs.extend(&scored, &words.pieces(ids(&scored)).await?);
                Ok(logs.take())
            }
        }
    }
}
