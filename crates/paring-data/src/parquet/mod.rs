//! Parquet files: one column of text, or a list of chat messages, row by row.
//!
//! A reader of our own, because the `parquet` crate (60.1) allocates what a file states before it looks at what is there,
//! and no option bounds it: 17 GB for a file of 49 bytes that states 2³¹ children, 69 GB for one of 122 with as many
//! entries of a dictionary, 34 GB for 104 bytes of delta lengths, 4 GB for 242 bytes of levels. It unpacks gzip and Brotli
//! whatever size a header states, and its schema recursion overflows the stack, which no caller can catch. A guard in
//! front of it would read metadata, page headers, compressed data and deltas first, which is most of this reader.
//! `tests/golden/fuzz/parquet/stated-*` are such files.
//!
//! It reads all encodings of text and all compressions but LZO and Hadoop's LZ4, through their own crates; allocates for
//! what a file holds; and answers damage with an error.

mod codec;
mod column;
mod deltas;
mod header;
mod metadata;
mod page;
mod runs;
#[cfg(test)]
mod tests;
mod thrift;
mod values;

use std::io;
use std::path::Path;

use paring_format::files;
use serde_json::{Value, json};

use crate::error::option;
use crate::unpack::{Allowance, MAX_LINE};
use crate::{Error, Result};
use column::Column;
use metadata::{Leaf, Metadata};

/// The physical type of text.
const BYTE_ARRAY: i64 = 6;
/// Bytes that a place of a message counts for, beside its text.
const PLACE: u64 = 16;

/// The content of a row.
pub(super) enum Cell<'a> {
    Null,
    Text(&'a [u8]),
    /// Messages, objects with `role` and `content`.
    Chat(Vec<Value>),
}

