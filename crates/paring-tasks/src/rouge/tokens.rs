//! Text → the tokens that ROUGE counts.

use std::collections::HashMap;

use super::stemmer;

/// Characters up to which a token is its own stem.
const SHORT: usize = 3;

/// Shows the tokens of a text to `see`: runs of a to z and 0 to 9 in its lower-case form, and if asked for, the stems of those of
/// more than three characters.
fn each(text: &str, stemming: bool, see: &mut dyn FnMut(&str)) {
    let mut token = String::new();
    // The space ends the last one. K of Kelvin is a k and İ an i and a dot, as in Python.
    for letter in text.chars().flat_map(char::to_lowercase).chain([' ']) {
        if letter.is_ascii_lowercase() || letter.is_ascii_digit() {
            token.push(letter);
        } else if !token.is_empty() {
            if stemming && token.len() > SHORT {
                stemmer::reduce(&mut token);
            }
            see(&token);
            token.clear();
        }
    }
}

/// The tokens of a text, stemmed or as they are.
pub fn tokens(text: &str, stemming: bool) -> Vec<String> {
    let mut tokens = Vec::new();
    each(text, stemming, &mut |token| tokens.push(token.to_owned()));
    tokens
}

/// Numbers of the tokens of texts that are compared.
#[derive(Default)]
pub(super) struct Vocabulary {
    numbers: HashMap<String, u32>,
}

/// The tokens of a text by their numbers, and those of its lines.
pub(super) struct Text {
    all: Vec<u32>,
    /// The end of each line.
    ends: Vec<usize>,
}

impl Vocabulary {
    /// Different tokens.
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// The tokens of a text, line by line.
    pub fn text(&mut self, text: &str, stemming: bool) -> Text {
        let (mut all, mut ends) = (Vec::new(), Vec::new());
        for line in text.split('\n') {
            each(line, stemming, &mut |token| {
                let next = self.numbers.len() as u32;
                let number = self.numbers.get(token).copied();
                all.push(number.unwrap_or_else(|| *self.numbers.entry(token.to_owned()).or_insert(next)));
            });
            ends.push(all.len());
        }
        Text { all, ends }
    }
}

impl Text {
    /// All tokens.
    pub fn all(&self) -> &[u32] {
        &self.all
    }

    /// The tokens of each line that has any.
    pub fn lines(&self) -> impl Iterator<Item = &[u32]> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        begins.zip(&self.ends).map(|(begin, &end)| &self.all[begin..end]).filter(|line| !line.is_empty())
    }
}
