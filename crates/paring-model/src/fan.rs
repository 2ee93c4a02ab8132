//! Fans: one input that feeds several linears, and the taps that watch it.

use std::sync::Arc;

use candle_core::Tensor;
use paring_kernels::swiglu::swiglu;

use crate::weight::biased;
use crate::{Error, Result, Weight};

/// Watches the inputs of a block's fans. `()` is the tap that ignores them.
pub trait Tap {
    /// `x [b, t, cols]` f32 is the input of the block's fan number `fan`, counted as in [`crate::Block::fans`]: all
    /// linears of that fan are about to be multiplied with exactly this tensor. An error ends the pass.
    fn see(&mut self, fan: usize, x: &Tensor) -> Result<()>;

    /// `sum [b, t, rows]` f32 is what the output of fan number `fan` is about to be added to: the activations between blocks, as
    /// far as they are known there. It comes before [`Tap::see`] of the same fan, for fans with one linear whose output goes
    /// there. Ignored by default.
    fn adds_to(&mut self, _fan: usize, _sum: &Tensor) -> Result<()> {
        Ok(())
    }

    /// The keys (after rotation) and values that the block's attention caches, f32 `[b, t, kv_heads, head_dim]`, before
    /// they are rounded. They come between the attention's fans ([`crate::AttentionInfo`]). Ignored by default.
    fn cache(&mut self, _keys: &Tensor, _values: &Tensor) -> Result<()> {
        Ok(())
    }
}

impl Tap for () {
    fn see(&mut self, _: usize, _: &Tensor) -> Result<()> {
        Ok(())
    }
}

/// Linears that share one input. Statistics belong to fans, weights to linears.
pub struct Fan {
    /// `qkv`, `o`, `gate_up` or `down` in Llama; `qkv`, `out`, `fc1` or `fc2` in OPT; `qkv`, `o`,
    /// `up` and `down`, or `qkv_up`, `o` and `down`, in Falcon.
    pub name: &'static str,
    /// In the order in which the block uses their outputs.
    pub linears: Vec<Linear>,
}

impl Fan {
    /// Each linear's output `[b, t, rows]` for the input `x [b, t, cols]`. Errors unless there are `N` linears.
    pub(crate) fn forward<const N: usize>(&self, x: &Tensor) -> Result<[Tensor; N]> {
        let linears: &[Linear; N] = self.exactly()?;
        let Some((first, rest)) = linears.split_first() else { return Err(self.misshapen(N)) };
        let others: Vec<&dyn Weight> = rest.iter().map(|linear| &*linear.weight).collect();
        let products = first.weight.matmul_each(&others, x)?;
        let outputs = linears.iter().zip(products).map(|(linear, y)| biased(y, linear.bias.as_ref()));
        let outputs: Vec<Tensor> = outputs.collect::<Result<_>>()?;
        outputs.try_into().map_err(|_| self.misshapen(N))
    }

    /// `onto [b, t, rows]` plus the output of the fan's only linear.
    pub(crate) fn forward_onto(&self, x: &Tensor, onto: &Tensor) -> Result<Tensor> {
        let [linear] = self.exactly()?;
        linear.weight.matmul_onto(x, linear.bias.as_ref(), onto)
    }

    /// silu of the first linear's output times the second one's. Errors unless there are two.
    pub(crate) fn forward_gated(&self, x: &Tensor) -> Result<Tensor> {
        let [gate, up] = self.exactly()?;
        match (&gate.bias, &up.bias) {
            (None, None) => gate.weight.matmul_gated(&*up.weight, x),
            _ => Ok(swiglu(&gate.forward(x)?, &up.forward(x)?)?),
        }
    }

    fn exactly<const N: usize>(&self) -> Result<&[Linear; N]> {
        self.linears.as_slice().try_into().map_err(|_| self.misshapen(N))
    }

    pub(crate) fn misshapen(&self, expected: usize) -> Error {
        let linears = self.linears.iter().map(|linear| linear.name.clone()).collect();
        Error::FanShape { fan: self.name, expected, linears }
    }
}

/// `y = x Wᵀ + bias`, with its name in the checkpoint. Replace `weight` to swap the matrix that the block multiplies with.
pub struct Linear {
    /// Full module path in the checkpoint, without `.weight`.
    pub name: String,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// `[rows, cols]`.
    pub weight: Arc<dyn Weight>,
    /// f32 `[rows]`.
    pub bias: Option<Tensor>,
}

impl Linear {
    /// `x [.., cols]` f32 → `[.., rows]` f32.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        biased(self.weight.matmul(x)?, self.bias.as_ref())
    }
}
