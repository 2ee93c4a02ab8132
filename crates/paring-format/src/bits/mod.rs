//! n-bit codes in 32-bit words, as compressed-tensors lays them out.
//!
//! A code `q` of `bits` bits is stored as `q + 2^(bits-1)`, unsigned, least significant bit first. Each row starts on a
//! fresh word, and the bits after its last code are 0. Words are little-endian, so that a row is a stream of bits filled
//! up to a multiple of 4 bytes: a code may straddle two words. Releases before 0.18 did not let it: a word held
//! `⌊32 / bits⌋` codes, and its upper bits were 0.

pub mod gaps;
mod lanes;
mod padded;
pub mod stream;
#[cfg(test)]
mod tests;
mod versions;

use versions::{Rows, Version};

use crate::{Error, Result};

/// The least and the greatest code of `bits` bits (1 to 8).
pub fn range(bits: u32) -> (i8, i8) {
    let half = 1i32 << (bits - 1);
    ((-half) as i8, (half - 1) as i8)
}

/// A way to lay codes in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packing {
    bits: u32,
    padded: bool,
}

impl Packing {
    /// Codes of this width; `padded` when none lies across words, as before release 0.18 (which matters to widths of 3,
    /// 5, 6 and 7 only).
    ///
    /// Errors when `bits` is not 1 to 8.
    pub fn new(bits: u32, padded: bool) -> Result<Packing> {
        match bits {
            1..=8 => Ok(Packing { bits, padded: padded && !32u32.is_multiple_of(bits) }),
            _ => Err(Error::parts(format!("codes of {bits} bits; 1 to 8 can be packed"))),
        }
    }

    /// Words of a row of `count` codes, unless the number of bits overflows.
    pub fn words(self, count: usize) -> Option<usize> {
        if self.padded {
            return Some(count.div_ceil((32 / self.bits) as usize));
        }
        Some(count.checked_mul(self.bits as usize)?.div_ceil(32))
    }

    /// Packs row-major codes `[codes.len() / cols, cols]` into words `[rows, words(cols)]`, as bytes.
    ///
    /// Errors when a code is out of range, or the codes are no whole number of rows.
    pub fn pack(self, codes: &[i8], cols: usize) -> Result<Vec<u8>> {
        let width = self.row_bytes(cols)?;
        // A row takes at most a word more than it has codes.
        let mut packed = vec![0u8; (codes.len() / cols).saturating_mul(width)];
        self.pack_into(codes, cols, &mut packed)?;
        Ok(packed)
    }

    /// As [`Packing::pack`], into bytes that are zero.
    ///
    /// Errors as that does, and when there are more or fewer bytes.
    pub fn pack_into(self, codes: &[i8], cols: usize, packed: &mut [u8]) -> Result<()> {
        self.pack_by(Version::best(), codes, cols, packed)
    }

    fn pack_by(self, version: Version, codes: &[i8], cols: usize, packed: &mut [u8]) -> Result<()> {
        let width = self.row_bytes(cols)?;
        if !codes.len().is_multiple_of(cols) {
            return Err(Error::parts(format!("{} codes do not make whole rows of {cols}", codes.len())));
        }
        check_bytes(packed.len(), codes.len() / cols, width)?;
        let seen = version.pack(self.rows_at_once(cols, width, codes.len(), packed.len()), codes, packed);
        self.check(seen, codes)
    }

    /// The codes `[rows, cols]` of words `[rows, words(cols)]`, as bytes. Bits that are of no code are not looked at.
    ///
    /// Errors when there are more or fewer bytes.
    pub fn unpack(self, packed: &[u8], rows: usize, cols: usize) -> Result<Vec<i8>> {
        check_bytes(packed.len(), rows, self.row_bytes(cols)?)?;
        // Each code stands for at least one bit of the words, so this is no more than 8 codes a byte read.
        let mut codes = vec![0i8; rows * cols];
        self.unpack_into(packed, cols, &mut codes)?;
        Ok(codes)
    }

    /// As [`Packing::unpack`], into `codes`, a whole number of rows.
    ///
    /// Errors as that does, and when `codes` is no whole number of rows.
    pub fn unpack_into(self, packed: &[u8], cols: usize, codes: &mut [i8]) -> Result<()> {
        self.unpack_by(Version::best(), packed, cols, codes)
    }

    fn unpack_by(self, version: Version, packed: &[u8], cols: usize, codes: &mut [i8]) -> Result<()> {
        let width = self.row_bytes(cols)?;
        if !codes.len().is_multiple_of(cols) {
            return Err(Error::parts(format!("{} codes do not make whole rows of {cols}", codes.len())));
        }
        check_bytes(packed.len(), codes.len() / cols, width)?;
        version.unpack(self.rows_at_once(cols, width, codes.len(), packed.len()), packed, codes);
        Ok(())
    }

