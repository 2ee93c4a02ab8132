//! Files of texts that are held whole: predictions and references, to compare them line by line.

use std::path::Path;

use crate::error::option;
use crate::json::Wrong;
use crate::line::{self, Held};
use crate::unpack::{Packing, Unpacked};
use crate::{Error, Result, encoding};

/// Bytes of texts in a file at most.
const MOST_BYTES: usize = 1 << 30;

/// Endings of files with an object a line.
const OBJECTS: [(&str, Packing); 3] =
    [(".jsonl", Packing::None), (".jsonl.gz", Packing::Gzip), (".jsonl.zst", Packing::Zstd)];
/// Endings of files that hold texts in other forms, which are not read.
const OTHERS: [&str; 9] = [".json", ".json.gz", ".json.zst", ".parquet", ".csv", ".tsv", ".safetensors", ".gz", ".zst"];

/// Fields that predictions and references usually have, from the first that is looked for.
const PREDICTIONS: [&str; 6] = ["text", "prediction", "generated", "summary", "answer", "highlights"];
const REFERENCES: [&str; 7] = ["text", "reference", "references", "highlights", "target", "summary", "answer"];

/// Texts of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Texts<T> {
    /// Those of each line, in their order. Blank lines of a plain text are texts of no words; those of JSON are left out.
    pub texts: Vec<T>,
    /// The field that they were in; `None` in a plain text.
    pub field: Option<String>,
}

/// The texts of a file with a text a line, or with an object a line (`.jsonl`, also `.gz` and `.zst`) that has it in a field: the
/// one of this name, or else the first of the usual names that the first object has.
///
/// # Errors
/// When the file cannot be read, is empty, of another kind or not UTF-8, has a line of more than 64 MiB or more than 1 GiB of
/// text, and on a line that is no JSON or has no text in the field.
pub fn predictions(path: &Path, field: Option<&str>) -> Result<Texts<String>> {
    let mut reader = Reader { path, usual: &PREDICTIONS, option: option::FIELD, several: false, bytes: 0 };
    let Texts { texts, field } = reader.read(field)?;
    Ok(Texts { texts: texts.into_iter().flatten().collect(), field })
}

/// The same of references: a field may hold a list of several texts.
///
/// # Errors
/// As [`predictions`], and on an empty list.
pub fn references(path: &Path, field: Option<&str>) -> Result<Texts<Vec<String>>> {
    Reader { path, usual: &REFERENCES, option: option::REFERENCE_FIELD, several: true, bytes: 0 }.read(field)
}

struct Reader<'a> {
    path: &'a Path,
    usual: &'a [&'a str],
    /// The option that names another field.
    option: &'static str,
    /// True if a line may hold a list.
    several: bool,
    /// Bytes of the texts so far.
    bytes: usize,
}

