//! SpQR (arXiv 2306.03078): the column sweep with small groups whose grids are fitted to fully corrected weights, whose
//! scales and zeros may be coded again, and with outliers that stay exact.

#[cfg(feature = "cuda")]
mod cuda;
mod grid;
mod lanes;
#[cfg(test)]
mod reference;
mod search;
#[cfg(test)]
mod tests;

pub use search::Searched;

use candle_core::Result;
use rayon::prelude::*;

use crate::cholesky::Factor;
use crate::matmul::Precision;
use crate::sweep::Search;
use crate::sweep::strips::TrailingUpdate;

/// SpQR's treatment of a column: round it to a grid, but keep a weight exact when its error e² is over the threshold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule<'a> {
    /// Width of a code, 2 to 8.
    pub bits: u32,
    /// Columns that share a grid; the last group may be short.
    pub group_size: usize,
    /// Zero fixed in the middle of the codes.
    pub symmetric: bool,
    /// Zeros rounded to whole numbers.
    pub round_zero: bool,
    /// One grid per row; otherwise all rows share the least and the greatest value of a group.
    pub per_channel: bool,
    /// The second quantization, of scales and zeros.
    pub second: SecondLevel,
    /// e² above which a weight is kept exact; `None` keeps none.
    pub threshold: Option<f32>,
    /// Fit grids to all weights of a group, without looking for those that are likely to be outliers.
    pub simplified: bool,
    /// Last columns that are corrected but not rounded.
    pub keep_last: usize,
    /// Weights that become zero and stay out of the grids, row-major `[rows, cols]`; only integer zeros hold them.
    pub zeros: Option<&'a [u8]>,
    /// The value of outliers.
    pub outlier: Outlier,
    /// The float type of weights, scales and zeros: every operation of decoding is rounded to it.
    pub stored: Precision,
    /// The choice of grids: those that span their weights, or, with a grid per row, those that a search by weighted errors
    /// finds.
    pub search: Search,
    /// The importance of each column for that search in [`flat`], `[cols]`, where nothing else tells what an error costs;
    /// without it all count the same.
    pub importance: Option<&'a [f32]>,
}

/// The value that a reader gives an outlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlier {
    /// Its value, in place of the code's; the code is that of zero.
    Replaces,
    /// The code's value plus a stored difference, both rounded; the code is the nearest.
    Adds,
}

/// The second level: statistics of that many consecutive rows share a grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecondLevel {
    /// Width of a scale's code, 1 to 8; `None` stores the scales as they are.
    pub scale_bits: Option<u32>,
    /// Width of a zero's code, 1 to 8; `None` stores the zeros as they are.
    pub zero_bits: Option<u32>,
    /// Symmetric grids for the zeros.
    pub zero_symmetric: bool,
    /// Rows that share a grid; the last ones may be fewer.
    pub rows: usize,
}

impl Rule<'_> {
    /// The largest code.
    #[inline(always)]
    fn max_code(&self) -> f32 {
        ((1u32 << self.bits) - 1) as f32
    }

    /// As [`coded_zero_bits`] says for this rule.
    pub fn zero_bits(&self) -> Option<u32> {
        coded_zero_bits(self.second.zero_bits, self.bits, self.symmetric, self.round_zero)
    }

    /// True if grids are searched.
    fn is_searched(&self) -> bool {
        self.search == Search::Weighted && self.per_channel
    }

    /// Widens the range of a group to zero where weights at these places must become zero, likely outliers or not.
    fn hold_zeros(&self, places: std::ops::Range<usize>, (lo, hi, _): &mut (f32, f32, bool)) {
        if self.zeros.is_some_and(|zeros| zeros[places].contains(&1)) {
            (*lo, *hi) = (lo.min(0.0), hi.max(0.0));
        }
    }

    /// The cost of an error of 1 in each of some columns from `first` on, whose diagonal of the factor is `d`.
    fn costs(&self, first: usize, d: &[f32], is_flat: bool) -> Vec<f32> {
        match self.importance.filter(|_| is_flat) {
            Some(importance) => importance[first..first + d.len()].to_vec(),
            None => d.iter().map(|d| 1.0 / (d * d)).collect(),
        }
    }

    /// True if there is a second level.
    fn coded(&self) -> bool {
        self.second.scale_bits.is_some() || self.zero_bits().is_some()
    }

    /// Rows that share statistics of the second level; 1 without it.
    fn tile_rows(&self) -> usize {
        if self.coded() { self.second.rows } else { 1 }
    }

    /// Rows that one task must see together.
    fn task_rows(&self, rows: usize) -> usize {
        if !self.per_channel {
            return rows.max(1);
        }
        let height = self.tile_rows();
        // Whole tiles of rows and whole groups of the second level: the least common multiple.
        (1..=lanes::LANES).map(|n| n * height).find(|n| n % lanes::LANES == 0).unwrap_or(height)
    }
}

