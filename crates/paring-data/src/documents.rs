//! Files of documents: JSON lines, plain lines and Parquet, read from their start as often as they are needed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use crate::elements::{self, Element, Form};
use crate::error::option;
use crate::json::Wrong;
use crate::line::{self, Held};
use crate::parquet::{self, Cell};
use crate::unpack::{Packing, Unpacked};
use crate::{Error, Result, encoding};

/// Names of files that hold documents end in one of these.
const ENDINGS: [(&str, FileFormat); 7] = [
    (".jsonl", FileFormat::Json(Packing::None)),
    (".json", FileFormat::Json(Packing::None)),
    (".jsonl.gz", FileFormat::Json(Packing::Gzip)),
    (".json.gz", FileFormat::Json(Packing::Gzip)),
    (".jsonl.zst", FileFormat::Json(Packing::Zstd)),
    (".json.zst", FileFormat::Json(Packing::Zstd)),
    (".parquet", FileFormat::Parquet),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileFormat {
    /// An object a line, or another [`Form`].
    Json(Packing),
    /// A text a line, without the spaces around it.
    Lines,
    /// A text a line, with its end; blank lines are empty texts. So wikitext's own script cuts its files.
    WholeLines,
    Parquet,
}

/// A file of documents. Nothing of it is held: each use reads it anew.
#[derive(Debug)]
pub struct Documents {
    path: PathBuf,
    field: String,
    format: FileFormat,
    /// Of JSON, once it is known.
    form: OnceLock<Form>,
    /// Documents without text that were left out.
    left_out: AtomicUsize,
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
    Element(Element<'a>),
    Cell(Cell<'a>),
}

impl Raw<'_> {
    /// Bytes it takes, about.
    fn len(&self) -> usize {
        match self {
            Raw::Line(bytes) | Raw::Element(Element { bytes, .. }) | Raw::Cell(Cell::Text(bytes)) => bytes.len(),
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
        Some(Self::new(path, field, *format))
    }

    /// The lines of a text file.
    pub(super) fn lines(path: &Path) -> Self {
        Self::new(path, "", FileFormat::Lines)
    }

    /// The lines of a file of wikitext, as the rows of its Parquet files have them.
    pub(super) fn whole_lines(path: &Path) -> Self {
        Self::new(path, "", FileFormat::WholeLines)
    }

    fn new(path: &Path, field: &str, format: FileFormat) -> Self {
        let (form, left_out) = (OnceLock::new(), AtomicUsize::new(0));
        Self { path: path.to_path_buf(), field: field.to_owned(), format, form, left_out }
    }

    /// Documents without text that were left out of those read last.
    pub(super) fn left_out(&self) -> usize {
        self.left_out.load(Ordering::Relaxed)
    }

    /// Things to know about the documents that were read last.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(Form::Field(list)) = self.form.get() {
            notes.push(format!("one object: the documents are read from its list {list}"));
        }
        if self.format == FileFormat::Parquet {
            let unread = parquet::unread(&self.path, &self.field);
            if !unread.is_empty() {
                let (field, names) = (&self.field, unread.join(", "));
                notes.push(format!("only texts of the messages in {field:?} are read, not {names}"));
            }
        }
        match self.left_out.load(Ordering::Relaxed) {
            0 => {}
            1 => notes.push(format!("1 document has null for {:?} and is left out", self.field)),
            many => notes.push(format!("{many} documents have null for {:?} and are left out", self.field)),
        }
        notes
    }

    /// The place of the document of a number, for messages.
    pub(super) fn place(&self, number: usize) -> String {
        let what = match (self.format, self.form.get()) {
            (FileFormat::Parquet, _) => "row",
            (_, None | Some(Form::Lines)) => "line",
            _ => "document",
        };
        format!("{what} {number}")
    }

    /// An error about the document of a number.
    pub(super) fn bad(&self, number: usize, reason: impl std::fmt::Display) -> Error {
        Error::data(self.path.display().to_string(), format!("{}: {reason}", self.place(number)))
    }

    /// True where the file is Parquet.
    pub(super) fn is_parquet(&self) -> bool {
        self.format == FileFormat::Parquet
    }

    /// Shows the text of each document, of a file that is not Parquet, to `see`: the number of its line or place, the line that
    /// it begins in, 0 for a line of its own, and what it is.
    pub(super) fn each_text(&self, see: &mut dyn FnMut(usize, usize, &str) -> Result<bool>) -> Result<()> {
        self.each_raw(&mut |number, raw| {
            let (begin, bytes) = match raw {
                Raw::Line(bytes) | Raw::Cell(Cell::Text(bytes)) => (0, bytes),
                Raw::Element(element) => (element.line, element.bytes),
                Raw::Cell(_) => return Ok(true),
            };
            let text = std::str::from_utf8(bytes).map_err(|_| self.bad(number, encoding::not_utf8(bytes)))?;
            see(number, begin, text)
        })
    }

    fn each_raw(&self, see: &mut dyn FnMut(usize, Raw<'_>) -> Result<bool>) -> Result<()> {
        match self.format {
            FileFormat::Parquet => {
                parquet::each_row(&self.path, &self.field, &mut |row, cell| see(row, Raw::Cell(cell)))
            }
            FileFormat::Json(packing) => match self.form(packing)? {
                Form::Lines => Unpacked::open(&self.path, packing)?.without_mark()?.each_line(&mut |number, line| {
                    if line.trim_ascii().is_empty() { Ok(true) } else { see(number, Raw::Line(line)) }
                }),
                form => {
                    elements::each(&self.path, packing, form, &mut |element| see(element.number, Raw::Element(element)))
                }
            },
            FileFormat::Lines | FileFormat::WholeLines => {
                Unpacked::open(&self.path, Packing::None)?.each_line(&mut |number, line| see(number, Raw::Line(line)))
            }
        }
    }

    fn form(&self, packing: Packing) -> Result<&Form> {
        match self.form.get() {
            Some(form) => Ok(form),
            None => {
                let form = elements::form(&self.path, packing, &self.field)?;
                Ok(self.form.get_or_init(|| form))
            }
        }
    }

    /// Shows each document that has text, with the number of its line or row, to `see`, until that returns `false`.
    pub(super) fn each(&self, see: &mut dyn FnMut(usize, Document) -> Result<bool>) -> Result<()> {
        self.left_out.store(0, Ordering::Relaxed);
        self.each_raw(&mut |number, raw| match self.parse(number, raw)? {
            Some(document) => see(number, document),
            None => Ok(true),
        })
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

    /// The documents of some indices, counted from 0, with the numbers of their lines or rows. One without text counts as
    /// one of no letters: it has its place among the indices, and is too short for any window.
    pub(super) fn pick(&self, wanted: &BTreeSet<usize>) -> Result<BTreeMap<usize, (usize, Document)>> {
        let mut picked = BTreeMap::new();
        let mut index = 0;
        self.each_raw(&mut |number, raw| {
            if wanted.contains(&index) {
                let document = self.parse(number, raw)?.unwrap_or_else(|| Document::Text(String::new()));
                picked.insert(index, (number, document));
            }
            index += 1;
            Ok(picked.len() < wanted.len())
        })?;
        Ok(picked)
    }

    /// The document, `None` where it has null for text.
    fn parse(&self, number: usize, raw: Raw<'_>) -> Result<Option<Document>> {
        let utf8 = |bytes| std::str::from_utf8(bytes).map_err(|_| self.bad(number, encoding::not_utf8(bytes)));
        let held = match raw {
            Raw::Line(line) if self.format == FileFormat::Lines => Held::Text(utf8(line)?.trim().to_owned()),
            Raw::Line(line) if self.format == FileFormat::WholeLines => {
                let line = utf8(line.strip_suffix(b"\r").unwrap_or(line))?;
                Held::Text(if line.trim().is_empty() { String::new() } else { format!("{line}\n") })
            }
            Raw::Line(bytes) | Raw::Element(Element { bytes, .. }) => {
                let begin = if let Raw::Element(element) = &raw { element.line } else { 0 };
                let text = utf8(bytes)?;
                line::field(text, &self.field).map_err(|wrong| self.no_json(number, begin, text, &wrong))?
            }
            Raw::Cell(Cell::Text(text)) => Held::Text(utf8(text)?.to_owned()),
            Raw::Cell(Cell::Chat(messages)) => Held::List(messages),
            Raw::Cell(Cell::Null) => Held::Null,
        };
        self.held(number, held)
    }

    /// The error that a text is no JSON, which begins in the line `begin` of the file, 0 for a line of its own.
    pub(super) fn no_json(&self, number: usize, begin: usize, text: &str, Wrong { at, reason }: &Wrong) -> Error {
        let place = match begin {
            0 => format!("column {}", text[..*at].chars().count() + 1),
            _ => format!("line {}", begin + text[..*at].matches('\n').count()),
        };
        self.bad(number, format!("not JSON: {reason} ({place})"))
    }

    fn held(&self, number: usize, held: Held) -> Result<Option<Document>> {
        let field = &self.field;
        match held {
            Held::Text(text) => Ok(Some(Document::Text(text))),
            Held::List(messages) => self.chat(number, messages).map(Some),
            Held::Null => {
                self.left_out.fetch_add(1, Ordering::Relaxed);
                Ok(None)
            }
            Held::Other(what) => {
                Err(self.bad(number, format!("field {field:?} holds {what}, expected text or a list of messages")))
            }
            Held::NoObject(what) => Err(self.bad(number, format!("{what}, expected an object"))),
            Held::Absent(names) => {
                let lacks = line::lacks(format_args!("field {field:?}"), &names);
                let absent = self.bad(number, format!("{lacks}; name another with "));
                Err(absent.then_option(option::TEXT_FIELD))
            }
        }
    }

    fn chat(&self, number: usize, messages: Vec<Value>) -> Result<Document> {
        let field = &self.field;
        if messages.is_empty() {
            return Err(
                self.bad(number, format!("field {field:?} is an empty list, expected messages; remove the line"))
            );
        }
        // What a message holds is the template's business.
        if let Some(k) = messages.iter().position(|message| !message.is_object()) {
            return Err(self.bad(
                number,
                format!(
                    "field {field:?}: message {} is not an object, expected {{\"role\": …, \"content\": …}}",
                    k + 1
                ),
            ));
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
