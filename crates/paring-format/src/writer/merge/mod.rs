//! Merging the shards of a run into files of the size that others write, without a second copy of them on the disk.
//!
//! A merged file is made beside its name, its header and its final length first. Then its shards are copied, each tensor to its
//! place, and removed once the disk has the copy: a shard that is not there any more is merged. So a run that is killed
//! resumes with the shards that are left. Wide types come first, as in each shard, so that every tensor is aligned; within
//! a type the shards keep their order.

pub(super) mod digest;
mod file;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::destination::not_a_runs;
use super::{ClosedFile, Place, Writer, contents, disk, write_beside};
use crate::names::{MANIFEST, merging_name, shard_name};
use crate::{Error, Result};
use file::MergedFile;

/// Bytes that a file of weights has at most, unless a single shard is larger: what transformers writes unless told otherwise.
pub const LARGEST_FILE: u64 = 5_000_000_000;

/// Numbers of the shards that each file is made of.
pub type Groups = Vec<Vec<usize>>;

impl Writer {
    /// Merges shards into as few files of at most `largest` bytes as their order allows; `order` has the numbers of all, or is
    /// empty for 0, 1, …. Continues where an earlier process began it. `progress` hears how many shards of how many are done.
    /// On the disk is never more than all shards and one more; in memory a header.
    ///
    /// # Errors
    /// When a shard was not written or is not as it was written, when the disk does not take the copy, and when someone else's
    /// file has a name that is needed. What is there by then stays.
    pub fn merge(&mut self, order: &[usize], largest: u64, progress: &mut dyn FnMut(usize, usize)) -> Result<()> {
        self.check_complete()?;
        let groups = match self.merging.take() {
            Some(groups) => groups,
            None => {
                let groups = self.groups(order, largest);
                if groups.len() == self.shards {
                    return Ok(());
                }
                self.place.check_merge(&groups, self.shards)?;
                self.place.note_merge(&groups)?;
                groups
            }
        };
        let batch = (0..self.shards).filter_map(|i| Some(self.closed_shard(i)?.bytes)).max().unwrap_or(0);
        let mut done = 0;
        let (mut files, mut tensors, mut tensor_bytes) = (Vec::new(), BTreeMap::new(), 0);
        for (k, group) in groups.iter().enumerate() {
            let sources = group.iter().map(|&i| (shard_name(i, self.shards), self.closed_shard(i))).collect();
            let name = shard_name(k, groups.len());
            let merged = MergedFile { dir: &self.dir, name, sources, batch };
            let mut next = || {
                progress(done, self.shards);
                done += 1;
            };
            let (closed, contents) = merged.make(&mut next)?;
            files.push(closed);
            for (name, bytes) in contents {
                tensor_bytes += bytes;
                tensors.insert(name, k);
            }
        }
        let shards: BTreeSet<String> = (0..self.shards).map(|i| shard_name(i, self.shards)).collect();
        files.extend(self.files.drain(..).filter(|file| !shards.contains(&file.name)));
        self.file_bytes = files.iter().map(|file| file.bytes).sum();
        self.shards = groups.len();
        (self.files, self.tensors, self.tensor_bytes) = (files, tensors, tensor_bytes);
        self.written = (0..self.shards).collect();
        self.begun = self.written.clone();
        self.gone.clear();
        self.merged = groups;
        Ok(())
    }

    /// Tells whether a shard need not be written again: an earlier process merged it.
    pub fn is_merged(&self, i: usize) -> bool {
        self.gone.contains(&i)
    }

    fn closed_shard(&self, i: usize) -> Option<ClosedFile> {
        let name = shard_name(i, self.shards);
        self.files.iter().find(|file| file.name == name && !self.gone.contains(&i)).cloned()
    }

    /// The shards of each file.
    fn groups(&self, order: &[usize], largest: u64) -> Groups {
        let all: Vec<usize> = (0..self.shards).collect();
        let order = if order.is_empty() { &all[..] } else { order };
        let mut groups: Groups = Vec::new();
        let mut filled = 0;
        for &i in order {
            let bytes = self.closed_shard(i).map_or(0, |file| file.bytes);
            match groups.last_mut().filter(|_| filled + bytes <= largest) {
                Some(group) => group.push(i),
                None => {
                    groups.push(vec![i]);
                    filled = 0;
                }
            }
            filled += bytes;
        }
        groups
    }
}

impl Place {
    /// Errors when these are not all shards, and when something has the name of a file that they are to be merged into.
    fn check_merge(&self, groups: &Groups, shards: usize) -> Result<()> {
        if !is_permutation(groups, shards) {
            return Err(Error::shard(&shard_name(0, groups.len()), "made of other shards than there are"));
        }
        let mut paths = merged_names(groups).map(|name| self.dir().join(name));
        match paths.find(|path| path.symlink_metadata().is_ok()) {
            Some(path) => Err(not_a_runs(&path)),
            None => Ok(()),
        }
    }

    /// Notes which shards make which file, and that these are the run's, before one of them is there.
    pub(super) fn note_merge(&self, groups: &Groups) -> Result<()> {
        let writes: Vec<String> = self.writes().into_iter().chain(merged_names(groups)).collect();
        let text = contents::merging(&writes, groups).to_string();
        write_beside(&self.dir().join(MANIFEST), text.len(), |file| file.write_all(text.as_bytes())).map(drop)
    }

    /// The shards of each file, where an earlier process began to merge that many.
    pub(super) fn merging(&self, shards: usize) -> Option<Groups> {
        let manifest = contents::manifest(&self.dir().join(MANIFEST))?;
        let number = |i: &Value| usize::try_from(i.as_u64()?).ok();
        let group = |group: &Value| group.as_array()?.iter().map(number).collect::<Option<Vec<usize>>>();
        let groups = manifest.get(contents::MERGES)?.as_array()?.iter().map(group).collect::<Option<Groups>>()?;
        Some(groups).filter(|groups| is_permutation(groups, shards))
    }
}

/// Names of merged files, finished and not.
pub(super) fn merged_names(groups: &Groups) -> impl Iterator<Item = String> {
    let count = groups.len();
    let name = move |k| shard_name(k, count);
    (0..count).flat_map(move |k| [merging_name(&name(k)), name(k)])
}

fn is_permutation(groups: &Groups, shards: usize) -> bool {
    let mut all: Vec<usize> = groups.iter().flatten().copied().collect();
    all.sort_unstable();
    groups.iter().all(|group| !group.is_empty()) && all.into_iter().eq(0..shards)
}
