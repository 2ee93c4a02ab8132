//! Opening files that others wrote: regular ones only, and whole only up to a size.
//!
//! A path may lead through links to its file. A device or a pipe would be read without end, or waited for.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use crate::{Error, Result};

/// Bytes of a file of settings that are read at most: `config.json` and the like, which have kilobytes, or megabytes where
/// they list every module of a model of many experts. What they are parsed into may take thirty times as much.
pub const SETTINGS: u64 = 16 << 20;

/// Bytes of an index of shards, and of a run's report, that are read at most. The largest models' have ten megabytes.
pub const LISTS: u64 = 128 << 20;

/// Opens a regular file, and says how many bytes it has. Errors when there is none, or something else of this name.
pub fn open(path: &Path) -> Result<(File, u64)> {
    let io = |source| Error::io(path, source);
    // Opening a pipe would wait for somebody to write.
    let meta = fs::metadata(path).map_err(io)?;
    if !meta.is_file() {
        let got = if meta.is_dir() { "a folder" } else { "a device or a pipe" };
        return Err(Error::NotAFile { path: path.to_path_buf(), got });
    }
    Ok((File::open(path).map_err(io)?, meta.len()))
}

/// The bytes of a regular file. Errors when there is none, or it has more than `most` bytes; it is not read then.
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    let (file, bytes) = open(path)?;
    let large = |got| Error::LargeFile { path: path.to_path_buf(), got, most };
    if bytes > most {
        return Err(large(bytes));
    }
    let mut content = Vec::new();
    // A file that grows meanwhile is not followed without end.
    file.take(most.saturating_add(1)).read_to_end(&mut content).map_err(|source| Error::io(path, source))?;
    if content.len() as u64 > most { Err(large(content.len() as u64)) } else { Ok(content) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_kinds() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, b"twelve bytes").unwrap();
        assert_eq!(read(&path, 12).unwrap(), b"twelve bytes");
        assert_eq!(open(&path).unwrap().1, 12);
        let error = read(&path, 11).unwrap_err().to_string();
        assert!(error.ends_with("file: 12 bytes, expected at most 11"), "{error}");
        let error = open(dir.path()).unwrap_err().to_string();
        assert!(error.ends_with("a folder, expected a file"), "{error}");
        assert!(matches!(read(&dir.path().join("gone"), 1), Err(Error::Io { .. })));
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_to_files_alone() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("file"), b"x").unwrap();
        for (to, from) in [("file", "good"), ("/dev/zero", "device"), ("circle", "circle"), ("gone", "nowhere")] {
            symlink(to, at(from)).unwrap();
        }
        assert_eq!(read(&at("good"), 1).unwrap(), b"x");
        let error = read(&at("device"), 1 << 20).unwrap_err().to_string();
        assert!(error.ends_with("device: a device or a pipe, expected a file"), "{error}");
        assert!(matches!(read(&at("circle"), 1), Err(Error::Io { .. })));
        assert!(matches!(read(&at("nowhere"), 1), Err(Error::Io { .. })));
    }
}
