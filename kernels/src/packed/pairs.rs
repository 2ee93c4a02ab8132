//! Products of codes in pairs of bfloat16: tables of 32 weights, from which words of 16 bits choose, and numbers that are narrowed
//! together.

use super::codes::{Codes, Rounding};
use super::few::Inputs;
use super::field::{Field, Of, Row};
use super::kind::{BLOCK, Scratch, ahead};
use super::pair_tables::{add_half, add_halves};
use super::strip::Strip;
use super::wide::{Pairs, Wide};
use crate::matmul::Precision;

/// All groups have the same zero.
pub(super) const SAME: u32 = 0;
/// Differences from zeros are not rounded.
pub(super) const EXACT: u32 = 1;
/// Differences from zeros are rounded to bfloat16.
pub(super) const ROUNDED: u32 = 2;

/// Rows of codes, one after the other, at their beginning. Few pointers, since there are few registers.
#[derive(Clone, Copy)]
pub(super) struct Lines {
    pub bits: *const u8,
    /// Bytes of a row.
    pub stride: usize,
    pub scales: *const f32,
    pub zeros: *const f32,
    /// Scales from a row to the next, and zeros.
    pub pitches: [usize; 2],
}

impl Lines {
    /// Rows that were prepared.
    #[inline(always)]
    pub(super) fn new<W, const R: usize>(codes: &Codes, rows: &[Row<W>; R], scratch: &Scratch) -> Self {
        Self {
            bits: rows[0].bits,
            stride: codes.stride(),
            scales: scratch.scales.values.as_ptr(),
            zeros: scratch.zeros.values.as_ptr(),
            pitches: [scratch.scales.pitch, scratch.zeros.pitch],
        }
    }

    /// The numbers of a group of row `i` that its weights are rounded from. Where zeros are the same, `numbers` are differences.
    ///
    /// # Safety
    /// Needs the instructions of `W`, and that group of the row.
    #[inline(always)]
    unsafe fn unrounded<W: Wide, const ZEROS: u32>(&self, numbers: W, i: usize, group: usize) -> W {
        // SAFETY: the caller's promise.
        unsafe {
            let scale = W::splat(*self.scales.add(i * self.pitches[0] + group));
            if ZEROS == SAME {
                return numbers.multiply(scale);
            }
            let difference = numbers.subtract(W::splat(*self.zeros.add(i * self.pitches[1] + group)));
            let difference = if ZEROS == ROUNDED { difference.rounded(Precision::Bf16) } else { difference };
            difference.multiply(scale)
        }
    }
}

/// A way in which codes are multiplied in pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Each weight is computed.
    Numbers,
    /// The same, of bytes that become numbers by a bias which goes with the zero point.
    Biased,
    /// The same, of small floats whose exponents are not changed, with scales that make up for it.
    Tiny,
    /// A table for two groups.
    Tables,
    /// Tables of groups of sixteen, two or four at a time, with differences from zeros that are rounded.
    Sixteens,
    /// Tables that are there already, for each scale that is a byte.
    LookedUp,
}

