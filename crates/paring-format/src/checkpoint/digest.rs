//! Digests of what a checkpoint holds, taken where it lies in the files.

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::tensor::At;
use super::{Checkpoint, TensorInfo};
use crate::compressed::{Digest, PIECE};
use crate::{Result, layouts};

impl Checkpoint {
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
        let quant = self.quant()?;
        let (layout, scheme) = Self::layout_of(quant.as_deref(), module)?;
        if layout.name() != layouts::DENSE.name() || scheme.is_some_and(|scheme| scheme.weights.is_some()) {
            return Ok(None);
        }
        let info = self.info(&format!("{module}.weight"));
        let Some(info) = info.filter(|info| info.bytes() > 0 && info.dtype.is_weight() && info.shape == [rows, cols])
        else {
            return Ok(None);
        };
        let mut hash = Digest::new(rows, cols);
        let whole = self.look(info, PIECE * info.dtype.size(), |bytes| {
            let values = info.dtype.decode_f32(bytes);
            hash.update(&values);
            // Without an early end, so that the loop is one of vectors.
            values.iter().fold(true, |all, value| all & value.is_finite())
        });
        Ok(whole.then(|| hash.finish()))
    }

    /// Shows `see` the bytes of a tensor in order, without copying them, at most `piece` (a multiple of an element) at a
    /// time, until it answers no. False when it did, and where the bytes do not lie in a file in this order.
    fn look(&self, info: &TensorInfo, piece: usize, see: impl FnMut(&[u8]) -> bool) -> bool {
        let At::Plain(spot) = &info.at else { return false };
        self.shards.get(spot.shard).is_some_and(|shard| shard.look(&spot.place, piece, see))
    }

    /// xxh3 (64 bits) of a tensor's bytes, as [`Checkpoint::read`] gives them, with its errors. Looked at where they lie,
    /// without a copy, unless they are of another order or sparse.
    pub fn digest(&self, name: &str) -> Result<u64> {
        let mut hash = Xxh3::new();
        let see = |bytes: &[u8]| {
            hash.update(bytes);
            true
        };
        match self.look(self.need(name)?, 1 << 20, see) {
            true => Ok(hash.digest()),
            false => Ok(xxh3_64(&self.read(name)?)),
        }
    }
}
