//! Codes of each width on their way from bits to numbers, and their products: group by group, with the weights of a group in a table
//! where a code has at most four bits.

use std::marker::PhantomData;

use super::codes::Codes;
use super::few::{Inputs, add_step};
use super::kind::{Arrangement, BLOCK, Kind, Scratch};
use super::numbers::LANES;
use super::wide::{Pairs, Wide};
use crate::matmul::Precision;

/// A way from bits to numbers.
pub(super) trait Field: Send + Sync + 'static {
    const WIDTH: u32;
    /// The bits choose from a table of the weights of a group, instead of each weight being computed.
    const TABLE: bool;
    /// Numbers are integers above an offset.
    const OFFSET: bool = false;
    /// It is worth code of its own: [`Kind::IN_REGISTERS`].
    const OFTEN: bool;
    /// The lowest bits as numbers, or what they choose from a table.
    ///
    /// # Safety
    /// Needs the instructions of `W`.
    unsafe fn numbers<W: Wide>(bits: W::Bits, table_or_offset: W) -> W;
}

/// Codes of at most four bits.
pub(super) struct Level<const WIDTH: u32>;
/// Integers of more.
pub(super) struct Whole<const WIDTH: u32>;
pub(super) struct E4m3;
pub(super) struct E2m3;

impl<const WIDTH: u32> Field for Level<WIDTH> {
    const WIDTH: u32 = WIDTH;
    const TABLE: bool = true;
    const OFTEN: bool = true;

    #[inline(always)]
    unsafe fn numbers<W: Wide>(bits: W::Bits, table: W) -> W {
        // SAFETY: the caller's promise.
        unsafe { W::pick(table, bits) }
    }
}

impl<const WIDTH: u32> Field for Whole<WIDTH> {
    const WIDTH: u32 = WIDTH;
    const TABLE: bool = false;
    const OFFSET: bool = true;
    const OFTEN: bool = WIDTH == 8;

    #[inline(always)]
    unsafe fn numbers<W: Wide>(bits: W::Bits, offset: W) -> W {
        // SAFETY: the caller's promise.
        unsafe { W::whole(WIDTH, bits).subtract(offset) }
    }
}

impl Field for E4m3 {
    const WIDTH: u32 = 8;
    const TABLE: bool = false;
    const OFTEN: bool = true;

    #[inline(always)]
    unsafe fn numbers<W: Wide>(bits: W::Bits, _: W) -> W {
        // SAFETY: the caller's promise.
        unsafe { W::e4m3(bits) }
    }
}

impl Field for E2m3 {
    const WIDTH: u32 = 6;
    const TABLE: bool = false;
    const OFTEN: bool = false;

    #[inline(always)]
    unsafe fn numbers<W: Wide>(bits: W::Bits, _: W) -> W {
        // SAFETY: the caller's promise.
        unsafe { W::e2m3(bits) }
    }
}

/// Codes with the way to read them.
pub(super) struct Of<'a, F>(&'a Codes, PhantomData<F>);

/// A row of codes.
#[derive(Clone, Copy)]
pub(super) struct Row<W> {
    bits: *const u8,
    /// Where its scales and zeros begin in the scratch.
    scales: usize,
    zeros: usize,
    /// The numbers of codes before scale and zero point, or the offset of integers.
    numbers: W,
}

/// What a group of a row has.
#[derive(Clone, Copy)]
struct Group<W> {
    /// Its weights, or its zero point.
    table: W,
    scale: W,
}

impl<'a, F: Field> Of<'a, F> {
    pub(super) fn new(codes: &'a Codes) -> Self {
        assert_eq!(F::WIDTH, codes.code.width());
        Self(codes, PhantomData)
    }

    /// Steps of [`LANES`] columns in a group.
    fn steps(&self) -> usize {
        self.0.group.div_ceil(LANES)
    }

