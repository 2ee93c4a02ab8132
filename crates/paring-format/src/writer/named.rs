//! Single files that a person names for a command to write.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use super::contents::Contents;
use super::files::{folder_of, write_beside};
use super::{ClosedFile, InputFiles};
use crate::message;
use crate::message::Setting;
use crate::names::RunFiles;
use crate::{Error, Result};

/// A file to write where a person said, in place of an earlier one that the same command wrote, and of nothing else.
pub struct NamedFile<'a> {
    /// Its path.
    pub path: &'a Path,
    /// Files that the command reads.
    pub inputs: &'a InputFiles,
    /// Recognizes a file that the command wrote by its first [`NamedFile::HEAD`] bytes.
    pub is_own: &'a dyn Fn(&[u8]) -> bool,
    /// True to replace other files too.
    pub overwrite: bool,
}

impl NamedFile<'_> {
    /// Bytes of a file that show who wrote it.
    pub const HEAD: usize = 4096;

    /// Errors that show without writing: a folder, a device, an input, a file of an output, one that someone else wrote.
    pub fn check(&self) -> Result<()> {
        let Self { path, inputs, .. } = *self;
        let refused = |reason: String| Err(Error::refused(path, reason));
        if let Some(input) = inputs.find(path) {
            return refused(format!("is read as {}; name another file", input.display()));
        }
        let Ok(meta) = path.symlink_metadata() else { return Ok(()) };
        if fs::metadata(path).is_ok_and(|meta| !meta.is_file()) {
            return refused(format!(
                "{}, expected a file",
                if path.is_dir() { "a folder" } else { "a device or a pipe" }
            ));
        }
        let dir = folder_of(path);
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if Contents::of(dir, RunFiles::default(), false).is_ok_and(|contents| contents.has(name)) {
            return refused(format!("a file of the output in {}; name another one", dir.display()));
        }
        if self.overwrite || meta.is_file() && (self.is_own)(&head(path).map_err(|source| Error::io(path, source))?) {
            return Ok(());
        }
        let reason = message!["exists, and this command did not write it; name another file, or replace it ("];
        Err(Error::refused(path, reason.then(message![Setting::new("overwrite"), ")"])))
    }

    /// Writes the file, `bytes` bytes, beside its name and renames it. Errors as [`NamedFile::check`], and when it cannot be
    /// written; nothing of it is left then.
    pub fn write(&self, bytes: usize, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<ClosedFile> {
        self.check()?;
        write_beside(self.path, bytes, fill)
    }
}

fn head(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(NamedFile::HEAD as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}
