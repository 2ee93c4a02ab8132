//! Calls: macros, methods and global functions.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use super::{Run, Scope};
use crate::jinja::ast::{Expr, Macro};
use crate::jinja::fault::{Made, fault};
use crate::jinja::given::{Given, required, text, whole};
use crate::jinja::methods;
use crate::jinja::value::{Dict, Function, Global, Loop, Range, Value, equal};

/// The functions that every template has.
pub(super) const GLOBALS: [(&str, Global); 8] = [
    ("range", Global::Range),
    ("dict", Global::Dict),
    ("namespace", Global::Namespace),
    ("cycler", Global::Cycler),
    ("joiner", Global::Joiner),
    ("lipsum", Global::Lipsum),
    ("raise_exception", Global::RaiseException),
    ("strftime_now", Global::StrftimeNow),
];

/// Numbers in a range at most, as in Jinja's sandbox.
const LONGEST_RANGE: usize = 100_000;

impl Run<'_> {
    pub(in crate::jinja) fn call(&self, of: &Value, given: Given) -> Made<Value> {
        match of {
            Value::Function(function) => match &**function {
                Function::Macro { is, scope } => self.deeper(|| self.call_macro(is, scope, given)),
                Function::Method { of: Value::Loop(state), name, .. } => self.loop_method(state, name, given),
                Function::Method { of: Value::Function(cycler), name, .. } => next(cycler, name, &given),
                Function::Method { of, name, .. } => methods::call(of, name, &given, self.meter),
                Function::Global(global) => self.global(*global, given),
                Function::Joiner(separator, was_called) => {
                    given.none("joiner")?;
                    let first = !was_called.replace(true);
                    Ok(if first { "".into() } else { Value::Text(separator.clone()) })
                }
                Function::Cycler(..) => fault("'Cycler' object is not callable"),
            },
            Value::Loop(state) => {
                let Some((node, scope)) = &state.recursion else {
                    return fault("loop is called, but its for has no recursive");
                };
                let [over] = given.bind("loop", [""])?;
                let over = required(over, "loop")?;
                self.captured(|| self.deeper(|| self.rounds(node, &over, scope, state.level + 1)))
            }
            Value::Undefined(reason) => fault(&**reason),
            other => fault(format!("'{}' object is not callable", other.kind())),
        }
    }

    /// A call with `caller` set.
    pub(super) fn call_with(&self, call: &Expr, caller: Value, scope: &Rc<Scope>) -> Made<Value> {
        let Expr::Call(of, args) = call else { return fault("call: expected a call") };
        let of = self.value(of, scope)?;
        let mut given = self.given(args, scope)?;
        given.named.push(("caller".into(), caller));
        self.call(&of, given)
    }

    fn call_macro(&self, is: &Arc<Macro>, outer: &Rc<Scope>, given: Given) -> Made<Value> {
        let name = &is.name;
        let scope = Scope::within(outer);
        let Given { positional, mut named } = given;
        let mut positional = positional.into_iter();
        let is_parameter = is.parameters.iter().any(|(parameter, _)| &**parameter == "caller");
        for (parameter, default) in &is.parameters {
            let by_name = |named: &mut Vec<(Rc<str>, Value)>| {
                let place = named.iter().position(|(other, _)| **other == **parameter)?;
                Some(named.swap_remove(place).1)
            };
            let value = match (positional.next().or_else(|| by_name(&mut named)), default) {
                (Some(value), _) => value,
                (None, Some(default)) => self.value(default, &scope)?,
                (None, None) => Value::undefined(format!("parameter '{parameter}' was not provided")),
            };
            scope.set(parameter, value);
        }
        if is.uses.caller && !is_parameter {
            let caller = named.iter().position(|(other, _)| &**other == "caller").map(|at| named.swap_remove(at).1);
            scope.set("caller", caller.unwrap_or_else(|| Value::undefined("No caller defined")));
        }
        if is.uses.kwargs {
            let mut dict = Dict::default();
            for (key, value) in named {
                dict.insert(Value::Text(key), value, self.meter)?;
            }
            scope.set("kwargs", Value::Dict(Rc::new(dict)));
        } else if let Some((key, _)) = named.first() {
            return fault(format!("macro '{name}' takes no keyword argument '{key}'"));
        }
        let rest: Vec<Value> = positional.collect();
        if is.uses.varargs {
            scope.set("varargs", Value::tuple(rest, self.meter)?);
        } else if !rest.is_empty() {
            return fault(format!("macro '{name}' takes not more than {} argument(s)", is.parameters.len()));
        }
        self.captured(|| self.body(&is.body, &scope).map(drop))
    }

    fn loop_method(&self, state: &Loop, name: &str, given: Given) -> Made<Value> {
        if !given.named.is_empty() {
            return fault(format!("loop.{name} takes no names"));
        }
        let given = given.positional;
        if name == "cycle" {
            let Some(item) = state.index.checked_rem(given.len()).map(|at| given[at].clone()) else {
                return fault("loop.cycle: no items for cycling given");
            };
            return Ok(item);
        }
        let mut is_same = state.changed.borrow().as_ref().is_some_and(|last| last.len() == given.len());
        if let Some(last) = &*state.changed.borrow() {
            for (a, b) in last.iter().zip(&given) {
                is_same = is_same && equal(a, b, self.meter)?;
            }
        }
        if !is_same {
            *state.changed.borrow_mut() = Some(given);
        }
        Ok(Value::Bool(!is_same))
    }

    fn global(&self, global: Global, given: Given) -> Made<Value> {
        match global {
            Global::Range => range(&given),
            Global::Dict => Ok(Value::Dict(Rc::new(self.dict(given)?))),
            Global::Namespace => self.namespace(given),
            Global::Cycler => {
                if given.positional.is_empty() {
                    return fault("cycler: at least one item has to be provided");
                }
                Value::cycler(given.positional)
            }
            Global::Joiner => {
                let [separator] = given.bind("joiner", ["sep"])?;
                let separator = text(separator, "joiner")?.unwrap_or_else(|| ", ".into());
                Ok(Value::Function(Rc::new(Function::Joiner(separator, Cell::new(false)))))
            }
            Global::Lipsum => fault("lipsum writes something else each time"),
            Global::RaiseException => {
                let [message] = given.bind("raise_exception", ["message"])?;
                fault(&*required(message, "raise_exception")?.text(self.meter)?)
            }
            Global::StrftimeNow => {
                let [format] = given.bind("strftime_now", ["format"])?;
                let Some(format) = text(format, "strftime_now")? else { return fault("strftime_now lacks a format") };
                (self.clock)(&format).map_or_else(fault, |text| Ok(Value::from(text)))
            }
        }
    }

    /// `dict(…)`: another dict or pairs, and names.
    pub(super) fn dict(&self, given: Given) -> Made<Dict> {
        let mut dict = match given.positional.first() {
            None => Dict::default(),
            Some(Value::Dict(dict)) => (**dict).clone(),
            Some(Value::Namespace(_)) => return fault("a namespace cannot be made into a dict"),
            Some(pairs) => {
                let mut dict = Dict::default();
                for pair in pairs.items(self.meter)? {
                    let mut pair = pair.items(self.meter)?.into_iter();
                    match (pair.next(), pair.next(), pair.next()) {
                        (Some(key), Some(value), None) => dict.insert(key, value, self.meter)?,
                        _ => return fault("dict: expected pairs of a key and a value"),
                    }
                }
                dict
            }
        };
        self.meter.items(dict.len() * 3)?;
        if given.positional.len() > 1 {
            return fault("dict expected at most 1 argument");
        }
        for (name, value) in given.named {
            dict.insert(Value::Text(name), value, self.meter)?;
        }
        Ok(dict)
    }
}

