//! Jinja as transformers sets it up for chat templates: `ImmutableSandboxedEnvironment` with `trim_blocks`,
//! `lstrip_blocks`, `break` and `continue`, the tag `generation`, and Python's values underneath.
//!
//! One of our own, because tokens depend on the last character that Python would write, and other engines have values
//! of their own: `minijinja` prints `true`, `none` and `{"a": 1}`, joins floats and lists in its own way with `~`, finds
//! the key `items` where Jinja finds the method, has no `%` of text, no chained comparisons and no generators that are
//! always true, and none of it can be changed from outside. Nor can its memory be bounded: a text that doubles forty
//! times is a few steps. Here each text and list is paid for before it is made, values have a depth, and what is not
//! known is an error.
//!
//! `tests/golden/chats` holds what Jinja2 makes of some three hundred expressions and some thirty templates.

mod ast;
mod fault;
mod filters;
mod given;
mod json;
mod lexer;
mod methods;
mod parser;
mod probes;
mod run;
mod text;
mod value;

pub(crate) use fault::Fault;
use fault::Meter;
pub use text::{capitalized, is_space};
use value::Value;

/// A parsed template.
#[derive(Debug)]
pub(crate) struct Program {
    body: ast::Body,
}

impl Program {
    /// Parses a template. Errors on what Jinja or transformers would refuse, and on tags that no chat template has.
    pub(crate) fn parse(source: &str) -> Result<Self, Fault> {
        parser::parse(source).map(|body| Self { body })
    }

    /// The text that the template makes of values by name; `clock` answers `strftime_now`.
    pub(crate) fn render(
        &self,
        names: &[(&str, &serde_json::Value)],
        clock: &dyn Fn(&str) -> Result<String, String>,
    ) -> Result<String, Fault> {
        let meter = Meter::default();
        let mut values = Vec::with_capacity(names.len());
        for (name, value) in names {
            values.push((*name, Value::of_json(value, &meter)?));
        }
        run::run(&self.body, values, &meter, clock)
    }
}
