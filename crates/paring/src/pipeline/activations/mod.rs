//! The activations between two blocks: the whole state of a run, apart from the shards already closed.

mod batches;
mod snapshot;
mod spill;

use std::path::Path;

use candle_core::Tensor;
use paring_kernels::plain::all_finite;
use paring_model::decoder::Decoder;

use crate::pipeline::device::DeviceBudget;
use crate::{Error, Result};
use paring_data::Windows;

pub(crate) use batches::Batches;
pub(crate) use spill::{Spill, folder_for};

/// Tokens that go through a block together on the CPU: enough for products at full speed, few enough that the widest
/// activations of a block stay small.
const BATCH_TOKENS: usize = 2048;

/// Bytes of batches of these sizes that wait in a file, where `resident` bytes stay in memory: all from the first that does not fit.
pub(crate) fn spilled(batches: impl IntoIterator<Item = usize>, resident: usize) -> usize {
    let mut all = 0;
    let waits = |bytes: &usize| {
        all += bytes;
        all > resident
    };
    batches.into_iter().filter(waits).sum()
}

/// Windows that go through a block together on the CPU.
pub(crate) fn batch_windows(seqlen: usize) -> usize {
    (BATCH_TOKENS / seqlen).max(1)
}

/// The batches in which activations go through a block, and the place where they wait for the next.
#[derive(Clone, Debug)]
pub struct Storage<'a> {
    /// Windows that go through a block together, 1 or more.
    pub batch: usize,
    /// True if they stay on the device that computes. Where that is the CPU it makes no difference.
    pub on_device: bool,
    /// As many bytes in host memory as given, the rest in a file in this folder that is gone when the run is; `None`: all
    /// in host memory.
    pub disk: Option<(&'a Path, usize)>,
    /// The device's memory.
    pub budget: DeviceBudget,
}

/// Activations of all windows, in batches `[b, t, dim]`.
pub struct Hidden {
    batches: Batches,
    windows: usize,
    seqlen: usize,
    /// Windows of a batch; the last one may have fewer.
    together: usize,
}

impl Hidden {
    /// The inputs of block 0.
    pub fn embed(decoder: &dyn Decoder, windows: &Windows, storage: Storage<'_>) -> Result<Self> {
        let mut window = 0;
        let embed = |ids: &[u32]| {
            let made = decoder.embed(ids, ids.len() / windows.seqlen)?;
            check_embedding(&made, ids, window)?;
            window += made.dim(0)?;
            Ok(made)
        };
        Self::fill(windows, &storage, "embedding", embed)
    }

    /// The results of `make` for the token ids of one batch after the other.
    fn fill(
        windows: &Windows,
        storage: &Storage<'_>,
        doing: &str,
        mut make: impl FnMut(&[u32]) -> Result<Tensor>,
    ) -> Result<Self> {
        let mut parts = windows.ids.chunks(storage.batch * windows.seqlen);
        let batches = Batches::fill(storage, doing, || parts.next().map(&mut make).transpose())?;
        Ok(Self { batches, windows: windows.count(), seqlen: windows.seqlen, together: storage.batch })
    }

    /// The memory of the device that computes.
    pub fn budget(&self) -> &DeviceBudget {
        self.batches.budget()
    }

    /// Number of batches.
    pub fn batches(&self) -> usize {
        self.batches.len()
    }

    /// Batch `i`, `[b, t, dim]`, on the device that computes.
    pub fn batch(&self, i: usize) -> Result<Tensor> {
        self.batches.get(i)
    }

    /// The activations of one window, `[1, t, dim]`, on the device that computes. Where batches wait elsewhere, all of its batch is
    /// brought.
    pub fn window(&self, at: usize) -> Result<Tensor> {
        Ok(self.batch(at / self.together)?.narrow(0, at % self.together, 1)?)
    }

    /// Calls `f` with each batch, in order.
    pub fn each(&self, f: impl FnMut(&Tensor) -> Result<()>) -> Result<()> {
        self.batches.each(f)
    }

    /// Replaces each batch by what `f`, which is block number `block`, makes of it. Errors on the first NaN or infinity
    /// among that.
    pub fn advance(&mut self, block: usize, mut f: impl FnMut(&Tensor) -> Result<Tensor>) -> Result<()> {
        let mut window = 0;
        self.batches.advance(|batch| {
            let made = f(batch)?;
            check_finite(&made, block, window)?;
            window += made.dim(0)?;
            Ok(made)
        })
    }

    /// Number of windows.
    pub fn windows(&self) -> usize {
        self.windows
    }

    /// Tokens in a window.
    pub fn seqlen(&self) -> usize {
        self.seqlen
    }

    /// Tokens in all windows.
    pub fn tokens(&self) -> usize {
        self.windows * self.seqlen
    }
}

/// An error that names the first NaN or infinity in the output of a block for the windows from number `window` on.
pub(crate) fn check_finite(batch: &Tensor, block: usize, window: usize) -> Result<()> {
    let Some((at, value)) = first_bad(batch)? else { return Ok(()) };
    let (_, t, dim) = batch.dims3()?;
    let (position, feature) = (at / dim % t, at % dim);
    Err(Error::Hidden { block, window: window + at / (t * dim), position, feature, value })
}

