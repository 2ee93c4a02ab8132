//! The k-th smallest score and the mask below it, on a GPU: see `select.cu`.

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaView, DeviceRepr, LaunchConfig, PushKernelArg};
use candle_core::{CudaDevice, Result, Tensor};

use crate::cuda::{Kernel, Source, function, with_view};

const THREADS: u32 = 256;
const BINS: usize = 2048;
/// Blocks of a part at most: enough for every card, and few enough that adding up their counts takes no time.
const BLOCKS: usize = 512;

/// Rows of a matrix whose scores are compared with each other: `SelectPart` of the kernels.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    /// The first of them.
    pub first_row: i64,
    /// Their number.
    pub rows: i64,
    /// The place of the score that is looked for: the one at ⌊share · count⌋ of the ascending order.
    pub share: f64,
}

// SAFETY: plain numbers, laid out as C does.
unsafe impl DeviceRepr for Part {}

/// Columns of a matrix of which scores are made: `SelectArgs` of the kernels.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Columns {
    /// Of a row.
    pub cols: i32,
    /// The first column.
    pub first: i32,
    /// Number of columns.
    pub width: i32,
    /// 1 where a score is w² / d², 0 where it is the number itself.
    pub scored: i32,
    /// Set by [`Selection`].
    pub pass: i32,
}

// SAFETY: plain numbers, laid out as C does.
unsafe impl DeviceRepr for Columns {}

/// The search in some parts of a matrix, over and over: kernels and memory for counts.
pub(crate) struct Selection {
    pass: Kernel,
    mark: Kernel,
    parts: CudaSlice<Part>,
    blocks: u32,
    counts: CudaSlice<u32>,
    found: CudaSlice<u32>,
}

impl Selection {
    /// Parts of up to 2³² scores each, whose shares are less than 1, in slices of up to `width` columns.
    pub fn new(device: &CudaDevice, parts: &[Part], width: usize) -> Result<Self> {
        let most = parts.iter().map(|part| part.rows as usize * width).max().unwrap_or(0);
        if u32::try_from(most).is_err() {
            candle_core::bail!("{most} scores to select from on a GPU; at most {}", u32::MAX);
        }
        Ok(Self {
            pass: function(device, Source::Select, "select_pass")?,
            mark: function(device, Source::Select, "select_mark")?,
            parts: device.clone_htod(parts)?,
            blocks: most.div_ceil(4 * THREADS as usize).clamp(1, BLOCKS) as u32,
            counts: device.alloc_zeros(parts.len() * BINS)?,
            found: device.alloc_zeros(parts.len() * 3)?,
        })
    }

    fn launch(&self, blocks: u32, shared: usize) -> LaunchConfig {
        LaunchConfig {
            grid_dim: (blocks, self.parts.len() as u32, 1),
            block_dim: (THREADS, 1, 1),
            shared_mem_bytes: (shared * size_of::<u32>()) as u32,
        }
    }

    /// Finds the score of each part: three passes over the columns. `values` is the matrix, `u` the factor whose
    /// diagonal is d (anything where scores are the numbers themselves).
    pub fn find(&mut self, values: &CudaView<'_, f32>, u: &CudaView<'_, f32>, columns: Columns) -> Result<()> {
        for pass in 0..3 {
            let columns = Columns { pass, ..columns };
            let launch = self.launch(self.blocks, BINS + 1);
            let mut builder = self.pass.builder();
            builder.arg(values).arg(u).arg(&self.parts).arg(&mut self.counts).arg(&mut self.found).arg(&columns);
            // SAFETY: the kernel reads the columns of the parts' rows and the factor's diagonal, and writes counts and
            // what is found for each part, for which there is room.
            unsafe { builder.launch(launch).w()? };
        }
        Ok(())
    }

    /// Sets the mask of the columns, u8 `[.., cols]`: 1 for every score up to its part's that [`Selection::find`] found.
    pub fn mark(
        &mut self,
        values: &CudaView<'_, f32>,
        u: &CudaView<'_, f32>,
        mask: &mut CudaSlice<u8>,
        columns: Columns,
    ) -> Result<()> {
        let wide = self.launch(self.blocks, 0);
        // SAFETY: the kernel reads what was found and the columns, and writes their mask, of which there are as many.
        unsafe {
            let mut builder = self.mark.builder();
            builder.arg(values).arg(u).arg(&self.parts).arg(&self.found).arg(mask).arg(&columns);
            builder.launch(wide).w()?;
        }
        Ok(())
    }
}

/// [`super::nth_smallest_of`].
pub(super) fn nth_smallest_of(scores: &Tensor, k: usize) -> Result<f32> {
    with_view::<f32, _>(scores, |values, device| {
        let Ok(width) = i32::try_from(values.len()) else {
            candle_core::bail!("{} scores to select from on a GPU; at most {}", values.len(), i32::MAX);
        };
        // Half a place more, so that no rounding leads to the place before.
        let part = Part { first_row: 0, rows: 1, share: (k as f64 + 0.5) / values.len() as f64 };
        let mut selection = Selection::new(device, &[part], values.len())?;
        selection.find(&values, &values, Columns { cols: width, first: 0, width, scored: 0, pass: 0 })?;
        Ok(f32::from_bits(device.clone_dtoh(&selection.found)?[0]))
    })
}
