//! Parquet files: one column of text, or a list of chat messages, or several columns of what documents of tasks hold, row by row.
//!
//! A reader of our own, because the `parquet` crate (60.1) allocates what a file states before it looks at what is there,
//! and no option bounds it: 17 GB for a file of 49 bytes that states 2³¹ children, 69 GB for one of 122 with as many
//! entries of a dictionary, 34 GB for 104 bytes of delta lengths, 4 GB for 242 bytes of levels. It unpacks gzip and Brotli
//! whatever size a header states, and its schema recursion overflows the stack, which no caller can catch. A guard in
//! front of it would read metadata, page headers, compressed data and deltas first, which is most of this reader.
//! `tests/golden/fuzz/parquet/stated-*` are such files.
//!
//! It reads all encodings of text and all compressions but LZO, through their own crates; allocates for
//! what a file holds; and answers damage with an error.

mod codec;
mod column;
mod deltas;
mod header;
mod messages;
mod metadata;
mod page;
mod records;
mod runs;
#[cfg(test)]
mod tests;
mod thrift;
mod values;

use std::io;
use std::path::Path;

use paring_format::files;
use serde_json::Value;

use crate::error::option;
use crate::line::{MAX_NAMES, lacks};
use crate::unpack::Allowance;
use crate::{Error, Result};
use column::Column;
use metadata::{Leaf, Metadata};

pub(super) use records::each_record;

/// The physical types of text and of integers.
const BYTE_ARRAY: i64 = 6;
const INT32: i64 = 1;
const INT64: i64 = 2;

/// The content of a row.
pub(super) enum Cell<'a> {
    Null,
    Text(&'a [u8]),
    /// Messages, objects with `role` and `content` and other texts.
    Chat(Vec<Value>),
}

/// An error about a file's content.
fn wrong(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// Shows each row's content in the column `field` to `see`, with the row's number from 1, until `see` returns `false`.
///
/// The column holds text, or lists of `{role, content}` and other texts. Errors when the file is damaged, has no such column, or has it
/// in a form that is not read.
pub(super) fn each_row(path: &Path, field: &str, see: &mut dyn FnMut(usize, Cell<'_>) -> Result<bool>) -> Result<()> {
    let bad = |reason: String| Error::data(path.display().to_string(), reason);
    let damaged = |e: io::Error| bad(format!("not a Parquet file that can be read: {e}; download or write it again"));
    let (mut file, size) = files::open(path)?;
    let metadata = Metadata::read(&mut file, size, &[field]).map_err(damaged)?;
    let open = |leaf: &Leaf| -> Result<Column> {
        if leaf.kind != Some(BYTE_ARRAY) {
            let what = leaf.kind.map_or("no type", physical_type);
            return Err(bad(format!("column {:?} holds {what}, expected text", leaf.name())));
        }
        let column = Column::open(path, size, leaf, &metadata.groups);
        column.map_err(|e| bad(format!("column {:?}: {e}; download or write it again", leaf.name())))
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
    if fields.is_empty() {
        return Err(bad(no_column(field, &metadata)).then_option(option::TEXT_FIELD));
    }
    let Some(parts) = messages::parts(&fields) else {
        return Err(bad(format!("column {field:?} is nested, expected text or a list of {{role, content}}")));
    };
    let columns = parts.iter().map(|leaf| Ok((leaf.last_name().to_string(), open(leaf)?)));
    messages::each(columns.collect::<Result<_>>()?, &mut allowance, &bad, field, see)
}

/// Names of what the messages in the column `field` hold beside texts, which is not read: lists of tool calls, for
/// example. None where the column holds no messages, or the file cannot be read.
pub(super) fn unread(path: &Path, field: &str) -> Vec<String> {
    let read = || -> Result<Vec<String>> {
        let (mut file, size) = files::open(path)?;
        let metadata =
            Metadata::read(&mut file, size, &[field]).map_err(|source| Error::Io { path: path.into(), source })?;
        let fields: Vec<&Leaf> = metadata.leaves.iter().filter(|leaf| &*leaf.path[0] == field).collect();
        Ok(messages::unread(&fields))
    };
    read().unwrap_or_default()
}

/// The names of the columns of a file. Errors when it cannot be read.
pub(super) fn columns(path: &Path) -> Result<Vec<String>> {
    let (mut file, size) = files::open(path)?;
    let damaged = |e| Error::data(path.display().to_string(), format!("not a Parquet file that can be read: {e}"));
    let metadata = Metadata::read(&mut file, size, &[]).map_err(damaged)?;
    let mut names: Vec<String> = metadata.leaves.iter().map(|leaf| leaf.path[0].to_string()).collect();
    names.dedup();
    Ok(names)
}

/// The message that there is no column `field`, and which there are; the name of the option for it follows.
fn no_column(field: &str, metadata: &Metadata) -> String {
    format!("{}; name another with ", absent(field, metadata))
}

/// The message that there is no column `field`, and which there are.
fn absent(field: &str, metadata: &Metadata) -> String {
    let mut names: Vec<&str> = metadata.leaves.iter().map(|leaf| &*leaf.path[0]).collect();
    names.dedup();
    let more = (names.len() > MAX_NAMES).then(|| "…".to_string());
    // Names may have line ends, and an error is one line.
    let names = names.into_iter().take(MAX_NAMES).map(|name| name.escape_debug().to_string()).chain(more);
    lacks(format_args!("column {field:?}"), &names.collect::<Vec<_>>())
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
        let broken = |e: io::Error| bad(format!("row {row}: column {field:?}: {e}; download or write it again"));
        let Some(slot) = column.next().map_err(broken)? else { break };
        let cell = slot.value.map_or(Cell::Null, Cell::Text);
        allowance.spend(slot.value.map_or(0, <[u8]>::len) as u64 + 1).map_err(broken)?;
        if !see(row, cell)? {
            break;
        }
    }
    Ok(())
}
