//! The activations between two blocks: the whole state of a run, apart from the shards already closed.

use candle_core::Tensor;
use paring_model::decoder::Decoder;

use crate::corpus::Windows;
use crate::{Error, Result};

/// Tokens that go through a block together: enough for products at full speed, few enough that the widest
/// activations of a block stay small.
const BATCH_TOKENS: usize = 2048;

/// Activations of all windows, in batches `[b, t, dim]`.
pub struct Hidden {
    batches: Vec<Tensor>,
    windows: usize,
    seqlen: usize,
}

impl Hidden {
    /// The inputs of block 0.
    pub fn embed(decoder: &dyn Decoder, windows: &Windows) -> Result<Self> {
        let per_batch = (BATCH_TOKENS / windows.seqlen).max(1);
        let batches = windows
            .ids
            .chunks(per_batch * windows.seqlen)
            .map(|ids| Ok(decoder.embed(ids, ids.len() / windows.seqlen)?))
            .collect::<Result<_>>()?;
        Ok(Self { batches, windows: windows.count(), seqlen: windows.seqlen })
    }

    /// Each batch in turn.
    pub fn batches(&self) -> &[Tensor] {
        &self.batches
    }

    /// Replaces each batch by what `f` makes of it.
    pub fn advance(&mut self, mut f: impl FnMut(&Tensor) -> Result<Tensor>) -> Result<()> {
        for batch in &mut self.batches {
            *batch = f(batch)?;
        }
        Ok(())
    }

    /// Number of windows.
    pub fn windows(&self) -> usize {
        self.windows
    }

    /// Tokens in all windows.
    pub fn tokens(&self) -> usize {
        self.windows * self.seqlen
    }

    /// An error naming the first window that holds a NaN or an infinity.
    pub fn check_finite(&self, place: &str) -> Result<()> {
        for batch in &self.batches {
            let sum = batch.abs()?.sum_all()?.to_scalar::<f32>()?;
            if !sum.is_finite() {
                return Err(Error::Activations { module: place.to_string(), feature: 0 });
            }
        }
        Ok(())
    }
}
