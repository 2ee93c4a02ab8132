//! Files that are written beside their names, and what a safetensors file holds.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Map, Value, json};
use xxhash_rust::xxh3::Xxh3;

use super::NamedTensor;
use super::disk;
use crate::names::{PROBE, temporary_name};
use crate::{Dtype, Error, Result};

/// A file that has its name: a resumed run has to find it as it is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosedFile {
    /// Its name, without the folder.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// xxh3 of its bytes, 64 bits; of a file that shards were merged into, of its header and the digests of its tensors.
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
        disk::sync(&self.file, &self.temporary)
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
/// first, so that every tensor is aligned, then by name. `notes` are further pairs of its metadata. Also returns the bytes of
/// all tensors.
pub(super) fn header(file: &str, tensors: &mut [NamedTensor], notes: &[(&str, &str)]) -> Result<(Vec<u8>, usize)> {
    tensors.sort_by(|a, b| b.dtype.to_safetensors().cmp(&a.dtype.to_safetensors()).then_with(|| a.name.cmp(&b.name)));
    let described = |tensor: &NamedTensor| {
        let NamedTensor { name, dtype, shape, bytes } = tensor;
        Described { name: name.clone(), dtype: *dtype, shape: shape.clone(), bytes: bytes.len() }
    };
    header_of(file, tensors.iter().map(described), notes)
}

/// A tensor in a header.
pub(crate) struct Described {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// The number of its bytes.
    pub bytes: usize,
}

/// As [`header`], of tensors that are in order.
pub(crate) fn header_of(
    file: &str,
    tensors: impl IntoIterator<Item = Described>,
    notes: &[(&str, &str)],
) -> Result<(Vec<u8>, usize)> {
    let mut header = Map::new();
    let notes = [("format", "pt")].iter().chain(notes).map(|(key, value)| (key.to_string(), json!(value)));
    header.insert("__metadata__".to_string(), Value::Object(notes.collect()));
    let mut end = 0usize;
    for Described { name, dtype, shape, bytes } in tensors {
        if dtype.bytes_of(&shape) != Some(bytes) {
            return Err(Error::shard(file, format!("{name}: {bytes} bytes do not make {dtype} {shape:?}")));
        }
        if header.contains_key(&name) {
            return Err(Error::shard(file, format!("a second tensor of the name {name}")));
        }
        let start = end;
        end += bytes;
        let info = json!({"dtype": dtype.name(), "shape": shape, "data_offsets": [start, end]});
        header.insert(name, info);
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
    let (file, temporary, closed) = write(path, bytes as u64, fill)?;
    give_name(&file, &temporary, path).map_err(|source| failed(&temporary, path, bytes as u64, source))?;
    Ok(closed)
}

/// Gives a file that was written beside its name that name, once the disk has it.
pub(super) fn give_name(file: &File, temporary: &Path, path: &Path) -> io::Result<()> {
    disk::sync(file, temporary)?;
    disk::rename(temporary, path)?;
    disk::sync_folder(folder_of(path))
}

/// The folder that a path lies in.
pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Removes what was written of a file of `bytes` bytes, and says why it failed.
pub(super) fn failed(temporary: &Path, path: &Path, bytes: u64, source: io::Error) -> Error {
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

/// A safetensors file of these tensors as its pieces in order, and its bytes. `notes` are pairs of its metadata. Errors, with
/// `file` in them, on tensors that contradict their shapes.
pub fn tensor_file(file: &str, mut tensors: Vec<NamedTensor>, notes: &[(&str, &str)]) -> Result<(Vec<Vec<u8>>, usize)> {
    let (header, end) = header(file, &mut tensors, notes)?;
    let bytes = header.len() + end;
    Ok((std::iter::once(header).chain(tensors.into_iter().map(|tensor| tensor.bytes)).collect(), bytes))
}

/// Writes tensors into one safetensors file of any name, beside it first, then renamed. Replaces an earlier file.
pub fn write_file(path: &Path, tensors: Vec<NamedTensor>) -> Result<()> {
    let (pieces, bytes) = tensor_file(&path.display().to_string(), tensors, &[])?;
    let closed = write_beside(path, bytes, |file| pieces.iter().try_for_each(|piece| file.write_all(piece)));
    closed.map(drop)
}

/// Times that a temporary name is tried, should someone else have it.
const TRIES: usize = 16;

/// Opens a file of a temporary name that nobody has, in the folder of `path`: nothing of anyone's is truncated, and no link
/// followed. It can be read, too.
pub fn create_fresh(path: &Path) -> io::Result<(File, PathBuf)> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    create_numbered(path, std::iter::repeat_with(|| NEXT.fetch_add(1, Ordering::Relaxed)))
}

/// As [`create_fresh`], with the first of these numbers whose name is free.
pub(super) fn create_numbered(path: &Path, numbers: impl Iterator<Item = u64>) -> io::Result<(File, PathBuf)> {
    let name = path.file_name().unwrap_or_default();
    for number in numbers.take(TRIES) {
        let temporary = path.with_file_name(temporary_name(name, (std::process::id(), number)));
        match OpenOptions::new().read(true).write(true).create_new(true).open(&temporary) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            opened => return opened.map(|file| (file, temporary)),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Writes what `fill` has, `bytes` bytes as far as errors are concerned, into a new file that will be `path`, and does not sync
/// it. A failed attempt leaves no file.
pub(super) fn write(
    path: &Path,
    bytes: u64,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(File, PathBuf, ClosedFile)> {
    let (file, temporary) = create_fresh(path).map_err(|source| Error::write(path, bytes, source))?;
    let mut counted = Counted { file: BufWriter::with_capacity(BUFFER, file), bytes: 0, hash: Xxh3::new() };
    let filled = fill(&mut counted);
    let Counted { file, bytes: count, hash } = counted;
    let flushed = filled.and_then(|()| file.into_inner().map_err(|error| error.into_error()));
    let file = disk::written(flushed, &temporary).map_err(|source| failed(&temporary, path, bytes, source))?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok((file, temporary, ClosedFile { name, bytes: count, digest: hash.digest() }))
}

pub(super) fn probe(dir: &Path) -> io::Result<()> {
    let (mut file, path) = create_fresh(&dir.join(PROBE))?;
    let written = file.write_all(b"x");
    fs::remove_file(&path)?;
    written
}
