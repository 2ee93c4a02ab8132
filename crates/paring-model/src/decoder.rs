//! A decoder: a list of blocks between an embedding and a head.

use std::ops::Range;

use candle_core::{Device, Tensor};
use paring_format::Checkpoint;
use paring_kernels::attention::{CacheType, KeyValues};
use paring_kernels::likelihood::Likely;

use crate::anatomy::{BlockInfo, LinearInfo, OuterInfo};
use crate::parts::norm::Norm;
use crate::pass::{Flow, Pass};
use crate::{Arithmetic, Ending, Error, Fan, Gradients, Result, Tap, Tape};

/// A language model, opened and checked, of which only what is asked for is in memory.
///
/// Activations are f32 `[b, t, dim]` with `dim` = [`Decoder::hidden_size`]. In a pass of whole sequences every row is a
/// sequence of its own and starts at position 0; in a pass of next tokens there is one row, and the pass says which tokens
/// belong to which sequence ([`crate::pass::Tokens`]).
pub trait Decoder: Send + Sync {
    /// The sizes of the model as a whole, from its config.
    fn sizes(&self) -> Sizes;

    /// The checkpoint it is read from.
    fn checkpoint(&self) -> &Checkpoint;

    /// Its arithmetic.
    fn arithmetic(&self) -> &Arithmetic;

    /// The device of its weights and activations.
    fn device(&self) -> &Device {
        &self.arithmetic().device
    }

    /// Number of blocks.
    fn blocks(&self) -> usize {
        self.sizes().blocks
    }

    /// Width of the activations between blocks.
    fn hidden_size(&self) -> usize {
        self.sizes().dim
    }

    /// Number of token ids.
    fn vocab_size(&self) -> usize {
        self.sizes().vocab
    }

    /// Tokens in the longest sequence the model was made for (`max_position_embeddings`).
    fn max_positions(&self) -> usize {
        self.sizes().max_positions
    }

    /// Tokens in the longest sequence that it takes; `None` where there is no such limit: with biases for distances, and
    /// with rotations that are scaled as a sequence grows.
    fn longest(&self) -> Option<usize> {
        Some(self.max_positions())
    }

    /// The input of block 0, `[batch, t, dim]`, for `batch` rows of equal length joined in `ids`. Reads only the
    /// embeddings of the tokens that occur. Errors on a token out of range, rows that do not come out even, and
    /// sequences that are too long for the model.
    fn embed(&self, ids: &[u32], batch: usize) -> Result<Tensor>;

    /// The input of block 0, `[1, n, dim]`, for the next tokens of several sequences, joined in `ids`; `spans` are the
    /// positions of each sequence's tokens. Errors as [`Decoder::embed`], and when there is no token.
    fn embed_next(&self, ids: &[u32], spans: &[Range<usize>]) -> Result<Tensor>;

    /// The empty cache of block `i`'s attention for a sequence, in this type. Caches of 8-bit floats have the scales that
    /// the checkpoint stores for them, and otherwise a scale of 1. Errors where the device cannot hold the type.
    fn key_values(&self, i: usize, cache_type: CacheType) -> Result<KeyValues>;

    /// Reads block `i < blocks()`; the caller drops it. Costs the memory of its weights in f32.
    fn block(&self, i: usize) -> Result<Box<dyn Block>>;

    /// The anatomy of block `i`, without reading weights.
    fn block_info(&self, i: usize) -> BlockInfo;

    /// Names and shapes of block `i`'s linears in the order of its fans, without reading weights.
    fn linears(&self, i: usize) -> Vec<LinearInfo> {
        self.block_info(i).linears
    }

    /// Asks the system to fetch block `i` from the disk before it is read. Takes no memory of the process.
    fn prefetch(&self, i: usize) {
        let linears = self.linears(i);
        let is_part = |name: &str| linears.iter().any(|linear| is_within(name, &linear.name));
        self.checkpoint().names().filter(|name| is_part(name)).for_each(|name| self.checkpoint().prefetch(name));
        self.rest_names(i).iter().for_each(|name| self.checkpoint().prefetch(name));
    }

    /// Names of block `i`'s other tensors (norms, biases), for copying them through.
    fn rest_names(&self, i: usize) -> Vec<String>;

    /// −log p(`ids[t + 1]`) (natural logarithm) at position t of the last block's output `h [b, t, dim]`: t − 1 values
    /// for each row, rows joined. `ids` has b·t entries. The head is read and multiplied in pieces, so memory stays
    /// far below `[t, vocab]` and below the head itself.
    fn nll(&self, h: &Tensor, ids: &[u32]) -> Result<Vec<f32>>;

    /// The likelihood of the target after each row of the last block's output, `h [n, dim]` for n `targets`. The head is read
    /// once for each call, in pieces; the normalised rows are in memory together.
    fn likelihoods(&self, h: &Tensor, targets: &[u32]) -> Result<Vec<Likely>>;

    /// The last block's output `h [b, t, dim]` → logits `[b, t, vocab]` of every position, all in memory.
    fn logits(&self, h: &Tensor) -> Result<Tensor>;

