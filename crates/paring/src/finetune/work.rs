//! The folder of a fine-tuning in work, beside its output.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use paring_format::message;
use paring_format::writer::Lock;

use super::run::POINT;
use crate::plan::Opt;
use crate::{Error, Result};

/// `.NAME.paring-training`, beside the output `NAME`, while no other process works there.
pub(super) struct Work {
    dir: PathBuf,
    lock: Option<Lock>,
}

/// The error that something is there.
fn begun(dir: &Path) -> Error {
    let begun = format!("{}: a training that did not end is there; continue it with ", dir.display());
    Opt::Out.misfit(message![begun, Opt::Resume, ", or start over with ", Opt::Overwrite])
}

/// True for the names of files that a fine-tuning makes there.
fn is_own(name: &str) -> bool {
    let of_unit = name.strip_prefix("unit-").and_then(|rest| rest.split_once('.'));
    let is_unit = |(number, kind): (&str, &str)| {
        number.chars().all(|c| c.is_ascii_digit()) && ["a", "b", "gradient"].contains(&kind)
    };
    of_unit.is_some_and(is_unit) || name == POINT
}

impl Work {
    /// The folder of this output, made if it is not there. What an earlier process left in it stays with `resume`, and goes with `overwrite`.
    ///
    /// # Errors
    /// When neither is asked for and something was left, another process is at work, and when the folder cannot be made.
    pub fn open(out: &Path, resume: bool, overwrite: bool) -> Result<Self> {
        let dir = Self::place(out);
        let failed = |source| Error::Io { path: dir.clone(), source };
        fs::create_dir_all(&dir).map_err(failed)?;
        if fs::symlink_metadata(&dir).map_err(failed)?.is_symlink() {
            return Err(Error::content(dir.display().to_string(), "a link; remove it"));
        }
        let work = Self { lock: Some(Lock::take(&dir)?), dir };
        if work.point().is_file() && !resume {
            if !overwrite {
                return Err(begun(&work.dir));
            }
            work.clear()?;
        }
        Ok(work)
    }

    /// The error of a training that did not end, where none of it is to stay or to go; known before anything is read.
    pub fn check(out: &Path, resume: bool, overwrite: bool) -> Result<()> {
        match Self::place(out).join(POINT).is_file() && !resume && !overwrite {
            true => Err(begun(&Self::place(out))),
            false => Ok(()),
        }
    }

    fn place(out: &Path) -> PathBuf {
        let mut name = OsString::from(".");
        name.push(out.file_name().unwrap_or_default());
        name.push(".paring-training");
        out.with_file_name(name)
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn point(&self) -> PathBuf {
        self.dir.join(POINT)
    }

    /// Removes the files of a training, that from which it can be resumed first.
    fn clear(&self) -> Result<()> {
        let failed = |source| Error::Io { path: self.dir.clone(), source };
        if self.point().is_file() {
            fs::remove_file(self.point()).map_err(failed)?;
        }
        for entry in fs::read_dir(&self.dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if is_own(&entry.file_name().to_string_lossy()) {
                fs::remove_file(entry.path()).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Removes all of it, once the output is there.
    pub fn end(mut self) -> Result<()> {
        self.clear()?;
        self.lock = None;
        // Something else may lie in it.
        if let Err(error) = fs::remove_dir(&self.dir) {
            tracing::debug!(%error, dir = %self.dir.display(), "the folder of a training");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_kept_or_goes_as_asked() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("model");
        let work = Work::open(&out, false, false).unwrap();
        assert_eq!(work.dir(), dir.path().join(".model.paring-training"));
        assert!(Work::open(&out, true, false).is_err(), "it is locked");
        for name in [POINT, "unit-00001.a", "mine.txt"] {
            fs::write(work.dir().join(name), "x").unwrap();
        }
        drop(work);
        let error = Work::open(&out, false, false).err().unwrap().to_string();
        assert!(error.contains("did not end"), "{error}");
        assert!(Work::open(&out, true, false).unwrap().point().is_file());
        let work = Work::open(&out, false, true).unwrap();
        assert!(!work.point().exists() && !work.dir().join("unit-00001.a").exists());
        fs::remove_file(work.dir().join("mine.txt")).unwrap();
        let path = work.dir().to_path_buf();
        work.end().unwrap();
        assert!(!path.exists());
        assert!(!is_own("unit-1x.a") && !is_own("unit-1.c") && is_own("unit-00003.gradient"));
    }
}
