//! Files of a model's folder that may be missing.

use std::fs;
use std::path::Path;

use paring_format::files;

use crate::Result;

/// The bytes of a file of at most `most`; `None` when there is no such file.
pub(crate) fn read(path: &Path, most: u64) -> Result<Option<Vec<u8>>> {
    match files::read(path, most) {
        Ok(bytes) => Ok(Some(bytes)),
        // Something that leads nowhere is there, and not what it was meant to be.
        Err(paring_format::Error::Io { source, .. })
            if source.kind() == std::io::ErrorKind::NotFound && fs::symlink_metadata(path).is_err() =>
        {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}
