//! The headers of pages.

use std::io::{self, Read};

use super::thrift::{Thrift, Wire};

/// The kinds of pages.
pub(super) const DATA: i64 = 0;
pub(super) const DICTIONARY: i64 = 2;
pub(super) const DATA_V2: i64 = 3;

/// A page's header, as far as text needs it. Nothing of it is checked.
#[derive(Default)]
pub(super) struct Header {
    pub kind: i64,
    /// Bytes that the page unpacks to, and those it takes in the file.
    pub unpacked: i64,
    pub packed: i64,
    pub values: i64,
    pub encoding: i64,
    /// Encodings of a first-version page's definition and repetition levels.
    pub level_encodings: [Option<i64>; 2],
    /// Bytes of a second-version page's definition and repetition levels.
    pub level_bytes: [i64; 2],
    /// False where a second-version page leaves its values unpacked.
    pub values_packed: bool,
}

impl Header {
    pub fn read<R: Read>(thrift: &mut Thrift<R>) -> io::Result<Self> {
        let mut h = Header { kind: -1, values_packed: true, ..Header::default() };
        thrift.fields(|t, id, wire| {
            match id {
                1 => h.kind = t.int()?,
                2 => h.unpacked = t.int()?,
                3 => h.packed = t.int()?,
                5 | 7 | 8 => {
                    let second = id == 8;
                    t.fields(|t, id, wire| {
                        match (id, second) {
                            (1, _) => h.values = t.int()?,
                            (2, false) | (4, true) => h.encoding = t.int()?,
                            (3, false) if h.kind == DATA => h.level_encodings[0] = Some(t.int()?),
                            (4, false) if h.kind == DATA => h.level_encodings[1] = Some(t.int()?),
                            (5 | 6, true) => h.level_bytes[id as usize - 5] = t.int()?,
                            (7, true) => h.values_packed = wire == Wire::True,
                            _ => t.skip(wire)?,
                        }
                        Ok(())
                    })?;
                }
                _ => t.skip(wire)?,
            }
            Ok(())
        })?;
        Ok(h)
    }
}
