//! The steps whose order decides what a kill or a power cut leaves. Tests have them recorded and compare the order.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// A step that succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A new file has its bytes.
    Written(PathBuf),
    /// The disk has a file.
    Synced(PathBuf),
    /// The disk has the data of a file, and as much of its metadata as reading needs.
    DataSynced(PathBuf),
    /// The disk has the names in a folder.
    FolderSynced(PathBuf),
    /// A file or folder has another name.
    Renamed(PathBuf, PathBuf),
    /// Two files or folders have each other's name.
    Exchanged(PathBuf, PathBuf),
    /// A file is gone.
    Removed(PathBuf),
}

/// Waits until the disk has the file that is open as `path`.
pub fn sync(file: &File, path: &Path) -> io::Result<()> {
    noted(|| file.sync_all(), || Step::Synced(path.into()))
}

/// As [`sync`], without metadata that reading does not need.
pub fn sync_data(file: &File, path: &Path) -> io::Result<()> {
    noted(|| file.sync_data(), || Step::DataSynced(path.into()))
}

/// Makes names in a folder last: on unix a folder is a file of its own, to be synced as well.
pub fn sync_folder(dir: &Path) -> io::Result<()> {
    let sync = || if cfg!(unix) { File::open(dir)?.sync_all() } else { Ok(()) };
    noted(sync, || Step::FolderSynced(dir.into()))
}

/// Renames, in place of an earlier file.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    noted(|| fs::rename(from, to), || Step::Renamed(from.into(), to.into()))
}

/// Has two paths change places in one step. Errors where the file system or the system cannot do that.
pub fn exchange(a: &Path, b: &Path) -> io::Result<()> {
    noted(|| exchanged(a, b), || Step::Exchanged(a.into(), b.into()))
}

/// Bytes that a user may still write in a folder; `None` where the system does not say.
pub fn free_bytes(dir: &Path) -> Option<u64> {
    #[cfg(unix)]
    return rustix::fs::statvfs(dir).ok().map(|of| of.f_bavail.saturating_mul(of.f_frsize));
    #[cfg(not(unix))]
    None.filter(|_: &u64| dir.is_dir())
}

/// Removes a file. One that is gone already is no error.
pub fn remove(path: &Path) -> io::Result<()> {
    let gone = || match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    noted(gone, || Step::Removed(path.into()))
}

/// Tells whether this process may write to a file or folder, as far as the system says without trying.
#[cfg(any(target_os = "linux", target_os = "macos"))]
pub(super) fn is_writable(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok()
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
pub(super) fn is_writable(_: &Path) -> bool {
    true
}

/// Removes a file of a folder, and the folders between them that are empty without it.
pub fn remove_in(dir: &Path, name: &str) -> io::Result<()> {
    remove(&dir.join(name))?;
    for (end, _) in name.rmatch_indices('/') {
        // One that is not empty stays.
        fs::remove_dir(dir.join(&name[..end])).unwrap_or(());
    }
    Ok(())
}

/// Notes that a new file has its bytes.
pub(super) fn written<T>(result: io::Result<T>, path: &Path) -> io::Result<T> {
    noted(|| result, || Step::Written(path.into()))
}

#[cfg(any(target_os = "linux", target_os = "macos"))]
fn exchanged(a: &Path, b: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE)?)
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn exchanged(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Takes a step.
#[cfg(not(any(test, feature = "recording")))]
fn noted<T>(act: impl FnOnce() -> io::Result<T>, _: impl FnOnce() -> Step) -> io::Result<T> {
    act()
}

#[cfg(any(test, feature = "recording"))]
fn noted<T>(act: impl FnOnce() -> io::Result<T>, step: impl FnOnce() -> Step) -> io::Result<T> {
    let step = step();
    recording::allow(&step)?;
    let result = act();
    if result.is_ok() {
        recording::add(step);
    }
    result
}

/// The steps of this process, for tests: each looks at those in a folder of its own.
#[cfg(any(test, feature = "recording"))]
pub mod recording {
    use std::io;
    use std::path::{Path, PathBuf};
    use std::sync::{Mutex, PoisonError};

    use super::Step;

    static STEPS: Mutex<Vec<Step>> = Mutex::new(Vec::new());
    /// Folders, and how many steps are taken in each.
    static LIMITS: Mutex<Vec<(PathBuf, usize)>> = Mutex::new(Vec::new());

    /// Lets no step in `dir` and below succeed after the first `count`: what a kill leaves there is what is left then.
    pub fn end_after(dir: &Path, count: usize) {
        let mut limits = LIMITS.lock().unwrap_or_else(PoisonError::into_inner);
        limits.retain(|(other, _)| other != dir);
        limits.push((dir.to_path_buf(), count));
    }

    /// Errors when a step comes after the end.
    pub(super) fn allow(step: &Step) -> io::Result<()> {
        let limits = LIMITS.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |(dir, count): &&(PathBuf, usize)| line(step, dir).is_some() && steps(dir).len() >= *count;
        limits.iter().find(is_over).map_or(Ok(()), |_| Err(io::Error::other("ended here")))
    }

    pub(super) fn add(step: Step) {
        STEPS.lock().unwrap_or_else(PoisonError::into_inner).push(step);
    }

    /// The steps so far of files in `dir` and below, a line each with names from there on. Of a temporary name the part that
    /// differs from run to run is left out.
    pub fn steps(dir: &Path) -> Vec<String> {
        let steps = STEPS.lock().unwrap_or_else(PoisonError::into_inner);
        steps.iter().filter_map(|step| line(step, dir)).collect()
    }

    fn line(step: &Step, dir: &Path) -> Option<String> {
        let name = |path: &Path| Some(plain(&path.strip_prefix(dir).ok()?.to_string_lossy()));
        let pair = |a: &Path, b: &Path| Some((name(a)?, name(b)?));
        Some(match step {
            Step::Written(path) => format!("write {}", name(path)?),
            Step::Synced(path) => format!("sync {}", name(path)?),
            Step::DataSynced(path) => format!("sync data of {}", name(path)?),
            Step::FolderSynced(path) => format!("sync folder {}", name(path)?),
            Step::Renamed(from, to) => pair(from, to).map(|(from, to)| format!("rename {from} to {to}"))?,
            Step::Exchanged(a, b) => pair(a, b).map(|(a, b)| format!("exchange {a} and {b}"))?,
            Step::Removed(path) => format!("remove {}", name(path)?),
        })
    }

    /// `a/.b.12-3.paring.tmp` as `a/b~`.
    fn plain(path: &str) -> String {
        let (front, name) = path.rsplit_once('/').map_or(("", path), |(dir, name)| (&path[..dir.len() + 1], name));
        match crate::names::temporary_of(name) {
            Some(of) => format!("{front}{of}~"),
            None => path.to_string(),
        }
    }
}
