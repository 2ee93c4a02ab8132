//! Products in blocks of 32 by 32 sums, for units that multiply tiles of 16 rows with 16 columns over 16 pairs of bfloat16.
//!
//! The left operand lies in tiles, row-major, each a kilobyte without gaps: all of 16 rows before the next 16, filled up with
//! zeros. The right one lies in panels of 64 columns as for every other version: a tile is 16 lines of one.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(super) mod amx;
mod pack;
mod plain;

use std::mem::MaybeUninit;

pub(super) use pack::{pad, rounded, turned};

use super::{Isa, Left, NR, Target, fetch, next_share};
use crate::simd::multiversion;

/// Rows, columns and words along k of a tile.
pub(super) const SIDE: usize = 16;
/// Rows and columns of a block: two tiles each way, so that every tile that is read is multiplied twice.
pub(super) const BLOCK: usize = 2 * SIDE;
/// Words of a tile.
pub(super) const TILE: usize = SIDE * SIDE;
/// Words along k per pass. Tiles are read from the second-level cache as fast as they are multiplied; adding the sums of one pass to
/// those of another takes as long as some of the products.
pub(super) const DEPTH: usize = 512;

/// The sums of a block, row-major.
#[repr(C, align(64))]
struct Sums([MaybeUninit<f32>; BLOCK * BLOCK]);

/// Operands of a block: 32 rows of the left one, 32 columns of the right one.
pub(super) struct Operands<'a> {
    /// Whole tiles of the first 16 rows, as many as there are in `right` and one for `tail`.
    pub top: &'a [u32],
    /// Those of the next 16; of the first again where there are no more.
    pub bottom: &'a [u32],
    /// Whole tiles: lines of panels, of which 32 words are read.
    pub right: &'a [u32],
    /// One tile more, if there is one.
    pub tail: Option<&'a [u32]>,
}

impl Operands<'_> {
    /// True if every tile lies inside.
    fn fit(&self) -> bool {
        // Of the last line 32 words are read.
        let lines = |from: &[u32], tiles: usize| tiles == 0 || from.len() >= (tiles * SIDE - 1) * NR + BLOCK;
        let whole = self.whole();
        let tiles = whole + usize::from(self.tail.is_some());
        tiles > 0
            && self.top.len().min(self.bottom.len()) >= tiles * TILE
            && lines(self.right, whole)
            && self.tail.is_none_or(|tail| lines(tail, 1))
    }

    /// Tiles of `right`.
    fn whole(&self) -> usize {
        (self.right.len() + NR - BLOCK) / NR / SIDE
    }
}

/// Those of [`super::multiply`], for pairs: `left` as [`rounded`] or [`turned`] makes it.
pub(super) fn multiply(
    isa: Isa,
    left: &Left<'_>,
    right: &[u32],
    steps: usize,
    out: &Target,
    y: &mut [MaybeUninit<f32>],
) {
    let unit = Unit::begin(isa);
    let passes = steps.div_ceil(DEPTH).max(1);
    let depth = steps.div_ceil(passes).next_multiple_of(SIDE);
    let mut tail = Tail([0; SIDE * NR]);
    let mut sums = Sums([MaybeUninit::new(0.0); BLOCK * BLOCK]);
    for (n, b) in right.chunks_exact(steps * NR).enumerate() {
        let cols = NR.min(out.cols.saturating_sub(n * NR));
        if cols == 0 {
            break;
        }
        let (rest, blocks) = (steps % SIDE, out.rows.div_ceil(BLOCK) * cols.div_ceil(BLOCK));
        tail.0[..rest * NR].copy_from_slice(&b[(steps - rest) * NR..]);
        for first in (0..steps).step_by(depth) {
            let count = depth.min(steps - first);
            let whole = count / SIDE * SIDE;
            let tail = (whole < count).then_some(&tail.0[..]);
            let part = &b[first * NR..][..whole * NR];
            let mut next = right[(n * steps + first + count) * NR..].chunks(next_share(depth * NR, blocks));
            for at in (0..cols).step_by(BLOCK) {
                let (right, tail) = (&part[at.min(part.len())..], tail.map(|tail| &tail[at..]));
                for m in (0..out.rows).step_by(BLOCK) {
                    fetch(next.next().unwrap_or_default());
                    let rows = BLOCK.min(out.rows - m);
                    let top = &left.words[m * left.row + first * left.step..];
                    let below = if rows > SIDE { m + SIDE } else { m };
                    let bottom = &left.words[below * left.row + first * left.step..];
                    let target = Target { rows, cols: BLOCK.min(cols - at), ..*out };
                    let y = &mut y[m * out.stride + n * NR + at..];
                    own(y, BLOCK * out.stride, BLOCK.min(out.rows.saturating_sub(m + BLOCK)), out.stride);
                    unit.block(&Operands { top, bottom, right, tail }, y, &target, first == 0, &mut sums);
                }
            }
        }
    }
}

