//! A block in memory, and the steps that the forward passes of families are made of.

use std::sync::Arc;

use candle_core::Tensor;
use paring_kernels::attention::{Scores, causal};
use paring_kernels::matmul::Precision;

use super::family::Family;
use crate::activations::CacheRounding;
use crate::anatomy::AttentionInfo;
use crate::parts::{encoding::PositionEncoding, norm::Norm};
use crate::pass::{Flow, Pass};
use crate::{Block, Fan, Result};

/// The parts of a block.
pub(super) struct BlockParts {
    /// As the family's shape lists them.
    pub fans: Vec<Fan>,
    pub norms: Vec<Norm>,
    pub attention: AttentionInfo,
    pub rounding: CacheRounding,
    /// How the products of the attention round their inputs.
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

    /// The attention: queries `[b, t, heads, head_dim]`, keys and values `[b, t, kv_heads, head_dim]`, none of which know
    /// their positions yet → `[b, t, heads · head_dim]`.
    pub fn attend(&mut self, q: Tensor, k: Tensor, v: Tensor) -> Result<Tensor> {
        let BlockParts { attention, rounding, precision, .. } = self.parts;
        let (q, k) = match self.positions {
            PositionEncoding::Rotary(rope) => (rope.forward(&q)?, rope.forward(&k)?),
            PositionEncoding::Alibi(_) | PositionEncoding::Learned => (q, k),
        };
        let [k, v] = rounding.pass(k, v, self.pass.tap)?;
        let root = (attention.head_dim as f32).sqrt();
        let bias = match self.positions {
            PositionEncoding::Alibi(alibi) => Some(alibi.bias(q.dim(1)?, root, q.device())?),
            PositionEncoding::Rotary(_) | PositionEncoding::Learned => None,
        };
        let scores = Scores { scale: root.recip(), window: attention.window, bias: bias.as_ref() };
        Ok(causal(&q, &k, &v, &scores, *precision)?)
    }
}
