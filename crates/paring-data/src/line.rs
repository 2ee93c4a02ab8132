//! A line of JSON → the one field that is wanted. The others are read past: nothing is allocated for them.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// Bytes of a line that holds messages at most: parsed, they take up to thirty times as much.
const MAX_MESSAGES: usize = 8 << 20;

/// The value of a line's wanted field.
#[derive(Debug, PartialEq)]
pub(super) enum Held {
    Text(String),
    List(Vec<Value>),
    /// Something of this kind.
    Other(&'static str),
    /// Nothing: the object has no such field.
    Absent,
    /// The line is not an object, but something of this kind.
    NoObject(&'static str),
}

/// The value of the line's field of this name, the last one where it has several.
pub(super) fn field(line: &str, name: &str) -> serde_json::Result<Held> {
    let mut json = serde_json::Deserializer::from_str(line);
    let held = Look { name: Some(name), bytes: line.len() }.deserialize(&mut json)?;
    json.end()?;
    Ok(held)
}

/// Of a line (`name` is there) or of the field in it.
#[derive(Clone, Copy)]
struct Look<'a> {
    name: Option<&'a str>,
    /// Bytes of the line.
    bytes: usize,
}

impl Look<'_> {
    fn other<E>(self, kind: &'static str) -> Result<Held, E> {
        Ok(if self.name.is_some() { Held::NoObject(kind) } else { Held::Other(kind) })
    }
}

impl<'de> DeserializeSeed<'de> for Look<'_> {
    type Value = Held;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Held, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Look<'_> {
    type Value = Held;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Held, E> {
        self.other("null")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Held, E> {
        self.other("a truth value")
    }

    fn visit_i64<E>(self, _: i64) -> Result<Held, E> {
        self.other("a number")
    }

    fn visit_u64<E>(self, _: u64) -> Result<Held, E> {
        self.other("a number")
    }

    fn visit_f64<E>(self, _: f64) -> Result<Held, E> {
        self.other("a number")
    }

    fn visit_str<E>(self, text: &str) -> Result<Held, E> {
        if self.name.is_some() { self.other("text") } else { Ok(Held::Text(text.to_owned())) }
    }

    fn visit_string<E>(self, text: String) -> Result<Held, E> {
        if self.name.is_some() { self.other("text") } else { Ok(Held::Text(text)) }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Held, A::Error> {
        if self.name.is_some() {
            while list.next_element::<IgnoredAny>()?.is_some() {}
            return self.other("a list");
        }
        if self.bytes > MAX_MESSAGES {
            let most = MAX_MESSAGES >> 20;
            return Err(A::Error::custom(format_args!("a list in a line of more than {most} MiB")));
        }
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Held::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Held, A::Error> {
        let mut held = Held::Absent;
        while let Some(key) = map.next_key::<Cow<str>>()? {
            if self.name == Some(&*key) {
                held = map.next_value_seed(Look { name: None, ..self })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        if self.name.is_some() { Ok(held) } else { self.other("an object") }
    }
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
            (r#"{"text": null}"#, Held::Other("null")),
            (r#"{"body": "one"}"#, Held::Absent),
            (r#"["text"]"#, Held::NoObject("a list")),
            (r#""text""#, Held::NoObject("text")),
            ("7", Held::NoObject("a number")),
        ] {
            assert_eq!(field(line, "text").unwrap(), expected, "{line}");
        }
        for line in [r#"{"text": "one"} {}"#, r#"{"text": "one""#, r#"{"text": "\x"}"#, "", &"[".repeat(200)] {
            assert!(field(line, "text").is_err(), "{line}");
        }
    }

    /// A list of lists would take twenty times its line.
    #[test]
    fn lists_have_an_end() {
        let line = |items: usize| format!(r#"{{"text": [{}[]]}}"#, "[],".repeat(items));
        assert!(matches!(field(&line(1000), "text"), Ok(Held::List(items)) if items.len() == 1001));
        let error = field(&line(MAX_MESSAGES / 3), "text").unwrap_err().to_string();
        assert!(error.contains("a list in a line of more than 8 MiB"), "{error}");
        // One that is not wanted does not matter.
        assert_eq!(field(&line(MAX_MESSAGES / 3), "body").unwrap(), Held::Absent);
    }
}
