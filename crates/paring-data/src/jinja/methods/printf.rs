//! Python's `%` of text, and `str.format`.

use std::rc::Rc;

use super::format::{Spec, formatted};
use crate::jinja::fault::{Made, Meter, fault};
use crate::jinja::given::Given;
use crate::jinja::run::access;
use crate::jinja::text::Text;
use crate::jinja::value::{Value, write_repr};

/// The values that a text with `%` takes.
struct Values<'a> {
    list: &'a [Value],
    next: usize,
    dict: Option<&'a Value>,
}

impl Values<'_> {
    fn next(&mut self) -> Made<&Value> {
        let Some(value) = self.list.get(self.next) else { return fault("not enough arguments for a text with %") };
        self.next += 1;
        Ok(value)
    }
}

/// `text % values`.
pub(in crate::jinja) fn printf(text: &str, given: &Value, meter: &Meter) -> Made<Rc<str>> {
    meter.looks(text.len())?;
    let one = [given.clone()];
    let dict = matches!(given, Value::Dict(_)).then_some(given);
    let list = if let Value::Tuple(list) = given { &list.items[..] } else { &one };
    let mut values = Values { list, next: 0, dict };
    let mut out = Text::new(meter);
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        out.push(before)?;
        rest = after;
        meter.steps(1)?;
        directive(&mut rest, &mut values, &mut out, meter)?;
    }
    out.push(rest)?;
    if values.next < list.len() && !matches!(given, Value::Dict(_) | Value::List(_)) {
        return fault("not all arguments of a text with % are used");
    }
    Ok(out.shared())
}

/// One `%…`, of which the `%` is read.
fn directive(rest: &mut &str, values: &mut Values<'_>, out: &mut Text<'_>, meter: &Meter) -> Made<()> {
    let mut named = None;
    if let Some(after) = rest.strip_prefix('(') {
        let Some((name, after)) = after.split_once(')') else {
            return fault("a text with % has a name without an end");
        };
        let Some(Value::Dict(dict)) = values.dict else { return fault("a text with % and names needs a dict") };
        let Some(value) = dict.named(name) else { return fault(format!("a text with % lacks {name:?}")) };
        *rest = after;
        named = Some(value.clone());
    }
    let (mut spec, is_left) = specification(rest, values)?;
    let Some(kind) = rest.chars().next() else { return fault("a text ends in the middle of a %") };
    *rest = &rest[kind.len_utf8()..];
    if kind == '%' {
        return out.push("%");
    }
    let value = match &named {
        Some(value) => value,
        None => values.next()?,
    };
    if is_left {
        (spec.fill, spec.align) = (None, Some('<'));
    }
    let textual = |spec: &mut Spec| {
        (spec.fill, spec.align) = (None, Some(if is_left { '<' } else { '>' }));
    };
    match kind {
        's' => {
            textual(&mut spec);
            spec.text(out, &value.text(meter)?)
        }
        'r' => {
            textual(&mut spec);
            let mut text = Text::new(meter);
            write_repr(value, &mut text)?;
            spec.text(out, &text.finish())
        }
        'c' if matches!(value, Value::Text(text) if text.chars().count() == 1) => {
            textual(&mut spec);
            spec.text(out, &value.text(meter)?)
        }
        'd' | 'i' | 'u' => {
            spec.kind = Some('d');
            match value {
                Value::Float(number) if number.is_finite() && number.abs() < 1e38 => spec.whole(out, *number as i128),
                _ => spec.whole(out, integer(value, kind)?),
            }
        }
        'x' | 'X' | 'o' | 'c' => {
            spec.kind = Some(kind);
            spec.whole(out, integer(value, kind)?)
        }
        'e' | 'E' | 'f' | 'F' | 'g' | 'G' => {
            spec.kind = Some(kind);
            match value.number() {
                Some(number) => spec.float(out, number),
                None => fault(format!("%{kind} needs a number, got {}", value.kind())),
            }
        }
        other => fault(format!("unsupported %{other} in a text")),
    }
}

/// Flags, width and precision before the letter of a directive, and true for the flag `-`.
fn specification(rest: &mut &str, values: &mut Values<'_>) -> Made<(Spec, bool)> {
    let mut spec = Spec::default();
    let mut is_left = false;
    let flags = rest.bytes().take_while(|c| b"#0- +".contains(c)).count();
    for flag in rest[..flags].chars() {
        match flag {
            '#' => spec.alternate = true,
            '0' => (spec.fill, spec.align) = (Some('0'), Some('=')),
            '-' => is_left = true,
            sign => spec.sign = if spec.sign == Some('+') { spec.sign } else { Some(sign) },
        }
    }
    *rest = &rest[flags..];
    spec.width = size(rest, values)?.unwrap_or(0);
    if let Some(after) = rest.strip_prefix('.') {
        *rest = after;
        spec.precision = Some(size(rest, values)?.unwrap_or(0));
    }
    *rest = rest.trim_start_matches(['h', 'l', 'L']);
    Ok((spec, is_left))
}

