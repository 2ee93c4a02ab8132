//! Lines on stderr. One that nobody takes is dropped: neither the code of an error nor a run of hours depends on its log.

use std::fmt::Display;
use std::io::{self, Write};

use crate::show::paint::{Label, stderr_has_colour};
use crate::show::terminal::one_line;
use crate::show::wrap::{of_stderr, wrapped};

/// Prints a line.
pub fn line(text: impl Display) {
    self::text(&format!("{text}\n"));
}

/// Prints lines, each with its end.
pub fn text(text: &str) {
    // One call, so that lines of several threads stay whole.
    io::stderr().write_all(text.as_bytes()).unwrap_or(());
}

/// Prints the error of a command, and below it the command line that continues the work, if there is one.
pub fn error(message: &str, command: Option<&str>) {
    let Some(command) = command else { return line(labelled(Label::Error, message)) };
    let message = labelled(Label::Error, &format!("{message}. To continue:"));
    // It is pasted: it stays on one line.
    line(format_args!("{message}\n  {}", one_line(command)));
}

/// A message, in one line unless the terminal is narrower, with its label in colour where stderr has colours.
pub fn labelled(label: Label, message: &str) -> String {
    styled(label, message, of_stderr(), stderr_has_colour())
}

fn styled(label: Label, message: &str, width: Option<usize>, colour: bool) -> String {
    let plain = label.painted(false);
    let lines = wrapped(&format!("{plain} {}", one_line(message)), width).join("\n");
    match lines.strip_prefix(&plain) {
        Some(rest) => label.painted(colour) + rest,
        None => lines,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_labelled_and_broken() {
        assert_eq!(styled(Label::Note, "some words\nof more", None, false), "note: some words of more");
        assert_eq!(
            styled(Label::Error, "some words that are too many", Some(20), true),
            "\u{1b}[1m\u{1b}[31merror:\u{1b}[0m some words\n  that are too many"
        );
    }
}
