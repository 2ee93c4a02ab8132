//! Reading tensors: bytes as they are, floats as f32.

use super::tensor::{Location, ShardExtent};
use super::{Checkpoint, TensorInfo};
use crate::compressed::PIECE;
use crate::finite::{all_finite, check_finite};
use crate::{Error, Result};

impl Checkpoint {
    /// A copy of a tensor's bytes.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        let info = self.need(name)?;
        self.copy(info, 0, info.bytes())
    }

    /// A copy of `count` rows of a matrix from row `first` on, a row being everything after the first dimension.
    pub fn read_rows(&self, name: &str, first: usize, count: usize) -> Result<Vec<u8>> {
        let info = self.need(name)?;
        let (offset, len) = rows_of(name, info, first, count)?;
        self.copy(info, offset, len)
    }

    /// A float tensor as f32. Errors when it has another shape, is not of floats, or holds a NaN or an infinity.
    pub fn read_f32(&self, name: &str, expected_shape: &[usize]) -> Result<Vec<f32>> {
        let info = self.need(name)?;
        if info.shape != expected_shape {
            return Err(Error::WrongShape {
                tensor: name.to_string(),
                file: info.file.clone(),
                expected: expected_shape.to_vec(),
                got: info.shape.clone(),
            });
        }
        self.floats(name, info, 0, info.bytes())
    }

    /// As [`Checkpoint::read_rows`], but f32, with the checks of [`Checkpoint::read_f32`].
    pub fn read_rows_f32(&self, name: &str, first: usize, count: usize) -> Result<Vec<f32>> {
        let info = self.need(name)?;
        let (offset, len) = rows_of(name, info, first, count)?;
        self.floats(name, info, offset, len)
    }

    /// `len` bytes of a tensor from byte `offset` on as f32, decoded where they lie in the file. Errors when the type is none
    /// of floats, and at the first NaN or infinity.
    pub(super) fn floats(&self, name: &str, info: &TensorInfo, offset: usize, len: usize) -> Result<Vec<f32>> {
        if !info.dtype.is_float() {
            return Err(Error::WrongDtype {
                tensor: name.to_string(),
                file: info.file.clone(),
                expected: "a float type".to_string(),
                got: info.dtype,
            });
        }
        let size = info.dtype.size();
        let mut values = Vec::new();
        let mut finite = true;
        // Each piece is decoded and looked at while it is in the cache.
        let read = self.look(info, offset, len, PIECE * size, |bytes| {
            values.reserve_exact(if values.is_empty() { len / size } else { 0 });
            let start = values.len();
            info.dtype.decode_f32_to(bytes, &mut values);
            finite &= all_finite(&values[start..]);
            true
        });
        if !read {
            values = info.dtype.decode_f32(&self.copy(info, offset, len)?);
            finite = all_finite(&values);
        }
        if !finite {
            let cols = info.shape.last().copied().unwrap_or(1);
            check_finite(&values, cols, offset / size, name, &info.file)?;
        }
        Ok(values)
    }

    /// Prefetches a tensor: the system reads it from the disk into its own memory meanwhile. Nothing happens where there is
    /// none.
    pub fn prefetch(&self, name: &str) {
        let spots = self.info(name).map(TensorInfo::spots).unwrap_or_default();
        let shard = |spot: &&ShardExtent| self.shards.get(spot.shard);
        spots.iter().for_each(|spot| shard(spot).into_iter().for_each(|shard| shard.prefetch(&spot.place)));
    }

    fn copy(&self, info: &TensorInfo, offset: usize, len: usize) -> Result<Vec<u8>> {
        match &info.at {
            Location::Plain(spot) => self.copy_spot(spot, offset, len, &info.file),
            Location::Sparse(stored) => self.expand(stored, offset, len, &info.file),
        }
    }

    pub(super) fn copy_spot(&self, spot: &ShardExtent, offset: usize, len: usize, file: &str) -> Result<Vec<u8>> {
        // The ranges were checked when the checkpoint was opened: this error would be one of this crate.
        let out_of_range = || Error::shard(file, "tensor out of range");
        self.shards.get(spot.shard).and_then(|shard| shard.read(&spot.place, offset, len)).ok_or_else(out_of_range)
    }

    /// Shows `see` `len` bytes of a tensor from byte `offset` on, in order and without copying them, at most `piece` (a multiple of an element) at a
    /// time, until it answers no. False when it did, and where the bytes do not lie in a file in this order.
    pub(super) fn look(
        &self,
        info: &TensorInfo,
        offset: usize,
        len: usize,
        piece: usize,
        see: impl FnMut(&[u8]) -> bool,
    ) -> bool {
        let Location::Plain(spot) = &info.at else { return false };
        self.shards.get(spot.shard).is_some_and(|shard| shard.look(&spot.place, offset, len, piece, see))
    }
}

/// Offset and length in bytes of `count` rows of a tensor from row `first` on. Errors when it has fewer.
fn rows_of(name: &str, info: &TensorInfo, first: usize, count: usize) -> Result<(usize, usize)> {
    let rows = info.shape.first().copied().unwrap_or(0);
    if first.checked_add(count).is_none_or(|end| end > rows) {
        let reason = format!("{name} has {rows} rows, asked for {count} from row {first} on");
        return Err(Error::shard(&info.file, reason));
    }
    let row = info.bytes().checked_div(rows).unwrap_or(0);
    Ok((first * row, count * row))
}
