//! The values of a page, in the encodings that texts and integers have.

use std::io;

use super::deltas::Deltas;
use super::runs::Runs;
use super::wrong;

pub(super) const PLAIN: i64 = 0;
pub(super) const PLAIN_DICTIONARY: i64 = 2;
const DELTA_BINARY_PACKED: i64 = 5;
const DELTA_LENGTH_BYTE_ARRAY: i64 = 6;
const DELTA_BYTE_ARRAY: i64 = 7;
const RLE_DICTIONARY: i64 = 8;

/// The values that the pages of a column refer to.
#[derive(Default)]
pub(super) struct Dictionary {
    data: Vec<u8>,
    /// Start and end of each.
    entries: Vec<(u32, u32)>,
}

impl Dictionary {
    /// That of an unpacked page in plain encoding, of at most 4 GiB; each value has `width` bytes, or its length before it.
    pub fn new(data: Vec<u8>, width: Option<usize>) -> io::Result<Self> {
        let (mut entries, mut at) = (Vec::new(), 0);
        while at < data.len() {
            let (start, end) = match width {
                Some(width) => (at, end_of(&data, at, width as i64)?),
                None => byte_array(&data, at)?,
            };
            entries.push((start as u32, end as u32));
            at = end;
        }
        Ok(Self { data, entries })
    }

    fn get(&self, index: u32) -> io::Result<&[u8]> {
        let entry = self.entries.get(index as usize);
        let (start, end) =
            *entry.ok_or_else(|| wrong(format!("entry {index} of a dictionary of {}", self.entries.len())))?;
        Ok(&self.data[start as usize..end as usize])
    }
}

/// Start and end of the byte array whose length lies at `data[at..at + 4]`.
pub(super) fn byte_array(data: &[u8], at: usize) -> io::Result<(usize, usize)> {
    let len = data.get(at..).and_then(|rest| rest.first_chunk()).ok_or_else(short)?;
    let start = at + 4;
    Ok((start, end_of(data, start, u32::from_le_bytes(*len).into())?))
}

fn short() -> io::Error {
    wrong("a page that ends in the middle of a value")
}

/// The end of `len` bytes from `start`, which must lie within `data`.
fn end_of(data: &[u8], start: usize, len: i64) -> io::Result<usize> {
    let end = usize::try_from(len).ok().and_then(|len| start.checked_add(len));
    end.filter(|&end| end <= data.len()).ok_or_else(short)
}

/// The values of a page that are not null, read one by one.
pub(super) enum Values {
    /// Each after its length, from here.
    Plain(usize),
    /// Each of so many bytes, from here.
    Fixed { at: usize, width: usize },
    /// DELTA_BINARY_PACKED: integers, and the bytes of the last one.
    Integers { deltas: Deltas, width: usize, bytes: [u8; 8] },
    /// Entries of the dictionary.
    Indices(Runs),
    /// DELTA_LENGTH_BYTE_ARRAY: all lengths, then all texts, from here.
    Lengths(Deltas, usize),
    /// DELTA_BYTE_ARRAY: the bytes that a text shares with the one before, then the rest as `Lengths` has it.
    Prefixes { shared: Deltas, rest: Deltas, at: usize, text: Vec<u8> },
}

impl Values {
    /// Those of `data[at..]`, of `width` bytes each, or of any number of them.
    pub fn new(encoding: i64, data: &[u8], at: usize, width: Option<usize>) -> io::Result<Self> {
        // A page of nulls may have no byte left.
        let bits = data.get(at).copied();
        match (encoding, bits) {
            (PLAIN, _) => Ok(width.map_or(Values::Plain(at), |width| Values::Fixed { at, width })),
            (PLAIN_DICTIONARY | RLE_DICTIONARY, bits) => {
                let bits = bits.unwrap_or(0);
                if bits > 32 {
                    return Err(wrong(format!("{bits} bits for an entry of a dictionary, expected at most 32")));
                }
                Ok(Values::Indices(Runs::new(at + 1, data.len(), bits.into())))
            }
            (DELTA_BINARY_PACKED, bits) if let Some(width) = width => match bits {
                None => Ok(Values::Fixed { at, width }),
                Some(_) => Ok(Values::Integers { deltas: Deltas::open(data, at)?.0, width, bytes: [0; 8] }),
            },
            (other, _) if width.is_some() => {
                Err(wrong(format!("integers in encoding {other}, expected plain, a dictionary or deltas")))
            }
            (DELTA_LENGTH_BYTE_ARRAY | DELTA_BYTE_ARRAY, None) => Ok(Values::Plain(at)),
            (DELTA_LENGTH_BYTE_ARRAY, _) => Deltas::open(data, at).map(|(lengths, at)| Values::Lengths(lengths, at)),
            (DELTA_BYTE_ARRAY, _) => {
                let (shared, at) = Deltas::open(data, at)?;
                let (rest, at) = Deltas::open(data, at)?;
                Ok(Values::Prefixes { shared, rest, at, text: Vec::new() })
            }
            (other, _) => Err(wrong(format!("values in encoding {other}, expected plain, a dictionary or deltas"))),
        }
    }

