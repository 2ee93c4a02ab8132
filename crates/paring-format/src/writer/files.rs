//! Files that are written beside their names, and what a safetensors file holds.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use xxhash_rust::xxh3::Xxh3;

use super::NamedTensor;
use crate::names::PROBE;
use crate::{Error, Result};

/// A file that has its name: a resumed run has to find it as it is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosedFile {
    /// Its name, without the folder.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// xxh3 of its bytes, 64 bits.
    pub digest: u64,
}

/// A file that is written and has not got its name yet. Dropped so, it is removed.
#[derive(Debug)]
pub struct PendingFile {
    pub(super) file: File,
    pub(super) temporary: PathBuf,
    /// The file that it is once it has its name.
    pub(super) made: ClosedFile,
    /// The number of the shard that it is.
    pub(super) shard: Option<usize>,
    pub(super) tensor_bytes: u64,
    pub(super) closed: bool,
}

impl PendingFile {
    /// Waits until the disk has all of it.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}

impl Drop for PendingFile {
    fn drop(&mut self) {
        if !self.closed {
            // The first error is reported; that the rest cannot be removed either adds nothing.
            fs::remove_file(&self.temporary).unwrap_or(());
        }
    }
}

/// The header of a safetensors file of these tensors, which are put into the order of the safetensors crate: wide types
/// first, so that every tensor is aligned, then by name. Also returns the bytes of all tensors.
pub(super) fn header(file: &str, tensors: &mut [NamedTensor]) -> Result<(Vec<u8>, usize)> {
    tensors.sort_by(|a, b| b.dtype.to_safetensors().cmp(&a.dtype.to_safetensors()).then_with(|| a.name.cmp(&b.name)));
    let mut header = Map::new();
    header.insert("__metadata__".to_string(), json!({"format": "pt"}));
    let mut end = 0usize;
    for NamedTensor { name, dtype, shape, bytes } in &*tensors {
        if dtype.bytes_of(shape) != Some(bytes.len()) {
            return Err(Error::shard(file, format!("{name}: {} bytes do not make {dtype} {shape:?}", bytes.len())));
        }
        if header.contains_key(name) {
            return Err(Error::shard(file, format!("a second tensor of the name {name}")));
        }
        let start = end;
        end += bytes.len();
        let info = json!({"dtype": dtype.name(), "shape": shape, "data_offsets": [start, end]});
        header.insert(name.clone(), info);
    }
    let mut text = Value::Object(header).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut text);
    Ok((bytes, end))
}

/// Writes a file of `bytes` bytes beside its name with what `fill` puts into it, syncs it and renames it, in place of an earlier
/// one. A failed attempt leaves no file.
pub fn write_beside(
    path: &Path,
    bytes: usize,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<ClosedFile> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let (file, closed) = write(&temporary, path, bytes as u64, fill)?;
    let folder = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let there = file.sync_all().and_then(|()| fs::rename(&temporary, path)).and_then(|()| sync_folder(folder));
    there.map_err(|source| failed(&temporary, path, bytes as u64, source))?;
    Ok(closed)
}

/// Removes what was written of a file of `bytes` bytes, and says why it failed.
fn failed(temporary: &Path, path: &Path, bytes: u64, source: io::Error) -> Error {
    // The first error is the one to report; that the rest cannot be removed either adds nothing.
    fs::remove_file(temporary).unwrap_or(());
    Error::write(path, bytes, source)
}

/// Gathers what is small; tensors are larger as a rule, and go past the buffer.
const BUFFER: usize = 64 << 10;

/// A file that counts and digests what goes into it.
struct Counted {
    file: BufWriter<File>,
    bytes: u64,
    hash: Xxh3,
}

impl Write for Counted {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let written = self.file.write(piece)?;
        self.hash.update(&piece[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Writes tensors into one safetensors file of any name, beside it first, then renamed. Replaces an earlier file.
pub fn write_file(path: &Path, mut tensors: Vec<NamedTensor>) -> Result<()> {
    let (header, _) = header(&path.display().to_string(), &mut tensors)?;
    let bytes = header.len() + tensors.iter().map(|tensor| tensor.bytes.len()).sum::<usize>();
    let closed = write_beside(path, bytes, |file| {
        file.write_all(&header)?;
        tensors.iter().try_for_each(|tensor| file.write_all(&tensor.bytes))
    });
    closed.map(drop)
}

/// Opens a file that must not exist yet: a link that someone left under this name is not followed.
pub(super) fn create_fresh(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).open(path)
}

/// Writes what `fill` has, `bytes` bytes as far as errors are concerned, into a new file that will be `path`, and does not sync
/// it. A failed attempt leaves no file.
pub(super) fn write(
    temporary: &Path,
    path: &Path,
    bytes: u64,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(File, ClosedFile)> {
    let written = create_fresh(temporary).and_then(|file| {
        let mut counted = Counted { file: BufWriter::with_capacity(BUFFER, file), bytes: 0, hash: Xxh3::new() };
        fill(&mut counted)?;
        let Counted { file, bytes, hash } = counted;
        Ok((file.into_inner().map_err(|error| error.into_error())?, bytes, hash.digest()))
    });
    let (file, bytes, digest) = written.map_err(|source| failed(temporary, path, bytes, source))?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok((file, ClosedFile { name, bytes, digest }))
}

/// Makes a rename last: on unix the folder is a file of its own, to be synced as well.
pub(super) fn sync_folder(dir: &Path) -> io::Result<()> {
    #[cfg(unix)]
    File::open(dir)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = dir;
    Ok(())
}

pub(super) fn probe(dir: &Path) -> io::Result<()> {
    let path = dir.join(format!("{PROBE}.tmp"));
    create_fresh(&path)?.write_all(b"x")?;
    fs::remove_file(&path)
}
