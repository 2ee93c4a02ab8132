//! Matrices one below the other: their memory on the device, and the launches of a slice.

use std::ops::Range;

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaView, LaunchConfig, PushKernelArg, ValidAsZeroBits};
use candle_core::{CudaDevice, Result};

use super::args::{FitArgs, Format, SweepArgs, int, precision};
use super::{Dropped, Kind, When};
use crate::cuda::blas::{Math, Operand, Target, gemm};
use crate::cuda::staging::{self, Plain};
use crate::cuda::{Kernel, Source, function, grid};
use crate::matmul::Precision;
use crate::select::cuda as select;
use crate::sweep::{Drop, Fit, GridFormat, Grids, Part, Scales, Swept};

/// Columns that a launch visits at most.
const SLICE: usize = 128;
/// Rows of a block.
const ROWS: usize = 16;
/// Threads of a block, eight a row.
const THREADS: usize = 8 * ROWS;
/// Columns of a thread.
const PER: usize = 16;

/// Columns of a slice that are visited at once. A longer slice is swept in pieces: grids are fitted and thresholds found
/// for all of it, and then the columns behind each piece are corrected by a product. Groups of n:m are not divided.
fn piece_of(slice: usize, drop: Dropped) -> Result<usize> {
    match drop {
        _ if slice <= SLICE => Ok(slice),
        Dropped::NofM { m, .. } if m > SLICE => candle_core::bail!(
            "groups of {m} columns in slices of {slice} on a GPU; at most {SLICE} columns a group: use --device cpu"
        ),
        Dropped::NofM { m, .. } => Ok(SLICE - SLICE % m),
        _ => Ok(SLICE),
    }
}

/// Sweeps matrices whose rules are of the kind, by the factor `u`, row-major `[cols, cols]`.
pub(super) fn sweep(
    device: &CudaDevice,
    u: CudaView<'_, f32>,
    parts: Vec<Part<'_>>,
    cols: usize,
    slice: usize,
    kind: Kind<'_>,
) -> Result<Vec<Swept>> {
    let piece = piece_of(slice, kind.drop)?;
    let mut stack = Stack::new(device, &parts, cols, slice, kind)?;
    if stack.rows > 0 {
        for first in (0..cols).step_by(slice) {
            let columns = first..(first + slice).min(cols);
            stack.fit(&columns)?;
            stack.mark(&u, &columns)?;
            for first in columns.clone().step_by(piece) {
                let width = piece.min(columns.end - first);
                stack.visit(&u, first, width)?;
                stack.correct(&u, first, width)?;
            }
        }
    }
    stack.finish(parts)
}

/// What lies on the device. Arrays that a rule has no use for have one element.
struct Stack<'a> {
    device: &'a CudaDevice,
    kind: Kind<'a>,
    rows: usize,
    cols: usize,
    groups: usize,
    /// Of each part.
    part_rows: Vec<Range<usize>>,
    weight: CudaSlice<f32>,
    dropped: CudaSlice<u8>,
    codes: CudaSlice<u8>,
    scales: CudaSlice<f32>,
    zeros: CudaSlice<f32>,
    /// `[rows]`
    global: CudaSlice<f32>,
    /// `[cols]`
    group_of: CudaSlice<u32>,
    /// `[rows, SLICE]`
    errors: CudaSlice<f32>,
    /// `[rows]`
    loss: CudaSlice<f64>,
    visit: Kernel,
    fit: Kernel,
    selection: Option<select::Selection>,
}

/// Lists one after the other.
fn stacked<'p, T: Plain + ValidAsZeroBits + 'static>(
    device: &CudaDevice,
    lists: impl Iterator<Item = &'p [T]> + Clone,
) -> Result<CudaSlice<T>> {
    let mut all = device.alloc_zeros::<T>(lists.clone().map(<[T]>::len).sum::<usize>().max(1))?;
    let mut at = 0;
    for list in lists.filter(|list| !list.is_empty()) {
        staging::up(device, list, &mut all.slice_mut(at..at + list.len()))?;
        at += list.len();
    }
    Ok(all)
}

