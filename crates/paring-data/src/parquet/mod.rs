//! Parquet files: one column of text, or a list of chat messages, row by row.
//!
//! A reader of our own, of the part that collections of text use: it allocates for what a file holds and not for what
//! it announces, answers damage with an error, and needs no C compiler for Zstandard.

mod page;
#[cfg(test)]
mod tests;
mod thrift;

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use paring_format::files;
use serde_json::{Value, json};

use crate::error::option;
use crate::unpack::{Allowance, MAX_LINE};
use crate::{Error, Result};
use page::{Codec, Dictionary, Levels, Page, Slot, next_page, wrong};
use thrift::Thrift;

const MAGIC: &[u8; 4] = b"PAR1";
/// The physical type of text.
const BYTE_ARRAY: i64 = 6;
/// Elements of a schema at most; wide tables have thousands.
const MAX_ELEMENTS: usize = 20_000;

/// What a row holds.
pub(super) enum Cell<'a> {
    Null,
    Text(&'a [u8]),
    /// Messages, objects with `role` and `content`.
    Chat(Vec<Value>),
}

struct Element {
    name: String,
    kind: Option<i64>,
    repetition: i64,
    children: i64,
}

/// A column without columns inside.
struct Leaf {
    path: Vec<String>,
    kind: Option<i64>,
    levels: Levels,
    /// The definition from which on a list around it has an element.
    in_list: u32,
}

/// Where a row group's part of a column lies.
struct Chunk {
    start: u64,
    len: u64,
    codec: i64,
}

struct Metadata {
    leaves: Vec<Leaf>,
    /// Of each row group and column: path and place.
    groups: Vec<Vec<(Vec<String>, Chunk)>>,
}

