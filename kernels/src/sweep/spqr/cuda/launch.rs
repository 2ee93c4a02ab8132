//! The launches of a sweep, and the arguments of the kernels in `spqr.cu`.

use std::ops::Range;

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::sys::CUdeviceptr;
use candle_core::cuda_backend::cudarc::driver::{
    CudaSlice, CudaStream, CudaView, DevicePtr, DeviceRepr, LaunchConfig, PushKernelArg,
};
use candle_core::{CudaDevice, Result};

use super::super::{Outlier, Rule};
use super::{Counts, Memory};
use crate::cuda::blas::{Math, Operand, Target, gemm};
use crate::cuda::{Kernel, Source, function};
use crate::matmul::Precision;

/// Columns that lie in the registers of a row's threads, and as many rows of the factor in shared memory.
const SLICE: usize = 128;
/// Bytes of the factor's part.
const FACTOR: usize = size_of::<f32>() * SLICE * SLICE;
/// Threads of a row.
pub(super) const LANES: usize = 8;
/// Rows that a block has at least, and at most.
const ROWS: (usize, usize) = (16, 32);
/// Threads of a block that goes over whatever rows there are, and rows of one that has no tile to care for.
const THREADS: usize = 256;

/// The rule, as the struct of that name in `grid.cuh`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct SpqrRule {
    bits: i32,
    scale_bits: i32,
    zero_bits: i32,
    symmetric: i32,
    round_zero: i32,
    zero_symmetric: i32,
    search: i32,
    adds: i32,
    stored: i32,
}

/// The arguments, field by field as the struct of that name in `spqr.cu`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct SpqrArgs {
    weight: CUdeviceptr,
    factor: CUdeviceptr,
    d: CUdeviceptr,
    threshold: CUdeviceptr,
    marked: CUdeviceptr,
    codes: CUdeviceptr,
    kept: CUdeviceptr,
    scales: CUdeviceptr,
    zeros: CUdeviceptr,
    scale_codes: CUdeviceptr,
    scale_scales: CUdeviceptr,
    scale_zeros: CUdeviceptr,
    zero_codes: CUdeviceptr,
    zero_scales: CUdeviceptr,
    zero_zeros: CUdeviceptr,
    ranges: CUdeviceptr,
    errors: CUdeviceptr,
    loss: CUdeviceptr,
    rows: i32,
    cols: i32,
    first: i32,
    width: i32,
    from: i32,
    to: i32,
    slice: i32,
    groups: i32,
    group_size: i32,
    height: i32,
    error_stride: i32,
    rule: SpqrRule,
}

// SAFETY: plain numbers, laid out as the kernel's struct is.
unsafe impl DeviceRepr for SpqrArgs {}

/// A row's range as the kernels keep it between launches: the two ends, and whether its weights are the same.
pub(super) const RANGE_BYTES: usize = 12;

impl SpqrRule {
    fn new(rule: &Rule<'_>) -> Self {
        Self {
            bits: rule.bits as i32,
            scale_bits: rule.second.scale_bits.map_or(0, |bits| bits as i32),
            zero_bits: rule.zero_bits().map_or(0, |bits| bits as i32),
            symmetric: rule.symmetric.into(),
            round_zero: rule.round_zero.into(),
            zero_symmetric: rule.second.zero_symmetric.into(),
            search: (rule.threshold.is_some() && !rule.simplified && rule.per_channel).into(),
            adds: (rule.outlier == Outlier::Adds).into(),
            stored: match rule.stored {
                Precision::F32 => 0,
                Precision::Bf16 => 1,
                Precision::F16 => 2,
            },
        }
    }
}

/// The address of a slice. All work of a device goes through one stream, in order: nothing has to be waited for.
fn pointer<T>(slice: &CudaSlice<T>, stream: &CudaStream) -> CUdeviceptr {
    slice.device_ptr(stream).0
}

