//! The choices of a measurement, beside the tasks.

use std::str::FromStr;

use crate::error::{Error, option};

/// Choices by which requests are made and answers counted. By default as lm-evaluation-harness 0.4.13 does without options.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Examples in front of each question.
    pub shots: usize,
    /// The documents of each task that are asked; `None`: all.
    pub limit: Option<Limit>,
    /// The way in which texts become tokens.
    pub protocol: Protocol,
    /// Puts BOS before every text, or nothing; `None`: as the tokenizer does by itself.
    pub add_bos: Option<bool>,
    /// The token that stands for an empty context; `None`: the tokenizer's BOS, or its EOS where it has none.
    pub prefix: Option<u32>,
    /// Draws for the standard error of a perplexity; 0: none is computed.
    pub bootstrap: usize,
}

impl Default for Options {
    fn default() -> Self {
        let protocol = Protocol::Harness;
        Self { shots: 0, limit: None, protocol, add_bos: None, prefix: None, bootstrap: 100_000 }
    }
}

/// The program whose figures are reproduced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// lm-evaluation-harness 0.4.13: context and continuation are encoded together, and split by the number of the context's
    /// tokens.
    #[default]
    Harness,
    /// The copy of early 2023 in SpQR's repository: both are encoded apart, without special tokens; EOS stands for an empty
    /// context.
    Spqr,
}

impl Protocol {
    /// The name of the program.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Harness => "lm-evaluation-harness",
            Protocol::Spqr => "spqr",
        }
    }
}

/// A bound on the documents of each task.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// The first so many.
    Documents(usize),
    /// This part of them, above 0 and below 1, rounded up.
    Fraction(f64),
}

impl Limit {
    /// The documents that are left of so many.
    pub fn of(self, documents: usize) -> usize {
        match self {
            Limit::Documents(most) => documents.min(most),
            Limit::Fraction(part) => documents.min((documents as f64 * part).ceil() as usize),
        }
    }
}

impl FromStr for Limit {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || Error::setting(option::LIMIT, text, "expected a number of documents, or a part of them below 1");
        if let Ok(most) = text.parse::<usize>() {
            return if most > 0 { Ok(Limit::Documents(most)) } else { Err(bad()) };
        }
        match text.parse::<f64>() {
            Ok(part) if part > 0.0 && part < 1.0 => Ok(Limit::Fraction(part)),
            _ => Err(bad()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits() {
        for (text, of, left) in [("3", 10, 3), ("12", 10, 10), ("0.25", 10, 3), ("0.999", 10, 10), ("0.01", 24, 1)] {
            assert_eq!(text.parse::<Limit>().unwrap().of(of), left, "{text}");
        }
        for text in ["0", "-1", "1.5", "0.0", "x", "", "NaN", "inf"] {
            let error = text.parse::<Limit>().unwrap_err();
            assert!(error.is_misuse() && error.to_string().starts_with("limit "), "{text}: {error}");
        }
    }
}
