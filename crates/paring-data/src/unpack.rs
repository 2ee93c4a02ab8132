//! Files of lines, as they are or packed with gzip or Zstandard, read one line at a time.

use std::fmt::Display;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use paring_format::files;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use crate::{Error, Result, encoding};

/// Bytes of a line at most. A document of a text collection takes kilobytes; a packed file can hold a line of any size.
pub(super) const MAX_LINE: usize = 64 << 20;
/// A packed file may unpack to this many times its size, which text never does, …
const MAX_RATIO: u64 = 200;
/// … or to this many bytes, so that tiny files of repeated words can be read.
const ALWAYS: u64 = 64 << 20;

/// The compression of a file of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    None,
    Gzip,
    Zstd,
}

/// The bytes that a file of some size may still unpack to.
pub(super) struct Allowance {
    left: u64,
    all: u64,
}

impl Allowance {
    pub fn new(size: u64) -> Self {
        let all = size.saturating_mul(MAX_RATIO).max(ALWAYS);
        Self { left: all, all }
    }

    /// Uses up some bytes; an error when there are not so many left.
    pub fn spend(&mut self, bytes: u64) -> io::Result<()> {
        self.left = self.left.checked_sub(bytes).ok_or_else(|| {
            let mib = self.all >> 20;
            io::Error::other(format!(
                "it unpacks to more than {mib} MiB and {MAX_RATIO} times its size; unpack it first if this is right"
            ))
        })?;
        Ok(())
    }
}

/// A reader of unpacked bytes that fails once they exceed its allowance.
struct Bounded<R> {
    inner: R,
    allowance: Allowance,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.allowance.spend(read as u64)?;
        Ok(read)
    }
}

/// The unpacked bytes of a file.
pub(super) struct Unpacked<'a> {
    path: &'a Path,
    packing: Packing,
    pub reader: Box<dyn BufRead>,
}

impl<'a> Unpacked<'a> {
    /// Opens a file. Errors when it cannot be read.
    pub fn open(path: &'a Path, packing: Packing) -> Result<Self> {
        let (file, size) = files::open(path)?;
        // Nothing unpacks to nothing, as in Python.
        let packing = if size == 0 { Packing::None } else { packing };
        let file = BufReader::with_capacity(1 << 16, file);
        let inner: Box<dyn Read> = match packing {
            Packing::None => Box::new(file),
            Packing::Gzip => Box::new(MultiGzDecoder::new(file)),
            Packing::Zstd => Box::new(Zstd::new(file)),
        };
        let reader = BufReader::with_capacity(1 << 16, Bounded { inner, allowance: Allowance::new(size) });
        Ok(Self { path, packing, reader: Box::new(reader) })
    }

    /// The same without the byte order mark that programs of Windows put first. Errors on the mark of another encoding.
    pub fn without_mark(mut self) -> Result<Self> {
        let mut start = Vec::new();
        (&mut self.reader).take(4).read_to_end(&mut start).map_err(|e| self.failed("line 1", &e))?;
        if let Some(name) = encoding::wider(&start) {
            return Err(self.bad(encoding::not_utf8_but(name)));
        }
        let text = start.strip_prefix(encoding::MARK).unwrap_or(&start).to_vec();
        self.reader = Box::new(Cursor::new(text).chain(self.reader));
        Ok(self)
    }

    /// An error about the content.
    pub fn bad(&self, reason: impl Display) -> Error {
        Error::data(self.path.display().to_string(), reason.to_string())
    }

    /// The error of a read at a place.
    pub fn failed(&self, place: &str, error: &io::Error) -> Error {
        match self.packing {
            Packing::None => {
                Error::Io { path: self.path.to_path_buf(), source: io::Error::new(error.kind(), error.to_string()) }
            }
            Packing::Gzip => {
                self.bad(format!("{place}: cannot be unpacked as gzip: {error}; pack or download it again"))
            }
            Packing::Zstd => {
                self.bad(format!("{place}: cannot be unpacked as Zstandard: {error}; pack or download it again"))
            }
        }
    }

