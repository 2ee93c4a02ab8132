//! The shapes of answers.

use std::sync::Arc;

use paring_generate::Scored;
use serde_json::{Map, Value, json};

use super::Kind;

/// The fields that all parts of an answer have.
pub struct Shape {
    pub kind: Kind,
    pub id: String,
    pub created: u64,
    pub model: String,
}

impl Shape {
    /// An answer.
    pub fn whole(&self, choices: Vec<Value>, usage: Value) -> Value {
        let object = match self.kind {
            Kind::Completion => "text_completion",
            Kind::Chat => "chat.completion",
        };
        self.of(object, choices, Some(usage))
    }

    /// A part of a stream. `usage`: null where a later part has it; `None` if there is none.
    pub fn part(&self, choices: Vec<Value>, usage: Option<Value>) -> Value {
        let object = match self.kind {
            Kind::Completion => "text_completion",
            Kind::Chat => "chat.completion.chunk",
        };
        self.of(object, choices, usage)
    }

    fn of(&self, object: &str, choices: Vec<Value>, usage: Option<Value>) -> Value {
        let mut value = json!({
            "id": self.id, "object": object, "created": self.created, "model": self.model, "choices": choices,
        });
        if let Some(usage) = usage {
            value["usage"] = usage;
        }
        value
    }

    /// A text of an answer.
    pub fn choice(&self, index: usize, text: &str, logprobs: Value, reason: &str) -> Value {
        match self.kind {
            Kind::Completion => self.piece(index, text, logprobs, Some(reason)),
            Kind::Chat => {
                let message = json!({"role": "assistant", "content": text, "refusal": null});
                json!({"index": index, "message": message, "logprobs": logprobs, "finish_reason": reason})
            }
        }
    }

    /// A piece of a text in a stream.
    pub fn piece(&self, index: usize, text: &str, logprobs: Value, reason: Option<&str>) -> Value {
        match self.kind {
            Kind::Completion => {
                json!({"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason})
            }
            Kind::Chat => {
                let delta = if reason.is_some() { json!({}) } else { json!({"content": text}) };
                json!({"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason})
            }
        }
    }

    /// The first piece of a text in a stream of a chat.
    pub fn first(index: usize) -> Value {
        let delta = json!({"role": "assistant", "content": ""});
        json!({"index": index, "delta": delta, "logprobs": null, "finish_reason": null})
    }
}

/// The tokens of an answer or a prompt.
pub fn usage(prompt: usize, new: usize) -> Value {
    json!({"prompt_tokens": prompt, "completion_tokens": new, "total_tokens": prompt + new})
}

/// The texts of tokens, in the order of [`ids`].
type Texts<'a> = std::slice::Iter<'a, Arc<str>>;

/// The tokens whose texts a list of probabilities needs, in order.
pub fn ids(scored: &[Scored]) -> Vec<u32> {
    scored.iter().flat_map(|one| std::iter::once(one.token).chain(one.top.iter().map(|(id, _)| *id))).collect()
}

/// Probabilities as completions have them.
#[derive(Default)]
pub struct CompletionLogs {
    tokens: Vec<Value>,
    logprobs: Vec<Value>,
    top: Vec<Value>,
    offsets: Vec<Value>,
    /// Characters up to the next token.
    offset: usize,
}

impl CompletionLogs {
    /// Adds the first token of a prompt, which has no probability.
    pub fn first(&mut self, text: &str) {
        self.push(text, Value::Null, Value::Null);
    }

    /// Adds tokens, with the texts of [`ids`].
    pub fn extend(&mut self, scored: &[Scored], texts: &[Arc<str>]) {
        let mut texts: Texts<'_> = texts.iter();
        for one in scored {
            let token = texts.next().map_or("", |text| text);
            let mut top: Vec<(&str, f32)> = vec![(token, one.logprob)];
            for ((_, logprob), text) in one.top.iter().zip(texts.by_ref()) {
                // Of tokens that read alike the likeliest is shown.
                match top.iter_mut().find(|(known, _)| *known == &**text) {
                    Some((_, known)) => *known = known.max(*logprob),
                    None => top.push((text, *logprob)),
                }
            }
            let top: Map<String, Value> = top.into_iter().map(|(text, log)| (text.to_string(), number(log))).collect();
            self.push(token, number(one.logprob), Value::Object(top));
        }
    }

    fn push(&mut self, text: &str, logprob: Value, top: Value) {
        self.tokens.push(json!(text));
        self.logprobs.push(logprob);
        self.top.push(top);
        self.offsets.push(json!(self.offset));
        self.offset += text.chars().count();
    }

    /// The tokens that were added since this was last asked.
    pub fn take(&mut self) -> Value {
        let [tokens, logprobs, top, offsets] =
            [&mut self.tokens, &mut self.logprobs, &mut self.top, &mut self.offsets].map(std::mem::take);
        json!({"tokens": tokens, "token_logprobs": logprobs, "top_logprobs": top, "text_offset": offsets})
    }
}

/// Probabilities as chats have them.
#[derive(Default)]
pub struct ChatLogs(Vec<Value>);

impl ChatLogs {
    /// Adds tokens, with the texts of [`ids`].
    pub fn extend(&mut self, scored: &[Scored], texts: &[Arc<str>]) {
        let mut texts: Texts<'_> = texts.iter();
        let one = |text: &str, logprob: f32| json!({"token": text, "logprob": number(logprob), "bytes": bytes(text)});
        for token in scored {
            let mut value = one(texts.next().map_or("", |text| text), token.logprob);
            let top: Vec<Value> =
                token.top.iter().zip(texts.by_ref()).map(|((_, logprob), text)| one(text, *logprob)).collect();
            value["top_logprobs"] = json!(top);
            self.0.push(value);
        }
    }

    /// The tokens that were added since this was last asked.
    pub fn take(&mut self) -> Value {
        json!({"content": std::mem::take(&mut self.0), "refusal": null})
    }
}

/// The bytes of a token; `None`, which is null, of one that is part of a character: its text does not tell them.
fn bytes(text: &str) -> Option<&[u8]> {
    (!text.contains(char::REPLACEMENT_CHARACTER)).then_some(text.as_bytes())
}

/// A logarithm, which JSON has no infinity for.
fn number(logprob: f32) -> Value {
    json!(f64::from(logprob.max(-9999.0)))
}
