//! Products of codes in pairs of bfloat16: tables of 32 weights, from which words of 16 bits choose, and numbers that are narrowed
//! together.

use super::codes::Rounding;
use super::few::Inputs;
use super::field::{Field, Of, Row};
use super::kind::{BLOCK, Scratch, ahead};
use super::strip::Strip;
use super::wide::{Pairs, Wide};
use crate::matmul::Precision;

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
        if F::TABLE {
            return match steps {
                1 | 2 if self.0.looked_up.is_some() && self.0.cols.is_multiple_of(BLOCK) => Some(Way::LookedUp),
                1 if differences && F::WIDTH > 2 => Some(Way::Sixteens),
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

    /// [`Kind::pair_dots`] with tables, of groups of `SPAN` steps, or of whole blocks if that is 4.
    ///
    /// # Safety
    /// As there.
    #[allow(clippy::needless_range_loop)]
    #[inline(always)]
    pub(super) unsafe fn pair_tables<
        W: Pairs,
        const SPAN: usize,
        const DIFFERENCE: bool,
        const M: usize,
        const R: usize,
    >(
        &self,
        rows: &[Row<W>; R],
        x: &Inputs,
        scratch: &Scratch,
    ) -> [[[W; 2]; M]; R] {
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = [[[W::zero(); 2]; M]; R];
            let mut tables = [W::narrowed(W::zero(), W::zero()); R];
            let (each, mut next, ahead) = ((self.steps() / 4).max(1), 0, ahead(self.0.stride(), R));
            for block in 0..x.width / BLOCK {
                let at = block * 8 * F::WIDTH as usize;
                for row in rows {
                    W::prefetch(row.bits.wrapping_add(at + ahead));
                }
                let mut bits = [W::words(F::WIDTH, rows[0].bits.add(at)); R];
                for i in 1..R {
                    bits[i] = W::words(F::WIDTH, rows[i].bits.add(at));
                }
                if SPAN == 4 && block == next * each {
                    for i in 0..R {
                        let table = self.unrounded::<W, DIFFERENCE>(&rows[i], rows[i].numbers, next, scratch);
                        tables[i] = W::narrowed(table, table);
                    }
                    next += 1;
                }
                // Written out, since a loop is not always unrolled.
                self.half::<W, SPAN, DIFFERENCE, 0, M, R>(rows, (&bits, &mut tables), (x, block), scratch, &mut sums);
                self.half::<W, SPAN, DIFFERENCE, 1, M, R>(rows, (&bits, &mut tables), (x, block), scratch, &mut sums);
            }
            sums
        }
    }

    /// Half a block of [`Of::pair_tables`].
    ///
    /// # Safety
    /// As there.
    #[allow(clippy::needless_range_loop)]
    #[inline(always)]
    unsafe fn half<
        W: Pairs,
        const SPAN: usize,
        const DIFFERENCE: bool,
        const HALF: usize,
        const M: usize,
        const R: usize,
    >(
        &self,
        rows: &[Row<W>; R],
        (bits, tables): (&[W::Bits; R], &mut [W::Bits; R]),
        (x, block): (&Inputs, usize),
        scratch: &Scratch,
        sums: &mut [[[W; 2]; M]; R],
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            if SPAN == 1 || (SPAN == 2 && HALF == 0) {
                let first = if SPAN == 1 { 4 * block + HALF } else { 2 * block };
                for i in 0..R {
                    let low = self.unrounded::<W, DIFFERENCE>(&rows[i], rows[i].numbers, first, scratch);
                    let high = self.unrounded::<W, DIFFERENCE>(&rows[i], rows[i].numbers, first + 2 / SPAN, scratch);
                    tables[i] = W::narrowed(low, high);
                }
            }
            for i in 0..R {
                let bits = W::half(F::WIDTH, HALF as u32, bits[i]);
                let bits = if SPAN == 4 { bits } else { W::marked(bits) };
                let weights = W::pick_words(tables[i], bits);
                for m in 0..M {
                    sums[i][m][HALF] = sums[i][m][HALF].dot(weights, x.pairs::<W>(m, block, HALF));
                }
            }
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
                        for m in 0..M {
                            sums[i][m][half] = sums[i][m][half].dot(weights, x.pairs::<W>(m, block, half));
                        }
                    }
                }
            }
            sums
        }
    }
}
