//! Filters that make text of text.

use crate::jinja::fault::{Made, Meter, fault};
use crate::jinja::given::{Given, is_true, text, whole};
use crate::jinja::methods::{replaced, stripped};
use crate::jinja::text::{Text, capitalized, is_space, lines};
use crate::jinja::value::Value;

pub(super) fn call(value: &Value, name: &str, given: &Given, meter: &Meter) -> Made<Value> {
    let of = value.text(meter)?;
    meter.looks(of.len())?;
    match name {
        "trim" => {
            let [chars] = given.bind(name, ["chars"])?;
            Ok(Value::from(stripped(&of, text(chars, name)?.as_deref(), true, true)))
        }
        "replace" => {
            let [old, new, count] = given.bind(name, ["old", "new", "count"])?;
            let (Some(old), Some(new)) = (old, new) else { return fault("replace lacks an argument") };
            let count = whole(count, name)?;
            replaced(&of, &old.text(meter)?, &new.text(meter)?, count, meter).map(Value::Text)
        }
        "indent" => {
            let [width, first, blank] = given.bind(name, ["width", "first", "blank"])?;
            let width = match width {
                None => " ".repeat(4).into(),
                Some(Value::Text(width)) => width,
                Some(other) => {
                    let mut spaces = Text::new(meter);
                    let width = whole(Some(other), name)?.unwrap_or(0);
                    spaces.repeat(" ", usize::try_from(width.max(0)).unwrap_or(usize::MAX))?;
                    spaces.shared()
                }
            };
            if !matches!(value, Value::Text(_)) {
                return fault(format!("indent expects text, got {}", value.kind()));
            }
            indented(&of, &width, is_true(first), is_true(blank), meter)
        }
        "truncate" => truncated(value, given, meter),
        "center" => {
            let [width] = given.bind(name, ["width"])?;
            let width = Value::Int(whole(width, name)?.unwrap_or(80));
            crate::jinja::methods::call(&Value::Text(of), name, &Given::positional(vec![width]), meter)
        }
        "wordcount" => {
            given.none(name)?;
            let words = of.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty());
            Ok(Value::from(words.count()))
        }
        _ => {
            given.none(name)?;
            let made = match name {
                "upper" => of.to_uppercase(),
                "lower" => of.to_lowercase(),
                "capitalize" => capitalized(&of),
                _ => titled(&of),
            };
            meter.bytes(made.len())?;
            Ok(Value::from(made))
        }
    }
}

/// Jinja's own `title`: words begin after spaces, hyphens and opening brackets.
fn titled(of: &str) -> String {
    let mut made = String::with_capacity(of.len());
    let mut inside = false;
    for c in of.chars() {
        let divides = is_space(c) || matches!(c, '-' | '(' | '{' | '[' | '<');
        if inside {
            made.extend(c.to_lowercase());
        } else {
            made.extend(c.to_uppercase());
        }
        inside = !divides;
    }
    made
}

fn indented(of: &str, width: &str, first: bool, blank: bool, meter: &Meter) -> Made<Value> {
    let mut out = Text::new(meter);
    let whole = format!("{of}\n");
    for (k, line) in lines(&whole, false).into_iter().enumerate() {
        if k > 0 {
            out.push("\n")?;
        }
        if if k == 0 { first } else { blank || !line.is_empty() } {
            out.push(width)?;
        }
        out.push(line)?;
    }
    Ok(Value::Text(out.shared()))
}

fn truncated(value: &Value, given: &Given, meter: &Meter) -> Made<Value> {
    let [length, killwords, end, leeway] = given.bind("truncate", ["length", "killwords", "end", "leeway"])?;
    let size = |argument: Option<Value>, default: usize| {
        let size = whole(argument, "truncate")?;
        Ok(size.map_or(default, |size| usize::try_from(size).unwrap_or(0)))
    };
    let (length, leeway) = (size(length, 255)?, size(leeway, 5)?);
    let end = text(end, "truncate")?.unwrap_or_else(|| "...".into());
    let Some(kept) = length.checked_sub(end.chars().count()) else {
        return fault("truncate: the length is less than that of the end");
    };
    let Some(len) = value.len() else { return fault(format!("object of type '{}' has no len()", value.kind())) };
    if len <= length.saturating_add(leeway) {
        return Ok(value.clone());
    }
    let Value::Text(of) = value else { return fault(format!("truncate expects text, got {}", value.kind())) };
    let cut = of.char_indices().nth(kept).map_or(&**of, |(at, _)| &of[..at]);
    let cut = if is_true(killwords) { cut } else { cut.rsplit_once(' ').map_or(cut, |(before, _)| before) };
    let mut out = Text::new(meter);
    out.push(cut)?;
    out.push(&end)?;
    Ok(Value::Text(out.shared()))
}