/// Asks for the lines of the next block's sums, which are about to be written: `rows` of them from there on. Without it products with
/// few columns wait for the memory of their results (docs/dev/lab-notes.md).
#[inline(always)]
fn own(y: &[MaybeUninit<f32>], from: usize, rows: usize, stride: usize) {
    #[cfg(target_arch = "x86_64")]
    for row in 0..rows {
        let line = y.as_ptr().wrapping_add(from + row * stride);
        // SAFETY: the instruction reads nothing, and is ignored where there is no memory.
        unsafe {
            std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_ET0 }>(line.cast());
            std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_ET0 }>(line.wrapping_add(16).cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (y, from, rows, stride);
}

/// The last words of a panel along k, filled up with zeros.
#[repr(C, align(64))]
struct Tail([u32; SIDE * NR]);

/// The unit that multiplies tiles.
enum Unit {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    Amx(amx::Configured),
    Plain,
}

impl Unit {
    fn begin(isa: Isa) -> Self {
        match isa {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Isa::Amx => Unit::Amx(amx::Configured::begin()),
            _ => Unit::Plain,
        }
    }

    /// Stores the sums of a block, or adds them to what is there. Those of a fresh target continue from pass to pass, others are
    /// of one pass each.
    fn block(&self, operands: &Operands<'_>, y: &mut [MaybeUninit<f32>], out: &Target, first: bool, sums: &mut Sums) {
        assert!(operands.fit() && y.len() >= (out.rows - 1) * out.stride + out.cols);
        let from = if out.fresh && !first { From::There } else { From::Zero };
        // Whole blocks need no room of their own.
        if out.fresh && (out.rows, out.cols) == (BLOCK, BLOCK) {
            return self.whole(operands, y, out.stride, from);
        }
        if from == From::There {
            for (sums, y) in sums.0.chunks_exact_mut(BLOCK).zip(y.chunks(out.stride)).take(out.rows) {
                sums[..out.cols].copy_from_slice(&y[..out.cols]);
            }
        }
        self.whole(operands, &mut sums.0, BLOCK, from);
        add(&sums.0, y, out);
    }

    /// The sums of a block in place of what is there, in rows of `stride`.
    fn whole(&self, operands: &Operands<'_>, sums: &mut [MaybeUninit<f32>], stride: usize, from: From) {
        match self {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            // SAFETY: all tiles lie inside the operands and the sums, as the caller has found.
            Unit::Amx(unit) => unsafe { unit.block(operands, sums.as_mut_ptr().cast(), stride, from) },
            Unit::Plain => plain::block(operands, sums, stride, from),
        }
    }
}

/// The values that the sums of a block begin with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    Zero,
    /// With what is there, which is initialised.
    There,
}

multiversion! {
    /// Stores sums, or adds them to what is there.
    fn add(sums: &[MaybeUninit<f32>], y: &mut [MaybeUninit<f32>], out: &Target) {
        let Target { rows, cols, stride, fresh } = *out;
        for (y, sums) in y.chunks_mut(stride).zip(sums.chunks_exact(BLOCK)).take(rows) {
            // A length that the compiler knows, where it is the usual one.
            match (y.first_chunk_mut::<BLOCK>(), sums.first_chunk::<BLOCK>()) {
                (Some(y), Some(sums)) if cols == BLOCK => store(y, sums, fresh),
                _ => store(&mut y[..cols], &sums[..cols], fresh),
            }
        }
    }
}

#[inline(always)]
fn store(y: &mut [MaybeUninit<f32>], sums: &[MaybeUninit<f32>], fresh: bool) {
    if fresh {
        y.copy_from_slice(sums);
        return;
    }
    for (y, sum) in y.iter_mut().zip(sums) {
        // SAFETY: unless they are fresh, the elements of a target are initialised, and sums are those of a block.
        let (before, sum) = unsafe { (y.assume_init(), sum.assume_init()) };
        y.write(before + sum);
    }
}
