//! Sequences that grow: what a model keeps of the tokens it has seen, so that only new ones are computed.

use std::ops::Range;

use candle_core::Tensor;
use paring_kernels::attention::{CacheType, KeyValues};

use crate::pass::{Flow, Pass, Piece};
use crate::{Block, Decoder, Error, Result};

/// A sequence as far as a model has seen it: the keys and values of all blocks. A clone is a fork.
#[derive(Clone)]
pub struct Sequence {
    blocks: Vec<KeyValues>,
}

impl Sequence {
    /// A sequence of no tokens, whose keys and values will be kept in this type. Errors where the device cannot hold it.
    pub fn new(decoder: &dyn Decoder, cache_type: CacheType) -> Result<Self> {
        Ok(Self { blocks: (0..decoder.blocks()).map(|i| decoder.key_values(i, cache_type)).collect::<Result<_>>()? })
    }

    /// Tokens that the model has seen.
    pub fn len(&self) -> usize {
        self.blocks.iter().map(KeyValues::len).min().unwrap_or(0)
    }

    /// True if the model has seen no token.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of keys and values.
    pub fn bytes(&self) -> usize {
        self.blocks.iter().map(KeyValues::bytes).sum()
    }

    /// A fork of its first `len` tokens.
    ///
    /// # Errors
    /// When a device cannot narrow its tensors.
    pub fn prefix(&self, len: usize) -> Result<Self> {
        Ok(Self { blocks: self.blocks.iter().map(|block| Ok(block.prefix(len)?)).collect::<Result<_>>()? })
    }

    /// Forgets the tokens from position `len` on.
    pub fn truncate(&mut self, len: usize) -> Result<()> {
        self.blocks.iter_mut().try_for_each(|block| Ok(block.truncate(len)?))
    }
}

/// The next tokens of a sequence.
pub struct Next<'a> {
    /// The sequence so far.
    pub sequence: &'a mut Sequence,
    /// Its next tokens.
    pub ids: &'a [u32],
}

/// Passes the next tokens of several sequences through all `blocks` of `decoder`: the last block's output `[1, n, dim]`, the
/// tokens of one sequence after those of another. Each sequence gets what it would get alone, up to rounding, and grows by
/// its tokens; after an error it is as before.
///
/// Errors on tokens that are out of range, on sequences that become too long for the model, and when there is no token.
pub fn extend(decoder: &dyn Decoder, blocks: &[Box<dyn Block>], nexts: &mut [Next<'_>]) -> Result<Tensor> {
    let lengths: Vec<usize> = nexts.iter().map(|next| next.sequence.len()).collect();
    let result = run(decoder, blocks, nexts);
    if result.is_err() {
        for (next, &len) in nexts.iter_mut().zip(&lengths) {
            next.sequence.truncate(len)?;
        }
    }
    result
}

fn run(decoder: &dyn Decoder, blocks: &[Box<dyn Block>], nexts: &mut [Next<'_>]) -> Result<Tensor> {
    let ids: Vec<u32> = nexts.iter().flat_map(|next| next.ids).copied().collect();
    let position = |next: &Next<'_>| next.sequence.len()..next.sequence.len() + next.ids.len();
    let spans: Vec<Range<usize>> = nexts.iter().map(position).collect();
    let mut h = decoder.embed_next(&ids, &spans)?;
    for (i, block) in blocks.iter().enumerate() {
        let mut pieces = Vec::with_capacity(nexts.len());
        for next in nexts.iter_mut() {
            let expected = blocks.len();
            let got = next.sequence.blocks.len();
            let cache = next.sequence.blocks.get_mut(i).filter(|_| got == expected);
            let cache = cache.ok_or(Error::SequenceBlocks { expected, got })?;
            pieces.push(Piece { tokens: next.ids.len(), cache });
        }
        h = match block.run(&h, &mut Pass::next(pieces, &mut ()))? {
            Flow::Out(h) => h,
            Flow::Stopped => return Err(Error::StoppedEarly),
        };
    }
    Ok(h)
}
