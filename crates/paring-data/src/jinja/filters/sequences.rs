//! Filters of lists and dicts.

use std::collections::HashSet;

use super::{at_path, needed, sort, without_case};
use crate::jinja::fault::{Made, fault};
use crate::jinja::given::{Given, is_true, text, whole};
use crate::jinja::probes;
use crate::jinja::run::Run;
use crate::jinja::text::Text;
use crate::jinja::value::{Key, Value, equal, less};

pub(super) fn call(run: &Run<'_>, value: &Value, name: &str, given: &Given) -> Made<Value> {
    let meter = run.meter;
    match name {
        "list" => {
            given.none(name)?;
            Value::list(value.items(meter)?, meter)
        }
        "first" => {
            given.none(name)?;
            let none = || Value::undefined("No first item, sequence was empty.");
            if let Value::Generator(generator) = value {
                return Ok(generator.left.borrow_mut().pop_front().unwrap_or_else(none));
            }
            Ok(value.items(meter)?.into_iter().next().unwrap_or_else(none))
        }
        "last" => {
            given.none(name)?;
            reversible(value)?;
            let none = || Value::undefined("No last item, sequence was empty.");
            Ok(value.items(meter)?.pop().unwrap_or_else(none))
        }
        "reverse" => {
            given.none(name)?;
            let mut items = value.items(meter)?;
            items.reverse();
            if let Value::Text(text) = value {
                return Ok(Value::from(text.chars().rev().collect::<String>()));
            }
            Value::generator(items, meter)
        }
        "join" => join(run, value, given),
        "map" => map(run, value, given),
        "select" | "reject" | "selectattr" | "rejectattr" => select(run, value, name, given),
        "sort" => sorted(run, value, given),
        "dictsort" => dictsort(run, value, given),
        "unique" => unique(run, value, given),
        "min" | "max" => extreme(run, value, name, given),
        "groupby" => groupby(run, value, given),
        "batch" | "slice" => parts(run, value, name, given),
        _ => fault(format!("No filter named '{name}'")),
    }
}

/// Errors for what Python's `reversed` refuses.
fn reversible(value: &Value) -> Made<()> {
    match value {
        Value::Generator(_) | Value::None | Value::Bool(_) | Value::Int(_) | Value::Float(_) => {
            fault(format!("'{}' object is not reversible", value.kind()))
        }
        _ => Ok(()),
    }
}

fn join(run: &Run<'_>, value: &Value, given: &Given) -> Made<Value> {
    let meter = run.meter;
    let [separator, path] = given.bind("join", ["d", "attribute"])?;
    let separator = separator.map_or_else(|| Ok("".into()), |separator| separator.text(meter))?;
    let mut out = Text::new(meter);
    for (k, item) in value.items(meter)?.into_iter().enumerate() {
        out.push(if k > 0 { &separator } else { "" })?;
        let item = match &path {
            None | Some(Value::None) => item,
            Some(path) => at_path(&item, path, None, meter)?,
        };
        out.push(&item.text(meter)?)?;
    }
    Ok(Value::Text(out.shared()))
}

fn map(run: &Run<'_>, value: &Value, given: &Given) -> Made<Value> {
    let meter = run.meter;
    let items = if value.is_true() { value.items(meter)? } else { Vec::new() };
    let mut made = Vec::with_capacity(items.len());
    if given.positional.is_empty() {
        let [path, default] = given.bind("map", ["attribute", "default"])?;
        let path = needed(path, "map")?;
        for item in items {
            made.push(at_path(&item, &path, default.as_ref(), meter)?);
        }
    } else {
        let (filter, rest) = named(given, "map")?;
        for item in items {
            made.push(super::call(run, &item, &filter, &rest)?);
        }
    }
    Value::generator(made, meter)
}

/// The filter or test that the first argument names, and the arguments for it.
fn named(given: &Given, what: &str) -> Made<(std::rc::Rc<str>, Given)> {
    let mut positional = given.positional.clone();
    let first = if positional.is_empty() { None } else { Some(positional.remove(0)) };
    let Some(name) = text(first, what)? else { return fault(format!("{what} lacks the name of what it applies")) };
    Ok((name, Given { positional, named: given.named.clone() }))
}