/// Shows what each row has in the column `field` to `see`, with the row's number from 1, until `see` returns `false`.
///
/// The column holds text, or lists of `{role, content}`. Errors when the file is damaged, has no such column, or has it
/// in a form that is not read.
pub(super) fn each_row(path: &Path, field: &str, see: &mut dyn FnMut(usize, Cell<'_>) -> Result<bool>) -> Result<()> {
    let bad = |reason: String| Error::data(path.display().to_string(), reason);
    let damaged = |e: io::Error| bad(format!("not a Parquet file that can be read: {e}"));
    let (mut file, size) = files::open(path)?;
    let footer = footer_length(&mut file, size).map_err(damaged)?;
    file.seek(SeekFrom::Start(size - 8 - footer)).map_err(damaged)?;
    let metadata = metadata(BufReader::new(&mut file), footer, field).map_err(damaged)?;
    let column = |wanted: &dyn Fn(&Leaf) -> bool| -> Result<Option<Column>> {
        let Some(leaf) = metadata.leaves.iter().find(|leaf| wanted(leaf)) else { return Ok(None) };
        if leaf.kind != Some(BYTE_ARRAY) {
            let what = leaf.kind.map_or("no type", physical_type);
            return Err(bad(format!("column {:?} holds {what}, expected text", leaf.path.join("."))));
        }
        let column = Column::open(path, size, leaf, &metadata.groups);
        column.map(Some).map_err(|e| bad(format!("column {:?}: {e}", leaf.path.join("."))))
    };
    let mut allowance = Allowance::new(size);
    if let Some(column) = column(&|leaf| leaf.path.len() == 1 && leaf.path[0] == field)? {
        if column.levels.repetition > 0 {
            return Err(bad(format!("column {field:?} holds lists of text, expected text")));
        }
        return each_text(column, &mut allowance, &bad, field, see);
    }
    let part = |name: &str| {
        column(&|leaf| leaf.path[0] == field && leaf.path.len() > 1 && leaf.path.last().is_some_and(|n| n == name))
    };
    match (part("role")?, part("content")?) {
        (Some(role), Some(content)) if role.levels.repetition == 1 && content.levels.repetition == 1 => {
            each_chat([role, content], &mut allowance, &bad, field, see)
        }
        _ if metadata.leaves.iter().any(|leaf| leaf.path[0] == field) => {
            Err(bad(format!("column {field:?} is nested, expected text or a list of {{role, content}}")))
        }
        _ => {
            let mut names: Vec<&str> = metadata.leaves.iter().map(|leaf| leaf.path[0].as_str()).collect();
            names.dedup();
            let more = if names.len() > 8 { ", …" } else { "" };
            names.truncate(8);
            let names = names.join(", ");
            let absent = bad(format!("no column {field:?}; it has {names}{more}: name another with "));
            Err(absent.then_option(option::TEXT_FIELD))
        }
    }
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

/// Bytes of the metadata before the last eight bytes.
fn footer_length(file: &mut File, size: u64) -> io::Result<u64> {
    let mut ends = [0; 12];
    if size < 12 {
        return Err(wrong(format!("{size} bytes are too few")));
    }
    file.read_exact(&mut ends[..4])?;
    file.seek(SeekFrom::Start(size - 8))?;
    file.read_exact(&mut ends[4..])?;
    if &ends[8..] == b"PARE" {
        return Err(wrong("it is encrypted"));
    }
    if &ends[..4] != MAGIC || &ends[8..] != MAGIC {
        return Err(wrong("it does not begin and end with PAR1; cut off?"));
    }
    let footer = u32::from_le_bytes([ends[4], ends[5], ends[6], ends[7]]).into();
    if footer > size - 12 {
        return Err(wrong(format!("metadata of {footer} bytes in a file of {size}")));
    }
    Ok(footer)
}

fn metadata(source: impl Read, length: u64, field: &str) -> io::Result<Metadata> {
    let (mut elements, mut groups) = (Vec::new(), Vec::new());
    let mut thrift = Thrift::new(source, length);
    thrift.fields(|t, id, kind| match id {
        2 => t.list(|t, _| {
            if elements.len() == MAX_ELEMENTS {
                return Err(wrong(format!("a schema of more than {MAX_ELEMENTS} elements")));
            }
            elements.push(element(t)?);
            Ok(())
        }),
        4 => t.list(|t, _| {
            let mut columns = Vec::new();
            t.fields(|t, id, kind| match id {
                1 => t.list(|t, _| {
                    columns.extend(
                        chunk(t)?.filter(|(path, _): &(Vec<String>, Chunk)| path.first().is_some_and(|p| p == field)),
                    );
                    Ok(())
                }),
                _ => t.skip(kind),
            })?;
            groups.push(columns);
            Ok(())
        }),
        _ => t.skip(kind),
    })?;
    Ok(Metadata { leaves: leaves(&elements)?, groups })
}

fn element<R: Read>(thrift: &mut Thrift<R>) -> io::Result<Element> {
    let mut element = Element { name: String::new(), kind: None, repetition: 0, children: 0 };
    thrift.fields(|t, id, kind| {
        match id {
            1 => element.kind = Some(t.int()?),
            3 => element.repetition = t.int()?,
            4 => element.name = t.string()?,
            5 => element.children = t.int()?,
            _ => t.skip(kind)?,
        }
        Ok(())
    })?;
    Ok(element)
}

/// A column of a row group; `None` without metadata of its own.
fn chunk<R: Read>(thrift: &mut Thrift<R>) -> io::Result<Option<(Vec<String>, Chunk)>> {
    let (mut path, mut codec, mut len, mut starts, mut elsewhere) = (Vec::new(), 0, 0, [0; 2], false);
    thrift.fields(|t, id, kind| match id {
        1 => {
            elsewhere = true;
            t.skip(kind)
        }
        3 => t.fields(|t, id, kind| {
            match id {
                3 => t.list(|t, _| {
                    path.push(t.string()?);
                    Ok(())
                })?,
                4 => codec = t.int()?,
                7 => len = t.int()?,
                9 => starts[0] = t.int()?,
                11 => starts[1] = t.int()?,
                _ => t.skip(kind)?,
            }
            Ok(())
        }),
        _ => t.skip(kind),
    })?;
    if elsewhere {
        return Err(wrong("its columns lie in other files"));
    }
    if path.is_empty() {
        return Ok(None);
    }
    // The dictionary, where there is one, comes first; a column of no rows may have nothing else.
    let start = starts.into_iter().filter(|&start| start != 0).min().unwrap_or(0);
    let (Ok(start), Ok(len)) = (u64::try_from(start), u64::try_from(len)) else {
        return Err(wrong("a column at a negative place"));
    };
    Ok(Some((path, Chunk { start, len, codec })))
}

/// The columns of a schema, which lists a tree from its root, each element before its children.
fn leaves(elements: &[Element]) -> io::Result<Vec<Leaf>> {
    let Some((root, rest)) = elements.split_first() else { return Err(wrong("no schema")) };
    let mut leaves = Vec::new();
    // Of each open element: children to come, and its levels.
    let mut open = vec![(root.children, Levels::default(), 0)];
    let mut path: Vec<String> = Vec::new();
    for element in rest {
        while open.last().is_some_and(|(children, ..)| *children <= 0) {
            open.pop();
            path.pop();
        }
        let Some((children, levels, in_list)) = open.last_mut() else { return Err(wrong("a schema that is no tree")) };
        *children -= 1;
        let (mut levels, mut in_list) = (*levels, *in_list);
        levels.definition += u32::from(element.repetition > 0);
        if element.repetition == 2 {
            levels.repetition += 1;
            in_list = levels.definition;
        }
        path.push(element.name.clone());
        if path.len() > 64 {
            return Err(wrong("a schema nested too deeply"));
        }
        if element.children > 0 {
            open.push((element.children, levels, in_list));
        } else {
            leaves.push(Leaf { path: path.clone(), kind: element.kind, levels, in_list });
            path.pop();
        }
    }
    Ok(leaves)
}

/// A column, read from its first row group to its last.
struct Column {
    file: BufReader<File>,
    chunks: std::vec::IntoIter<(u64, u64, Codec)>,
    left: u64,
    codec: Codec,
    levels: Levels,
    in_list: u32,
    dictionary: Dictionary,
    page: Option<Page>,
    /// What its pages may still unpack to.
    pages: Allowance,
}

impl Column {
    fn open(path: &Path, size: u64, leaf: &Leaf, groups: &[Vec<(Vec<String>, Chunk)>]) -> io::Result<Self> {
        let mut chunks = Vec::new();
        for (k, group) in groups.iter().enumerate() {
            let chunk = group.iter().find(|(path, _)| *path == leaf.path);
            let Some((_, chunk)) = chunk else { return Err(wrong(format!("row group {k} does not have it"))) };
            if chunk.start.checked_add(chunk.len).is_none_or(|end| end > size) {
                let Chunk { start, len, .. } = chunk;
                return Err(wrong(format!("row group {k} has {len} bytes of it at {start}, in a file of {size}")));
            }
            chunks.push((chunk.start, chunk.len, Codec::from_number(chunk.codec)?));
        }
        Ok(Self {
            file: BufReader::new(File::open(path)?),
            chunks: chunks.into_iter(),
            left: 0,
            codec: Codec::None,
            levels: leaf.levels,
            in_list: leaf.in_list,
            dictionary: Dictionary::default(),
            page: None,
            pages: Allowance::new(size),
        })
    }

    fn next(&mut self) -> io::Result<Option<Slot<'_>>> {
        while self.page.as_ref().is_none_or(Page::is_over) {
            let Self { file, left, codec, levels, dictionary, pages, .. } = self;
            self.page = next_page(file, left, *codec, *levels, dictionary, pages)?;
            if self.page.is_none() {
                let Some((start, len, codec)) = self.chunks.next() else { return Ok(None) };
                self.file.seek(SeekFrom::Start(start))?;
                (self.left, self.codec, self.dictionary) = (len, codec, Dictionary::default());
            }
        }
        self.page.as_mut().map(|page| page.next(&self.dictionary)).transpose()
    }
}

type Bad<'a> = &'a dyn Fn(String) -> Error;

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
        allowance.spend((role.len() + content.len() + 1) as u64).map_err(broken)?;
        messages.push(json!({"role": role, "content": content}));
    }
    if row > 0 {
        see(row, Cell::Chat(messages))?;
    }
    Ok(())
}
