//! The sweep on a GPU: one launch for each slice of columns, then one product for the trailing columns.

mod launch;

use std::ops::Range;

use candle_core::cuda_backend::cudarc::driver::CudaSlice;
use candle_core::{CudaDevice, Result};

use self::launch::{LANES, RANGE_BYTES, Sweep};
use super::{Coded, Rule, Statistic, Swept};
use crate::cholesky::Factor;
use crate::cuda::staging::{self, Plain};
use crate::cuda::with_view;
use crate::square_matrix::Place;

/// One matrix of a fan.
type Part<'a> = (Vec<f32>, Rule<'a>);

/// As [`super::fan`], for a factor on a GPU. Matrices whose rules differ in the threshold alone are swept as one.
pub(super) fn fan(parts: Vec<Part<'_>>, cols: usize, slice: usize, factor: &Factor) -> Result<Vec<Swept>> {
    if parts.iter().any(|(_, rule)| rule.is_searched()) {
        candle_core::bail!("weighted scales of spqr are searched on the CPU only");
    }
    let mut made = Vec::with_capacity(parts.len());
    let mut stack: Vec<Part<'_>> = Vec::new();
    for part in parts {
        if !stack.last().is_none_or(|last| stackable(last, &part.1, cols)) {
            made.extend(sweep(std::mem::take(&mut stack), cols, slice, factor)?);
        }
        stack.push(part);
    }
    if !stack.is_empty() {
        made.extend(sweep(stack, cols, slice, factor)?);
    }
    Ok(made)
}

/// True if rows with the rule `next` may follow those of `part` in one matrix: nothing that rows share reaches from one
/// to the other.
fn stackable((weight, rule): &Part<'_>, next: &Rule<'_>, cols: usize) -> bool {
    fn plain<'a>(rule: &Rule<'a>) -> Rule<'a> {
        Rule { threshold: rule.threshold.map(|_| 0.0), zeros: None, ..*rule }
    }
    plain(rule) == plain(next) && rule.per_channel && (weight.len() / cols.max(1)).is_multiple_of(rule.tile_rows())
}

/// The arrays in the device's memory.
struct Memory {
    weight: CudaSlice<f32>,
    d: CudaSlice<f32>,
    threshold: CudaSlice<f32>,
    marked: Option<CudaSlice<u8>>,
    codes: CudaSlice<u8>,
    kept: CudaSlice<u8>,
    scales: DeviceStatistic,
    zeros: DeviceStatistic,
    ranges: CudaSlice<u8>,
    errors: CudaSlice<f32>,
    loss: CudaSlice<f64>,
}

/// A [`Statistic`].
struct DeviceStatistic {
    values: CudaSlice<f32>,
    coded: Option<(CudaSlice<u8>, CudaSlice<f32>, CudaSlice<f32>)>,
}

/// The sizes of a sweep.
#[derive(Clone, Copy)]
struct Counts {
    rows: usize,
    cols: usize,
    groups: usize,
    /// Rows that share second-level grids.
    height: usize,
    /// Columns of a slice.
    slice: usize,
}

/// Sweeps matrices that lie one under the other; all rules are the first one's but for thresholds and zeros.
fn sweep(parts: Vec<Part<'_>>, cols: usize, slice: usize, factor: &Factor) -> Result<Vec<Swept>> {
    assert!(slice > 0 && parts.iter().all(|(weight, _)| weight.len().is_multiple_of(cols)));
    let rule = parts[0].1;
    assert!(rule.group_size > 0 && rule.second.rows > 0 && factor.u.n() == cols);
    let rows = parts.iter().map(|(weight, _)| weight.len() / cols).sum::<usize>();
    if rows == 0 {
        let groups = cols.div_ceil(rule.group_size);
        return Ok(parts.into_iter().map(|(weight, rule)| Swept::before(weight, 0, groups, &rule)).collect());
    }
    if rows.max(cols) * LANES > i32::MAX as usize {
        candle_core::bail!("a sweep of {rows} rows and {cols} columns on a GPU; at most {}", i32::MAX as usize / LANES);
    }
    let counts = Counts {
        rows,
        cols,
        groups: cols.div_ceil(rule.group_size),
        height: rule.second.rows.min(rows),
        slice: slice.min(cols),
    };
    let Place::Gpu(u) = &factor.u.place else {
        candle_core::bail!("a sweep on a GPU with a factor in host memory");
    };
    with_view::<f32, _>(u, |u, device| {
        let mut memory = Memory::upload(device, &parts, &factor.diagonal, counts)?;
        Sweep::new(device, &mut memory, &u, &rule, counts).run()?;
        memory.download(device, parts, counts)
    })
}

