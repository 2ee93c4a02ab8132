//! Requests for answers in a conversation.

use serde_json::{Map, Value};

use super::fields::{Fields, wrong};
use super::{Ask, Kind, Prompt, sampling};
use crate::problem::Problem;

/// Best tokens whose probabilities a request may ask for.
const LOGPROBS: usize = 20;

pub fn ask(fields: &mut Fields, choices: usize) -> Result<Ask, Problem> {
    let messages = fields.take("messages").ok_or_else(|| Problem::field("messages", "is missing"))?;
    let Value::Array(messages) = messages else { return Err(wrong("messages", "a list of messages", &messages)) };
    if messages.is_empty() {
        return Err(Problem::field("messages", "the list is empty"));
    }
    let messages = messages.into_iter().enumerate().map(|(i, value)| message(i, value)).collect::<Result<_, _>>()?;
    fields.refuse("echo", |value| *value == false, "only completions repeat their prompt")?;
    let ask = sampling::ask(Kind::Chat, vec![Prompt::Messages(messages)], fields, choices)?;
    let is_asked = fields.flag("logprobs")?;
    let top = fields.count("top_logprobs", 0..=LOGPROBS)?;
    if top.is_some_and(|top| top > 0) && !is_asked {
        return Err(Problem::field("top_logprobs", "needs logprobs to be true"));
    }
    Ok(Ask { logprobs: is_asked.then_some(top.unwrap_or(0)), ..ask })
}

/// A message as templates know it: its content is a string.
fn message(number: usize, value: Value) -> Result<Value, Problem> {
    let name = format!("messages[{number}]");
    let Value::Object(mut message) = value else { return Err(wrong(&name, "an object", &value)) };
    let role = match message.get("role") {
        Some(Value::String(role)) => role.as_str(),
        other => return Err(wrong(&format!("{name}.role"), "a string", other.unwrap_or(&Value::Null))),
    };
    let role = match role {
        // The newer word for instructions, which templates do not know.
        "developer" => "system",
        "system" | "user" | "assistant" | "tool" => role,
        other => {
            let roles = "system, developer, user, assistant or tool";
            return Err(wrong(&format!("{name}.role"), roles, &Value::String(other.into())));
        }
    };
    let role = Value::String(role.into());
    message.insert("role".into(), role);
    let field = format!("{name}.content");
    let calls = message.get("tool_calls").is_some_and(|calls| !calls.is_null());
    let content = match message.remove("content") {
        Some(Value::String(text)) => text,
        Some(Value::Array(parts)) => {
            parts.iter().map(|part| text(&field, part)).collect::<Result<Vec<_>, _>>()?.join("\n")
        }
        None | Some(Value::Null) if calls => return Ok(Value::Object(message)),
        other => return Err(wrong(&field, "a string, or a list of parts", &other.unwrap_or(Value::Null))),
    };
    // The role comes first, and then the text.
    let mut ordered = Map::new();
    ordered.extend(message.remove_entry("role"));
    ordered.insert("content".into(), Value::String(content));
    ordered.extend(message);
    Ok(Value::Object(ordered))
}

/// The text of a part of a message.
fn text(field: &str, part: &Value) -> Result<String, Problem> {
    let is_text = part.get("type").and_then(Value::as_str) == Some("text");
    let text = part.get("text").and_then(Value::as_str).filter(|_| is_text);
    text.map(String::from).ok_or_else(|| wrong(field, "only parts {\"type\": \"text\", \"text\": \"…\"}", part))
}
