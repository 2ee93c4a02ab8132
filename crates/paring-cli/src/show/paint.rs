//! Messages with a label in colour, as the parser of the command line prints its own.

use std::ffi::OsString;
use std::io::IsTerminal;

use super::terminal::one_line;
use super::wrap::{of_stderr, wrapped};
use crate::stderr;

/// The first word of a line on stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// The line says why a command failed.
    Error,
    /// The line says something that deserves attention.
    Note,
}

/// Begins bold letters, red or cyan; ends both.
const RED: &str = "\u{1b}[1m\u{1b}[31m";
const CYAN: &str = "\u{1b}[1m\u{1b}[36m";
const RESET: &str = "\u{1b}[0m";

impl Label {
    /// The label with its colon, in colour or plain.
    fn painted(self, colour: bool) -> String {
        let (word, start) = match self {
            Label::Error => ("error:", RED),
            Label::Note => ("note:", CYAN),
        };
        if colour { format!("{start}{word}{RESET}") } else { word.to_string() }
    }
}

/// Prints the error of a command, and below it the command line that continues the work, if there is one.
pub fn error(message: &str, command: Option<&str>) {
    let Some(command) = command else { return stderr::line(labelled(Label::Error, message)) };
    let message = labelled(Label::Error, &format!("{message}. To continue:"));
    // It is pasted: it stays on one line.
    stderr::line(format_args!("{message}\n  {}", one_line(command)));
}

/// A message for stderr, in one line unless the terminal is narrower, with its label in colour where there are colours.
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

/// True if stderr gets colours: terminals do, unless the environment says otherwise.
fn stderr_has_colour() -> bool {
    has_colour(std::io::stderr().is_terminal(), |name| std::env::var_os(name))
}

/// <https://bixense.com/clicolors> and <https://no-color.org>, as the parser of the command line reads them.
fn has_colour(is_terminal: bool, variable: impl Fn(&str) -> Option<OsString>) -> bool {
    let is = |name: &str, value: &str| variable(name).is_some_and(|text| text == value);
    let is_set = |name: &str| variable(name).is_some_and(|text| !text.is_empty());
    if is_set("NO_COLOR") {
        return false;
    }
    if is_set("CLICOLOR_FORCE") && !is("CLICOLOR_FORCE", "0") {
        return true;
    }
    is_terminal && !is("CLICOLOR", "0") && !is("TERM", "dumb")
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

    #[test]
    fn the_environment_decides_over_colours() {
        for (set, on_a_terminal, in_a_pipe) in [
            (vec![], true, false),
            (vec![("NO_COLOR", "1")], false, false),
            (vec![("NO_COLOR", "")], true, false),
            (vec![("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")], false, false),
            (vec![("CLICOLOR_FORCE", "1")], true, true),
            (vec![("CLICOLOR_FORCE", "0")], true, false),
            (vec![("CLICOLOR", "0")], false, false),
            (vec![("TERM", "dumb")], false, false),
        ] {
            let variable = |name: &str| set.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
            assert_eq!(
                (has_colour(true, variable), has_colour(false, variable)),
                (on_a_terminal, in_a_pipe),
                "{set:?}"
            );
        }
        assert_eq!(
            (Label::Note.painted(false), Label::Error.painted(true)),
            ("note:".into(), "\u{1b}[1m\u{1b}[31merror:\u{1b}[0m".into())
        );
    }
}