    /// Packs row-major codes `[rows, cols]` along the rows: words `[words(rows), cols]`, as bytes. Zero points are stored
    /// so.
    ///
    /// Errors as [`Packing::pack`].
    pub fn pack_columns(self, codes: &[i8], cols: usize) -> Result<Vec<u8>> {
        if cols == 0 || !codes.len().is_multiple_of(cols) {
            return Err(Error::parts(format!("{} codes do not make whole rows of {cols}", codes.len())));
        }
        let rows = codes.len() / cols;
        let height = self.row_bytes(rows)? / 4;
        let mut packed = vec![[0u8; 4]; height * cols];
        let half = 1u8 << (self.bits - 1);
        let mut seen = 0;
        for (row, codes) in codes.chunks_exact(cols).enumerate() {
            seen = codes.iter().fold(seen, |seen, &code| seen | (code as u8).wrapping_add(half));
            let (word, shift) = self.place(row);
            let (now, next) = packed[word * cols..].split_at_mut(cols);
            let or = |word: &mut [u8; 4], bits: u32| *word = (u32::from_le_bytes(*word) | bits).to_le_bytes();
            let code = |&code: &i8| u32::from((code as u8).wrapping_add(half));
            now.iter_mut().zip(codes).for_each(|(word, value)| or(word, code(value) << shift));
            if shift + self.bits > 32 {
                next.iter_mut().zip(codes).for_each(|(word, value)| or(word, code(value) >> (32 - shift)));
            }
        }
        self.check(seen, codes)?;
        Ok(packed.into_flattened())
    }

    /// The codes `[rows, cols]` of words `[words(rows), cols]`, as bytes.
    ///
    /// Errors as [`Packing::unpack`].
    pub fn unpack_columns(self, packed: &[u8], rows: usize, cols: usize) -> Result<Vec<i8>> {
        check_bytes(packed.len(), cols, self.row_bytes(rows)?)?;
        let packed = packed.as_chunks::<4>().0;
        let mut codes = vec![0i8; rows * cols];
        let (half, mask) = (1u8 << (self.bits - 1), (1u32 << self.bits) - 1);
        for (row, codes) in codes.chunks_exact_mut(cols.max(1)).enumerate() {
            let (word, shift) = self.place(row);
            let (now, next) = packed[word * cols..].split_at(cols);
            let code = |bits: u32| ((bits & mask) as u8).wrapping_sub(half) as i8;
            let low = |word: &[u8; 4]| u32::from_le_bytes(*word) >> shift;
            if shift + self.bits <= 32 {
                codes.iter_mut().zip(now).for_each(|(to, word)| *to = code(low(word)));
            } else {
                let high = |word: &[u8; 4]| u32::from_le_bytes(*word) << (32 - shift);
                codes
                    .iter_mut()
                    .zip(now.iter().zip(next))
                    .for_each(|(to, (now, next))| *to = code(low(now) | high(next)));
            }
        }
        Ok(codes)
    }

    /// The word in which code `at` of a row begins, and the bit of it.
    fn place(self, at: usize) -> (usize, u32) {
        let bits = self.bits as usize;
        let (word, bit) = match self.padded {
            true => (at / (32 / bits), at % (32 / bits) * bits),
            false => (at * bits / 32, at * bits % 32),
        };
        (word, bit as u32)
    }

    /// Errors, at the first code out of range, when all of them or-ed as they are stored have too many bits.
    fn check(self, seen: u8, codes: &[i8]) -> Result<()> {
        if u32::from(seen) >> self.bits == 0 {
            return Ok(());
        }
        let (low, high) = range(self.bits);
        let at = codes.iter().position(|&code| code < low || code > high).unwrap_or_default();
        Err(Error::parts(format!("code {} (element {at}) is outside {low}..={high}", codes[at])))
    }

    /// Bytes of a row of `cols` codes. Errors when there are none, or too many.
    fn row_bytes(self, cols: usize) -> Result<usize> {
        match self.words(cols).and_then(|words| words.checked_mul(4)) {
            None | Some(0) => Err(Error::parts(format!("rows of {cols} codes cannot be packed"))),
            Some(width) => Ok(width),
        }
    }

    /// The rows that one call handles: a row, or all rows where no bits lie between them.
    fn rows_at_once(self, cols: usize, width: usize, codes: usize, bytes: usize) -> Rows {
        let full = !self.padded && cols * self.bits as usize == width * 8;
        let (codes, bytes) = if full { (codes.max(1), bytes.max(1)) } else { (cols, width) };
        Rows { bits: self.bits, padded: self.padded, codes, bytes }
    }
}

fn check_bytes(got: usize, rows: usize, width: usize) -> Result<()> {
    if rows.checked_mul(width) == Some(got) {
        return Ok(());
    }
    Err(Error::parts(format!("{got} packed bytes, expected {rows} rows of {width}")))
}
