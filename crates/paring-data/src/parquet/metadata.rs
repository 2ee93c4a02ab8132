//! The metadata at a file's end: its schema, and where the parts of a column lie.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::rc::Rc;

use super::page::Levels;
use super::thrift::Thrift;
use super::wrong;

const MAGIC: &[u8; 4] = b"PAR1";
/// Elements of a schema at most; wide tables have thousands.
const MAX_ELEMENTS: usize = 20_000;

/// A node of the schema.
struct Element {
    name: Rc<str>,
    /// The physical type, of a column.
    kind: Option<i64>,
    repetition: i64,
    children: i64,
}

/// A column without columns inside.
pub(super) struct Leaf {
    /// Names are shared: a schema can put thousands of columns below one name of a megabyte.
    pub path: Vec<Rc<str>>,
    /// The physical type.
    pub kind: Option<i64>,
    pub levels: Levels,
    /// The definition from which on a list around it has an element.
    pub in_list: u32,
    /// The place in the path of the first list around it.
    pub list_at: Option<usize>,
}

impl Leaf {
    /// The last name of the path.
    pub fn last_name(&self) -> &str {
        self.path.last().map_or("", |name| name)
    }

    /// The path as it is shown.
    pub fn name(&self) -> String {
        self.path.join(".")
    }
}

/// A row group's part of a column.
pub(super) struct Chunk {
    pub path: Vec<String>,
    /// Of its bytes, in the file.
    pub start: u64,
    pub len: u64,
    pub codec: i64,
}

pub(super) struct Metadata {
    pub leaves: Vec<Leaf>,
    /// Of each row group, the parts of the columns that were asked for.
    pub groups: Vec<Vec<Chunk>>,
}

impl Metadata {
    /// The metadata of a file of `size` bytes, with the chunks of the columns `fields` and of those inside them.
    pub fn read(file: &mut File, size: u64, fields: &[&str]) -> io::Result<Self> {
        let footer = footer_length(file, size)?;
        file.seek(SeekFrom::Start(size - 8 - footer))?;
        let (mut elements, mut groups) = (Vec::new(), Vec::new());
        let mut thrift = Thrift::new(BufReader::new(file), footer);
        thrift.fields(|t, id, wire| match id {
            2 => t.list(|t, _| {
                if elements.len() == MAX_ELEMENTS {
                    return Err(wrong(format!("a schema of more than {MAX_ELEMENTS} elements")));
                }
                elements.push(Element::read(t)?);
                Ok(())
            }),
            4 => t.list(|t, _| {
                groups.push(row_group(t, fields)?);
                Ok(())
            }),
            _ => t.skip(wire),
        })?;
        Ok(Metadata { leaves: leaves(&elements)?, groups })
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

impl Element {
    fn read<R: Read>(thrift: &mut Thrift<R>) -> io::Result<Self> {
        let mut element = Element { name: "".into(), kind: None, repetition: 0, children: 0 };
        thrift.fields(|t, id, wire| {
            match id {
                1 => element.kind = Some(t.int()?),
                3 => element.repetition = t.int()?,
                4 => element.name = t.string()?.into(),
                5 => element.children = t.int()?,
                _ => t.skip(wire)?,
            }
            Ok(())
        })?;
        Ok(element)
    }
}

/// A row group's chunks of the columns `fields` and of those inside them.
fn row_group<R: Read>(thrift: &mut Thrift<R>, fields: &[&str]) -> io::Result<Vec<Chunk>> {
    let mut chunks = Vec::new();
    thrift.fields(|t, id, wire| match id {
        1 => t.list(|t, _| {
            let is_wanted = |chunk: &Chunk| chunk.path.first().is_some_and(|name| fields.contains(&name.as_str()));
            chunks.extend(Chunk::read(t)?.filter(is_wanted));
            Ok(())
        }),
        _ => t.skip(wire),
    })?;
    Ok(chunks)
}

impl Chunk {
    /// `None` where a column has no metadata of its own.
    fn read<R: Read>(thrift: &mut Thrift<R>) -> io::Result<Option<Self>> {
        let (mut path, mut codec, mut len, mut starts, mut elsewhere) = (Vec::new(), 0, 0, [0; 2], false);
        thrift.fields(|t, id, wire| match id {
            1 => {
                elsewhere = true;
                t.skip(wire)
            }
            3 => t.fields(|t, id, wire| {
                match id {
                    3 => t.list(|t, _| {
                        path.push(t.string()?);
                        Ok(())
                    })?,
                    4 => codec = t.int()?,
                    7 => len = t.int()?,
                    9 => starts[0] = t.int()?,
                    11 => starts[1] = t.int()?,
                    _ => t.skip(wire)?,
                }
                Ok(())
            }),
            _ => t.skip(wire),
        })?;
        if elsewhere {
            return Err(wrong("its columns are in other files"));
        }
        if path.is_empty() {
            return Ok(None);
        }
        // The dictionary, where there is one, comes first; a column of no rows may have nothing else.
        let start = starts.into_iter().filter(|&start| start != 0).min().unwrap_or(0);
        let (Ok(start), Ok(len)) = (u64::try_from(start), u64::try_from(len)) else {
            return Err(wrong("a column at a negative place"));
        };
        Ok(Some(Chunk { path, start, len, codec }))
    }
}

/// The columns of a schema, which lists a tree from its root, each element before its children.
fn leaves(elements: &[Element]) -> io::Result<Vec<Leaf>> {
    let Some((root, rest)) = elements.split_first() else { return Err(wrong("no schema")) };
    let mut leaves = Vec::new();
    // Of each open element: children to come, its levels, and the lists around it.
    let mut open = vec![(root.children, Levels::default(), 0, None)];
    let mut path: Vec<Rc<str>> = Vec::new();
    for element in rest {
        while open.last().is_some_and(|(children, ..)| *children <= 0) {
            open.pop();
            path.pop();
        }
        let Some((children, levels, in_list, list_at)) = open.last_mut() else {
            return Err(wrong("a schema that is not a tree"));
        };
        *children -= 1;
        let (mut levels, mut in_list, mut list_at) = (*levels, *in_list, *list_at);
        levels.definition += u32::from(element.repetition > 0);
        if element.repetition == 2 {
            levels.repetition += 1;
            in_list = levels.definition;
            list_at = list_at.or(Some(path.len()));
        }
        path.push(element.name.clone());
        if path.len() > 64 {
            return Err(wrong("a schema nested too deeply"));
        }
        if element.children > 0 {
            open.push((element.children, levels, in_list, list_at));
        } else {
            leaves.push(Leaf { path: path.clone(), kind: element.kind, levels, in_list, list_at });
            path.pop();
        }
    }
    Ok(leaves)
}