impl<F: Field> Of<'_, F> {
    /// True if differences from zeros are rounded to bfloat16. Others that are rounded are of f32, and stay as they are.
    pub(super) fn rounds_differences(&self) -> bool {
        self.0.rounding.difference && self.0.rounding.weight == Precision::Bf16
    }

    /// The way of these codes, if they have one.
    #[inline(always)]
    pub(super) fn way(&self) -> Option<Way> {
        let Rounding { weight, product, .. } = self.0.rounding;
        if !F::OFTEN || product != Precision::Bf16 || weight == Precision::F16 {
            return None;
        }
        let steps = if self.0.groups == 1 { 4 } else { self.steps() };
        let (blocks, differences) = (steps.is_multiple_of(4), self.rounds_differences());
        let whole = self.0.cols.is_multiple_of(BLOCK);
        if F::TABLE {
            return match steps {
                1 | 2 if self.0.looked_up.is_some() && whole => Some(Way::LookedUp),
                1 if differences && F::WIDTH > 2 && whole => Some(Way::Sixteens),
                _ if steps <= 2 || blocks => Some(Way::Tables),
                _ => None,
            };
        }
        let no_zeros = matches!(self.0.zeros, Strip::Constant(0.0));
        match F::OFFSET {
            // A product with a biased number is exact: both have no more than 16 and 8 bits.
            true if F::WIDTH == 8 && blocks && !differences && weight == Precision::Bf16 && self.0.limit < 100 => {
                Some(Way::Biased)
            }
            false if F::WIDTH == 8 && blocks && no_zeros && self.0.limit < 7 => Some(Way::Tiny),
            _ => Some(Way::Numbers),
        }
    }

    /// The numbers of a group that its table is rounded from; `DIFFERENCE` where their differences from zero are rounded.
    ///
    /// # Safety
    /// As [`Of::group`].
    #[inline(always)]
    unsafe fn unrounded<W: Wide, const DIFFERENCE: bool>(
        &self,
        row: &Row<W>,
        numbers: W,
        group: usize,
        scratch: &Scratch,
    ) -> W {
        // SAFETY: the caller's promise.
        unsafe {
            let (scale, zero) = self.statistics(row, group, scratch);
            let difference = numbers.subtract(zero);
            let difference = if DIFFERENCE { difference.rounded(Precision::Bf16) } else { difference };
            difference.multiply(scale)
        }
    }

    /// [`Kind::pair_dots`] with tables, of groups of `SPAN` steps, or of whole blocks if that is 4; `ZEROS` says what there is to do about
    /// zeros.
    ///
    /// # Safety
    /// As there.
    #[allow(clippy::needless_range_loop)]
    #[inline(always)]
    pub(super) unsafe fn pair_tables<W: Pairs, const SPAN: usize, const ZEROS: u32, const M: usize, const R: usize>(
        &self,
        rows: &[Row<W>; R],
        x: &Inputs,
        scratch: &Scratch,
    ) -> [[[W; 2]; M]; R] {
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = [[[W::zero(); 2]; M]; R];
            let mut tables = [W::narrowed(W::zero(), W::zero()); R];
            let mut numbers = rows[0].numbers;
            if let Strip::Constant(zero) = self.0.zeros {
                numbers = numbers.subtract(W::splat(zero));
                numbers = if self.rounds_differences() { numbers.rounded(Precision::Bf16) } else { numbers };
            }
            let at = Lines::new(self.0, rows, scratch);
            let (each, mut next, ahead) = ((self.steps() / 4).max(1), 0, ahead(at.stride, R));
            let last = self.0.groups - 1;
            for block in 0..x.width / BLOCK {
                if SPAN == 4 && block == next * each {
                    for i in 0..R {
                        let table = at.unrounded::<W, ZEROS>(numbers, i, next.min(last));
                        tables[i] = W::narrowed(table, table);
                    }
                    next += 1;
                }
                for i in 0..R {
                    let from = at.bits.add(i * at.stride + block * 8 * F::WIDTH as usize);
                    W::prefetch(from.wrapping_add(ahead));
                    let words = W::words(F::WIDTH, from);
                    let mut halves = [W::half(F::WIDTH, 0, words), W::half(F::WIDTH, 1, words)];
                    let mut second = tables[i];
                    if SPAN < 4 {
                        let first = 4 / SPAN * block;
                        let low = at.unrounded::<W, ZEROS>(numbers, i, first.min(last));
                        let high = at.unrounded::<W, ZEROS>(numbers, i, (first + 2 / SPAN).min(last));
                        tables[i] = W::narrowed(low, high);
                        second = tables[i];
                        halves = [W::marked(halves[0]), W::marked(halves[1])];
                    }
                    if SPAN == 1 {
                        let low = at.unrounded::<W, ZEROS>(numbers, i, (4 * block + 1).min(last));
                        let high = at.unrounded::<W, ZEROS>(numbers, i, (4 * block + 3).min(last));
                        second = W::narrowed(low, high);
                    }
                    let weights = [W::pick_words(tables[i], halves[0]), W::pick_words(second, halves[1])];
                    add_halves(weights, x, block, &mut sums[i]);
                }
            }
            sums
        }
    }

    /// [`Kind::pair_dots`] with each weight computed.
    ///
    /// # Safety
    /// As there.
    #[allow(clippy::needless_range_loop)]
    #[inline(always)]
    pub(super) unsafe fn pair_numbers<W: Pairs, const DIFFERENCE: bool, const M: usize, const R: usize>(
        &self,
        rows: &[Row<W>; R],
        x: &Inputs,
        scratch: &Scratch,
    ) -> [[[W; 2]; M]; R] {
        let (steps, ahead) = (self.steps(), ahead(self.0.stride(), R));
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = [[[W::zero(); 2]; M]; R];
            for block in 0..x.width / BLOCK {
                // All groups but those of uneven lengths are of runs of whole lanes.
                let of_step = |step: usize| if self.0.groups == 1 { 0 } else { (4 * block + step) / steps };
                let groups = [of_step(0), of_step(1), of_step(2), of_step(3)];
                for i in 0..R {
                    W::prefetch(rows[i].bits.wrapping_add(block * 8 * F::WIDTH as usize + ahead));
                    let bits = Self::bits(&rows[i], block);
                    for half in 0..2 {
                        let mut numbers = [W::zero(); 2];
                        for (part, numbers) in numbers.iter_mut().enumerate() {
                            let step = 2 * half + part;
                            let bits = W::shifted(bits, step as u32 * F::WIDTH);
                            *numbers = F::numbers(bits, rows[i].numbers);
                            *numbers = self.unrounded::<W, DIFFERENCE>(&rows[i], *numbers, groups[step], scratch);
                        }
                        let weights = W::narrowed(numbers[0], numbers[1]);
                        add_half(weights, x, (block, half), &mut sums[i]);
                    }
                }
            }
            sums
        }
    }
}
