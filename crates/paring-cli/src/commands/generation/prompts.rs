//! The prompts of a command line.

use std::io::Read;
use std::path::Path;

use paring::{Error, Result};
use paring_data::Tokenizer;
use paring_format::files;
use serde_json::{Value, json};

use crate::args::GenerateArgs;

/// Bytes of a file of prompts that are read at most.
const LARGEST: u64 = 1 << 30;

/// Text to be continued, or messages to be answered.
pub enum Content {
    Text(String),
    Messages(Vec<Value>),
}

/// A prompt and the place that it came from, where errors should name it.
pub struct Prompt {
    pub content: Content,
    pub place: Option<String>,
}

/// The prompts that are asked for, and true if they are of a file with several.
pub fn read(args: &GenerateArgs) -> Result<(Vec<Prompt>, bool)> {
    let text = match (&args.prompt, &args.prompt_file) {
        (_, Some(path)) if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("jsonl")) => {
            return Ok((lines(path, args)?, true));
        }
        (_, Some(path)) => whole(utf8(files::read(path, LARGEST)?, &path.display().to_string())?),
        (Some(text), _) if text == "-" => {
            let mut bytes = Vec::new();
            let read = std::io::stdin().lock().take(LARGEST + 1).read_to_end(&mut bytes);
            read.map_err(|source| Error::Io { path: "stdin".into(), source })?;
            if bytes.len() as u64 > LARGEST {
                return Err(Error::Plan(format!("stdin: more than {LARGEST} bytes; use a shorter prompt")));
            }
            whole(utf8(bytes, "stdin")?)
        }
        (text, _) => text.clone().unwrap_or_default(),
    };
    Ok((vec![Prompt { content: content(text, args), place: None }], false))
}

/// The text in bytes of `name`.
pub fn utf8(bytes: Vec<u8>, name: &str) -> Result<String> {
    String::from_utf8(bytes)
        .map_err(|e| Error::Plan(format!("{name}: not UTF-8 at byte {}; convert it", e.utf8_error().valid_up_to() + 1)))
}

/// A text without the line end that editors and shells put after it.
fn whole(text: String) -> String {
    let without = text.strip_suffix('\n').map(|text| text.strip_suffix('\r').unwrap_or(text));
    without.map(String::from).unwrap_or(text)
}

/// A text as a prompt, or as a message after the instructions.
fn content(text: String, args: &GenerateArgs) -> Content {
    match args.chat {
        true => Content::Messages(with_system(vec![json!({"role": "user", "content": text})], args)),
        false => Content::Text(text),
    }
}

fn with_system(messages: Vec<Value>, args: &GenerateArgs) -> Vec<Value> {
    let system = args.system.iter().map(|text| json!({"role": "system", "content": text}));
    system.chain(messages).collect()
}

/// The prompts in the lines of a file.
fn lines(path: &Path, args: &GenerateArgs) -> Result<Vec<Prompt>> {
    let name = path.display().to_string();
    let text = utf8(files::read(path, LARGEST)?, &name)?;
    let mut prompts = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let place = format!("{name}, line {}", number + 1);
        let bad = |reason: String| Error::Plan(format!("{place}: {reason}"));
        let value: Value = serde_json::from_str(line).map_err(|e| bad(format!("not JSON: {e}")))?;
        let field = |key: &str| value.get(key).and_then(Value::as_str).map(String::from);
        let content = match value.get("messages").and_then(Value::as_array).filter(|_| args.chat) {
            Some(messages) => Content::Messages(with_system(messages.clone(), args)),
            None => {
                let fields = if args.chat { "prompt, text or messages" } else { "prompt or text" };
                let missing = || bad(format!("expected an object with the field {fields}"));
                content(field("prompt").or_else(|| field("text")).ok_or_else(missing)?, args)
            }
        };
        prompts.push(Prompt { content, place: Some(place) });
    }
    match prompts.is_empty() {
        true => Err(Error::Plan(format!("{name}: no line has a prompt"))),
        false => Ok(prompts),
    }
}

impl Prompt {
    /// Its tokens.
    pub fn tokens(&self, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
        match &self.content {
            Content::Text(text) => Ok(tokenizer.tokens(text)?),
            Content::Messages(messages) => Ok(tokenizer.prompt(messages)?.1),
        }
    }

    /// An error about it.
    pub fn located(&self, error: impl Into<Error>) -> Error {
        match &self.place {
            Some(place) => error.into().at(place),
            None => error.into(),
        }
    }
}