/// The same of the embeddings of `ids`, which may add to more than a float holds.
pub(crate) fn check_embedding(batch: &Tensor, ids: &[u32], window: usize) -> Result<()> {
    let Some((at, value)) = first_bad(batch)? else { return Ok(()) };
    let (_, t, dim) = batch.dims3()?;
    let (token, position, feature) = (ids[at / dim], at / dim % t, at % dim);
    Err(Error::Embedding { token, window: window + at / (t * dim), position, feature, value })
}

/// The first NaN or infinity of a batch, and its place.
fn first_bad(batch: &Tensor) -> Result<Option<(usize, f32)>> {
    if all_finite(batch)? {
        return Ok(None);
    }
    let values = batch.flatten_all()?.to_vec1::<f32>()?;
    Ok(values.into_iter().enumerate().find(|(_, v)| !v.is_finite()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use candle_core::Device;
    use paring_kernels::device::present;

    use super::*;
    use crate::pipeline::walk::walk;
    use crate::report::Clock;

    /// A small model, and 160 windows of 32 tokens.
    fn golden(device: &Device) -> (Box<dyn Decoder>, Windows) {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/models/llama");
        let checkpoint = Arc::new(paring_format::Checkpoint::open(&model).unwrap());
        let arithmetic = paring_model::Arithmetic::from(crate::Precision::F32).on(device);
        let decoder = paring_model::families::open(checkpoint, arithmetic).unwrap();
        let vocabulary = decoder.vocab_size() as u32;
        let ids = (0..160 * 32u32).map(|i| i.wrapping_mul(2_654_435_761) % vocabulary).collect();
        (decoder, Windows { ids, seqlen: 32, seed: None })
    }

    #[test]
    fn what_was_kept_is_what_it_was() {
        let dir = tempfile::tempdir().unwrap();
        for device in present() {
            let (decoder, windows) = golden(&device);
            let values = |hidden: &Hidden| {
                let mut all = Vec::new();
                let see = |batch: &Tensor| {
                    all.extend(batch.flatten_all()?.to_vec1::<f32>()?);
                    Ok(())
                };
                hidden.each(see).unwrap();
                all
            };
            let storage = |windows_together: usize, on_device: bool, disk: Option<(&'static Path, usize)>| {
                let budget = DeviceBudget::new(&device, None).unwrap();
                Storage { batch: windows_together, on_device, disk, budget }
            };
            let hidden = Hidden::embed(decoder.as_ref(), &windows, storage(64, true, None)).unwrap();
            let kept = Hidden::keep(&[&hidden, &hidden], dir.path(), 3, 32).unwrap();
            assert_eq!((kept.name.as_str(), kept.bytes), (".activations-00003", 2 * 160 * 32 * 32 * 4));
            let restore = |windows: &Windows, storage: Storage<'_>| {
                Hidden::restore(decoder.as_ref(), windows, storage, (dir.path(), &kept), 2)
            };
            // In batches of another size, and waiting elsewhere.
            for (together, on_device) in [(64, true), (7, false), (1000, true)] {
                let back = restore(&windows, storage(together, on_device, None)).unwrap();
                assert_eq!(back.len(), 2);
                for back in back {
                    assert_eq!(back.batches(), 160_usize.div_ceil(together));
                    assert_eq!(values(&back), values(&hidden));
                }
            }
            let fewer = Windows { ids: windows.ids[..32].to_vec(), ..windows };
            let error = restore(&fewer, storage(64, true, None)).err().unwrap().to_string();
            assert!(error.contains("1310720 bytes of activations, expected 8192 for these windows"), "{error}");
            let path = dir.path().join(&kept.name);
            std::fs::write(&path, &std::fs::read(&path).unwrap()[1..]).unwrap();
            let (_, windows) = golden(&device);
            let error = restore(&windows, storage(64, true, None)).err().unwrap().to_string();
            assert!(error.contains(&kept.name) && error.contains("it was changed since"), "{error}");
        }
    }

    #[test]
    fn activations_are_the_same_wherever_they_wait() {
        let dir = tempfile::tempdir().unwrap();
        for device in present() {
            let (decoder, windows) = golden(&device);
            let run = |on_device: bool, disk: Option<(&Path, usize)>| {
                let budget = DeviceBudget::new(&device, None).unwrap();
                let storage = Storage { batch: batch_windows(windows.seqlen), on_device, disk, budget };
                let mut hidden = Hidden::embed(decoder.as_ref(), &windows, storage).unwrap();
                walk(decoder.as_ref(), 0..decoder.blocks(), Some(&mut hidden), &mut (), true, &mut Clock::default())
                    .unwrap();
                let values = |batch: &Tensor| batch.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                let mut all = Vec::new();
                hidden
                    .each(|batch| {
                        all.push(values(batch));
                        Ok(())
                    })
                    .unwrap();
                assert_eq!(values(&hidden.batch(1).unwrap()), all[1]);
                assert!(hidden.batch(3).is_err());
                (all, hidden.batches.spilled())
            };
            let (want, none) = run(true, None);
            assert_eq!((want.len(), none), (3, 0));
            // One batch is 64 windows of 32 tokens of 32 features.
            let batch = 64 * 32 * 32 * 4;
            for (resident, spilled) in [(None, 0), (Some(0), 3), (Some(batch), 2), (Some(usize::MAX), 0)] {
                let (got, on_disk) = run(false, resident.map(|bytes| (dir.path(), bytes)));
                assert_eq!(on_disk, spilled);
                assert!(got == want, "{device:?}, with {resident:?} bytes in memory");
            }
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
