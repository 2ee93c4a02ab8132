//! Position encodings.

use candle_core::{Device, Tensor};

use crate::Result;
use crate::anatomy::PositionKind;
use crate::parts::{alibi::Alibi, rope::Rope};

/// The position encoding of a model's attentions.
pub enum PositionEncoding {
    /// Queries and keys are rotated.
    Rotary(Rope),
    /// Scores get a bias for each key position.
    Alibi(Alibi),
    /// Positions are added to the embeddings: the attentions do nothing.
    Learned,
}

impl PositionEncoding {
    /// The kind of it.
    pub fn kind(&self) -> PositionKind {
        match self {
            PositionEncoding::Rotary(_) => PositionKind::Rotary,
            PositionEncoding::Alibi(_) => PositionKind::Alibi,
            PositionEncoding::Learned => PositionKind::Learned,
        }
    }

    /// Errors when the attentions know no positions for a sequence of `t` tokens. Alibi has no last position; learned
    /// ones are checked where the table is read.
    pub fn check_length(&self, t: usize) -> Result<()> {
        match self {
            PositionEncoding::Rotary(rope) => rope.check_length(t),
            PositionEncoding::Alibi(_) | PositionEncoding::Learned => Ok(()),
        }
    }

    /// Tokens of the longest sequence that [`PositionEncoding::check_length`] lets pass; `None`: any.
    pub fn longest(&self) -> Option<usize> {
        match self {
            PositionEncoding::Rotary(rope) => rope.longest(),
            PositionEncoding::Alibi(_) | PositionEncoding::Learned => None,
        }
    }

    /// The bias of the keys at 0..`t` for scores that are divided by `root`, f32 `[heads, t]`; `None` for an encoding
    /// without one.
    pub fn bias(&self, t: usize, root: f32, device: &Device) -> Result<Option<Tensor>> {
        match self {
            PositionEncoding::Alibi(alibi) => Ok(Some(alibi.bias(t, root, device)?)),
            PositionEncoding::Rotary(_) | PositionEncoding::Learned => Ok(None),
        }
    }
}
