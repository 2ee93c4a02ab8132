//! Weights stored as floats: all of them, or those that a bitmask says.

use super::few::{Inputs, TOGETHER, by_blocks};
use super::kind::{Arrangement, BLOCK, Kind, Scratch, ahead};
use super::numbers::{Floats, LANES};
use super::pair_tables::{add_half, add_halves};
use super::wide::{Pairs, Wide};
use crate::matmul::Precision;

/// A type of floats.
pub(super) trait Float: Send + Sync + 'static {
    type Stored: Copy + Send + Sync + Default;
    /// The type itself.
    const PRECISION: Precision;
    /// The words of numbers that are bfloat16.
    fn words(_: &[Self::Stored]) -> Option<&[u16]> {
        None
    }
    /// # Safety
    /// Needs the instructions of `W`, and sixteen numbers at `from`.
    unsafe fn load<W: Wide>(from: *const Self::Stored) -> W;
}

/// The arrangement of inputs for values that are multiplied in pairs as they are; `None` where they are not.
fn in_pairs<F: Float>(product: Precision, values: &[F::Stored]) -> Option<Arrangement> {
    let is_narrow = product == Precision::Bf16 && F::words(values).is_some();
    is_narrow.then_some(Arrangement::Natural)
}

pub(super) struct Bf16;
pub(super) struct F16;
pub(super) struct F32;

impl Float for Bf16 {
    type Stored = u16;
    const PRECISION: Precision = Precision::Bf16;

    fn words(values: &[u16]) -> Option<&[u16]> {
        Some(values)
    }

    #[inline(always)]
    unsafe fn load<W: Wide>(from: *const u16) -> W {
        // SAFETY: the caller's promise.
        unsafe { W::bf16(from) }
    }
}

impl Float for F16 {
    type Stored = u16;
    const PRECISION: Precision = Precision::F16;

    #[inline(always)]
    unsafe fn load<W: Wide>(from: *const u16) -> W {
        // SAFETY: the caller's promise.
        unsafe { W::f16(from) }
    }
}

impl Float for F32 {
    type Stored = f32;
    const PRECISION: Precision = Precision::F32;

    #[inline(always)]
    unsafe fn load<W: Wide>(from: *const f32) -> W {
        // SAFETY: the caller's promise.
        unsafe { W::load(from) }
    }
}

/// All weights, row-major, with a block's length of zeros after the last.
pub(super) struct Dense<'a, F: Float> {
    pub cols: usize,
    pub values: &'a [F::Stored],
    /// The type that products take.
    pub product: Precision,
}

/// The zeros that [`Dense`] needs after the last weight.
pub(super) const AFTER: [f32; BLOCK] = [0.0; BLOCK];

impl<F: Float> Kind for Dense<'_, F> {
    type Row<W: Wide> = usize;

    #[inline(always)]
    unsafe fn prepare<W: Wide>(&self, _: usize, _: usize, _: &mut Scratch) {}

    #[inline(always)]
    unsafe fn row<W: Wide>(&self, first: usize, i: usize, _: &Scratch) -> usize {
        (first + i) * self.cols
    }

    #[inline(always)]
    unsafe fn block<W: Wide>(&self, row: &mut usize, block: usize, _: &Scratch) -> [W; 4] {
        let first = *row + block * BLOCK;
        debug_assert!(first + BLOCK <= self.values.len());
        // SAFETY: the caller's promise; there is a block's length after the last number.
        unsafe {
            let at = self.values.as_ptr().add(first);
            let mut weights = [W::zero(); 4];
            for (step, weights) in weights.iter_mut().enumerate() {
                *weights = F::load::<W>(at.add(step * LANES));
                if F::PRECISION != self.product {
                    *weights = weights.rounded(self.product);
                }
            }
            weights
        }
    }

    fn arrangement(&self) -> Option<Arrangement> {
        in_pairs::<F>(self.product, self.values)
    }

    #[allow(clippy::needless_range_loop)]
    #[inline(always)]
    unsafe fn pair_dots<W: Pairs, const M: usize, const R: usize>(
        &self,
        rows: [usize; R],
        x: &Inputs,
        scratch: &Scratch,
    ) -> [[[W; 2]; M]; R] {
        // SAFETY: the caller's promise; there is a block's length after the last number.
        unsafe {
            let Some(words) = F::words(self.values) else { return by_blocks(self, rows, x, scratch) };
            let mut sums = [[[W::zero(); 2]; M]; R];
            let ahead = ahead(2 * self.cols, R) / 2;
            for block in 0..x.width / BLOCK {
                for half in 0..2 {
                    for i in 0..R {
                        let at = rows[i] + block * BLOCK + half * 2 * LANES;
                        W::prefetch(words.as_ptr().wrapping_add(at + ahead).cast());
                        debug_assert!(at + 2 * LANES <= words.len());
                        let weights = W::load_words(words.as_ptr().add(at));
                        add_half(weights, x, (block, half), &mut sums[i]);
                    }
                }
            }
            sums
        }
    }
}

