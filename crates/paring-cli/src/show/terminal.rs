//! Text on its way to a terminal. What came out of a file, a path or an option may hold characters that a terminal obeys:
//! everything that is printed passes here.

use std::borrow::Cow;
use std::io::{self, Write};

use paring_format::names::is_obeyed;

/// Characters of a line on stderr that are printed at most: names out of a file can have any length.
const LONGEST: usize = 4000;
/// Columns of a name in a table.
pub const NAME: usize = 100;

/// One line as a terminal can show it: characters that it would obey, and line ends, are replaced.
pub fn printable(text: &str) -> Cow<'_, str> {
    match text.contains(is_obeyed) {
        true => text.chars().map(|c| if is_obeyed(c) { char::REPLACEMENT_CHARACTER } else { c }).collect(),
        false => text.into(),
    }
}

/// A text of lines as a terminal can show it: other characters that it would obey are replaced.
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    let is_bad = |c: char| is_obeyed(c) && c != '\n' && c != '\t';
    match text.contains(is_bad) {
        true => text.chars().map(|c| if is_bad(c) { char::REPLACEMENT_CHARACTER } else { c }).collect(),
        false => text.into(),
    }
}

/// A text for stderr, whatever it holds, in one line that is not too long.
pub fn one_line(text: &str) -> String {
    // Errors of libraries below may span lines; ours is one.
    let line = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    cut(&printable(&line), LONGEST + 1)
}

/// A name for a table.
pub fn name(name: &str) -> String {
    cut(name, NAME)
}

/// A text of `most` characters or fewer, with an ellipsis where something is missing.
pub fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_string(),
        Some(_) => text.chars().take(most - 1).chain(['…']).collect(),
    }
}

/// Stderr for lines of a library, each of which comes in one piece.
pub struct Printable;

impl Write for Printable {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(piece);
        let lines: Vec<_> = text.split('\n').map(printable).collect();
        io::stderr().write_all(lines.join("\n").as_bytes())?;
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// JSON whose strings a terminal can show: the same value, with more characters escaped than JSON asks for.
pub fn json(text: &str) -> Cow<'_, str> {
    // Between strings there is nothing of the kind.
    if !text.contains(is_obeyed) {
        return text.into();
    }
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        // All of them are below U+10000, so that one escape is enough.
        match is_obeyed(c) {
            true => escaped.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => escaped.push(c),
        }
    }
    escaped.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_one_line_that_a_terminal_can_show() {
        assert_eq!(one_line("a:\n  b\r\n\n c\n"), "a: b c");
        assert_eq!(one_line("a\u{1b}[2Jb\rc\u{9b}d\u{202e}"), "a\u{fffd}[2Jb\u{fffd}c\u{fffd}d\u{fffd}");
        let long = one_line(&"é".repeat(5000));
        assert_eq!((long.chars().count(), long.ends_with("é…")), (4001, true));
    }

    #[test]
    fn lines_and_json_hold_nothing_that_is_obeyed() {
        let marks =
            "\u{0}\u{1b}\n\t\u{7f}\u{85}\u{9b}\u{61c}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{202e}\u{2066}\u{2069}";
        let bad = format!("é{marks}漢");
        assert_eq!(printable(&bad), format!("é{}漢", "\u{fffd}".repeat(marks.chars().count())));
        assert_eq!(printable("plain é 漢 –"), "plain é 漢 –");
        assert_eq!(printable_lines("a\n\tb\u{1b}[2J\r"), "a\n\tb\u{fffd}[2J\u{fffd}");
        let text = serde_json::to_string(&bad).unwrap();
        let shown = json(&text);
        assert!(!shown.contains(is_obeyed), "{shown:?}");
        assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), bad);
        assert_eq!((name(&"x".repeat(70_000)).chars().count(), cut("swéeps", 5)), (NAME, "swée…".to_string()));
    }
}
