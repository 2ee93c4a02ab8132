//! Matrices one below the other: their memory on the device, and the launches of a slice.

use std::ops::Range;

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaView, LaunchConfig, PushKernelArg, ValidAsZeroBits};
use candle_core::{CudaDevice, Result};

use super::args::{FitArgs, Format, SweepArgs};
use super::kind::{Kind, ROWS, SLICE, THREADS};
use super::mask::Mask;
use crate::cuda::blas::{Math, Operand, Target, gemm};
use crate::cuda::staging::{self, Plain};
use crate::cuda::{Kernel, Source, function, grid, int};
use crate::matmul::Precision;
use crate::matmul::stored;
use crate::sweep::rule::DropKind;
use crate::sweep::{Fit, GridFormat, Grids, Part, Scales, Swept};

/// Sweeps matrices whose rules are of the kind, by the factor `u`, row-major `[cols, cols]`.
pub(super) fn sweep(
    device: &CudaDevice,
    u: CudaView<'_, f32>,
    parts: Vec<Part<'_>>,
    cols: usize,
    slice: usize,
    kind: Kind<'_>,
) -> Result<Vec<Swept>> {
    let piece = kind.piece(slice)?;
    let mut stack = Stack::new(device, &parts, cols, slice, kind)?;
    if stack.rows > 0 {
        for first in (0..cols).step_by(slice) {
            let columns = first..(first + slice).min(cols);
            stack.fit(&columns)?;
            stack.mask.mask_slice(&stack.weight.as_view(), &u, cols, &columns)?;
            for first in columns.clone().step_by(piece) {
                let width = piece.min(columns.end - first);
                stack.visit(&u, first, width)?;
                stack.correct(&u, first, width)?;
            }
        }
    }
    stack.finish(parts)
}

/// The arrays on the device. Those that a rule has no use for have one element.
struct Stack<'a> {
    device: &'a CudaDevice,
    kind: Kind<'a>,
    rows: usize,
    cols: usize,
    groups: usize,
    /// Of each part.
    part_rows: Vec<Range<usize>>,
    weight: CudaSlice<f32>,
    mask: Mask,
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
}