/// Weights that are not zero, row by row, and a word for each block of a row that says which these are.
#[derive(Clone, Debug)]
pub(super) struct Bitmask {
    pub masks: Vec<u64>,
    /// The number of the first value of each row.
    first: Vec<u32>,
    pub values: Floats,
}

impl Bitmask {
    /// Takes `values`, row-major `[rows, cols]`. Nothing where they are too many for the numbers of rows.
    pub(super) fn new(values: &[f32], cols: usize, precision: Precision) -> Option<Self> {
        let (mut masks, mut first, mut kept) = (Vec::new(), Vec::new(), Vec::new());
        for row in values.chunks_exact(cols.max(1)) {
            first.push(u32::try_from(kept.len()).ok()?);
            for block in row.chunks(BLOCK) {
                let is_kept = |all: u64, (i, v): (usize, &f32)| all | u64::from(*v != 0.0) << i;
                masks.push(block.iter().enumerate().fold(0, is_kept));
                kept.extend(block.iter().filter(|v| **v != 0.0));
            }
        }
        // As many more as are read with the last ones.
        kept.resize(kept.len() + AFTER.len(), 0.0);
        let values = Floats::new(&kept, precision);
        Some(Self { masks, first, values })
    }

    /// The number of the first value of each block. Nothing where they are too many.
    #[cfg(feature = "cuda")]
    pub(super) fn starts(&self) -> Option<Vec<u32>> {
        let mut next = 0u32;
        let start = |mask: &u64| {
            let after = next.checked_add(mask.count_ones())?;
            Some(std::mem::replace(&mut next, after))
        };
        self.masks.iter().map(start).collect()
    }

    /// Bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&self.masks[..]) + size_of_val(&self.first[..]) + self.values.bytes()
    }
}

/// A [`Bitmask`] with the type of its values.
pub(super) struct Masked<'a, F: Float> {
    pub cols: usize,
    pub mask: &'a Bitmask,
    pub values: &'a [F::Stored],
    pub product: Precision,
}

/// A row on its way: its number of the first block, and of the next value.
#[derive(Clone, Copy)]
pub(super) struct MaskedRow {
    blocks: usize,
    next: usize,
    /// Bytes to what is asked for with a value: that of a row some rows on, by their mean length.
    ahead: usize,
}

impl<F: Float> Kind for Masked<'_, F> {
    type Row<W: Wide> = MaskedRow;

    #[inline(always)]
    unsafe fn prepare<W: Wide>(&self, _: usize, _: usize, _: &mut Scratch) {}

    #[inline(always)]
    unsafe fn row<W: Wide>(&self, first: usize, i: usize, _: &Scratch) -> MaskedRow {
        let mean = size_of_val(self.values) / self.mask.first.len();
        MaskedRow {
            blocks: (first + i) * self.cols.div_ceil(BLOCK),
            next: self.mask.first[first + i] as usize,
            ahead: ahead(mean, TOGETHER),
        }
    }

    #[inline(always)]
    unsafe fn block<W: Wide>(&self, row: &mut MaskedRow, block: usize, _: &Scratch) -> [W; 4] {
        let mask = self.mask.masks[row.blocks + block];
        // SAFETY: the caller's promise; there are as many values as bits, and sixteen more.
        unsafe {
            let mut weights = [W::zero(); 4];
            for (step, weights) in weights.iter_mut().enumerate() {
                let mask = (mask >> (step * LANES)) as u16;
                debug_assert!(row.next + LANES <= self.values.len());
                let at = self.values.as_ptr().add(row.next);
                W::prefetch(at.cast::<u8>().wrapping_add(row.ahead));
                let values = F::load::<W>(at);
                let values = if F::PRECISION == self.product { values } else { values.rounded(self.product) };
                *weights = values.expand(mask);
                row.next += mask.count_ones() as usize;
            }
            weights
        }
    }

    fn arrangement(&self) -> Option<Arrangement> {
        in_pairs::<F>(self.product, self.values)
    }

    #[allow(clippy::needless_range_loop)]
    #[inline(always)]
    unsafe fn pair_dots<W: Pairs, const M: usize, const R: usize>(
        &self,
        mut rows: [MaskedRow; R],
        x: &Inputs,
        scratch: &Scratch,
    ) -> [[[W; 2]; M]; R] {
        // SAFETY: the caller's promise; there are as many values as bits, and half a block more.
        unsafe {
            let Some(words) = F::words(self.values) else { return by_blocks(self, rows, x, scratch) };
            let mut sums = [[[W::zero(); 2]; M]; R];
            for block in 0..x.width / BLOCK {
                for i in 0..R {
                    let mask = *self.mask.masks.as_ptr().add(rows[i].blocks + block);
                    let first = words.as_ptr().add(rows[i].next);
                    W::prefetch(first.cast::<u8>().wrapping_add(rows[i].ahead));
                    let second = first.add((mask as u32).count_ones() as usize);
                    debug_assert!(rows[i].next + BLOCK <= words.len());
                    let weights = [W::expand_words(mask as u32, first), W::expand_words((mask >> 32) as u32, second)];
                    add_halves(weights, x, block, &mut sums[i]);
                    rows[i].next += mask.count_ones() as usize;
                }
            }
            sums
        }
    }
}