fn integer(value: &Value, kind: char) -> Made<i128> {
    value.whole().map_or_else(|| fault(format!("%{kind} needs an integer, got {}", value.kind())), Ok)
}

/// A width or a precision; `*` takes it from the values.
fn size(rest: &mut &str, values: &mut Values<'_>) -> Made<Option<usize>> {
    if let Some(after) = rest.strip_prefix('*') {
        *rest = after;
        let size = values.next()?.whole().and_then(|size| usize::try_from(size).ok());
        return size.map_or_else(|| fault("a width of a text with % is no size"), |size| Ok(Some(size)));
    }
    let len = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, after) = rest.split_at(len);
    *rest = after;
    match digits.parse() {
        Ok(size) => Ok(Some(size)),
        Err(_) if digits.is_empty() => Ok(None),
        Err(_) => fault(format!("a width of {digits} in a text with %")),
    }
}

/// `text.format(…)`.
pub(super) fn braces(text: &str, given: &Given, meter: &Meter) -> Made<Rc<str>> {
    meter.looks(text.len())?;
    let mut out = Text::new(meter);
    let mut fields = Fields { given, next: 0, is_numbered: None, meter };
    fields.write(text, &mut out, 2)?;
    Ok(out.shared())
}

struct Fields<'a> {
    given: &'a Given,
    next: usize,
    /// True once a field had a number of its own, false once one had none.
    is_numbered: Option<bool>,
    meter: &'a Meter,
}

impl Fields<'_> {
    /// Writes a text whose fields may be nested so many levels.
    fn write(&mut self, text: &str, out: &mut Text<'_>, levels: usize) -> Made<()> {
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            out.push(&rest[..at])?;
            self.meter.steps(1)?;
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                out.push(brace)?;
                rest = after;
                continue;
            }
            let Some(end) = (if brace == "{" { field_end(rest) } else { None }) else {
                return fault(format!("single {brace} in the text of format"));
            };
            if levels == 0 {
                return fault("the text of format is nested too deep");
            }
            self.field(&rest[..end], out, levels)?;
            rest = &rest[end + 1..];
        }
        out.push(rest)
    }

    fn field(&mut self, field: &str, out: &mut Text<'_>, levels: usize) -> Made<()> {
        let end = field.find(['!', ':']).unwrap_or(field.len());
        let (name, rest) = field.split_at(end);
        let (conversion, spec) = match rest.strip_prefix('!') {
            Some(rest) => {
                let (conversion, spec) = rest.split_once(':').unwrap_or((rest, ""));
                (Some(conversion), spec)
            }
            None => (None, rest.strip_prefix(':').unwrap_or("")),
        };
        let value = self.value(name)?;
        let value = match conversion {
            None => value,
            Some("s") => Value::Text(value.text(self.meter)?),
            Some("r") => {
                let mut text = Text::new(self.meter);
                write_repr(&value, &mut text)?;
                Value::Text(text.shared())
            }
            Some(other) => return fault(format!("unknown conversion !{other} in the text of format")),
        };
        let mut made = Text::new(self.meter);
        self.write(spec, &mut made, levels - 1)?;
        formatted(out, &value, &made.finish(), self.meter)
    }

    fn value(&mut self, name: &str) -> Made<Value> {
        let end = name.find(['.', '[']).unwrap_or(name.len());
        let (first, mut path) = name.split_at(end);
        let is_numbered = !first.is_empty();
        let place = if is_numbered { first.parse::<usize>().ok() } else { Some(self.next) };
        let mut value = match place {
            Some(place) => {
                if self.is_numbered.is_some_and(|before| before != is_numbered) {
                    return fault("the text of format has fields with and without numbers");
                }
                self.is_numbered = Some(is_numbered);
                self.next += usize::from(!is_numbered);
                self.given.positional.get(place).cloned()
            }
            None => self.given.named.iter().find(|(name, _)| **name == *first).map(|(_, value)| value.clone()),
        }
        .map_or_else(|| fault(format!("the text of format lacks an argument for {{{name}}}")), Ok)?;
        while !path.is_empty() {
            let (part, after) = if let Some(rest) = path.strip_prefix('[') {
                let Some((part, after)) = rest.split_once(']') else {
                    return fault("expected ] in the text of format");
                };
                let key = part.parse().map_or_else(|_| Value::from(part), Value::Int);
                (access::item(&value, &key, self.meter)?, after)
            } else {
                let rest = &path[1..];
                let (part, after) = rest.split_at(rest.find(['.', '[']).unwrap_or(rest.len()));
                (access::attribute(&value, part, self.meter)?, after)
            };
            if let Value::Undefined(reason) = part {
                return fault(&*reason);
            }
            (value, path) = (part, after);
        }
        Ok(value)
    }
}

/// The place of the brace that ends a field.
fn field_end(text: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, c) in text.bytes().enumerate() {
        match c {
            b'{' => depth += 1,
            b'}' if depth == 0 => return Some(at),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    None
}
