//! Bodies of requests → checked types, and the shapes of answers.

mod chat;
mod completion;
mod fields;
mod sampling;
mod shapes;
#[cfg(test)]
mod tests;

use paring_generate::Settings;
use serde_json::Value;

use crate::problem::Problem;
use fields::Fields;

pub use shapes::{ChatLogs, CompletionLogs, Shape, ids, usage};

/// The two kinds of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Texts that are continued.
    Completion,
    /// Conversations that are answered.
    Chat,
}

/// A text that is to be continued.
#[derive(Clone, Debug, PartialEq)]
pub enum Prompt {
    /// Text.
    Text(String),
    /// Its tokens.
    Ids(Vec<u32>),
    /// Messages.
    Messages(Vec<Value>),
}

/// A request that makes sense, as far as its body says.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    pub kind: Kind,
    pub model: Option<String>,
    pub prompts: Vec<Prompt>,
    /// Answers to each prompt.
    pub n: usize,
    /// New tokens at most, where the request says so, and the name of the field that does.
    pub most: Option<usize>,
    pub most_name: &'static str,
    /// Without a length, ends and a seed.
    pub settings: Settings,
    pub seed: Option<u64>,
    /// True if no token ends the text.
    pub ignores_eos: bool,
    pub echo: bool,
    /// Asks for probabilities, and those of so many of the best tokens.
    pub logprobs: Option<usize>,
    pub stream: bool,
    /// True if a stream ends with the usage.
    pub with_usage: bool,
}

/// Reads the body of a request, of which all prompts together may ask for `choices` answers.
pub fn parse(kind: Kind, body: &[u8], choices: usize) -> Result<Ask, Problem> {
    let value: Value = serde_json::from_slice(body).map_err(|e| Problem::bad(format!("the body is not JSON: {e}")))?;
    let Value::Object(object) = value else { return Err(Problem::bad("the body has to be a JSON object")) };
    let mut fields = Fields::new(object);
    match kind {
        Kind::Completion => completion::ask(&mut fields, choices),
        Kind::Chat => chat::ask(&mut fields, choices),
    }
}
