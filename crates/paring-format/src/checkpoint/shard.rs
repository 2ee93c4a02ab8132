//! One safetensors file: mapped or built in, its header checked.

use std::fs::File;
use std::path::Path;

use memmap2::Mmap;
use safetensors::tensor::Metadata;

use crate::{Dtype, Error, Result};

/// Longest header that is read: a header is parsed as a whole, and real ones are far below this.
const MAX_HEADER: usize = 100_000_000;

/// One file of weights.
#[derive(Debug)]
pub(super) struct Shard {
    /// Its name.
    pub file: String,
    source: Source,
}

enum Source {
    Map(Mmap),
    BuiltIn(&'static [u8]),
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::Map(map) => write!(f, "Map({} bytes)", map.len()),
            Source::BuiltIn(bytes) => write!(f, "BuiltIn({} bytes)", bytes.len()),
        }
    }
}

/// A tensor as the header describes it; `start` counts from the beginning of the file.
pub(super) struct Entry {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub start: usize,
    pub len: usize,
}

impl Shard {
    /// Maps a file of a folder.
    pub fn map(dir: &Path, file: &str) -> Result<Shard> {
        let path = dir.join(file);
        let handle = File::open(&path).map_err(|source| Error::io(&path, source))?;
        let len = handle.metadata().map_err(|source| Error::io(&path, source))?.len();
        if len < 8 {
            return Err(Error::shard(file, format!("{len} bytes are no safetensors file; download it again")));
        }
        // SAFETY: the map is only read. Weights are not expected to be written to by others while they are read; if
        // that happens, tensors hold other numbers, and if the file is cut the system stops the program.
        let map = unsafe { Mmap::map(&handle) }.map_err(|source| Error::io(&path, source))?;
        Ok(Shard { file: file.to_string(), source: Source::Map(map) })
    }

    /// A file that is part of the program.
    pub fn built_in(file: &str, bytes: &'static [u8]) -> Shard {
        Shard { file: file.to_string(), source: Source::BuiltIn(bytes) }
    }

    fn bytes(&self) -> &[u8] {
        match &self.source {
            Source::Map(map) => map,
            Source::BuiltIn(bytes) => bytes,
        }
    }

    /// Bytes of the file.
    pub fn len(&self) -> usize {
        self.bytes().len()
    }

    /// The tensors of the header. Errors unless they lie one after the other, without holes, up to the file's end.
    pub fn entries(&self) -> Result<Vec<(String, Entry)>> {
        let bytes = self.bytes();
        let bad = |reason: String| Error::shard(&self.file, reason);
        let Some((prefix, rest)) = bytes.split_first_chunk::<8>() else {
            return Err(bad(format!("{} bytes are no safetensors file", bytes.len())));
        };
        let header_len = u64::from_le_bytes(*prefix);
        let header = usize::try_from(header_len).ok().and_then(|len| rest.get(..len));
        let Some(header) = header else {
            let file_len = bytes.len();
            let reason =
                format!("the header should have {header_len} bytes, but the file has {file_len}; is it cut off?");
            return Err(bad(reason));
        };
        if header.len() > MAX_HEADER {
            return Err(bad(format!("a header of {header_len} bytes; at most {MAX_HEADER} are read")));
        }
        // This checks, as the format demands, that shapes and types agree with offsets and that the offsets follow
        // each other from 0. The crate's own reader of whole files adds lengths without looking at overflow.
        let metadata: Metadata =
            serde_json::from_slice(header).map_err(|error| bad(format!("bad header: {}", one_line(&error))))?;
        let data = &rest[header.len()..];
        if metadata.data_len() != data.len() {
            let (expected, got) = (metadata.data_len(), data.len());
            let reason =
                format!("the header describes {expected} bytes of tensors, the file has {got}; is it cut off?");
            return Err(bad(reason));
        }
        let mut entries = Vec::new();
        for name in metadata.offset_keys() {
            let Some(info) = metadata.info(&name) else { continue };
            let Some(dtype) = Dtype::from_safetensors(info.dtype) else {
                return Err(bad(format!("{name} has the type {}, which is not supported", info.dtype)));
            };
            let (start, end) = info.data_offsets;
            let len = end.checked_sub(start).filter(|_| end <= data.len());
            if len.is_none() || len != dtype.bytes_of(&info.shape) {
                return Err(bad(format!("{name} does not lie inside the file")));
            }
            let entry = Entry { dtype, shape: info.shape.clone(), start: 8 + header.len() + start, len: end - start };
            entries.push((name, entry));
        }
        Ok(entries)
    }

    /// A copy of part of the file; `None` when it is out of range.
    pub fn copy(&self, start: usize, len: usize) -> Option<Vec<u8>> {
        let copy = self.bytes().get(start..start.checked_add(len)?)?.to_vec();
        self.release(start, len);
        Some(copy)
    }

    /// Gives the pages of a part back to the system. Pages of mapped files that were touched count as memory of the
    /// process, and a walk through a large model would seem to hold all of it.
    fn release(&self, start: usize, len: usize) {
        #[cfg(unix)]
        if let Source::Map(map) = &self.source
            && len > 0
        {
            // Reading a page makes the system map those around it too (64 KiB at a time on Linux), among them pages that
            // were given back before.
            const AROUND: usize = 64 << 10;
            let start = start.saturating_sub(AROUND);
            let len = (len + 2 * AROUND).min(map.len() - start);
            // SAFETY: the advice makes the system forget pages, and read them from the file again when they are next
            // touched. Nobody writes to this map, so both times the pages hold the same bytes.
            let advised = unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, len) };
            // A refusal costs memory, not correctness.
            advised.unwrap_or(());
        }
        #[cfg(not(unix))]
        let _ = (start, len);
    }
}

/// The message of an error on one line, however hostile the header it quotes.
fn one_line(error: &serde_json::Error) -> String {
    let text: String = error.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
    text
}
