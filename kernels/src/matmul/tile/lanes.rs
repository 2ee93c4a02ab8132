//! The tile over any vector of f32.

use std::mem::MaybeUninit;

use super::{Left, MR, NR, Target};

/// A vector of `N` sums, and the operations of a tile on it.
///
/// # Safety
/// Methods that take a pointer read or write `N` words there, `splat` one. All need the instructions of the type.
pub(super) trait Lanes: Copy {
    const N: usize;
    unsafe fn zero() -> Self;
    /// Words of a right operand as they are.
    unsafe fn load(from: *const u32) -> Self;
    /// A word of a left operand in all lanes.
    unsafe fn splat(from: *const u32) -> Self;
    /// `self` plus the lane-wise products of `left` and `right`.
    unsafe fn multiply_add(self, left: Self, right: Self) -> Self;
    unsafe fn add_to(self, at: *mut f32, fresh: bool);
}

/// Lanes that pairs of bfloat16 are widened to.
///
/// # Safety
/// As of [`Lanes`].
pub(super) trait Widen: Lanes {
    /// The first of each pair.
    unsafe fn low(from: *const u32) -> Self;
    /// The second.
    unsafe fn high(from: *const u32) -> Self;
}

/// The way in which words of a right operand are read: once or more, a part at a time.
///
/// # Safety
/// As of [`Lanes`].
pub(super) trait Read<L> {
    /// Parts of a word, each of which meets a word of the left operand.
    const PARTS: usize;
    /// That part of the words.
    unsafe fn read(part: usize, from: *const u32) -> L;
}

/// Words that are multiplied as they are.
pub(super) struct Whole;

/// Words that are pairs of bfloat16, each widened to f32.
pub(super) struct Pairs;

impl<L: Lanes> Read<L> for Whole {
    const PARTS: usize = 1;

    #[inline(always)]
    unsafe fn read(_: usize, from: *const u32) -> L {
        // SAFETY: the caller's promise.
        unsafe { L::load(from) }
    }
}

impl<L: Widen> Read<L> for Pairs {
    const PARTS: usize = 2;

    #[inline(always)]
    unsafe fn read(part: usize, from: *const u32) -> L {
        // SAFETY: the caller's promise.
        unsafe { if part == 0 { L::low(from) } else { L::high(from) } }
    }
}

/// The tile with `REGS` vectors of each row in registers at a time.
///
/// # Safety
/// Needs the instructions of `L`. `a` reaches over `out.rows` rows and all steps, with `R::PARTS` words each; `b` is `[steps,
/// NR]`; `y` reaches over `out.rows` rows of `out.stride` with `out.cols` elements in the last one; rows ≤ MR, cols ≤ NR.
/// Unless `out.fresh`, those elements are initialised.
#[inline(always)]
pub(super) unsafe fn tile<L: Lanes, R: Read<L>, const REGS: usize>(
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
            for part in 0..R::PARTS {
                let mut right = [zero; REGS];
                for (n, r) in right.iter_mut().enumerate() {
                    // SAFETY: k < steps and first + (n + 1) · N ≤ NR, so these words lie inside `b`.
                    *r = unsafe { R::read(part, b.add(k * NR + first + n * L::N)) };
                }
                for (sums, row) in sums.iter_mut().zip(rows) {
                    // SAFETY: k < steps, and the row is one of `out.rows`.
                    let left = unsafe { L::splat(row.add(k * a.step + part * (a.step / R::PARTS))) };
                    for (sum, r) in sums.iter_mut().zip(right) {
                        // SAFETY: the caller's promise about instructions.
                        *sum = unsafe { sum.multiply_add(left, r) };
                    }
                }
            }
        }
        // SAFETY: the caller's promise.
        unsafe { store(sums, y, first, out) };
        first += REGS * L::N;
    }
}

/// Stores the sums of the columns from `first` on, or adds them to what is there.
///
/// # Safety
/// Needs the instructions of `L`. `y` reaches over `out.rows` rows of `out.stride` with `out.cols` elements in the last one,
/// first < cols ≤ NR. Unless `out.fresh`, those elements are initialised.
#[inline(always)]
pub(super) unsafe fn store<L: Lanes, const REGS: usize>(
    sums: [[L; REGS]; MR],
    y: *mut f32,
    first: usize,
    out: &Target,
) {
    let at = |m: usize, n: usize| y.wrapping_add(m * out.stride + first + n * L::N);
    if out.cols - first >= REGS * L::N {
        // Whole rows, with constant bounds: sums that are not looked up by number stay in registers.
        for (m, sums) in sums.iter().enumerate() {
            if m < out.rows {
                for (n, sum) in sums.iter().enumerate() {
                    // SAFETY: row m has this many elements.
                    unsafe { sum.add_to(at(m, n), out.fresh) };
                }
            }
        }
    } else {
        // A copy, for the same reason.
        let sums = std::hint::black_box(sums);
        for (m, sums) in sums.iter().enumerate().take(out.rows) {
            for (n, sum) in sums.iter().enumerate() {
                // SAFETY: row m has that many elements from there on, 0 or more.
                unsafe { add_some(*sum, at(m, n), out.cols.saturating_sub(first + n * L::N), out.fresh) };
            }
        }
    }
}

/// Stores or adds the first `count` of a vector's sums.
///
/// # Safety
/// As of [`Lanes::add_to`] for those.
#[inline(always)]
unsafe fn add_some<L: Lanes>(sums: L, at: *mut f32, count: usize, fresh: bool) {
    let mut all = [0f32; NR];
    let count = count.min(L::N);
    // SAFETY: the caller's promise; a vector is no longer than a tile.
    unsafe {
        if !fresh {
            all.as_mut_ptr().copy_from_nonoverlapping(at, count);
        }
        sums.add_to(all.as_mut_ptr(), fresh);
        at.copy_from_nonoverlapping(all.as_ptr(), count);
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

impl Widen for Loops {
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
}
