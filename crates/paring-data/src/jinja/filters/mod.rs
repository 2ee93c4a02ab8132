//! Filters: `value|name(…)`.

mod numbers;
mod sequences;
mod texts;

use super::fault::{Made, Meter, fault};
use super::given::{Given, is_true, required, text};
use super::json::to_json;
use super::methods::printf;
use super::run::{Run, access};
use super::value::{Dict, Value, View, less};

/// Filters of Jinja that chat templates have no use for, or that do not always give the same.
const OTHERS: [&str; 12] = [
    "e",
    "escape",
    "filesizeformat",
    "forceescape",
    "pprint",
    "random",
    "striptags",
    "urlencode",
    "urlize",
    "wordwrap",
    "xmlattr",
    "safe",
];

/// Applies a filter to a value.
pub(super) fn call(run: &Run<'_>, value: &Value, name: &str, given: &Given) -> Made<Value> {
    // Filters like `map` apply others.
    run.deeper(|| apply(run, value, name, given))
}

fn apply(run: &Run<'_>, value: &Value, name: &str, given: &Given) -> Made<Value> {
    let meter = run.meter;
    match name {
        "tojson" => to_json(value, given, meter),
        "default" | "d" => {
            let [default, boolean] = given.bind(name, ["default_value", "boolean"])?;
            let is_missing = value.is_undefined() || (is_true(boolean) && !value.is_true());
            Ok(if is_missing { default.unwrap_or_else(|| "".into()) } else { value.clone() })
        }
        "string" => {
            given.none(name)?;
            value.text(meter).map(Value::Text)
        }
        "length" | "count" => {
            given.none(name)?;
            value
                .len()
                .map_or_else(|| fault(format!("object of type '{}' has no len()", value.kind())), |len| Ok(len.into()))
        }
        "attr" => {
            let [name] = given.bind(name, ["name"])?;
            let name = text(name, "attr")?.unwrap_or_default();
            if matches!(value, Value::Dict(_))
                && !matches!(super::methods::attribute(value, &name), super::methods::Attribute::Method)
            {
                return Ok(Value::undefined(format!("'dict object' has no attribute '{name}'")));
            }
            access::attribute(value, &name, meter)
        }
        "format" => {
            if !given.positional.is_empty() && !given.named.is_empty() {
                return fault("format takes arguments by place or by name, not both");
            }
            let values = if given.named.is_empty() {
                Value::tuple(given.positional.clone(), meter)?
            } else {
                Value::Dict(run.dict_of(&given.named)?)
            };
            printf(&value.text(meter)?, &values, meter).map(Value::Text)
        }
        "items" => {
            given.none(name)?;
            match value {
                Value::Undefined(_) => Value::generator(Vec::new(), meter),
                Value::Dict(dict) => Value::generator(Value::View(View::Items, dict.clone()).items(meter)?, meter),
                _ => fault("items: Can only get item pairs from a mapping."),
            }
        }
        "abs" | "int" | "float" | "round" | "sum" => numbers::call(run, value, name, given),
        "capitalize" | "center" | "indent" | "lower" | "replace" | "title" | "trim" | "truncate" | "upper"
        | "wordcount" => texts::call(value, name, given, meter),
        _ if OTHERS.contains(&name) => fault(format!("the filter {name} is not known here")),
        _ => sequences::call(run, value, name, given),
    }
}

/// The small letters of a text, which most comparisons of Jinja go by; other values as they are.
fn without_case(value: Value, meter: &Meter) -> Made<Value> {
    match value {
        Value::Text(text) => {
            meter.bytes(text.len())?;
            Ok(Value::from(text.to_lowercase()))
        }
        other => Ok(other),
    }
}

/// The value at a path like `function.name` or `0.role` in another.
fn at_path(value: &Value, path: &Value, default: Option<&Value>, meter: &Meter) -> Made<Value> {
    let step = |value: &Value, part: &Value| {
        let found = access::item(value, part, meter)?;
        Ok(match default {
            Some(default) if found.is_undefined() => default.clone(),
            _ => found,
        })
    };
    match path {
        Value::Text(path) => {
            let mut value = value.clone();
            for part in path.split('.') {
                let is_index = !part.is_empty() && part.bytes().all(|c| c.is_ascii_digit());
                let key = if is_index { part.parse().map_or_else(|_| part.into(), Value::Int) } else { part.into() };
                value = step(&value, &key)?;
            }
            Ok(value)
        }
        Value::Int(_) => step(value, path),
        other => fault(format!("an attribute is named by text, got {}", other.kind())),
    }
}

/// Sorts items by what `key` finds, in Python's order; equal ones stay in theirs.
pub(super) fn sort<T: Clone>(items: &mut Vec<T>, key: impl Fn(&T) -> Value, meter: &Meter) -> Made<()> {
    let mut failed = None;
    let mut keyed: Vec<(Value, T)> = items.iter().map(|item| (key(item), item.clone())).collect();
    meter.items(keyed.len())?;
    // The library's sort must not meet an order that contradicts itself: after an error all are equal.
    keyed = merged(keyed, &mut |a, b| match less(b, a, false, "<", meter) {
        Ok(is_less) => is_less && failed.is_none(),
        Err(error) => {
            failed.get_or_insert(error);
            false
        }
    });
    *items = keyed.into_iter().map(|(_, item)| item).collect();
    failed.map_or(Ok(()), Err)
}

/// A merge sort, which needs no more of an order than an answer: `swaps` is true when the second comes first.
fn merged<T>(mut items: Vec<(Value, T)>, swaps: &mut impl FnMut(&Value, &Value) -> bool) -> Vec<(Value, T)> {
    if items.len() < 2 {
        return items;
    }
    let second = items.split_off(items.len() / 2);
    let (first, second) = (merged(items, swaps), merged(second, swaps));
    let mut made = Vec::with_capacity(first.len() + second.len());
    let (mut first, mut second) = (first.into_iter().peekable(), second.into_iter().peekable());
    while let (Some(a), Some(b)) = (first.peek(), second.peek()) {
        made.extend(if swaps(&a.0, &b.0) { second.next() } else { first.next() });
    }
    made.extend(first);
    made.extend(second);
    made
}

/// The argument that a filter needs.
fn needed(argument: Option<Value>, name: &str) -> Made<Value> {
    required(argument, name)
}

impl Run<'_> {
    fn dict_of(&self, named: &[(std::rc::Rc<str>, Value)]) -> Made<std::rc::Rc<Dict>> {
        let mut dict = Dict::default();
        for (name, value) in named {
            dict.insert(Value::Text(name.clone()), value.clone(), self.meter)?;
        }
        Ok(std::rc::Rc::new(dict))
    }
}
