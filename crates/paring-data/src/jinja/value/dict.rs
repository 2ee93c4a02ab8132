//! Dicts: entries in the order in which their keys came.

use std::collections::HashMap;
use std::rc::Rc;

use super::{Value, depth_over};
use crate::jinja::fault::{Made, Meter, fault};

#[derive(Clone, Default)]
pub(crate) struct Dict {
    entries: Vec<(Value, Value)>,
    places: HashMap<Key, usize>,
    depth: usize,
}

/// A value by which dicts find an entry: numbers of equal value are one.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    Undefined,
    None,
    Int(i128),
    Float(u64),
    Text(Rc<str>),
    Tuple(Vec<Key>),
    Range(i128, i128, usize),
}

impl Key {
    /// Errors for values that Python cannot hash.
    pub(crate) fn of(value: &Value, meter: &Meter) -> Made<Self> {
        Ok(match value {
            Value::Undefined(_) => Key::Undefined,
            Value::None => Key::None,
            Value::Bool(is) => Key::Int(i128::from(*is)),
            Value::Int(number) => Key::Int(*number),
            Value::Float(number) if number.fract() == 0.0 && number.abs() < 1e30 => Key::Int(*number as i128),
            Value::Float(number) => Key::Float(number.to_bits()),
            Value::Text(text) => Key::Text(text.clone()),
            Value::Tuple(list) => {
                meter.items(list.items.len())?;
                Key::Tuple(list.items.iter().map(|item| Key::of(item, meter)).collect::<Made<_>>()?)
            }
            Value::Range(range) => Key::Range(range.start, range.step, range.len),
            other => return fault(format!("unhashable type: '{}'", other.kind())),
        })
    }
}

impl Dict {
    /// Puts a value under a key, in the place of an earlier one of the same key.
    pub(crate) fn insert(&mut self, key: Value, value: Value, meter: &Meter) -> Made<()> {
        meter.items(3)?;
        self.depth = self.depth.max(depth_over([&key, &value])?);
        let hashed = Key::of(&key, meter)?;
        match self.places.get(&hashed) {
            Some(&place) => self.entries[place].1 = value,
            None => {
                self.places.insert(hashed, self.entries.len());
                self.entries.push((key, value));
            }
        }
        Ok(())
    }

    /// The value under a key. Errors for a key that cannot be one.
    pub(crate) fn get(&self, key: &Value, meter: &Meter) -> Made<Option<&Value>> {
        Ok(self.places.get(&Key::of(key, meter)?).map(|&place| &self.entries[place].1))
    }

    pub(crate) fn named(&self, name: &str) -> Option<&Value> {
        self.places.get(&Key::Text(name.into())).map(|&place| &self.entries[place].1)
    }

    pub(crate) fn entries(&self) -> &[(Value, Value)] {
        &self.entries
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn depth(&self) -> usize {
        self.depth.max(1)
    }
}
