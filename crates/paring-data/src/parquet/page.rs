//! The pages of a Parquet column: levels, dictionaries and byte arrays.

use std::io::{self, Read};

use super::thrift::Thrift;
use crate::unpack::{self, Allowance, Packing};

/// Bytes that a page may unpack to. Writers make pages of a megabyte; a packed page can claim any size.
const MAX_PAGE: usize = 128 << 20;
/// Snappy's best: a copy of 64 bytes takes three.
const SNAPPY_RATIO: usize = 22;

/// How the pages of a column are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codec {
    None,
    Snappy,
    Gzip,
    Zstd,
}

pub(super) fn wrong(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

impl Codec {
    /// The codec of a number in a column's metadata.
    pub fn from_number(number: i64) -> io::Result<Self> {
        let name = match number {
            0 => return Ok(Codec::None),
            1 => return Ok(Codec::Snappy),
            2 => return Ok(Codec::Gzip),
            6 => return Ok(Codec::Zstd),
            3 => "LZO",
            4 => "Brotli",
            5 | 7 => "LZ4",
            _ => "an unknown codec",
        };
        Err(wrong(format!("packed with {name}, expected Snappy, gzip, Zstandard or nothing")))
    }

    fn unpack(self, packed: Vec<u8>, size: usize) -> io::Result<Vec<u8>> {
        match self {
            Codec::None if packed.len() == size => Ok(packed),
            Codec::None => Err(wrong(format!("a page of {} bytes says that it has {size}", packed.len()))),
            Codec::Snappy => {
                let stated = snap::raw::decompress_len(&packed).map_err(io::Error::other)?;
                if stated != size || size > packed.len().saturating_mul(SNAPPY_RATIO) {
                    return Err(wrong(format!("{} bytes of Snappy cannot hold a page of {size}", packed.len())));
                }
                snap::raw::Decoder::new().decompress_vec(&packed).map_err(io::Error::other)
            }
            Codec::Gzip => unpack::whole(&packed, Packing::Gzip, size),
            Codec::Zstd => unpack::whole(&packed, Packing::Zstd, size),
        }
    }
}

/// What a page's header says, as far as it matters here.
#[derive(Default)]
struct Header {
    kind: i64,
    unpacked: i64,
    packed: i64,
    values: i64,
    encoding: i64,
    /// Of the levels of a first-version page.
    level_encodings: [Option<i64>; 2],
    /// Bytes of definition and repetition levels of a second-version page.
    level_bytes: [i64; 2],
    /// A second-version page's values may be left unpacked.
    values_packed: bool,
}

const DATA: i64 = 0;
const DICTIONARY: i64 = 2;
const DATA_V2: i64 = 3;
const PLAIN: i64 = 0;
const PLAIN_DICTIONARY: i64 = 2;
const RLE: i64 = 3;
const RLE_DICTIONARY: i64 = 8;

fn header<R: Read>(thrift: &mut Thrift<R>) -> io::Result<Header> {
    let mut h = Header { kind: -1, values_packed: true, ..Header::default() };
    thrift.fields(|t, id, kind| {
        match id {
            1 => h.kind = t.int()?,
            2 => h.unpacked = t.int()?,
            3 => h.packed = t.int()?,
            5 | 7 | 8 => {
                let second = id == 8;
                t.fields(|t, id, kind| {
                    match (id, second) {
                        (1, _) => h.values = t.int()?,
                        (2, false) | (4, true) => h.encoding = t.int()?,
                        (3, false) if h.kind == DATA => h.level_encodings[0] = Some(t.int()?),
                        (4, false) if h.kind == DATA => h.level_encodings[1] = Some(t.int()?),
                        (5 | 6, true) => h.level_bytes[id as usize - 5] = t.int()?,
                        (7, true) => h.values_packed = kind == super::thrift::Kind::True,
                        _ => t.skip(kind)?,
                    }
                    Ok(())
                })?;
            }
            _ => t.skip(kind)?,
        }
        Ok(())
    })?;
    Ok(h)
}

/// Numbers of a few bits in runs and packed groups, read one by one.
#[derive(Default)]
struct Runs {
    /// Where the next byte lies, and where these end.
    at: usize,
    end: usize,
    bits: u32,
    /// Of the run: how many are left, and the value; `None` in a packed group.
    left: u64,
    value: Option<u32>,
    /// Bits of a packed group that were read, and how many of them are not used up.
    window: u64,
    filled: u32,
}

impl Runs {
    fn new(at: usize, end: usize, bits: u32) -> Self {
        Self { at, end, bits, ..Self::default() }
    }

    fn byte(&mut self, data: &[u8]) -> io::Result<u8> {
        let byte =
            data[..self.end].get(self.at).ok_or_else(|| wrong("a page that ends in the middle of its levels"))?;
        self.at += 1;
        Ok(*byte)
    }

    fn next(&mut self, data: &[u8]) -> io::Result<u32> {
        if self.bits == 0 {
            return Ok(0);
        }
        while self.left == 0 {
            let mut header = 0u64;
            for shift in (0..=63).step_by(7) {
                let byte = self.byte(data)?;
                header |= u64::from(byte & 0x7f) << shift;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            (self.window, self.filled) = (0, 0);
            if header & 1 == 1 {
                self.left = (header >> 1).saturating_mul(8);
                self.value = None;
            } else {
                self.left = header >> 1;
                let mut value = 0u32;
                for k in 0..self.bits.div_ceil(8) {
                    value |= u32::from(self.byte(data)?) << (8 * k);
                }
                self.value = Some(value);
            }
        }
        self.left -= 1;
        if let Some(value) = self.value {
            return Ok(value);
        }
        while self.filled < self.bits {
            self.window |= u64::from(self.byte(data)?) << self.filled;
            self.filled += 8;
        }
        let value = self.window & ((1 << self.bits) - 1);
        self.window >>= self.bits;
        self.filled -= self.bits;
        Ok(value as u32)
    }
}

/// Highest levels of a column: nothing repeated and nothing optional is 0 and 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Levels {
    pub repetition: u32,
    pub definition: u32,
}

fn width(highest: u32) -> u32 {
    32 - highest.leading_zeros()
}

/// A page's values, read one by one.
pub(super) struct Page {
    data: Vec<u8>,
    levels: Levels,
    repetition: Runs,
    definition: Runs,
    /// Numbers of entries of the dictionary; `None`: the values themselves.
    indices: Option<Runs>,
    at: usize,
    left: i64,
}

/// The values that pages refer to.
#[derive(Default)]
pub(super) struct Dictionary {
    data: Vec<u8>,
    /// Start and end of each.
    entries: Vec<(u32, u32)>,
}

/// One place in a column.
pub(super) struct Slot<'a> {
    /// 0 begins a row.
    pub repetition: u32,
    pub definition: u32,
    /// Absent where the definition is below the highest.
    pub value: Option<&'a [u8]>,
}

