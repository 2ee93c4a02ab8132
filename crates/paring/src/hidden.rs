//! The activations between two blocks: the whole state of a run, apart from the shards already closed.

mod spill;

use std::path::Path;

use candle_core::Tensor;
use paring_kernels::plain::all_finite;
use paring_model::decoder::Decoder;

use crate::corpus::Windows;
use crate::{Error, Result};

use spill::Spill;

/// Tokens that go through a block together: enough for products at full speed, few enough that the widest
/// activations of a block stay small.
const BATCH_TOKENS: usize = 2048;

/// Windows that go through a block together.
pub(crate) fn batch_windows(seqlen: usize) -> usize {
    (BATCH_TOKENS / seqlen).max(1)
}

/// Where activations wait for the next block.
#[derive(Clone, Copy, Debug)]
pub enum Storage<'a> {
    /// All in memory.
    Memory,
    /// As many bytes in memory as given, the rest in a file in this folder that is gone when the run is.
    Disk(&'a Path, usize),
}

/// Activations of all windows, in batches `[b, t, dim]`.
pub struct Hidden {
    /// Those in memory, then those on disk.
    batches: Vec<Tensor>,
    spill: Option<Spill>,
    windows: usize,
    seqlen: usize,
}

impl Hidden {
    /// The inputs of block 0.
    pub fn embed(decoder: &dyn Decoder, windows: &Windows, storage: Storage<'_>) -> Result<Self> {
        let per_batch = batch_windows(windows.seqlen);
        let mut hidden = Self { batches: Vec::new(), spill: None, windows: windows.count(), seqlen: windows.seqlen };
        let mut bytes = 0;
        for ids in windows.ids.chunks(per_batch * windows.seqlen) {
            let batch = decoder.embed(ids, ids.len() / windows.seqlen)?;
            bytes += batch.elem_count() * size_of::<f32>();
            match (storage, &mut hidden.spill) {
                (Storage::Disk(_, budget), Some(spill)) if bytes > budget => spill.push(&batch)?,
                (Storage::Disk(dir, budget), None) if bytes > budget => {
                    hidden.spill.insert(Spill::create(dir)?).push(&batch)?;
                }
                _ => hidden.batches.push(batch),
            }
        }
        Ok(hidden)
    }

    /// Number of batches.
    pub fn batches(&self) -> usize {
        self.batches.len() + self.spill.as_ref().map_or(0, Spill::len)
    }

    /// Batch `i`, `[b, t, dim]`.
    pub fn batch(&self, i: usize) -> Result<Tensor> {
        match (self.batches.get(i), &self.spill) {
            (Some(batch), _) => Ok(batch.clone()),
            (None, Some(spill)) => spill.get(i - self.batches.len()),
            (None, None) => Err(Error::Plan(format!("batch {i} of {}", self.batches.len()))),
        }
    }

    /// Replaces each batch by what `f` makes of it.
    pub fn advance(&mut self, mut f: impl FnMut(&Tensor) -> Result<Tensor>) -> Result<()> {
        for batch in &mut self.batches {
            *batch = f(batch)?;
        }
        if let Some(spill) = &mut self.spill {
            for i in 0..spill.len() {
                let batch = f(&spill.get(i)?)?;
                spill.set(i, &batch)?;
            }
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
        for i in 0..self.batches() {
            let batch = self.batch(i)?;
            let (b, t, dim) = batch.dims3()?;
            if !all_finite(&batch)? {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::report::Clock;
    use crate::walk::walk;

    #[test]
    fn activations_on_disk_are_those_in_memory() {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/models/llama");
        let checkpoint = Arc::new(paring_format::Checkpoint::open(&model).unwrap());
        let decoder = paring_model::families::open(checkpoint, crate::Precision::F32).unwrap();
        let vocabulary = decoder.vocab_size() as u32;
        let ids: Vec<u32> = (0..160 * 32u32).map(|i| i.wrapping_mul(2_654_435_761) % vocabulary).collect();
        let windows = Windows { ids, seqlen: 32, seed: None };
        let dir = tempfile::tempdir().unwrap();
        let run = |storage: Storage<'_>| {
            let mut hidden = Hidden::embed(decoder.as_ref(), &windows, storage).unwrap();
            walk(decoder.as_ref(), Some(&mut hidden), &mut (), true, &mut Clock::default()).unwrap();
            let values = |i| hidden.batch(i).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let all: Vec<Vec<f32>> = (0..hidden.batches()).map(values).collect();
            (all, hidden.spill.as_ref().map_or(0, Spill::len))
        };
        let (want, none) = run(Storage::Memory);
        assert_eq!((want.len(), none), (3, 0));
        // One batch is 64 windows of 32 tokens of 32 features.
        for (budget, spilled) in [(0, 3), (64 * 32 * 32 * 4, 2), (usize::MAX, 0)] {
            let (got, on_disk) = run(Storage::Disk(dir.path(), budget));
            assert_eq!(on_disk, spilled);
            assert!(got == want, "with {budget} bytes in memory");
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
