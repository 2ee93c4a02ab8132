//! Lists of messages: columns of text that lie side by side in a list.

use std::io;

use serde_json::{Map, Value};

use super::column::Column;
use super::metadata::Leaf;
use super::{BYTE_ARRAY, Bad, Cell, wrong};
use crate::Result;
use crate::unpack::{Allowance, MAX_LINE};

/// Bytes that a place of a message counts for, beside its text.
const PLACE: u64 = 16;
/// Texts of a message at most; each is a column, with a file of its own open.
const MAX_PARTS: usize = 16;

/// Names of who speaks and of what is said: OpenAI's, ShareGPT's.
const NAMES: [[&str; 2]; 2] = [["role", "content"], ["from", "value"]];

/// The columns inside a list that make its messages: `role` and `content`, or `from` and `value`, and other texts beside them. `None`
/// where it has neither two.
///
/// A message may hold more, tool calls with names of their own among it: those lie deeper, and are not text.
pub(super) fn parts<'a>(fields: &[&'a Leaf]) -> Option<Vec<&'a Leaf>> {
    let named = |name: &str| fields.iter().filter(|leaf| leaf.last_name() == name).min_by_key(|leaf| leaf.path.len());
    let ([who, what], role, content) =
        NAMES.into_iter().find_map(|[who, what]| Some(([who, what], named(who)?, named(what)?)))?;
    let above = |leaf: &Leaf| leaf.path.len() - 1;
    let beside = |leaf: &Leaf| leaf.path[..above(leaf)] == role.path[..above(role)];
    if role.levels.repetition != 1 || !beside(content) {
        return None;
    }
    let texts = |leaf: &&&Leaf| beside(leaf) && leaf.levels.repetition == 1 && leaf.kind == Some(BYTE_ARRAY);
    let others = fields.iter().filter(texts).filter(|leaf| ![who, what].contains(&leaf.last_name()));
    Some([*role, *content].into_iter().chain(others.take(MAX_PARTS - 2).copied()).collect())
}

/// Names of what else lies in the messages, some of them.
pub(super) fn unread(fields: &[&Leaf]) -> Vec<String> {
    let Some(parts) = parts(fields) else { return Vec::new() };
    let depth = parts[0].path.len() - 1;
    let is_read = |leaf: &Leaf| parts.iter().any(|part| part.path == leaf.path);
    let others = fields.iter().filter(|leaf| leaf.path[..depth.min(leaf.path.len())] == parts[0].path[..depth]);
    // Names may have line ends, and a note is one line.
    let names = others.filter(|leaf| !is_read(leaf)).filter_map(|leaf| leaf.path.get(depth));
    let mut names: Vec<String> = names.map(|name| name.chars().take(80).collect::<String>()).collect();
    names.dedup();
    names.truncate(8);
    names.iter().map(|name| name.escape_debug().to_string()).collect()
}

/// Shows the messages whose texts these columns hold. A message without role, or with null for another text, has null
/// there: what that means is the template's business.
pub(super) fn each(
    mut columns: Vec<(String, Column)>,
    allowance: &mut Allowance,
    bad: Bad<'_>,
    field: &str,
    see: &mut dyn FnMut(usize, Cell<'_>) -> Result<bool>,
) -> Result<()> {
    let (mut row, mut messages, mut size, mut null) = (0, Vec::new(), 0, false);
    let in_list = columns.first().map_or(0, |(_, column)| column.in_list);
    loop {
        let known = row.max(1);
        let broken = |e: io::Error| bad(format!("row {known}: column {field:?}: {e}; download or write it again"));
        // Places without a message take nothing in the file, and a page may announce any number of them.
        allowance.spend(PLACE).map_err(broken)?;
        let Some((repetition, definition, message)) = place(&mut columns, in_list).map_err(broken)? else { break };
        if repetition == 0 {
            if row > 0 && !see(row, cell(&mut messages, null))? {
                return Ok(());
            }
            (row, size, null) = (row + 1, 0, definition + 1 < in_list);
        } else if row == 0 {
            return Err(broken(wrong("it begins in the middle of a list")));
        }
        if definition < in_list {
            continue;
        }
        let texts = || message.iter().map(|(name, text)| name.len() + text.as_ref().map_or(0, Vec::len));
        // What a message takes in memory, beside its text.
        size += texts().map(|len| len + 128).sum::<usize>();
        if size > MAX_LINE {
            return Err(bad(format!("row {row}: column {field:?}: more than {} MiB of messages", MAX_LINE >> 20)));
        }
        allowance.spend(texts().sum::<usize>() as u64).map_err(broken)?;
        let mut object = Map::new();
        for (name, text) in message {
            let text = text.map(String::from_utf8).transpose();
            let text =
                text.map_err(|_| bad(format!("row {row}: column {field:?}: a {name} is not UTF-8; convert it")))?;
            object.insert(name, text.map_or(Value::Null, Value::String));
        }
        messages.push(Value::Object(object));
    }
    if row > 0 {
        see(row, cell(&mut messages, null))?;
    }
    Ok(())
}

fn cell(messages: &mut Vec<Value>, null: bool) -> Cell<'static> {
    if null { Cell::Null } else { Cell::Chat(std::mem::take(messages)) }
}

/// Names and texts of a message.
type Message = Vec<(String, Option<Vec<u8>>)>;

/// The next place of all columns: its repetition and its definition, cut off at `in_list`, and its texts. `None` at the
/// end.
fn place(columns: &mut [(String, Column)], in_list: u32) -> io::Result<Option<(u32, u32, Message)>> {
    let (mut levels, mut message, mut ended) = (None, Vec::new(), 0);
    for (name, column) in columns.iter_mut() {
        let Some(slot) = column.next()? else {
            ended += 1;
            continue;
        };
        let found = (slot.repetition, slot.definition.min(in_list));
        if *levels.get_or_insert(found) != found {
            return Err(wrong("its roles and contents do not go together"));
        }
        message.push((name.clone(), slot.value.map(<[u8]>::to_vec)));
    }
    match levels {
        Some(_) if ended > 0 => Err(wrong("its roles and contents do not go together")),
        Some((repetition, definition)) => Ok(Some((repetition, definition, message))),
        None => Ok(None),
    }
}
