//! Messages → text, by the Jinja template of the model, as the transformers library does it.

mod moment;
mod places;
#[cfg(test)]
mod tests;
mod tokens;

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::Result;
use crate::jinja::Program;
pub use moment::Moment;

/// A chat template and the special tokens that it may name.
pub(super) struct Template {
    program: std::result::Result<Program, String>,
    /// The file it came from.
    file: String,
    tokens: Vec<(String, Value)>,
    /// True where it may ask what day it is.
    pub has_time: bool,
}

impl Template {
    /// The template of the model in `dir`, whose `tokenizer_config.json` is `config`. `None` when it has none. A template
    /// that is wrong is an error of each [`Template::render`].
    pub fn beside(dir: &Path, config: &Value) -> Result<Option<Self>> {
        let Some((file, source)) = places::find(dir, config)? else { return Ok(None) };
        Ok(Some(Self::new(&source, file, tokens::tokens(dir, config)?)))
    }

    fn new(source: &str, file: String, tokens: Vec<(String, Value)>) -> Self {
        let program = Program::parse(source).map_err(|e| e.to_string());
        Self { program, file, tokens, has_time: source.contains("strftime_now") }
    }

    /// The file that it was read from.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Renders a conversation at a moment, with the header of an answer where it is a `prompt`. The error says what is wrong
    /// with the template, or what it says is wrong with the messages.
    pub fn render(&self, messages: &[Value], moment: Moment, prompt: bool) -> std::result::Result<String, String> {
        let messages = Value::from(messages.iter().map(given).collect::<Vec<_>>());
        let (none, prompt) = (Value::Null, Value::Bool(prompt));
        let mut names: Vec<(&str, &Value)> =
            vec![("messages", &messages), ("tools", &none), ("documents", &none), ("add_generation_prompt", &prompt)];
        names.extend(self.tokens.iter().map(|(name, token)| (name.as_str(), token)));
        let program = self.program.as_ref().map_err(Clone::clone);
        let made = program.and_then(|program| {
            program.render(&names, &|format| moment.strftime(format)).map_err(|error| error.to_string())
        });
        made.map_err(|reason| {
            // An error is one line, whatever the template raises.
            let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
            format!("the chat template of {}: {reason}; correct the template or the messages", self.file)
        })
    }
}

/// The names under which a message may hold what the model thought; the first is the one that templates read.
const THOUGHTS: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// A message as transformers gives it to a template: keys without a value are left out, and thoughts under an older name
/// are there under the new one too.
fn given(message: &Value) -> Value {
    let Value::Object(message) = message else { return message.clone() };
    let mut there: Map<String, Value> =
        message.iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| (key.clone(), value.clone())).collect();
    if let Some(thought) = THOUGHTS.iter().find_map(|key| there.get(*key)).cloned() {
        let mut first = Map::from_iter([("thinking".to_owned(), thought.clone())]);
        first.extend(there);
        first.insert("reasoning_content".into(), thought);
        there = first;
    }
    json!(there)
}
