//! Passes through a block: which tokens go through it, who watches, and how far they go.

use std::ops::Range;

use paring_kernels::attention::KeyValues;

use crate::{Error, Held, Result, Tap, Tape};

/// The outcome of a step of a pass.
#[derive(Debug)]
pub enum Flow<T> {
    /// The pass continues with this.
    Out(T),
    /// The tap has seen the input of the last fan that was asked for; nothing was computed with it.
    Stopped,
}

/// A pass through a block.
pub struct Pass<'a> {
    /// Sees the input of each fan.
    pub tap: &'a mut dyn Tap,
    /// Fan at whose input the pass stops; `None` for a pass to the block's output.
    pub stop: Option<usize>,
    /// The tokens in the pass.
    pub tokens: Tokens<'a>,
    /// Results of an earlier pass of the same tokens, which stopped sooner, for whole sequences; `None` computes all of them.
    pub held: Option<&'a mut Held>,
    /// Keeps what a backward pass needs, of whole sequences to the block's output; `None` keeps nothing.
    pub tape: Option<&'a mut Tape>,
}

/// The tokens in a pass.
pub enum Tokens<'a> {
    /// Whole sequences of equal length: the activations are `[b, t, dim]`, every row begins at position 0, and no keys and
    /// values are kept.
    Whole,
    /// The next tokens of several sequences, one sequence after another: the activations are `[1, n, dim]`.
    Next(Vec<Piece<'a>>),
}

/// The next tokens of one sequence in a pass.
pub struct Piece<'a> {
    /// Number of tokens.
    pub tokens: usize,
    /// Keys and values that this block's attention keeps of the sequence: those of all earlier positions. The pass appends
    /// those of the new ones.
    pub cache: &'a mut KeyValues,
}

impl<'a> Pass<'a> {
    /// A pass of whole sequences to the block's output.
    pub fn whole(tap: &'a mut dyn Tap) -> Self {
        Self { tap, stop: None, tokens: Tokens::Whole, held: None, tape: None }
    }

    /// A pass of whole sequences to the input of fan `stop`.
    pub fn up_to(stop: usize, tap: &'a mut dyn Tap) -> Self {
        Self { stop: Some(stop), ..Self::whole(tap) }
    }

    /// The same pass, which takes up where an earlier one of these tokens stopped.
    pub fn holding(self, held: Option<&'a mut Held>) -> Self {
        Self { held, ..self }
    }

    /// A pass of the next tokens of several sequences to the block's output.
    pub fn next(pieces: Vec<Piece<'a>>, tap: &'a mut dyn Tap) -> Self {
        Self { tokens: Tokens::Next(pieces), ..Self::whole(tap) }
    }
}

impl Piece<'_> {
    /// Positions of the new tokens, as long as they are not in the cache.
    pub(crate) fn positions(&self) -> Range<usize> {
        self.cache.len()..self.cache.len() + self.tokens
    }
}

/// Errors unless the spans have `n` tokens together.
pub(crate) fn check_tokens(n: usize, spans: &[Range<usize>]) -> Result<()> {
    let expected = spans.iter().map(Range::len).sum();
    if n == expected { Ok(()) } else { Err(Error::SpanTokens { tokens: n, expected, sequences: spans.len() }) }
}
