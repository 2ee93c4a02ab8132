//! Results that passes of the same tokens through a block, each to the input of a later fan, hand on to one another.
//!
//! A pass that stops at a fan leaves what was computed on the way; the next one takes that up instead of computing it again,
//! so that each fan multiplies once, with the weights that it has then. What a pass no longer needs is gone when it ends.

use candle_core::{DType, Device, Tensor};

use crate::anatomy::MlpInfo;
use crate::{AttentionInfo, Result};

/// An operation of a block whose result a later pass may need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// The products of a fan, with what its linears' outputs are added to or multiplied by.
    Fan(usize),
    /// The attention.
    Attention,
}

/// The results that wait for the next pass of one batch.
#[derive(Debug, Default)]
pub struct Held {
    results: Vec<(Operation, Vec<Tensor>)>,
    /// Fans whose products were computed.
    applied: usize,
    attended: bool,
    /// The first fan that the next pass multiplies with.
    next: usize,
    lean: bool,
}

impl Held {
    /// Nothing yet. `lean`: the MLP's first fan is applied again rather than held, whose outputs are the widest.
    pub fn new(lean: bool) -> Self {
        Self { lean, ..Self::default() }
    }

    /// The first fan that the next pass multiplies with, where these are what each batch holds: the first of all where they hold
    /// nothing.
    pub fn next_fan(batches: &[Self]) -> usize {
        batches.first().map_or(0, |held| held.next)
    }

    /// True if fan `i` was applied by an earlier pass, or earlier in this one.
    pub(crate) fn has_applied(&self, i: usize) -> bool {
        i < self.applied
    }

    pub(crate) fn has_attended(&self) -> bool {
        self.attended
    }

    /// The result of an operation, if it is held.
    pub(crate) fn of(&self, operation: Operation) -> Option<&[Tensor]> {
        self.results.iter().find(|(of, _)| *of == operation).map(|(_, tensors)| tensors.as_slice())
    }

    /// Takes the result of an operation.
    pub(crate) fn take(&mut self, operation: Operation, tensors: &[Tensor]) {
        match operation {
            Operation::Fan(i) => self.applied = self.applied.max(i + 1),
            Operation::Attention => self.attended = true,
        }
        self.results.retain(|(of, _)| *of != operation);
        self.results.push((operation, tensors.to_vec()));
    }

    /// Ends a pass that stopped at the input of fan `stop`, or reached the block's output: only what is needed from there stays.
    pub(crate) fn end(&mut self, stop: Option<usize>, attention: &AttentionInfo, mlp: &MlpInfo) {
        let Some(stop) = stop else { return *self = Self::new(self.lean) };
        let (first, down) = mlp.fans();
        let (lean, output) = (self.lean, attention.output_fan);
        self.results.retain(|(operation, _)| match *operation {
            Operation::Attention => stop == output,
            // The sum that the MLP's output is added to.
            Operation::Fan(i) if i == output => true,
            Operation::Fan(i) => i == first && !lean,
        });
        self.next = if lean && stop == down { first } else { stop };
    }
}

/// A tensor that nothing reads: the operations that would are not computed again.
pub(crate) fn unread(shape: (usize, usize, usize), device: &Device) -> Result<Tensor> {
    Ok(Tensor::zeros((1, 1, 1), DType::F32, device)?.broadcast_as(shape)?)
}
