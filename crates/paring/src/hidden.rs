//! The activations between two blocks: the whole state of a run, apart from the shards already closed.

use candle_core::Tensor;
use paring_kernels::plain::all_finite;
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

    /// An error that names the first NaN or infinity in the output of a block.
    pub fn check_finite(&self, block: usize) -> Result<()> {
        let mut window = 0;
        for batch in &self.batches {
            let (b, t, dim) = batch.dims3()?;
            if !all_finite(batch)? {
                let values = batch.flatten_all()?.to_vec1::<f32>()?;
                if let Some((at, &value)) = values.iter().enumerate().find(|(_, v)| !v.is_finite()) {
                    let (position, feature) = (at / dim % t, at % dim);
                    return Err(Error::Hidden { block, window: window + at / (t * dim), position, feature, value });
                }
            }
            window += b;
        }
        Ok(())
    }
}
