//! Strips of rows, one row in each lane: shared by the sweeps on the CPU.

use crate::matmul::panels::write_panels_to;
use crate::matmul::tile::{Elements, Isa, Left, Lines, MR, NR, Target, as_uninit, as_words, multiply};

/// Rows of a strip: whole vectors of every processor, and whole tiles of products. Loops over so many are left to the
/// compiler, which takes shorter ones apart before it looks for vectors.
pub(crate) const LANES: usize = 48;
const _: () = assert!(LANES.is_multiple_of(MR));

/// One column of a strip.
pub(crate) type Lane = [f32; LANES];

/// The update of the trailing columns by the errors of a slice: rows of the factor as a right operand.
pub(crate) struct TrailingUpdate<'a> {
    isa: Isa,
    pub u: &'a [f32],
    cols: usize,
    /// Panels of 64 columns, negated, for the slice at hand.
    panels: Lines,
    width: usize,
    /// The first trailing column.
    end: usize,
}

impl<'a> TrailingUpdate<'a> {
    /// For the factor `u [cols, cols]`, whose length is checked here: panels are written from it without being cleared.
    pub fn new(u: &'a [f32], cols: usize) -> Self {
        assert_eq!(u.len(), cols * cols, "a factor of {cols} columns");
        Self { isa: Isa::current(), u, cols, panels: Lines::default(), width: 0, end: 0 }
    }

    /// Packs the factor's rows for the slice of `width` columns from `first` on.
    pub fn load_slice(&mut self, first: usize, width: usize) {
        let (u, cols, end) = (self.u, self.cols, first + width);
        (self.width, self.end) = (width, end);
        // SAFETY: all words of a panel are written.
        unsafe {
            write_panels_to(&mut self.panels, (cols - end).div_ceil(NR), width, |n, panel| {
                let left = end + n * NR;
                let count = NR.min(cols - left);
                for (words, row) in panel.chunks_exact_mut(NR).zip(u.chunks_exact(cols).skip(first)) {
                    let (words, rest) = words.split_at_mut(count);
                    for (word, u) in words.iter_mut().zip(&row[left..left + count]) {
                        word.write((-u).to_bits());
                    }
                    for word in rest {
                        word.write(0);
                    }
                }
            });
        }
    }

    /// Subtracts from the trailing columns of `weight [.., cols]` the slice's errors, one [`Lane`] a column, times the
    /// factor's rows.
    pub fn apply(&self, errors: &[Lane], weight: &mut [f32]) {
        if self.end == self.cols {
            return;
        }
        let left = Left { words: as_words(errors.as_flattened()), row: 1, step: LANES };
        let (rows, cols) = (weight.len() / self.cols, self.cols - self.end);
        let target = Target { rows, cols, stride: self.cols, fresh: false };
        let isa = (self.isa, Elements::Singles);
        multiply(isa, &left, &self.panels, self.width, &target, as_uninit(&mut weight[self.end..]));
    }
}