impl Reader<'_> {
    fn bad(&self, line: usize, reason: impl std::fmt::Display) -> Error {
        Error::data(self.path.display().to_string(), format!("line {line}: {reason}"))
    }

    fn read(&mut self, field: Option<&str>) -> Result<Texts<Vec<String>>> {
        let name = self.path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
        let ends = |end: &str| name.ends_with(end);
        let objects = OBJECTS.iter().find(|(end, _)| ends(end));
        if objects.is_none() && OTHERS.into_iter().any(ends) {
            let reason = "expected a text file with a text a line, or .jsonl with an object a line (also .gz or .zst)";
            return Err(Error::data(self.path.display().to_string(), reason));
        }
        let packing = objects.map_or(Packing::None, |(_, packing)| *packing);
        let mut field = field.filter(|_| objects.is_some()).map(String::from);
        let mut texts = Vec::new();
        Unpacked::open(self.path, packing)?.without_mark()?.each_line(&mut |number, line| {
            let line = std::str::from_utf8(line).map_err(|_| self.bad(number, encoding::not_utf8(line)))?;
            let of_line = match objects {
                None => vec![line.strip_suffix('\r').unwrap_or(line).to_owned()],
                Some(_) if line.trim_ascii().is_empty() => return Ok(true),
                Some(_) => {
                    let held = self.held(number, line, &mut field)?;
                    self.texts(number, held, field.as_deref().unwrap_or_default())?
                }
            };
            self.bytes = of_line.iter().fold(self.bytes, |sum, text| sum.saturating_add(text.len()));
            if self.bytes > MOST_BYTES {
                let most = MOST_BYTES >> 30;
                return Err(self.bad(number, format!("more than {most} GiB of text up to here; split the file")));
            }
            texts.push(of_line);
            Ok(true)
        })?;
        match texts.is_empty() {
            true => Err(Error::data(self.path.display().to_string(), "no texts in it; expected one a line")),
            false => Ok(Texts { texts, field }),
        }
    }

    /// The content of a line's field, which is chosen if it is not known.
    fn held(&self, number: usize, line: &str, field: &mut Option<String>) -> Result<Held> {
        let held = |name: &str| line::field(line, name).map_err(|wrong| self.no_json(number, line, &wrong));
        if let Some(name) = field {
            return held(name);
        }
        for name in self.usual {
            match held(name)? {
                Held::Absent(_) => {}
                there => {
                    *field = Some((*name).to_owned());
                    return Ok(there);
                }
            }
        }
        held(self.usual.first().copied().unwrap_or_default())
    }

    fn texts(&self, number: usize, held: Held, field: &str) -> Result<Vec<String>> {
        let expected = if self.several { "text or a list of texts" } else { "text" };
        let holds = |what: &str| self.bad(number, format!("field {field:?} holds {what}, expected {expected}"));
        match held {
            Held::Text(text) => Ok(vec![text]),
            Held::List(_) if !self.several => Err(holds("a list")),
            Held::List(list) if list.is_empty() => Err(holds("an empty list")),
            Held::List(list) => {
                let texts = list.into_iter().map(|value| match value {
                    serde_json::Value::String(text) => Ok(text),
                    _ => Err(holds("a list with something else")),
                });
                texts.collect()
            }
            Held::Null => Err(holds("null")),
            Held::Other(what) => Err(holds(what)),
            Held::NoObject(what) => Err(self.bad(number, format!("{what}, expected an object"))),
            Held::Absent(names) => {
                let wanted = match field {
                    "" => format!("field {}", self.usual.join(" or ")),
                    field => format!("field {field:?}"),
                };
                let lacks = line::lacks(wanted, &names);
                Err(self.bad(number, format!("{lacks}; name another with ")).then_option(self.option))
            }
        }
    }

    /// The error that a line is no JSON.
    fn no_json(&self, number: usize, line: &str, Wrong { at, reason }: &Wrong) -> Error {
        self.bad(number, format!("not JSON: {reason} (column {})", line[..*at].chars().count() + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, content: impl AsRef<[u8]>) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        (dir, path)
    }

    fn predicted(name: &str, content: &[u8], field: Option<&str>) -> Result<Texts<String>> {
        let (_dir, path) = file(name, content);
        predictions(&path, field)
    }

    fn referred(content: &str, field: Option<&str>) -> Result<Texts<Vec<String>>> {
        let (_dir, path) = file("a.jsonl", content);
        references(&path, field)
    }

    #[test]
    fn lines_of_text() {
        let read = |content: &[u8]| predicted("a.txt", content, Some("ignored")).unwrap();
        assert_eq!(
            read(b"one\r\n\n two\n"),
            Texts { texts: vec!["one".into(), "".into(), " two".into()], field: None }
        );
        assert_eq!(read(b"\xef\xbb\xbfone").texts, ["one"]);
        assert_eq!(read(b"\n").texts, [""]);
    }

    #[test]
    fn objects_and_their_fields() {
        let lines = br#"{"text": "a", "summary": "b"}

{"text": "c", "summary": "d\ne"}"#;
        let of = |field| predicted("a.JSONL", lines, field).unwrap();
        assert_eq!(of(None), Texts { texts: vec!["a".into(), "c".into()], field: Some("text".into()) });
        assert_eq!(of(Some("summary")).texts, ["b", "d\ne"]);
        let several = referred("{\"references\": [\"a\", \"b\"]}\n{\"references\": \"c\"}", None).unwrap();
        assert_eq!(several.texts, [vec!["a".to_string(), "b".into()], vec!["c".into()]]);
    }

    #[test]
    fn what_is_wrong_has_a_line() {
        let error = |name: &str, content: &[u8]| predicted(name, content, None).unwrap_err().message().to_string();
        for (name, content, words) in [
            ("a.txt", &b""[..], "a.txt: no texts in it"),
            ("a.jsonl", b"\n \n", "a.jsonl: no texts in it"),
            ("a.txt", b"one\ncaf\xe9s", "a.txt: line 2: not UTF-8 at byte 4: it looks like Latin-1"),
            ("a.csv", b"one", "a.csv: expected a text file with a text a line, or .jsonl"),
            (
                "a.jsonl",
                b"{\"text\": \"a\"}\n{\"texts\": 1}",
                "line 2: no field \"text\" (it has: texts); name another with field",
            ),
            (
                "a.jsonl",
                b"{\"body\": 1}",
                "line 1: no field text or prediction or generated or summary or answer or highlights (it has: body)",
            ),
            ("a.jsonl", b"{\"text\": [\"a\"]}", "line 1: field \"text\" holds a list, expected text"),
            ("a.jsonl", b"{\"text\": null}", "field \"text\" holds null, expected text"),
            ("a.jsonl", b"[1]", "line 1: a list, expected an object"),
            ("a.jsonl", b"{'text': 1}", "line 1: not JSON: single quotes"),
        ] {
            let error = error(name, content);
            assert!(error.contains(words), "{error}");
        }
        for (content, words) in [
            ("{\"references\": []}", "holds an empty list, expected text or a list of texts"),
            ("{\"references\": [\"a\", 1]}", "holds a list with something else"),
            ("{\"a\": 1}", "name another with reference-field"),
        ] {
            let error = referred(content, None).unwrap_err().message().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
