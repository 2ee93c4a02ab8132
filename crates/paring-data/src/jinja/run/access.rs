//! Attributes, items and slices of values.

use std::ops::Range as Span;
use std::rc::Rc;

use crate::jinja::fault::{Made, Meter, fault};
use crate::jinja::methods::{self, Attribute};
use crate::jinja::value::{Function, Loop, Range, Value};

/// `value.name`: Python's attribute, and if there is none the item.
pub(in crate::jinja) fn attribute(value: &Value, name: &str, meter: &Meter) -> Made<Value> {
    meter.steps(1)?;
    match real_attribute(value, name)? {
        Some(found) => Ok(found),
        None => Ok(plain_item(value, &Value::from(name), meter)?.unwrap_or_else(|| missing(value, name))),
    }
}

/// `value[key]`: the item, and if there is none and `key` is text the attribute.
pub(in crate::jinja) fn item(value: &Value, key: &Value, meter: &Meter) -> Made<Value> {
    meter.steps(1)?;
    if let Value::Undefined(reason) = value {
        return fault(&**reason);
    }
    if let Some(found) = plain_item(value, key, meter)? {
        return Ok(found);
    }
    match key {
        Value::Text(name) => Ok(real_attribute(value, name)?.unwrap_or_else(|| missing(value, name))),
        other => Ok(missing(value, &other.text(meter)?)),
    }
}

fn missing(value: &Value, name: &str) -> Value {
    let of = if matches!(value, Value::None) { "None".into() } else { format!("{} object", value.kind()) };
    Value::undefined(format!("'{of}' has no attribute '{name}'"))
}

/// The attribute that Python itself has for a value.
fn real_attribute(value: &Value, name: &str) -> Made<Option<Value>> {
    match value {
        Value::Undefined(reason) => return fault(&**reason),
        Value::Namespace(names) => return Ok(names.borrow().named(name).cloned()),
        Value::Loop(state) => return of_loop(value, state, name),
        Value::Tuple(pair) if pair.items.len() == 2 && matches!(name, "grouper" | "list") => {
            return Ok(Some(pair.items[usize::from(name == "list")].clone()));
        }
        Value::Function(function) => match (&**function, name) {
            (Function::Cycler(items, at, _), "current") => return Ok(items.get(at.get()).cloned()),
            (Function::Cycler(..), "next" | "reset") => return Value::method(value.clone(), name).map(Some),
            (Function::Macro { is, .. }, "name") => return Ok(Some(Value::from(&*is.name))),
            _ => {}
        },
        _ => {}
    }
    match methods::attribute(value, name) {
        Attribute::Method => Value::method(value.clone(), name).map(Some),
        Attribute::Unsafe => {
            let reason = format!("access to attribute '{name}' of '{}' object is unsafe", value.kind());
            Ok(Some(Value::undefined(reason)))
        }
        Attribute::Unknown => fault(format!("the attribute {name} of {} is not known here", value.kind())),
        Attribute::None => Ok(None),
    }
}

fn of_loop(value: &Value, state: &Rc<Loop>, name: &str) -> Made<Option<Value>> {
    let (index, len) = (state.index, state.items.len());
    let beside = |index: Option<usize>, what: &str| {
        let found = index.and_then(|index| state.items.get(index)).cloned();
        found.unwrap_or_else(|| Value::undefined(format!("there is no {what} item")))
    };
    Ok(Some(match name {
        "index" => Value::from(index + 1),
        "index0" => Value::from(index),
        "revindex" => Value::from(len - index),
        "revindex0" => Value::from(len - index - 1),
        "first" => Value::Bool(index == 0),
        "last" => Value::Bool(index + 1 == len),
        "length" => Value::from(len),
        "depth" => Value::from(state.level + 1),
        "depth0" => Value::from(state.level),
        "previtem" => beside(index.checked_sub(1), "previous"),
        "nextitem" => beside(Some(index + 1), "next"),
        "cycle" | "changed" => Value::method(value.clone(), name)?,
        _ => return Ok(None),
    }))
}