fn select(run: &Run<'_>, value: &Value, name: &str, given: &Given) -> Made<Value> {
    let meter = run.meter;
    let (by_attribute, wanted) = (name.ends_with("attr"), name.starts_with("select"));
    let items = if value.is_true() { value.items(meter)? } else { Vec::new() };
    let mut given = Given { positional: given.positional.clone(), named: given.named.clone() };
    let path = match by_attribute {
        true if given.positional.is_empty() => return fault(format!("{name} lacks the name of an attribute")),
        true => Some(given.positional.remove(0)),
        false => None,
    };
    let test = if given.positional.is_empty() { None } else { Some(named(&given, name)?) };
    let mut kept = Vec::new();
    for item in items {
        let looked_at = match &path {
            Some(path) => at_path(&item, path, None, meter)?,
            None => item.clone(),
        };
        let holds = match &test {
            Some((test, rest)) => probes::call(&looked_at, test, rest, meter)?,
            None => looked_at.is_true(),
        };
        if holds == wanted {
            kept.push(item);
        }
    }
    Value::generator(kept, meter)
}

/// The values by which items are compared.
fn keys(run: &Run<'_>, items: &[Value], path: Option<&Value>, with_case: bool) -> Made<Vec<Value>> {
    let key = |item: &Value| {
        let key = match path {
            None | Some(Value::None) => item.clone(),
            Some(path) => at_path(item, path, None, run.meter)?,
        };
        if with_case { Ok(key) } else { without_case(key, run.meter) }
    };
    items.iter().map(key).collect()
}

fn ordered(run: &Run<'_>, items: Vec<Value>, keys: Vec<Value>, reverse: bool) -> Made<Vec<(Value, Value)>> {
    let mut keyed: Vec<(Value, Value)> = keys.into_iter().zip(items).collect();
    // Equal items stay in their order, the other way round too.
    if reverse {
        keyed.reverse();
    }
    sort(&mut keyed, |(key, _)| key.clone(), run.meter)?;
    if reverse {
        keyed.reverse();
    }
    Ok(keyed)
}

fn sorted(run: &Run<'_>, value: &Value, given: &Given) -> Made<Value> {
    let [reverse, with_case, path] = given.bind("sort", ["reverse", "case_sensitive", "attribute"])?;
    let (with_case, items) = (is_true(with_case), value.items(run.meter)?);
    let keys = match &path {
        // Several attributes, one after the other.
        Some(Value::Text(paths)) if paths.contains(',') => {
            let mut columns = Vec::new();
            for path in paths.split(',') {
                columns.push(keys(run, &items, Some(&path.into()), with_case)?);
            }
            let row = |k: usize| Value::list(columns.iter().map(|column| column[k].clone()).collect(), run.meter);
            (0..items.len()).map(row).collect::<Made<_>>()?
        }
        // As Jinja has it, a list of one: what is equal needs no order.
        path => {
            let keys = keys(run, &items, path.as_ref(), with_case)?;
            keys.into_iter().map(|key| Value::list(vec![key], run.meter)).collect::<Made<_>>()?
        }
    };
    let sorted = ordered(run, items, keys, is_true(reverse))?;
    Value::list(sorted.into_iter().map(|(_, item)| item).collect(), run.meter)
}

fn dictsort(run: &Run<'_>, value: &Value, given: &Given) -> Made<Value> {
    let [with_case, by, reverse] = given.bind("dictsort", ["case_sensitive", "by", "reverse"])?;
    let by = text(by, "dictsort")?;
    let place = match by.as_deref() {
        None | Some("key") => 0,
        Some("value") => 1,
        Some(_) => return fault("You can only sort by either \"key\" or \"value\""),
    };
    let Value::Dict(dict) = value else { return fault(format!("dictsort expects a dict, got {}", value.kind())) };
    let items = Value::View(crate::jinja::value::View::Items, dict.clone()).items(run.meter)?;
    let keys = keys(run, &items, Some(&Value::Int(place)), is_true(with_case))?;
    let sorted = ordered(run, items, keys, is_true(reverse))?;
    Value::list(sorted.into_iter().map(|(_, item)| item).collect(), run.meter)
}

