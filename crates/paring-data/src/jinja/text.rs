//! Text as Python sees it.

use std::rc::Rc;

use super::fault::{Made, Meter, TEXT, fault};

/// Python's whitespace: that of Unicode, and the separators of ASCII.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}

/// Text that is being written, within the bounds of a meter.
pub(super) struct Text<'m> {
    text: String,
    meter: &'m Meter,
}

impl<'m> Text<'m> {
    pub(super) fn new(meter: &'m Meter) -> Self {
        Self { text: String::new(), meter }
    }

    pub(super) fn push(&mut self, more: &str) -> Made<()> {
        if self.text.len() + more.len() > TEXT {
            return fault(format!("it writes more than {} MiB", TEXT >> 20));
        }
        self.meter.bytes(more.len())?;
        self.text.push_str(more);
        Ok(())
    }

    pub(super) fn push_char(&mut self, c: char) -> Made<()> {
        self.push(c.encode_utf8(&mut [0; 4]))
    }

    /// A text many times.
    pub(super) fn repeat(&mut self, text: &str, times: usize) -> Made<()> {
        if self.text.len().saturating_add(text.len().saturating_mul(times)) > TEXT {
            return fault(format!("it writes more than {} MiB", TEXT >> 20));
        }
        self.meter.bytes(text.len() * times)?;
        self.text.push_str(&text.repeat(times));
        Ok(())
    }

    pub(super) fn finish(self) -> String {
        self.text
    }

    pub(super) fn shared(self) -> Rc<str> {
        self.text.into()
    }
}

/// The lines of a text as Python's `splitlines` cuts them.
pub(super) fn lines(text: &str, with_ends: bool) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut begin = 0;
    let mut places = text.char_indices().peekable();
    while let Some((at, c)) = places.next() {
        let ends =
            matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}');
        if ends {
            let mut after = at + c.len_utf8();
            if c == '\r' && places.next_if(|&(_, next)| next == '\n').is_some() {
                after += 1;
            }
            lines.push(&text[begin..if with_ends { after } else { at }]);
            begin = after;
        }
    }
    if begin < text.len() {
        lines.push(&text[begin..]);
    }
    lines
}

/// A letter as it begins a word: of what are two letters, the first is large.
fn large(c: char) -> impl Iterator<Item = char> {
    let two = match c {
        '\u{1c4}'..='\u{1c6}' => Some('\u{1c5}'),
        '\u{1c7}'..='\u{1c9}' => Some('\u{1c8}'),
        '\u{1ca}'..='\u{1cc}' => Some('\u{1cb}'),
        '\u{1f1}'..='\u{1f3}' => Some('\u{1f2}'),
        _ => None,
    };
    let mut letters = c.to_uppercase();
    let first = letters.next();
    let rest = letters.flat_map(char::to_lowercase).filter(move |_| two.is_none());
    two.or(first).into_iter().chain(rest)
}

/// The text with its first letter large and all others small, as Python's `capitalize`.
pub fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    let first: String = letters.next().into_iter().flat_map(large).collect();
    first + &letters.as_str().to_lowercase()
}

/// The text with the first letter of each word large, as Python's `title`.
pub(super) fn titled(text: &str) -> String {
    let mut made = String::with_capacity(text.len());
    let mut inside = false;
    for c in text.chars() {
        if inside {
            made.extend(c.to_lowercase());
        } else {
            made.extend(large(c));
        }
        inside = c.is_alphabetic();
    }
    made
}