/// Lists one after the other.
pub(super) fn stacked<'p, T: Plain + ValidAsZeroBits + 'static>(
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

/// Scales and zero points of matrices with `rows` rows: those that were fitted before, or room for those to be fitted.
fn grids_of(
    device: &CudaDevice,
    parts: &[Part<'_>],
    kind: &Kind<'_>,
    [rows, groups]: [usize; 2],
) -> Result<[CudaSlice<f32>; 2]> {
    if kind.round.is_some_and(|(_, fit)| fit.fitted_size().is_some()) {
        let count = (rows * groups).max(1);
        return Ok([device.alloc_zeros(count)?, device.alloc_zeros(count)?]);
    }
    let before = parts.iter().filter_map(|part| match part.rule.round?.fit {
        Fit::Before { grids, .. } => Some(grids),
        Fit::AtSlice { .. } => None,
    });
    let scales = stacked(device, before.clone().map(|grids| grids.scales.as_slice()))?;
    Ok([scales, stacked(device, before.map(|grids| grids.zeros.as_slice()))?])
}

/// The global scale of each row, where matrices have one.
fn global_scales(parts: &[Part<'_>], part_rows: &[Range<usize>]) -> Vec<f32> {
    let mut all = Vec::new();
    for (part, rows) in parts.iter().zip(part_rows) {
        if let Some(Scales::E4m3 { global }) = part.rule.round.map(|round| round.format.scales) {
            all.resize(all.len() + rows.len(), global);
        }
    }
    all
}

impl<'a> Stack<'a> {
    fn new(device: &'a CudaDevice, parts: &[Part<'_>], cols: usize, slice: usize, kind: Kind<'a>) -> Result<Self> {
        let (mut rows, mut part_rows) = (0, Vec::with_capacity(parts.len()));
        for part in parts {
            assert_eq!(part.weight.len() % cols, 0, "a part of {} weights, {cols} a row", part.weight.len());
            let first = rows;
            rows += part.weight.len() / cols;
            part_rows.push(first..rows);
        }
        let groups = kind.groups(cols);
        let [scales, zeros] = grids_of(device, parts, &kind, [rows, groups])?;
        let group_of = kind.round.map_or(&[][..], |(_, fit)| fit.group_of());
        let mask = Mask::new(device, parts, &part_rows, [cols, slice])?;
        let visit = function(device, Source::Sweep, kind.kernel())?.with_shared(kind.shared_bytes())?;
        Ok(Self {
            weight: stacked(device, parts.iter().map(|part| part.weight.as_slice()))?,
            mask,
            codes: device.alloc_zeros(if kind.round.is_some() { (rows * cols).max(1) } else { 1 })?,
            scales,
            zeros,
            global: stacked(device, std::iter::once(global_scales(parts, &part_rows).as_slice()))?,
            group_of: stacked(device, std::iter::once(group_of))?,
            errors: device.alloc_zeros((rows * SLICE).max(1))?,
            loss: device.alloc_zeros(rows.max(1))?,
            visit,
            fit: function(device, Source::Fit, "sweep_fit")?,
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
        let Some((format, fit)) = self.kind.round else { return Ok(()) };
        let Some(group_size) = fit.fitted_size() else { return Ok(()) };
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
            format: Format::new(&format),
        };
        let launch = grid(self.rows * count * 32, 256);
        let mut builder = self.fit.builder();
        builder.arg(&self.weight).arg(&mut self.scales).arg(&mut self.zeros).arg(&self.global).arg(&args);
        // SAFETY: the kernel reads weights of all rows and global scales where the format has them, and writes the grids
        // of groups that there are.
        unsafe { builder.launch(launch).w()? };
        Ok(())
    }

    /// Visits up to [`SLICE`] columns.
    fn visit(&mut self, u: &CudaView<'_, f32>, first: usize, width: usize) -> Result<()> {
        let (n, m) = match self.kind.drop {
            DropKind::Groups { n, m } => (n.min(self.cols), m.min(self.cols)),
            DropKind::Nothing | DropKind::Masked(_) => (0, 1),
        };
        let format = self.kind.round.map_or(GridFormat::int(8, true, Precision::F32), |(format, _)| format);
        let group_size = self.kind.round.and_then(|(_, fit)| fit.fitted_size());
        let args = SweepArgs {
            rows: int(self.rows)?,
            cols: int(self.cols)?,
            first: int(first)?,
            width: int(width)?,
            aligned: i32::from(self.cols.is_multiple_of(4) && first.is_multiple_of(4)),
            n: int(n)?,
            m: int(m)?,
            groups: int(self.groups)?,
            // 0: the groups of columns are looked up.
            group_size: int(group_size.map_or(0, |size| size.min(self.cols)))?,
            stored: stored(self.kind.stored),
            format: Format::new(&format),
        };
        let launch = LaunchConfig {
            grid_dim: (self.rows.div_ceil(ROWS) as u32, 1, 1),
            block_dim: (THREADS as u32, 1, 1),
            shared_mem_bytes: self.kind.shared_bytes() as u32,
        };
        let mut builder = self.visit.builder();
        builder.arg(&mut self.weight).arg(u).arg(&mut self.mask.dropped).arg(&mut self.codes);
        builder.arg(&self.scales).arg(&self.zeros).arg(&self.global).arg(&self.group_of);
        builder.arg(&mut self.errors).arg(&mut self.loss).arg(&args);
        // SAFETY: the kernel reads and writes the columns of all rows, in arrays of as many, the factor's rows of the
        // slice, grids by the groups of the columns, which are less than `groups`, and one error for each column.
        unsafe { builder.launch(launch).w()? };
        Ok(())
    }

    /// Subtracts the errors of visited columns, times the factor's rows, from the trailing columns.
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

    /// The result of each part, in host memory.
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
                dropped: fetched(device, &self.mask.dropped, all)?,
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
