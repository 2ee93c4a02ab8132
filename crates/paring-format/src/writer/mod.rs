//! Writing a checkpoint so that unfinished output cannot be mistaken for a model: every file is written beside its
//! final name, synced and renamed, and the index and `config.json` come last.

mod files;
mod lock;
mod resume;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::names::{CONFIG, INDEX, JOURNAL, LOCK, RunFiles, is_plain_name, is_weights, shard_name};
use crate::{Dtype, Error, LayoutPart, LayoutParts, Result};
use files::{header, probe, sync_folder, write};

pub use files::{ClosedFile, PendingFile, write_beside, write_file};
pub use lock::Lock;

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
    lock: Arc<Lock>,
    shards: usize,
    /// Shards that were begun, and those of them that are closed.
    begun: BTreeSet<usize>,
    written: BTreeSet<usize>,
    /// Tensor name → number of its shard.
    tensors: BTreeMap<String, usize>,
    tensor_bytes: u64,
    file_bytes: u64,
    files: Vec<String>,
}

/// A summary of what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteSummary {
    /// Names of all files, in the order in which they were closed.
    pub files: Vec<String>,
    /// Bytes of all files.
    pub file_bytes: u64,
    /// Number of tensors.
    pub tensors: usize,
    /// Bytes of all tensors.
    pub tensor_bytes: u64,
}

impl Writer {
    /// Prepares a folder for a checkpoint of `shards` files, making it and its parents when needed.
    ///
    /// Errors when the folder holds anything, unless `overwrite` is set: then the files of an earlier checkpoint and those of
    /// `run` are removed, by name, and everything else is left alone. Errors at once when nothing can be written there, and when
    /// another run writes there.
    pub fn create(dir: &Path, shards: usize, run: RunFiles, overwrite: bool) -> Result<Writer> {
        let mut names = Writer::check(dir, run, overwrite)?;
        let unwritable = |source| Error::Unwritable { path: dir.to_path_buf(), source };
        fs::create_dir_all(dir).map_err(unwritable)?;
        let lock = Arc::new(Lock::take(dir)?);
        probe(dir).map_err(unwritable)?;
        remove_own(dir, &mut names, run, |_| false)?;
        Ok(Writer::empty(dir, shards, lock))
    }

    fn empty(dir: &Path, shards: usize, lock: Arc<Lock>) -> Writer {
        Writer {
            dir: dir.to_path_buf(),
            lock,
            shards,
            begun: BTreeSet::new(),
            written: BTreeSet::new(),
            tensors: BTreeMap::new(),
            tensor_bytes: 0,
            file_bytes: 0,
            files: Vec::new(),
        }
    }

