//! One stream of bits: unsigned values of 1 to 16 bits, least significant bit first, without gaps, the last byte filled
//! up with zeros. Bit `k` of value `i` is bit `(i * bits + k) % 8` of byte `(i * bits + k) / 8`.

use crate::{Error, Result};

/// Bytes of a stream of `count` values, unless the number of bits overflows.
pub fn bytes(count: usize, bits: u32) -> Option<usize> {
    Some(count.checked_mul(bits as usize)?.div_ceil(8))
}

/// The stream of `values`.
///
/// Errors when `bits` is not 1 to 16 or a value is wider.
pub fn pack<T: Copy + Into<u32>>(values: &[T], bits: u32) -> Result<Vec<u8>> {
    check_width(bits)?;
    let mut sink = Sink::new((values.len() * bits as usize).div_ceil(8));
    let mut seen = 0u32;
    for &value in values {
        let value = value.into();
        seen |= value;
        sink.push(value & ((1 << bits) - 1), bits);
    }
    if seen >> bits != 0 {
        let at = values.iter().position(|&value| value.into() >> bits != 0).unwrap_or_default();
        return Err(Error::parts(format!("{} (element {at}) has more than {bits} bits", values[at].into())));
    }
    Ok(sink.finish())
}

/// The `count` values of a stream, of 1 to 8 bits.
///
/// Errors when `bits` is another number, there are more or fewer bytes, or bits after the last value are not zero.
pub fn unpack(stream: &[u8], count: usize, bits: u32) -> Result<Vec<u8>> {
    if bits > 8 {
        return Err(Error::parts(format!("values of {bits} bits do not fit in a byte")));
    }
    read(stream, count, bits, |value| value as u8)
}

/// The `count` values of a stream, of 1 to 16 bits.
///
/// Errors as [`unpack`].
pub fn unpack_wide(stream: &[u8], count: usize, bits: u32) -> Result<Vec<u32>> {
    read(stream, count, bits, |value| value)
}

fn read<T>(stream: &[u8], count: usize, bits: u32, convert: impl Fn(u32) -> T) -> Result<Vec<T>> {
    check_width(bits)?;
    if bytes(count, bits) != Some(stream.len()) {
        return Err(Error::parts(format!("{} bytes do not hold {count} values of {bits} bits", stream.len())));
    }
    let mut source = Source::new(stream);
    // Each value stands for at least one bit of the stream, so this is no more than 8 values a byte read.
    let mut values = Vec::with_capacity(count);
    while let Some(value) = (values.len() < count).then(|| source.next(bits)).flatten() {
        values.push(convert(value));
    }
    source.finish()?;
    Ok(values)
}

fn check_width(bits: u32) -> Result<()> {
    match bits {
        1..=16 => Ok(()),
        _ => Err(Error::parts(format!("values of {bits} bits; 1 to 16 can be packed"))),
    }
}

/// A stream being written.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    bytes: Vec<u8>,
    /// At most 31 bits between values.
    pending: u64,
    filled: u32,
}

impl Sink {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { bytes: Vec::with_capacity(capacity), ..Self::default() }
    }

    /// Adds a value, which must be less than 2^bits; `bits` is at most 16.
    #[inline]
    pub(crate) fn push(&mut self, value: u32, bits: u32) {
        self.pending |= u64::from(value) << self.filled;
        self.filled += bits;
        if self.filled >= 32 {
            self.bytes.extend_from_slice(&(self.pending as u32).to_le_bytes());
            self.pending >>= 32;
            self.filled -= 32;
        }
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        let last = self.filled.div_ceil(8) as usize;
        self.bytes.extend_from_slice(&self.pending.to_le_bytes()[..last]);
        self.bytes
    }
}

/// A stream being read.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    rest: &'a [u8],
    pending: u64,
    filled: u32,
}

impl<'a> Source<'a> {
    pub(crate) fn new(stream: &'a [u8]) -> Self {
        Self { rest: stream, pending: 0, filled: 0 }
    }

    /// The next value of 1 to 16 bits; `None` when fewer bits are left.
    #[inline]
    pub(crate) fn next(&mut self, bits: u32) -> Option<u32> {
        if self.filled < bits {
            if let Some((word, rest)) = self.rest.split_first_chunk::<4>() {
                self.pending |= u64::from(u32::from_le_bytes(*word)) << self.filled;
                self.filled += 32;
                self.rest = rest;
            } else {
                for &byte in self.rest {
                    self.pending |= u64::from(byte) << self.filled;
                    self.filled += 8;
                }
                self.rest = &[];
            }
            if self.filled < bits {
                return None;
            }
        }
        let value = self.pending as u32 & ((1 << bits) - 1);
        self.pending >>= bits;
        self.filled -= bits;
        Some(value)
    }

    /// Errors unless nothing is left but the zeros that fill up the last byte.
    pub(crate) fn finish(self) -> Result<()> {
        if !self.rest.is_empty() || self.filled >= 8 {
            return Err(Error::parts("bytes are left after the last value"));
        }
        if self.pending != 0 { Err(Error::parts("the bits after the last value are not zero")) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Rng;

    /// The definition at the top of this file, word for word.
    fn pack_bit_by_bit(values: &[u32], bits: u32) -> Vec<u8> {
        let mut out = vec![0u8; (values.len() * bits as usize).div_ceil(8)];
        for (i, &value) in values.iter().enumerate() {
            for k in 0..bits {
                let at = i * bits as usize + k as usize;
                out[at / 8] |= ((value >> k & 1) as u8) << (at % 8);
            }
        }
        out
    }

    #[test]
    fn agrees_with_the_definition_and_comes_back() {
        let mut rng = Rng(1);
        for bits in 1..=16 {
            for count in (0..40).chain([64, 100, 1001]) {
                let values: Vec<u32> = (0..count).map(|_| rng.below(1 << bits) as u32).collect();
                let packed = pack(&values, bits).unwrap();
                assert_eq!(packed, pack_bit_by_bit(&values, bits), "{count} of {bits} bits");
                assert_eq!(Some(packed.len()), bytes(count, bits));
                assert_eq!(unpack_wide(&packed, count, bits).unwrap(), values);
                if bits <= 8 {
                    let narrow: Vec<u8> = values.iter().map(|&value| value as u8).collect();
                    assert_eq!(pack(&narrow, bits).unwrap(), packed);
                    assert_eq!(unpack(&packed, count, bits).unwrap(), narrow);
                }
            }
        }
    }

    #[test]
    fn worked_examples() {
        assert_eq!(pack(&[1u8, 2, 3, 4, 5], 3).unwrap(), [0xd1, 0x58]);
        assert_eq!(pack(&[0x1ffu32, 0, 0x1ff], 9).unwrap(), [0xff, 0x01, 0xfc, 0x07]);
    }

    #[test]
    fn refuses_what_does_not_fit() {
        assert!(pack(&[0u8], 0).is_err() && pack(&[0u8], 17).is_err());
        assert!(pack(&[0u8, 8, 0], 3).unwrap_err().to_string().contains("8 (element 1)"));
        assert!(unpack(&[0, 0], 1, 9).is_err());
        assert!(unpack(&[0, 0], 2, 4).is_err() && unpack(&[], 2, 4).is_err());
        assert!(unpack_wide(&[], usize::MAX, 16).is_err() && unpack_wide(&[0], 1, 0).is_err());
        assert_eq!(unpack(&[0x0f], 1, 4).unwrap(), [15]);
        assert!(unpack(&[0x1f], 1, 4).unwrap_err().to_string().contains("not zero"));
    }
}
