//! The items of values, as a loop sees them.

use super::{Value, View};
use crate::jinja::fault::{Made, Meter, fault};

impl Value {
    /// The items of a value that has some; a generator has none afterwards.
    pub(in crate::jinja) fn items(&self, meter: &Meter) -> Made<Vec<Value>> {
        let count = self.len().unwrap_or(0);
        meter.items(count)?;
        meter.steps(count / 16)?;
        Ok(match self {
            Value::Undefined(_) => Vec::new(),
            Value::Text(text) => text.chars().map(|c| Value::from(&*c.encode_utf8(&mut [0; 4]))).collect(),
            Value::List(list) | Value::Tuple(list) => list.items.clone(),
            Value::Dict(dict) | Value::View(View::Keys, dict) => {
                dict.entries().iter().map(|(key, _)| key.clone()).collect()
            }
            Value::View(View::Values, dict) => dict.entries().iter().map(|(_, value)| value.clone()).collect(),
            Value::View(View::Items, dict) => {
                let pair = |(key, value): &(Value, Value)| Value::tuple(vec![key.clone(), value.clone()], meter);
                dict.entries().iter().map(pair).collect::<Made<_>>()?
            }
            Value::Range(range) => (0..range.len).map(|i| range.get(i)).collect(),
            Value::Generator(generator) => {
                let left = std::mem::take(&mut *generator.left.borrow_mut());
                meter.items(left.len())?;
                left.into()
            }
            other => return fault(format!("'{}' object is not iterable", other.kind())),
        })
    }

    /// Python's `len`; `None` where it has none.
    pub(in crate::jinja) fn len(&self) -> Option<usize> {
        Some(match self {
            Value::Undefined(_) => 0,
            Value::Text(text) => text.chars().count(),
            Value::List(list) | Value::Tuple(list) => list.items.len(),
            Value::Dict(dict) | Value::View(_, dict) => dict.len(),
            Value::Range(range) => range.len,
            Value::Loop(state) => state.items.len(),
            _ => return None,
        })
    }
}