    /// The names in a folder that may not be there yet, and the errors of [`Writer::create`] that show without writing.
    pub fn check(dir: &Path, run: RunFiles, overwrite: bool) -> Result<Vec<OsString>> {
        if !dir.exists() {
            return Ok(Vec::new());
        }
        if !dir.is_dir() {
            return Err(Error::OutputExists { path: dir.to_path_buf() });
        }
        let names = names_in(dir)?;
        // A run that was killed at once leaves no more than that.
        let is_empty = names.iter().all(|name| name.to_str().is_some_and(|name| run.is_leftover(name)));
        match is_empty || overwrite {
            true => Ok(names),
            false if names.iter().any(|name| name == JOURNAL) => Err(Error::Unfinished { path: dir.to_path_buf() }),
            false => Err(Error::OutputNotEmpty { path: dir.to_path_buf() }),
        }
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The lock that keeps other runs out of the folder, for as long as anyone has it.
    pub fn lock(&self) -> Arc<Lock> {
        self.lock.clone()
    }

    /// Writes shard `i`, counted from 0.
    ///
    /// The bytes depend on the tensors alone, not on their order. Errors when the shard or one of the tensor names
    /// was written before, when bytes and shape disagree, and when the disk does not take the file; shards that are
    /// already closed stay as they are.
    pub fn shard(&mut self, i: usize, tensors: Vec<NamedTensor>) -> Result<ClosedFile> {
        let begun = self.begin(i, tensors)?;
        let synced = begun.sync();
        self.close(begun, synced)
    }

    /// The first part of [`Writer::shard`], with its errors: the file is written, and has not got its name. [`PendingFile::sync`]
    /// may follow on another thread while the next shard is begun, then [`Writer::close`].
    pub fn begin(&mut self, i: usize, mut tensors: Vec<NamedTensor>) -> Result<PendingFile> {
        let file = shard_name(i, self.shards);
        if i >= self.shards || self.begun.contains(&i) {
            let problem = if i >= self.shards { "there is no such shard" } else { "written twice" };
            return Err(Error::shard(&file, format!("{problem} (of {})", self.shards)));
        }
        if let Some(twice) = tensors.iter().find(|t| self.tensors.contains_key(&t.name)) {
            return Err(Error::shard(&file, format!("a second tensor of the name {}", twice.name)));
        }
        let (header, end) = header(&file, &mut tensors)?;
        let pieces = std::iter::once(&header[..]).chain(tensors.iter().map(|tensor| &tensor.bytes[..]));
        let mut begun = self.write(&file, pieces)?;
        (begun.shard, begun.tensor_bytes) = (Some(i), end as u64);
        self.begun.insert(i);
        self.tensors.extend(tensors.into_iter().map(|tensor| (tensor.name, i)));
        Ok(begun)
    }

    /// Gives a file its name when it was `synced`. Errors when it was not, and when it cannot be renamed; nothing of it is left
    /// then, and a shard can be begun again.
    pub fn close(&mut self, mut begun: PendingFile, synced: io::Result<()>) -> Result<ClosedFile> {
        let path = self.dir.join(&begun.made.name);
        let renamed = synced.and_then(|()| fs::rename(&begun.temporary, &path)).and_then(|()| sync_folder(&self.dir));
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
        self.files.push(begun.made.name.clone());
        Ok(begun.made.clone())
    }

    /// Copies a file that belongs to the model, such as its tokenizer, under the plain name `name`.
    pub fn copy_file(&mut self, from: &Path, name: &str) -> Result<ClosedFile> {
        let bytes = fs::read(from).map_err(|source| Error::io(from, source))?;
        self.extra(name, &bytes)
    }

    /// Completes the checkpoint: extra files, then the index of shards (none when there is a single file), and
    /// `config.json` last. Errors when a shard was not written.
    pub fn finish(mut self, config: &Value, extra: &[(String, Vec<u8>)]) -> Result<WriteSummary> {
        if let Some(missing) = (0..self.shards).find(|i| !self.written.contains(i)) {
            return Err(Error::shard(&shard_name(missing, self.shards), "was not written; the checkpoint has a hole"));
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
        })
    }

    fn extra(&mut self, name: &str, bytes: &[u8]) -> Result<ClosedFile> {
        let reserved =
            [CONFIG, INDEX].contains(&name) || is_weights(name) || self.files.iter().any(|file| file == name);
        if !is_plain_name(name) || reserved {
            return Err(Error::shard(name, "cannot be written under this name"));
        }
        self.put(name, [bytes])
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
        let temporary = self.dir.join(format!("{name}.tmp"));
        let fill = |file: &mut dyn io::Write| pieces.into_iter().try_for_each(|piece| file.write_all(piece));
        let (file, made) = write(&temporary, &self.dir.join(name), bytes, fill)?;
        Ok(PendingFile { file, temporary, made, shard: None, tensor_bytes: 0, closed: false })
    }
}

/// The names in a folder, but for a lock.
fn names_in(dir: &Path) -> Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(|source| Error::io(dir, source))? {
        names.push(entry.map_err(|source| Error::io(dir, source))?.file_name());
    }
    names.retain(|name| name != LOCK);
    Ok(names)
}

/// Removes the files of an earlier run, but for those that `stays` names.
fn remove_own(dir: &Path, names: &mut [OsString], run: RunFiles, stays: impl Fn(&str) -> bool) -> Result<()> {
    // Config and index go first, so that what is left of the old model cannot be loaded either.
    names.sort_by_key(|name| (name != CONFIG, name != INDEX, name.clone()));
    for name in names {
        let path = dir.join(&name);
        // A link is removed itself; what it points to is not ours. Folders are not ours in any case.
        let is_file = fs::symlink_metadata(&path).is_ok_and(|meta| !meta.is_dir());
        if is_file && name.to_str().is_some_and(|name| run.is_own(name) && !stays(name)) {
            fs::remove_file(&path).map_err(|source| Error::io(&path, source))?;
        }
    }
    Ok(())
}
