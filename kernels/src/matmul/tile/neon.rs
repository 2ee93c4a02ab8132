//! The tile on AArch64.

use std::arch::{aarch64::*, asm};
use std::mem::MaybeUninit;

use super::lanes::{Lanes, Pairs, Whole, Widen, store, tile};
use super::{KC, Left, MR, NR, Target};
use crate::simd;

/// 4 lanes.
#[derive(Clone, Copy)]
struct F128(float32x4_t);

impl Lanes for F128 {
    const N: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the trait's promise about instructions.
        Self(unsafe { vdupq_n_f32(0.0) })
    }

    #[inline(always)]
    unsafe fn load(from: *const u32) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { vld1q_f32(from.cast()) })
    }

    #[inline(always)]
    unsafe fn splat(from: *const u32) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { vld1q_dup_f32(from.cast()) })
    }

    #[inline(always)]
    unsafe fn multiply_add(self, left: Self, right: Self) -> Self {
        // SAFETY: the trait's promise about instructions.
        Self(unsafe { vfmaq_f32(self.0, left.0, right.0) })
    }

    #[inline(always)]
    unsafe fn add_to(self, at: *mut f32, fresh: bool) {
        // SAFETY: the caller's promise.
        unsafe {
            let sum = if fresh { self.0 } else { vaddq_f32(vld1q_f32(at), self.0) };
            vst1q_f32(at, sum);
        }
    }
}

impl Widen for F128 {
    #[inline(always)]
    unsafe fn low(from: *const u32) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { vreinterpretq_f32_u32(vshlq_n_u32::<16>(vld1q_u32(from))) })
    }

    #[inline(always)]
    unsafe fn high(from: *const u32) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { vreinterpretq_f32_u32(vandq_u32(vld1q_u32(from), vdupq_n_u32(0xffff_0000))) })
    }
}

/// # Safety
/// As of [`tile`], with the instructions in the attribute.
#[target_feature(enable = "neon")]
pub(super) unsafe fn pairs(a: &Left<'_>, b: &[u32], y: &mut [MaybeUninit<f32>], out: &Target) {
    // SAFETY: the caller's promise. 24 of 32 registers hold sums.
    unsafe { tile::<F128, Pairs, 4>(a, b, y, out) }
}

/// # Safety
/// As of [`tile`], with the instructions in the attribute.
#[target_feature(enable = "neon")]
pub(super) unsafe fn singles(a: &Left<'_>, b: &[u32], y: &mut [MaybeUninit<f32>], out: &Target) {
    // SAFETY: the caller's promise. 24 of 32 registers hold sums.
    unsafe { tile::<F128, Whole, 4>(a, b, y, out) }
}

/// Vectors of 4 columns that have their sums in registers at a time: with all rows 24 of 32.
const REGS: usize = 4;

const _: () = assert!(MR.is_multiple_of(2) && KC.is_multiple_of(2) && NR.is_multiple_of(4 * REGS));