    /// A group of a row; columns beyond the last one have the last group.
    ///
    /// # Safety
    /// Needs the instructions of `W`, and the scratch of [`Kind::prepare`] for the row.
    #[inline(always)]
    unsafe fn group<W: Wide, const PLAIN: bool>(&self, row: &Row<W>, group: usize, scratch: &Scratch) -> Group<W> {
        let codes = self.0;
        let group = group.min(codes.groups - 1);
        debug_assert!(row.scales + group < scratch.scales.values.len());
        // SAFETY: the caller's promise: there are numbers for every group of the rows that were prepared.
        unsafe {
            let scale = W::splat(*scratch.scales.values.as_ptr().add(row.scales + group));
            let zero = W::splat(*scratch.zeros.values.as_ptr().add(row.zeros + group));
            let table = match F::TABLE {
                true => codes.rounding.wide::<W, PLAIN>(row.numbers, scale, zero),
                // Without roundings of differences these are integers, and the order of subtractions does not matter.
                false if PLAIN && F::OFFSET => zero.add(row.numbers),
                false => zero,
            };
            Group { table, scale }
        }
    }

    /// Sixteen weights.
    ///
    /// # Safety
    /// Needs the instructions of `W`.
    #[inline(always)]
    unsafe fn weights<W: Wide, const PLAIN: bool>(
        &self,
        row: &Row<W>,
        group: &Group<W>,
        bits: W::Bits,
        step: usize,
    ) -> W {
        // SAFETY: the caller's promise.
        unsafe {
            let bits = W::shifted(bits, step as u32 * F::WIDTH);
            match F::TABLE {
                true => F::numbers(bits, group.table),
                false if PLAIN && F::OFFSET => {
                    self.0.rounding.wide::<W, PLAIN>(F::numbers(bits, W::zero()), group.scale, group.table)
                }
                false => self.0.rounding.wide::<W, PLAIN>(F::numbers(bits, row.numbers), group.scale, group.table),
            }
        }
    }

    /// The bits of a block.
    ///
    /// # Safety
    /// Needs the instructions of `W`, and a block of the row; after the last one there are as many bytes as a block can have.
    #[inline(always)]
    unsafe fn bits<W: Wide>(row: &Row<W>, block: usize) -> W::Bits {
        // SAFETY: the caller's promise.
        unsafe { W::fields(F::WIDTH, row.bits.add(block * 8 * F::WIDTH as usize)) }
    }

    /// [`Kind::dots`] with groups of `SPAN` steps, or of whole blocks if that is 4.
    ///
    /// # Safety
    /// As [`Kind::dots`].
    #[allow(clippy::needless_range_loop)]
    #[inline(always)]
    unsafe fn spans<W: Wide, const SPAN: usize, const PLAIN: bool, const M: usize, const R: usize>(
        &self,
        rows: &[Row<W>; R],
        x: &Inputs,
        scratch: &Scratch,
    ) -> [[[W; 2]; M]; R] {
        let blocks = x.width / BLOCK;
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = [[[W::zero(); 2]; M]; R];
            let mut groups = [Group { table: W::zero(), scale: W::zero() }; R];
            let (each, mut next) = ((self.steps() / 4).max(1), 0);
            for block in 0..blocks {
                let mut bits = [Self::bits(&rows[0], block); R];
                for i in 1..R {
                    bits[i] = Self::bits(&rows[i], block);
                }
                for part in 0..4 / SPAN {
                    let number = if SPAN == 4 { next } else { block * (4 / SPAN) + part };
                    if SPAN < 4 || block == next * each {
                        for i in 0..R {
                            groups[i] = self.group::<W, PLAIN>(&rows[i], number, scratch);
                        }
                        next += 1;
                    }
                    for step in part * SPAN..(part + 1) * SPAN {
                        for i in 0..R {
                            let weights = self.weights::<W, PLAIN>(&rows[i], &groups[i], bits[i], step);
                            add_step(weights, x, block, step, &mut sums[i]);
                        }
                    }
                }
            }
            sums
        }
    }
}

