//! Codes on grids: integers of 2 to 8 bits and small floats, with scales and zero points of groups of columns.
//!
//! A block of 64 columns takes 8 bytes for each bit of a code. Lane i of it holds columns i, 16 + i, 32 + i and 48 + i, the
//! first lowest, in 4 · bits bits.

use super::kind::{BLOCK, Scratch};
use super::numbers::{Floats, LANES, Numbers};
use super::strip::{Plain, Strip};
use super::wide::Wide;
use crate::matmul::Precision;
use crate::minifloat::e2m1_number;

/// Bytes after the last block that may be read with it.
const SLACK: usize = 64;

/// A code's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Two's complement of that many bits, 1 to 8.
    Signed(u32),
    /// `0 ..= 2^bits − 1`.
    Unsigned(u32),
    /// The byte of an 8-bit float ([`crate::minifloat::e4m3`]).
    E4m3,
    /// A 6-bit float ([`crate::minifloat::e2m3`]) with its sign in bit 5.
    E2m3,
    /// A 4-bit float ([`crate::minifloat::e2m1`]) with its sign in bit 3.
    E2m1,
}

impl Code {
    /// Bits that a code is stored in: two at least.
    pub(crate) fn width(self) -> u32 {
        match self {
            Code::Signed(bits) | Code::Unsigned(bits) => bits.clamp(2, 8),
            Code::E4m3 => 8,
            Code::E2m3 => 6,
            Code::E2m1 => 4,
        }
    }

    /// The number that is subtracted from the stored bits of an integer.
    pub(super) fn offset(self) -> u32 {
        if let Code::Signed(_) = self { 1 << (self.width() - 1) } else { 0 }
    }

    /// The bits that are stored for a code.
    fn stored(self, code: u8) -> u8 {
        let mask = (1u32 << self.width()) - 1;
        // A signed code of one bit is −1 or 0, which two bits hold as well.
        let code = match self {
            Code::Signed(1) if code & 1 == 1 => 0xff,
            Code::Signed(1) => 0,
            _ => code,
        };
        ((u32::from(code) + self.offset()) & mask) as u8
    }

    /// The numbers of the lowest four bits, whatever bits beyond a code's width are.
    pub(super) fn levels(self) -> [f32; LANES] {
        let mut levels = [0f32; LANES];
        for (bits, level) in levels.iter_mut().enumerate() {
            let own = (bits & ((1 << self.width().min(4)) - 1)) as u8;
            *level = if self == Code::E2m1 { e2m1_number(own) } else { f32::from(own) - self.offset() as f32 };
        }
        levels
    }
}

/// Packed codes and their statistics.
#[derive(Clone, Debug)]
pub(super) struct Codes {
    pub code: Code,
    /// [`Code::levels`] of it.
    pub levels: [f32; LANES],
    pub cols: usize,
    /// `[rows, blocks, 8 · width]`, and some more.
    pub packed: Vec<u8>,
    /// Columns of a group, and groups of a row.
    pub group: usize,
    pub groups: usize,
    pub scales: Strip,
    pub zeros: Strip,
    pub rounding: Rounding,
    /// The weights of each byte of scales, as bfloat16, where scales are bytes and codes have at most four bits: `[256, LANES]`.
    pub looked_up: Option<Vec<u16>>,
    /// All scales are bfloat16 below this power of two.
    pub limit: i32,
}

/// Rounding of `(code − zero) · scale`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rounding {
    /// Differences are rounded as well, since they may not be exact.
    pub difference: bool,
    /// The type of the weight.
    pub weight: Precision,
    /// The type that products take.
    pub product: Precision,
}

impl Rounding {
    /// The weight of a code, in plain numbers: what every other form of it is held to.
    pub(super) fn weight(self, number: f32, scale: f32, zero: f32) -> f32 {
        let difference = number - zero;
        let difference = if self.difference { self.weight.round(difference) } else { difference };
        self.product.round(self.weight.round(difference * scale))
    }

    /// True if all that there is to do is one rounding to bfloat16. Half precision does not hold all of its numbers.
    pub(super) fn is_plain(self) -> bool {
        use Precision::{Bf16, F32};
        !self.difference && matches!([self.weight, self.product], [Bf16, Bf16 | F32] | [F32, Bf16])
    }

