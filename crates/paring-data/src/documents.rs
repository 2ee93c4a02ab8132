//! Files of documents: JSON lines, plain lines and Parquet, read from their start as often as they are needed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::option;
use crate::line::{self, Held};
use crate::parquet::{self, Cell};
use crate::unpack::{self, Packing};
use crate::{Error, Result};

/// Names of files that hold documents end in one of these.
const ENDINGS: [(&str, FileFormat); 6] = [
    (".jsonl", FileFormat::Json(Packing::None)),
    (".jsonl.gz", FileFormat::Json(Packing::Gzip)),
    (".json.gz", FileFormat::Json(Packing::Gzip)),
    (".jsonl.zst", FileFormat::Json(Packing::Zstd)),
    (".json.zst", FileFormat::Json(Packing::Zstd)),
    (".parquet", FileFormat::Parquet),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileFormat {
    /// An object a line.
    Json(Packing),
    /// A text a line, without the spaces around it.
    Lines,
    Parquet,
}

/// A file of documents. Nothing of it is held: each use reads it anew.
#[derive(Clone, Debug)]
pub struct Documents {
    path: PathBuf,
    field: String,
    format: FileFormat,
}

/// The content of a line or row.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Document {
    Text(String),
    /// Messages: objects, mostly with a `role` and a `content`.
    Chat(Vec<Value>),
}

/// A document as it lies in the file.
enum Raw<'a> {
    Line(&'a [u8]),
    Cell(Cell<'a>),
}

impl Raw<'_> {
    /// Bytes it takes, about.
    fn len(&self) -> usize {
        match self {
            Raw::Line(line) | Raw::Cell(Cell::Text(line)) => line.len(),
            Raw::Cell(Cell::Null) => 0,
            Raw::Cell(Cell::Chat(messages)) => {
                let text = |m: &Value| m.get("content").and_then(Value::as_str).map_or(0, str::len);
                messages.iter().map(text).sum()
            }
        }
    }
}