    /// Shows each line, without its end, to `see`, with its number from 1, until `see` returns `false`.
    ///
    /// Errors when the file cannot be read or unpacked, or has a line of more than 64 MiB.
    pub fn each_line(mut self, see: &mut dyn FnMut(usize, &[u8]) -> Result<bool>) -> Result<()> {
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            // One byte more than a line may have, and its end.
            let read = (&mut self.reader).take(MAX_LINE as u64 + 2).read_until(b'\n', &mut line);
            if read.map_err(|e| self.failed(&format!("line {number}"), &e))? == 0 {
                break;
            }
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            if line.len() > MAX_LINE {
                let most = MAX_LINE >> 20;
                return Err(self.bad(format!("line {number}: more than {most} MiB long; expected one document a line")));
            }
            if !see(number, &line)? {
                break;
            }
        }
        Ok(())
    }
}

/// The frames of a Zstandard file, one after the other, with their checksums compared.
struct Zstd<R> {
    source: R,
    decoder: FrameDecoder,
    /// A frame was begun, and not all of it was given out.
    inside: bool,
}

/// The beginning of a frame with a window of 1 KiB.
const SMALL_FRAME: [u8; 6] = [0x28, 0xb5, 0x2f, 0xfd, 0, 0];

impl<R: BufRead> Zstd<R> {
    fn new(source: R) -> Self {
        let mut decoder = FrameDecoder::new();
        // The decoder checks the window (100 MiB at most) of every frame but its first, so that is one of ours.
        let begun = decoder.reset(&SMALL_FRAME[..]);
        debug_assert!(begun.is_ok());
        Self { source, decoder, inside: false }
    }

    /// Begins the next frame that holds data; `false` at the end of the file.
    fn begin(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.decoder.reset(&mut self.source) {
                Ok(()) => {
                    self.inside = true;
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    let skipped = io::copy(&mut (&mut self.source).take(length.into()), &mut io::sink())?;
                    if skipped < length.into() {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(e) => return Err(damaged(e)),
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.inside && !self.begin()? {
                return Ok(0);
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                let some = BlockDecodingStrategy::UptoBlocks(1);
                self.decoder.decode_blocks(&mut self.source, some).map_err(damaged)?;
            }
            let read = self.decoder.read(buffer)?;
            if read > 0 {
                return Ok(read);
            }
            let stated = self.decoder.get_checksum_from_data();
            if stated.is_some() && stated != self.decoder.get_calculated_checksum() {
                return Err(io::Error::other("a frame's checksum does not fit its content"));
            }
            self.inside = false;
        }
    }
}

/// The error of a damaged frame, without the names of types around its words.
fn damaged(error: FrameDecoderError) -> io::Error {
    use FrameDecoderError::{FailedToInitialize, FrameHeaderError, ReadFrameHeaderError};
    match error {
        ReadFrameHeaderError(reason) => io::Error::other(reason),
        FrameHeaderError(reason) | FailedToInitialize(reason) => io::Error::other(reason),
        reason => io::Error::other(reason),
    }
}

/// All that `packed` unpacks to, which must be `expected` bytes.
///
/// Nothing is allocated for a stated size: the result grows with what there is.
pub(super) fn whole(packed: &[u8], packing: Packing, expected: usize) -> io::Result<Vec<u8>> {
    let mut reader: Box<dyn Read + '_> = match packing {
        Packing::None => Box::new(packed),
        Packing::Gzip => Box::new(MultiGzDecoder::new(packed)),
        Packing::Zstd => Box::new(Zstd::new(packed)),
    };
    exactly(&mut reader, expected)
}

/// All that `reader` gives, which must be `expected` bytes, likewise.
pub(super) fn exactly(reader: &mut dyn Read, expected: usize) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    reader.take(expected as u64 + 1).read_to_end(&mut out)?;
    if out.len() != expected {
        let more = if out.len() > expected { "more than that" } else { "less" };
        return Err(io::Error::other(format!("it should unpack to {expected} bytes, got {more}")));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    fn lines(bytes: &[u8], packing: Packing) -> Result<Vec<String>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lines");
        std::fs::write(&path, bytes).unwrap();
        let mut found = Vec::new();
        Unpacked::open(&path, packing)?.each_line(&mut |number, line| {
            found.push(format!("{number}:{}", String::from_utf8_lossy(line)));
            Ok(number < 4)
        })?;
        Ok(found)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        compress_to_vec(bytes, CompressionLevel::Fastest)
    }

