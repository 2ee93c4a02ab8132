//! Documents of JSON that are no lines: the elements of one list, alone or in an object, or objects over several lines.
//! They are found by brackets and quotes, one by one, so that none but the one at hand is in memory.

use std::io::{self, BufRead};
use std::path::Path;

use crate::json::is_named;
use crate::unpack::{MAX_LINE, Packing, Unpacked};
use crate::{Error, Result};

#[cfg(test)]
mod tests;

/// The way in which a file of JSON holds its documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A value a line.
    Lines,
    /// The elements of one list.
    List,
    /// The elements of the list in this field of one object.
    Field(String),
    /// One object after the other, over several lines each.
    Objects,
}

/// A document that is no line.
pub(super) struct Element<'a> {
    /// From 1.
    pub number: usize,
    /// The line that it begins in.
    pub line: usize,
    pub bytes: &'a [u8],
}

/// Why reading ended early.
enum Stop {
    Failed(io::Error),
    /// Not JSON.
    Wrong(String),
    /// An error of who looks.
    Seen(Error),
    /// Enough was seen.
    Enough,
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Stop::Failed(error)
    }
}

fn wrong<T>(reason: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Wrong(reason.into()))
}

/// The form of a file whose documents have the field `field`.
///
/// A list has its bracket first. Of an object, all is read: one that lacks the field, has one list of objects in it and
/// nothing after it holds its documents there, as `{"data": [...]}` does. What is no JSON counts as lines, or as objects
/// where the first bracket is alone on its line; the reason shows when documents are read.
pub(super) fn form(path: &Path, packing: Packing, field: &str) -> Result<Form> {
    let mut walk = Walk { source: Unpacked::open(path, packing)?.without_mark()?, line: 1 };
    let mut pretty = false;
    Ok(walk.form(field, &mut pretty).unwrap_or(if pretty { Form::Objects } else { Form::Lines }))
}

/// Shows each document of a file in a form that is not lines to `see`, until that returns `false`.
///
/// Errors when the file cannot be read or unpacked, is no JSON between its documents, or has one of more than 64 MiB.
pub(super) fn each(
    path: &Path,
    packing: Packing,
    form: &Form,
    see: &mut dyn FnMut(Element<'_>) -> Result<bool>,
) -> Result<()> {
    let mut walk = Walk { source: Unpacked::open(path, packing)?.without_mark()?, line: 1 };
    let mut number = 0;
    let end = walk.each(form, &mut |line, bytes| {
        number += 1;
        match see(Element { number, line, bytes }) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Stop::Enough),
            Err(error) => Err(Stop::Seen(error)),
        }
    });
    let place = format!("line {}", walk.line);
    match end {
        Ok(()) | Err(Stop::Enough) => Ok(()),
        Err(Stop::Seen(error)) => Err(error),
        Err(Stop::Wrong(reason)) => Err(walk.source.bad(format!("{place}: not JSON: {reason}"))),
        Err(Stop::Failed(error)) => Err(walk.source.failed(&place, &error)),
    }
}

/// A place in a file of JSON.
struct Walk<'a> {
    source: Unpacked<'a>,
    /// From 1.
    line: usize,
}

type See<'s> = &'s mut dyn FnMut(usize, &[u8]) -> Result<(), Stop>;

