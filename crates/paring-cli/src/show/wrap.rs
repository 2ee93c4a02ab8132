//! The width of a terminal, and lines that are broken there between words.

use std::ffi::OsString;
use std::io::IsTerminal;

use terminal_size::{Width, terminal_size_of};

/// Columns of a terminal that does not say how many it has.
const USUAL: usize = 80;
/// Fewer columns than these leave no room for words.
const LEAST: usize = 20;

/// Columns of stdout; `None` if it is no terminal, whose lines are not broken.
pub fn of_stdout() -> Option<usize> {
    let stdout = std::io::stdout();
    stdout.is_terminal().then(|| columns(std::env::var_os("COLUMNS"), terminal_size_of(&stdout)))
}

/// Columns of stderr; `None` if it is no terminal.
pub fn of_stderr() -> Option<usize> {
    let stderr = std::io::stderr();
    stderr.is_terminal().then(|| columns(std::env::var_os("COLUMNS"), terminal_size_of(&stderr)))
}

fn columns<T>(variable: Option<OsString>, size: Option<(Width, T)>) -> usize {
    let asked = variable.and_then(|text| text.to_str()?.parse().ok());
    let there = size.map(|(Width(columns), _)| usize::from(columns));
    asked.or(there).filter(|&columns| columns > 0).map_or(USUAL, |columns: usize| columns.max(LEAST))
}

/// A line broken between words into lines of at most `width` columns. Those after the first begin where the text of the
/// line does. Spaces inside a line stay; a word that is longer than a line stays whole.
pub fn wrapped(line: &str, width: Option<usize>) -> Vec<String> {
    let Some(width) = width.filter(|&width| line.chars().count() > width) else { return vec![line.to_string()] };
    let text = line.trim_start_matches(' ');
    let first = line.len() - text.len();
    let hang = hanging(text, first, width);
    let mut lines = vec![" ".repeat(first)];
    let (mut column, mut gap) = (first, 0);
    for word in text.split(' ') {
        let length = word.chars().count();
        if column > first && column + gap + length > width {
            column = hang;
            gap = 0;
            lines.push(" ".repeat(column));
        }
        if let Some(last) = lines.last_mut() {
            last.extend(std::iter::repeat_n(' ', gap));
            last.push_str(word);
        }
        column += gap + length;
        gap = 1;
    }
    lines.iter().map(|line| line.trim_end().to_string()).collect()
}

/// Column at which the rest of a line continues: below its text where a label and some spaces come first, and two columns
/// in otherwise.
fn hanging(text: &str, first: usize, width: usize) -> usize {
    let label = text.find("  ").map(|end| end + text[end..].len() - text[end..].trim_start().len());
    let below = label.map(|bytes| first + text[..bytes].chars().count());
    below.filter(|below| 2 * below <= width).unwrap_or(first + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_between_words() {
        let line = "  note: a text of some words, and a-word-that-is-longer-than-all-lines";
        assert_eq!(
            wrapped(line, Some(24)),
            ["  note: a text of some", "    words, and", "    a-word-that-is-longer-than-all-lines"]
        );
        assert_eq!(wrapped(line, None), [line]);
        assert_eq!(wrapped(line, Some(line.len())), [line]);
        assert_eq!(wrapped("a  table   row", Some(40)), ["a  table   row"]);
        assert_eq!(wrapped("  label  row of words", Some(18)), ["  label  row of", "         words"]);
        assert_eq!(wrapped("a-long-label  of words", Some(20)), ["a-long-label  of", "  words"]);
        assert_eq!(wrapped("é".repeat(30).as_str(), Some(20)), ["é".repeat(30)]);
    }

    #[test]
    fn a_variable_wins_over_the_terminal() {
        let size = |columns| Some((Width(columns), ()));
        assert_eq!(columns(Some("120".into()), size(80)), 120);
        assert_eq!(columns(Some("many".into()), size(99)), 99);
        assert_eq!(columns(None, size(0)), USUAL);
        assert_eq!(columns::<()>(None, None), USUAL);
        assert_eq!(columns(None, size(3)), LEAST);
    }
}
