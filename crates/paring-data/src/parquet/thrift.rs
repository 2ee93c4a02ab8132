//! Thrift's compact protocol, as far as Parquet's metadata needs it: structs are visited field by field, and the
//! rest is skipped.

use std::io::{self, Read};

/// Structs inside structs at most; Parquet's own nest five deep.
const MAX_DEPTH: usize = 32;

/// A value's type on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    True,
    False,
    Byte,
    Int,
    Double,
    Binary,
    List,
    Map,
    Struct,
}

/// A reader that gives an error when more is asked for than `left` bytes.
pub(super) struct Thrift<R> {
    source: R,
    left: u64,
    depth: usize,
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl<R: Read> Thrift<R> {
    /// Reads from `source`, `limit` bytes at most.
    pub fn new(source: R, limit: u64) -> Self {
        Self { source, left: limit, depth: 0 }
    }

    /// Bytes that may still be read.
    pub fn left(&self) -> u64 {
        self.left
    }

    fn take(&mut self, count: u64) -> io::Result<()> {
        self.left = self.left.checked_sub(count).ok_or_else(|| wrong("metadata that continues past its end"))?;
        Ok(())
    }

    fn byte(&mut self) -> io::Result<u8> {
        self.take(1)?;
        let mut byte = [0];
        self.source.read_exact(&mut byte)?;
        Ok(byte[0])
    }

    fn varint(&mut self) -> io::Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(wrong("a number of more than 64 bits"))
    }

    /// An integer of any width.
    pub fn int(&mut self) -> io::Result<i64> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// A string.
    pub fn string(&mut self) -> io::Result<String> {
        let len = self.varint()?;
        self.take(len)?;
        let mut bytes = Vec::new();
        (&mut self.source).take(len).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        String::from_utf8(bytes).map_err(|_| wrong("a name that is not UTF-8"))
    }

    fn wire(nibble: u8) -> io::Result<Wire> {
        Ok(match nibble {
            1 => Wire::True,
            2 => Wire::False,
            3 => Wire::Byte,
            4..=6 => Wire::Int,
            7 => Wire::Double,
            8 => Wire::Binary,
            9 | 10 => Wire::List,
            11 => Wire::Map,
            12 => Wire::Struct,
            _ => return Err(wrong("a value of an unknown type")),
        })
    }

    fn deeper<T>(&mut self, inside: impl FnOnce(&mut Self) -> io::Result<T>) -> io::Result<T> {
        if self.depth == MAX_DEPTH {
            return Err(wrong("metadata nested too deeply"));
        }
        self.depth += 1;
        let result = inside(self);
        self.depth -= 1;
        result
    }

    /// A struct: `see` is shown each field's number and type, and must read or [`Thrift::skip`] its value.
    pub fn fields(&mut self, mut see: impl FnMut(&mut Self, i64, Wire) -> io::Result<()>) -> io::Result<()> {
        self.deeper(|this| {
            let mut id = 0i64;
            loop {
                let header = this.byte()?;
                if header == 0 {
                    return Ok(());
                }
                let step = i64::from(header >> 4);
                id = if step == 0 { this.int()? } else { id.saturating_add(step) };
                see(this, id, Self::wire(header & 15)?)?;
            }
        })
    }

    /// A list: `see` is called for each element, with its type.
    pub fn list(&mut self, mut see: impl FnMut(&mut Self, Wire) -> io::Result<()>) -> io::Result<()> {
        let header = self.byte()?;
        let wire = Self::wire(header & 15)?;
        let count = if header >> 4 == 15 { self.varint()? } else { u64::from(header >> 4) };
        // An element takes a byte at least: the count cannot keep this busy for longer than the metadata lasts.
        self.deeper(|this| (0..count).try_for_each(|_| see(this, wire)))
    }

    /// Reads past a field's value.
    pub fn skip(&mut self, wire: Wire) -> io::Result<()> {
        match wire {
            Wire::True | Wire::False => Ok(()),
            _ => self.skip_element(wire),
        }
    }

    /// As [`Thrift::skip`], in a list, where a truth value has a byte of its own.
    fn skip_element(&mut self, wire: Wire) -> io::Result<()> {
        match wire {
            Wire::True | Wire::False | Wire::Byte => self.byte().map(drop),
            Wire::Int => self.varint().map(drop),
            Wire::Double => self.discard(8),
            Wire::Binary => {
                let len = self.varint()?;
                self.discard(len)
            }
            Wire::List => self.list(|this, wire| this.skip_element(wire)),
            Wire::Struct => self.fields(|this, _, wire| this.skip(wire)),
            Wire::Map => {
                let count = self.varint()?;
                if count == 0 {
                    return Ok(());
                }
                let kinds = self.byte()?;
                let (key, value) = (Self::wire(kinds >> 4)?, Self::wire(kinds & 15)?);
                self.deeper(|this| {
                    (0..count).try_for_each(|_| this.skip_element(key).and_then(|()| this.skip_element(value)))
                })
            }
        }
    }

    fn discard(&mut self, count: u64) -> io::Result<()> {
        self.take(count)?;
        let gone = io::copy(&mut (&mut self.source).take(count), &mut io::sink())?;
        if gone == count { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_lists_and_what_is_skipped() {
        // Field 1: -3; 2: a list of two truth values; 3: true; 5: a map {1: "ab"}; 40: a double; 41: "xyz"; 42: an empty
        // struct.
        let bytes = [
            0x15, 5, 0x19, 0x21, 1, 2, 0x11, 0x2b, 1, 0x58, 2, 2, b'a', b'b', 0x07, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x18,
            3, b'x', b'y', b'z', 0x1c, 0, 0,
        ];
        let (mut number, mut text, mut seen) = (0, String::new(), Vec::new());
        let mut thrift = Thrift::new(&bytes[..], bytes.len() as u64);
        thrift
            .fields(|t, id, kind| {
                seen.push((id, kind));
                match id {
                    1 => number = t.int()?,
                    41 => text = t.string()?,
                    _ => t.skip(kind)?,
                }
                Ok(())
            })
            .unwrap();
        let ids: Vec<i64> = seen.iter().map(|(id, _)| *id).collect();
        assert_eq!((number, text.as_str(), ids), (-3, "xyz", vec![1, 2, 3, 5, 40, 41, 42]));
        assert_eq!(thrift.left(), 0);
    }

    #[test]
    fn what_is_no_metadata() {
        let skip = |bytes: &[u8]| Thrift::new(bytes, bytes.len() as u64).skip(Wire::Struct).unwrap_err().to_string();
        assert!(skip(&[0x1d, 0]).contains("unknown type"));
        assert!(skip(&[0x18, 100, b'a', 0]).contains("past its end"), "a string longer than the file");
        assert!(skip(&[0x19, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x0f]).contains("past its end"), "four billion structs");
        assert!(skip(&[0x1c; 100]).contains("nested too deeply"));
        assert!(skip(&[0x15, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).contains("64 bits"));
        assert!(skip(&[]).contains("past its end"));
    }
}
