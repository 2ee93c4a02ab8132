//! Digests of what a checkpoint holds, taken where it lies in the files.

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::Checkpoint;
use crate::Result;
use crate::compressed::{Digest, PIECE};
use crate::finite::all_finite;

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