/// A method of a cycler.
fn next(cycler: &Rc<Function>, name: &str, given: &Given) -> Made<Value> {
    given.none(name)?;
    let Function::Cycler(items, at, _) = &**cycler else { return fault("no such method") };
    if name == "reset" {
        at.set(0);
        return Ok(Value::None);
    }
    let item = items[at.get()].clone();
    at.set((at.get() + 1) % items.len());
    Ok(item)
}

fn range(given: &Given) -> Made<Value> {
    let [first, second, step] = given.bind("range", ["", "", ""])?;
    let first = whole(Some(required(first, "range")?), "range")?;
    let step = whole(step, "range")?.unwrap_or(1);
    let (start, stop) = match second {
        None => (Some(0), first),
        Some(stop) => (first, whole(Some(stop), "range")?),
    };
    let (Some(start), Some(stop)) = (start, stop) else { return fault("range expects integers") };
    if step == 0 {
        return fault("range() arg 3 must not be zero");
    }
    let distance = if step > 0 { stop.saturating_sub(start) } else { start.saturating_sub(stop) }.max(0);
    let len = distance.unsigned_abs().div_ceil(step.unsigned_abs());
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    if len > LONGEST_RANGE {
        return fault(format!("Range too big; the sandbox has at most {LONGEST_RANGE} numbers"));
    }
    Ok(Value::Range(Rc::new(Range { start, stop, step, len })))
}
