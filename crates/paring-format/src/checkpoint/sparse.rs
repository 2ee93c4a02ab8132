//! Sparse weights, which a checkpoint shows as the plain tensors that they stand for.
//!
//! Their parts are called `MODULE.compressed`, `MODULE.bitmask`, …, or `MODULE.weight.compressed`, … where
//! compressed-tensors before 0.9 wrote them; either way the tensor is `MODULE.weight`. The tensors decide, not the
//! configuration: old ones promise sparse weights that are stored plain.

use std::collections::BTreeMap;

use super::Checkpoint;
use super::tensor::{Location, ShardExtent, TensorInfo};
use crate::layouts::Layout;
use crate::layouts::sparse::{MASK, OFFSETS, SHAPE, Scan, Sparse, SparseHeader, VALUES};
use crate::{Error, LayoutPart, LayoutParts, Result};

/// Bytes of a mask that are looked at together.
const PIECE: usize = 1 << 20;

/// The parts of a sparse tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SparseTensor {
    header: SparseHeader,
    values: ShardExtent,
    mask: ShardExtent,
    offsets: Option<ShardExtent>,
    /// Of all parts.
    pub bytes: usize,
    /// Of the tensor that they stand for.
    pub dense_bytes: usize,
}

impl SparseTensor {
    /// The places of its parts.
    pub fn spots(&self) -> Vec<&ShardExtent> {
        [Some(&self.values), Some(&self.mask), self.offsets.as_ref()].into_iter().flatten().collect()
    }

    /// The name of the layout.
    pub fn name(&self) -> &'static str {
        self.header.sparse.name()
    }
}

impl Checkpoint {
    /// Names of all tensors as the files have them, in no particular order.
    pub fn stored_names(&self) -> impl Iterator<Item = &str> {
        let plain = self.tensors.iter().filter(|(_, info)| info.sparse().is_none());
        plain.map(|(name, _)| name.as_str()).chain(self.parts.iter().map(String::as_str))
    }