fn unique(run: &Run<'_>, value: &Value, given: &Given) -> Made<Value> {
    let [with_case, path] = given.bind("unique", ["case_sensitive", "attribute"])?;
    let items = value.items(run.meter)?;
    let keys = keys(run, &items, path.as_ref(), is_true(with_case))?;
    let mut seen = HashSet::new();
    let mut kept = Vec::new();
    for (item, key) in items.into_iter().zip(keys) {
        if seen.insert(Key::of(&key, run.meter)?) {
            kept.push(item);
        }
    }
    Value::generator(kept, run.meter)
}

fn extreme(run: &Run<'_>, value: &Value, name: &str, given: &Given) -> Made<Value> {
    let [with_case, path] = given.bind(name, ["case_sensitive", "attribute"])?;
    let items = value.items(run.meter)?;
    let keys = keys(run, &items, path.as_ref(), is_true(with_case))?;
    let mut found: Option<(Value, Value)> = None;
    for (key, item) in keys.into_iter().zip(items) {
        let is_better = match &found {
            None => true,
            Some((best, _)) if name == "min" => less(&key, best, false, "<", run.meter)?,
            Some((best, _)) => less(best, &key, false, ">", run.meter)?,
        };
        if is_better {
            found = Some((key, item));
        }
    }
    Ok(found.map_or_else(|| Value::undefined("No aggregated item, sequence was empty."), |(_, item)| item))
}

fn groupby(run: &Run<'_>, value: &Value, given: &Given) -> Made<Value> {
    let [path, default, with_case] = given.bind("groupby", ["attribute", "default", "case_sensitive"])?;
    let (path, items) = (needed(path, "groupby")?, value.items(run.meter)?);
    let default = default.filter(|default| !matches!(default, Value::None));
    let shown: Vec<Value> =
        items.iter().map(|item| at_path(item, &path, default.as_ref(), run.meter)).collect::<Made<_>>()?;
    let keys = match is_true(with_case) {
        true => shown.clone(),
        false => shown.iter().map(|key| without_case(key.clone(), run.meter)).collect::<Made<_>>()?,
    };
    let pairs = shown.into_iter().zip(items).map(|(shown, item)| Value::tuple(vec![shown, item], run.meter));
    let sorted = ordered(run, pairs.collect::<Made<_>>()?, keys, false)?;
    let mut groups: Vec<(Value, Value, Vec<Value>)> = Vec::new();
    for (key, pair) in sorted {
        let mut pair = pair.items(run.meter)?.into_iter();
        let (Some(shown), Some(item)) = (pair.next(), pair.next()) else { continue };
        match groups.last_mut() {
            Some((last, _, items)) if equal(last, &key, run.meter)? => items.push(item),
            _ => groups.push((key, shown, vec![item])),
        }
    }
    let tuple = |(_, shown, items): (Value, Value, Vec<Value>)| {
        Value::tuple(vec![shown, Value::list(items, run.meter)?], run.meter)
    };
    Value::list(groups.into_iter().map(tuple).collect::<Made<_>>()?, run.meter)
}

/// `batch(count)`: lists of so many items; `slice(count)`: so many lists.
fn parts(run: &Run<'_>, value: &Value, name: &str, given: &Given) -> Made<Value> {
    let meter = run.meter;
    let count_name = if name == "batch" { "linecount" } else { "slices" };
    let [count, fill] = given.bind(name, [count_name, "fill_with"])?;
    let count = whole(Some(needed(count, name)?), name)?.and_then(|count| usize::try_from(count).ok());
    let Some(count) = count.filter(|&count| count > 0) else { return fault(format!("{name} expects a count above 0")) };
    let fill = fill.filter(|fill| !matches!(fill, Value::None));
    let items = value.items(meter)?;
    let mut lists = Vec::new();
    if name == "batch" {
        for part in items.chunks(count) {
            let mut part = part.to_vec();
            if let Some(fill) = &fill {
                meter.items(count - part.len())?;
                part.resize(count, fill.clone());
            }
            lists.push(Value::list(part, meter)?);
        }
    } else {
        meter.items(count)?;
        meter.steps(count)?;
        let (each, more) = (items.len() / count, items.len() % count);
        let mut rest = &items[..];
        for k in 0..count {
            let (part, after) = rest.split_at(each + usize::from(k < more));
            let fill = fill.iter().filter(|_| k >= more);
            lists.push(Value::list(part.iter().chain(fill).cloned().collect(), meter)?);
            rest = after;
        }
    }
    Value::generator(lists, meter)
}