/// The tile with `bfmmla`, which multiplies two rows of four bfloat16 with two columns of four: two words along k of each.
/// Columns are brought together as they are loaded, rows beforehand.
///
/// # Safety
/// As of [`tile`], with one word for a step of `a`, no more than [`KC`] steps, and the instructions in the attribute.
#[target_feature(enable = "neon,bf16")]
pub(super) unsafe fn matrices(a: &Left<'_>, b: &[u32], y: &mut [MaybeUninit<f32>], out: &Target) {
    let steps = b.len() / NR;
    let mut room = [const { MaybeUninit::<[u64; MR]>::uninit() }; KC / 2];
    let left = rows_by_twos(&mut room, a, steps, out.rows);
    // In place of the second of the last two words along k, where their number is odd.
    let zeros = [0u32; NR];
    let (b, y) = (b.as_ptr(), y.as_mut_ptr().cast::<f32>());
    for first in (0..out.cols).step_by(4 * REGS) {
        let mut sums = [[vdupq_n_f32(0.0); 2 * REGS]; MR / 2];
        for (k, left) in left.iter().enumerate() {
            let second = 2 * k + 1;
            let second = if second < steps { b.wrapping_add(second * NR) } else { zeros.as_ptr() };
            // SAFETY: MR is even, so there are two rows at each.
            let left: [_; MR / 2] = std::array::from_fn(|m| unsafe { vld1q_u64(left.as_ptr().add(2 * m)) });
            for n in 0..REGS {
                // SAFETY: 2 · k < steps and first + 4 · (n + 1) ≤ NR, so these words lie inside `b`, or inside `zeros`.
                let (one, two) =
                    unsafe { (vld1q_u32(b.add(2 * k * NR + first + 4 * n)), vld1q_u32(second.add(first + 4 * n))) };
                let (low, high) = (vzip1q_u32(one, two), vzip2q_u32(one, two));
                for (sums, left) in sums.iter_mut().zip(left) {
                    sums[2 * n] = multiply_add(sums[2 * n], left, low);
                    sums[2 * n + 1] = multiply_add(sums[2 * n + 1], left, high);
                }
            }
        }
        let zero = F128(vdupq_n_f32(0.0));
        let mut rows = [[zero; REGS]; MR];
        for (rows, sums) in rows.chunks_exact_mut(2).zip(sums) {
            for n in 0..REGS {
                let [low, high] = [sums[2 * n], sums[2 * n + 1]].map(|block| vreinterpretq_f64_f32(block));
                rows[0][n] = F128(vreinterpretq_f32_f64(vzip1q_f64(low, high)));
                rows[1][n] = F128(vreinterpretq_f32_f64(vzip2q_f64(low, high)));
            }
        }
        // SAFETY: the caller's promise.
        unsafe { store(rows, y, first, out) };
    }
}

/// Two words along k of each row of the tile in one, for every two steps. Rows that are missing have the words of the last
/// one; in place of a step that is missing is zero.
fn rows_by_twos<'a>(
    room: &'a mut [MaybeUninit<[u64; MR]>],
    a: &Left<'_>,
    steps: usize,
    rows: usize,
) -> &'a [[u64; MR]] {
    let room = &mut room[..steps.div_ceil(2)];
    for (k, to) in room.iter_mut().enumerate() {
        let word = |m: usize, k: usize| u64::from(a.words[m.min(rows - 1) * a.row + k * a.step]);
        let second = |m: usize| if 2 * k + 1 < steps { word(m, 2 * k + 1) << 32 } else { 0 };
        to.write(std::array::from_fn(|m| word(m, 2 * k) | second(m)));
    }
    // SAFETY: the two types have the same layout, and all of them were written.
    unsafe { &*(std::ptr::from_ref(room) as *const [[u64; MR]]) }
}

/// A block of two rows by two columns of sums, plus what two rows and two columns of four bfloat16 make together. Declared as
/// if it used memory: the compiler would load all columns before the first of these otherwise, for which there are not enough
/// registers.
#[inline]
#[target_feature(enable = "neon,bf16")]
fn multiply_add(mut sums: float32x4_t, rows: uint64x2_t, columns: uint32x4_t) -> float32x4_t {
    // SAFETY: the instruction is one of this function's features, and reads and writes these registers only.
    unsafe {
        asm!(
            "bfmmla {sums:v}.4s, {rows:v}.8h, {columns:v}.8h",
            sums = inout(vreg) sums, rows = in(vreg) rows, columns = in(vreg) columns,
            options(nostack, preserves_flags),
        );
    }
    sums
}

/// One word for each pair of `x`, rounded to bfloat16.
pub(super) fn pair_up(words: &mut [MaybeUninit<u32>], x: &[f32]) {
    let (pairs, last) = x.as_chunks::<2>();
    let (words, odd) = words.split_at_mut(pairs.len());
    for (word, &[low, high]) in words.iter_mut().zip(pairs) {
        word.write(simd::bf16_bits(low) | (simd::bf16_bits(high) << 16));
    }
    for (word, &low) in odd.iter_mut().zip(last) {
        word.write(simd::bf16_bits(low));
    }
}