    /// The parts after the last block, for passes that train; a norm that may be changed, and the head in pieces of rows. Errors where
    /// the head rounds its inputs to codes.
    fn ending(&self) -> Result<Ending<'_>>;

    /// Reads now what [`Decoder::logits`] needs, where it stays in memory ([`Arithmetic::packed`]); nothing otherwise.
    fn load_head(&self) -> Result<()>;

    /// Remarks about how the model is read, a sentence each; none for most models.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// The parts outside the blocks.
    fn outer(&self) -> OuterInfo;

    /// Names of the tensors outside the blocks (embeddings, final norm, head) that the checkpoint holds.
    fn outer_names(&self) -> Vec<String> {
        let OuterInfo { embeddings, norms, projections, head, tied } = self.outer();
        let checkpoint = self.checkpoint();
        // The one name that is stored of two.
        let shared: Vec<String> = embeddings.iter().filter_map(|name| checkpoint.stored_as(name)).collect();
        let stored = |module: &String| -> Vec<String> {
            let within = checkpoint.names().filter(|name| is_within(name, module)).map(String::from);
            within.filter(|name| !(tied && shared.contains(name))).collect()
        };
        let mut linears: Vec<String> = projections.iter().chain([&head]).flat_map(stored).collect();
        let weight = format!("{head}.weight");
        if !tied && checkpoint.stored_as(&weight).is_some() {
            linears.push(weight);
        }
        embeddings.into_iter().chain(norms).chain(linears).collect()
    }

    /// Module paths of the linears outside the blocks, stored or not: those that a `quantization_config` for linears
    /// has to leave out. The head alone, unless the family has projections.
    fn outer_linears(&self) -> Vec<String> {
        let OuterInfo { mut projections, head, .. } = self.outer();
        projections.push(head);
        projections
    }
}

/// True if the tensor `name` belongs to `module`.
fn is_within(name: &str, module: &str) -> bool {
    name.strip_prefix(module).is_some_and(|rest| rest.starts_with('.'))
}

/// The sizes of a model; each has a method of its name in [`Decoder`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Blocks.
    pub blocks: usize,
    /// Width of the activations between blocks.
    pub dim: usize,
    /// Token ids.
    pub vocab: usize,
    /// Tokens in the longest sequence.
    pub max_positions: usize,
}

/// One block in memory: norms, an attention and a few fans.
pub trait Block: Send + Sync {
    /// Takes `h [b, t, dim]` as far as `pass` says: to the next block's input, of the same shape, or to the input of a
    /// fan. Each fan on the way shows its input to the pass's tap. Errors when a fan does not hold the linears that the
    /// block multiplies with, and when `h` is not of the tokens in the pass.
    fn run(&self, h: &Tensor, pass: &mut Pass<'_>) -> Result<Flow<Tensor>>;

    /// The fans in the order the data meets them; together they hold each linear of the block once.
    fn fans(&mut self) -> Vec<&mut Fan>;

    /// Number of fans.
    fn fan_count(&self) -> usize;

    /// The norms, in the order of [`BlockInfo::norms`].
    fn norms(&mut self) -> Vec<&mut Norm>;

    /// Gradients of the block's parameters, all 0.
    fn gradients(&self) -> Gradients;

    /// Adds the gradients of the block's parameters for that of the output of a recorded pass, `dy [b, t, dim]` f32, and returns
    /// that of its input. In f32, on the CPU; the weights have to be those of the pass, and products are taken for what
    /// they would be without rounding. Twice the products of a forward pass; the same bits for any number of threads. Errors where
    /// there is no backward pass: on a GPU, and of linears whose inputs are rounded to codes.
    fn backward(&self, tape: Tape, dy: &Tensor, gradients: &mut Gradients) -> Result<Tensor>;

    /// [`Block::forward`] that keeps what [`Block::backward`] needs. Its attention is in f32 whatever the model's precision, so
    /// that the sums that are kept are those of the scores that the backward pass computes again. Errors on a GPU, and where keys
    /// and values are rounded to codes.
    fn record(&self, h: &Tensor) -> Result<(Tensor, Tape)> {
        let mut tape = Tape::new(h);
        let flow = self.run(h, &mut Pass { tape: Some(&mut tape), ..Pass::whole(&mut ()) })?;
        let Flow::Out(y) = flow else { return Err(Error::StoppedEarly) };
        tape.end(&y)?;
        Ok((y, tape))
    }

    /// `h [b, t, dim]` → the next block's input, same shape. Each fan shows its input to `tap`.
    fn forward(&self, h: &Tensor, tap: &mut dyn Tap) -> Result<Tensor> {
        match self.run(h, &mut Pass::whole(tap))? {
            Flow::Out(h) => Ok(h),
            Flow::Stopped => Err(Error::StoppedEarly),
        }
    }

    /// Runs only as far as the input of fan number `upto` (by default the last fan), which it shows to `tap` without
    /// computing that fan's products: statistics need no output. The tap sees the same as in `forward`.
    fn tap_only(&self, h: &Tensor, tap: &mut dyn Tap, upto: Option<usize>) -> Result<()> {
        let last = self.fan_count().saturating_sub(1);
        self.run(h, &mut Pass::up_to(upto.unwrap_or(last).min(last), tap)).map(drop)
    }
}
