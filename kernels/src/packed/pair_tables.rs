//! Products of codes in pairs of bfloat16 whose weights come in another way than by a table for two groups.

use super::few::Inputs;
use super::field::{Field, Of, Row};
use super::kind::{BLOCK, Scratch, ahead};
use super::numbers::{LANES, Numbers};
use super::pairs::Lines;
use super::strip::{Plain, Strip};
use super::wide::Pairs;

impl<F: Field> Of<'_, F> {
    /// [`Kind::pair_dots`] with groups of sixteen whose differences from zeros are rounded: no number of f32 is rounded by itself,
    /// since two registers become one of bfloat16, the halves of whose lanes are f32 again. Zeros are swapped.
    ///
    /// # Safety
    /// As there.
    #[allow(clippy::needless_range_loop)]
    #[inline(always)]
    pub(super) unsafe fn pair_sixteens<W: Pairs, const M: usize, const R: usize>(
        &self,
        rows: &[Row<W>; R],
        x: &Inputs,
        scratch: &Scratch,
    ) -> [[[W; 2]; M]; R] {
        // The numbers of codes, each as often as there are groups in turn.
        let mut spread = [0f32; 2 * LANES];
        for (i, number) in spread.iter_mut().enumerate() {
            *number = self.0.levels[if F::WIDTH == 3 { i / 4 } else { i / 2 }];
        }
        // SAFETY: the caller's promise; there are numbers of four groups for each block.
        unsafe {
            let spread = [W::load(spread.as_ptr()), W::load(spread.as_ptr().add(LANES))];
            let mut sums = [[[W::zero(); 2]; M]; R];
            let at = Lines::new(self.0, rows, scratch);
            let ahead = ahead(at.stride, R);
            for block in 0..x.width / BLOCK {
                for i in 0..R {
                    let from = at.bits.add(i * at.stride + block * 8 * F::WIDTH as usize);
                    W::prefetch(from.wrapping_add(ahead));
                    let words = W::words(F::WIDTH, from);
                    let scales = at.scales.add(i * at.pitches[0] + 4 * block);
                    let zeros = at.zeros.add(i * at.pitches[1] + 4 * block);
                    let weights = match F::WIDTH {
                        3 => {
                            let differences = differences(spread, W::repeat_four(zeros));
                            let low = W::parity(0, differences).multiply(W::repeat_two(scales));
                            let high = W::parity(1, differences).multiply(W::repeat_two(scales.add(2)));
                            let table = W::narrowed(low, high);
                            [W::pick_words(table, W::quarters(0, words)), W::pick_words(table, W::quarters(1, words))]
                        }
                        _ => {
                            let mut weights = [words; 2];
                            for half in 0..2 {
                                let differences = differences(spread, W::repeat_two(zeros.add(2 * half)));
                                let low = W::parity(0, differences).multiply(W::splat(*scales.add(half)));
                                let high = W::parity(1, differences).multiply(W::splat(*scales.add(half + 2)));
                                let bits = W::marked(W::half(F::WIDTH, half as u32, words));
                                weights[half] = W::pick_words(W::narrowed(low, high), bits);
                            }
                            weights
                        }
                    };
                    add_halves(weights, x, block, &mut sums[i]);
                }
            }
            sums
        }
    }

    /// [`Kind::pair_dots`] with groups of `SPAN` steps, 1 or 2, whose scales are bytes that say which table they have.
    ///
    /// # Safety
    /// As there.
    #[allow(clippy::needless_range_loop)]
    #[inline(always)]
    pub(super) unsafe fn pair_looked_up<W: Pairs, const SPAN: usize, const M: usize, const R: usize>(
        &self,
        rows: &[Row<W>; R],
        x: &Inputs,
    ) -> [[[W; 2]; M]; R] {
        // SAFETY: the caller's promise; there are whole blocks, and a table for each byte.
        unsafe {
            let mut sums = [[[W::zero(); 2]; M]; R];
            let (Some(tables), Strip::Plain(Plain { numbers, stride, .. })) = (&self.0.looked_up, &self.0.scales)
            else {
                return sums;
            };
            let (Numbers::E4m3(bytes, _) | Numbers::Exponents(bytes)) = numbers else { return sums };
            assert!(tables.len() >= 256 * LANES && bytes.len() >= (rows[R - 1].number + 1) * stride);
            assert!(4 / SPAN * (x.width / BLOCK) <= *stride);
            let tables = tables.as_ptr();
            let (bits, each, stride) = (rows[0].bits, self.0.stride(), *stride);
            let (first, ahead) = (bytes.as_ptr().add(rows[0].number * stride), ahead(each, R));
            for block in 0..x.width / BLOCK {
                for i in 0..R {
                    let from = bits.add(i * each + block * 8 * F::WIDTH as usize);
                    W::prefetch(from.wrapping_add(ahead));
                    let words = W::words(F::WIDTH, from);
                    let bytes = first.add(i * stride + 4 / SPAN * block);
                    let table_one = W::join_words(table(tables, bytes), table(tables, bytes.add(2 / SPAN)));
                    let table_two = match SPAN {
                        1 => W::join_words(table(tables, bytes.add(1)), table(tables, bytes.add(3))),
                        _ => table_one,
                    };
                    let weights = [
                        W::pick_words(table_one, W::marked(W::half(F::WIDTH, 0, words))),
                        W::pick_words(table_two, W::marked(W::half(F::WIDTH, 1, words))),
                    ];
                    add_halves(weights, x, block, &mut sums[i]);
                }
            }
            sums
        }
    }

    /// [`Kind::pair_dots`] of integers of eight bits in groups of whole blocks: `(2^15 + code) · scale − (2^15 + offset + zero) · scale`, of
    /// which all but the last operation is exact.
    ///
    /// # Safety
    /// As there.
    #[allow(clippy::needless_range_loop)]
    #[inline(always)]
    pub(super) unsafe fn pair_biased<W: Pairs, const M: usize, const R: usize>(
        &self,
        rows: &[Row<W>; R],
        x: &Inputs,
        scratch: &Scratch,
    ) -> [[[W; 2]; M]; R] {
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = [[[W::zero(); 2]; M]; R];
            let mut groups = [(W::zero(), W::zero()); R];
            let (each, mut next, ahead) = ((self.steps() / 4).max(1), 0, ahead(self.0.stride(), R));
            for block in 0..x.width / BLOCK {
                if block == next * each {
                    for i in 0..R {
                        let (scale, zero) = self.statistics(&rows[i], next, scratch);
                        let bias = W::splat(-32768.0).subtract(rows[i].numbers).subtract(zero);
                        groups[i] = (scale, bias.multiply(scale));
                    }
                    next += 1;
                }
                for i in 0..R {
                    W::prefetch(rows[i].bits.wrapping_add(block * BLOCK + ahead));
                    let (bits, (scale, base)) = (Self::bits(&rows[i], block), groups[i]);
                    let weights = [
                        W::narrowed(
                            base.multiply_add(W::biased(0, bits), scale),
                            base.multiply_add(W::biased(1, bits), scale),
                        ),
                        W::narrowed(
                            base.multiply_add(W::biased(2, bits), scale),
                            base.multiply_add(W::biased(3, bits), scale),
                        ),
                    ];
                    add_halves(weights, x, block, &mut sums[i]);
                }
            }
            sums
        }
    }

    /// [`Kind::pair_dots`] of `e4m3` in groups of whole blocks: numbers are 2^-120 times what they should be, and scales as much more.
    ///
    /// # Safety
    /// As there.
    #[allow(clippy::needless_range_loop)]
    #[inline(always)]
    pub(super) unsafe fn pair_tiny<W: Pairs, const M: usize, const R: usize>(
        &self,
        rows: &[Row<W>; R],
        x: &Inputs,
        scratch: &Scratch,
    ) -> [[[W; 2]; M]; R] {
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = [[[W::zero(); 2]; M]; R];
            let mut scales = [W::zero(); R];
            let (each, mut next, ahead) = ((self.steps() / 4).max(1), 0, ahead(self.0.stride(), R));
            let factor = W::splat(2f32.powi(120));
            for block in 0..x.width / BLOCK {
                if block == next * each {
                    for i in 0..R {
                        scales[i] = self.statistics(&rows[i], next, scratch).0.multiply(factor);
                    }
                    next += 1;
                }
                for i in 0..R {
                    W::prefetch(rows[i].bits.wrapping_add(block * BLOCK + ahead));
                    let bits = Self::bits(&rows[i], block);
                    let (low, high) = (W::tiny_e4m3(0, bits), W::tiny_e4m3(1, bits));
                    let weights = [
                        W::narrowed(W::parity(0, low).multiply(scales[i]), W::parity(1, low).multiply(scales[i])),
                        W::narrowed(W::parity(0, high).multiply(scales[i]), W::parity(1, high).multiply(scales[i])),
                    ];
                    add_halves(weights, x, block, &mut sums[i]);
                }
            }
            sums
        }
    }
}

