//! Labels in colour, as the parser of the command line prints its own.

use std::ffi::OsString;
use std::io::IsTerminal;

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
    pub fn painted(self, colour: bool) -> String {
        let (word, start) = match self {
            Label::Error => ("error:", RED),
            Label::Note => ("note:", CYAN),
        };
        if colour { format!("{start}{word}{RESET}") } else { word.to_string() }
    }
}

/// True if stderr gets colours: terminals do, unless the environment says otherwise.
pub fn stderr_has_colour() -> bool {
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
