//! One file of weights, safetensors or of `torch.save`: mapped or built in, its header checked.

use std::fmt::Display;
use std::path::Path;

use memmap2::Mmap;
use safetensors::tensor::Metadata;

use super::{listed, pickle};
use crate::names::is_obeyed;
use crate::{Dtype, Error, Result, files};

/// Longest header that is read: a header is parsed as a whole, and real ones are far below this.
const MAX_HEADER: usize = 100_000_000;

/// One file of weights.
#[derive(Debug)]
pub(crate) struct Shard {
    /// Its name.
    pub file: String,
    kind: ShardKind,
    source: ShardBytes,
}

/// The kinds of files of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ShardKind {
    Safetensors,
    Pickle,
}

enum ShardBytes {
    Map(Mmap),
    BuiltIn(&'static [u8]),
}

impl std::fmt::Debug for ShardBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ShardBytes::Map(map) => write!(f, "Map({} bytes)", map.len()),
            ShardBytes::BuiltIn(bytes) => write!(f, "BuiltIn({} bytes)", bytes.len()),
        }
    }
}

/// The contents of a file as its header describes them.
#[derive(Default)]
pub(crate) struct Entries {
    pub tensors: Vec<(String, Entry)>,
    /// Pairs of names in the header's `__metadata__`, sorted. The library `safetensors` leaves there which tensors it did not
    /// store, because another one shares their numbers.
    pub metadata: Vec<(String, String)>,
}

/// A tensor as the header describes it.
pub(crate) struct Entry {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub place: Extent,
}

/// The place of the elements of a tensor in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// The first one, from the beginning of the file.
    pub start: usize,
    /// Bytes of all of them.
    pub len: usize,
    /// `None` where they lie in row-major order, one after the other.
    pub strides: Option<Strides>,
}

/// The way through the elements of a tensor that does not lie in row-major order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Strides {
    /// Bytes of an element.
    pub size: usize,
    /// For each dimension its length, and the elements from one index to the next.
    pub dims: Vec<(usize, usize)>,
}

impl Shard {
    /// Maps a file of a folder.
    pub fn map(dir: &Path, file: &str, kind: ShardKind) -> Result<Shard> {
        let path = dir.join(file);
        let (handle, len) = files::open(&path)?;
        if len < 8 {
            let kind = match kind {
                ShardKind::Safetensors => "safetensors file",
                ShardKind::Pickle => "file of torch.save",
            };
            return Err(Error::shard(file, format!("{len} bytes are no {kind}; download it again")));
        }
        // SAFETY: the map is only read. Weights are not expected to be written to by others while they are read; if
        // that happens, tensors hold other numbers, and if the file is cut the system stops the program.
        let map = unsafe { Mmap::map(&handle) }.map_err(|source| Error::io(&path, source))?;
        Ok(Shard { file: file.to_string(), kind, source: ShardBytes::Map(map) })
    }

    /// Maps a file.
    pub fn open(path: &Path, kind: ShardKind) -> Result<Shard> {
        let dir = path.parent().unwrap_or(Path::new(""));
        match path.file_name().and_then(|name| name.to_str()) {
            Some(name) => Shard::map(dir, name, kind),
            None => Err(Error::io(path, std::io::ErrorKind::InvalidFilename.into())),
        }
    }

    /// A file that is part of the program.
    pub fn built_in(file: &str, bytes: &'static [u8]) -> Shard {
        Shard { file: file.to_string(), kind: ShardKind::Safetensors, source: ShardBytes::BuiltIn(bytes) }
    }

    /// The whole file.
    pub fn bytes(&self) -> &[u8] {
        match &self.source {
            ShardBytes::Map(map) => map,
            ShardBytes::BuiltIn(bytes) => bytes,
        }
    }

    /// Bytes of the file.
    pub fn len(&self) -> usize {
        self.bytes().len()
    }

    /// The tensors of the file, each checked to lie inside it.
    pub fn entries(&self) -> Result<Entries> {
        match self.kind {
            ShardKind::Safetensors => self.headed(),
            ShardKind::Pickle => {
                let entries = pickle::entries(&self.file, self.bytes());
                // The pickle of a large model is small, but it lies between tensors, and all storages were looked at.
                self.release(0, self.len());
                Ok(Entries { tensors: entries?, ..Entries::default() })
            }
        }
    }

    /// The beginning of a safetensors file that has these tensors, up to the first of them.
    pub fn header(&self, tensors: &[(String, Entry)]) -> &[u8] {
        let end = tensors.first().map_or(self.len(), |(_, first)| first.place.start);
        self.bytes().get(..end).unwrap_or_default()
    }