impl Documents {
    /// The documents of a file, in its field or column `field`; `None` when its name has another ending.
    pub(super) fn of(path: &Path, field: &str) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let (_, format) = ENDINGS.iter().find(|(end, _)| name.ends_with(end))?;
        Some(Self { path: path.to_path_buf(), field: field.to_owned(), format: *format })
    }

    /// The lines of a text file.
    pub(super) fn lines(path: &Path) -> Self {
        Self { path: path.to_path_buf(), field: String::new(), format: FileFormat::Lines }
    }

    /// The place of the document of a number, for messages.
    pub(super) fn place(&self, number: usize) -> String {
        let what = if self.format == FileFormat::Parquet { "row" } else { "line" };
        format!("{what} {number}")
    }

    /// An error about the document of a number.
    pub(super) fn bad(&self, number: usize, reason: impl std::fmt::Display) -> Error {
        Error::data(self.path.display().to_string(), format!("{}: {reason}", self.place(number)))
    }

    fn each_raw(&self, see: &mut dyn FnMut(usize, Raw<'_>) -> Result<bool>) -> Result<()> {
        match self.format {
            FileFormat::Parquet => {
                parquet::each_row(&self.path, &self.field, &mut |row, cell| see(row, Raw::Cell(cell)))
            }
            FileFormat::Json(packing) => unpack::each_line(&self.path, packing, &mut |number, line| {
                if line.trim_ascii().is_empty() { Ok(true) } else { see(number, Raw::Line(line)) }
            }),
            FileFormat::Lines => {
                unpack::each_line(&self.path, Packing::None, &mut |number, line| see(number, Raw::Line(line)))
            }
        }
    }

    /// Shows each document, with the number of its line or row, to `see`, until that returns `false`.
    pub(super) fn each(&self, see: &mut dyn FnMut(usize, Document) -> Result<bool>) -> Result<()> {
        self.each_raw(&mut |number, raw| see(number, self.parse(number, raw)?))
    }

    /// Bytes of each document, about, as far as that fits a number; the documents themselves are not looked at.
    pub(super) fn sizes(&self) -> Result<Vec<u32>> {
        let mut sizes = Vec::new();
        self.each_raw(&mut |_, raw| {
            sizes.push(u32::try_from(raw.len()).unwrap_or(u32::MAX));
            Ok(true)
        })?;
        Ok(sizes)
    }

    /// The documents of some indices, counted from 0, with the numbers of their lines or rows.
    pub(super) fn pick(&self, wanted: &BTreeSet<usize>) -> Result<BTreeMap<usize, (usize, Document)>> {
        let mut picked = BTreeMap::new();
        let mut index = 0;
        self.each_raw(&mut |number, raw| {
            if wanted.contains(&index) {
                picked.insert(index, (number, self.parse(number, raw)?));
            }
            index += 1;
            Ok(picked.len() < wanted.len())
        })?;
        Ok(picked)
    }

    fn parse(&self, number: usize, raw: Raw<'_>) -> Result<Document> {
        let field = &self.field;
        let utf8 = |bytes| std::str::from_utf8(bytes).map_err(|e| self.bad(number, format!("not UTF-8: {e}")));
        match raw {
            Raw::Line(line) if self.format == FileFormat::Lines => Ok(Document::Text(utf8(line)?.trim().to_owned())),
            Raw::Line(line) => {
                let held = line::field(utf8(line)?, field).map_err(|e| self.bad(number, format!("not JSON: {e}")))?;
                self.held(number, held)
            }
            Raw::Cell(Cell::Text(text)) => Ok(Document::Text(utf8(text)?.to_owned())),
            Raw::Cell(Cell::Chat(messages)) => self.chat(number, messages),
            Raw::Cell(Cell::Null) => Err(self.bad(number, format!("column {field:?} is null, expected text"))),
        }
    }

    fn held(&self, number: usize, held: Held) -> Result<Document> {
        let field = &self.field;
        match held {
            Held::Text(text) => Ok(Document::Text(text)),
            Held::List(messages) => self.chat(number, messages),
            Held::Other(what) => {
                Err(self.bad(number, format!("field {field:?} holds {what}, expected text or a list of messages")))
            }
            Held::NoObject(what) => Err(self.bad(number, format!("{what}, expected an object"))),
            Held::Absent => {
                let absent = self.bad(number, format!("no field {field:?}; name another with "));
                Err(absent.then_option(option::TEXT_FIELD))
            }
        }
    }

    fn chat(&self, number: usize, messages: Vec<Value>) -> Result<Document> {
        let field = &self.field;
        if messages.is_empty() {
            return Err(self.bad(number, format!("field {field:?} is an empty list, expected messages")));
        }
        // What a message holds is the template's business.
        if let Some(k) = messages.iter().position(|message| !message.is_object()) {
            return Err(self.bad(number, format!("field {field:?}: message {} is not an object", k + 1)));
        }
        Ok(Document::Chat(messages))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, content: &str) -> (tempfile::TempDir, Documents) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        let documents = Documents::of(&path, "text").unwrap_or_else(|| Documents::lines(&path));
        (dir, documents)
    }

    fn text(text: &str) -> Document {
        Document::Text(text.into())
    }

    #[test]
    fn json_lines_are_counted_and_picked_without_the_blank_ones() {
        let (_dir, documents) = file("a.jsonl", "{\"text\": \"one\"}\n\n  \n{\"text\": \"\"}\n{\"text\": \"three\"}");
        assert_eq!(documents.sizes().unwrap(), [15, 12, 17]);
        let picked = documents.pick(&BTreeSet::from([1, 2])).unwrap();
        assert_eq!(picked, BTreeMap::from([(1, (4, text(""))), (2, (5, text("three")))]));
        let mut seen = Vec::new();
        let see = &mut |number, document| {
            seen.push((number, document));
            Ok(seen.len() < 2)
        };
        documents.each(see).unwrap();
        assert_eq!(seen, [(1, text("one")), (4, text(""))]);
    }

    /// A faulty document that is not wanted does not matter, as it does not to the published codes.
    #[test]
    fn only_wanted_documents_are_parsed() {
        let (_dir, documents) = file("a.jsonl", "noise\n{\"text\": \"two\"}\n");
        assert_eq!(documents.pick(&BTreeSet::from([1])).unwrap()[&1].1, text("two"));
        let error = documents.pick(&BTreeSet::from([0, 1])).unwrap_err().to_string();
        assert!(error.contains("a.jsonl: line 1: not JSON"), "{error}");
    }

    #[test]
    fn plain_lines_keep_their_number_and_lose_the_spaces_around() {
        let (_dir, documents) = file("ptb.train.txt", " one two \n\n three \n");
        let picked = documents.pick(&BTreeSet::from([0, 1, 2])).unwrap();
        assert_eq!(picked, BTreeMap::from([(0, (1, text("one two"))), (1, (2, text(""))), (2, (3, text("three")))]));
    }
}
