//! The fields of a JSON object. Null is as good as no field.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::problem::Problem;

/// Characters of a value that a message shows.
const SHOWN: usize = 60;

/// The fields of a request.
pub struct Fields(Map<String, Value>);

/// A value of a field that is of another type.
pub fn wrong(name: &str, expected: &str, got: &Value) -> Problem {
    let mut text = got.to_string();
    if let Some((at, _)) = text.char_indices().nth(SHOWN) {
        text.truncate(at);
        text.push('…');
    }
    Problem::field(name, format!("expected {expected}, got {text}"))
}

impl Fields {
    pub fn new(object: Map<String, Value>) -> Self {
        Self(object)
    }

    /// Takes the value of a field.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    fn get<T>(
        &mut self,
        name: &str,
        expected: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>, Problem> {
        match self.take(name) {
            None => Ok(None),
            Some(value) => read(&value).map(Some).ok_or_else(|| wrong(name, expected, &value)),
        }
    }

    pub fn text(&mut self, name: &str) -> Result<Option<String>, Problem> {
        self.get(name, "a string", |value| value.as_str().map(String::from))
    }

    pub fn flag(&mut self, name: &str) -> Result<bool, Problem> {
        Ok(self.get(name, "true or false", Value::as_bool)?.unwrap_or(false))
    }

    /// A whole number in a range.
    pub fn count(&mut self, name: &str, range: RangeInclusive<usize>) -> Result<Option<usize>, Problem> {
        let (least, most) = (*range.start(), *range.end());
        let expected = match most {
            usize::MAX => format!("a whole number of at least {least}"),
            most => format!("a whole number from {least} to {most}"),
        };
        self.get(name, &expected, |value| {
            // Larger ones than a machine counts are only too large.
            let number = value.as_u64()?;
            Some(usize::try_from(number).unwrap_or(usize::MAX)).filter(|number| range.contains(number))
        })
    }

    /// A whole number of any sign.
    pub fn whole(&mut self, name: &str) -> Result<Option<i64>, Problem> {
        // The larger half of what 64 bits hold without a sign is as good as any.
        self.get(name, "a whole number", |value| value.as_i64().or_else(|| value.as_u64().map(|number| number as i64)))
    }

    /// A number in a range.
    pub fn number(&mut self, name: &str, range: RangeInclusive<f32>) -> Result<Option<f32>, Problem> {
        let expected = format!("a number from {} to {}", range.start(), range.end());
        self.get(name, &expected, |value| Some(value.as_f64()? as f32).filter(|number| range.contains(number)))
    }

    /// The fields of an object in a field.
    pub fn object(&mut self, name: &str) -> Result<Option<Fields>, Problem> {
        let object = self.get(name, "an object", |value| value.as_object().cloned())?;
        Ok(object.map(Fields))
    }

    /// All that is left.
    pub fn into_inner(self) -> Map<String, Value> {
        self.0
    }

    /// Errors where a field has another value than those that change nothing.
    pub fn refuse(&mut self, name: &str, is_nothing: impl FnOnce(&Value) -> bool, why: &str) -> Result<(), Problem> {
        match self.take(name) {
            Some(value) if !is_nothing(&value) => Err(Problem::field(name, why)),
            _ => Ok(()),
        }
    }
}