    /// The tensors of a safetensors header. Errors unless they lie one after the other, without holes, up to the file's
    /// end.
    fn headed(&self) -> Result<Entries> {
        let bytes = self.bytes();
        let bad = |reason: String| Error::shard(&self.file, format!("{reason}; download it again"));
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
        // That reader keeps the last of two tensors of one name.
        let twice = listed::name_twice(header).map_err(|error| bad(format!("bad header: {}", one_line(&error))))?;
        if let Some(name) = twice {
            return Err(bad(format!("bad header: {} is there twice", one_line(&name))));
        }
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
            if name.contains(is_obeyed) {
                return Err(bad(format!("the name {} holds control characters", one_line(&name.escape_debug()))));
            }
            let Some(dtype) = Dtype::from_safetensors(info.dtype) else {
                return Err(bad(format!("{name} has the type {}, which is not supported", info.dtype)));
            };
            let (start, end) = info.data_offsets;
            let len = end.checked_sub(start).filter(|_| end <= data.len());
            if len.is_none() || len != dtype.bytes_of(&info.shape) {
                return Err(bad(format!("{name} does not lie inside the file")));
            }
            let place = Extent { start: 8 + header.len() + start, len: end - start, strides: None };
            let entry = Entry { dtype, shape: info.shape.clone(), place };
            entries.push((name, entry));
        }
        let mut pairs: Vec<(String, String)> = metadata.metadata().clone().unwrap_or_default().into_iter().collect();
        pairs.sort_unstable();
        Ok(Entries { tensors: entries, metadata: pairs })
    }

    /// A copy of `len` bytes of a tensor's elements, in row-major order, from byte `offset` of them on; both are
    /// multiples of an element. `None` when that is out of range.
    pub fn read(&self, place: &Extent, offset: usize, len: usize) -> Option<Vec<u8>> {
        if offset.checked_add(len)? > place.len {
            return None;
        }
        match &place.strides {
            None => self.copy(place.start.checked_add(offset)?, len),
            Some(strides) => self.gather(place.start, strides, offset / strides.size, len / strides.size),
        }
    }

    /// Shows `see` `len` bytes of a tensor's elements in row-major order, from byte `offset` of them on, without copying
    /// them, at most `piece` bytes at a time, until it answers no; all three are multiples of an element. False when it did,
    /// where the elements lie in another order, and when that is out of range.
    pub fn look(
        &self,
        place: &Extent,
        offset: usize,
        len: usize,
        piece: usize,
        mut see: impl FnMut(&[u8]) -> bool,
    ) -> bool {
        /// Bytes after which pages are given back.
        const HELD: usize = 4 << 20;
        if place.strides.is_some() || offset.checked_add(len).is_none_or(|end| end > place.len) {
            return false;
        }
        let mut start = place.start.saturating_add(offset);
        let Some(bytes) = self.bytes().get(start..start.saturating_add(len)) else { return false };
        bytes.chunks(HELD.next_multiple_of(piece.max(1))).all(|held| {
            let seen = held.chunks(piece.max(1)).all(&mut see);
            self.release(start, held.len());
            start += held.len();
            seen
        })
    }

    /// A copy of `count` elements, in row-major order, from element `first` on.
    fn gather(&self, start: usize, Strides { size, dims }: &Strides, first: usize, count: usize) -> Option<Vec<u8>> {
        let bytes = self.bytes().get(start..)?;
        let mut index = vec![0; dims.len()];
        let mut rest = first;
        for (at, &(dim, _)) in index.iter_mut().zip(dims).rev() {
            *at = rest.checked_rem(dim)?;
            rest /= dim;
        }
        let mut copy = Vec::with_capacity(count * size);
        let mut end = 0;
        for _ in 0..count {
            let from = index.iter().zip(dims).map(|(at, (_, stride))| at * stride).sum::<usize>() * size;
            copy.extend_from_slice(bytes.get(from..from + size)?);
            end = end.max(from + size);
            for (at, &(dim, _)) in index.iter_mut().zip(dims).rev() {
                *at += 1;
                if *at < dim {
                    break;
                }
                *at = 0;
            }
        }
        self.release(start, end);
        Some(copy)
    }

    /// A copy of part of the file; `None` when it is out of range.
    fn copy(&self, start: usize, len: usize) -> Option<Vec<u8>> {
        let copy = self.bytes().get(start..start.checked_add(len)?)?.to_vec();
        self.release(start, len);
        Some(copy)
    }

    /// Prefetches a tensor: tells the system that it will be read soon.
    pub fn prefetch(&self, place: &Extent) {
        #[cfg(unix)]
        if let ShardBytes::Map(map) = &self.source
            && place.start < map.len()
        {
            let len = place.len.min(map.len() - place.start);
            // A refusal costs time, not correctness.
            map.advise_range(memmap2::Advice::WillNeed, place.start, len).unwrap_or(());
        }
        #[cfg(not(unix))]
        let _ = place;
    }

    /// Gives the pages of a part back to the system. Pages of mapped files that were touched count as memory of the
    /// process, and a walk through a large model would seem to hold all of it.
    fn release(&self, start: usize, len: usize) {
        #[cfg(unix)]
        if let ShardBytes::Map(map) = &self.source
            && len > 0
        {
            // Reading a page makes the system map those around it too, among them pages that were given back before: on
            // Linux 64 KiB at a time, and with a file system that keeps its cache in larger pieces all of a piece, 2 MiB
            // at most.
            const AROUND: usize = 2 << 20;
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

/// A message on one line, however hostile the file that it quotes.
pub(crate) fn one_line(message: &dyn Display) -> String {
    message.to_string().chars().map(|c| if is_obeyed(c) { ' ' } else { c }).take(300).collect()
}
