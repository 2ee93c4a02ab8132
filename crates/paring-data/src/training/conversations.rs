//! Conversations → examples in which the assistant's turns are learned, each with the token that ends it.
//!
//! Turns are found by what the chat template makes of the beginnings of a conversation, compared as tokens: from the end of the header
//! of an answer (`add_generation_prompt`) to the end of the conversation with the answer in it. No text is searched for.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Map, Value};

use super::Example;
use super::collect::Collector;
use crate::documents::{Document, Documents};
use crate::worker::{BATCH, Question};
use crate::{Error, Result, Tokenizer};

/// Turns whose beginnings are rendered at a time, two each.
const TURNS: usize = BATCH / 2;

/// Names of roles in ShareGPT's conversations, and those that templates know.
const ROLES: [(&str, &str); 9] = [
    ("human", "user"),
    ("user", "user"),
    ("gpt", ASSISTANT),
    ("chatgpt", ASSISTANT),
    ("bard", ASSISTANT),
    ("bing", ASSISTANT),
    ("model", ASSISTANT),
    (ASSISTANT, ASSISTANT),
    ("system", "system"),
];
const ASSISTANT: &str = "assistant";

/// Reads the conversations of files, in a field of their records.
pub(super) fn read(files: &[PathBuf], field: &str, tokenizer: &Tokenizer, collector: &mut Collector<'_>) -> Result<()> {
    let mut kinds = Kinds { tokenizer, known: BTreeMap::new() };
    for path in files {
        let Some(documents) = Documents::of(path, field) else { continue };
        documents.each(&mut |number, document| {
            let bad = |reason: String| documents.bad(number, reason);
            let Document::Chat(messages) = document else {
                return Err(bad(format!(
                    "field {field:?} holds text, expected a list of messages; name another field"
                )));
            };
            if collector.count() {
                let messages = messages.into_iter().enumerate();
                let messages = messages.map(|(at, message)| {
                    normal(message).map_err(|reason| bad(format!("field {field:?}: message {}: {reason}", at + 1)))
                });
                conversation(&messages.collect::<Result<Vec<_>>>()?, &mut kinds, &bad, collector)?;
                collector.report();
            }
            Ok(collector.wants_more())
        })?;
        collector.left_out.null += documents.left_out();
    }
    Ok(())
}

/// A message as templates know it: ShareGPT's `from` and `value` become `role` and `content`.
fn normal(message: Value) -> Result<Value, String> {
    let Value::Object(message) = message else { return Ok(message) };
    if message.contains_key("role") || !message.contains_key("from") {
        return match message.get("role") {
            Some(Value::String(_)) => Ok(Value::Object(message)),
            _ => Err("it has no role, expected {\"role\": …, \"content\": …}; add it".into()),
        };
    }
    let mut normal = Map::new();
    for (key, value) in message {
        match (key.as_str(), &value) {
            ("from", Value::String(from)) => {
                let role = ROLES.iter().find(|(name, _)| name == from);
                let (_, role) = role.ok_or_else(|| {
                    let known: Vec<&str> = ROLES.iter().map(|(name, _)| *name).collect();
                    let from: String = from.chars().take(80).collect();
                    format!("it is from {from:?}, expected {}; rename it", known.join(", "))
                })?;
                normal.insert("role".into(), (*role).into());
            }
            ("from", _) => return Err("from is no text, expected who speaks, such as human or gpt".into()),
            ("value", _) => _ = normal.insert("content".into(), value),
            _ => _ = normal.insert(key, value),
        }
    }
    Ok(Value::Object(normal))
}

