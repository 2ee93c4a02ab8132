//! The hybrid of run-length encoding and bit packing, which levels and indices of a dictionary have.

use std::io;

use super::wrong;

/// Numbers of `bits` bits, run-length encoded or packed in groups of eight, read one by one.
#[derive(Default)]
pub(super) struct Runs {
    /// The positions of the next byte and of the end.
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
    /// Those of `data[at..end]`; `end` must lie within the page.
    pub fn new(at: usize, end: usize, bits: u32) -> Self {
        Self { at, end, bits, ..Self::default() }
    }

    fn byte(&mut self, data: &[u8]) -> io::Result<u8> {
        let byte =
            data[..self.end].get(self.at).ok_or_else(|| wrong("a page that ends in the middle of its levels"))?;
        self.at += 1;
        Ok(*byte)
    }

    /// The next number; 0 forever where a number has no bits.
    pub fn next(&mut self, data: &[u8]) -> io::Result<u32> {
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