    #[test]
    fn every_packing_has_the_same_lines() {
        let text = b"one\n\ntwo\r\nthree\nnot asked for\n";
        let want = ["1:one", "2:", "3:two\r", "4:three"];
        assert_eq!(lines(text, Packing::None).unwrap(), want);
        assert_eq!(lines(&gzip(text), Packing::Gzip).unwrap(), want);
        assert_eq!(lines(&zstd(text), Packing::Zstd).unwrap(), want);
        assert_eq!(lines(b"no end", Packing::None).unwrap(), ["1:no end"]);
        for packing in [Packing::None, Packing::Gzip, Packing::Zstd] {
            assert!(lines(b"", packing).unwrap().is_empty());
        }
    }

    /// Large packed files are often made of pieces that were packed in parallel.
    #[test]
    fn files_in_pieces() {
        let want = ["1:one", "2:two"];
        assert_eq!(lines(&[gzip(b"one\nt"), gzip(b"wo\n")].concat(), Packing::Gzip).unwrap(), want);
        let skipped = [&0x184D_2A50_u32.to_le_bytes()[..], &3u32.to_le_bytes(), b"abc"].concat();
        let pieces = [skipped.clone(), zstd(b"one\nt"), skipped, zstd(b"wo\n")].concat();
        assert_eq!(lines(&pieces, Packing::Zstd).unwrap(), want);
    }

    #[test]
    fn damage_is_told() {
        let text: String = (0..4000).map(|i| format!("{} words\n", i * 7919 % 4001)).collect();
        for (packing, packed) in [(Packing::Gzip, gzip(text.as_bytes())), (Packing::Zstd, zstd(text.as_bytes()))] {
            let cut = whole(&packed[..packed.len() / 2], packing, text.len());
            assert!(cut.is_err(), "{packing:?}: cut in half");
            let mut bent = packed.clone();
            let last = bent.len() - 6;
            bent[last] ^= 0x55;
            assert!(whole(&bent, packing, text.len()).is_err(), "{packing:?}: a changed byte");
            assert!(whole(&packed, packing, text.len() - 1).is_err(), "{packing:?}: more than it says");
            assert!(whole(&packed, packing, text.len() + 1).is_err(), "{packing:?}: less than it says");
            assert_eq!(whole(&packed, packing, text.len()).unwrap(), text.as_bytes());
        }
        let error = lines(b"no gzip", Packing::Gzip).unwrap_err().to_string();
        assert!(error.contains("line 1: cannot be unpacked as gzip"), "{error}");
        let error = lines(b"no zstd either", Packing::Zstd).unwrap_err().to_string();
        assert!(error.contains("line 1: cannot be unpacked as Zstandard"), "{error}");
    }

    #[test]
    fn bombs() {
        let long = gzip(&vec![b' '; MAX_LINE + 1]);
        let error = lines(&long, Packing::Gzip).unwrap_err().to_string();
        assert!(error.contains("line 1:"), "{error}");
        let short_lines = gzip(&b"\n\n\n\n".repeat((ALWAYS as usize) / 4 + 1));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lines.gz");
        std::fs::write(&path, short_lines).unwrap();
        let error =
            Unpacked::open(&path, Packing::Gzip).unwrap().each_line(&mut |_, _| Ok(true)).unwrap_err().to_string();
        assert!(error.contains("more than 64 MiB and 200 times its size"), "{error}");
    }
}
