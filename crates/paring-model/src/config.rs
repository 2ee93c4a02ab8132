//! Values of `config.json`, checked for type and range as they are read.

use std::ops::RangeInclusive;

use serde_json::Value;

use crate::{Error, Result};

/// A JSON object of the config, and its place for error messages.
#[derive(Clone)]
pub struct Config<'a> {
    file: String,
    path: String,
    value: &'a Value,
}

impl<'a> Config<'a> {
    /// The whole config in `value`, read from `file`.
    pub fn new(file: impl Into<String>, value: &'a Value) -> Self {
        Self { file: file.into(), path: String::new(), value }
    }

    /// The config file, for messages.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The value of `key`, if it is there and not null.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.value.get(key).filter(|value| !value.is_null())
    }

    /// True if `key` is there, be it as null: an absent key can mean a default and null that there is none.
    pub fn has(&self, key: &str) -> bool {
        self.value.get(key).is_some()
    }

    /// The error that `key` should have been `expected`.
    pub fn bad(&self, key: &str, expected: impl Into<String>) -> Error {
        let mut got = self.get(key).map_or("nothing".to_string(), Value::to_string);
        if got.len() > 80 {
            got = got.chars().take(77).chain("...".chars()).collect();
        }
        Error::BadConfig { file: self.file.clone(), key: self.full(key), expected: expected.into(), got }
    }

    /// The object under `key`; `None` where it is missing, null or empty. Errors when it is something else.
    pub fn section(&self, key: &str) -> Result<Option<Config<'a>>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Object(object)) if object.is_empty() => Ok(None),
            Some(value @ Value::Object(_)) => {
                Ok(Some(Config { file: self.file.clone(), path: format!("{}.", self.full(key)), value }))
            }
            Some(_) => Err(self.bad(key, "an object or null")),
        }
    }

    /// A required whole number in `range`.
    pub fn size(&self, key: &str, range: RangeInclusive<usize>) -> Result<usize> {
        self.size_if(key, range)?.ok_or_else(|| self.missing(key))
    }

    /// A whole number in `range`, if the key is there.
    pub fn size_if(&self, key: &str, range: RangeInclusive<usize>) -> Result<Option<usize>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_u64().and_then(|n| usize::try_from(n).ok()) {
            Some(n) if range.contains(&n) => Ok(Some(n)),
            _ => Err(self.bad(key, format!("a whole number from {} to {}", range.start(), range.end()))),
        }
    }

    /// A required finite number in `range`.
    pub fn number(&self, key: &str, range: RangeInclusive<f64>) -> Result<f64> {
        self.number_if(key, range)?.ok_or_else(|| self.missing(key))
    }

    /// A finite number in `range`, if the key is there.
    pub fn number_if(&self, key: &str, range: RangeInclusive<f64>) -> Result<Option<f64>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_f64() {
            Some(x) if range.contains(&x) => Ok(Some(x)),
            _ => Err(self.bad(key, format!("a number from {} to {}", range.start(), range.end()))),
        }
    }

    /// A truth value; `default` where the key is missing.
    pub fn flag(&self, key: &str, default: bool) -> Result<bool> {
        match self.get(key) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(self.bad(key, "true or false")),
        }
    }

    /// A text, if the key is there.
    pub fn text_if(&self, key: &str) -> Result<Option<&'a str>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.bad(key, "a string")),
        }
    }

    /// The error that `key` is missing.
    pub fn missing(&self, key: &str) -> Error {
        Error::MissingConfigKey { file: self.file.clone(), key: self.full(key) }
    }

    fn full(&self, key: &str) -> String {
        format!("{}{key}", self.path)
    }
}
