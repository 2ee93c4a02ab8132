//! The files that a command reads, which it must not remove or replace under any name.

use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};

use crate::Checkpoint;

/// A file whatever its name: its device and number, or where there are none its full path.
#[cfg(unix)]
type Identity = (u64, u64);
#[cfg(not(unix))]
type Identity = PathBuf;

/// Files and folders that a command reads.
#[derive(Clone, Debug, Default)]
pub struct InputFiles(Vec<(Identity, PathBuf)>);

impl InputFiles {
    /// Every file in the folder of a checkpoint, shards, config and tokenizer among them.
    pub fn of(checkpoint: &Checkpoint) -> Self {
        let mut inputs = Self::default();
        checkpoint.dir().into_iter().for_each(|dir| inputs.add(dir));
        inputs
    }

    /// Adds a file, or a folder with the files in it, but not those in folders below. Nothing where there is none.
    pub fn add(&mut self, path: &Path) {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        for path in std::iter::once(path.to_path_buf()).chain(entries.map(|entry| entry.path())) {
            let identity = fs::metadata(&path).ok().and_then(|meta| identity(&path, &meta));
            self.0.extend(identity.map(|identity| (identity, path)));
        }
    }

    /// The input that a path leads to, under the name by which it is read.
    pub fn find(&self, path: &Path) -> Option<&Path> {
        let identity = identity(path, &fs::metadata(path).ok()?)?;
        self.0.iter().find(|(other, _)| *other == identity).map(|(_, name)| name.as_path())
    }
}

#[cfg(unix)]
fn identity(_: &Path, meta: &Metadata) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt;
    Some((meta.dev(), meta.ino()))
}

#[cfg(not(unix))]
fn identity(path: &Path, _: &Metadata) -> Option<Identity> {
    path.canonicalize().ok()
}

/// Tells whether two paths are names of one file, links not followed.
pub(super) fn is_same(a: &Path, b: &Path) -> bool {
    let own = |path: &Path| identity(path, &fs::symlink_metadata(path).ok()?);
    own(a).zip(own(b)).is_some_and(|(a, b)| a == b)
}

/// Tells whether two paths lead to one file or folder.
pub fn leads_to_same(a: &Path, b: &Path) -> bool {
    let led = |path: &Path| identity(path, &fs::metadata(path).ok()?);
    led(a).zip(led(b)).is_some_and(|(a, b)| a == b)
}
