//! One run at a time in a folder.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::files::folder_of;
use crate::names::LOCK;
use crate::{Error, Result};

/// Keeps other runs out of a folder. The system lets go of it when the process ends, however it does.
#[derive(Debug)]
pub struct Lock {
    /// Locked as long as it is open.
    file: File,
    path: Mutex<PathBuf>,
    unsupported: Option<String>,
}

/// Times that a lock is tried for whose file someone else removes at the same moment.
const TRIES: usize = 16;

impl Lock {
    /// The lock of a folder that exists. Errors when another run has it.
    pub fn take(dir: &Path) -> Result<Lock> {
        let path = dir.join(LOCK);
        for _ in 0..TRIES {
            let opened = open(&path).map_err(|source| Error::Unwritable { path: dir.to_path_buf(), source })?;
            if let Some(lock) = opened.map(|file| Lock::of(file, &path)).transpose()?.flatten() {
                return Ok(lock);
            }
        }
        Err(Error::Locked { path: dir.to_path_buf(), holder: String::new() })
    }

    /// The lock whose file was opened under this path; `None` if its last holder removed it in between, for someone else may
    /// have made a new one. Errors as [`Lock::take`].
    pub(super) fn of(mut file: File, path: &Path) -> Result<Option<Lock>> {
        let unsupported = match file.try_lock() {
            Ok(()) => None,
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // The run that holds it may not have said yet who it is.
                file.take(32).read_to_string(&mut holder).unwrap_or(0);
                return Err(Error::Locked { path: folder_of(path).to_path_buf(), holder: holder.trim().to_string() });
            }
            Err(TryLockError::Error(error)) => Some(error.to_string()),
        };
        if !is_at(&file, path) {
            return Ok(None);
        }
        let said = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        said.map_err(|source| Error::write(path, 16, source))?;
        Ok(Some(Lock { file, path: Mutex::new(path.to_path_buf()), unsupported }))
    }

    /// Why the file system does not lock files, where it does not.
    pub fn unsupported(&self) -> Option<&str> {
        self.unsupported.as_deref()
    }

    /// Notes that the folder is now `dir`.
    pub(super) fn moved(&self, dir: &Path) {
        *self.path.lock().unwrap_or_else(PoisonError::into_inner) = dir.join(LOCK);
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let path = self.path.lock().unwrap_or_else(PoisonError::into_inner);
        // While it is still locked, and only this one. A file that is left over hinders nobody.
        if is_at(&self.file, &path) {
            fs::remove_file(&*path).unwrap_or(());
        }
    }
}

/// Opens the file of a lock, or makes it; `None` if its holder removed it in between. A link is not followed.
fn open(path: &Path) -> io::Result<Option<File>> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    match options.clone().create_new(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        opened => return opened.map(Some),
    }
    let opened = fs::symlink_metadata(path).and_then(|meta| match meta.is_file() {
        true => options.open(path),
        false => Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{LOCK} is not a file"))),
    });
    match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some),
    }
}

/// Tells whether the open file is the one of that name.
#[cfg(unix)]
pub(super) fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let same = |(a, b): (fs::Metadata, fs::Metadata)| (a.dev(), a.ino()) == (b.dev(), b.ino());
    file.metadata().ok().zip(fs::metadata(path).ok()).is_some_and(same)
}

/// Elsewhere an open file cannot be removed.
#[cfg(not(unix))]
pub(super) fn is_at(_: &File, _: &Path) -> bool {
    true
}
