//! Python's `str` and `repr`.

use super::{Function, List, Value, View};
use crate::jinja::fault::{Made, fault};
use crate::jinja::text::Text;

/// Writes a value as `{{ }}` does.
pub(in crate::jinja) fn write_str(value: &Value, out: &mut Text) -> Made<()> {
    match value {
        Value::Text(text) => out.push(text),
        other => write_repr(other, out),
    }
}

/// Writes a value as it stands in a list that is printed.
pub(in crate::jinja) fn write_repr(value: &Value, out: &mut Text) -> Made<()> {
    match value {
        Value::Undefined(_) => Ok(()),
        Value::None => out.push("None"),
        Value::Bool(is) => out.push(if *is { "True" } else { "False" }),
        Value::Int(number) => out.push(&number.to_string()),
        Value::Float(number) => out.push(&float_text(*number)),
        Value::Text(text) => quoted(text, out),
        Value::List(list) => listed("[", list, "]", out),
        Value::Tuple(list) => listed("(", list, if list.items.len() == 1 { ",)" } else { ")" }, out),
        Value::Dict(dict) => entries("{", dict.entries(), "}", out),
        Value::View(view, dict) => {
            out.push(value.kind())?;
            out.push("([")?;
            for (k, (key, value)) in dict.entries().iter().enumerate() {
                out.push(if k > 0 { ", " } else { "" })?;
                match view {
                    View::Keys => write_item(key, out)?,
                    View::Values => write_item(value, out)?,
                    View::Items => {
                        out.push("(")?;
                        write_item(key, out)?;
                        out.push(", ")?;
                        write_item(value, out)?;
                        out.push(")")?;
                    }
                }
            }
            out.push("])")
        }
        Value::Range(range) if range.step == 1 => out.push(&format!("range({}, {})", range.start, range.stop)),
        Value::Range(range) => out.push(&format!("range({}, {}, {})", range.start, range.stop, range.step)),
        Value::Function(function) => match &**function {
            Function::Macro { is, .. } => out.push(&format!("<Macro '{}'>", is.name)),
            _ => fault("a function cannot be written; it must be called"),
        },
        other => fault(format!("a {} cannot be written", other.kind())),
    }
}

/// A value inside another: nothing is not left out there.
fn write_item(value: &Value, out: &mut Text) -> Made<()> {
    if value.is_undefined() { out.push("Undefined") } else { write_repr(value, out) }
}

fn listed(begin: &str, list: &List, end: &str, out: &mut Text) -> Made<()> {
    out.push(begin)?;
    for (k, item) in list.items.iter().enumerate() {
        out.push(if k > 0 { ", " } else { "" })?;
        write_item(item, out)?;
    }
    out.push(end)
}

fn entries(begin: &str, entries: &[(Value, Value)], end: &str, out: &mut Text) -> Made<()> {
    out.push(begin)?;
    for (k, (key, value)) in entries.iter().enumerate() {
        out.push(if k > 0 { ", " } else { "" })?;
        write_item(key, out)?;
        out.push(": ")?;
        write_item(value, out)?;
    }
    out.push(end)
}

/// True for characters that Python's `repr` leaves as they are.
pub(in crate::jinja) fn is_printable(c: char) -> bool {
    // The library's own table is made by the same rule; after another character, marks that combine are kept.
    let pair: String = ['a', c].iter().collect();
    matches!(c, '\'' | '"' | '\\') || pair.escape_debug().nth(1) == Some(c)
}

/// Writes a text in quotes, with Python's escapes.
fn quoted(text: &str, out: &mut Text) -> Made<()> {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push_char(quote)?;
    for c in text.chars() {
        match c {
            '\n' => out.push("\\n")?,
            '\r' => out.push("\\r")?,
            '\t' => out.push("\\t")?,
            '\\' => out.push("\\\\")?,
            c if c == quote => {
                out.push("\\")?;
                out.push_char(c)?;
            }
            ' '..='~' => out.push_char(c)?,
            c if is_printable(c) => out.push_char(c)?,
            c if (c as u32) < 0x100 => out.push(&format!("\\x{:02x}", c as u32))?,
            c if (c as u32) < 0x10000 => out.push(&format!("\\u{:04x}", c as u32))?,
            c => out.push(&format!("\\U{:08x}", c as u32))?,
        }
    }
    out.push_char(quote)
}

/// A float as Python's `repr` writes it: the fewest digits that mean it, with a power of ten from 10¹⁶ on and below 10⁻⁴.
pub(in crate::jinja) fn float_text(number: f64) -> String {
    if number.is_nan() {
        return "nan".into();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.into();
    }
    // As few digits as mean it; of two such texts the one that is nearer, or even.
    let shortest = format!("{number:e}");
    let count = shortest.bytes().take_while(|c| *c != b'e').filter(u8::is_ascii_digit).count();
    let nearest = format!("{number:.*e}", count - 1);
    let shortest = if nearest.parse() == Ok(number) { nearest } else { shortest };
    let (digits, power) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let power: i32 = power.parse().unwrap_or(0);
    if (-4..16).contains(&power) || number == 0.0 {
        let places = usize::try_from(count as i32 - 1 - power).unwrap_or(0);
        return format!("{number:.*}", places.max(1));
    }
    format!("{digits}e{}{:02}", if power < 0 { '-' } else { '+' }, power.abs())
}