/// Width of a zero's code when `asked` for one, beside weights of `bits`: zeros that are constant (`symmetric`), or
/// rounded to integers that are narrow enough as they are, are not coded again.
pub fn coded_zero_bits(asked: Option<u32>, bits: u32, symmetric: bool, round_zero: bool) -> Option<u32> {
    asked.filter(|&asked| !(symmetric || round_zero && asked >= bits))
}

/// Scales or zeros, row-major `[rows, groups]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistic {
    /// As used: decoded, when they are coded.
    pub values: Vec<f32>,
    /// Their codes, if they are coded.
    pub coded: Option<Coded>,
}

/// Codes of statistics.
#[derive(Clone, Debug, PartialEq)]
pub struct Coded {
    /// Row-major `[rows, groups]`.
    pub codes: Vec<u8>,
    /// Row-major `[⌈rows / second.rows⌉, groups]`.
    pub scales: Vec<f32>,
    /// Like the scales.
    pub zeros: Vec<f32>,
}

/// The result of an SpQR sweep, in the order in which the columns were given.
#[derive(Clone, Debug)]
pub struct Swept {
    /// Row-major `[rows, cols]`.
    pub weight: Vec<f32>,
    /// Codes 0 ..= 2^bits − 1, row-major `[rows, cols]`.
    pub codes: Vec<u8>,
    /// 1 where a weight was kept exact, row-major `[rows, cols]`; the last columns that are not rounded included.
    pub outliers: Vec<u8>,
    /// Scales.
    pub scales: Statistic,
    /// Zeros.
    pub zeros: Statistic,
    /// Σ e².
    pub loss: f64,
    /// The change that the search for grids made; `None` where there was none, or on a GPU.
    pub searched: Option<Searched>,
}

impl Statistic {
    fn new(rows: usize, groups: usize, bits: Option<u32>, height: usize) -> Self {
        let chunks = rows.div_ceil(height.max(1)) * groups;
        let coded =
            bits.map(|_| Coded { codes: vec![0; rows * groups], scales: vec![0.0; chunks], zeros: vec![0.0; chunks] });
        Self { values: vec![0.0; rows * groups], coded }
    }
}

impl Swept {
    /// A matrix of so many rows, and groups in each, of which no column has been visited.
    fn before(weight: Vec<f32>, rows: usize, groups: usize, rule: &Rule<'_>) -> Self {
        Self {
            codes: vec![0; weight.len()],
            outliers: vec![0; weight.len()],
            scales: Statistic::new(rows, groups, rule.second.scale_bits, rule.second.rows),
            zeros: Statistic::new(rows, groups, rule.zero_bits(), rule.second.rows),
            weight,
            loss: 0.0,
            searched: None,
        }
    }

    /// Rounds the last columns, which have no codes, to the type that they are stored in.
    fn keep_last(&mut self, cols: usize, rule: &Rule<'_>) {
        let end = cols.saturating_sub(rule.keep_last);
        for (row, kept) in self.weight.chunks_exact_mut(cols).zip(self.outliers.chunks_exact_mut(cols)) {
            row[end..].iter_mut().for_each(|w| *w = rule.stored.round(*w));
            kept[end..].fill(1);
        }
    }
}

