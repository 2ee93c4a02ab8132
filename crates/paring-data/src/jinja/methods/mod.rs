//! Methods of Python's types, as far as the sandbox of transformers lets templates call them.

mod format;
mod printf;
mod strings;

use std::rc::Rc;

use super::fault::{Made, Meter, fault};
use super::given::{Given, required, whole};
use super::value::{Dict, Value, View, equal};
pub(super) use printf::printf;
pub(super) use strings::{replaced, stripped};

const DICT: [&str; 5] = ["copy", "get", "items", "keys", "values"];
const LIST: [&str; 3] = ["copy", "count", "index"];
const TUPLE: [&str; 2] = ["count", "index"];
/// Methods that change what they are called on: the sandbox forbids them.
const CHANGING: [&str; 11] =
    ["append", "clear", "extend", "insert", "pop", "popitem", "remove", "reverse", "setdefault", "sort", "update"];
/// Attributes of numbers.
const NUMBERS: [&str; 13] = [
    "as_integer_ratio",
    "bit_count",
    "bit_length",
    "conjugate",
    "denominator",
    "fromhex",
    "from_bytes",
    "hex",
    "imag",
    "is_integer",
    "numerator",
    "real",
    "to_bytes",
];

/// The meaning of an attribute's name for a value, apart from its items.
pub(super) enum Attribute {
    Method,
    /// The sandbox forbids it.
    Unsafe,
    /// Python has it, and this does not.
    Unknown,
    None,
}

/// The meaning of an attribute's name.
pub(super) fn attribute(of: &Value, name: &str) -> Attribute {
    let known: &[&str] = match of {
        Value::Text(_) => &strings::KNOWN,
        Value::Dict(_) => &DICT,
        Value::List(_) => &LIST,
        Value::Tuple(_) => &TUPLE,
        _ => &[],
    };
    let others: &[&str] = match of {
        Value::Text(_) => &strings::OTHERS,
        Value::Int(_) | Value::Float(_) | Value::Bool(_) => &NUMBERS,
        Value::Range(_) => &["count", "index", "start", "step", "stop"],
        Value::View(..) => &["isdisjoint", "mapping"],
        Value::Dict(_) => &["fromkeys"],
        _ => &[],
    };
    if known.contains(&name) {
        return Attribute::Method;
    }
    if others.contains(&name) {
        return Attribute::Unknown;
    }
    let is_changing = match of {
        Value::List(_) => CHANGING.contains(&name) && !matches!(name, "popitem" | "setdefault" | "update"),
        Value::Dict(_) => matches!(name, "clear" | "pop" | "popitem" | "setdefault" | "update"),
        _ => false,
    };
    if is_changing || is_internal(name) { Attribute::Unsafe } else { Attribute::None }
}

fn is_internal(name: &str) -> bool {
    name.starts_with("__") && name.ends_with("__")
}

/// Calls a method that [`attribute`] found.
pub(super) fn call(of: &Value, name: &str, given: &Given, meter: &Meter) -> Made<Value> {
    match of {
        Value::Text(text) => strings::call(text, name, given, meter),
        Value::Dict(dict) => of_dict(of, dict, name, given, meter),
        Value::List(list) | Value::Tuple(list) => of_list(of, &list.items, name, given, meter),
        other => fault(format!("the method {name} of {} is not known here", other.kind())),
    }
}

fn of_dict(of: &Value, dict: &Rc<Dict>, name: &str, given: &Given, meter: &Meter) -> Made<Value> {
    if name == "get" {
        let [key, default] = given.bind(name, ["", ""])?;
        let found = dict.get(&required(key, name)?, meter)?.cloned();
        return Ok(found.or(default).unwrap_or(Value::None));
    }
    given.none(name)?;
    Ok(match name {
        "keys" => Value::View(View::Keys, dict.clone()),
        "values" => Value::View(View::Values, dict.clone()),
        "items" => Value::View(View::Items, dict.clone()),
        // Nothing can change either of them.
        _ => of.clone(),
    })
}

fn of_list(of: &Value, items: &[Value], name: &str, given: &Given, meter: &Meter) -> Made<Value> {
    if name == "copy" {
        given.none(name)?;
        return Ok(of.clone());
    }
    let [what, start, end] = given.bind(name, ["", "", ""])?;
    let (what, start, end) = (required(what, name)?, whole(start, name)?, whole(end, name)?);
    if name == "count" {
        let mut count = 0usize;
        for item in items {
            count += usize::from(equal(item, &what, meter)?);
        }
        return Ok(Value::from(count));
    }
    let range = super::run::access::clamped(items.len(), start, end);
    for (k, item) in items.iter().enumerate().take(range.end).skip(range.start) {
        if equal(item, &what, meter)? {
            return Ok(Value::from(k));
        }
    }
    fault("index: it is not in the list")
}
