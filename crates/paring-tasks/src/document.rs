//! Documents of tasks as text: contexts, choices and which of them is right.

use serde_json::Value;

use crate::error::{Error, Result};

/// A document as it is asked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Document {
    /// A context that continues in one of several ways.
    Choices(Choices),
    /// A text whose probability is asked, as the model sees it.
    Page {
        /// The text.
        text: String,
        /// Pieces between spaces, and bytes, of the text as it was.
        words: usize,
        bytes: usize,
    },
    /// A text that is summarized.
    Article(Article),
}

/// An article and its summary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Article {
    /// The article.
    pub article: String,
    /// The sentences of a person about it, with line breaks between them.
    pub highlights: String,
}

/// Contexts and continuations.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Choices {
    /// One for all choices, or one for each.
    pub contexts: Vec<String>,
    /// Continuations without the space before them.
    pub choices: Vec<String>,
    /// The number of the right one, from 0.
    pub gold: usize,
}

impl Choices {
    /// The context of a choice.
    pub fn context(&self, choice: usize) -> &str {
        self.contexts.get(choice).or(self.contexts.first()).map_or("", String::as_str)
    }
}

/// A row of a file, with the means to say what is wrong with it.
pub(crate) struct Row<'a> {
    /// The file, and the row in it.
    pub file: &'a str,
    pub place: &'a str,
    pub columns: &'a [&'static str],
    pub values: &'a [Value],
    /// True where the file is somebody's own, and not published.
    pub is_own: bool,
}

impl<'a> Row<'a> {
    /// The error that a column holds something else than what is expected.
    pub fn bad(&self, column: &str, expected: &str, got: &Value) -> Error {
        let Self { file, place, .. } = self;
        let advice = if self.is_own { "change the row, or leave it out" } else { "download or write the file again" };
        Error::documents(format!(
            "{file}: {place}: column {column:?}: expected {expected}, got {}; {advice}",
            shown(got)
        ))
    }

    /// The value of a column, null where there is none.
    pub fn value(&self, column: &str) -> &'a Value {
        const NULL: &Value = &Value::Null;
        let at = self.columns.iter().position(|name| *name == column);
        at.and_then(|at| self.values.get(at)).unwrap_or(NULL)
    }

    /// A text.
    pub fn text(&self, column: &str) -> Result<&'a str> {
        let value = self.value(column);
        value.as_str().ok_or_else(|| self.bad(column, "text", value))
    }

    /// A list of texts, one at least.
    pub fn texts(&self, column: &str) -> Result<Vec<String>> {
        self.list(column, self.value(column))
    }

    /// The list of texts in a field of the objects in a column.
    pub fn texts_in(&self, column: &str, field: &str) -> Result<Vec<String>> {
        let object = self.value(column);
        let list = object.get(field).ok_or_else(|| self.bad(column, "lists text and label", object))?;
        self.list(&format!("{column}.{field}"), list)
    }

    fn list(&self, column: &str, value: &Value) -> Result<Vec<String>> {
        let bad = || self.bad(column, "a list of texts", value);
        let list = value.as_array().filter(|list| !list.is_empty()).ok_or_else(bad)?;
        list.iter().map(|text| Ok(text.as_str().ok_or_else(bad)?.to_owned())).collect()
    }

    /// A number of one of `count` choices, from 0.
    pub fn number(&self, column: &str, count: usize) -> Result<usize> {
        let value = self.value(column);
        let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
        number.filter(|&number| number < count).ok_or_else(|| self.bad(column, &up_to(count), value))
    }
}

/// The words for the numbers of `count` choices.
pub(crate) fn up_to(count: usize) -> String {
    match count {
        0 | 1 => "0".into(),
        2 => "0 or 1".into(),
        count => format!("a whole number from 0 to {}", count - 1),
    }
}

/// A value in a message: short, and of one line.
fn shown(value: &Value) -> String {
    const MOST: usize = 60;
    match value {
        Value::Null => "nothing".into(),
        Value::Array(list) if list.is_empty() => "an empty list".into(),
        other => {
            let text = other.to_string();
            if text.chars().count() > MOST { text.chars().take(MOST).chain(['…']).collect() } else { text }
        }
    }
}