impl<'a> Stack<'a> {
    fn new(device: &'a CudaDevice, parts: &[Part<'_>], cols: usize, slice: usize, kind: Kind<'a>) -> Result<Self> {
        let mut rows = 0;
        let part_rows: Vec<Range<usize>> = parts
            .iter()
            .map(|part| {
                assert_eq!(part.weight.len() % cols, 0, "a part of {} weights, {cols} a row", part.weight.len());
                let first = rows;
                rows += part.weight.len() / cols;
                first..rows
            })
            .collect();
        let groups = match kind.round {
            None => 0,
            Some((_, When::Before { groups, .. })) => groups,
            Some((_, When::AtSlice { group_size })) => cols.div_ceil(group_size),
        };
        let before = parts.iter().filter_map(|part| match part.rule.round?.fit {
            Fit::Before { grids, .. } => Some(grids),
            Fit::AtSlice { .. } => None,
        });
        let (scales, zeros) = match kind.round {
            Some((_, When::AtSlice { .. })) => {
                let count = (rows * groups).max(1);
                (device.alloc_zeros(count)?, device.alloc_zeros(count)?)
            }
            _ => (
                stacked(device, before.clone().map(|grids| grids.scales.as_slice()))?,
                stacked(device, before.map(|grids| grids.zeros.as_slice()))?,
            ),
        };
        let global = |part: &Part<'_>, rows: &Range<usize>| match part.rule.round?.format.scales {
            Scales::E4m3 { global } => Some(vec![global; rows.len()]),
            Scales::Float | Scales::Exponent => None,
        };
        let global: Vec<f32> =
            parts.iter().zip(&part_rows).filter_map(|(part, rows)| global(part, rows)).flatten().collect();
        let group_of = match kind.round {
            Some((_, When::Before { group_of, .. })) => group_of,
            _ => &[],
        };
        let marks = parts.iter().filter_map(|part| match part.rule.drop {
            Some(Drop::Given(marks)) => Some(marks),
            _ => None,
        });
        let dropped = match kind.drop {
            Dropped::Given => stacked(device, marks)?,
            _ => device.alloc_zeros((rows * cols).max(1))?,
        };
        let searched: Vec<select::Part> = parts
            .iter()
            .zip(&part_rows)
            .filter_map(|(part, rows)| match part.rule.drop {
                Some(Drop::Threshold { sparsity: share }) if !rows.is_empty() => {
                    Some(select::Part { first_row: rows.start as i64, rows: rows.len() as i64, share })
                }
                _ => None,
            })
            .collect();
        let selection = match searched.is_empty() {
            true => None,
            false => Some(select::Selection::new(device, &searched, slice.min(cols))?),
        };
        let visit = function(device, Source::Sweep, kernel(&kind))?.with_shared(shared_bytes(&kind))?;
        Ok(Self {
            weight: stacked(device, parts.iter().map(|part| part.weight.as_slice()))?,
            dropped,
            codes: device.alloc_zeros(if kind.round.is_some() { (rows * cols).max(1) } else { 1 })?,
            scales,
            zeros,
            global: stacked(device, std::iter::once(global.as_slice()))?,
            group_of: stacked(device, std::iter::once(group_of))?,
            errors: device.alloc_zeros((rows * SLICE).max(1))?,
            loss: device.alloc_zeros(rows.max(1))?,
            visit,
            fit: function(device, Source::Fit, "sweep_fit")?,
            selection,
            device,
            kind,
            rows,
            cols,
            groups,
            part_rows,
        })
    }

    /// Fits the grids of the groups that begin in a slice.
    fn fit(&mut self, columns: &Range<usize>) -> Result<()> {
        let Some((format, When::AtSlice { group_size })) = self.kind.round else { return Ok(()) };
        let first_group = columns.start.div_ceil(group_size);
        let count = columns.end.div_ceil(group_size) - first_group;
        if count == 0 {
            return Ok(());
        }
        let args = FitArgs {
            rows: int(self.rows)?,
            cols: int(self.cols)?,
            groups: int(self.groups)?,
            group_size: int(group_size.min(self.cols))?,
            first_group: int(first_group)?,
            count: int(count)?,
            format: Format::of(&format),
        };
        let launch = grid(self.rows * count * 32, 256);
        let mut builder = self.fit.builder();
        builder.arg(&self.weight).arg(&mut self.scales).arg(&mut self.zeros).arg(&self.global).arg(&args);
        // SAFETY: the kernel reads weights of all rows and global scales where the format has them, and writes the grids
        // of groups that there are.
        unsafe { builder.launch(launch).w()? };
        Ok(())
    }

    /// Marks what is chosen when a slice begins.
    fn mark(&mut self, u: &CudaView<'_, f32>, columns: &Range<usize>) -> Result<()> {
        let Some(selection) = &mut self.selection else { return Ok(()) };
        let of = select::Columns {
            cols: int(self.cols)?,
            first: int(columns.start)?,
            width: int(columns.len())?,
            scored: 1,
            pass: 0,
        };
        let weight = self.weight.as_view();
        selection.find(&weight, u, of)?;
        selection.mark(&weight, u, &mut self.dropped, of)
    }

    /// Visits up to [`SLICE`] columns.
    fn visit(&mut self, u: &CudaView<'_, f32>, first: usize, width: usize) -> Result<()> {
        let (n, m) = match self.kind.drop {
            Dropped::NofM { n, m } => (n.min(self.cols), m.min(self.cols)),
            _ => (0, 1),
        };
        let (format, when) = match self.kind.round {
            Some((format, when)) => (format, Some(when)),
            None => (GridFormat::int(8, true, Precision::F32), None),
        };
        let args = SweepArgs {
            rows: int(self.rows)?,
            cols: int(self.cols)?,
            first: int(first)?,
            width: int(width)?,
            aligned: i32::from(self.cols.is_multiple_of(4) && first.is_multiple_of(4)),
            n: int(n)?,
            m: int(m)?,
            groups: int(self.groups)?,
            group_size: match when {
                Some(When::AtSlice { group_size }) => int(group_size.min(self.cols))?,
                _ => 0,
            },
            stored: precision(self.kind.stored),
            format: Format::of(&format),
        };
        let launch = LaunchConfig {
            grid_dim: (self.rows.div_ceil(ROWS) as u32, 1, 1),
            block_dim: (THREADS as u32, 1, 1),
            shared_mem_bytes: shared_bytes(&self.kind) as u32,
        };
        let mut builder = self.visit.builder();
        builder.arg(&mut self.weight).arg(u).arg(&mut self.dropped).arg(&mut self.codes);
        builder.arg(&self.scales).arg(&self.zeros).arg(&self.global).arg(&self.group_of);
        builder.arg(&mut self.errors).arg(&mut self.loss).arg(&args);
        // SAFETY: the kernel reads and writes the columns of all rows, in arrays of as many, the factor's rows of the
        // slice, grids by the groups of the columns, which are less than `groups`, and one error for each column.
        unsafe { builder.launch(launch).w()? };
        Ok(())
    }

    /// Subtracts what the errors of columns that were visited do to those behind them.
    fn correct(&mut self, u: &CudaView<'_, f32>, first: usize, width: usize) -> Result<()> {
        let (cols, end) = (self.cols, first + width);
        if end == cols {
            return Ok(());
        }
        let (errors, u) = (self.errors.as_view(), u.slice(first * cols + end..));
        let product = (-1.0, Operand::rows(&errors, SLICE), Operand::rows(&u, cols));
        let target = Target { values: &mut self.weight.slice_mut(end..), stride: cols, step: 0 };
        gemm(self.device, [self.rows, cols - end, width], product, (1.0, target), Math::F32)
    }

    /// What was made of each part, in host memory.
    fn finish(self, parts: Vec<Part<'_>>) -> Result<Vec<Swept>> {
        let Self { device, cols, groups, .. } = self;
        let losses = device.clone_dtoh(&self.loss)?;
        let mut swept = Vec::with_capacity(parts.len());
        for (part, rows) in parts.into_iter().zip(&self.part_rows) {
            let (all, of_groups) = (rows.start * cols..rows.end * cols, rows.start * groups..rows.end * groups);
            let mut weight = part.weight;
            if !rows.is_empty() {
                staging::down_to(device, &self.weight.slice(all.clone()), &mut weight)?;
            }
            let grids = match part.rule.round.map(|round| round.fit) {
                None => None,
                Some(Fit::Before { grids, .. }) => Some(grids.clone()),
                Some(Fit::AtSlice { .. }) => Some(Grids {
                    groups,
                    scales: fetched(device, &self.scales, of_groups.clone())?,
                    zeros: fetched(device, &self.zeros, of_groups)?,
                }),
            };
            let codes = if self.kind.round.is_some() { all.clone() } else { 0..0 };
            swept.push(Swept {
                weight,
                dropped: fetched(device, &self.dropped, all)?,
                codes: fetched(device, &self.codes, codes)?,
                grids,
                loss: losses[rows.clone()].iter().sum(),
            });
        }
        Ok(swept)
    }
}

