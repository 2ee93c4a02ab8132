//! One input feeding several linears, and what watches that input.

use std::sync::Arc;

use candle_core::Tensor;
use paring_kernels::matmul::{Matrix, gated, matmul_each};
use paring_kernels::plain::{add, add_each};
use paring_kernels::swiglu::swiglu;

use crate::{Result, Weight};

/// Watches the inputs of a block's fans. `()` is the tap that ignores them.
pub trait Tap {
    /// `x [b, t, cols]` f32 is the input of the block's fan number `fan`, counted as in [`crate::Block::fans`]: all
    /// linears of that fan are about to be multiplied with exactly this tensor. An error ends the pass.
    fn see(&mut self, fan: usize, x: &Tensor) -> Result<()>;

    /// The keys (turned by their positions) and values that the block's attention caches, f32 `[b, t, groups, head_dim]`,
    /// before they are rounded. They come between the first fan and the second. Ignored by default.
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
    /// Shows `x [b, t, cols]` to the tap as the input of fan `index`, then returns each linear's output
    /// `[b, t, rows]`, in the order of [`Fan::linears`].
    pub fn forward(&self, index: usize, x: &Tensor, tap: &mut dyn Tap) -> Result<Vec<Tensor>> {
        tap.see(index, x)?;
        let matrices: Option<Vec<&Matrix>> = self.linears.iter().map(|linear| linear.weight.matrix()).collect();
        match matrices {
            Some(matrices) => {
                let made = matmul_each(&matrices, x)?;
                self.linears.iter().zip(made).map(|(linear, y)| linear.biased(y)).collect()
            }
            None => self.linears.iter().map(|linear| linear.forward(x)).collect(),
        }
    }
}

/// Fan `i` of a pass that stops at the input of fan `stop`: the outputs of the fan where it comes before, otherwise
/// nothing, and the tap has seen `x [b, t, cols]` without a product. For the `forward` and `tap_only` of blocks.
pub(crate) fn pass(fans: &[Fan], i: usize, stop: usize, x: &Tensor, tap: &mut dyn Tap) -> Result<Option<Vec<Tensor>>> {
    if i < stop {
        return Ok(Some(fans[i].forward(i, x, tap)?));
    }
    tap.see(i, x)?;
    Ok(None)
}

/// Fan `i` of one linear, likewise: its output added to `onto [b, t, rows]`.
pub(crate) fn pass_onto(
    fans: &[Fan],
    i: usize,
    stop: usize,
    x: &Tensor,
    onto: &Tensor,
    tap: &mut dyn Tap,
) -> Result<Option<Tensor>> {
    tap.see(i, x)?;
    match fans[i].linears.first() {
        Some(linear) if i < stop => linear.forward_onto(x, onto).map(Some),
        _ => Ok(None),
    }
}

/// Fan `i` of two linears, likewise: silu of the first one's output times the second one's.
pub(crate) fn pass_gated(fans: &[Fan], i: usize, stop: usize, x: &Tensor, tap: &mut dyn Tap) -> Result<Option<Tensor>> {
    tap.see(i, x)?;
    let [gate, up] = fans[i].linears.as_slice() else { return Ok(None) };
    if i >= stop {
        return Ok(None);
    }
    match (gate.weight.matrix(), up.weight.matrix()) {
        (Some(first), Some(second)) if gate.bias.is_none() && up.bias.is_none() => Ok(Some(gated(first, second, x)?)),
        _ => Ok(Some(swiglu(&gate.forward(x)?, &up.forward(x)?)?)),
    }
}

/// `y = x Wᵀ + bias`, with its name in the checkpoint. Replace `weight` to swap what the block multiplies with.
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
        self.biased(self.weight.matmul(x)?)
    }

    /// [`Linear::forward`] added to `onto [.., rows]`.
    pub fn forward_onto(&self, x: &Tensor, onto: &Tensor) -> Result<Tensor> {
        match self.weight.matrix() {
            Some(matrix) => self.biased(matrix.matmul_onto(x, onto)?),
            None => Ok(add(onto, &self.forward(x)?)?),
        }
    }

    fn biased(&self, y: Tensor) -> Result<Tensor> {
        match &self.bias {
            Some(bias) => Ok(add_each(&y, bias)?),
            None => Ok(y),
        }
    }
}