/// Adds the examples of a conversation: one, and one for each answer that the template writes otherwise once others follow.
fn conversation(
    messages: &[Value],
    kinds: &mut Kinds<'_>,
    bad: &dyn Fn(String) -> Error,
    collector: &mut Collector<'_>,
) -> Result<()> {
    let tokenizer = kinds.tokenizer;
    // What begins a conversation answers nothing.
    let turns: Vec<usize> = (1..messages.len()).filter(|&at| is_answer(&messages[at])).collect();
    let Some(&last) = turns.last() else {
        collector.left_out.silent += 1;
        return Ok(());
    };
    let whole = tokenizer.renderings(&[Question::Chat(&messages[..=last])], bad)?.concat();
    let mut example = Example { learned: vec![false; whole.len()], ids: whole };
    let mut apart = Vec::new();
    'all: for some in turns.chunks(TURNS) {
        let each = some.iter().flat_map(|&at| [Question::Prompt(&messages[..at]), Question::Chat(&messages[..=at])]);
        let rendered = tokenizer.renderings(&each.collect::<Vec<_>>(), bad)?;
        for (&at, pair) in some.iter().zip(rendered.as_chunks().0) {
            let [header, through]: &[Vec<u32>; 2] = pair;
            let start = start(&messages[..at], header, through, tokenizer, bad)?;
            // Later turns are beyond the window too.
            if start >= collector.settings.seqlen {
                break 'all;
            }
            let end = kinds.end_before(&example.ids, through, start)?;
            if example.ids.get(..end) == Some(&through[..end]) {
                example.learned[start..end].fill(true);
            } else {
                let learned = (0..end).map(|t| t >= start).collect();
                apart.push(Example { ids: through[..end].to_vec(), learned });
            }
        }
    }
    collector.left_out.apart += apart.len();
    let any = example.learned.contains(&true);
    if any || apart.is_empty() {
        apart.push(example);
    }
    apart.into_iter().try_for_each(|example| collector.add(example))
}

fn is_answer(message: &Value) -> bool {
    message.get("role").and_then(Value::as_str) == Some(ASSISTANT)
}

/// The first token of an answer in `through`, the conversation up to it; `header` is the conversation before it with the header of
/// an answer. A token may reach across the border, or the template may write a part of the header for generation only: then it is the
/// first token that differs, after all of the conversation before.
fn start(
    earlier: &[Value],
    header: &[u32],
    through: &[u32],
    tokenizer: &Tokenizer,
    bad: &dyn Fn(String) -> Error,
) -> Result<usize> {
    let common = common(header, through);
    if common < header.len() {
        let earlier = tokenizer.renderings(&[Question::Chat(earlier)], bad)?.concat();
        // Of a token across the border, at most one differs.
        if common + 1 < earlier.len() {
            let reason = "the chat template writes what is before an answer otherwise once it is there, so that its tokens cannot be \
                found; correct the template, or use instructions";
            return Err(bad(reason.into()));
        }
    }
    Ok(common)
}

/// Length of the common beginning.
fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The kind of a token, by the text that it stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Space,
    Special,
    Other,
}

/// Kinds of the tokens that answers end with.
struct Kinds<'a> {
    tokenizer: &'a Tokenizer,
    known: BTreeMap<u32, Kind>,
}

impl Kinds<'_> {
    fn of(&mut self, id: u32) -> Result<Kind> {
        if let Some(&kind) = self.known.get(&id) {
            return Ok(kind);
        }
        let text = self.tokenizer.decode(&[id], false)?;
        let kind = if text.is_empty() {
            Kind::Other
        } else if self.tokenizer.decode(&[id], true)?.is_empty() {
            Kind::Special
        } else if text.trim().is_empty() {
            Kind::Space
        } else {
            Kind::Other
        };
        self.known.insert(id, kind);
        Ok(kind)
    }

    /// The end of the answer in `through`, of which `whole` has more. A template may end each conversation with a token that is
    /// not between turns: that is no part of the answer.
    fn end_before(&mut self, whole: &[u32], through: &[u32], start: usize) -> Result<usize> {
        let end = self.end(through, start)?;
        let shared = common(whole, through);
        if shared < end && shared > start {
            let inner = self.end(&through[..shared], start)?;
            if self.of(through[inner - 1])? == Kind::Special {
                for &id in &through[inner..] {
                    if self.of(id)? == Kind::Other {
                        return Ok(end);
                    }
                }
                return Ok(inner);
            }
        }
        Ok(end)
    }

    /// The end of the answer that begins at `start` and ends these tokens: after its end token, where only spaces follow, which
    /// templates write between turns and no model says; else after all.
    fn end(&mut self, ids: &[u32], start: usize) -> Result<usize> {
        let mut end = ids.len();
        while end > start {
            match self.of(ids[end - 1])? {
                Kind::Space => end -= 1,
                Kind::Special => return Ok(end),
                Kind::Other => break,
            }
        }
        Ok(ids.len())
    }
}
