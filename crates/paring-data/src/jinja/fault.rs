//! Errors of templates, and what bounds their work.

use std::cell::Cell;
use std::fmt;

/// Steps that a template may take; a message takes some dozens.
pub(crate) const STEPS: u64 = 2_000_000;
/// Bytes of text and lists that a template may make in all, that it may look through, and of one text.
pub(crate) const BYTES: u64 = 256 << 20;
const LOOKS: u64 = 2 << 30;
pub(crate) const TEXT: usize = 64 << 20;

/// The reason why a template, or what it does with messages, is wrong.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fault {
    text: String,
    line: Option<usize>,
}

impl Fault {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), line: None }
    }

    pub(super) fn syntax(text: impl Into<String>, line: usize) -> Self {
        Self { text: format!("syntax error: {}", text.into()), line: Some(line) }
    }

    /// The same in a line of the template, unless that is known.
    pub(super) fn at(mut self, line: usize) -> Self {
        self.line.get_or_insert(line);
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{} (line {line} of the template)", self.text),
            None => f.write_str(&self.text),
        }
    }
}

pub(crate) type Made<T> = Result<T, Fault>;

/// An error of this text.
pub(super) fn fault<T>(text: impl Into<String>) -> Made<T> {
    Err(Fault::new(text))
}

/// The work that a template has done.
#[derive(Default)]
pub(crate) struct Meter {
    steps: Cell<u64>,
    bytes: Cell<u64>,
    looks: Cell<u64>,
}

impl Meter {
    /// Errors when this many steps are too many.
    pub(super) fn steps(&self, count: usize) -> Made<()> {
        let steps = self.steps.get().saturating_add(count as u64);
        self.steps.set(steps);
        if steps > STEPS { fault(format!("it does not come to an end in {STEPS} steps")) } else { Ok(()) }
    }

    /// Errors when this many bytes, which are made next, are too many.
    pub(super) fn bytes(&self, count: usize) -> Made<()> {
        let bytes = self.bytes.get().saturating_add(count as u64);
        self.bytes.set(bytes);
        if bytes > BYTES { fault(format!("it makes more than {} MiB of text and lists", BYTES >> 20)) } else { Ok(()) }
    }

    /// Errors when this many bytes, which are looked through next, are too many.
    pub(super) fn looks(&self, count: usize) -> Made<()> {
        let looks = self.looks.get().saturating_add(count as u64);
        self.looks.set(looks);
        if looks > LOOKS { fault(format!("it looks through more than {} MiB of text", LOOKS >> 20)) } else { Ok(()) }
    }

    /// Errors when a list of this length is too long, before it is made.
    pub(super) fn items(&self, count: usize) -> Made<()> {
        self.bytes(count.saturating_mul(LISTED))
    }
}

/// Bytes of a value in a list.
const LISTED: usize = 64;