/// Products in pairs of bfloat16.
impl<F: Field> Of<'_, F> {
    /// The numbers of a group that its table is rounded from.
    ///
    /// # Safety
    /// As [`Of::group`].
    #[inline(always)]
    unsafe fn unrounded<W: Wide>(&self, row: &Row<W>, numbers: W, group: usize, scratch: &Scratch) -> W {
        let group = group.min(self.0.groups - 1);
        debug_assert!(row.scales + group < scratch.scales.values.len());
        // SAFETY: the caller's promise: there are numbers for every group of the rows that were prepared.
        unsafe {
            let scale = W::splat(*scratch.scales.values.as_ptr().add(row.scales + group));
            let zero = W::splat(*scratch.zeros.values.as_ptr().add(row.zeros + group));
            let difference = numbers.subtract(zero);
            let is_rounded = self.0.rounding.difference && self.0.rounding.weight == Precision::Bf16;
            let difference = if is_rounded { difference.rounded(Precision::Bf16) } else { difference };
            difference.multiply(scale)
        }
    }

    /// [`Kind::pair_dots`] with tables, of groups of `SPAN` steps, or of whole blocks if that is 4.
    ///
    /// # Safety
    /// As there.
    #[allow(clippy::needless_range_loop)]
    #[inline(always)]
    unsafe fn pair_tables<W: Pairs, const SPAN: usize, const M: usize, const R: usize>(
        &self,
        rows: &[Row<W>; R],
        x: &Inputs,
        scratch: &Scratch,
    ) -> [[[W; 2]; M]; R] {
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = [[[W::zero(); 2]; M]; R];
            let mut tables = [W::narrowed(W::zero(), W::zero()); R];
            let (each, mut next) = ((self.steps() / 4).max(1), 0);
            for block in 0..x.width / BLOCK {
                let mut bits = [W::words(F::WIDTH, rows[0].bits.add(block * 8 * F::WIDTH as usize)); R];
                for i in 1..R {
                    bits[i] = W::words(F::WIDTH, rows[i].bits.add(block * 8 * F::WIDTH as usize));
                }
                if SPAN == 4 && block == next * each {
                    for i in 0..R {
                        let table = self.unrounded(&rows[i], rows[i].numbers, next, scratch);
                        tables[i] = W::narrowed(table, table);
                    }
                    next += 1;
                }
                for half in 0..2 {
                    if SPAN < 4 && (SPAN == 1 || half == 0) {
                        let first = if SPAN == 1 { 4 * block + half } else { 2 * block };
                        for i in 0..R {
                            let low = self.unrounded(&rows[i], rows[i].numbers, first, scratch);
                            let high = self.unrounded(&rows[i], rows[i].numbers, first + 2 / SPAN, scratch);
                            tables[i] = W::narrowed(low, high);
                        }
                    }
                    for i in 0..R {
                        let bits = W::shifted_words(bits[i], half as u32 * F::WIDTH);
                        let bits = if SPAN == 4 { bits } else { W::marked(bits) };
                        let weights = W::pick_words(tables[i], bits);
                        for m in 0..M {
                            sums[i][m][half] = sums[i][m][half].dot(weights, x.pairs::<W>(m, block, half));
                        }
                    }
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
    unsafe fn pair_numbers<W: Pairs, const M: usize, const R: usize>(
        &self,
        rows: &[Row<W>; R],
        x: &Inputs,
        scratch: &Scratch,
    ) -> [[[W; 2]; M]; R] {
        let steps = self.steps();
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = [[[W::zero(); 2]; M]; R];
            for block in 0..x.width / BLOCK {
                // All groups but those of uneven lengths are of runs of whole lanes.
                let of_step = |step: usize| if self.0.groups == 1 { 0 } else { (4 * block + step) / steps };
                let groups = [of_step(0), of_step(1), of_step(2), of_step(3)];
                for i in 0..R {
                    let bits = Self::bits(&rows[i], block);
                    for half in 0..2 {
                        let mut numbers = [W::zero(); 2];
                        for (part, numbers) in numbers.iter_mut().enumerate() {
                            let step = 2 * half + part;
                            let bits = W::shifted(bits, step as u32 * F::WIDTH);
                            *numbers = F::numbers(bits, rows[i].numbers);
                            *numbers = self.unrounded(&rows[i], *numbers, groups[step], scratch);
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

impl<F: Field> Kind for Of<'_, F> {
    const IN_REGISTERS: bool = F::OFTEN;
    type Row<W: Wide> = Row<W>;

    #[inline(always)]
    fn prepare(&self, first: usize, count: usize, scratch: &mut Scratch) {
        self.0.scales.widen(first, count, &mut scratch.scales);
        match &self.0.zeros {
            Some(zeros) => zeros.widen(first, count, &mut scratch.zeros),
            // One row of zeros is that of all.
            None => scratch.zeros.values.resize(self.0.groups, 0.0),
        }
    }

    #[inline(always)]
    unsafe fn row<W: Wide>(&self, first: usize, i: usize, _: &Scratch) -> Row<W> {
        let codes = self.0;
        // SAFETY: the caller's promise.
        let numbers = unsafe {
            match F::TABLE {
                true => W::load(codes.levels.as_ptr()),
                false => W::splat(codes.code.offset() as f32),
            }
        };
        Row {
            bits: codes.packed[(first + i) * codes.stride()..].as_ptr(),
            scales: i * codes.scales.stride,
            zeros: i * codes.zeros.as_ref().map_or(0, |zeros| zeros.stride),
            numbers,
        }
    }

    #[inline(always)]
    unsafe fn block<W: Wide>(&self, row: &mut Row<W>, block: usize, scratch: &Scratch) -> [W; 4] {
        // SAFETY: the caller's promise.
        unsafe {
            let (bits, steps) = (Self::bits(row, block), self.steps());
            let mut weights = [W::zero(); 4];
            for (step, weights) in weights.iter_mut().enumerate() {
                let group = self.group::<W, false>(row, (4 * block + step) / steps, scratch);
                *weights = self.weights::<W, false>(row, &group, bits, step);
            }
            weights
        }
    }

    #[inline(always)]
    unsafe fn dots<W: Wide, const M: usize, const R: usize>(
        &self,
        rows: [Row<W>; R],
        x: &Inputs,
        scratch: &Scratch,
    ) -> [[[W; 2]; M]; R] {
        let (steps, plain) = (self.steps(), self.0.rounding.is_plain());
        // SAFETY: the caller's promise.
        unsafe {
            match (self.0.groups, steps) {
                (1, _) if plain => self.spans::<W, 4, true, M, R>(&rows, x, scratch),
                (1, _) => self.spans::<W, 4, false, M, R>(&rows, x, scratch),
                (_, 1) if plain => self.spans::<W, 1, true, M, R>(&rows, x, scratch),
                (_, 1) => self.spans::<W, 1, false, M, R>(&rows, x, scratch),
                (_, 2) if plain => self.spans::<W, 2, true, M, R>(&rows, x, scratch),
                (_, 2) => self.spans::<W, 2, false, M, R>(&rows, x, scratch),
                (_, steps) if steps % 4 == 0 && plain => self.spans::<W, 4, true, M, R>(&rows, x, scratch),
                (_, steps) if steps % 4 == 0 => self.spans::<W, 4, false, M, R>(&rows, x, scratch),
                _ => super::few::by_blocks(self, rows, x, scratch),
            }
        }
    }

    fn arrangement(&self) -> Option<Arrangement> {
        let rounding = self.0.rounding;
        let is_narrow = rounding.product == Precision::Bf16 && rounding.weight != Precision::F16;
        let spans = self.0.groups == 1 || self.steps() <= 2 || self.steps() % 4 == 0;
        match F::TABLE {
            true => (F::OFTEN && is_narrow && spans).then_some(Arrangement::Halves),
            false => (F::OFTEN && is_narrow).then_some(Arrangement::Natural),
        }
    }

    #[inline(always)]
    unsafe fn pair_dots<W: Pairs, const M: usize, const R: usize>(
        &self,
        rows: [Row<W>; R],
        x: &Inputs,
        scratch: &Scratch,
    ) -> [[[W; 2]; M]; R] {
        // SAFETY: the caller's promise.
        unsafe {
            match self.steps() {
                _ if !F::TABLE => self.pair_numbers(&rows, x, scratch),
                1 if self.0.groups > 1 => self.pair_tables::<W, 1, M, R>(&rows, x, scratch),
                2 if self.0.groups > 1 => self.pair_tables::<W, 2, M, R>(&rows, x, scratch),
                _ => self.pair_tables::<W, 4, M, R>(&rows, x, scratch),
            }
        }
    }
}
