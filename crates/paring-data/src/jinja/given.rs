//! The arguments of a call.

use std::rc::Rc;

use super::fault::{Made, fault};
use super::value::Value;

/// Arguments by place and by name.
#[derive(Default)]
pub(super) struct Given {
    pub positional: Vec<Value>,
    pub named: Vec<(Rc<str>, Value)>,
}

impl Given {
    pub(super) fn positional(positional: Vec<Value>) -> Self {
        Self { positional, named: Vec::new() }
    }

    /// The arguments in the order of `names`; one without a name has a place only. Errors on others, which nobody would
    /// see.
    pub(super) fn bind<const N: usize>(&self, what: &str, names: [&str; N]) -> Made<[Option<Value>; N]> {
        if self.positional.len() > N {
            return fault(format!("{what} takes at most {N} arguments, got {}", self.positional.len()));
        }
        let mut bound = [const { None }; N];
        for (place, value) in bound.iter_mut().zip(&self.positional) {
            *place = Some(value.clone());
        }
        for (name, value) in &self.named {
            match names.iter().position(|known| *known == &**name) {
                Some(place) if bound[place].is_none() => bound[place] = Some(value.clone()),
                Some(_) => return fault(format!("{what} got {name} twice")),
                None => return fault(format!("{what} does not know {name}=")),
            }
        }
        Ok(bound)
    }

    /// Errors when there are arguments.
    pub(super) fn none(&self, what: &str) -> Made<()> {
        self.bind(what, []).map(|[]| ())
    }
}

/// The argument, which must be there.
pub(super) fn required(argument: Option<Value>, what: &str) -> Made<Value> {
    argument.map_or_else(|| fault(format!("{what} lacks an argument")), Ok)
}

/// The text that an argument is; `None` where it is left out or none.
pub(super) fn text(argument: Option<Value>, what: &str) -> Made<Option<Rc<str>>> {
    match argument {
        None | Some(Value::None) => Ok(None),
        Some(Value::Text(text)) => Ok(Some(text)),
        Some(Value::Undefined(reason)) => fault(&*reason),
        Some(other) => fault(format!("{what} expects text, got {}", other.kind())),
    }
}

/// The integer that an argument is; `None` where it is left out or none.
pub(super) fn whole(argument: Option<Value>, what: &str) -> Made<Option<i128>> {
    match argument {
        None | Some(Value::None) => Ok(None),
        Some(Value::Undefined(reason)) => fault(&*reason),
        Some(other) => match other.whole() {
            Some(number) => Ok(Some(number)),
            None => fault(format!("{what} expects an integer, got {}", other.kind())),
        },
    }
}

/// True when an argument is there and true.
pub(super) fn is_true(argument: Option<Value>) -> bool {
    argument.is_some_and(|value| value.is_true())
}

impl Given {
    /// Adds what `**` gives.
    pub(super) fn add_dict(&mut self, value: &Value) -> Made<()> {
        let Value::Dict(dict) = value else {
            return fault(format!("an argument after ** must be a dict, got {}", value.kind()));
        };
        for (key, value) in dict.entries() {
            match key {
                Value::Text(name) if self.named.iter().all(|(other, _)| other != name) => {
                    self.named.push((name.clone(), value.clone()));
                }
                _ => return fault("an argument after ** has a key that is no new name"),
            }
        }
        Ok(())
    }
}
