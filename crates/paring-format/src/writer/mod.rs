//! Writing a checkpoint so that unfinished output cannot be mistaken for a model: every file is written beside its
//! final name, synced and renamed, and the index and `config.json` come last.

mod contents;
mod destination;
pub mod disk;
mod files;
mod inputs;
mod lock;
mod merge;
mod mounts;
mod named;
mod place;
mod resume;
mod staging;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::names::{CONFIG, INDEX, is_plain_path, is_weights, shard_name};
use crate::{Dtype, Error, LayoutPart, LayoutParts, Result};
pub(crate) use files::{Described, header_of};
use files::{header, write};

pub use contents::{FILES, MERGES, WRITES, listed};
pub use destination::{Checked, Destination};
pub use files::{ClosedFile, PendingFile, create_fresh, tensor_file, write_beside, write_file};
pub use inputs::{InputFiles, leads_to_same};
pub use lock::Lock;
pub use merge::{Groups, LARGEST_FILE};
pub use named::NamedFile;
pub use place::Place;

/// A tensor to store.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor {
    /// Its full name.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Shape.
    pub shape: Vec<usize>,
    /// Little-endian, row-major.
    pub bytes: Vec<u8>,
}

impl NamedTensor {
    /// The parts of a module under their full names.
    pub fn of_module(module: &str, parts: LayoutParts) -> Vec<NamedTensor> {
        let tensor = |(local, LayoutPart { dtype, shape, bytes })| NamedTensor {
            name: format!("{module}.{local}"),
            dtype,
            shape,
            bytes,
        };
        parts.into_iter().map(tensor).collect()
    }
}

/// Writes a checkpoint into a folder.
#[derive(Debug)]
pub struct Writer {
    dir: PathBuf,
    place: Arc<Place>,
    shards: usize,
    /// Shards that were begun, and those of them that are closed.
    begun: BTreeSet<usize>,
    written: BTreeSet<usize>,
    /// The files that an earlier process began to merge shards into, and the shards that it merged.
    merging: Option<Groups>,
    gone: BTreeSet<usize>,
    /// The shards of each file, once they are merged.
    merged: Groups,
    /// Tensor name → number of its shard.
    tensors: BTreeMap<String, usize>,
    tensor_bytes: u64,
    file_bytes: u64,
    files: Vec<ClosedFile>,
}

/// A summary of what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteSummary {
    /// All files, in the order in which they were closed.
    pub files: Vec<ClosedFile>,
    /// Bytes of all files.
    pub file_bytes: u64,
    /// Number of tensors.
    pub tensors: usize,
    /// Bytes of all tensors.
    pub tensor_bytes: u64,
    /// The shards of each file that was merged, for [`MERGES`]; none where none was. While a journal is there, a resumed run
    /// must know them.
    pub merged: Groups,
}

impl Writer {
    /// Prepares a folder for a checkpoint, making it and its parents when needed. An output that is to be overwritten stays
    /// until [`Place::publish`], with everything that no run wrote; one that is not finished is removed.
    ///
    /// # Errors
    /// As [`Destination::check`]; when nothing can be written there, and when another run writes there.
    pub fn create(destination: &Destination) -> Result<Writer> {
        Ok(Writer::empty(Arc::new(Place::create(destination)?), destination.shards))
    }

    fn empty(place: Arc<Place>, shards: usize) -> Writer {
        Writer {
            dir: place.dir().to_path_buf(),
            place,
            shards,
            begun: BTreeSet::new(),
            written: BTreeSet::new(),
            merging: None,
            gone: BTreeSet::new(),
            merged: Groups::new(),
            tensors: BTreeMap::new(),
            tensor_bytes: 0,
            file_bytes: 0,
            files: Vec::new(),
        }
    }

    /// The folder that is written into.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The same folder, kept from other runs for as long as anyone has it.
    pub fn place(&self) -> Arc<Place> {
        self.place.clone()
    }

    /// Writes shard `i`, counted from 0.
    ///
    /// The bytes depend on the tensors alone, not on their order. Errors when the shard or one of the tensor names
    /// was written before, when bytes and shape disagree, and when the disk does not take the file; shards that are
    /// already closed stay as they are.
    pub fn shard(&mut self, i: usize, mut tensors: Vec<NamedTensor>) -> Result<ClosedFile> {
        let begun = self.begin(i, &mut tensors)?;
        let synced = begun.sync();
        self.close(begun, synced)
    }

    /// The first part of [`Writer::shard`], with its errors: the file is written, and has not got its name. [`PendingFile::sync`]
    /// may follow on another thread while the next shard is begun, then [`Writer::close`]. The tensors are put into the order of
    /// the file; when it cannot be written, they may be tried again.
    pub fn begin(&mut self, i: usize, tensors: &mut [NamedTensor]) -> Result<PendingFile> {
        let file = shard_name(i, self.shards);
        if i >= self.shards || self.begun.contains(&i) {
            let problem = if i >= self.shards { "there is no such shard" } else { "written twice" };
            return Err(Error::shard(&file, format!("{problem} (of {})", self.shards)));
        }
        if let Some(twice) = tensors.iter().find(|t| self.tensors.contains_key(&t.name)) {
            return Err(Error::shard(&file, format!("a second tensor of the name {}", twice.name)));
        }
        let (header, end) = header(&file, tensors, &[])?;
        let pieces = std::iter::once(&header[..]).chain(tensors.iter().map(|tensor| &tensor.bytes[..]));
        let mut begun = self.write(&file, pieces)?;
        (begun.shard, begun.tensor_bytes) = (Some(i), end as u64);
        self.begun.insert(i);
        self.tensors.extend(tensors.iter().map(|tensor| (tensor.name.clone(), i)));
        Ok(begun)
    }