/// A sweep that is ready to run.
pub(super) struct Sweep<'a> {
    device: &'a CudaDevice,
    memory: &'a mut Memory,
    /// Row-major `[cols, cols]`.
    u: &'a CudaView<'a, f32>,
    rule: &'a Rule<'a>,
    counts: Counts,
    args: SpqrArgs,
}

impl<'a> Sweep<'a> {
    pub fn new(
        device: &'a CudaDevice,
        memory: &'a mut Memory,
        u: &'a CudaView<'a, f32>,
        rule: &'a Rule<'a>,
        counts: Counts,
    ) -> Self {
        let stream = device.cuda_stream();
        let coded = |which: &super::DeviceStatistic| match &which.coded {
            None => [0; 3],
            Some((codes, scales, zeros)) => {
                [pointer(codes, &stream), pointer(scales, &stream), pointer(zeros, &stream)]
            }
        };
        let [scale_codes, scale_scales, scale_zeros] = coded(&memory.scales);
        let [zero_codes, zero_scales, zero_zeros] = coded(&memory.zeros);
        let args = SpqrArgs {
            weight: pointer(&memory.weight, &stream),
            factor: u.device_ptr(&stream).0,
            d: pointer(&memory.d, &stream),
            threshold: pointer(&memory.threshold, &stream),
            marked: memory.marked.as_ref().map_or(0, |marked| pointer(marked, &stream)),
            codes: pointer(&memory.codes, &stream),
            kept: pointer(&memory.kept, &stream),
            scales: pointer(&memory.scales.values, &stream),
            zeros: pointer(&memory.zeros.values, &stream),
            scale_codes,
            scale_scales,
            scale_zeros,
            zero_codes,
            zero_scales,
            zero_zeros,
            ranges: pointer(&memory.ranges, &stream),
            errors: 0,
            loss: pointer(&memory.loss, &stream),
            rows: counts.rows as i32,
            cols: counts.cols as i32,
            first: 0,
            width: 0,
            from: 0,
            to: 0,
            slice: 0,
            groups: counts.groups as i32,
            group_size: rule.group_size.min(counts.cols) as i32,
            height: if rule.coded() { counts.height } else { THREADS } as i32,
            error_stride: counts.slice as i32,
            rule: SpqrRule::new(rule),
        };
        Self { device, memory, u, rule, counts, args }
    }

    /// Sweeps all slices.
    pub fn run(mut self) -> Result<()> {
        let stream = self.device.cuda_stream();
        let errors = pointer(&self.memory.errors, &stream);
        let Counts { cols, slice, .. } = self.counts;
        let end = cols.saturating_sub(self.rule.keep_last);
        for first in (0..end).step_by(slice.max(1)) {
            let last = (first + slice).min(end);
            let mut at = first;
            while at < last {
                let next = at + width(at, last, self.rule.group_size);
                self.args.first = at as i32;
                self.args.width = (next - at) as i32;
                self.args.slice = (last - at) as i32;
                self.args.errors = errors + (size_of::<f32>() * (at - first)) as CUdeviceptr;
                match self.block_rows() {
                    Some(rows) => self.by_row("spqr_sweep", rows, FACTOR + rows * self.row_bytes())?,
                    None => self.groups(at, next)?,
                }
                // Columns of the slice that did not fit into the launch.
                self.spread(first, at..next, next..last)?;
                at = next;
            }
            self.spread(first, first..last, last..cols)?;
        }
        Ok(())
    }

    /// Rows of a block that fits the grids of its rows itself: whole tiles of the second level. `None` where rows of more
    /// than a block share statistics, and where groups are wider than what a row's threads hold.
    fn block_rows(&self) -> Option<usize> {
        let (least, most) = ROWS;
        let rows = self.rule.tile_rows().checked_mul(least.div_ceil(self.rule.tile_rows()))?;
        (self.rule.per_channel && self.rule.group_size <= SLICE && rows <= most).then_some(rows)
    }