/// An error about a file's content.
fn wrong(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// Shows each row's content in the column `field` to `see`, with the row's number from 1, until `see` returns `false`.
///
/// The column holds text, or lists of `{role, content}`. Errors when the file is damaged, has no such column, or has it
/// in a form that is not read.
pub(super) fn each_row(path: &Path, field: &str, see: &mut dyn FnMut(usize, Cell<'_>) -> Result<bool>) -> Result<()> {
    let bad = |reason: String| Error::data(path.display().to_string(), reason);
    let damaged = |e: io::Error| bad(format!("not a Parquet file that can be read: {e}"));
    let (mut file, size) = files::open(path)?;
    let metadata = Metadata::read(&mut file, size, field).map_err(damaged)?;
    let open = |leaf: &Leaf| -> Result<Column> {
        if leaf.kind != Some(BYTE_ARRAY) {
            let what = leaf.kind.map_or("no type", physical_type);
            return Err(bad(format!("column {:?} holds {what}, expected text", leaf.name())));
        }
        let column = Column::open(path, size, leaf, &metadata.groups);
        column.map_err(|e| bad(format!("column {:?}: {e}", leaf.name())))
    };
    let mut allowance = Allowance::new(size);
    let fields: Vec<&Leaf> = metadata.leaves.iter().filter(|leaf| &*leaf.path[0] == field).collect();
    if let Some(leaf) = fields.iter().find(|leaf| leaf.path.len() == 1) {
        let column = open(leaf)?;
        if column.levels.repetition > 0 {
            return Err(bad(format!("column {field:?} holds lists of text, expected text")));
        }
        return each_text(column, &mut allowance, &bad, field, see);
    }
    // A message may hold more, tool calls with names of their own among it: those lie deeper.
    let part = |name: &str| {
        let parts = fields.iter().filter(|leaf| leaf.path.last().is_some_and(|last| &**last == name));
        parts.min_by_key(|leaf| leaf.path.len()).map(|leaf| open(leaf)).transpose()
    };
    match (part("role")?, part("content")?) {
        (Some(role), Some(content)) if role.levels.repetition == 1 && content.levels.repetition == 1 => {
            each_chat([role, content], &mut allowance, &bad, field, see)
        }
        _ if !fields.is_empty() => {
            Err(bad(format!("column {field:?} is nested, expected text or a list of {{role, content}}")))
        }
        _ => Err(bad(no_column(field, &metadata)).then_option(option::TEXT_FIELD)),
    }
}

/// The message that there is no column `field`, and which there are; the name of the option for it follows.
fn no_column(field: &str, metadata: &Metadata) -> String {
    let mut names: Vec<&str> = metadata.leaves.iter().map(|leaf| &*leaf.path[0]).collect();
    names.dedup();
    let more = if names.len() > 8 { ", …" } else { "" };
    // Names may have line ends, and an error is one line.
    let names: Vec<String> = names.into_iter().take(8).map(|name| name.escape_debug().to_string()).collect();
    format!("no column {field:?}; it has {}{more}: name another with ", names.join(", "))
}

fn physical_type(kind: i64) -> &'static str {
    match kind {
        0 => "truth values",
        1..=3 => "integers",
        4 | 5 => "floats",
        7 => "byte arrays of a fixed length",
        _ => "values of an unknown type",
    }
}

type Bad<'a> = &'a dyn Fn(String) -> Error;

/// Shows the texts of a column.
fn each_text(
    mut column: Column,
    allowance: &mut Allowance,
    bad: Bad<'_>,
    field: &str,
    see: &mut dyn FnMut(usize, Cell<'_>) -> Result<bool>,
) -> Result<()> {
    for row in 1.. {
        let broken = |e: io::Error| bad(format!("row {row}: column {field:?}: {e}"));
        let Some(slot) = column.next().map_err(broken)? else { break };
        let cell = slot.value.map_or(Cell::Null, Cell::Text);
        allowance.spend(slot.value.map_or(0, <[u8]>::len) as u64 + 1).map_err(broken)?;
        if !see(row, cell)? {
            break;
        }
    }
    Ok(())
}

/// Shows the messages whose roles and contents two columns hold.
fn each_chat(
    [mut roles, mut contents]: [Column; 2],
    allowance: &mut Allowance,
    bad: Bad<'_>,
    field: &str,
    see: &mut dyn FnMut(usize, Cell<'_>) -> Result<bool>,
) -> Result<()> {
    let (mut row, mut messages, mut size) = (0, Vec::new(), 0);
    let in_list = roles.in_list;
    loop {
        let known = row.max(1);
        let broken = |e: io::Error| bad(format!("row {known}: column {field:?}: {e}"));
        // Places without a message take nothing in the file, and a page may announce any number of them.
        allowance.spend(PLACE).map_err(broken)?;
        let pair = (roles.next().map_err(broken)?, contents.next().map_err(broken)?);
        let (role, content) = match pair {
            (Some(role), Some(content)) if role.repetition == content.repetition => (role, content),
            (None, None) => break,
            _ => return Err(broken(wrong("its roles and contents do not go together"))),
        };
        if role.repetition == 0 {
            if row > 0 && !see(row, Cell::Chat(std::mem::take(&mut messages)))? {
                return Ok(());
            }
            (row, size) = (row + 1, 0);
        } else if row == 0 {
            return Err(broken(wrong("it begins in the middle of a list")));
        }
        if role.definition < in_list {
            continue;
        }
        let text = |value: Option<&[u8]>, name: &str| match value.map(std::str::from_utf8) {
            Some(Ok(text)) => Ok(text.to_owned()),
            Some(Err(_)) => Err(bad(format!("row {row}: column {field:?}: a {name} is not UTF-8"))),
            None => Err(bad(format!("row {row}: column {field:?}: a {name} is null, expected text"))),
        };
        let (role, content) = (text(role.value, "role")?, text(content.value, "content")?);
        // What a message takes in memory, beside its text.
        size += role.len() + content.len() + 256;
        if size > MAX_LINE {
            return Err(bad(format!("row {row}: column {field:?}: more than {} MiB of messages", MAX_LINE >> 20)));
        }
        allowance.spend((role.len() + content.len()) as u64).map_err(broken)?;
        messages.push(json!({"role": role, "content": content}));
    }
    if row > 0 {
        see(row, Cell::Chat(messages))?;
    }
    Ok(())
}
