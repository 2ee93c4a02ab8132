//! Resuming a checkpoint that was not finished.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

use super::files::probe;
use super::merge::{digest, merged_names};
use super::{ClosedFile, Place, Writer};
use crate::names::{JOURNAL, MANIFEST, is_weights, shard_name};
use crate::{Checkpoint, Error, Result};

/// Bytes of a file that are looked at together.
const PIECE: usize = 1 << 20;

impl ClosedFile {
    /// Errors when the file in `dir` is not the one that was closed. Reads all of it.
    pub fn check(&self, dir: &Path) -> Result<()> {
        let path = dir.join(&self.name);
        // The digest of a merged file is made of those of its tensors.
        if is_weights(&self.name)
            && let Ok(digests) = digest::of_weights(&path)
            && [digests.bytes, digests.merged].contains(&self.digest)
        {
            return Ok(());
        }
        let failed = |source| Error::io(&path, source);
        let mut file = File::open(&path).map_err(failed)?;
        let (mut bytes, mut hash, mut piece) = (0, Xxh3::new(), vec![0; PIECE]);
        loop {
            let count = file.read(&mut piece).map_err(failed)?;
            if count == 0 {
                break;
            }
            hash.update(&piece[..count]);
            bytes += count as u64;
        }
        if (bytes, hash.digest()) == (self.bytes, self.digest) {
            return Ok(());
        }
        let reason = format!(
            "{bytes} bytes with digest {:016x}, where {} with {:016x} were written: it was changed since",
            hash.digest(),
            self.bytes,
            self.digest
        );
        Err(Error::shard(&path.display().to_string(), reason))
    }
}

impl Writer {
    /// Resumes in a folder where shards 0, 1, … are `closed`. All other files that the run wrote are removed, but for the journal and the file of the name `kept`. Errors when one of those shards is not as it was written (all are
    /// read), and as [`Writer::create`].
    pub fn resume(place: Arc<Place>, shards: usize, closed: &[ClosedFile], kept: Option<&str>) -> Result<Writer> {
        let mut writer = Writer::empty(place, shards);
        let dir = &writer.dir.clone();
        writer.merging = writer.place.merging(shards);
        if writer.merging.is_some() {
            let is_gone = |&i: &usize| dir.join(shard_name(i, shards)).symlink_metadata().is_err();
            writer.gone = (0..shards).filter(is_gone).collect();
        }
        for (i, file) in closed.iter().enumerate() {
            let wanted = shard_name(i, shards);
            if i >= shards || file.name != wanted {
                return Err(Error::shard(&file.name, format!("noted as shard {i} of {shards}, which is {wanted}")));
            }
            if writer.gone.contains(&i) {
                continue;
            }
            file.check(dir)?;
            let opened = Checkpoint::open_file(&dir.join(&file.name))?;
            for name in opened.stored_names() {
                if writer.tensors.insert(name.to_string(), i).is_some() {
                    return Err(Error::shard(&file.name, format!("a second tensor of the name {name}")));
                }
            }
            writer.tensor_bytes += opened.total_bytes();
            writer.file_bytes += file.bytes;
            writer.files.push(file.clone());
            writer.begun.insert(i);
            writer.written.insert(i);
        }
        writer.begun.extend(&writer.gone);
        writer.written.extend(&writer.gone);
        probe(dir).map_err(|source| Error::Unwritable { path: dir.to_path_buf(), source })?;
        let mut stay: BTreeSet<String> = closed.iter().map(|file| file.name.clone()).collect();
        stay.extend([JOURNAL].into_iter().chain(kept).map(String::from));
        if let Some(groups) = &writer.merging {
            // Those that are not closed are written again, in their places.
            stay.extend((0..shards).map(|i| shard_name(i, shards)).chain([MANIFEST.to_string()]));
            stay.extend(merged_names(groups));
            // It may be that of a finished output.
            writer.place.note_merge(groups)?;
        }
        let stays = |name: &str| stay.contains(name);
        writer.place.remove_all_but(stays)?;
        Ok(writer)
    }
}
