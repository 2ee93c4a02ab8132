//! Codes whose groups are not runs of whole lanes: any size, in any order of columns. Each weight looks its scale up.

use super::codes::Codes;
use super::kind::{BLOCK, Kind, Scratch};
use super::numbers::LANES;
use super::wide::Wide;

/// Codes, and the group of each column where it does not follow from the column.
pub(super) struct Uneven<'a> {
    pub codes: &'a Codes,
    pub index: Option<&'a [u32]>,
}

/// A row on its way.
#[derive(Clone, Copy)]
pub(super) struct Row {
    row: usize,
    scales: usize,
    zeros: usize,
}

impl Uneven<'_> {
    fn weight(&self, row: &Row, col: usize, scratch: &Scratch) -> f32 {
        let codes = self.codes;
        if col >= codes.cols {
            return 0.0;
        }
        let group = self.index.map_or_else(|| col / codes.group, |index| index[col] as usize);
        let (scale, zero) = (scratch.scales.values[row.scales + group], scratch.zeros.values[row.zeros + group]);
        codes.rounding.weight(codes.number(row.row, col), scale, zero)
    }
}

impl Kind for Uneven<'_> {
    const IN_REGISTERS: bool = false;
    type Row<W: Wide> = Row;

    unsafe fn prepare<W: Wide>(&self, first: usize, count: usize, scratch: &mut Scratch) {
        // SAFETY: the caller's promise.
        unsafe { self.codes.prepare::<W>(first, count, scratch) }
    }

    unsafe fn row<W: Wide>(&self, first: usize, i: usize, scratch: &Scratch) -> Row {
        Row { row: first + i, scales: i * scratch.scales.pitch, zeros: i * scratch.zeros.pitch }
    }

    unsafe fn block<W: Wide>(&self, row: &mut Row, block: usize, scratch: &Scratch) -> [W; 4] {
        let lanes = |step: usize| {
            let mut lanes = [0f32; LANES];
            for (i, lane) in lanes.iter_mut().enumerate() {
                *lane = self.weight(row, block * BLOCK + step * LANES + i, scratch);
            }
            // SAFETY: the caller's promise.
            unsafe { W::load(lanes.as_ptr()) }
        };
        [lanes(0), lanes(1), lanes(2), lanes(3)]
    }
}
