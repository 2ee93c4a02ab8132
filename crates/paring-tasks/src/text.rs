//! Texts as the harness cleans them, by Python's idea of space.

use paring_data::python::is_space;

/// The text without the space at both ends, as Python's `strip`.
pub(crate) fn stripped(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// The number of pieces between runs of space, empty ones at the ends included: `len(re.split(r"\s+", text))`.
pub(crate) fn pieces(text: &str) -> usize {
    let mut inside = false;
    let runs = text.chars().filter(|&c| {
        let begins = is_space(c) && !inside;
        inside = is_space(c);
        begins
    });
    1 + runs.count()
}

/// A text of WikiHow without its marks (hellaswag): ` [title]` ends a sentence, other brackets are removed with what they hold,
/// and pairs of spaces become one, once.
pub(crate) fn cleaned(text: &str) -> String {
    let text = stripped(text).replace(" [title]", ". ");
    let mut made = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(open) = rest.find('[') {
        made.push_str(&rest[..open]);
        let inside = &rest[open + 1..];
        match inside.find([']', '\n']) {
            Some(end) if inside[end..].starts_with(']') => rest = &inside[end + 1..],
            _ => {
                made.push('[');
                rest = inside;
            }
        }
    }
    made.push_str(rest);
    made.replace("  ", " ")
}

/// Replacements of [`detokenized`] before and after the pairs of signs.
const MARKS: [(&str, &str); 9] = [
    (" @-@ ", "-"),
    (" @,@ ", ","),
    (" @.@ ", "."),
    (" : ", ": "),
    (" ; ", "; "),
    (" . ", ". "),
    (" ! ", "! "),
    (" ? ", "? "),
    (" , ", ", "),
];
const REST: [(&str, &str); 8] = [
    ("= = = =", "===="),
    ("= = =", "==="),
    ("= =", "=="),
    (" \u{b0} ", "\u{b0}"),
    (" \n", "\n"),
    ("\n ", "\n"),
    (" N ", " 1 "),
    (" 's", "'s"),
];

/// A page of wikitext as it was before it was cut into words, nearly: the replacements of the harness, in its order.
pub(crate) fn detokenized(page: &str) -> String {
    let mut text = slipped(&page.replace("s '", "s'"));
    for (from, to) in MARKS {
        text = text.replace(from, to);
    }
    for (open, close) in [('(', ')'), ('[', ']'), ('{', '}'), ('"', '"'), ('\'', '\'')] {
        text = closed_up(&text, open, close);
    }
    for (from, to) in REST {
        text = text.replace(from, to);
    }
    text
}

/// The text with `/' 1/` and the like as the pattern of a slip writes it, which no page has.
fn slipped(text: &str) -> String {
    let mut made = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("/' ") {
        let digit = &rest[at + 3..];
        let is_slip = digit.starts_with(|c: char| c.is_ascii_digit()) && digit[1..].starts_with('/');
        made.push_str(&rest[..at]);
        made.push_str(if is_slip { "/'[0-9]/" } else { "/" });
        rest = &rest[at + if is_slip { 5 } else { 1 }..];
    }
    made.push_str(rest);
    made
}

/// The text without the space just inside each pair of signs.
fn closed_up(text: &str, open: char, close: char) -> String {
    let mut made = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(begin) = rest.find(open) {
        let inside = &rest[begin + open.len_utf8()..];
        let Some(end) = inside.find(close) else { break };
        made.push_str(&rest[..begin]);
        made.push(open);
        made.push_str(stripped(&inside[..end]));
        made.push(close);
        rest = &inside[end + close.len_utf8()..];
    }
    made.push_str(rest);
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From CPython, with the functions of the harness.
    #[test]
    fn marks_are_removed() {
        for (text, want) in [
            (" [header] How to [title] Do it ", " How to. Do it"),
            ("[step] a [substeps]   b", " a  b"),
            ("a [b\nc] d [e] f [g", "a [b\nc] d f [g"),
            ("a]b[c]]", "a]b]"),
            ("\u{a0}x\u{1c}", "x"),
            ("", ""),
        ] {
            assert_eq!(cleaned(text), want, "{text:?}");
        }
    }

    #[test]
    fn pages_are_put_together() {
        for (page, want) in [
            ("the boys ' book , 1 @,@ 000 ; \" so \" ( a ) [\n b ] .", "the boys' book, 1,000; \"so\" (a) [b] ."),
            ("( open \" one", "( open \" one"),
            ("/' 3/ /' x/", "/'[0-9]/ /' x/"),
            ("= = = A = = =\n N 's 4 \u{b0} C", "=== A ===\nN's 4\u{b0}C"),
        ] {
            assert_eq!(detokenized(page), want, "{page:?}");
        }
    }

    #[test]
    fn words_of_a_page() {
        for (text, count) in [("", 1), (" ", 2), ("a b", 2), (" a\u{2028}\n b ", 4), ("a", 1)] {
            assert_eq!(pieces(text), count, "{text:?}");
        }
    }
}
