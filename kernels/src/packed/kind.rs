//! Kinds of stored weights, and the way in which all of them are multiplied and decoded.

use super::strip::Widened;
use super::wide::Wide;

/// Columns of a block: four times the lanes of a [`Wide`].
pub(super) const BLOCK: usize = 64;

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
    fn prepare(&self, first: usize, count: usize, scratch: &mut Scratch);

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
}