/// Some elements in host memory.
fn fetched<T: Plain>(device: &CudaDevice, from: &CudaSlice<T>, range: Range<usize>) -> Result<Vec<T>> {
    match range.is_empty() {
        true => Ok(Vec::new()),
        false => staging::down(device, &from.slice(range)),
    }
}

/// The kernel for rules of the kind.
fn kernel(kind: &Kind<'_>) -> &'static str {
    match (kind.drop, kind.round.is_some()) {
        (Dropped::Nothing, false) => "sweep_store",
        (Dropped::Nothing, true) => "sweep_round",
        (Dropped::Given | Dropped::Threshold, false) => "sweep_marked",
        (Dropped::Given | Dropped::Threshold, true) => "sweep_marked_round",
        (Dropped::NofM { m: 4, .. }, false) => "sweep_of4",
        (Dropped::NofM { m: 4, .. }, true) => "sweep_of4_round",
        (Dropped::NofM { m: 8, .. }, false) => "sweep_of8",
        (Dropped::NofM { m: 8, .. }, true) => "sweep_of8_round",
        (Dropped::NofM { .. }, false) => "sweep_groups",
        (Dropped::NofM { .. }, true) => "sweep_groups_round",
    }
}

/// Shared memory of a block of that kernel: the factor and its diagonal, grids, and scores of groups that do not lie
/// within a thread's columns.
fn shared_bytes(kind: &Kind<'_>) -> usize {
    let grids = if kind.round.is_some() { 2 * PER * THREADS } else { 0 };
    let scores = match kind.drop {
        Dropped::NofM { m: 4 | 8, .. } | Dropped::Nothing | Dropped::Given | Dropped::Threshold => 0,
        Dropped::NofM { .. } => ROWS * SLICE,
    };
    (SLICE * SLICE + SLICE + grids + scores) * size_of::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_hold_whole_groups() {
        let of = |m| Dropped::NofM { n: 1, m };
        assert_eq!(piece_of(100, of(50)).unwrap(), 100);
        assert_eq!(piece_of(128, Dropped::Threshold).unwrap(), 128);
        assert_eq!(piece_of(129, Dropped::Threshold).unwrap(), 128);
        assert_eq!(piece_of(256, of(4)).unwrap(), 128);
        assert_eq!(piece_of(240, of(24)).unwrap(), 120);
        assert_eq!(piece_of(256, of(128)).unwrap(), 128);
        // A group as wide as its slice needs no piece.
        assert_eq!(piece_of(96, of(96)).unwrap(), 96);
        let error = piece_of(512, of(256)).unwrap_err().to_string();
        assert!(error.contains("256 columns") && error.contains("--device cpu"), "{error}");
    }
}
