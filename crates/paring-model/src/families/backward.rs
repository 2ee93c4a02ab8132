//! The backward pass of a block: the steps of a tape, last one first.

use candle_core::{Tensor, TensorId};
use paring_kernels::attention::{Kept, Scores, causal_backward};
use paring_kernels::matmul::{InputGradient, bias_gradient};
use paring_kernels::plain::add;
use paring_kernels::swiglu::swiglu_backward;

use super::block::BlockParts;
use super::groups;
use crate::parts::encoding::PositionEncoding;
use crate::tape::{Entry, Gradients, Recorded, Tape};
use crate::{Error, Result};

/// The gradient of one tensor of the pass.
struct Flowing {
    of: TensorId,
    gradient: Tensor,
    /// For each feature, where some are: true if its gradients add up to 0 over the tokens of each sequence, so that what is
    /// computed as their sum is rounding.
    balanced: Option<Vec<bool>>,
}

/// The gradients of tensors that steps further to the front still read.
struct Flow(Vec<Flowing>);

impl Flow {
    /// Adds to the gradient of a tensor: where paths meet, gradients add.
    fn add(&mut self, of: TensorId, gradient: Tensor, balanced: Option<Vec<bool>>) -> Result<()> {
        match self.0.iter_mut().find(|flowing| flowing.of == of) {
            Some(flowing) => {
                flowing.gradient = add(&flowing.gradient, &gradient)?;
                flowing.balanced = None;
            }
            None => self.0.push(Flowing { of, gradient, balanced }),
        }
        Ok(())
    }

    /// The gradient of a tensor, complete once all steps that read it have been gone back over.
    fn take(&mut self, of: TensorId) -> Result<Flowing> {
        let at = self.0.iter().position(|flowing| flowing.of == of).ok_or(Error::NoGradient)?;
        Ok(self.0.swap_remove(at))
    }
}

/// Adds the gradients of the parameters for that of the block's output, `dy [b, t, dim]`, and returns that of its input.
pub(super) fn backward(
    parts: &BlockParts,
    positions: &PositionEncoding,
    tape: Tape,
    dy: &Tensor,
    gradients: &mut Gradients,
) -> Result<Tensor> {
    let (input, output, mut entries) = tape.into_parts()?;
    let mut flow = Flow(Vec::new());
    flow.add(output, dy.clone(), None)?;
    // Each step's activations go with it.
    while let Some(entry) = entries.pop() {
        let dys = entry.outputs.iter().map(|&of| flow.take(of)).collect::<Result<Vec<_>>>()?;
        Back { parts, positions, gradients }.step(entry, dys, &mut flow)?;
    }
    Ok(flow.take(input)?.gradient)
}

/// One step back.
struct Back<'a> {
    parts: &'a BlockParts,
    positions: &'a PositionEncoding,
    gradients: &'a mut Gradients,
}

impl Back<'_> {
    fn step(&mut self, Entry { inputs, step, .. }: Entry, dys: Vec<Flowing>, flow: &mut Flow) -> Result<()> {
        let (Some(&input), Some(first)) = (inputs.first(), dys.first()) else { return Err(Error::NoGradient) };
        let dy = &first.gradient;
        match step {
            Recorded::Norm { i, x } => {
                let dx = self.parts.norms[i].backward(dy, &x, &mut self.gradients.norms[i])?;
                flow.add(input, dx, None)
            }
            Recorded::Fan { i, x } => {
                let dx = self.fan(i, &x, &dys)?;
                flow.add(input, dx, None)
            }
            Recorded::Onto { i, x } => {
                let dx = self.fan(i, &x, &dys)?;
                flow.add(input, dx, None)?;
                inputs[1..].iter().try_for_each(|&onto| flow.add(onto, dy.clone(), None))
            }
            Recorded::Gated { i, x, gate, up } => {
                let halves = swiglu_backward(dy, &gate, &up)?;
                drop((gate, up));
                let halves = halves.map(|gradient| Flowing { of: input, gradient, balanced: None });
                let dx = self.fan(i, &x, &halves)?;
                flow.add(input, dx, None)
            }
            Recorded::Activated { activation, x } => flow.add(input, activation.backward(dy, &x)?, None),
            Recorded::Reshaped { shape } => flow.add(input, dy.reshape(shape)?, first.balanced.clone()),
            Recorded::Split => {
                let attention = &self.parts.attention;
                let parts: Vec<&Tensor> = dys.iter().map(|dy| &dy.gradient).collect();
                let balanced = dys.iter().any(|dy| dy.balanced.is_some()).then(|| groups::keys(attention));
                flow.add(input, groups::join(attention, &parts)?, balanced)
            }
            Recorded::Attended { qkv, kept } => {
                let gradients = self.attention(dy, &qkv, &kept)?;
                let columns = self.parts.attention.kv_heads * self.parts.attention.head_dim;
                for (i, (&of, gradient)) in inputs.iter().zip(gradients).enumerate() {
                    // Without rotation what all keys have in common moves all scores of a query alike, and so no share.
                    let balanced = i == 1 && !matches!(self.positions, PositionEncoding::Rotary(_));
                    flow.add(of, gradient, balanced.then(|| vec![true; columns]))?;
                }
                Ok(())
            }
        }
    }

    /// Adds the gradients of the linears of fan `i`, and returns that of its input `x`.
    fn fan(&mut self, i: usize, x: &Tensor, dys: &[Flowing]) -> Result<Tensor> {
        let fan = &self.parts.fans[i];
        if fan.linears.len() != dys.len() {
            return Err(fan.misshapen(dys.len()));
        }
        let mut dx = InputGradient::new(x.dims());
        for ((linear, Flowing { gradient: dy, balanced, .. }), sums) in
            fan.linears.iter().zip(dys).zip(&mut self.gradients.fans[i])
        {
            linear.weight.add_input_gradient(dy, &mut dx)?;
            if sums.wanted {
                sums.weight.add(dy, x)?;
            }
            if let Some(bias) = &mut sums.bias {
                let of_bias = bias_gradient(dy)?;
                for (row, (sum, more)) in bias.iter_mut().zip(of_bias).enumerate() {
                    let vanishes = balanced.as_ref().is_some_and(|balanced| balanced[row]);
                    *sum += if vanishes { 0.0 } else { more };
                }
            }
        }
        Ok(dx.finish()?)
    }

    /// The gradients of queries, keys and values before any position.
    fn attention(&self, dy: &Tensor, [q, k, v]: &[Tensor; 3], kept: &Kept) -> Result<[Tensor; 3]> {
        let run = |scores: &Scores<'_>| Ok(causal_backward(dy, [q, k, v], kept, scores)?);
        let [dq, dk, dv] = self.parts.with_scores(self.positions, q.dim(1)?, q.device(), run)?;
        match self.positions {
            PositionEncoding::Rotary(rope) => Ok([rope.backward(&dq)?, rope.backward(&dk)?, dv]),
            PositionEncoding::Alibi(_) | PositionEncoding::Learned => Ok([dq, dk, dv]),
        }
    }
}
