//! Digests of what a checkpoint holds, taken where it lies in the files.

use std::iter;

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::Checkpoint;
use crate::Result;
use crate::compressed::{Digest, PIECE};
use crate::finite::all_finite;

/// Bytes of each sample of a tensor.
const SAMPLE: usize = 4096;

/// A weight file by what is in it: two of the same bytes have the same, whenever they were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSample {
    /// Its name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// xxh3 (64 bits) of samples of its tensors, with their names.
    pub digest: u64,
}

impl Checkpoint {
    /// The weight files, by samples of every tensor: 4 kB from its beginning, its middle and its end, all of one that is
    /// smaller. Reads a few pages a tensor, some 10 µs each from memory.
    pub fn samples(&self) -> Vec<FileSample> {
        let mut hashes: Vec<Xxh3> = iter::repeat_with(Xxh3::new).take(self.shards.len()).collect();
        for (name, info) in &self.tensors {
            for spot in info.spots() {
                let (Some(shard), Some(hash)) = (self.shards.get(spot.shard), hashes.get_mut(spot.shard)) else {
                    continue;
                };
                hash.update(name.as_bytes());
                let last = spot.place.len.saturating_sub(SAMPLE);
                // Whole elements, whatever their size.
                let starts = [0, last / 2 / 8 * 8, last];
                for start in &starts[..if last == 0 { 1 } else { starts.len() }] {
                    let sample = shard.read(&spot.place, *start, SAMPLE.min(spot.place.len - start));
                    hash.update(&sample.unwrap_or_default());
                }
            }
        }
        let sample = |(shard, hash): (&super::Shard, Xxh3)| FileSample {
            name: shard.file.clone(),
            bytes: shard.len() as u64,
            digest: hash.digest(),
        };
        self.shards.iter().zip(hashes).map(sample).collect()
    }

    /// [`crate::Compressed::digest`] of the linear at this module path, which must be `[rows, cols]`: that of
    /// [`Checkpoint::read_linear`], with its errors. A plain dense weight is looked at where it lies, without a buffer for
    /// all of it.
    pub fn digest_linear(&self, module: &str, rows: usize, cols: usize) -> Result<u64> {
        match self.digest_plain(module, rows, cols)? {
            Some(digest) => Ok(digest),
            None => Ok(self.read_linear(module, rows, cols)?.digest()),
        }
    }

    /// The digest of a weight that lies in a file as plain floats of this shape, all of them finite. `None` for any other.
    fn digest_plain(&self, module: &str, rows: usize, cols: usize) -> Result<Option<u64>> {
        let (layout, scheme) = self.layout_of(module)?;
        if self.plain_weight(layout, scheme, module) != Some((rows, cols)) {
            return Ok(None);
        }
        let info = self.need(&format!("{module}.weight"))?;
        let mut hash = Digest::new(rows, cols);
        let mut values = Vec::with_capacity(PIECE);
        let whole = self.look(info, 0, info.bytes(), PIECE * info.dtype.size(), |bytes| {
            values.clear();
            info.dtype.decode_f32_to(bytes, &mut values);
            hash.update(&values);
            all_finite(&values)
        });
        Ok(whole.then(|| hash.finish()))
    }

    /// xxh3 (64 bits) of a tensor's bytes, as [`Checkpoint::read`] gives them, with its errors. Looked at where they lie,
    /// without a copy, unless they are of another order or sparse.
    pub fn digest(&self, name: &str) -> Result<u64> {
        let mut hash = Xxh3::new();
        let see = |bytes: &[u8]| {
            hash.update(bytes);
            true
        };
        let info = self.need(name)?;
        match self.look(info, 0, info.bytes(), 1 << 20, see) {
            true => Ok(hash.digest()),
            false => Ok(xxh3_64(&self.read(name)?)),
        }
    }
}
