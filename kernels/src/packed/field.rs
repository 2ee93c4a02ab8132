//! Codes of each width on their way from bits to numbers, and their products: group by group, with the weights of a group in a table
//! where a code has at most four bits.

use std::marker::PhantomData;

use super::codes::Codes;
use super::few::{Inputs, add_step};
use super::kind::{Arrangement, BLOCK, Kind, Scratch, ahead};
use super::numbers::LANES;
use super::pairs::{EXACT, ROUNDED, SAME, Way};
use super::strip::Strip;
use super::wide::{Pairs, Wide};

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
    const OFTEN: bool = true;

    #[inline(always)]
    unsafe fn numbers<W: Wide>(bits: W::Bits, _: W) -> W {
        // SAFETY: the caller's promise.
        unsafe { W::e2m3(bits) }
    }
}

/// Codes with the way to read them.
pub(super) struct Of<'a, F>(pub(super) &'a Codes, PhantomData<F>);

/// A row of codes.
#[derive(Clone, Copy)]
pub(super) struct Row<W> {
    pub bits: *const u8,
    pub number: usize,
    /// The places of its scales and zeros in the scratch.
    pub scales: usize,
    pub zeros: usize,
    /// The numbers of codes before scale and zero point, or the offset of integers.
    pub numbers: W,
}

/// A group of a row.
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
    pub(super) fn steps(&self) -> usize {
        self.0.group.div_ceil(LANES)
    }

    /// Scale and zero point of a group of a row; columns beyond the last one have the last group.
    ///
    /// # Safety
    /// Needs the instructions of `W`, and the scratch of [`Kind::prepare`] for the row.
    #[inline(always)]
    pub(super) unsafe fn statistics<W: Wide>(&self, row: &Row<W>, group: usize, scratch: &Scratch) -> (W, W) {
        let group = group.min(self.0.groups - 1);
        debug_assert!(row.scales + group < scratch.scales.values.len());
        // SAFETY: the caller's promise: there are numbers for every group of the rows that were prepared.
        unsafe {
            let scale = W::splat(*scratch.scales.values.as_ptr().add(row.scales + group));
            (scale, W::splat(*scratch.zeros.values.as_ptr().add(row.zeros + group)))
        }
    }

    /// The numbers of a group of a row.
    ///
    /// # Safety
    /// Needs the instructions of `W`, and the scratch of [`Kind::prepare`] for the row.
    #[inline(always)]
    unsafe fn group<W: Wide, const PLAIN: bool>(&self, row: &Row<W>, group: usize, scratch: &Scratch) -> Group<W> {
        // SAFETY: the caller's promise.
        unsafe {
            let (scale, zero) = self.statistics(row, group, scratch);
            let table = match F::TABLE {
                true => self.0.rounding.wide::<W, PLAIN>(row.numbers, scale, zero),
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
    pub(super) unsafe fn bits<W: Wide>(row: &Row<W>, block: usize) -> W::Bits {
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
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = [[[W::zero(); 2]; M]; R];
            let mut groups = [Group { table: W::zero(), scale: W::zero() }; R];
            let (each, mut next, ahead) = ((self.steps() / 4).max(1), 0, ahead(self.0.stride(), R));
            for block in 0..x.width / BLOCK {
                for row in rows {
                    W::prefetch(row.bits.wrapping_add(block * 8 * F::WIDTH as usize + ahead));
                }
                if SPAN == 4 && block == next * each {
                    for i in 0..R {
                        groups[i] = self.group::<W, PLAIN>(&rows[i], next, scratch);
                    }
                    next += 1;
                }
                let mut bits = [Self::bits(&rows[0], block); R];
                for i in 1..R {
                    bits[i] = Self::bits(&rows[i], block);
                }
                // Written out, since a loop is not always unrolled.
                self.step::<W, SPAN, PLAIN, 0, M, R>(rows, (&bits, &mut groups), (x, block), scratch, &mut sums);
                self.step::<W, SPAN, PLAIN, 1, M, R>(rows, (&bits, &mut groups), (x, block), scratch, &mut sums);
                self.step::<W, SPAN, PLAIN, 2, M, R>(rows, (&bits, &mut groups), (x, block), scratch, &mut sums);
                self.step::<W, SPAN, PLAIN, 3, M, R>(rows, (&bits, &mut groups), (x, block), scratch, &mut sums);
            }
            sums
        }
    }

    /// A step of [`Of::spans`], which begins a group where `SPAN` says so.
    ///
    /// # Safety
    /// As there.
    #[allow(clippy::needless_range_loop)]
    #[inline(always)]
    unsafe fn step<W: Wide, const SPAN: usize, const PLAIN: bool, const STEP: usize, const M: usize, const R: usize>(
        &self,
        rows: &[Row<W>; R],
        (bits, groups): (&[W::Bits; R], &mut [Group<W>; R]),
        (x, block): (&Inputs, usize),
        scratch: &Scratch,
        sums: &mut [[[W; 2]; M]; R],
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            if SPAN < 4 && STEP.is_multiple_of(SPAN) {
                for i in 0..R {
                    groups[i] = self.group::<W, PLAIN>(&rows[i], (4 * block + STEP) / SPAN, scratch);
                }
            }
            for i in 0..R {
                let weights = self.weights::<W, PLAIN>(&rows[i], &groups[i], bits[i], STEP);
                add_step(weights, x, block, STEP, &mut sums[i]);
            }
        }
    }
}

