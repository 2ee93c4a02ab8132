//! A text of JSON → the one field that is wanted. The others are walked past: nothing is allocated for them.

use std::fmt::Display;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::json::{Kind, Scanner, Wrong, is_named};

/// Bytes of a text that holds messages at most: parsed, they take up to thirty times as much.
const MAX_MESSAGES: usize = 8 << 20;

/// Names of other fields in a message at most.
pub(super) const MAX_NAMES: usize = 8;

/// The value of the wanted field.
#[derive(Debug, PartialEq)]
pub(super) enum Held {
    Text(String),
    List(Vec<Value>),
    Null,
    /// Something of this kind.
    Other(&'static str),
    /// Nothing: the object has no such field, but others, of which these are some.
    Absent(Vec<String>),
    /// The text is not an object, but something of this kind.
    NoObject(&'static str),
}

/// The value of the field of this name, the last one where an object has several.
pub(super) fn field(text: &str, name: &str) -> Result<Held, Wrong> {
    let mut scanner = Scanner::new(text);
    let mut found = None;
    if scanner.peek() != Some(b'{') {
        let kind = scanner.value(0)?;
        scanner.end()?;
        return Ok(Held::NoObject(kind.name()));
    }
    scanner.object(0, &mut |scanner, key| {
        scanner.peek();
        let start = scanner.at();
        let kind = scanner.value(1)?;
        if is_named(key, name) {
            found = Some((kind, start, scanner.at(), scanner.non_finite_from(start)));
        }
        Ok(())
    })?;
    scanner.end()?;
    let Some((kind, start, end, non_finite)) = found else { return Ok(Held::Absent(names(text))) };
    let value = &text[start..end];
    match kind {
        Kind::Text => parsed(value, start).map(Held::Text),
        Kind::List if text.len() > MAX_MESSAGES => {
            let most = MAX_MESSAGES >> 20;
            Err(Wrong { at: start, reason: format!("a list in a line of more than {most} MiB") })
        }
        Kind::List => match non_finite {
            Some((at, number)) => Err(Wrong { at, reason: format!("{number} in field {name:?}, which is not JSON") }),
            None => parsed(value, start).map(Held::List),
        },
        Kind::Null => Ok(Held::Null),
        other => Ok(Held::Other(other.name())),
    }
}

/// The fields of an object, each the last one of its name where there are several.
pub(super) enum Fields {
    /// Their values, as far as it has them.
    Values(Vec<Option<Value>>),
    /// The text is not an object, but something of this kind.
    NoObject(&'static str),
}

/// The values of the fields of these names. Others are walked past.
pub(super) fn fields(text: &str, wanted: &[&str]) -> Result<Fields, Wrong> {
    let mut scanner = Scanner::new(text);
    let mut found = vec![None; wanted.len()];
    if scanner.peek() != Some(b'{') {
        let kind = scanner.value(0)?;
        scanner.end()?;
        return Ok(Fields::NoObject(kind.name()));
    }
    scanner.object(0, &mut |scanner, key| {
        scanner.peek();
        let start = scanner.at();
        scanner.value(1)?;
        if let Some(number) = wanted.iter().position(|name| is_named(key, name)) {
            found[number] = Some((start, scanner.at(), scanner.non_finite_from(start)));
        }
        Ok(())
    })?;
    scanner.end()?;
    if text.len() > MAX_MESSAGES && found.iter().any(Option::is_some) {
        let most = MAX_MESSAGES >> 20;
        return Err(Wrong { at: 0, reason: format!("a document of more than {most} MiB") });
    }
    let mut values = Vec::with_capacity(wanted.len());
    for (name, found) in wanted.iter().zip(found) {
        values.push(match found {
            None => None,
            Some((_, _, Some((at, number)))) => {
                return Err(Wrong { at, reason: format!("{number} in field {name:?}, which is not JSON") });
            }
            Some((start, end, None)) => Some(parsed(&text[start..end], start)?),
        });
    }
    Ok(Fields::Values(values))
}

/// A value that was walked through: only an escape of half a character can still be wrong with it.
fn parsed<T: DeserializeOwned>(value: &str, start: usize) -> Result<T, Wrong> {
    let reason = "half a character: an escape such as \\ud83d without its other half";
    serde_json::from_str(value).map_err(|_| Wrong { at: start, reason: reason.into() })
}

/// Names of the fields of an object that was walked through, as many as a message takes.
pub(super) fn names(text: &str) -> Vec<String> {
    let (mut scanner, mut names) = (Scanner::new(text), Vec::new());
    scanner.peek();
    let end = scanner.object(0, &mut |scanner, key| {
        scanner.value(1)?;
        if names.len() < MAX_NAMES {
            // As it is written: escaped, and of one line.
            names.push(key.trim_matches('"').chars().take(80).collect());
        }
        Ok(())
    });
    debug_assert!(end.is_ok());
    names
}

/// The words for an object or a file that lacks what is `wanted`, with names of what it has.
pub(super) fn lacks(wanted: impl Display, names: &[impl AsRef<str>]) -> String {
    let there: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    let there = if there.is_empty() { String::new() } else { format!(" (it has: {})", there.join(", ")) };
    format!("no {wanted}{there}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        let text = |text: &str| Held::Text(text.into());
        for (line, expected) in [
            (r#"{"a": [1, {"text": 2}], "text": "one", "b": null}"#, text("one")),
            (r#"{"text": "\u0061\n"}"#, text("a\n")),
            (r#"{"\u0074ext": "one"}"#, text("one")),
            // As Python's json does.
            (r#"{"text": "one", "text": "two"}"#, text("two")),
            (r#"{"text": [{"a": "b"}, 3]}"#, Held::List(vec![serde_json::json!({"a": "b"}), 3.into()])),
            (r#"{"text": {"text": "one"}}"#, Held::Other("an object")),
            (r#"{"text": -1}"#, Held::Other("a number")),
            (r#"{"text": 1e3}"#, Held::Other("a number")),
            (r#"{"text": true}"#, Held::Other("a truth value")),
            (r#"{"text": null}"#, Held::Null),
            (r#"{"text": NaN}"#, Held::Other("NaN")),
            (r#"{"a": NaN, "b": [Infinity, -Infinity], "text": "one"}"#, text("one")),
            (r#"{"body": "one", "n": [{"a": 1}]}"#, Held::Absent(vec!["body".into(), "n".into()])),
            ("{}", Held::Absent(Vec::new())),
            (r#"["text"]"#, Held::NoObject("a list")),
            (r#""text""#, Held::NoObject("text")),
            ("7", Held::NoObject("a number")),
        ] {
            assert_eq!(field(line, "text").unwrap(), expected, "{line}");
        }
        for line in [
            r#"{"text": [{"a": NaN}]}"#,
            r#"{"text": "\ud800"}"#,
            r#"{"text": "one"} {}"#,
            r#"{"text": "one""#,
            r#"{"text": "\x"}"#,
            "",
            &"[".repeat(200),
        ] {
            assert!(field(line, "text").is_err(), "{line}");
        }
    }

    /// A list of lists would take twenty times its line.
    #[test]
    fn lists_have_an_end() {
        let line = |items: usize| format!(r#"{{"text": [{}[]]}}"#, "[],".repeat(items));
        assert!(matches!(field(&line(1000), "text"), Ok(Held::List(items)) if items.len() == 1001));
        let error = field(&line(MAX_MESSAGES / 3), "text").unwrap_err().reason;
        assert!(error.contains("a list in a line of more than 8 MiB"), "{error}");
        // One that is not wanted does not matter.
        assert_eq!(field(&line(MAX_MESSAGES / 3), "body").unwrap(), Held::Absent(vec!["text".into()]));
    }
}
