//! DELTA_BINARY_PACKED integers: the lengths of texts in the two delta encodings.
//!
//! Blocks of differences to the number before: the smallest difference, a bit width for each of a fixed number of
//! miniblocks, and these, packed. A miniblock that no number is left for is absent.

use std::io;

use super::wrong;

/// Numbers that are read one by one, from a page that holds them all.
pub(super) struct Deltas {
    at: usize,
    /// Miniblocks of a block, and the numbers in each.
    miniblocks: usize,
    in_miniblock: u64,
    /// Numbers to come.
    left: u64,
    first: bool,
    value: i64,
    smallest: i64,
    /// The position of the block's bit widths, how many of them are used up, and the width of the miniblock.
    widths: usize,
    used: usize,
    bits: u32,
    /// Numbers to come in the miniblock.
    packed: u64,
    /// Bits that were read and are not used up.
    window: u64,
    filled: u32,
}

fn short() -> io::Error {
    wrong("a page that ends in the middle of its lengths")
}

fn varint(data: &[u8], at: &mut usize) -> io::Result<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *data.get(*at).ok_or_else(short)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(wrong("a length of more than 64 bits"))
}

fn zigzag(data: &[u8], at: &mut usize) -> io::Result<i64> {
    let value = varint(data, at)?;
    Ok((value >> 1) as i64 ^ -((value & 1) as i64))
}

impl Deltas {
    /// The numbers that begin at `data[at]`, and where what follows them begins.
    ///
    /// Errors where they do not end within `data`. Allocates nothing, however many numbers there claim to be.
    pub fn open(data: &[u8], mut at: usize) -> io::Result<(Self, usize)> {
        let (block, miniblocks, count) = (varint(data, &mut at)?, varint(data, &mut at)?, varint(data, &mut at)?);
        let value = zigzag(data, &mut at)?;
        let in_miniblock = block.checked_div(miniblocks).unwrap_or(0);
        if in_miniblock == 0 || in_miniblock % 32 != 0 || block % miniblocks != 0 {
            return Err(wrong(format!("lengths in blocks of {block}, by {miniblocks} miniblocks")));
        }
        let miniblocks = usize::try_from(miniblocks).map_err(|_| short())?;
        let deltas = Self {
            at,
            miniblocks,
            in_miniblock,
            left: count,
            first: true,
            value,
            smallest: 0,
            widths: at,
            used: miniblocks,
            bits: 0,
            packed: 0,
            window: 0,
            filled: 0,
        };
        Ok((deltas, Self::end(data, at, miniblocks, in_miniblock, count.saturating_sub(1))?))
    }

    /// Walks the blocks of `left` differences. Each takes two bytes at least: a count cannot keep this busy for longer
    /// than the page lasts.
    fn end(data: &[u8], mut at: usize, miniblocks: usize, in_miniblock: u64, mut left: u64) -> io::Result<usize> {
        while left > 0 {
            zigzag(data, &mut at)?;
            let after = at.checked_add(miniblocks).ok_or_else(short)?;
            let widths = data.get(at..after).ok_or_else(short)?;
            at = after;
            for &bits in widths {
                if left == 0 {
                    break;
                }
                let bytes = (in_miniblock / 8).checked_mul(bits.into()).ok_or_else(short)?;
                at = usize::try_from(bytes).ok().and_then(|bytes| at.checked_add(bytes)).ok_or_else(short)?;
                left = left.saturating_sub(in_miniblock);
            }
            if at > data.len() {
                return Err(short());
            }
        }
        Ok(at)
    }

    /// The next number, of the `data` that these were opened with.
    pub fn next(&mut self, data: &[u8]) -> io::Result<i64> {
        self.left = self.left.checked_sub(1).ok_or_else(|| wrong("a page of more texts than lengths"))?;
        if std::mem::take(&mut self.first) {
            return Ok(self.value);
        }
        if self.packed == 0 {
            self.next_miniblock(data)?;
        }
        self.packed -= 1;
        while self.filled < self.bits {
            self.window |= u64::from(*data.get(self.at).ok_or_else(short)?) << self.filled;
            self.at += 1;
            self.filled += 8;
        }
        let delta = self.window & ((1 << self.bits) - 1);
        self.window >>= self.bits;
        self.filled -= self.bits;
        self.value = self.value.wrapping_add(self.smallest).wrapping_add(delta as i64);
        Ok(self.value)
    }

    fn next_miniblock(&mut self, data: &[u8]) -> io::Result<()> {
        if self.used == self.miniblocks {
            self.smallest = zigzag(data, &mut self.at)?;
            (self.widths, self.used) = (self.at, 0);
            self.at = self.at.checked_add(self.miniblocks).ok_or_else(short)?;
        }
        let bits = *data.get(self.widths + self.used).ok_or_else(short)?;
        if bits > 32 {
            return Err(wrong(format!("{bits} bits for the length of a text, expected at most 32")));
        }
        (self.used, self.bits, self.packed) = (self.used + 1, bits.into(), self.in_miniblock);
        (self.window, self.filled) = (0, 0);
        Ok(())
    }
}
