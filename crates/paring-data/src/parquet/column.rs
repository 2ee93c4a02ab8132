//! A column from its first row group to its last.

use std::fs::File;
use std::io::{self, BufReader, Seek, SeekFrom};
use std::path::Path;

use super::codec::Codec;
use super::metadata::{Chunk, Leaf};
use super::page::{Coding, Levels, Page, Slot, next_page};
use super::values::Dictionary;
use super::{INT32, INT64, wrong};
use crate::unpack::Allowance;

/// Bytes of a value of a physical type, where all have the same.
fn width(kind: i64) -> Option<usize> {
    match kind {
        INT32 => Some(4),
        INT64 => Some(8),
        _ => None,
    }
}

/// A column, read from its first row group to its last.
pub(super) struct Column {
    file: BufReader<File>,
    chunks: std::vec::IntoIter<(u64, u64, Codec)>,
    left: u64,
    codec: Codec,
    pub levels: Levels,
    /// Bytes of a value, where all have the same.
    width: Option<usize>,
    /// As in its [`Leaf`].
    pub in_list: u32,
    dictionary: Dictionary,
    page: Option<Page>,
    /// Bytes that its pages may still unpack to.
    pages: Allowance,
}

impl Column {
    /// The column `leaf` of a file of `size` bytes.
    pub fn open(path: &Path, size: u64, leaf: &Leaf, groups: &[Vec<Chunk>]) -> io::Result<Self> {
        let mut chunks = Vec::new();
        for (k, group) in groups.iter().enumerate() {
            let is_of_leaf =
                |chunk: &&Chunk| chunk.path.iter().map(String::as_str).eq(leaf.path.iter().map(|name| &**name));
            let Some(chunk) = group.iter().find(is_of_leaf) else {
                return Err(wrong(format!("row group {k} does not have it")));
            };
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
            width: leaf.kind.and_then(width),
            in_list: leaf.in_list,
            dictionary: Dictionary::default(),
            page: None,
            pages: Allowance::new(size),
        })
    }

    /// The next place; `None` after the last row group.
    pub fn next(&mut self) -> io::Result<Option<Slot<'_>>> {
        while self.page.as_ref().is_none_or(Page::is_over) {
            let Self { file, left, codec, levels, width, dictionary, pages, .. } = self;
            let coding = Coding { codec: *codec, levels: *levels, width: *width };
            self.page = next_page(file, left, coding, dictionary, pages)?;
            if self.page.is_none() {
                let Some((start, len, codec)) = self.chunks.next() else { return Ok(None) };
                self.file.seek(SeekFrom::Start(start))?;
                (self.left, self.codec, self.dictionary) = (len, codec, Dictionary::default());
            }
        }
        self.page.as_mut().map(|page| page.next(&self.dictionary)).transpose()
    }
}