    /// The next value of the page's `data`. The texts of a page of prefixes are no longer than the page.
    pub fn next<'a>(&'a mut self, data: &'a [u8], dictionary: &'a Dictionary) -> io::Result<&'a [u8]> {
        match self {
            Values::Plain(at) => {
                let (start, end) = byte_array(data, *at)?;
                *at = end;
                Ok(&data[start..end])
            }
            Values::Fixed { at, width } => {
                let (start, end) = (*at, end_of(data, *at, *width as i64)?);
                *at = end;
                Ok(&data[start..end])
            }
            Values::Integers { deltas, width, bytes } => {
                *bytes = deltas.next(data)?.to_le_bytes();
                Ok(&bytes[..*width])
            }
            Values::Indices(runs) => dictionary.get(runs.next(data)?),
            Values::Lengths(lengths, at) => {
                let (start, end) = (*at, end_of(data, *at, lengths.next(data)?)?);
                *at = end;
                Ok(&data[start..end])
            }
            Values::Prefixes { shared, rest, at, text } => {
                let kept = shared.next(data)?;
                let there = text.len();
                let kept = usize::try_from(kept).ok().filter(|&kept| kept <= there);
                text.truncate(
                    kept.ok_or_else(|| wrong(format!("a text that shares more than the {there} bytes before")))?,
                );
                let (start, end) = (*at, end_of(data, *at, rest.next(data)?)?);
                *at = end;
                text.extend_from_slice(&data[start..end]);
                Ok(text)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn integers(encoding: i64, data: &[u8], width: usize, count: usize) -> io::Result<Vec<i64>> {
        let (mut values, none) = (Values::new(encoding, data, 0, Some(width))?, Dictionary::default());
        let number = |bytes: &[u8]| {
            let mut eight = [if bytes[width - 1] > 127 { 0xff } else { 0 }; 8];
            eight[..width].copy_from_slice(bytes);
            i64::from_le_bytes(eight)
        };
        (0..count).map(|_| values.next(data, &none).map(number)).collect()
    }

    #[test]
    fn integers_in_their_encodings() {
        let plain = [7, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(integers(PLAIN, &plain, 4, 2).unwrap(), [7, -1]);
        assert!(integers(PLAIN, &plain, 4, 3).is_err() && integers(PLAIN, &plain[..7], 4, 2).is_err());
        // Blocks of 128 by 4 miniblocks; three numbers, the first 7; then -2 + 0 and -2 + 3, in two bits each.
        let deltas = [0x80, 1, 4, 3, 14, 3, 2, 0, 0, 0, 0x0c, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(integers(DELTA_BINARY_PACKED, &deltas, 8, 3).unwrap(), [7, 5, 6]);
        assert_eq!(integers(DELTA_BINARY_PACKED, &deltas, 4, 3).unwrap(), [7, 5, 6]);
        assert!(integers(DELTA_BINARY_PACKED, &deltas, 8, 4).is_err());
        let error = integers(DELTA_BYTE_ARRAY, &deltas, 8, 1).unwrap_err().to_string();
        assert!(error.contains("integers in encoding 7, expected plain, a dictionary or deltas"), "{error}");
    }

    #[test]
    fn dictionaries_of_integers() {
        let dictionary = Dictionary::new(vec![1, 0, 0, 0, 2, 0, 0, 0], Some(4)).unwrap();
        assert_eq!((dictionary.get(1).unwrap(), dictionary.get(2).is_err()), (&[2, 0, 0, 0][..], true));
        assert!(Dictionary::new(vec![1, 0, 0, 0, 2], Some(4)).is_err());
    }
}
