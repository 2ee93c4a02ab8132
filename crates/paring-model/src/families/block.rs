//! A block in memory, and the steps that the forward passes of families are made of.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use paring_kernels::attention::{Kept, Scores, Span, causal, causal_kept, ragged};
use paring_kernels::matmul::Precision;
use paring_kernels::swiglu::swiglu;

use super::family::Family;
use super::{backward, groups};
use crate::activations::CacheRounding;
use crate::anatomy::{AttentionInfo, MlpInfo};
use crate::held::{Operation, unread};
use crate::parts::{activation::Activation, encoding::PositionEncoding, norm::Norm};
use crate::pass::{Flow, Pass, Piece, Tokens, check_tokens};
use crate::tape::{Gradients, Recorded, Tape};
use crate::{Block, Error, Fan, Result, Tap};

/// The parts of a block.
pub(super) struct BlockParts {
    /// As the family's shape lists them.
    pub fans: Vec<Fan>,
    pub norms: Vec<Norm>,
    pub attention: AttentionInfo,
    pub mlp: MlpInfo,
    pub rounding: CacheRounding,
    /// Rounding of the inputs of the attention's products.
    pub precision: Precision,
}

impl BlockParts {
    /// Runs `f` with the changes to scores over `keys` keys.
    pub fn with_scores<T>(
        &self,
        positions: &PositionEncoding,
        keys: usize,
        device: &Device,
        f: impl FnOnce(&Scores<'_>) -> Result<T>,
    ) -> Result<T> {
        let root = (self.attention.head_dim as f32).sqrt();
        let bias = positions.bias(keys, root, device)?;
        f(&Scores { scale: root.recip(), window: self.attention.window, bias: bias.as_ref() })
    }
}

/// A block in memory.
pub(super) struct LoadedBlock<F> {
    pub family: Arc<F>,
    pub parts: BlockParts,
}

impl<F: Family> Block for LoadedBlock<F> {
    fn run(&self, h: &Tensor, pass: &mut Pass<'_>) -> Result<Flow<Tensor>> {
        let BlockParts { attention, mlp, .. } = &self.parts;
        let flow = self.family.run(&mut Step { parts: &self.parts, positions: self.family.positions(), pass }, h)?;
        if let Some(held) = &mut pass.held {
            let stop = pass.stop.filter(|_| matches!(flow, Flow::Stopped));
            held.end(stop, attention, mlp);
        }
        Ok(flow)
    }

    fn fans(&mut self) -> Vec<&mut Fan> {
        self.parts.fans.iter_mut().collect()
    }

    fn fan_count(&self) -> usize {
        self.parts.fans.len()
    }

    fn norms(&mut self) -> Vec<&mut Norm> {
        self.parts.norms.iter_mut().collect()
    }

    fn gradients(&self) -> Gradients {
        Gradients::zeros(&self.parts.fans, self.parts.norms.iter().map(Norm::sizes))
    }