    /// Gives a file its name when it was `synced`. Errors when it was not, and when it cannot be renamed; nothing of it is left
    /// then, and a shard can be begun again.
    pub fn close(&mut self, mut begun: PendingFile, synced: io::Result<()>) -> Result<ClosedFile> {
        let path = self.dir.join(&begun.made.name);
        let renamed = synced
            .and_then(|()| disk::rename(&begun.temporary, &path))
            .and_then(|()| disk::sync_folder(path.parent().unwrap_or(&self.dir)));
        if let Err(source) = renamed {
            if let Some(i) = begun.shard {
                self.begun.remove(&i);
                self.tensors.retain(|_, shard| *shard != i);
            }
            return Err(Error::write(&path, begun.made.bytes, source));
        }
        begun.closed = true;
        self.written.extend(begun.shard);
        self.tensor_bytes += begun.tensor_bytes;
        self.file_bytes += begun.made.bytes;
        self.files.push(begun.made.clone());
        Ok(begun.made.clone())
    }

    /// Copies a file that belongs to the model, such as its tokenizer, under the plain name `name`, which may have folders in it.
    pub fn copy_file(&mut self, from: &Path, name: &str) -> Result<ClosedFile> {
        let bytes = fs::read(from).map_err(|source| Error::io(from, source))?;
        self.extra(name, &bytes)
    }

    /// Completes the checkpoint: extra files, then the index of shards (none when there is a single file), and
    /// `config.json` last. Errors when a shard was not written.
    pub fn finish(mut self, config: &Value, extra: &[(String, Vec<u8>)]) -> Result<WriteSummary> {
        self.check_complete()?;
        if self.merging.is_some() {
            return Err(Error::shard(&shard_name(0, self.shards), "was merged in part"));
        }
        for (name, bytes) in extra {
            self.extra(name, bytes)?;
        }
        if self.shards != 1 {
            let weight_map: Map<String, Value> = self
                .tensors
                .iter()
                .map(|(name, &i)| (name.clone(), Value::String(shard_name(i, self.shards))))
                .collect();
            let index = json!({"metadata": {"total_size": self.tensor_bytes}, "weight_map": weight_map});
            self.put_json(INDEX, &index)?;
        }
        self.put_json(CONFIG, config)?;
        Ok(WriteSummary {
            files: self.files,
            file_bytes: self.file_bytes,
            tensors: self.tensors.len(),
            tensor_bytes: self.tensor_bytes,
            merged: self.merged,
        })
    }

    /// Errors when a shard was not written.
    fn check_complete(&self) -> Result<()> {
        match (0..self.shards).find(|i| !self.written.contains(i)) {
            None => Ok(()),
            Some(missing) => {
                Err(Error::shard(&shard_name(missing, self.shards), "was not written; the checkpoint has a hole"))
            }
        }
    }

    fn extra(&mut self, name: &str, bytes: &[u8]) -> Result<ClosedFile> {
        let reserved =
            [CONFIG, INDEX].contains(&name) || is_weights(name) || self.files.iter().any(|file| file.name == name);
        if !is_plain_path(name) || reserved {
            return Err(Error::shard(name, "cannot be written under this name"));
        }
        self.folders_of(name)?;
        self.put(name, [bytes])
    }

    /// Makes the folders that lead to a file. A link in their place may lead anywhere, and is not followed.
    fn folders_of(&self, name: &str) -> Result<()> {
        for (end, _) in name.match_indices('/') {
            let path = self.dir.join(&name[..end]);
            match fs::symlink_metadata(&path) {
                Ok(meta) if meta.is_dir() => {}
                Ok(_) => return Err(Error::OutputExists { path }),
                Err(_) => fs::create_dir(&path).map_err(|source| Error::io(&path, source))?,
            }
        }
        Ok(())
    }

    fn put_json(&mut self, name: &str, value: &Value) -> Result<ClosedFile> {
        let text = format!("{value:#}\n");
        self.put(name, [text.as_bytes()])
    }

    /// Writes a file beside its name, syncs it, and renames it; a failed attempt leaves no file.
    fn put<'a>(&mut self, name: &str, pieces: impl IntoIterator<Item = &'a [u8]> + Clone) -> Result<ClosedFile> {
        let begun = self.write(name, pieces)?;
        let synced = begun.sync();
        self.close(begun, synced)
    }

    /// Writes a file beside its name.
    fn write<'a>(&self, name: &str, pieces: impl IntoIterator<Item = &'a [u8]> + Clone) -> Result<PendingFile> {
        let bytes: u64 = pieces.clone().into_iter().map(|piece| piece.len() as u64).sum();
        let fill = |file: &mut dyn io::Write| pieces.into_iter().try_for_each(|piece| file.write_all(piece));
        let (file, temporary, mut made) = write(&self.dir.join(name), bytes, fill)?;
        made.name = name.to_string();
        Ok(PendingFile { file, temporary, made, shard: None, tensor_bytes: 0, closed: false })
    }
}
