//! Sixteen numbers at once: what decoding and products of few rows are written in.

use half::f16;

use super::numbers::{LANES, power};
use crate::matmul::Precision;
use crate::minifloat::{e2m3_number, e4m3_number};

/// Sixteen f32, and as many words of 32 bits that codes are taken from.
///
/// # Safety
/// Methods that take a pointer read [`LANES`] elements there, [`Wide::fields`] up to 64 bytes. All need the instructions of the type.
pub(super) trait Wide: Copy {
    type Bits: Copy;

    unsafe fn zero() -> Self;
    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    /// Widened bfloat16.
    unsafe fn bf16(from: *const u16) -> Self;
    /// Widened half precision.
    unsafe fn f16(from: *const u16) -> Self;
    unsafe fn store(self, to: *mut f32);
    /// Asks for the line of a cache at a place, which need not exist.
    unsafe fn prefetch(place: *const u8);
    /// `self` plus the products of `a` and `b`.
    unsafe fn multiply_add(self, a: Self, b: Self) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn subtract(self, other: Self) -> Self;
    unsafe fn multiply(self, other: Self) -> Self;
    unsafe fn divide(self, other: Self) -> Self;
    /// All rounded to this precision.
    unsafe fn rounded(self, precision: Precision) -> Self;
    /// The sum of all lanes, in one order for every type.
    unsafe fn sum(self) -> f32;
    /// The lanes of `mask`, in order, from the first numbers; zero elsewhere.
    unsafe fn expand(self, mask: u16) -> Self;

    /// Lane i gets byte i of sixteen.
    unsafe fn bytes(from: *const u8) -> Self::Bits;
    /// Lane i gets half a byte of eight, the lower half of each first.
    unsafe fn nibbles(from: *const u8) -> Self::Bits;
    /// Lane i gets the 4 · `width` bits that begin at bit 4 · `width` · i, and any bits above them.
    unsafe fn fields(width: u32, from: *const u8) -> Self::Bits;
    /// All shifted right.
    unsafe fn shifted(bits: Self::Bits, by: u32) -> Self::Bits;
    /// The number of `table` that the lowest four bits say.
    unsafe fn pick(table: Self, bits: Self::Bits) -> Self;
    /// The lowest `width` bits as an integer.
    unsafe fn whole(width: u32, bits: Self::Bits) -> Self;
    /// The lowest 8 bits as `e4m3`.
    unsafe fn e4m3(bits: Self::Bits) -> Self;
    /// The lowest 6 bits as `e2m3`.
    unsafe fn e2m3(bits: Self::Bits) -> Self;
    /// 2^(bits − 127), of no more than 8 bits.
    unsafe fn power(bits: Self::Bits) -> Self;
}

/// Sixteen sums of pairs of bfloat16, which are multiplied at once.
///
/// # Safety
/// As of [`Wide`].
pub(super) trait Pairs: Wide {
    /// 32 words of 16 bits, from which [`Pairs::half`] takes the codes of a block: two each. Even words have the columns that lanes of
    /// [`Wide::fields`] have first and second, odd ones the third and fourth.
    unsafe fn words(width: u32, from: *const u8) -> Self::Bits;
    /// The first codes of [`Pairs::words`] in their lowest bits, or the second ones; the bits above them mean nothing.
    unsafe fn half(width: u32, half: u32, words: Self::Bits) -> Self::Bits;
    /// The lowest four bits of each word, and the fifth in odd ones.
    unsafe fn marked(bits: Self::Bits) -> Self::Bits;
    /// [`Pairs::half`] of codes of three bits: bits 1 to 3. Bit 0 is set in second codes, and the fifth in odd words.
    unsafe fn quarters(half: u32, words: Self::Bits) -> Self::Bits;
    /// Two times sixteen numbers rounded to bfloat16. Subnormal ones count as zero.
    unsafe fn narrowed(low: Self, high: Self) -> Self::Bits;
    /// The bfloat16 in even words (0), or in odd ones (1).
    unsafe fn parity(odd: u32, bits: Self::Bits) -> Self;
    /// The bfloat16 of `table` that the lowest five bits of each word say.
    unsafe fn pick_words(table: Self::Bits, bits: Self::Bits) -> Self::Bits;
    /// 32 bfloat16.
    unsafe fn load_words(from: *const u16) -> Self::Bits;
    /// Two times 16 bfloat16.
    unsafe fn join_words(low: *const u16, high: *const u16) -> Self::Bits;
    /// The words that `mask` has bits for, in order, from the first ones at `from`, where there are 32; zero elsewhere.
    unsafe fn expand_words(mask: u32, from: *const u16) -> Self::Bits;
    /// Two f32, again and again.
    unsafe fn repeat_two(from: *const f32) -> Self;
    /// Four f32, again and again.
    unsafe fn repeat_four(from: *const f32) -> Self;
    /// The numbers at even places of 32, and those at odd ones.
    unsafe fn unzipped(self, other: Self) -> (Self, Self);
    /// 2^15 and byte `which` of each lane.
    unsafe fn biased(which: u32, bits: Self::Bits) -> Self;
    /// 2^-120 times the `e4m3` in the lower bytes of words (0), or in the upper ones (1), as bfloat16.
    unsafe fn tiny_e4m3(upper: u32, bits: Self::Bits) -> Self::Bits;
    /// `self` plus the products of pairs.
    unsafe fn dot(self, weights: Self::Bits, x: Self::Bits) -> Self;
}

