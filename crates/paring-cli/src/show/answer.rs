//! The result of a command: lines for people, an object for programs, and the failure of one that has no result.

use std::io::{ErrorKind, Write};

use paring::{Error, Result};
use serde::Serialize;
use serde_json::{Value, json};

use super::paint;
use super::terminal::{self, one_line, printable};
use super::wrap::{self, wrapped};
use crate::stderr;

/// Prints on stdout, at once.
pub fn out(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        // A reader that has seen enough, such as head, is no failure.
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(|source| Error::Io { path: "stdout".into(), source }),
    }
}

/// A line for people.
#[derive(Debug)]
enum Line {
    /// Broken between words on a terminal.
    Text(String),
    /// Left whole: a command to paste, or text whose spaces count.
    Whole(String),
    /// Lines of the program's own, printed as they are.
    Own(String),
}

/// The parts of a command's output, and where they go.
#[derive(Clone, Copy, Debug, Default)]
pub struct Channels {
    /// Stdout gets the result as one JSON object, and stderr the text for people.
    pub json: bool,
    /// Stderr gets neither that text nor progress.
    pub quiet: bool,
}

/// The result of a command.
#[derive(Debug, Default)]
pub struct Answer {
    lines: Vec<Line>,
    /// An object.
    value: Value,
}

/// A command that failed, with the results it had until then.
#[derive(Debug)]
pub struct Failure {
    /// One line.
    text: String,
    /// A command line to paste, which continues the work.
    command: Option<String>,
    /// Exit code of the process.
    pub code: u8,
    until_then: Box<Answer>,
}

impl Answer {
    /// A result as an object, without lines. Errors when it cannot be one.
    pub fn new(result: &impl Serialize) -> Result<Self> {
        let value = serde_json::to_value(result).map_err(|e| Error::Plan(format!("cannot print the result: {e}")))?;
        Ok(Self { lines: Vec::new(), value })
    }

    /// With more lines.
    pub fn lines(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        self.lines.extend(lines.into_iter().map(Line::Text));
        self
    }

    /// With more lines that are never broken.
    pub fn whole_lines(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        self.lines.extend(lines.into_iter().map(Line::Whole));
        self
    }

    /// With a text that the program made itself, of whole lines.
    pub fn own_text(mut self, text: String) -> Self {
        self.lines.push(Line::Own(text));
        self
    }

    /// The object.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// Prints the object on stdout and the lines on stderr, if JSON is asked for; otherwise the lines on stdout. Errors when
    /// stdout takes nothing.
    pub fn print(&self, channels: Channels, events_on_stderr: bool) -> Result<()> {
        if !channels.json {
            return out(&self.text(wrap::of_stdout()));
        }
        if !channels.quiet && !events_on_stderr && !self.lines.is_empty() {
            stderr::text(&self.text(wrap::of_stderr()));
        }
        // A server has printed its object when it began.
        if self.value.is_null() {
            return Ok(());
        }
        // What a terminal would obey is escaped.
        out(&format!("{}\n", terminal::json(&self.value.to_string())))
    }

    fn text(&self, width: Option<usize>) -> String {
        let text = |line: &Line| match line {
            Line::Text(line) => wrapped(&printable(line), width).join("\n") + "\n",
            Line::Whole(line) => format!("{}\n", printable(line)),
            Line::Own(text) => text.clone(),
        };
        self.lines.iter().map(text).collect()
    }
}

impl Failure {
    /// A failure whose message is `text`, which becomes one line.
    pub fn new(text: &str, code: u8) -> Self {
        Self { text: one_line(text), command: None, code, until_then: Box::default() }
    }

    /// With the command line that continues the work.
    pub fn continued_by(self, command: String) -> Self {
        Self { command: Some(command), ..self }
    }

    /// With the results that there were.
    pub fn after(self, until_then: Answer) -> Self {
        Self { until_then: Box::new(until_then), ..self }
    }

    /// The message in one line.
    pub fn text(&self) -> String {
        match &self.command {
            Some(command) => format!("{}. To continue: {command}", self.text),
            None => self.text.clone(),
        }
    }

    /// Prints the results, as far as there are any, and for programs the error in the same object. A stdout that takes
    /// nothing is no second failure.
    pub fn print_results(&mut self, channels: Channels, events_on_stderr: bool) {
        let mut answer = std::mem::take(&mut *self.until_then);
        let mut error = json!({"message": self.text, "code": self.code});
        if let Some(command) = &self.command {
            error["continue"] = json!(command);
        }
        if !answer.value.is_object() {
            answer.value = json!({});
        }
        answer.value["error"] = error;
        if channels.json || !answer.lines.is_empty() {
            answer.print(channels, events_on_stderr).unwrap_or(());
        }
    }

    /// Prints the error on stderr.
    pub fn print_error(&self) {
        paint::error(&self.text, self.command.as_deref());
    }
}

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error = error.into();
        let code = if error.is_misuse() { crate::MISUSE } else { crate::FAILED };
        Self::new(&crate::typed(&error), code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_unless_they_are_whole() {
        let line = || "some words of a sentence".to_string();
        let answer = Answer::new(&json!({})).unwrap().lines([line()]).whole_lines([line()]).own_text("a\tb\n".into());
        assert_eq!(answer.text(Some(20)), format!("some words of a\n  sentence\n{0}\na\tb\n", line()));
        assert_eq!(answer.text(None), format!("{0}\n{0}\na\tb\n", line()));
        let poisoned = Answer::default().lines(["a\u{1b}[2J".to_string()]);
        assert_eq!(poisoned.text(None), "a\u{fffd}[2J\n");
    }

    #[test]
    fn failures_are_one_line_with_a_code() {
        let failure: Failure = Error::Misuse("a\nb".into()).into();
        assert_eq!((failure.text().as_str(), failure.code), ("a b", crate::MISUSE));
        let failure = Failure::from(Error::Plan("c".into())).continued_by("d --resume".into());
        assert_eq!((failure.text().as_str(), failure.code), ("c. To continue: d --resume", crate::FAILED));
    }
}
