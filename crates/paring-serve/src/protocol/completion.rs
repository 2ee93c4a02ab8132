//! Requests for texts that are continued.

use serde_json::Value;

use super::fields::{Fields, wrong};
use super::{Ask, Kind, Prompt, sampling};
use crate::problem::Problem;

/// Best tokens whose probabilities a request may ask for.
const LOGPROBS: usize = 5;

pub fn ask(fields: &mut Fields, choices: usize) -> Result<Ask, Problem> {
    let prompt = fields.take("prompt").ok_or_else(|| Problem::field("prompt", "is missing"))?;
    let prompts = prompts(&prompt)?;
    drop(prompt);
    if prompts.len() > choices {
        return Err(Problem::field("prompt", format!("a request may have {choices} prompts at most")));
    }
    fields.refuse("top_logprobs", |value| *value == 0, "a completion has the number in logprobs")?;
    let ask = sampling::ask(Kind::Completion, prompts, fields, choices)?;
    let echo = fields.flag("echo")?;
    Ok(Ask { echo, logprobs: fields.count("logprobs", 0..=LOGPROBS)?, ..ask })
}

/// A text, several, the ids of one, or those of several.
fn prompts(value: &Value) -> Result<Vec<Prompt>, Problem> {
    const EXPECTED: &str = "a string, a list of strings, a list of token ids, or a list of such lists";
    let bad = || wrong("prompt", EXPECTED, value);
    let list = match value {
        Value::String(text) => return Ok(vec![Prompt::Text(text.clone())]),
        Value::Array(list) => list,
        _ => return Err(bad()),
    };
    let all: Option<Vec<Prompt>> = match list.first() {
        None => return Err(Problem::field("prompt", "the list is empty")),
        Some(Value::Number(_)) => ids(value).map(|ids| vec![Prompt::Ids(ids)]),
        Some(Value::String(_)) => list.iter().map(|text| text.as_str().map(|text| Prompt::Text(text.into()))).collect(),
        Some(_) => list.iter().map(|value| ids(value).map(Prompt::Ids)).collect(),
    };
    all.ok_or_else(bad)
}

fn ids(value: &Value) -> Option<Vec<u32>> {
    value.as_array()?.iter().map(|id| u32::try_from(id.as_u64()?).ok()).collect()
}