/// The table of a scale.
///
/// # Safety
/// There is a table for each byte.
#[inline(always)]
unsafe fn table(tables: *const u16, scale: *const u8) -> *const u16 {
    // SAFETY: the caller's promise.
    unsafe { tables.add(usize::from(*scale) * LANES) }
}

/// Numbers minus zeros, rounded to bfloat16.
///
/// # Safety
/// Needs the instructions of `W`.
#[inline(always)]
unsafe fn differences<W: Pairs>(numbers: [W; 2], zeros: W) -> W::Bits {
    // SAFETY: the caller's promise.
    unsafe { W::narrowed(numbers[0].subtract(zeros), numbers[1].subtract(zeros)) }
}

/// Adds the products of the two halves of a block with `M` inputs.
///
/// # Safety
/// Needs the instructions of `W`; `x` has `M` rows of that many blocks, arranged.
#[inline(always)]
pub(super) unsafe fn add_halves<W: Pairs, const M: usize>(
    weights: [W::Bits; 2],
    x: &Inputs,
    block: usize,
    sums: &mut [[W; 2]; M],
) {
    // SAFETY: the caller's promise.
    unsafe {
        add_half(weights[0], x, (block, 0), sums);
        add_half(weights[1], x, (block, 1), sums);
    }
}

/// Adds the products of one half of a block with `M` inputs.
///
/// # Safety
/// As [`add_halves`].
#[inline(always)]
pub(super) unsafe fn add_half<W: Pairs, const M: usize>(
    weights: W::Bits,
    x: &Inputs,
    (block, half): (usize, usize),
    sums: &mut [[W; 2]; M],
) {
    for (m, sums) in sums.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        sums[half] = unsafe { sums[half].dot(weights, x.pairs::<W>(m, block, half)) };
    }
}
