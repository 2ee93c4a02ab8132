//! Several columns of a file at a time: texts and integers, lists of them, and structs of these, as the documents of tasks
//! have them.

use std::io;
use std::path::Path;

use paring_format::files;
use serde_json::{Map, Value};

use super::column::Column;
use super::metadata::{Leaf, Metadata};
use super::{BYTE_ARRAY, INT32, INT64, absent, physical_type, wrong};
use crate::unpack::{Allowance, MAX_LINE};
use crate::{Error, Result};

/// Bytes that a value takes in memory at most, beside its text.
const PLACE: u64 = 64;
/// Columns without columns inside at most: each has a file of its own open.
const MAX_PARTS: usize = 32;

/// A column without columns inside, of one that was asked for.
struct Part {
    /// The number of the column that was asked for, and the fields of structs that lead from it to this one.
    field: usize,
    names: Vec<String>,
    column: Column,
    is_list: bool,
    /// True for text, false for integers.
    is_text: bool,
    /// The first place of the next row, of lists.
    ahead: Option<Place>,
}

/// One place in a column.
struct Place {
    repetition: u32,
    definition: u32,
    value: Value,
}

/// Shows the contents of the columns `fields` of each row to `see`, with the row's number from 1, until that returns `false`.
///
/// A text becomes a string, an integer a number, a list an array, a struct an object, and what is absent null. Errors when the
/// file is damaged, has not all columns, or has one of another form.
pub(crate) fn each_record(
    path: &Path,
    fields: &[&str],
    see: &mut dyn FnMut(usize, Vec<Value>) -> Result<bool>,
) -> Result<()> {
    let bad = |reason: String| Error::data(path.display().to_string(), reason);
    let damaged = |e: io::Error| bad(format!("not a Parquet file that can be read: {e}; download or write it again"));
    let (mut file, size) = files::open(path)?;
    let metadata = Metadata::read(&mut file, size, fields).map_err(damaged)?;
    let mut parts = Vec::new();
    for (number, field) in fields.iter().enumerate() {
        let leaves: Vec<&Leaf> = metadata.leaves.iter().filter(|leaf| &*leaf.path[0] == *field).collect();
        if leaves.is_empty() {
            return Err(bad(absent(field, &metadata)));
        }
        for leaf in leaves {
            if parts.len() == MAX_PARTS {
                return Err(bad(format!("column {field:?} has more than {MAX_PARTS} columns inside")));
            }
            parts.push(Part::open(path, size, (number, leaf), &metadata).map_err(&bad)?);
        }
    }
    let mut allowance = Allowance::new(size);
    for row in 1.. {
        let mut record = vec![Value::Null; fields.len()];
        let mut ended = 0;
        for part in &mut parts {
            let field = fields[part.field];
            let broken = |e: io::Error| bad(format!("row {row}: column {field:?}: {e}; download or write it again"));
            match part.next(&mut allowance).map_err(broken)? {
                Some(value) => put(&mut record[part.field], &part.names, value),
                None => ended += 1,
            }
        }
        if ended == parts.len() {
            break;
        }
        if ended > 0 {
            return Err(bad(format!("row {row}: not all columns have it; download or write it again")));
        }
        if !see(row, record)? {
            break;
        }
    }
    Ok(())
}

/// Puts a value at the place that the fields of structs lead to.
fn put(at: &mut Value, names: &[String], value: Value) {
    let Some((name, deeper)) = names.split_first() else {
        *at = value;
        return;
    };
    if !at.is_object() {
        *at = Value::Object(Map::new());
    }
    if let Value::Object(object) = at {
        put(object.entry(name.clone()).or_insert(Value::Null), deeper, value);
    }
}

impl Part {
    fn open(path: &Path, size: u64, (field, leaf): (usize, &Leaf), metadata: &Metadata) -> Result<Self, String> {
        let name = leaf.name();
        // Below a list there is its element, which has a name that says nothing, or there is not even that.
        let (outer, inner) = leaf.path.split_at(leaf.list_at.unwrap_or(leaf.path.len()));
        if leaf.levels.repetition > 1 || inner.len() > 2 {
            return Err(format!("column {name:?} is nested too deeply, expected texts or integers, or lists of them"));
        }
        let is_text = match leaf.kind {
            Some(BYTE_ARRAY) => true,
            Some(INT32 | INT64) => false,
            kind => {
                let what = kind.map_or("no type", physical_type);
                return Err(format!("column {name:?} holds {what}, expected texts or integers"));
            }
        };
        let column = Column::open(path, size, leaf, &metadata.groups);
        let column = column.map_err(|e| format!("column {name:?}: {e}; download or write it again"))?;
        let is_list = leaf.levels.repetition == 1;
        let names = if is_list && outer.is_empty() { &[] } else { &outer[1..] };
        let names = names.iter().map(|name| name.to_string()).collect();
        Ok(Self { field, names, column, is_list, is_text, ahead: None })
    }

    /// The content of the next row; `None` after the last.
    fn next(&mut self, allowance: &mut Allowance) -> io::Result<Option<Value>> {
        let first = match self.ahead.take() {
            Some(first) => first,
            None => match self.place(allowance)? {
                Some(first) => first,
                None => return Ok(None),
            },
        };
        if first.repetition > 0 {
            return Err(wrong("it begins in the middle of a list"));
        }
        if !self.is_list {
            return Ok(Some(first.value));
        }
        let in_list = self.column.in_list;
        let is_null = first.definition + 1 < in_list;
        let mut list = Vec::new();
        let mut place = first;
        let mut bytes = 0;
        loop {
            if place.definition >= in_list {
                bytes += PLACE as usize + place.value.as_str().map_or(0, str::len);
                list.push(place.value);
            }
            if bytes > MAX_LINE {
                return Err(wrong(format!("a list of more than {} MiB", MAX_LINE >> 20)));
            }
            match self.place(allowance)? {
                Some(next) if next.repetition > 0 => place = next,
                next => {
                    self.ahead = next;
                    break;
                }
            }
        }
        Ok(Some(if is_null { Value::Null } else { Value::Array(list) }))
    }

    fn place(&mut self, allowance: &mut Allowance) -> io::Result<Option<Place>> {
        allowance.spend(PLACE)?;
        let Some(slot) = self.column.next()? else { return Ok(None) };
        allowance.spend(slot.value.map_or(0, <[u8]>::len) as u64)?;
        let value = match slot.value {
            None => Value::Null,
            Some(bytes) if self.is_text => {
                let text = std::str::from_utf8(bytes).map_err(|_| wrong("a text that is not UTF-8"))?;
                Value::from(text)
            }
            Some(bytes) => Value::from(integer(bytes)),
        };
        Ok(Some(Place { repetition: slot.repetition, definition: slot.definition, value }))
    }
}

/// An integer of four or eight bytes.
fn integer(bytes: &[u8]) -> i64 {
    match bytes.first_chunk() {
        Some(eight) => i64::from_le_bytes(*eight),
        None => bytes.first_chunk().map_or(0, |four| i64::from(i32::from_le_bytes(*four))),
    }
}
