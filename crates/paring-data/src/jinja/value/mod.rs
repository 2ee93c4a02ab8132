//! The values of templates: Python's, as far as templates meet them.

mod compare;
mod dict;
mod iterate;
mod print;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use super::ast::{For, Macro};
use super::fault::{Made, Meter, fault};
use super::run::Scope;
pub(super) use compare::{equal, less};
pub(super) use dict::{Dict, Key};
pub(super) use print::{float_text, is_printable, write_repr, write_str};

/// Levels of lists in lists, and of other values in values; JSON has 128 at most.
const DEEPEST: usize = 200;

#[derive(Clone)]
pub(crate) enum Value {
    /// The reason why there is nothing.
    Undefined(Rc<str>),
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(Rc<str>),
    List(Rc<List>),
    Tuple(Rc<List>),
    Dict(Rc<Dict>),
    /// `keys()`, `values()` or `items()` of a dict.
    View(View, Rc<Dict>),
    Range(Rc<Range>),
    /// A generator: what it has not given yet.
    Generator(Rc<Generator>),
    Namespace(Rc<RefCell<Dict>>),
    Loop(Rc<Loop>),
    Function(Rc<Function>),
}

pub(crate) struct List {
    pub items: Vec<Value>,
    depth: usize,
}

pub(crate) struct Generator {
    pub left: RefCell<VecDeque<Value>>,
    depth: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum View {
    Keys,
    Values,
    Items,
}

pub(crate) struct Range {
    pub start: i128,
    pub stop: i128,
    pub step: i128,
    pub len: usize,
}

/// The variable `loop` in the body of one.
pub(crate) struct Loop {
    pub items: Rc<Vec<Value>>,
    pub index: usize,
    pub level: usize,
    pub depth: usize,
    /// The values that `changed` saw last, shared by all rounds.
    pub changed: Rc<RefCell<Option<Vec<Value>>>>,
    /// The loop itself and the names around it, where it may be called.
    pub recursion: Option<(Arc<For>, Rc<Scope>)>,
}

pub(crate) enum Function {
    Macro {
        is: Arc<Macro>,
        scope: Rc<Scope>,
    },
    /// A method of a value.
    Method {
        of: Value,
        name: Rc<str>,
        depth: usize,
    },
    /// A global function.
    Global(Global),
    /// `cycler(…)`, and the place that it is at.
    Cycler(Vec<Value>, Cell<usize>, usize),
    /// `joiner(…)`, and true once it was called.
    Joiner(Rc<str>, Cell<bool>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Global {
    Range,
    Dict,
    Namespace,
    Cycler,
    Joiner,
    Lipsum,
    RaiseException,
    StrftimeNow,
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::Text(text.into())
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Value::Int(number as i128)
    }
}

/// The depth of a value that holds these.
fn depth_over<'a>(values: impl IntoIterator<Item = &'a Value>) -> Made<usize> {
    let depth = values.into_iter().map(Value::depth).max().unwrap_or(0) + 1;
    if depth > DEEPEST { fault(format!("values are more than {DEEPEST} levels deep")) } else { Ok(depth) }
}

impl Value {
    pub(super) fn list(items: Vec<Value>, meter: &Meter) -> Made<Self> {
        Ok(Value::List(Rc::new(List::new(items, meter)?)))
    }

    pub(super) fn tuple(items: Vec<Value>, meter: &Meter) -> Made<Self> {
        Ok(Value::Tuple(Rc::new(List::new(items, meter)?)))
    }

    pub(super) fn generator(items: Vec<Value>, meter: &Meter) -> Made<Self> {
        let List { items, depth } = List::new(items, meter)?;
        Ok(Value::Generator(Rc::new(Generator { left: RefCell::new(items.into()), depth })))
    }

    pub(super) fn method(of: Value, name: &str) -> Made<Self> {
        let depth = depth_over([&of])?;
        Ok(Value::Function(Rc::new(Function::Method { of, name: name.into(), depth })))
    }

    pub(super) fn cycler(items: Vec<Value>) -> Made<Self> {
        let depth = depth_over(&items)?;
        Ok(Value::Function(Rc::new(Function::Cycler(items, Cell::new(0), depth))))
    }

    /// The depth of what holds these.
    pub(super) fn depth_over(values: &[Value]) -> Made<usize> {
        depth_over(values)
    }

