//! The tensors of all files together: what the index says about them, what happens where files disagree, and tensors that go
//! by two names.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::PoisonError;

use super::listed::read_index;
use super::shard::{Shard, ShardKind};
use super::tensor::{Location, ShardExtent, TensorInfo};
use super::{Checkpoint, few};
use crate::{Error, Result};

/// Name of a tensor → name of its file, as an index lists them.
type Listed = BTreeMap<String, String>;

/// Choices of opening a checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenOptions {
    /// Reads what transformers reads where files disagree, instead of an error: of two tensors of one name the one in the file
    /// that the index names, or else in the last file; an entry of the index that no file has is no matter unless the model
    /// needs it. What a model does not have is left out.
    pub lenient: bool,
}

impl Checkpoint {
    /// Adds the shards that an index lists.
    pub(super) fn add_listed(&mut self, dir: &Path, index: &'static str, kind: ShardKind) -> Result<()> {
        self.index = Some(index);
        let index_path = dir.join(index);
        let listed = read_index(&index_path)?;
        let mut files: Vec<&String> = listed.values().collect();
        files.sort_unstable();
        files.dedup();
        let mut twice = Vec::new();
        for file in files {
            if !dir.join(file).is_file() {
                return Err(Error::MissingShard { index: index_path, shard: file.clone() });
            }
            twice.extend(self.add(Shard::map(dir, file, kind)?, &listed)?);
        }
        let mut absent = Vec::new();
        for (tensor, file) in &listed {
            match self.tensors.get(tensor) {
                Some(info) if info.file == *file => {}
                _ if !self.options.lenient => {
                    let reason = format!("{index} says that {tensor} is in here, and it is not");
                    return Err(Error::Disagreement { file: file.clone(), reason });
                }
                Some(_) => {}
                None => absent.push(tensor.as_str()),
            }
        }
        if !absent.is_empty() {
            let (count, names) = (absent.len(), few(&absent));
            self.notes.push(format!("{count} tensors that {index} lists are in none of its files: {names}"));
        }
        if !twice.is_empty() {
            let chosen: Vec<String> = twice.iter().filter_map(|name| self.chosen(name)).collect();
            let (count, names) = (chosen.len(), few(&chosen));
            self.notes
                .push(format!("{count} tensors are in two files, of which the one that is listed counts: {names}"));
        }
        Ok(())
    }

    /// A tensor with the file that it is read from.
    fn chosen(&self, name: &str) -> Option<String> {
        self.tensors.get(name).map(|info| format!("{name} of {}", info.file))
    }

    /// Adds the tensors of a file. Of those that another file has too, the one counts whose file is `listed`. Returns their
    /// names; an error unless the checkpoint is read leniently.
    pub(super) fn add(&mut self, shard: Shard, listed: &Listed) -> Result<Vec<String>> {
        let number = self.shards.len();
        let entries = shard.entries()?;
        let mut twice = Vec::new();
        for (name, entry) in entries.tensors {
            if let Some(other) = self.tensors.get(&name) {
                if !self.options.lenient {
                    let reason = format!("holds {name}, and so does {}", other.file);
                    return Err(Error::Disagreement { file: shard.file.clone(), reason });
                }
                twice.push(name.clone());
                if listed.get(&name) == Some(&other.file) {
                    continue;
                }
            }
            let info = TensorInfo {
                dtype: entry.dtype,
                shape: entry.shape,
                file: shard.file.clone(),
                at: Location::Plain(ShardExtent { shard: number, place: entry.place }),
            };
            self.tensors.insert(name, info);
        }
        self.removed.extend(entries.metadata);
        self.shards.push(shard);
        Ok(twice)
    }

    /// Lets tensors answer to the names under which they were not stored, because another one shares their numbers: those
    /// that a header's `__metadata__` maps to a stored one.
    pub(super) fn add_removed_names(&mut self) {
        for (removed, kept) in std::mem::take(&mut self.removed) {
            if !self.tensors.contains_key(&removed) && self.tensors.contains_key(&kept) {
                self.also_named(&removed, &kept);
            }
        }
    }

    /// Lets the stored tensor `kept` answer to `name` too, unless something else does: of two names that share their numbers, a
    /// file may have either. [`Checkpoint::names`] does not list it.
    pub fn also_named(&self, name: &str, kept: &str) {
        let mut others = self.other_names.write().unwrap_or_else(PoisonError::into_inner);
        others.entry(name.to_string()).or_insert_with(|| kept.to_string());
    }

    /// The name in the files of a tensor that is stored under another one.
    pub fn stored_as(&self, name: &str) -> Option<String> {
        if self.tensors.contains_key(name) {
            return None;
        }
        self.other_names.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// The description of a tensor.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name).or_else(|| self.tensors.get(&self.stored_as(name)?))
    }

    /// Tells whether files that disagree are read as transformers reads them.
    pub fn is_lenient(&self) -> bool {
        self.options.lenient
    }

    /// Remarks about files that disagree, a sentence each; none unless the checkpoint is read leniently.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}