impl<F: Field> Kind for Of<'_, F> {
    const IN_REGISTERS: bool = F::OFTEN;
    type Row<W: Wide> = Row<W>;

    #[inline(always)]
    unsafe fn prepare<W: Wide>(&self, first: usize, count: usize, scratch: &mut Scratch) {
        // SAFETY: the caller's promise.
        unsafe { self.0.prepare::<W>(first, count, scratch) }
    }

    #[inline(always)]
    unsafe fn prepare_pairs<W: Pairs>(&self, first: usize, count: usize, scratch: &mut Scratch) {
        let (codes, way) = (self.0, self.way());
        if way == Some(Way::LookedUp) {
            return;
        }
        // SAFETY: the caller's promise.
        unsafe {
            codes.scales.widen_pairs::<W>(first, count, codes.groups, false, &mut scratch.scales);
            let swapped = way == Some(Way::Sixteens);
            codes.zeros.widen_pairs::<W>(first, count, codes.groups, swapped, &mut scratch.zeros);
        }
    }

    #[inline(always)]
    unsafe fn row<W: Wide>(&self, first: usize, i: usize, scratch: &Scratch) -> Row<W> {
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
            number: first + i,
            scales: i * scratch.scales.pitch,
            zeros: i * scratch.zeros.pitch,
            numbers,
        }
    }

    #[inline(always)]
    unsafe fn block<W: Wide>(&self, row: &mut Row<W>, block: usize, scratch: &Scratch) -> [W; 4] {
        // SAFETY: the caller's promise.
        unsafe {
            let (bits, steps) = (Self::bits(row, block), self.steps());
            let mut weights = [W::zero(); 4];
            let mut group = self.group::<W, false>(row, 4 * block / steps, scratch);
            for (step, weights) in weights.iter_mut().enumerate() {
                if step > 0 && !steps.is_multiple_of(4) {
                    group = self.group::<W, false>(row, (4 * block + step) / steps, scratch);
                }
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
        self.way().map(|way| match way {
            Way::Numbers | Way::Biased => Arrangement::Natural,
            Way::Tiny => Arrangement::Quarters,
            Way::LookedUp | Way::Sixteens | Way::Tables => Arrangement::Halves,
        })
    }

    #[inline(always)]
    unsafe fn pair_dots<W: Pairs, const M: usize, const R: usize>(
        &self,
        rows: [Row<W>; R],
        x: &Inputs,
        scratch: &Scratch,
    ) -> [[[W; 2]; M]; R] {
        let steps = if self.0.groups == 1 { 4 } else { self.steps() };
        let difference = self.rounds_differences();
        let zeros = match (&self.0.zeros, difference) {
            (Strip::Constant(_), _) => SAME,
            (_, false) => EXACT,
            (_, true) => ROUNDED,
        };
        // SAFETY: the caller's promise. Ways that a field never has are left out of its code.
        unsafe {
            match self.way() {
                Some(Way::LookedUp) if F::TABLE && steps == 1 => self.pair_looked_up::<W, 1, M, R>(&rows, x),
                Some(Way::LookedUp) if F::TABLE => self.pair_looked_up::<W, 2, M, R>(&rows, x),
                Some(Way::Sixteens) if F::TABLE && F::WIDTH > 2 => self.pair_sixteens::<W, M, R>(&rows, x, scratch),
                Some(Way::Tiny) if F::WIDTH == 8 && !F::OFFSET => self.pair_tiny::<W, M, R>(&rows, x, scratch),
                Some(Way::Biased) if F::WIDTH == 8 && F::OFFSET => self.pair_biased::<W, M, R>(&rows, x, scratch),
                _ if !F::TABLE && difference => self.pair_numbers::<W, true, M, R>(&rows, x, scratch),
                _ if !F::TABLE => self.pair_numbers::<W, false, M, R>(&rows, x, scratch),
                _ => match (steps, zeros) {
                    (1, SAME) => self.pair_tables::<W, 1, SAME, M, R>(&rows, x, scratch),
                    (1, EXACT) => self.pair_tables::<W, 1, EXACT, M, R>(&rows, x, scratch),
                    (1, _) => self.pair_tables::<W, 1, ROUNDED, M, R>(&rows, x, scratch),
                    (2, SAME) => self.pair_tables::<W, 2, SAME, M, R>(&rows, x, scratch),
                    (2, EXACT) => self.pair_tables::<W, 2, EXACT, M, R>(&rows, x, scratch),
                    (2, _) => self.pair_tables::<W, 2, ROUNDED, M, R>(&rows, x, scratch),
                    (_, SAME) => self.pair_tables::<W, 4, SAME, M, R>(&rows, x, scratch),
                    (_, EXACT) => self.pair_tables::<W, 4, EXACT, M, R>(&rows, x, scratch),
                    _ => self.pair_tables::<W, 4, ROUNDED, M, R>(&rows, x, scratch),
                },
            }
        }
    }
}
