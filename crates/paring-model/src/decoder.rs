//! A decoder is a list of blocks between an embedding and a head.

use candle_core::{Device, Tensor};
use paring_format::Checkpoint;

use crate::{Arithmetic, Fan, Result, Tap};

/// A language model, opened and checked, of which only what is asked for is in memory. One implementation per family.
///
/// Activations are f32 `[b, t, dim]` with `dim` = [`Decoder::hidden_size`]; every row is its own sequence and starts at
/// position 0.
pub trait Decoder: Send + Sync {
    /// What the config says of the model as a whole.
    fn sizes(&self) -> Sizes;

    /// Where it is read from.
    fn checkpoint(&self) -> &Checkpoint;

    /// How it computes.
    fn arithmetic(&self) -> &Arithmetic;

    /// Where its weights and activations lie.
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

    /// The input of block 0, `[batch, t, dim]`, for `batch` rows of equal length joined in `ids`. Reads only the
    /// embeddings of the tokens that occur. Errors on a token out of range, rows that do not come out even, and
    /// sequences that are too long for the model.
    fn embed(&self, ids: &[u32], batch: usize) -> Result<Tensor>;

    /// Reads block `i < blocks()`; the caller drops it. Costs the memory of its weights in f32.
    fn block(&self, i: usize) -> Result<Box<dyn Block>>;

    /// Has the system fetch block `i` from the disk before it is read. Takes none of the process's memory.
    fn expect(&self, i: usize) {
        let linears = self.linears(i);
        let of = |name: &str| {
            linears.iter().any(|linear| name.strip_prefix(&linear.name).is_some_and(|rest| rest.starts_with('.')))
        };
        self.checkpoint().names().filter(|name| of(name)).for_each(|name| self.checkpoint().expect(name));
        self.rest_names(i).iter().for_each(|name| self.checkpoint().expect(name));
    }

    /// Names and shapes of block `i`'s linears in the order of its fans, without reading weights.
    fn linears(&self, i: usize) -> Vec<LinearInfo>;

    /// Module path of block `i`'s attention: the scales of its cache lie beside it.
    fn attention(&self, i: usize) -> String;

    /// Names of block `i`'s other tensors (norms, biases), for whoever copies them through.
    fn rest_names(&self, i: usize) -> Vec<String>;

    /// −log p(`ids[t + 1]`) (natural logarithm) at position t of the last block's output `h [b, t, dim]`: t − 1 values
    /// for each row, rows joined. `ids` has b·t entries. The head is read and multiplied in pieces, so memory stays
    /// far below `[t, vocab]` and below the head itself.
    fn nll(&self, h: &Tensor, ids: &[u32]) -> Result<Vec<f32>>;

    /// The last block's output `h [b, t, dim]` → logits `[b, t, vocab]` of every position, all in memory.
    fn logits(&self, h: &Tensor) -> Result<Tensor>;

    /// What whoever runs the model should know of how it is read, a sentence each; nothing for most models.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// Names of the tensors outside the blocks (embeddings, final norm, head) that the checkpoint holds.
    fn outer_names(&self) -> Vec<String>;

    /// Module paths of the linears outside the blocks, stored or not: those that a `quantization_config` for linears
    /// has to leave out. The head alone, unless the family has more.
    fn outer_linears(&self) -> Vec<String> {
        vec!["lm_head".to_string()]
    }
}

/// The numbers of a model that whoever runs it needs; each has a method of its name in [`Decoder`].
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
pub trait Block: Send {
    /// `h [b, t, dim]` → the next block's input, same shape. Each fan shows its input to `tap`.
    fn forward(&self, h: &Tensor, tap: &mut dyn Tap) -> Result<Tensor>;

    /// Runs only as far as the input of fan number `upto` (by default the last fan), which it shows to `tap` without
    /// computing that fan's products: for statistics nobody needs the output. The tap sees the same as in `forward`.
    fn tap_only(&self, h: &Tensor, tap: &mut dyn Tap, upto: Option<usize>) -> Result<()>;

    /// The fans in the order the data meets them; together they hold each linear of the block once.
    fn fans(&mut self) -> Vec<&mut Fan>;
}

/// A linear as the config and the file's header describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinearInfo {
    /// Full module path in the checkpoint, without `.weight`.
    pub name: String,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// Number of its fan in the block.
    pub fan: usize,
}
