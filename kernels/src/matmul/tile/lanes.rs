//! The tile over any vector of f32.

use std::mem::MaybeUninit;

use super::{Left, MR, NR, Target};

/// A vector of `N` sums, and what a tile does with it.
///
/// # Safety
/// Methods that take a pointer read or write `N` words there, `splat` one. All need the instructions of the type.
pub(super) trait Lanes: Copy {
    const N: usize;
    unsafe fn zero() -> Self;
    /// Words of a right operand as they are.
    unsafe fn load(from: *const u32) -> Self;
    /// The first of each pair of bfloat16.
    unsafe fn low(from: *const u32) -> Self;
    /// The second.
    unsafe fn high(from: *const u32) -> Self;
    /// A word of a left operand in all lanes.
    unsafe fn splat(from: *const u32) -> Self;
    /// `self` plus what the lanes of `left` and `right` make together.
    unsafe fn multiply_add(self, left: Self, right: Self) -> Self;
    unsafe fn add_to(self, at: *mut f32, fresh: bool);
}

/// The tile with `REGS` vectors of each row in registers at a time. `PARTS` is 2 where words of the right operand are pairs
/// that are widened, and 1 where they are multiplied as they are.
///
/// # Safety
/// Needs the instructions of `L`. `a` reaches over `out.rows` rows and all steps, with `PARTS` words each; `b` is `[steps,
/// NR]`; `y` reaches over `out.rows` rows of `out.stride` with `out.cols` elements in the last one; rows ≤ MR, cols ≤ NR.
/// Unless `out.fresh`, those elements are initialised.
#[inline(always)]
pub(super) unsafe fn tile<L: Lanes, const REGS: usize, const PARTS: usize>(
    a: &Left<'_>,
    b: &[u32],
    y: &mut [MaybeUninit<f32>],
    out: &Target,
) {
    const { assert!(NR.is_multiple_of(REGS * L::N)) };
    let steps = b.len() / NR;
    // Rows that are missing read the last one again; their sums are not stored.
    let mut rows = [a.words.as_ptr(); MR];
    for (m, row) in rows.iter_mut().enumerate() {
        *row = row.wrapping_add(m.min(out.rows - 1) * a.row);
    }
    let (b, y) = (b.as_ptr(), y.as_mut_ptr().cast::<f32>());
    let mut first = 0;
    while first < out.cols {
        // SAFETY: the caller's promise about instructions.
        let zero = unsafe { L::zero() };
        let mut sums = [[zero; REGS]; MR];
        for k in 0..steps {
            for part in 0..PARTS {
                let mut right = [zero; REGS];
                for (n, r) in right.iter_mut().enumerate() {
                    // SAFETY: k < steps and first + (n + 1) · N ≤ NR, so these words lie inside `b`.
                    *r = unsafe {
                        let at = b.add(k * NR + first + n * L::N);
                        match (PARTS, part) {
                            (1, _) => L::load(at),
                            (_, 0) => L::low(at),
                            _ => L::high(at),
                        }
                    };
                }
                for (sums, row) in sums.iter_mut().zip(rows) {
                    // SAFETY: k < steps, and the row is one of `out.rows`.
                    let left = unsafe { L::splat(row.add(k * a.step + part * (a.step / PARTS))) };
                    for (sum, r) in sums.iter_mut().zip(right) {
                        // SAFETY: the caller's promise about instructions.
                        *sum = unsafe { sum.multiply_add(left, r) };
                    }
                }
            }
        }
        for (m, sums) in sums.iter().enumerate().take(out.rows) {
            for (n, sum) in sums.iter().enumerate() {
                let col = first + n * L::N;
                let at = y.wrapping_add(m * out.stride + col);
                match out.cols.saturating_sub(col) {
                    0 => {}
                    // SAFETY: row m has `count` elements from this column on.
                    count if count >= L::N => unsafe { sum.add_to(at, out.fresh) },
                    count => {
                        let mut last = [0f32; NR];
                        // SAFETY: of the row's last vector, only the elements that it has are read and written.
                        unsafe {
                            if !out.fresh {
                                last.as_mut_ptr().copy_from_nonoverlapping(at, count);
                            }
                            sum.add_to(last.as_mut_ptr(), out.fresh);
                            at.copy_from_nonoverlapping(last.as_ptr(), count);
                        }
                    }
                }
            }
        }
        first += REGS * L::N;
    }
}

/// Lanes without instructions of their own: the compiler finds some.
#[derive(Clone, Copy)]
pub(super) struct Loops([f32; 4]);

/// Vectors of [`Loops`] in a row of the tile: of 16 registers for 6 rows, or of 32.
pub(super) const LOOPS: usize = if cfg!(target_arch = "aarch64") { 4 } else { 2 };

impl Loops {
    /// # Safety
    /// Four words are there.
    #[inline(always)]
    unsafe fn each(from: *const u32, f: impl Fn(u32) -> u32) -> Self {
        let mut lanes = [0f32; 4];
        for (i, lane) in lanes.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            *lane = f32::from_bits(f(unsafe { *from.add(i) }));
        }
        Self(lanes)
    }
}

impl Lanes for Loops {
    const N: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([0.0; 4])
    }

    #[inline(always)]
    unsafe fn load(from: *const u32) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self::each(from, |word| word) }
    }

    #[inline(always)]
    unsafe fn low(from: *const u32) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self::each(from, |word| word << 16) }
    }

    #[inline(always)]
    unsafe fn high(from: *const u32) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self::each(from, |word| word & 0xffff_0000) }
    }

    #[inline(always)]
    unsafe fn splat(from: *const u32) -> Self {
        // SAFETY: the caller's promise.
        Self([f32::from_bits(unsafe { *from }); 4])
    }

    #[inline(always)]
    unsafe fn multiply_add(mut self, left: Self, right: Self) -> Self {
        for ((sum, left), right) in self.0.iter_mut().zip(left.0).zip(right.0) {
            *sum += left * right;
        }
        self
    }

    #[inline(always)]
    unsafe fn add_to(self, at: *mut f32, fresh: bool) {
        for (i, sum) in self.0.into_iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { *at.add(i) = if fresh { sum } else { *at.add(i) + sum } };
        }
    }
}
