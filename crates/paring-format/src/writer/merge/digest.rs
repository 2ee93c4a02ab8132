//! The digest of a merged file, which is known without reading the file again.

use std::path::Path;

use xxhash_rust::xxh3::Xxh3;

use crate::Result;
use crate::checkpoint::{Extent, Shard, ShardKind};

/// Bytes of a tensor that are looked at together.
const PIECE: usize = 1 << 20;

/// The digest of a merged file: of its header, with its length, and the digests of its tensors in the order of the file.
pub(super) fn of_merged(header: &[u8], tensors: &[u64]) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(header);
    tensors.iter().for_each(|digest| hash.update(&digest.to_le_bytes()));
    hash.digest()
}

/// The digest of a tensor, whose bytes `see` is shown as well, until it answers no.
pub(super) fn of_tensor(shard: &Shard, place: &Extent, mut see: impl FnMut(&[u8]) -> bool) -> u64 {
    let mut hash = Xxh3::new();
    shard.look(place, 0, place.len, PIECE, |piece| {
        hash.update(piece);
        see(piece)
    });
    hash.digest()
}

/// The digests of a file of weights, both of which are computed in one pass.
pub(in crate::writer) struct Digests {
    /// Of all its bytes.
    pub bytes: u64,
    /// As that of a merged file.
    pub merged: u64,
}

/// Reads a file of weights. Errors when it is none.
pub(in crate::writer) fn of_weights(path: &Path) -> Result<Digests> {
    let shard = Shard::open(path, ShardKind::Safetensors)?;
    let entries = shard.entries()?.tensors;
    let header = shard.header(&entries);
    let mut bytes = Xxh3::new();
    bytes.update(header);
    let mut see = |piece: &[u8]| {
        bytes.update(piece);
        true
    };
    let tensors: Vec<u64> = entries.iter().map(|(_, entry)| of_tensor(&shard, &entry.place, &mut see)).collect();
    Ok(Digests { bytes: bytes.digest(), merged: of_merged(header, &tensors) })
}
