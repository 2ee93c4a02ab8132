//! Tapes: what one forward pass through a block keeps for its backward pass.
//!
//! A tape has an entry for each step of the pass, in order; going back over them gives every gradient. So a family writes its
//! forward pass alone. An operation on activations that is no step of a tape would cut the gradients off without a trace: the next step
//! that reads its result is an error.

use candle_core::{Tensor, TensorId};
use paring_kernels::attention::Kept;
use paring_kernels::gram::Cross;
use paring_kernels::matmul::Precision;

use crate::parts::activation::Activation;
use crate::{Error, Fan, Result};

/// The steps of one forward pass through a block, with the activations that its backward pass reads. It shares their memory
/// with the pass: of a Llama some 8 · dim + 3 · inner numbers a token.
pub struct Tape {
    input: TensorId,
    entries: Vec<Entry>,
    output: Option<TensorId>,
}

/// A step.
pub(crate) struct Entry {
    pub inputs: Vec<TensorId>,
    pub outputs: Vec<TensorId>,
    pub step: Recorded,
}

/// The kind of a step, and what it keeps.
pub(crate) enum Recorded {
    /// Norm number `i` of `x`.
    Norm { i: usize, x: Tensor },
    /// The outputs of all linears of fan `i` for the input `x`.
    Fan { i: usize, x: Tensor },
    /// The output of the only linear of fan `i` for the input `x`, added to a sum, which is the second input.
    Onto { i: usize, x: Tensor },
    /// silu(gate) · up of the outputs of fan `i` for the input `x`.
    Gated { i: usize, x: Tensor, gate: Tensor, up: Tensor },
    /// The function of an MLP.
    Activated { activation: Activation, x: Tensor },
    /// The same numbers in another shape.
    Reshaped { shape: Vec<usize> },
    /// Queries, keys and values of rows that hold those of one group after another.
    Split,
    /// The attention, of queries and keys with their positions.
    Attended { qkv: [Tensor; 3], kept: Box<Kept> },
}

impl Tape {
    /// Nothing yet, for a pass of the activations `h`.
    pub(crate) fn new(h: &Tensor) -> Self {
        Self { input: h.id(), entries: Vec::new(), output: None }
    }

    /// Takes a step. Errors when an input is neither the block's nor the output of an earlier step.
    pub(crate) fn record(&mut self, inputs: &[&Tensor], outputs: &[Tensor], step: Recorded) -> Result<()> {
        let inputs: Vec<TensorId> = inputs.iter().map(|x| x.id()).collect();
        if !inputs.iter().all(|&id| self.knows(id)) {
            return Err(Error::OffTape);
        }
        self.entries.push(Entry { inputs, outputs: outputs.iter().map(Tensor::id).collect(), step });
        Ok(())
    }

    /// Ends the pass with its output. Errors when that is not the output of a step.
    pub(crate) fn end(&mut self, y: &Tensor) -> Result<()> {
        self.output = Some(y.id());
        if self.knows(y.id()) { Ok(()) } else { Err(Error::OffTape) }
    }

    /// The block's input and output, and the steps.
    pub(crate) fn into_parts(self) -> Result<(TensorId, TensorId, Vec<Entry>)> {
        Ok((self.input, self.output.ok_or(Error::OffTape)?, self.entries))
    }

    fn knows(&self, id: TensorId) -> bool {
        id == self.input || self.entries.iter().any(|entry| entry.outputs.contains(&id))
    }
}

/// The gradients of a block's parameters, summed over all tokens of all backward passes that they are given to; f32 on the CPU.
pub struct Gradients {
    /// Fan by fan, in the order of [`crate::Block::fans`].
    pub fans: Vec<Vec<LinearGradient>>,
    /// Norm by norm, the stored tensors of each: weight and bias, the weight alone, or none.
    pub norms: Vec<Vec<Vec<f32>>>,
}

/// The gradients of a linear.
pub struct LinearGradient {
    /// `[rows, cols]`.
    pub weight: Cross,
    /// True, unless it was said that nobody needs the weight's.
    pub(crate) wanted: bool,
    /// `[rows]`, where the linear has a bias.
    pub bias: Option<Vec<f32>>,
}

impl LinearGradient {
    /// Leaves out the gradient of the weight, which is then empty: backward passes save its products, a third of theirs.
    pub fn without_weight(&mut self) {
        (self.weight, self.wanted) = (Cross::new(0, 0, Precision::F32), false);
    }
}

impl Gradients {
    /// Zeros for these fans, and for norms with these numbers of features and of stored tensors.
    pub(crate) fn zeros(fans: &[Fan], norms: impl IntoIterator<Item = (usize, usize)>) -> Self {
        let of_fan = |fan: &Fan| {
            let linear = fan.linears.iter().map(|linear| LinearGradient {
                weight: Cross::new(linear.rows, linear.cols, Precision::F32),
                wanted: true,
                bias: linear.bias.as_ref().map(|_| vec![0.0; linear.rows]),
            });
            linear.collect()
        };
        Self {
            fans: fans.iter().map(of_fan).collect(),
            norms: norms.into_iter().map(|(dim, tensors)| vec![vec![0.0; dim]; tensors]).collect(),
        }
    }
}
