//! A block in memory, and the steps that the forward passes of families are made of.

use std::ops::Range;
use std::sync::Arc;

use candle_core::Tensor;
use paring_kernels::attention::{Scores, Span, causal, ragged};
use paring_kernels::matmul::Precision;

use super::family::Family;
use crate::activations::CacheRounding;
use crate::anatomy::AttentionInfo;
use crate::parts::{encoding::PositionEncoding, norm::Norm};
use crate::pass::{Flow, Pass, Piece, Tokens, check_tokens};
use crate::{Block, Fan, Result, Tap};

/// The parts of a block.
pub(super) struct BlockParts {
    /// As the family's shape lists them.
    pub fans: Vec<Fan>,
    pub norms: Vec<Norm>,
    pub attention: AttentionInfo,
    pub rounding: CacheRounding,
    /// Rounding of the inputs of the attention's products.
    pub precision: Precision,
}

/// A block in memory.
pub(super) struct LoadedBlock<F> {
    pub family: Arc<F>,
    pub parts: BlockParts,
}

impl<F: Family> Block for LoadedBlock<F> {
    fn run(&self, h: &Tensor, pass: &mut Pass<'_>) -> Result<Flow<Tensor>> {
        self.family.run(&mut Step { parts: &self.parts, positions: self.family.positions(), pass }, h)
    }

    fn fans(&mut self) -> Vec<&mut Fan> {
        self.parts.fans.iter_mut().collect()
    }

    fn fan_count(&self) -> usize {
        self.parts.fans.len()
    }
}

/// The operations of one pass through one block. Each fan shows its input to the tap before it multiplies, and stops the
/// pass where that was asked for, so that no forward pass can forget it.
pub(crate) struct Step<'a, 'p> {
    parts: &'a BlockParts,
    positions: &'a PositionEncoding,
    pass: &'a mut Pass<'p>,
}

impl Step<'_, '_> {
    /// Norm number `i` of the family's shape.
    pub fn norm(&self, i: usize, x: &Tensor) -> Result<Tensor> {
        self.parts.norms[i].forward(x)
    }

    /// The outputs `[b, t, rows]` of the `N` linears of fan `i` for the input `x [b, t, cols]`. Errors when the fan does
    /// not hold `N` linears.
    pub fn fan<const N: usize>(&mut self, i: usize, x: &Tensor) -> Result<Flow<[Tensor; N]>> {
        match self.stops_at(i, x)? {
            true => Ok(Flow::Stopped),
            false => self.parts.fans[i].forward(x).map(Flow::Out),
        }
    }

    /// `onto [b, t, rows]` plus the output of the only linear of fan `i`.
    pub fn onto(&mut self, i: usize, x: &Tensor, onto: &Tensor) -> Result<Flow<Tensor>> {
        match self.stops_at(i, x)? {
            true => Ok(Flow::Stopped),
            false => self.parts.fans[i].forward_onto(x, onto).map(Flow::Out),
        }
    }

    /// silu of the first output of fan `i` times the second one. Errors when the fan does not hold two linears.
    pub fn gated(&mut self, i: usize, x: &Tensor) -> Result<Flow<Tensor>> {
        match self.stops_at(i, x)? {
            true => Ok(Flow::Stopped),
            false => self.parts.fans[i].forward_gated(x).map(Flow::Out),
        }
    }

    /// Shows a fan's input to the tap, and tells whether the pass ends there.
    fn stops_at(&mut self, i: usize, x: &Tensor) -> Result<bool> {
        self.pass.tap.see(i, x)?;
        Ok(self.pass.stop == Some(i))
    }

    /// `x [b, t, n · head_dim]` as heads, `[b, t, n, head_dim]`.
    pub fn heads(&self, x: &Tensor) -> Result<Tensor> {
        let (b, t, width) = x.dims3()?;
        let head_dim = self.parts.attention.head_dim;
        Ok(x.reshape((b, t, width / head_dim, head_dim))?)
    }

    /// The attention: queries `[b, t, heads, head_dim]`, keys and values `[b, t, kv_heads, head_dim]`, before
    /// any position is applied → `[b, t, heads · head_dim]`.
    pub fn attend(&mut self, q: Tensor, k: Tensor, v: Tensor) -> Result<Tensor> {
        match &mut self.pass.tokens {
            Tokens::Whole => self.attend_whole(q, k, v),
            Tokens::Next(pieces) => attend_next(self.parts, self.positions, pieces, self.pass.tap, [q, k, v]),
        }
    }

    /// Every row a sequence from position 0.
    fn attend_whole(&mut self, q: Tensor, k: Tensor, v: Tensor) -> Result<Tensor> {
        let BlockParts { attention, rounding, precision, .. } = self.parts;
        let (q, k) = match self.positions {
            PositionEncoding::Rotary(rope) => (rope.forward(&q)?, rope.forward(&k)?),
            PositionEncoding::Alibi(_) | PositionEncoding::Learned => (q, k),
        };
        let [k, v] = rounding.pass(k, v, self.pass.tap)?;
        let root = (attention.head_dim as f32).sqrt();
        let bias = self.positions.bias(q.dim(1)?, root, q.device())?;
        let scores = Scores { scale: root.recip(), window: attention.window, bias: bias.as_ref() };
        Ok(causal(&q, &k, &v, &scores, *precision)?)
    }
}

/// The attention of the next tokens of some sequences, whose keys and values it appends to their caches.
fn attend_next(
    parts: &BlockParts,
    positions: &PositionEncoding,
    pieces: &mut [Piece<'_>],
    tap: &mut dyn Tap,
    [q, k, v]: [Tensor; 3],
) -> Result<Tensor> {
    let BlockParts { attention, rounding, precision, .. } = parts;
    let spans: Vec<Range<usize>> = pieces.iter().map(Piece::positions).collect();
    let (rows, n, _, _) = q.dims4()?;
    check_tokens(rows * n, &spans)?;
    let (q, k) = match positions {
        PositionEncoding::Rotary(rope) => (rope.forward_next(&q, &spans)?, rope.forward_next(&k, &spans)?),
        PositionEncoding::Alibi(_) | PositionEncoding::Learned => (q, k),
    };
    let [k, v] = rounding.pass(k, v, tap)?;
    let mut first = 0;
    for Piece { tokens, cache } in pieces.iter_mut() {
        let of_piece = |x: &Tensor| x.squeeze(0)?.narrow(0, first, *tokens);
        cache.append(&of_piece(&k)?, &of_piece(&v)?)?;
        first += *tokens;
    }
    let longest = spans.iter().map(|span| span.end).max().unwrap_or(0);
    let root = (attention.head_dim as f32).sqrt();
    let bias = positions.bias(longest, root, q.device())?;
    let scores = Scores { scale: root.recip(), window: attention.window, bias: bias.as_ref() };
    let spans: Vec<Span<'_>> =
        pieces.iter().map(|piece| Span { queries: piece.tokens, cache: &*piece.cache }).collect();
    Ok(ragged(&q, &spans, &scores, *precision)?)
}
