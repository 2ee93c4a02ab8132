//! Activations beyond those that fit in memory: in a file, for one pass over the weights, or round by round.

use std::path::{Path, PathBuf};

use paring_model::Decoder;

use crate::pipeline::activations::{folder_for, spilled};
use crate::pipeline::prefixes::Forest;

use super::row_bytes;

/// The place of activations that do not fit in memory between two blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Beyond<'a> {
    /// A file in a folder for such files, so that weights are read once; rounds where no folder has room, and where weights are
    /// read again in less time than activations are written and read.
    #[default]
    Chosen,
    /// None: texts pass in rounds, and each reads the weights.
    Rounds,
    /// A file in this folder, which is gone when all are scored.
    Folder(&'a Path),
}

/// The passes of forests through a model.
pub(super) struct Passes {
    /// The folder of the file, for all forests in one pass; `None`: each forest has a pass of its own.
    folder: Option<PathBuf>,
    /// Bytes of activations that wait in memory, at most in any pass, and in the file.
    pub in_memory: usize,
    pub on_disk: usize,
    resident: usize,
}

impl Passes {
    /// Those that `beyond` asks for, where `resident` bytes of activations stay in memory.
    pub fn of(decoder: &dyn Decoder, forests: &[Forest], beyond: Beyond<'_>, resident: usize) -> Self {
        let batches =
            || forests.iter().flat_map(|forest| &forest.batches).map(|batch| batch.tokens * row_bytes(decoder));
        let on_disk = spilled(batches(), resident);
        let folder = match beyond {
            _ if forests.len() < 2 => None,
            Beyond::Rounds => None,
            Beyond::Folder(folder) => Some(folder.to_path_buf()),
            Beyond::Chosen if is_faster(decoder, forests.len() - 1, on_disk) => folder_for(on_disk),
            Beyond::Chosen => None,
        };
        let each = forests.iter().map(|forest| forest.tokens() * row_bytes(decoder));
        match folder {
            None => Self { folder, in_memory: each.max().unwrap_or(0), on_disk: 0, resident },
            Some(_) => Self { folder, in_memory: each.sum::<usize>() - on_disk, on_disk, resident },
        }
    }

    /// The forests of each pass.
    pub fn each<'f>(&self, forests: &'f [Forest]) -> std::slice::Chunks<'f, Forest> {
        forests.chunks(if self.folder.is_some() { forests.len().max(1) } else { 1 })
    }

    /// The folder of the file, and the bytes that stay in memory.
    pub fn disk(&self) -> Option<(&Path, usize)> {
        Some((self.folder.as_deref()?, self.resident))
    }
}

/// True if a file for `on_disk` bytes of activations takes less time than reading the weights so many times more.
fn is_faster(decoder: &dyn Decoder, more: usize, on_disk: usize) -> bool {
    // Written after each block, and read before the next. A byte of either costs about as much, from the cache of files or from a disk.
    let moved = 2 * on_disk * decoder.blocks();
    more * bytes_of_blocks(decoder) >= moved
}

/// Bytes of the files that hold the blocks.
fn bytes_of_blocks(decoder: &dyn Decoder) -> usize {
    let checkpoint = decoder.checkpoint();
    let outer = decoder.outer_names();
    let stored = checkpoint.names().filter(|name| outer.iter().all(|other| other != name));
    stored.filter_map(|name| checkpoint.info(name)).map(|info| info.stored_bytes()).sum()
}
