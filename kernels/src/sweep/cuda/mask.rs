//! The mask of weights that become zero, on the device: given, or found as a slice begins.

use std::ops::Range;

use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaView};
use candle_core::{CudaDevice, Result};

use super::stack::stacked;
use crate::cuda::int;
use crate::select::cuda as select;
use crate::sweep::{Drop, Part};

/// The mask of matrices that lie one below the other.
pub(super) struct Mask {
    /// `[rows, cols]`; after its visit 1 where a weight is zero.
    pub dropped: CudaSlice<u8>,
    /// Finds thresholds, where rules have them.
    selection: Option<select::Selection>,
}

impl Mask {
    /// The mask of `parts`, of `cols` columns, whose rules are of one kind and whose rows are `part_rows`. Errors where
    /// weights are dropped per row, which the CPU does.
    pub fn new(
        device: &CudaDevice,
        parts: &[Part<'_>],
        part_rows: &[Range<usize>],
        [cols, slice]: [usize; 2],
    ) -> Result<Self> {
        let mut given = Vec::new();
        let mut searched = Vec::new();
        for (part, rows) in parts.iter().zip(part_rows) {
            match part.rule.drop {
                Some(Drop::Given(mask)) => given.push(mask),
                Some(Drop::Threshold { sparsity: share }) if !rows.is_empty() => {
                    searched.push(select::Part { first_row: rows.start as i64, rows: rows.len() as i64, share });
                }
                Some(Drop::PerRow { .. }) => candle_core::bail!("weights dropped per row are swept on the CPU"),
                Some(Drop::Threshold { .. } | Drop::NofM { .. }) | None => {}
            }
        }
        let rows = part_rows.last().map_or(0, |rows| rows.end);
        let dropped = match given.is_empty() {
            true => device.alloc_zeros((rows * cols).max(1))?,
            false => stacked(device, given.iter().copied())?,
        };
        let selection = match searched.is_empty() {
            true => None,
            false => Some(select::Selection::new(device, &searched, slice.min(cols))?),
        };
        Ok(Self { dropped, selection })
    }

    /// Masks the weights that are chosen when a slice of these columns begins.
    pub fn mask_slice(
        &mut self,
        weight: &CudaView<'_, f32>,
        u: &CudaView<'_, f32>,
        cols: usize,
        slice: &Range<usize>,
    ) -> Result<()> {
        let Some(selection) = &mut self.selection else { return Ok(()) };
        let columns = select::Columns {
            cols: int(cols)?,
            first: int(slice.start)?,
            width: int(slice.len())?,
            scored: 1,
            pass: 0,
        };
        selection.find(weight, u, columns)?;
        selection.mark(weight, u, &mut self.dropped, columns)
    }
}