    fn backward(&self, tape: Tape, dy: &Tensor, gradients: &mut Gradients) -> Result<Tensor> {
        backward::backward(&self.parts, self.family.positions(), tape, dy, gradients)
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
    pub fn norm(&mut self, i: usize, x: &Tensor) -> Result<Tensor> {
        let y = self.parts.norms[i].forward(x)?;
        self.record(&[x], std::slice::from_ref(&y), || Recorded::Norm { i, x: x.clone() })?;
        Ok(y)
    }

    /// Writes a step to the tape, if there is one.
    fn record(&mut self, inputs: &[&Tensor], outputs: &[Tensor], step: impl FnOnce() -> Recorded) -> Result<()> {
        match &mut self.pass.tape {
            Some(tape) => tape.record(inputs, outputs, step()),
            None => Ok(()),
        }
    }

    /// The outputs `[b, t, rows]` of the `N` linears of fan `i` for the input `x [b, t, cols]`. Errors when the fan does
    /// not hold `N` linears.
    pub fn fan<const N: usize>(&mut self, i: usize, x: &Tensor) -> Result<Flow<[Tensor; N]>> {
        let flow = self.apply(i, x, |fan| Ok(fan.forward::<N>(x)?.to_vec()))?;
        let Flow::Out(outputs) = flow else { return Ok(Flow::Stopped) };
        self.record(&[x], &outputs, || Recorded::Fan { i, x: x.clone() })?;
        outputs.try_into().map(Flow::Out).map_err(|_| self.parts.fans[i].misshapen(N))
    }

    /// `onto [b, t, rows]` plus the output of the only linear of fan `i`.
    pub fn onto(&mut self, i: usize, x: &Tensor, onto: &Tensor) -> Result<Flow<Tensor>> {
        if self.pass.held.as_deref().is_none_or(|held| !held.has_applied(i)) {
            self.pass.tap.adds_to(i, onto)?;
        }
        let Flow::Out(y) = self.apply_one(i, x, |fan| fan.forward_onto(x, onto))? else { return Ok(Flow::Stopped) };
        self.record(&[x, onto], std::slice::from_ref(&y), || Recorded::Onto { i, x: x.clone() })?;
        Ok(Flow::Out(y))
    }

    /// silu of the first output of fan `i` times the second one. Errors when the fan does not hold two linears.
    pub fn gated(&mut self, i: usize, x: &Tensor) -> Result<Flow<Tensor>> {
        if self.pass.tape.is_none() {
            return self.apply_one(i, x, |fan| fan.forward_gated(x));
        }
        let Flow::Out(outputs) = self.apply(i, x, |fan| Ok(fan.forward::<2>(x)?.to_vec()))? else {
            return Ok(Flow::Stopped);
        };
        let [gate, up] = <[Tensor; 2]>::try_from(outputs).map_err(|_| self.parts.fans[i].misshapen(2))?;
        let y = swiglu(&gate, &up)?;
        self.record(&[x], std::slice::from_ref(&y), || Recorded::Gated { i, x: x.clone(), gate, up })?;
        Ok(Flow::Out(y))
    }

    /// The function of an MLP without a gate.
    pub fn activate(&mut self, activation: Activation, x: &Tensor) -> Result<Tensor> {
        let y = activation.forward(x)?;
        self.record(&[x], std::slice::from_ref(&y), || Recorded::Activated { activation, x: x.clone() })?;
        Ok(y)
    }

    fn apply_one(&mut self, i: usize, x: &Tensor, of: impl FnOnce(&Fan) -> Result<Tensor>) -> Result<Flow<Tensor>> {
        match self.apply(i, x, |fan| Ok(vec![of(fan)?]))? {
            Flow::Out(mut outputs) => outputs.pop().map(Flow::Out).ok_or_else(|| self.parts.fans[i].misshapen(1)),
            Flow::Stopped => Ok(Flow::Stopped),
        }
    }

    /// The results of `of` for fan `i`, whose input `x` is shown to the tap before, unless the pass ends there or the result is held.
    fn apply(
        &mut self,
        i: usize,
        x: &Tensor,
        of: impl FnOnce(&Fan) -> Result<Vec<Tensor>>,
    ) -> Result<Flow<Vec<Tensor>>> {
        let BlockParts { fans, attention, mlp, .. } = self.parts;
        match self.pass.held.as_deref().filter(|held| held.has_applied(i)) {
            Some(held) => {
                if let Some(outputs) = held.of(Operation::Fan(i)) {
                    return Ok(Flow::Out(outputs.to_vec()));
                }
                // Only the attention reads these, and its result is known.
                if i == attention.after_fan && i != mlp.fans().0 {
                    let (b, t, _) = x.dims3()?;
                    let outputs = fans[i].linears.iter().map(|linear| unread((b, t, linear.rows), x.device()));
                    return outputs.collect::<Result<_>>().map(Flow::Out);
                }
            }
            None => {
                self.pass.tap.see(i, x)?;
                if self.pass.stop == Some(i) {
                    return Ok(Flow::Stopped);
                }
            }
        }
        let outputs = of(&fans[i])?;
        if let Some(held) = &mut self.pass.held {
            held.take(Operation::Fan(i), &outputs);
        }
        Ok(Flow::Out(outputs))
    }

    /// `x [b, t, n · head_dim]` as heads, `[b, t, n, head_dim]`.
    pub fn heads(&mut self, x: &Tensor) -> Result<Tensor> {
        let (b, t, width) = x.dims3()?;
        let head_dim = self.parts.attention.head_dim;
        let y = x.reshape((b, t, width / head_dim, head_dim))?;
        self.record(&[x], std::slice::from_ref(&y), || Recorded::Reshaped { shape: vec![b, t, width] })?;
        Ok(y)
    }

    /// Queries, keys and values as heads, of a fused matrix's output that holds those of one group after another.
    pub fn split(&mut self, qkv: &Tensor) -> Result<[Tensor; 3]> {
        let parts = groups::split(&self.parts.attention, qkv)?;
        self.record(&[qkv], &parts, || Recorded::Split)?;
        Ok(parts)
    }

    /// The attention: queries `[b, t, heads, head_dim]`, keys and values `[b, t, kv_heads, head_dim]`, before
    /// any position is applied → `[b, t, heads · head_dim]`.
    pub fn attend(&mut self, q: Tensor, k: Tensor, v: Tensor) -> Result<Tensor> {
        match &mut self.pass.tokens {
            Tokens::Whole => self.attend_once(q, k, v),
            Tokens::Next(pieces) => attend_next(self.parts, self.positions, pieces, self.pass.tap, [q, k, v]),
        }
    }

    /// Every row a sequence from position 0, unless an earlier pass has computed that.
    fn attend_once(&mut self, q: Tensor, k: Tensor, v: Tensor) -> Result<Tensor> {
        if let Some(held) = self.pass.held.as_deref().filter(|held| held.has_attended()) {
            let (b, t, heads, head_dim) = q.dims4()?;
            return match held.of(Operation::Attention) {
                Some([x]) => Ok(x.clone()),
                _ => unread((b, t, heads * head_dim), q.device()),
            };
        }
        let x = self.attend_whole(q, k, v)?;
        if let Some(held) = &mut self.pass.held {
            held.take(Operation::Attention, std::slice::from_ref(&x));
        }
        Ok(x)
    }

    /// Every row a sequence from position 0.
    fn attend_whole(&mut self, q: Tensor, k: Tensor, v: Tensor) -> Result<Tensor> {
        let BlockParts { rounding, precision, .. } = self.parts;
        let inputs = [q.clone(), k.clone(), v.clone()];
        let (q, k) = match self.positions {
            PositionEncoding::Rotary(rope) => (rope.forward(&q)?, rope.forward(&k)?),
            PositionEncoding::Alibi(_) | PositionEncoding::Learned => (q, k),
        };
        if self.pass.tape.is_none() {
            drop(inputs);
            let [k, v] = rounding.pass(k, v, self.pass.tap)?;
            let run = |scores: &Scores<'_>| Ok(causal(&q, &k, &v, scores, *precision)?);
            return self.parts.with_scores(self.positions, q.dim(1)?, q.device(), run);
        }
        if rounding.rounds() {
            return Err(Error::NoBackward { what: "an attention whose keys and values are rounded to codes" });
        }
        let run = |scores: &Scores<'_>| Ok(causal_kept(&q, &k, &v, scores)?);
        let kept: Kept = self.parts.with_scores(self.positions, q.dim(1)?, q.device(), run)?;
        let out = kept.out.clone();
        let [of_q, of_k, of_v] = &inputs;
        let step = || Recorded::Attended { qkv: [q, k, v], kept: Box::new(kept) };
        self.record(&[of_q, of_k, of_v], std::slice::from_ref(&out), step)?;
        Ok(out)
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
    let BlockParts { rounding, precision, .. } = parts;
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
    let spans: Vec<Span<'_>> =
        pieces.iter().map(|piece| Span { queries: piece.tokens, cache: &*piece.cache }).collect();
    let run = |scores: &Scores<'_>| Ok(ragged(&q, &spans, scores, *precision)?);
    parts.with_scores(positions, longest, q.device(), run)
}