/// The threshold on e² for a threshold relative to the weights' spread: `relative` times the mean over columns of the
/// variance of column j over d_j² (unbiased, over the rows). `weight` is row-major `[rows, cols]`, `d` the diagonal of
/// the factor, `[cols]`.
pub fn threshold(relative: f64, weight: &[f32], d: &[f32]) -> f32 {
    let cols = d.len();
    let rows = weight.len() / cols;
    let means: Vec<f64> = by_column(weight, cols, |_, w| w).into_iter().map(|sum| sum / rows as f64).collect();
    let squares = by_column(weight, cols, |j, w| (w - means[j]) * (w - means[j]));
    let relative_variance = |(j, s): (usize, &f64)| s / (rows.max(2) - 1) as f64 / f64::from(d[j]).powi(2);
    (relative * squares.iter().enumerate().map(relative_variance).sum::<f64>() / cols as f64) as f32
}

/// Marks the weights of one group that are likely to be outliers: those without which Σ ((decode(encode(x)) − x) / d)² of
/// the group, on a single-level grid of its own, falls by more than `threshold` (arXiv 2306.03078, section on outlier
/// detection). `x` is row-major `[rows, d.len()]`; the marks are 0 or 1, like it.
///
/// The sweep does this for every group; here it stands alone for experiments and measurements.
pub fn likely_outliers(x: &[f32], d: &[f32], rule: &Rule<'_>, threshold: f32) -> Vec<u8> {
    let width = d.len().max(1);
    let mut marks = vec![0; x.len()];
    let (mut columns, mut gains) = (vec![[0f32; lanes::LANES]; width], vec![[0f32; lanes::LANES]; width]);
    for (x, marks) in x.chunks(lanes::LANES * width).zip(marks.chunks_mut(lanes::LANES * width)) {
        for (r, row) in x.chunks_exact(width).enumerate() {
            row.iter().zip(&mut columns).for_each(|(&v, column)| column[r] = v);
        }
        lanes::gains(&columns, d, rule, &mut gains);
        for (r, row) in marks.chunks_exact_mut(width).enumerate() {
            row.iter_mut().zip(&gains).for_each(|(mark, gain)| *mark = u8::from(gain[r] > threshold));
        }
    }
    marks
}

/// Σ over the rows of a term of each column: pieces of rows, added in order, the same for any number of threads.
fn by_column(weight: &[f32], cols: usize, term: impl Fn(usize, f64) -> f64 + Sync) -> Vec<f64> {
    let piece = |rows: &[f32]| {
        let mut sums = vec![0f64; cols];
        for row in rows.chunks_exact(cols) {
            sums.iter_mut().zip(row).enumerate().for_each(|(j, (sum, &w))| *sum += term(j, f64::from(w)));
        }
        sums
    };
    let pieces: Vec<Vec<f64>> = weight.par_chunks(64 * cols).map(piece).collect();
    let mut sums = vec![0f64; cols];
    pieces.iter().for_each(|piece| sums.iter_mut().zip(piece).for_each(|(sum, p)| *sum += p));
    sums
}