    pub(super) fn undefined(reason: impl Into<Rc<str>>) -> Self {
        Value::Undefined(reason.into())
    }

    /// The value that JSON stands for.
    pub(crate) fn of_json(json: &serde_json::Value, meter: &Meter) -> Made<Self> {
        Ok(match json {
            serde_json::Value::Null => Value::None,
            serde_json::Value::Bool(is) => Value::Bool(*is),
            serde_json::Value::Number(number) => {
                let whole = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
                whole.map_or_else(|| Value::Float(number.as_f64().unwrap_or(f64::NAN)), Value::Int)
            }
            serde_json::Value::String(text) => Value::from(text.as_str()),
            serde_json::Value::Array(items) => {
                let items = items.iter().map(|item| Value::of_json(item, meter)).collect::<Made<_>>()?;
                Value::list(items, meter)?
            }
            serde_json::Value::Object(entries) => {
                let mut dict = Dict::default();
                for (key, value) in entries {
                    dict.insert(Value::from(key.as_str()), Value::of_json(value, meter)?, meter)?;
                }
                Value::Dict(Rc::new(dict))
            }
        })
    }

    fn depth(&self) -> usize {
        match self {
            Value::List(list) | Value::Tuple(list) => list.depth,
            Value::Dict(dict) => dict.depth(),
            Value::View(_, dict) => dict.depth(),
            Value::Generator(generator) => generator.depth,
            Value::Loop(state) => state.depth,
            Value::Function(function) => match **function {
                Function::Method { depth, .. } | Function::Cycler(_, _, depth) => depth,
                _ => 0,
            },
            _ => 0,
        }
    }

    /// Python's name of its type.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::Undefined(_) => "Undefined",
            Value::None => "NoneType",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float",
            Value::Text(_) => "str",
            Value::List(_) => "list",
            Value::Tuple(_) => "tuple",
            Value::Dict(_) => "dict",
            Value::View(View::Keys, _) => "dict_keys",
            Value::View(View::Values, _) => "dict_values",
            Value::View(View::Items, _) => "dict_items",
            Value::Range(_) => "range",
            Value::Generator(_) => "generator",
            Value::Namespace(_) => "Namespace",
            Value::Loop(_) => "LoopContext",
            Value::Function(function) => match **function {
                Function::Macro { .. } => "Macro",
                Function::Cycler(..) => "Cycler",
                Function::Joiner(..) => "Joiner",
                _ => "function",
            },
        }
    }

    pub(super) fn is_true(&self) -> bool {
        match self {
            Value::Undefined(_) | Value::None => false,
            Value::Bool(is) => *is,
            Value::Int(number) => *number != 0,
            Value::Float(number) => *number != 0.0,
            Value::Text(text) => !text.is_empty(),
            Value::List(list) | Value::Tuple(list) => !list.items.is_empty(),
            Value::Dict(dict) | Value::View(_, dict) => !dict.is_empty(),
            Value::Range(range) => range.len > 0,
            Value::Loop(_) | Value::Generator(_) | Value::Namespace(_) | Value::Function(_) => true,
        }
    }

    pub(super) fn is_undefined(&self) -> bool {
        matches!(self, Value::Undefined(_))
    }

    /// The integer that a value is; truth values are 0 and 1.
    pub(super) fn whole(&self) -> Option<i128> {
        match self {
            Value::Int(number) => Some(*number),
            Value::Bool(is) => Some(i128::from(*is)),
            _ => None,
        }
    }

    /// The number that a value is.
    pub(super) fn number(&self) -> Option<f64> {
        match self {
            Value::Float(number) => Some(*number),
            other => other.whole().map(|number| number as f64),
        }
    }

    /// The text that a value is, or that is written for one: Python's `str`.
    pub(super) fn text(&self, meter: &Meter) -> Made<Rc<str>> {
        if let Value::Text(text) = self {
            return Ok(text.clone());
        }
        let mut text = super::text::Text::new(meter);
        write_str(self, &mut text)?;
        Ok(text.shared())
    }
}

impl List {
    fn new(items: Vec<Value>, meter: &Meter) -> Made<Self> {
        meter.items(items.len())?;
        let depth = depth_over(&items)?;
        Ok(Self { items, depth })
    }
}

impl Range {
    pub(super) fn get(&self, index: usize) -> Value {
        Value::Int(self.start + self.step * index as i128)
    }
}