/// The item, for values that have some.
fn plain_item(value: &Value, key: &Value, meter: &Meter) -> Made<Option<Value>> {
    let at = |len: usize| {
        let index = key.whole()?;
        let from_start = if index < 0 { index + len as i128 } else { index };
        usize::try_from(from_start).ok().filter(|&index| index < len)
    };
    Ok(match value {
        Value::Text(text) => {
            meter.looks(text.len())?;
            let found = at(text.chars().count()).and_then(|index| text.chars().nth(index));
            found.map(|c| Value::from(&*c.encode_utf8(&mut [0; 4])))
        }
        Value::List(list) | Value::Tuple(list) => at(list.items.len()).map(|index| list.items[index].clone()),
        Value::Range(range) => at(range.len).map(|index| range.get(index)),
        // A key that cannot be one is not found.
        Value::Dict(dict) => dict.get(key, meter).ok().flatten().cloned(),
        _ => None,
    })
}

/// The places from `start` to `end` of so many, as Python counts them.
pub(in crate::jinja) fn clamped(len: usize, start: Option<i128>, end: Option<i128>) -> Span<usize> {
    let place = |place: i128| {
        let place = if place < 0 { place + len as i128 } else { place };
        usize::try_from(place.clamp(0, len as i128)).unwrap_or(0)
    };
    let (start, end) = (start.map_or(0, place), end.map_or(len, place));
    start..end.max(start)
}

/// The bytes between two characters of a text; `None` when the first is after its end, or after the second.
pub(in crate::jinja) fn bounds(text: &str, start: Option<i128>, end: Option<i128>) -> Option<Span<usize>> {
    if start.is_none() && end.is_none() {
        return Some(0..text.len());
    }
    let len = text.chars().count();
    if start.is_some_and(|start| start > len as i128) {
        return None;
    }
    let only_end = clamped(len, None, end).end;
    let start = clamped(len, start, None).start;
    let byte = |place: usize| text.char_indices().nth(place).map_or(text.len(), |(at, _)| at);
    (start <= only_end).then(|| byte(start)..byte(only_end))
}

/// `value[start:stop:step]`.
pub(in crate::jinja) fn slice(value: &Value, parts: [Option<Value>; 3], meter: &Meter) -> Made<Value> {
    if let Value::Undefined(reason) = value {
        return fault(&**reason);
    }
    let mut places = [None; 3];
    for (place, part) in places.iter_mut().zip(parts) {
        *place = crate::jinja::given::whole(part, "a slice")?;
    }
    let [start, stop, step] = places;
    let step = step.unwrap_or(1);
    if step == 0 {
        return fault("a slice has step 0");
    }
    let ends = |len: usize| {
        let len = len as i128;
        let (least, most) = if step > 0 { (0, len) } else { (-1, len - 1) };
        let place = |place: i128| (if place < 0 { place + len } else { place }).clamp(least, most);
        let first = start.map_or(if step > 0 { 0 } else { len - 1 }, place);
        (first, stop.map_or(if step > 0 { len } else { -1 }, place))
    };
    let sliced = |len: usize| -> Vec<usize> {
        let (mut at, end) = ends(len);
        let mut taken = Vec::new();
        while if step > 0 { at < end } else { at > end } {
            taken.extend(usize::try_from(at));
            at = at.saturating_add(step);
        }
        taken
    };
    match value {
        Value::Text(text) => {
            meter.looks(text.len())?;
            if step == 1 {
                return Ok(Value::from(bounds(text, start, stop).map_or("", |bounds| &text[bounds])));
            }
            let letters: Vec<char> = text.chars().collect();
            meter.items(letters.len())?;
            Ok(Value::from(sliced(letters.len()).into_iter().map(|at| letters[at]).collect::<String>()))
        }
        Value::List(list) | Value::Tuple(list) => {
            meter.items(list.items.len())?;
            let items = sliced(list.items.len()).into_iter().map(|at| list.items[at].clone()).collect();
            if matches!(value, Value::List(_)) { Value::list(items, meter) } else { Value::tuple(items, meter) }
        }
        Value::Range(range) => {
            meter.items(range.len)?;
            let (first, end) = ends(range.len);
            let place = |place: i128| range.start + range.step.saturating_mul(place);
            let (start, stop, len) = (place(first), place(end), sliced(range.len).len());
            Ok(Value::Range(Rc::new(Range { start, stop, step: range.step.saturating_mul(step), len })))
        }
        other => fault(format!("'{}' object cannot be sliced", other.kind())),
    }
}
