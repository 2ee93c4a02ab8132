//! Kinds of stored weights, and the way in which all of them are multiplied and decoded.

use super::few::{Inputs, by_blocks};
use super::strip::Widened;
use super::wide::{Pairs, Wide};

/// Columns of a block: four times the lanes of a [`Wide`].
pub(super) const BLOCK: usize = 64;

/// Bytes that are asked for in advance: those of a tenth of a microsecond.
const FAR: usize = 4096;

/// Bytes from a place in rows of `stride` bytes, of which so many are read together, to what is asked for then: whole sets of
/// rows, since processors see no pattern in short ones.
#[inline(always)]
pub(super) fn ahead(stride: usize, together: usize) -> usize {
    let set = (together * stride).max(1);
    FAR.div_ceil(set) * set
}

/// The order in which a block's inputs lie where pairs of them are multiplied at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrangement {
    /// As they come.
    Natural,
    /// Pair i of the first half is of inputs i and 32 + i, of the second of 16 + i and 48 + i.
    Halves,
    /// The first half is of inputs 0 to 15 and 32 to 47 as they come, the second of the others.
    Quarters,
}

impl Arrangement {
    /// The input at a place of a block.
    pub(super) fn column(self, place: usize) -> usize {
        match self {
            Arrangement::Natural => place,
            Arrangement::Halves => place / 32 * 16 + place % 32 / 2 + place % 2 * 32,
            Arrangement::Quarters => place / 32 * 16 + place % 16 + place % 32 / 16 * 32,
        }
    }
}

/// Statistics of the rows at hand.
#[derive(Default)]
pub(super) struct Scratch {
    pub scales: Widened,
    pub zeros: Widened,
}

/// Weights `[rows, cols]` in some form. Columns are visited block by block; those that a last block lacks decode to finite
/// numbers, which meet zeros.
pub(super) trait Kind: Send + Sync {
    /// True if blocks are decoded fast enough to go from registers into sums.
    const IN_REGISTERS: bool = true;

    /// A row on its way through its blocks.
    type Row<W: Wide>: Copy;

    /// Widens the statistics of rows `first .. first + count`.
    ///
    /// # Safety
    /// Needs the instructions of `W`.
    unsafe fn prepare<W: Wide>(&self, first: usize, count: usize, scratch: &mut Scratch);

    /// [`Kind::prepare`] for [`Kind::pair_dots`].
    ///
    /// # Safety
    /// Needs the instructions of `W`.
    #[inline(always)]
    unsafe fn prepare_pairs<W: Pairs>(&self, first: usize, count: usize, scratch: &mut Scratch) {
        // SAFETY: the caller's promise.
        unsafe { self.prepare::<W>(first, count, scratch) }
    }

    /// Row `first + i` of those that were prepared.
    ///
    /// # Safety
    /// Needs the instructions of `W`.
    unsafe fn row<W: Wide>(&self, first: usize, i: usize, scratch: &Scratch) -> Self::Row<W>;

    /// The weights of block `block` of a row, all earlier ones of which were asked for.
    ///
    /// # Safety
    /// Needs the instructions of `W`; the row is one of [`Kind::row`] with the same scratch, and the block is one of it.
    unsafe fn block<W: Wide>(&self, row: &mut Self::Row<W>, block: usize, scratch: &Scratch) -> [W; 4];

    /// The running sums of `R` rows, which were prepared, with `M` inputs: two of sixteen lanes for each product, whatever `M` and `R`
    /// are.
    ///
    /// # Safety
    /// Needs the instructions of `W`; `x` has `M` rows of whole blocks.
    #[inline(always)]
    unsafe fn dots<W: Wide, const M: usize, const R: usize>(
        &self,
        rows: [Self::Row<W>; R],
        x: &Inputs,
        scratch: &Scratch,
    ) -> [[[W; 2]; M]; R]
    where
        Self: Sized,
    {
        // SAFETY: the caller's promise.
        unsafe { by_blocks(self, rows, x, scratch) }
    }

    /// The arrangement of inputs for [`Kind::pair_dots`]; none where weights are not multiplied in pairs.
    fn arrangement(&self) -> Option<Arrangement> {
        None
    }

    /// [`Kind::dots`] in pairs of bfloat16, for kinds that have an [`Kind::arrangement`]; the same as it for others.
    ///
    /// # Safety
    /// As [`Kind::dots`]; the inputs have pairs in that arrangement.
    #[inline(always)]
    unsafe fn pair_dots<W: Pairs, const M: usize, const R: usize>(
        &self,
        rows: [Self::Row<W>; R],
        x: &Inputs,
        scratch: &Scratch,
    ) -> [[[W; 2]; M]; R]
    where
        Self: Sized,
    {
        // SAFETY: the caller's promise.
        unsafe { self.dots(rows, x, scratch) }
    }
}
