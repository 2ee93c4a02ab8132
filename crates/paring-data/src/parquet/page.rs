//! The pages of a column: levels and values.

use std::io::{self, Read};

use super::codec::Codec;
use super::header::{DATA, DATA_V2, DICTIONARY, Header};
use super::runs::Runs;
use super::thrift::Thrift;
use super::values::{Dictionary, PLAIN, PLAIN_DICTIONARY, Values, byte_array};
use super::wrong;
use crate::unpack::Allowance;

/// Bytes that a page may unpack to. Writers make pages of a megabyte; a packed page can claim any size.
const MAX_PAGE: usize = 128 << 20;
/// The encoding of a first-version page's levels.
const RLE: i64 = 3;

/// Highest levels of a column: nothing repeated and nothing optional is 0 and 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Levels {
    pub repetition: u32,
    pub definition: u32,
}

/// Properties of a page that its header does not say.
#[derive(Clone, Copy)]
pub(super) struct Coding {
    pub codec: Codec,
    pub levels: Levels,
    /// Bytes of a value, where all have the same.
    pub width: Option<usize>,
}

/// Bits that hold levels up to `highest`.
fn width(highest: u32) -> u32 {
    32 - highest.leading_zeros()
}

/// A page of values, read one by one.
pub(super) struct Page {
    data: Vec<u8>,
    levels: Levels,
    repetition: Runs,
    definition: Runs,
    values: Values,
    left: i64,
}

/// One place in a column.
pub(super) struct Slot<'a> {
    /// 0 begins a row.
    pub repetition: u32,
    pub definition: u32,
    /// Absent where the definition is below the highest.
    pub value: Option<&'a [u8]>,
}

/// Reads the next page that holds values; a dictionary goes into `dictionary`. `None` at the end. The size that a page
/// unpacks to is taken from `allowance` before anything is allocated for it.
pub(super) fn next_page<R: Read>(
    source: &mut R,
    left: &mut u64,
    coding: Coding,
    dictionary: &mut Dictionary,
    allowance: &mut Allowance,
) -> io::Result<Option<Page>> {
    while *left > 0 {
        let mut thrift = Thrift::new(&mut *source, *left);
        let header = Header::read(&mut thrift)?;
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
            DATA => return Page::first(&header, coding.codec.unpack(bytes, size)?, coding).map(Some),
            DATA_V2 => return Page::second(&header, bytes, size, coding).map(Some),
            DICTIONARY => {
                if !matches!(header.encoding, PLAIN | PLAIN_DICTIONARY) {
                    return Err(wrong(format!("a dictionary in encoding {}, expected plain", header.encoding)));
                }
                *dictionary = Dictionary::new(coding.codec.unpack(bytes, size)?, coding.width)?;
            }
            _ => {}
        }
    }
    Ok(None)
}

impl Page {
    /// A first-version page, whose levels are packed with its values.
    fn first(header: &Header, data: Vec<u8>, coding: Coding) -> io::Result<Self> {
        let levels = coding.levels;
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
        let values = Values::new(header.encoding, &data, at, coding.width)?;
        Ok(Self { data, levels, repetition, definition, values, left: header.values })
    }

    /// A second-version page, whose levels come first and are not packed.
    fn second(header: &Header, mut bytes: Vec<u8>, size: usize, coding: Coding) -> io::Result<Self> {
        let Coding { codec, levels, width: bytes_each } = coding;
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
        Ok(Self {
            levels,
            repetition: Runs::new(0, repetition, width(levels.repetition)),
            definition: Runs::new(repetition, both, width(levels.definition)),
            values: Values::new(header.encoding, &bytes, both, bytes_each)?,
            data: bytes,
            left: header.values,
        })
    }

    /// True after the last place.
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
        let value = (definition == self.levels.definition).then(|| self.values.next(&self.data, dictionary));
        Ok(Slot { repetition, definition, value: value.transpose()? })
    }
}