impl Walk<'_> {
    /// The byte that comes next after spaces, which is not taken; `None` at the end.
    fn peek(&mut self) -> io::Result<Option<u8>> {
        loop {
            let buffer = self.source.reader.fill_buf()?;
            let Some(&first) = buffer.first() else { return Ok(None) };
            let spaces = buffer.iter().take_while(|b| matches!(b, b' ' | b'\n' | b'\r' | b'\t')).count();
            if spaces == 0 {
                return Ok(Some(first));
            }
            self.line += newlines(&buffer[..spaces]);
            self.source.reader.consume(spaces);
        }
    }

    /// Takes a byte if it comes next.
    fn has(&mut self, byte: u8) -> io::Result<bool> {
        let has = self.peek()? == Some(byte);
        self.source.reader.consume(usize::from(has));
        Ok(has)
    }

    /// Takes what closes `depth` brackets, and puts it into `text` if that is there.
    fn rest(&mut self, depth: usize, mut text: Option<&mut Vec<u8>>) -> Result<(), Stop> {
        let mut state = State { depth, begun: depth > 0, ..State::default() };
        loop {
            let buffer = self.source.reader.fill_buf()?;
            if buffer.is_empty() {
                return if state.may_end() { Ok(()) } else { wrong("it ends too early: was it cut off?") };
            }
            let end = buffer.iter().position(|&byte| state.is_over(byte));
            let taken = &buffer[..end.unwrap_or(buffer.len())];
            if let Some(text) = &mut text {
                if text.len() + taken.len() > MAX_LINE {
                    return wrong(format!("a document of more than {} MiB", MAX_LINE >> 20));
                }
                text.extend_from_slice(taken);
            }
            self.line += newlines(taken);
            let taken = taken.len();
            self.source.reader.consume(taken);
            if end.is_some() {
                return Ok(());
            }
        }
    }

    /// Takes a value.
    fn value(&mut self, text: Option<&mut Vec<u8>>) -> Result<(), Stop> {
        match self.peek()? {
            None => wrong("it ends where a value should be: was it cut off?"),
            Some(byte @ (b',' | b':' | b']' | b'}')) => {
                wrong(format!("a value is missing before {}", char::from(byte)))
            }
            Some(_) => self.rest(0, text),
        }
    }

    /// Takes the fields of an object whose bracket was taken; `member` takes the value of each.
    fn fields(&mut self, member: &mut dyn FnMut(&mut Self, &str) -> Result<(), Stop>) -> Result<(), Stop> {
        if self.has(b'}')? {
            return Ok(());
        }
        loop {
            if self.peek()? != Some(b'"') {
                return wrong("expected the name of a field, in double quotes");
            }
            let mut key = Vec::new();
            self.value(Some(&mut key))?;
            let Ok(key) = String::from_utf8(key) else { return wrong("the name of a field is not UTF-8") };
            if !self.has(b':')? {
                return wrong("expected a colon after the name of a field");
            }
            member(self, &key)?;
            if self.has(b'}')? {
                return Ok(());
            }
            if !self.has(b',')? {
                return wrong("expected a comma or } after a field");
            }
        }
    }

    /// Sets `pretty` where the first bracket is alone on its line.
    fn form(&mut self, field: &str, pretty: &mut bool) -> Result<Form, Stop> {
        self.peek()?;
        let begin = self.line;
        if self.has(b'[')? {
            let next = self.peek()?;
            // A line can be a list too, though not one of objects.
            return Ok(if matches!(next, Some(b'{' | b']')) || self.line > begin { Form::List } else { Form::Lines });
        }
        if !self.has(b'{')? {
            return Ok(Form::Lines);
        }
        self.peek()?;
        *pretty = self.line > begin;
        let (mut wanted, mut lists) = (false, Vec::new());
        self.fields(&mut |walk, key| {
            wanted |= is_named(key, field);
            if !walk.has(b'[')? {
                return walk.value(None);
            }
            if walk.peek()? == Some(b'{') && lists.len() < 2 {
                lists.push(key.to_string());
            }
            walk.rest(1, None)
        })?;
        let long = self.line > begin;
        Ok(match (lists.pop(), self.peek()?) {
            (Some(list), None) if !wanted && lists.is_empty() => Form::Field(list),
            _ if long => Form::Objects,
            _ => Form::Lines,
        })
    }

    fn each(&mut self, form: &Form, see: See<'_>) -> Result<(), Stop> {
        match form {
            Form::Lines => return Ok(()),
            Form::List => {
                self.has(b'[')?;
                self.elements(see)?;
            }
            Form::Field(name) => {
                self.has(b'{')?;
                self.fields(&mut |walk, key| {
                    if key == name && walk.has(b'[')? { walk.elements(&mut *see) } else { walk.value(None) }
                })?;
            }
            Form::Objects => {
                let mut text = Vec::new();
                while self.peek()?.is_some() {
                    self.element(&mut text, see)?;
                }
            }
        }
        match self.peek()? {
            None => Ok(()),
            Some(_) => wrong("something after the end of the list"),
        }
    }

    fn element(&mut self, text: &mut Vec<u8>, see: See<'_>) -> Result<(), Stop> {
        self.peek()?;
        let line = self.line;
        text.clear();
        self.value(Some(text))?;
        see(line, text)
    }

    /// Shows the elements of a list whose bracket was taken.
    fn elements(&mut self, see: See<'_>) -> Result<(), Stop> {
        if self.has(b']')? {
            return Ok(());
        }
        let mut text = Vec::new();
        loop {
            self.element(&mut text, see)?;
            if self.has(b']')? {
                return Ok(());
            }
            if !self.has(b',')? {
                return match self.peek()? {
                    None => wrong("it ends in the middle of the list: was it cut off?"),
                    Some(_) => wrong("expected a comma or ] after an element of the list"),
                };
            }
            if self.peek()? == Some(b']') {
                return wrong("a comma before ], after which JSON wants another value");
            }
        }
    }
}

fn newlines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|&&b| b == b'\n').count()
}

/// The inside of a value.
#[derive(Default)]
struct State {
    /// Open brackets.
    depth: usize,
    quoted: bool,
    escaped: bool,
    /// Something of it was taken, …
    begun: bool,
    /// … and its last bracket or quote.
    closed: bool,
}

impl State {
    /// Takes a byte, unless the value was over before it.
    fn is_over(&mut self, byte: u8) -> bool {
        if self.closed {
            return true;
        }
        if self.quoted {
            self.quoted = self.escaped || byte != b'"';
            self.escaped = !self.escaped && byte == b'\\';
            self.closed = !self.quoted && self.depth == 0;
            return false;
        }
        match byte {
            b'}' | b']' | b',' | b' ' | b'\t' | b'\r' | b'\n' if self.depth == 0 && self.begun => return true,
            b'"' => self.quoted = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                self.closed = self.depth == 0;
            }
            _ => {}
        }
        self.begun = true;
        false
    }

    /// True where a file may end: after a bracket or a quote, or a number or word alone.
    fn may_end(&self) -> bool {
        self.closed || (self.depth == 0 && !self.quoted)
    }
}