/// Lanes in an array: loops that the compiler makes vectors of as it can.
#[derive(Clone, Copy)]
pub(super) struct Loops([f32; LANES]);

impl Loops {
    #[inline(always)]
    fn each(mut self, f: impl Fn(usize, f32) -> f32) -> Self {
        for (i, lane) in self.0.iter_mut().enumerate() {
            *lane = f(i, *lane);
        }
        self
    }

    #[inline(always)]
    fn of(bits: [u32; LANES], f: impl Fn(u32) -> f32) -> Self {
        Self([0f32; LANES]).each(|i, _| f(bits[i]))
    }
}

impl Wide for Loops {
    type Bits = [u32; LANES];

    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([0.0; LANES])
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; LANES])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { from.cast::<[f32; LANES]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn bf16(from: *const u16) -> Self {
        // SAFETY: the caller's promise.
        let words = unsafe { from.cast::<[u16; LANES]>().read_unaligned() };
        Self::of(words.map(u32::from), |word| f32::from_bits(word << 16))
    }

    #[inline(always)]
    unsafe fn f16(from: *const u16) -> Self {
        // SAFETY: the caller's promise.
        let words = unsafe { from.cast::<[u16; LANES]>().read_unaligned() };
        Self::of(words.map(u32::from), |word| f16::from_bits(word as u16).to_f32())
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { to.cast::<[f32; LANES]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn prefetch(_: *const u8) {}

    #[inline(always)]
    unsafe fn multiply_add(self, a: Self, b: Self) -> Self {
        self.each(|i, sum| sum + a.0[i] * b.0[i])
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.each(|i, lane| lane + other.0[i])
    }

    #[inline(always)]
    unsafe fn subtract(self, other: Self) -> Self {
        self.each(|i, lane| lane - other.0[i])
    }

    #[inline(always)]
    unsafe fn multiply(self, other: Self) -> Self {
        self.each(|i, lane| lane * other.0[i])
    }

    #[inline(always)]
    unsafe fn divide(self, other: Self) -> Self {
        self.each(|i, lane| lane / other.0[i])
    }

    #[inline(always)]
    unsafe fn rounded(self, precision: Precision) -> Self {
        match precision {
            Precision::F32 => self,
            Precision::Bf16 => self.each(|_, lane| Precision::Bf16.round(lane)),
            Precision::F16 => self.each(|_, lane| Precision::F16.round(lane)),
        }
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        let mut lanes = self.0;
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                lanes[i] += lanes[i + half];
            }
        }
        lanes[0]
    }

    #[inline(always)]
    unsafe fn expand(self, mask: u16) -> Self {
        let (mut out, mut next) = ([0f32; LANES], 0);
        for (i, lane) in out.iter_mut().enumerate() {
            if mask >> i & 1 == 1 {
                *lane = self.0[next];
                next += 1;
            }
        }
        Self(out)
    }

    #[inline(always)]
    unsafe fn bytes(from: *const u8) -> Self::Bits {
        // SAFETY: the caller's promise.
        unsafe { from.cast::<[u8; LANES]>().read_unaligned() }.map(u32::from)
    }

    #[inline(always)]
    unsafe fn nibbles(from: *const u8) -> Self::Bits {
        // SAFETY: the caller's promise.
        let bytes = unsafe { from.cast::<[u8; LANES / 2]>().read_unaligned() };
        let mut lanes = [0u32; LANES];
        for (i, lane) in lanes.iter_mut().enumerate() {
            *lane = u32::from(bytes[i / 2] >> (i % 2 * 4) & 15);
        }
        lanes
    }

    #[inline(always)]
    unsafe fn fields(width: u32, from: *const u8) -> Self::Bits {
        let mut lanes = [0u32; LANES];
        for (i, lane) in lanes.iter_mut().enumerate() {
            let first = 4 * width as usize * i;
            let at = first / 8;
            // Four codes of at most eight bits, which begin at a half of a byte.
            let mut bytes = [0u8; 8];
            for (i, byte) in bytes.iter_mut().enumerate().take(5.min(64 - at)) {
                // SAFETY: the caller's promise: 64 bytes.
                *byte = unsafe { from.add(at + i).read() };
            }
            let wide = u64::from_le_bytes(bytes);
            *lane = (wide >> (first % 8)) as u32;
        }
        lanes
    }

    #[inline(always)]
    unsafe fn shifted(bits: Self::Bits, by: u32) -> Self::Bits {
        bits.map(|lane| lane >> by)
    }

    #[inline(always)]
    unsafe fn pick(table: Self, bits: Self::Bits) -> Self {
        Self::of(bits, |lane| table.0[(lane & 15) as usize])
    }

    #[inline(always)]
    unsafe fn whole(width: u32, bits: Self::Bits) -> Self {
        Self::of(bits, |lane| (lane & ((1 << width) - 1)) as i32 as f32)
    }

    #[inline(always)]
    unsafe fn e4m3(bits: Self::Bits) -> Self {
        Self::of(bits, |lane| e4m3_number(lane as u8))
    }

    #[inline(always)]
    unsafe fn e2m3(bits: Self::Bits) -> Self {
        Self::of(bits, |lane| e2m3_number(lane as u8))
    }

    #[inline(always)]
    unsafe fn power(bits: Self::Bits) -> Self {
        Self::of(bits, |lane| power(lane as u8))
    }
}