/// Sweeps matrices that share their inputs, row-major `[.., cols]` each with its rule, in slices of `slice` columns: one
/// result for each, as [`sweep`] gives it. With a factor on a GPU they are swept there, as one matrix where their rules
/// differ in the threshold alone and no statistics are shared across them. Errors when the GPU does.
///
/// On the GPU, R rows of one matrix take R · cols · 6 bytes (7 when zeros are kept), R · groups · 8 for grids and up to
/// R · groups · 4 for their codes, and R · slice · 4 for errors, beside the factor. A slice of up to 128 columns is one
/// launch, and a wider one several, each followed by a product. Statistics that more than 32 rows share, and groups of
/// more than 128 columns, take up to four launches for each group.
pub fn fan(parts: Vec<(Vec<f32>, Rule<'_>)>, cols: usize, slice: usize, factor: &Factor) -> Result<Vec<Swept>> {
    on_gpu!(factor.u => cuda::fan(parts, cols, slice, factor));
    let u = factor.u.to_host()?;
    Ok(parts.into_iter().map(|(weight, rule)| sweep(weight, cols, slice, &u, &rule)).collect())
}

/// Sweeps `weight`, row-major `[.., cols]`, in slices of `slice` columns, with the upper triangular factor `u`
/// `[cols, cols]`, H⁻¹ = UᵀU. About rows·cols² operations, and 60 per weight for its grids.
///
/// # Panics
/// If a length does not fit the shape: callers check what users may choose.
pub fn sweep(weight: Vec<f32>, cols: usize, slice: usize, u: &[f32], rule: &Rule<'_>) -> Swept {
    swept(weight, cols, slice, Some(u), rule)
}

/// [`sweep`] with the identity for a factor: every weight is rounded to the grid of its group as it is, and errors move
/// nowhere. 60 operations per weight.
///
/// # Panics
/// As [`sweep`] does.
pub fn flat(weight: Vec<f32>, cols: usize, slice: usize, rule: &Rule<'_>) -> Swept {
    swept(weight, cols, slice, None, rule)
}

/// [`sweep`], or [`flat`] without a factor.
fn swept(weight: Vec<f32>, cols: usize, slice: usize, u: Option<&[f32]>, rule: &Rule<'_>) -> Swept {
    let rows = weight.len() / cols;
    assert_eq!(weight.len(), rows * cols);
    assert!(slice > 0 && rule.group_size > 0 && rule.second.rows > 0);
    let groups = cols.div_ceil(rule.group_size);
    let mut out = Swept::before(weight, rows, groups, rule);
    let end = cols.saturating_sub(rule.keep_last);
    let mut trailing = u.map(|u| TrailingUpdate::new(u, cols));
    for first in (0..end).step_by(slice) {
        let width = slice.min(end - first);
        if let Some(trailing) = &mut trailing {
            trailing.load_slice(first, width);
        }
        let view = lanes::Slice { cols, first, width, groups, trailing: trailing.as_ref(), rule };
        let mut tasks = tasks(&mut out, rows, &view);
        tasks.par_iter_mut().with_max_len(1).for_each(|task| task.run(&view));
        let parts: Vec<(f64, Searched)> = tasks.iter().map(|task| (task.loss, task.searched)).collect();
        out.loss += parts.iter().map(|(loss, _)| loss).sum::<f64>();
        if rule.is_searched() {
            let sum = out.searched.get_or_insert_default();
            parts.into_iter().for_each(|(_, searched)| *sum += searched);
        }
    }
    out.keep_last(cols, rule);
    out
}

/// Splits what is written among tasks of rows.
fn tasks<'a>(out: &'a mut Swept, rows: usize, slice: &lanes::Slice<'_>) -> Vec<lanes::Task<'a>> {
    let task_rows = slice.rule.task_rows(rows);
    let (cols, groups, height) = (slice.cols, slice.groups, slice.rule.second.rows);
    let (scales, mut scale_codes) = split(&mut out.scales, groups, task_rows, height);
    let (zeros, mut zero_codes) = split(&mut out.zeros, groups, task_rows, height);
    (out.weight.chunks_mut(task_rows * cols))
        .zip(out.codes.chunks_mut(task_rows * cols))
        .zip(out.outliers.chunks_mut(task_rows * cols))
        .zip(scales)
        .zip(zeros)
        .enumerate()
        .map(|(i, ((((weight, codes), outliers), scales), zeros))| lanes::Task {
            first_row: i * task_rows,
            weight,
            codes,
            outliers,
            scales,
            zeros,
            scale_codes: scale_codes.next(),
            zero_codes: zero_codes.next(),
            loss: 0.0,
            searched: Searched::default(),
        })
        .collect()
}

type Chunks<'a> = std::slice::ChunksMut<'a, f32>;

/// The parts of a statistic that tasks of `task_rows` rows own.
fn split<'a>(
    statistic: &'a mut Statistic,
    groups: usize,
    task_rows: usize,
    height: usize,
) -> (Chunks<'a>, impl Iterator<Item = grid::CodedPart<'a>>) {
    let chunks = task_rows.div_ceil(height) * groups;
    let coded = statistic.coded.iter_mut().flat_map(move |coded| {
        (coded.codes.chunks_mut(task_rows * groups))
            .zip(coded.scales.chunks_mut(chunks))
            .zip(coded.zeros.chunks_mut(chunks))
            .map(|((codes, scales), zeros)| grid::CodedPart { codes, scales, zeros })
    });
    (statistic.values.chunks_mut(task_rows * groups), coded)
}
