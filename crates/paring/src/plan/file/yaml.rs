//! YAML text → a tree with lines, within bounds.
//!
//! Anchors, aliases and tags are refused: recipes need none, and without them a file cannot unfold to more than it says.

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput};
use serde_json::{Map, Number, Value};

use super::at;
use crate::Result;

/// Deepest nesting of lists and mappings.
const DEEPEST: usize = 16;

/// A value and its line, from 1.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) tree: Tree,
}

#[derive(Clone, Debug)]
pub(super) enum Tree {
    /// Text, and whether it stands without quotes, so that it may be a number.
    Scalar(String, bool),
    List(Vec<Node>),
    /// Keys in the order of the file, each once.
    Map(Vec<(String, Node)>),
}

struct Reader<'a> {
    path: &'a str,
    parser: Parser<'a, StrInput<'a>>,
    /// Line of the last event.
    line: usize,
}

/// The one document of the text. Errors with file and line.
pub(super) fn parse(path: &str, text: &str) -> Result<Node> {
    let mut reader = Reader { path, parser: Parser::new_from_str(text), line: 1 };
    loop {
        match reader.next()? {
            Event::StreamStart | Event::DocumentStart(_) | Event::Nothing => {}
            Event::StreamEnd => {
                return Err(at(
                    path,
                    reader.line,
                    "the file is empty; expected stages and modifiers, such as GPTQModifier",
                ));
            }
            event => {
                let node = reader.node(event, 0)?;
                return match (reader.next()?, reader.next()?) {
                    (Event::DocumentEnd, Event::StreamEnd) => Ok(node),
                    _ => Err(at(path, reader.line, "more than one document; put the others into files of their own")),
                };
            }
        }
    }
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Event<'a>> {
        let bad = |e: &ScanError| at(self.path, e.marker().line(), format!("not YAML: {}", e.info()));
        match self.parser.next_event() {
            None => Ok(Event::StreamEnd),
            Some(Err(error)) => Err(bad(&error)),
            Some(Ok((event, Span { start, .. }))) => {
                self.line = start.line();
                Ok(event)
            }
        }
    }

    /// The value that begins with this event.
    fn node(&mut self, event: Event<'a>, depth: usize) -> Result<Node> {
        let line = self.line;
        let fail = |text: String| Err(at(self.path, line, text));
        if depth > DEEPEST {
            return fail(format!("lists and mappings are nested more than {DEEPEST} deep; recipes need no more"));
        }
        let (anchor, tag) = match &event {
            Event::Scalar(_, _, anchor, tag) => (*anchor, tag),
            Event::SequenceStart(anchor, tag) | Event::MappingStart(anchor, tag) => (*anchor, tag),
            Event::Alias(_) => return fail("aliases are not read; write it out".into()),
            _ => return fail("a value is missing after the key".into()),
        };
        if anchor != 0 {
            return fail("anchors are not read; write it out".into());
        }
        if let Some(tag) = tag {
            return fail(format!("the tag {tag} is not read; remove it"));
        }
        let tree = match event {
            Event::Scalar(text, style, ..) => Tree::Scalar(text.into_owned(), style == ScalarStyle::Plain),
            Event::SequenceStart(..) => Tree::List(self.list(depth)?),
            _ => Tree::Map(self.map(depth)?),
        };
        Ok(Node { line, tree })
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>> {
        let mut list = Vec::new();
        loop {
            match self.next()? {
                Event::SequenceEnd => return Ok(list),
                event => list.push(self.node(event, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<(String, Node)>> {
        let mut map = Vec::new();
        let mut seen = std::collections::BTreeSet::new();
        loop {
            let key = match self.next()? {
                Event::MappingEnd => return Ok(map),
                event => self.node(event, depth + 1)?,
            };
            let Tree::Scalar(name, _) = key.tree else {
                return Err(at(self.path, key.line, "a key is not text; expected key: value"));
            };
            if !seen.insert(name.clone()) {
                return Err(at(self.path, key.line, format!("the key {name} occurs twice; remove one")));
            }
            let event = self.next()?;
            let value = self.node(event, depth + 1)?;
            // The line of the key is where people look.
            map.push((name, Node { line: key.line, ..value }));
        }
    }
}

impl Node {
    /// The text of a scalar.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.tree {
            Tree::Scalar(text, _) => Some(text),
            _ => None,
        }
    }

    /// True if there is no value.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.tree, Tree::Scalar(text, true) if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The same in JSON, numbers and bools as YAML's core schema has them.
    pub(super) fn json(&self) -> Value {
        match &self.tree {
            _ if self.is_null() => Value::Null,
            Tree::Scalar(text, true) => match text.as_str() {
                "true" | "True" | "TRUE" => Value::Bool(true),
                "false" | "False" | "FALSE" => Value::Bool(false),
                text => {
                    let float = || text.parse().ok().and_then(Number::from_f64);
                    let number = text.parse::<i64>().map(Number::from).ok().or_else(float);
                    number.map_or_else(|| text.into(), Value::Number)
                }
            },
            Tree::Scalar(text, false) => text.as_str().into(),
            Tree::List(list) => list.iter().map(Node::json).collect(),
            Tree::Map(map) => Value::Object(map.iter().map(|(k, v)| (k.clone(), v.json())).collect::<Map<_, _>>()),
        }
    }
}