    /// Puts whole tensors in the places of sparse parts. Errors when a part is missing, or parts do not fit each other.
    /// Reads all masks, and nothing else.
    pub(super) fn join_sparse(&mut self) -> Result<()> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for (module, local) in self.tensors.keys().filter_map(|name| name.rsplit_once('.')) {
            if [VALUES, MASK, SHAPE].contains(&local) {
                *counts.entry(module).or_default() += 1;
            }
        }
        // One alone is a tensor like any other; of two, the third must not be missing.
        let modules: Vec<String> =
            counts.into_iter().filter(|&(_, count)| count > 1).map(|(module, _)| module.to_string()).collect();
        for module in modules {
            self.join(&module)?;
        }
        Ok(())
    }

    fn join(&mut self, module: &str) -> Result<()> {
        let mut parts = LayoutParts::new();
        let mut spots: BTreeMap<&str, ShardExtent> = BTreeMap::new();
        let (mut bytes, mut file) = (0, String::new());
        for local in [SHAPE, OFFSETS, MASK, VALUES] {
            let name = format!("{module}.{local}");
            let Some(info) = self.info(&name) else { continue };
            let Location::Plain(spot) = &info.at else { continue };
            // No shape takes more; one that does is refused because its bytes are missing.
            let small = local == SHAPE && info.bytes() <= 16;
            let content = if small { self.read(&name)? } else { Vec::new() };
            file.clone_from(&info.file);
            bytes += info.bytes();
            spots.insert(local, spot.clone());
            parts.insert(local, LayoutPart { dtype: info.dtype, shape: info.shape.clone(), bytes: content });
        }
        let flat = parts.get(VALUES).is_some_and(|values| values.shape.len() == 1);
        let sparse = if flat { Sparse::NonZero } else { Sparse::TwoOfFour };
        let header = SparseHeader::read(sparse, &parts).map_err(|error| located(error, module, &file))?;
        let offsets = spots.remove(OFFSETS).filter(|_| flat);
        let (Some(values), Some(mask)) = (spots.remove(VALUES), spots.remove(MASK)) else { return Ok(()) };
        let dense_bytes = header.dtype.bytes_of(&header.shape).unwrap_or(0);
        let stored = SparseTensor { header, values, mask, offsets, bytes, dense_bytes };
        self.scan(&stored, &file).map_err(|error| located(error, module, &file))?;
        let name = match module.ends_with(".weight") || module == "weight" {
            true => module.to_string(),
            false => format!("{module}.weight"),
        };
        if self.tensors.contains_key(&name) {
            return Err(Error::shard(&file, format!("{module}.{VALUES} stands for {name}, which is stored too")));
        }
        for local in parts.keys().filter(|&&local| local != OFFSETS || flat) {
            let part = format!("{module}.{local}");
            self.tensors.remove(&part);
            self.parts.insert(part);
        }
        let (dtype, shape) = (stored.header.dtype, stored.header.shape.clone());
        self.tensors.insert(name, TensorInfo { dtype, shape, file, at: Location::Sparse(Box::new(stored)) });
        Ok(())
    }

    /// Compares mask, offsets and the number of values.
    fn scan(&self, stored: &SparseTensor, file: &str) -> Result<()> {
        let (rows, _) = stored.header.matrix();
        let row = stored.header.mask_row();
        let step = (PIECE / row).max(1);
        let mut scan = Scan::new(&stored.header);
        for first in (0..rows).step_by(step) {
            let count = step.min(rows - first);
            let mask = self.copy_spot(&stored.mask, first * row, count * row, file)?;
            let offsets = match &stored.offsets {
                Some(spot) => Some(self.copy_spot(spot, 8 * first, 8 * count, file)?),
                None => None,
            };
            scan.rows(&mask, offsets.as_deref())?;
        }
        scan.finish()
    }

    /// Bytes of the tensor that the parts stand for. Takes no more memory than the rows that these lie in.
    pub(super) fn expand(&self, stored: &SparseTensor, offset: usize, len: usize, file: &str) -> Result<Vec<u8>> {
        if len == 0 {
            return Ok(Vec::new());
        }
        let changed = || Error::shard(file, "a sparse tensor is not as it was when the checkpoint was opened");
        let (header, size) = (&stored.header, stored.header.dtype.size());
        let (row, mask_row) = (header.matrix().1 * size, header.mask_row());
        let (first, last) = (offset / row, (offset + len).div_ceil(row));
        let mask = self.copy_spot(&stored.mask, first * mask_row, (last - first) * mask_row, file)?;
        let begin = match &stored.offsets {
            _ if first == 0 => 0,
            Some(spot) => {
                let bytes = self.copy_spot(spot, 8 * first, 8, file)?;
                let begin = bytes.first_chunk().map(|&bytes| i64::from_le_bytes(bytes));
                begin.and_then(|begin| usize::try_from(begin).ok()).ok_or_else(changed)?
            }
            None if header.is_even() => first * header.matrix().1 / 2,
            None => ones(&self.copy_spot(&stored.mask, 0, first * mask_row, file)?),
        };
        let (begin, count) = (begin.checked_mul(size).ok_or_else(changed)?, ones(&mask) * size);
        let values = self.copy_spot(&stored.values, begin, count, file)?;
        let mut rows = header.expand(&mask, &values).ok_or_else(changed)?;
        let skip = offset - first * row;
        if rows.len() < skip + len {
            return Err(changed());
        }
        rows.truncate(skip + len);
        rows.drain(..skip);
        Ok(rows)
    }
}

/// Set bits.
fn ones(mask: &[u8]) -> usize {
    mask.iter().map(|byte| byte.count_ones() as usize).sum()
}

/// An error about parts, with the names that they have in the file.
fn located(error: Error, module: &str, file: &str) -> Error {
    match error {
        Error::BadParts { reason, .. } => Error::shard(file, format!("{module}.{reason}")),
        other => other.in_module(module, file),
    }
}
