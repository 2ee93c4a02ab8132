//! The folder of a repository in the cache that all programs share:
//! `blobs/ETAG` the files, `snapshots/COMMIT/PATH` links to them, `refs/BRANCH` the commit of a branch.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::repo::is_commit;
use super::{DownloadObserver, Repo};
use crate::{Error, Result};

/// One repository at one revision.
pub(super) struct Shelf {
    repo: Repo,
    /// The repository's folder.
    folder: PathBuf,
    /// The folder of the locks of this repository's files, as those of the `huggingface_hub` library do.
    locks: PathBuf,
}

impl Shelf {
    pub fn new(cache: &Path, repo: &Repo) -> Self {
        let name = format!("{}--{}", repo.kind().plural(), repo.id().replace('/', "--"));
        Self { repo: repo.clone(), folder: cache.join(&name), locks: cache.join(".locks").join(name) }
    }

    /// The path of a file on the hub, at this revision.
    pub fn file_path(&self, path: &str) -> String {
        self.repo.file_path(path)
    }

    /// The commit that the revision meant when it was last fetched. Errors when the cache holds something else there.
    pub fn commit(&self) -> Result<Option<String>> {
        if self.repo.is_commit() {
            let commit = self.repo.revision();
            return Ok(self.snapshot(commit).is_dir().then(|| commit.to_string()));
        }
        let path = self.reference();
        let io = |source| Error::Io { path: path.clone(), source };
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(io)?,
        };
        let mut text = String::new();
        file.take(100).read_to_string(&mut text).map_err(io)?;
        match text.trim() {
            commit if is_commit(commit) => Ok(Some(commit.to_string())),
            other => {
                Err(self.repo.error(format!("{}: expected a commit, got {other:?}; remove the file", path.display())))
            }
        }
    }

    /// Notes the commit that the revision means now.
    pub fn set_commit(&self, commit: &str) -> Result<()> {
        if self.repo.is_commit() || self.commit().is_ok_and(|known| known.as_deref() == Some(commit)) {
            return Ok(());
        }
        let path = self.reference();
        let io = |source| Error::Io { path: path.clone(), source };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(io)?;
        }
        fs::write(&path, commit).map_err(io)
    }

    /// The folder of a commit's files.
    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// A file of a commit, if it is there, and of this size if that is known.
    pub fn file(&self, commit: &str, path: &str, size: Option<u64>) -> Option<PathBuf> {
        let file = self.snapshot(commit).join(path);
        has_size(&file, size).then_some(file)
    }

    /// The cache, which need not be there.
    pub fn cache(&self) -> &Path {
        self.folder.parent().unwrap_or(&self.folder)
    }

    /// The path of a file of this etag; it need not be there.
    pub fn blob(&self, etag: &str) -> PathBuf {
        self.folder.join("blobs").join(etag)
    }

    /// Keeps other programs from fetching the same file at the same time, until the result is dropped. Waits for one
    /// that does, as long as it takes.
    pub fn lock(&self, etag: &str, watch: &mut dyn DownloadObserver) -> Result<File> {
        let path = self.locks.join(format!("{etag}.lock"));
        let io = |source| Error::Io { path: path.clone(), source };
        fs::create_dir_all(&self.locks).map_err(io)?;
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {
                watch.note(&format!("{}: waiting for another program that downloads the same file", self.repo));
            }
            Err(TryLockError::Error(error)) => return Err(io(error)),
        }
        file.lock().map_err(io)?;
        Ok(file)
    }

    /// Makes `path` of a commit a link to the blob of this etag, and says where it is.
    pub fn link(&self, commit: &str, path: &str, etag: &str) -> Result<PathBuf> {
        let link = self.snapshot(commit).join(path);
        let io = |source| Error::Io { path: link.clone(), source };
        if let Some(folder) = link.parent() {
            fs::create_dir_all(folder).map_err(io)?;
        }
        let leads_there =
            |blob: &Path| fs::canonicalize(&link).is_ok_and(|to| fs::canonicalize(blob).is_ok_and(|b| b == to));
        // Another program may read through it.
        if leads_there(&self.blob(etag)) {
            return Ok(link);
        }
        // A link of before may lead to nothing.
        match fs::remove_file(&link) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
            _ => {}
        }
        // From the snapshot's folder two up; further up from folders in it.
        let up = "../".repeat(2 + path.matches('/').count());
        link_to(&self.blob(etag), &format!("{up}blobs/{etag}"), &link).map_err(io)?;
        Ok(link)
    }

    fn reference(&self) -> PathBuf {
        self.folder.join("refs").join(self.repo.revision())
    }
}

/// True for a file, of this size if that is known.
pub(super) fn has_size(path: &Path, size: Option<u64>) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && size.is_none_or(|size| meta.len() == size))
}

/// Relative, so that the cache can be moved.
#[cfg(unix)]
fn link_to(_blob: &Path, relative: &str, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(relative, link)
}

/// Symbolic links need a privilege elsewhere.
#[cfg(not(unix))]
fn link_to(blob: &Path, _relative: &str, link: &Path) -> io::Result<()> {
    fs::hard_link(blob, link)
}