    /// [`Rounding::weight`] of sixteen numbers; `PLAIN` where [`Rounding::is_plain`] is known.
    ///
    /// # Safety
    /// Needs the instructions of `W`.
    #[inline(always)]
    pub(super) unsafe fn wide<W: Wide, const PLAIN: bool>(self, numbers: W, scale: W, zero: W) -> W {
        // SAFETY: the caller's promise.
        unsafe {
            let difference = numbers.subtract(zero);
            if PLAIN {
                return difference.multiply(scale).rounded(Precision::Bf16);
            }
            let difference = if self.difference { difference.rounded(self.weight) } else { difference };
            let weight = difference.multiply(scale).rounded(self.weight);
            if self.weight == self.product { weight } else { weight.rounded(self.product) }
        }
    }
}

/// [`Codes::looked_up`] of a grid.
pub(super) fn look_up(code: Code, scales: &Strip, zeros: &Strip, rounding: Rounding) -> Option<Vec<u16>> {
    let (Strip::Plain(Plain { numbers, height: 1, .. }), Strip::Constant(zero)) = (scales, zeros) else { return None };
    if code.width() > 4 || rounding.product != Precision::Bf16 {
        return None;
    }
    let mut tables = Vec::with_capacity(256 * LANES);
    for byte in 0..=255 {
        let scale = numbers.of_byte(byte)?;
        for number in code.levels() {
            tables.push((rounding.weight(number, scale, *zero).to_bits() >> 16) as u16);
        }
    }
    Some(tables)
}

/// [`Codes::limit`] of scales.
pub(super) fn limit(scales: &Strip) -> i32 {
    let Strip::Plain(Plain { numbers: Numbers::Floats(Floats::Bf16(words)), .. }) = scales else { return i32::MAX };
    // The exponent's bits of infinity and NaN are more than those of any limit.
    words.iter().map(|word| i32::from(word >> 7 & 0xff) - 126).max().unwrap_or(i32::MAX)
}

/// Packs codes, row-major `[rows, cols]`.
pub(super) fn pack(code: Code, codes: &[u8], cols: usize) -> Vec<u8> {
    let (width, blocks) = (code.width() as usize, cols.div_ceil(BLOCK));
    let rows = codes.len().checked_div(cols).unwrap_or(0);
    let mut packed = vec![0u8; rows * blocks * 8 * width + SLACK];
    let out = packed.chunks_exact_mut(blocks * 8 * width);
    for (codes, out) in codes.chunks_exact(cols).zip(out) {
        for (codes, out) in codes.chunks(BLOCK).zip(out.chunks_exact_mut(8 * width)) {
            for lane in 0..LANES.min(codes.len()) {
                let bits = codes[lane..].iter().step_by(LANES).enumerate();
                let lane_bits = bits.fold(0u32, |all, (i, &each)| all | u32::from(code.stored(each)) << (i * width));
                let first = 4 * width * lane;
                let bytes = (u64::from(lane_bits) << (first % 8)).to_le_bytes();
                for (out, byte) in out[first / 8..].iter_mut().zip(bytes) {
                    *out |= byte;
                }
            }
        }
    }
    packed
}

impl Codes {
    /// Bytes that they take.
    pub(super) fn bytes(&self) -> usize {
        let looked_up = self.looked_up.as_ref().map_or(0, |words| size_of_val(&words[..]));
        self.packed.len() + self.scales.bytes() + self.zeros.bytes() + looked_up
    }

    /// Bytes of a row.
    pub(super) fn stride(&self) -> usize {
        self.cols.div_ceil(BLOCK) * 8 * self.code.width() as usize
    }

    /// Widens the statistics of rows `first .. first + count`.
    ///
    /// # Safety
    /// Needs the instructions of `W`.
    #[inline(always)]
    pub(super) unsafe fn prepare<W: Wide>(&self, first: usize, count: usize, scratch: &mut Scratch) {
        // SAFETY: the caller's promise.
        unsafe {
            self.scales.widen::<W>(first, count, self.groups, &mut scratch.scales);
            self.zeros.widen::<W>(first, count, self.groups, &mut scratch.zeros);
        }
    }

    /// The code at a place, as a number.
    pub(super) fn number(&self, row: usize, col: usize) -> f32 {
        let width = self.code.width() as usize;
        let block = &self.packed[row * self.stride() + col / BLOCK * 8 * width..];
        let first = 4 * width * (col % LANES) + width * (col % BLOCK / LANES);
        let both = u32::from(block[first / 8]) | u32::from(block[first / 8 + 1]) << 8;
        let bits = (both >> (first % 8)) & ((1 << width) - 1);
        match self.code {
            Code::E4m3 => crate::minifloat::e4m3_number(bits as u8),
            Code::E2m3 => crate::minifloat::e2m3_number(bits as u8),
            Code::E2m1 => e2m1_number(bits as u8),
            Code::Signed(_) | Code::Unsigned(_) => bits as f32 - self.code.offset() as f32,
        }
    }
}