fn byte_array(data: &[u8], at: usize) -> io::Result<(usize, usize)> {
    let short = || wrong("a page that ends in the middle of a value");
    let len = data.get(at..).and_then(|rest| rest.first_chunk()).ok_or_else(short)?;
    let start = at + 4;
    let end = start.checked_add(u32::from_le_bytes(*len) as usize).filter(|&end| end <= data.len());
    Ok((start, end.ok_or_else(short)?))
}

/// Reads the next page that holds values; a dictionary goes into `dictionary`. `None` at the end. What pages unpack to
/// is taken from `allowance` first.
pub(super) fn next_page<R: Read>(
    source: &mut R,
    left: &mut u64,
    codec: Codec,
    levels: Levels,
    dictionary: &mut Dictionary,
    allowance: &mut Allowance,
) -> io::Result<Option<Page>> {
    while *left > 0 {
        let mut thrift = Thrift::new(&mut *source, *left);
        let header = header(&mut thrift)?;
        *left = thrift.left();
        let packed = u64::try_from(header.packed).ok().filter(|size| size <= left);
        let packed = packed.ok_or_else(|| wrong(format!("a page of {} bytes in the last {left}", header.packed)))?;
        let size = usize::try_from(header.unpacked).ok().filter(|&size| size <= MAX_PAGE);
        let size = size.ok_or_else(|| {
            wrong(format!("a page that unpacks to {} bytes, expected at most {MAX_PAGE}", header.unpacked))
        })?;
        allowance.spend(size as u64)?;
        let mut bytes = Vec::new();
        source.take(packed).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != packed {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        *left -= packed;
        match header.kind {
            DATA => return Page::first(&header, codec.unpack(bytes, size)?, levels).map(Some),
            DATA_V2 => return Page::second(&header, bytes, size, codec, levels).map(Some),
            DICTIONARY => {
                if !matches!(header.encoding, PLAIN | PLAIN_DICTIONARY) {
                    return Err(wrong(format!("a dictionary in encoding {}, expected plain", header.encoding)));
                }
                let data = codec.unpack(bytes, size)?;
                let (mut entries, mut at) = (Vec::new(), 0);
                while at < data.len() {
                    let entry = byte_array(&data, at)?;
                    // A page has no more than 32 bits of bytes.
                    entries.push((entry.0 as u32, entry.1 as u32));
                    at = entry.1;
                }
                *dictionary = Dictionary { data, entries };
            }
            _ => {}
        }
    }
    Ok(None)
}

impl Page {
    fn first(header: &Header, data: Vec<u8>, levels: Levels) -> io::Result<Self> {
        let mut at = 0;
        let mut runs = |highest: u32, encoding: Option<i64>| -> io::Result<Runs> {
            if highest == 0 {
                return Ok(Runs::default());
            }
            if encoding != Some(RLE) {
                return Err(wrong(format!("levels in encoding {encoding:?}, expected {RLE} (RLE)")));
            }
            let (start, end) = byte_array(&data, at)?;
            at = end;
            Ok(Runs::new(start, end, width(highest)))
        };
        let repetition = runs(levels.repetition, header.level_encodings[1])?;
        let definition = runs(levels.definition, header.level_encodings[0])?;
        Self { data, levels, repetition, definition, indices: None, at, left: header.values }.with_encoding(header)
    }

    fn second(header: &Header, mut bytes: Vec<u8>, size: usize, codec: Codec, levels: Levels) -> io::Result<Self> {
        let lengths = header.level_bytes.map(|len| usize::try_from(len).unwrap_or(usize::MAX));
        let [definition, repetition] = lengths;
        let both = definition.saturating_add(repetition);
        if both > bytes.len() || both > size {
            return Err(wrong(format!("levels of {both} bytes in a page of {}", bytes.len())));
        }
        if header.values_packed && codec != Codec::None && bytes.len() > both {
            let values = codec.unpack(bytes.split_off(both), size - both)?;
            bytes.extend_from_slice(&values);
        }
        let page = Self {
            data: bytes,
            levels,
            repetition: Runs::new(0, repetition, width(levels.repetition)),
            definition: Runs::new(repetition, both, width(levels.definition)),
            indices: None,
            at: both,
            left: header.values,
        };
        page.with_encoding(header)
    }

    fn with_encoding(mut self, header: &Header) -> io::Result<Self> {
        match header.encoding {
            PLAIN => {}
            // A page of nulls may have no byte left for the width.
            PLAIN_DICTIONARY | RLE_DICTIONARY => {
                let bits = self.data.get(self.at).copied().unwrap_or(0);
                if bits > 32 {
                    return Err(wrong(format!("{bits} bits for an entry of a dictionary, expected at most 32")));
                }
                self.indices = Some(Runs::new(self.at + 1, self.data.len(), bits.into()));
            }
            other => {
                let name = match other {
                    6 => " (DELTA_LENGTH_BYTE_ARRAY)",
                    7 => " (DELTA_BYTE_ARRAY)",
                    _ => "",
                };
                return Err(wrong(format!("values in encoding {other}{name}, expected plain or a dictionary")));
            }
        }
        Ok(self)
    }

    /// Whether all places were read.
    pub fn is_over(&self) -> bool {
        self.left <= 0
    }

    /// The next place, of a page that is not over.
    pub fn next<'a>(&'a mut self, dictionary: &'a Dictionary) -> io::Result<Slot<'a>> {
        self.left -= 1;
        let repetition = self.repetition.next(&self.data)?;
        let definition = self.definition.next(&self.data)?;
        if repetition > self.levels.repetition || definition > self.levels.definition {
            return Err(wrong("a level above its column's highest"));
        }
        if definition < self.levels.definition {
            return Ok(Slot { repetition, definition, value: None });
        }
        let value = match &mut self.indices {
            None => {
                let (start, end) = byte_array(&self.data, self.at)?;
                self.at = end;
                &self.data[start..end]
            }
            Some(runs) => {
                let index = runs.next(&self.data)?;
                let entry = dictionary.entries.get(index as usize);
                let there = dictionary.entries.len();
                let (start, end) = *entry.ok_or_else(|| wrong(format!("entry {index} of a dictionary of {there}")))?;
                &dictionary.data[start as usize..end as usize]
            }
        };
        Ok(Slot { repetition, definition, value: Some(value) })
    }
}