impl Memory {
    fn upload(device: &CudaDevice, parts: &[Part<'_>], d: &[f32], counts: Counts) -> Result<Self> {
        let Counts { rows, cols, groups, height, slice } = counts;
        let rule = &parts[0].1;
        // SAFETY: all of it is written below.
        let mut weight = unsafe { device.alloc::<f32>(rows * cols)? };
        let mut marked = match parts.iter().any(|(_, rule)| rule.zeros.is_some()) {
            true => Some(device.alloc_zeros::<u8>(rows * cols)?),
            false => None,
        };
        let mut threshold = Vec::with_capacity(rows);
        let mut at = 0;
        for (values, rule) in parts.iter().filter(|(values, _)| !values.is_empty()) {
            let place = at..at + values.len();
            staging::up(device, values, &mut weight.slice_mut(place.clone()))?;
            if let (Some(marked), Some(zeros)) = (&mut marked, rule.zeros) {
                staging::up(device, zeros, &mut marked.slice_mut(place.clone()))?;
            }
            threshold.resize(place.end / cols, rule.threshold.unwrap_or(f32::INFINITY));
            at = place.end;
        }
        let statistic = |bits: Option<u32>| -> Result<DeviceStatistic> {
            let tiles = rows.div_ceil(height) * groups;
            let coded = match bits {
                None => None,
                Some(_) => {
                    Some((device.alloc_zeros(rows * groups)?, device.alloc_zeros(tiles)?, device.alloc_zeros(tiles)?))
                }
            };
            Ok(DeviceStatistic { values: device.alloc_zeros(rows * groups)?, coded })
        };
        Ok(Self {
            d: device.clone_htod(d)?,
            threshold: device.clone_htod(&threshold)?,
            codes: device.alloc_zeros(rows * cols)?,
            kept: device.alloc_zeros(rows * cols)?,
            scales: statistic(rule.second.scale_bits)?,
            zeros: statistic(rule.zero_bits())?,
            ranges: device.alloc_zeros(rows * RANGE_BYTES)?,
            errors: device.alloc_zeros(rows * slice)?,
            loss: device.alloc_zeros(rows)?,
            weight,
            marked,
        })
    }

    /// Fetches what was made, a matrix at a time.
    fn download(self, device: &CudaDevice, parts: Vec<Part<'_>>, counts: Counts) -> Result<Vec<Swept>> {
        let Counts { cols, groups, height, .. } = counts;
        let mut first = 0;
        let mut made = Vec::with_capacity(parts.len());
        for (mut weight, rule) in parts {
            let rows = first..first + weight.len() / cols;
            let tiles = rows.start / height..rows.end.div_ceil(height);
            let statistic = |on_device: &DeviceStatistic| -> Result<Statistic> {
                let values = fetch(device, &on_device.values, &rows, groups)?;
                let coded = match &on_device.coded {
                    None => None,
                    Some((codes, scales, zeros)) => Some(Coded {
                        codes: fetch(device, codes, &rows, groups)?,
                        scales: fetch(device, scales, &tiles, groups)?,
                        zeros: fetch(device, zeros, &tiles, groups)?,
                    }),
                };
                Ok(Statistic { values, coded })
            };
            let place = rows.start * cols..rows.end * cols;
            if !weight.is_empty() {
                staging::down_to(device, &self.weight.slice(place), &mut weight)?;
            }
            let mut swept = Swept {
                weight,
                codes: fetch(device, &self.codes, &rows, cols)?,
                outliers: fetch(device, &self.kept, &rows, cols)?,
                scales: statistic(&self.scales)?,
                zeros: statistic(&self.zeros)?,
                searched: None,
                loss: fetch(device, &self.loss, &rows, 1)?.iter().sum(),
            };
            swept.keep_last(cols, &rule);
            made.push(swept);
            first = rows.end;
        }
        Ok(made)
    }
}

/// Some rows of a matrix with `cols` columns.
fn fetch<T: Plain>(device: &CudaDevice, from: &CudaSlice<T>, rows: &Range<usize>, cols: usize) -> Result<Vec<T>> {
    match rows.len() * cols {
        0 => Ok(Vec::new()),
        _ => staging::down(device, &from.slice(rows.start * cols..rows.end * cols)),
    }
}
