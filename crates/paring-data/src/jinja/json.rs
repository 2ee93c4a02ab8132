//! `tojson`: what Python's `json.dumps` writes.

use std::rc::Rc;

use super::fault::{Made, Meter, fault};
use super::given::{Given, is_true};
use super::text::Text;
use super::value::{Value, float_text};

/// The options of `json.dumps` that templates may give.
struct Format {
    /// The text that moves a level in; `None` for one line.
    indent: Option<String>,
    between: Rc<str>,
    after_key: Rc<str>,
    ascii: bool,
    sorted: bool,
}

/// Levels of indentation in spaces at most.
const WIDEST: i128 = 1000;

/// The filter, with the options as transformers has them.
pub(super) fn to_json(value: &Value, given: &Given, meter: &Meter) -> Made<Value> {
    let names = ["ensure_ascii", "indent", "separators", "sort_keys"];
    let [ascii, indent, separators, sorted] = given.bind("tojson", names)?;
    let indent = match indent {
        None | Some(Value::None) => None,
        Some(Value::Text(text)) => Some(text.to_string()),
        Some(other) => match other.whole() {
            Some(width) if width <= WIDEST => Some(" ".repeat(usize::try_from(width).unwrap_or(0))),
            Some(width) => return fault(format!("tojson: indent={width}, expected at most {WIDEST}")),
            None => return fault(format!("tojson: indent is a {}", other.kind())),
        },
    };
    let (between, after_key) = match separators {
        None | Some(Value::None) => (if indent.is_some() { "," } else { ", " }.into(), ": ".into()),
        Some(Value::List(pair) | Value::Tuple(pair)) => match &pair.items[..] {
            [Value::Text(between), Value::Text(after)] => (between.clone(), after.clone()),
            _ => return fault("tojson: separators are not two texts"),
        },
        Some(_) => return fault("tojson: separators are not two texts"),
    };
    let format = Format { indent, between, after_key, ascii: is_true(ascii), sorted: is_true(sorted) };
    let mut out = Text::new(meter);
    format.write(value, 0, &mut out, meter)?;
    Ok(Value::Text(out.shared()))
}

impl Format {
    fn write(&self, value: &Value, level: usize, out: &mut Text<'_>, meter: &Meter) -> Made<()> {
        meter.steps(1)?;
        match value {
            Value::None => out.push("null"),
            Value::Bool(is) => out.push(if *is { "true" } else { "false" }),
            Value::Int(number) => out.push(&number.to_string()),
            Value::Float(number) => out.push(&float(*number)),
            Value::Text(text) => self.text(text, out),
            Value::List(list) | Value::Tuple(list) => {
                let items = list.items.iter();
                self.within("[", items, "]", level, out, |item, out| self.write(item, level + 1, out, meter))
            }
            Value::Dict(dict) => {
                let mut entries: Vec<&(Value, Value)> = dict.entries().iter().collect();
                if self.sorted {
                    super::filters::sort(&mut entries, |(key, _)| key.clone(), meter)?;
                }
                self.within("{", entries.into_iter(), "}", level, out, |(key, value), out| {
                    self.key(key, out)?;
                    out.push(&self.after_key)?;
                    self.write(value, level + 1, out, meter)
                })
            }
            other => fault(format!("Object of type {} is not JSON serializable", other.kind())),
        }
    }

    /// Writes items between brackets, each in a line of its own where lines are moved in.
    fn within<T>(
        &self,
        begin: &str,
        items: impl ExactSizeIterator<Item = T>,
        end: &str,
        level: usize,
        out: &mut Text<'_>,
        mut write: impl FnMut(T, &mut Text<'_>) -> Made<()>,
    ) -> Made<()> {
        let is_empty = items.len() == 0;
        let line = |level: usize, out: &mut Text<'_>| match &self.indent {
            Some(indent) if !is_empty => {
                out.push("\n")?;
                out.repeat(indent, level)
            }
            _ => Ok(()),
        };
        out.push(begin)?;
        for (k, item) in items.enumerate() {
            out.push(if k > 0 { &self.between } else { "" })?;
            line(level + 1, out)?;
            write(item, out)?;
        }
        line(level, out)?;
        out.push(end)
    }

    fn key(&self, key: &Value, out: &mut Text<'_>) -> Made<()> {
        match key {
            Value::Text(text) => self.text(text, out),
            Value::None => out.push("\"null\""),
            Value::Bool(is) => out.push(if *is { "\"true\"" } else { "\"false\"" }),
            Value::Int(number) => out.push(&format!("\"{number}\"")),
            Value::Float(number) => out.push(&format!("\"{}\"", float(*number))),
            other => fault(format!("keys must be str, int, float, bool or None, not {}", other.kind())),
        }
    }

    fn text(&self, text: &str, out: &mut Text<'_>) -> Made<()> {
        out.push("\"")?;
        let mut rest = text;
        while let Some(at) =
            rest.find(|c: char| matches!(c, '"' | '\\' | '\0'..='\u{1f}') || self.ascii && !matches!(c, ' '..='~'))
        {
            out.push(&rest[..at])?;
            let c = rest[at..].chars().next().unwrap_or_default();
            rest = &rest[at + c.len_utf8()..];
            match c {
                '"' => out.push("\\\"")?,
                '\\' => out.push("\\\\")?,
                '\n' => out.push("\\n")?,
                '\r' => out.push("\\r")?,
                '\t' => out.push("\\t")?,
                '\u{8}' => out.push("\\b")?,
                '\u{c}' => out.push("\\f")?,
                c => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        out.push(&format!("\\u{unit:04x}"))?;
                    }
                }
            }
        }
        out.push(rest)?;
        out.push("\"")
    }
}

fn float(number: f64) -> String {
    match float_text(number).as_str() {
        "nan" => "NaN".into(),
        "inf" => "Infinity".into(),
        "-inf" => "-Infinity".into(),
        other => other.to_owned(),
    }
}
