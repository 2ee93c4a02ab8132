//! One merged file.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::digest::{of_merged, of_tensor, of_weights};
use super::{ClosedFile, disk};
use crate::checkpoint::{Entry, Shard, ShardKind};
use crate::names::merging_name;
use crate::writer::files::{Described, failed, give_name, header_of, write};
use crate::{Error, Result};

/// A file and the shards that it is made of.
pub(super) struct MergedFile<'a> {
    pub dir: &'a Path,
    pub name: String,
    /// Names of the shards, and those of them that are closed and were not merged yet.
    pub sources: Vec<(String, Option<ClosedFile>)>,
    /// Bytes that are copied before the disk must have them, and the shards that they were copied from are removed.
    pub batch: u64,
}

/// Names and bytes of the tensors in a file.
type Tensors = Vec<(String, u64)>;

/// The header of a merged file, and the places of its tensors by name: number and entry.
struct Layout {
    header: Vec<u8>,
    entries: BTreeMap<String, (usize, Entry)>,
    bytes: u64,
}

impl MergedFile<'_> {
    /// Makes the file, and removes its shards. `next` is called before each. Returns the file and its tensors.
    pub fn make(&self, next: &mut dyn FnMut()) -> Result<(ClosedFile, Tensors)> {
        let path = self.path();
        let digest = match (path.symlink_metadata().is_ok(), &self.sources[..]) {
            // An earlier process made it; the system may have kept shards that it removed.
            (true, sources) => {
                sources.iter().for_each(|_| next());
                self.remove(sources.iter().map(|(name, _)| name))?;
                None
            }
            (false, [(source, closed)]) => {
                next();
                self.rename(&self.dir.join(source))?;
                closed.as_ref().map(|closed| closed.digest)
            }
            (false, _) => Some(self.copy(next)?),
        };
        let digest = digest.map_or_else(|| self.digest(), Ok)?;
        let Layout { entries, bytes, .. } = layout(&path)?;
        let tensors = entries.into_iter().map(|(name, (_, entry))| (name, entry.place.len as u64)).collect();
        Ok((ClosedFile { name: self.name.clone(), bytes, digest }, tensors))
    }

    fn path(&self) -> PathBuf {
        self.dir.join(&self.name)
    }

    /// The digest of the file that is there.
    fn digest(&self) -> Result<u64> {
        let digests = of_weights(&self.path())?;
        Ok(if self.sources.len() == 1 { digests.bytes } else { digests.merged })
    }

    fn rename(&self, from: &Path) -> Result<()> {
        let renamed = disk::rename(from, &self.path()).and_then(|()| disk::sync_folder(self.dir));
        renamed.map_err(|source| Error::io(from, source))
    }

    fn remove<'n>(&self, names: impl IntoIterator<Item = &'n String>) -> Result<()> {
        names
            .into_iter()
            .map(|name| self.dir.join(name))
            .try_for_each(|path| disk::remove(&path).map_err(|source| Error::io(&path, source)))
    }

    /// Copies the shards that are left, and gives the file its name. Returns its digest.
    fn copy(&self, next: &mut dyn FnMut()) -> Result<u64> {
        let temporary = self.dir.join(merging_name(&self.name));
        let left: Vec<&ClosedFile> = self.sources.iter().filter_map(|(_, closed)| closed.as_ref()).collect();
        if left.len() == self.sources.len() {
            self.lay_out(&temporary, &left)?;
        } else if let Some((gone, _)) = self.sources.iter().find(|(_, closed)| closed.is_none())
            && temporary.symlink_metadata().is_err()
        {
            return Err(Error::shard(gone, "was removed before it was merged"));
        }
        (left.len()..self.sources.len()).for_each(|_| next());
        let layout = layout(&temporary)?;
        let mut file = OpenOptions::new().write(true).open(&temporary).map_err(|e| Error::io(&temporary, e))?;
        let mut digests = vec![None; layout.entries.len()];
        let (mut copied, mut bytes) = (Vec::new(), 0);
        for source in left {
            next();
            if bytes + source.bytes > self.batch {
                self.settle(&file, &temporary, &mut copied, bytes)?;
                bytes = 0;
            }
            let written = self.copy_shard(&mut file, source, &layout, &mut digests)?;
            disk::written(written, &temporary).map_err(|error| self.unwritten(source.bytes, error))?;
            copied.push(&source.name);
            bytes += source.bytes;
        }
        self.settle(&file, &temporary, &mut copied, bytes)?;
        drop(file);
        // Those of shards that an earlier process copied are read.
        let merged = Shard::open(&temporary, ShardKind::Safetensors)?;
        for (number, entry) in layout.entries.values() {
            digests[*number].get_or_insert_with(|| of_tensor(&merged, &entry.place, |_| true));
        }
        drop(merged);
        self.rename(&temporary)?;
        Ok(of_merged(&layout.header, &digests.into_iter().flatten().collect::<Vec<u64>>()))
    }

    /// Removes shards once the disk has what was copied of them.
    fn settle(&self, file: &File, temporary: &Path, copied: &mut Vec<&String>, bytes: u64) -> Result<()> {
        if !copied.is_empty() {
            disk::sync_data(file, temporary).map_err(|error| self.unwritten(bytes, error))?;
        }
        self.remove(copied.drain(..))
    }

    /// The error of a disk that does not take so many bytes.
    fn unwritten(&self, bytes: u64, source: io::Error) -> Error {
        Error::write(&self.path(), bytes, source)
    }

    /// Makes the file that the shards are copied into: the header, then a hole for the tensors.
    fn lay_out(&self, temporary: &Path, sources: &[&ClosedFile]) -> Result<()> {
        let mut tensors = Vec::new();
        for source in sources {
            let entries = Shard::map(self.dir, &source.name, ShardKind::Safetensors)?.entries()?.tensors;
            tensors.extend(entries.into_iter().map(|(name, Entry { dtype, shape, place })| Described {
                name,
                dtype,
                shape,
                bytes: place.len,
            }));
        }
        // Stable: the order of the shards stays within a type.
        tensors.sort_by_key(|tensor| std::cmp::Reverse(tensor.dtype.to_safetensors()));
        let (header, end) = header_of(&self.name, tensors, &[])?;
        let bytes = (header.len() + end) as u64;
        let (file, unnamed, _) = write(temporary, header.len() as u64, |file| file.write_all(&header))?;
        let named = file.set_len(bytes).and_then(|()| give_name(&file, &unnamed, temporary));
        named.map_err(|source| failed(&unnamed, &self.path(), bytes, source))
    }

    /// Copies the tensors of a shard to their places. Errors, in the first place, when the shard is not as it was written, and in
    /// the second when the disk does not take them.
    fn copy_shard(
        &self,
        file: &mut File,
        source: &ClosedFile,
        layout: &Layout,
        digests: &mut [Option<u64>],
    ) -> Result<io::Result<()>> {
        let shard = Shard::map(self.dir, &source.name, ShardKind::Safetensors)?;
        let entries = shard.entries()?.tensors;
        let mut whole = Xxh3::new();
        whole.update(shard.header(&entries));
        for (name, entry) in &entries {
            let same = |to: &&(usize, Entry)| to.1.dtype == entry.dtype && to.1.shape == entry.shape;
            let Some((number, to)) = layout.entries.get(name).filter(same) else {
                return Err(Error::shard(&self.name, format!("has no place for {name} of {}", source.name)));
            };
            let mut written = file.seek(SeekFrom::Start(to.place.start as u64)).map(drop);
            let digest = of_tensor(&shard, &entry.place, |piece| {
                whole.update(piece);
                if written.is_ok() {
                    written = file.write_all(piece);
                }
                written.is_ok()
            });
            if written.is_err() {
                return Ok(written);
            }
            digests[*number] = Some(digest);
        }
        match whole.digest() == source.digest {
            true => Ok(Ok(())),
            false => Err(Error::shard(&source.name, "was changed after it was written")),
        }
    }
}

/// The layout of a file of weights; its tensors may not have been copied yet.
fn layout(path: &Path) -> Result<Layout> {
    let is_file = fs::symlink_metadata(path).map_err(|source| Error::io(path, source))?.is_file();
    if !is_file {
        return Err(Error::NotAFile { path: path.to_path_buf(), got: "a link or a device" });
    }
    let shard = Shard::open(path, ShardKind::Safetensors)?;
    let entries = shard.entries()?.tensors;
    let header = shard.header(&entries).to_vec();
    let entries = entries.into_iter().enumerate().map(|(number, (name, entry))| (name, (number, entry))).collect();
    Ok(Layout { header, entries, bytes: shard.len() as u64 })
}
