//! Turns of a chat over one cache: only what is new of the conversation is computed.

use std::sync::Arc;

use paring_data::Tokenizer;
use serde_json::{Value, json};

use crate::batch::Request;
use crate::engine::Sequence;
use crate::settings::Length;
use crate::{Engine, Error, Result, Settings};

/// Share of the context that an answer of any length should have left.
const ANSWER: usize = 4;

/// A conversation with a model.
pub struct Conversation {
    engine: Arc<Engine>,
    tokenizer: Arc<Tokenizer>,
    messages: Vec<Value>,
    /// Number of messages that always stay: the instructions.
    fixed: usize,
    /// The text as the model has seen it.
    sequence: Option<Sequence>,
    shifts: bool,
}

/// A question that is ready to be answered.
pub struct Turn {
    /// The conversation as a request: what the model has seen of it is not computed again.
    pub request: Request,
    /// Messages that were left out now, because the context is full.
    pub dropped: usize,
}

impl Conversation {
    /// A conversation that begins with instructions, if there are some. Where it `shifts`, the oldest turns go when the
    /// context is full.
    pub fn new(engine: Arc<Engine>, tokenizer: Arc<Tokenizer>, system: Option<&str>, shifts: bool) -> Self {
        let messages: Vec<Value> = system.iter().map(|text| message("system", text)).collect();
        Self { engine, tokenizer, fixed: messages.len(), messages, sequence: None, shifts }
    }

    /// The messages so far.
    pub fn messages(&self) -> &[Value] {
        &self.messages
    }

    /// Forgets all turns.
    pub fn clear(&mut self) {
        self.messages.truncate(self.fixed);
        self.sequence = None;
    }

    /// Adds a question.
    ///
    /// # Errors
    /// When the model has no chat template, or it refuses the messages, and when the context is full. The question is not part
    /// of the conversation then.
    pub fn ask(&mut self, text: &str, settings: &Settings) -> Result<Turn> {
        let before = self.messages.clone();
        self.messages.push(message("user", text));
        let turn = self.turn(settings);
        if turn.is_err() {
            self.messages = before;
        }
        turn
    }

    fn turn(&mut self, settings: &Settings) -> Result<Turn> {
        let mut dropped = 0;
        loop {
            let (_, prompt) = self.tokenizer.prompt(&self.messages)?;
            match self.fits(prompt.len(), settings) {
                Ok(()) => {
                    let seen = self.sequence.take();
                    let request = Request { seen, ..Request::new(prompt, settings.clone()) };
                    return Ok(Turn { request, dropped });
                }
                // A question and its answer go together.
                Err(error) if error.is_context() && self.can_shift() => {
                    self.messages.drain(self.fixed..self.fixed + 2);
                    dropped += 2;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// True if there is an old turn that may be forgotten.
    fn can_shift(&self) -> bool {
        self.shifts && self.messages.len() > self.fixed + 2
    }

    /// Checks that a prompt leaves space for an answer, and as long as turns can be forgotten for a long one.
    fn fits(&self, prompt: usize, settings: &Settings) -> Result<()> {
        let context = self.engine.longest();
        let new = settings.new_tokens(prompt, context)?;
        let Some(limit) = context.filter(|_| self.can_shift()) else { return Ok(()) };
        let long = limit / ANSWER;
        let least = match settings.length {
            Length::Exactly(asked) => asked,
            Length::AtMost(asked) => asked.min(long),
            Length::Total(_) | Length::Context => long,
        };
        if new < least { Err(Error::Context { prompt, new: least, limit }) } else { Ok(()) }
    }

    /// Adds the answer, and keeps the text as the model has seen it for the next turn.
    pub fn answered(&mut self, text: &str, sequence: Option<Sequence>) {
        self.messages.push(message("assistant", text));
        self.sequence = sequence;
    }
}

fn message(role: &str, text: &str) -> Value {
    json!({"role": role, "content": text})
}

#[cfg(test)]
mod tests;