    /// Bytes of shared memory that such a block takes for each row: the weights of a group, as far apart as the kernel's
    /// `stride_of` says, and the row's `Level`.
    fn row_bytes(&self) -> usize {
        size_of::<f32>() * (self.args.group_size as usize).next_multiple_of(16) + 32 + 16
    }

    /// Columns `at` up to `next`, with launches of their own for each group and step.
    fn groups(&mut self, at: usize, next: usize) -> Result<()> {
        let size = self.rule.group_size;
        let mut from = at;
        while from < next {
            let to = ((from / size + 1) * size).min(next);
            (self.args.from, self.args.to) = ((from - at) as i32, (to - at) as i32);
            if from.is_multiple_of(size) {
                self.by_row("spqr_ranges", ROWS.1, 0)?;
                if !self.rule.per_channel {
                    self.launch("spqr_share", 1, THREADS, 0)?;
                }
                let tiles = self.counts.rows.div_ceil(self.args.height as usize);
                self.launch("spqr_fit", tiles, THREADS, 0)?;
            }
            self.by_row("spqr_visit", ROWS.0, FACTOR)?;
            from = to;
        }
        Ok(())
    }

    /// Launches a kernel that gives each row eight threads, with `rows` of them in a block.
    fn by_row(&self, name: &str, rows: usize, shared: usize) -> Result<()> {
        self.launch(name, self.counts.rows.div_ceil(rows), rows * LANES, shared)
    }

    fn launch(&self, name: &str, blocks: usize, threads: usize, shared: usize) -> Result<()> {
        let kernel: Kernel = function(self.device, Source::Spqr, name)?.with_shared(shared)?;
        let launch = LaunchConfig {
            grid_dim: (blocks as u32, 1, 1),
            block_dim: (threads as u32, 1, 1),
            shared_mem_bytes: shared as u32,
        };
        // SAFETY: the arguments point to memory of the lengths that the kernel's source says, which `self` borrows.
        unsafe { kernel.builder().arg(&self.args).launch(launch) }.w()?;
        Ok(())
    }

    /// Subtracts the errors of columns `from`, of a slice that begins at `first`, from columns `to`.
    fn spread(&mut self, first: usize, from: Range<usize>, to: Range<usize>) -> Result<()> {
        if to.is_empty() {
            return Ok(());
        }
        let Counts { rows, cols, slice, .. } = self.counts;
        let errors = self.memory.errors.slice(from.start - first..);
        let u = self.u.slice(from.start * cols + to.start..);
        let mut ahead = self.memory.weight.slice_mut(to.start..);
        let product = (-1.0, Operand::rows(&errors, slice), Operand::rows(&u, cols));
        let target = Target { values: &mut ahead, stride: cols, step: 0 };
        gemm(self.device, [rows, to.len(), from.len()], product, (1.0, target), Math::F32)
    }
}

/// Columns of `at .. last`, of a slice, that the next launch visits. Groups that begin after its first column end
/// in it, or with the slice: the grids of the others are fitted to columns that have not seen all errors yet.
fn width(at: usize, last: usize, group_size: usize) -> usize {
    let most = SLICE.min(last - at);
    let begin = (at + most) / group_size * group_size;
    if at + most == last || begin <= at { most } else { begin - at }
}

#[cfg(test)]
mod tests {
    use super::width;

    #[test]
    fn launches_end_where_groups_do() {
        // at, last, group size, width
        let cases = [
            (0, 128, 16, 128),
            (0, 100, 16, 100),
            (0, 256, 16, 128),
            (0, 256, 100, 100),
            (100, 256, 100, 100),
            (200, 256, 100, 56),
            (128, 512, 200, 72),
            (200, 512, 200, 128),
            (328, 512, 200, 72),
            (0, 256, 7, 126),
        ];
        for (at, last, group_size, want) in cases {
            assert_eq!(width(at, last, group_size), want, "{at} {last} {group_size}");
        }
    }
}
