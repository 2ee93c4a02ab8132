//! The parts of packed codes as they come: unpacked, and in plain types.

use candle_core::{Result, bail};

use super::codes::{Code, Codes, Rounding, limit, look_up, pack};
use super::numbers::{Floats, LANES, Numbers, padded};
use super::strip::{Plain, Strip};
use crate::matmul::Precision;
use crate::minifloat::e4m3_byte;

/// Codes `[rows, cols]` and what they stand for: `(code − zero) · scale`, rounded.
///
/// Columns are counted in the order in which `order` lists them, where there is one.
#[derive(Clone, Debug)]
pub struct Grid<'a> {
    /// The type of a code.
    pub code: Code,
    /// Row-major `[rows, cols]`; signed codes as two's complement.
    pub codes: &'a [u8],
    /// Columns that share a scale.
    pub group: usize,
    /// Rows that share their scales and zero points.
    pub height: usize,
    /// `[⌈rows / height⌉, ⌈cols / group⌉]`.
    pub scales: Statistic<'a>,
    /// Like the scales.
    pub zeros: Option<Statistic<'a>>,
    /// The group of each column, where it is not `column / group`.
    pub index: Option<&'a [u32]>,
    /// The column of the weight at each place; nothing where that is the place.
    pub order: Option<&'a [u32]>,
    /// Weights that are no codes: their places, `row · cols + column` in ascending order, and their values.
    pub outliers: (&'a [u32], &'a [f32]),
    /// The type that differences from zero points, if they are `fractional`, and weights are rounded to.
    pub weight: Precision,
    /// True if zero points are no integers.
    pub fractional: bool,
}

/// Numbers for groups of weights. Row-major.
#[derive(Clone, Debug)]
pub enum Statistic<'a> {
    /// Numbers of the weight's type.
    Floats(&'a [f32]),
    /// Numbers of `e4m3`, divided by a global scale.
    E4m3(&'a [f32], f32),
    /// Powers of two from 2^-127 on.
    Powers(&'a [f32]),
    /// Integers that span no more than 8 bits.
    Integers(Vec<i32>),
    /// The same number everywhere.
    Constant(f32),
    /// `scale · (code − zero)` with codes `[rows, groups]`, and for each `height` rows scales and zeros of the weight's type.
    Coded {
        /// The codes.
        codes: &'a [u8],
        /// Rows that share a scale and a zero.
        height: usize,
        /// `[⌈rows / height⌉, groups]`.
        scales: &'a [f32],
        /// Like the scales.
        zeros: &'a [f32],
    },
}

impl Grid<'_> {
    /// Groups of a row.
    pub(super) fn groups(&self, cols: usize) -> usize {
        cols.div_ceil(self.group.max(1))
    }

    /// Errors unless these are the parts of a `[rows, cols]` matrix.
    pub(super) fn check(&self, rows: usize, cols: usize) -> Result<()> {
        let groups = self.groups(cols);
        if !(1..=cols).contains(&self.group) || !(1..=rows).contains(&self.height) || self.codes.len() != rows * cols {
            bail!("{} codes in groups of {} by {} for [{rows}, {cols}]", self.codes.len(), self.height, self.group);
        }
        for statistic in std::iter::once(&self.scales).chain(&self.zeros) {
            if !statistic.fits(rows, groups, self.height, self.weight) {
                bail!(
                    "scales or zero points that are not those of {groups} groups of [{rows}, {cols}], or no {:?}",
                    self.weight
                );
            }
        }
        let ordered = |list: &[u32], limit: usize| list.len() == cols && list.iter().all(|&v| (v as usize) < limit);
        if self.index.is_some_and(|index| !ordered(index, groups)) || self.order.is_some_and(|o| !ordered(o, cols)) {
            bail!("an order or groups of columns that are not those of {cols} columns");
        }
        let (places, values) = self.outliers;
        if self.index.is_some() && !places.is_empty() {
            bail!("weights beside codes whose groups come by an index");
        }
        let ascending = places.windows(2).all(|pair| pair[0] < pair[1]);
        if places.len() != values.len() || !ascending || places.last().is_some_and(|&at| at as usize >= rows * cols) {
            bail!("{} weights beside codes at {} places of [{rows}, {cols}]", values.len(), places.len());
        }
        Ok(())
    }

    /// The packed codes: of columns in `columns`' order, if there is one.
    pub(super) fn codes(&self, cols: usize, columns: Option<&[u32]>, product: Precision) -> Codes {
        let reordered: Vec<u8>;
        let codes = match columns {
            None => self.codes,
            Some(columns) => {
                let row = |row: &[u8]| -> Vec<u8> { columns.iter().map(|&col| row[col as usize]).collect() };
                reordered = self.codes.chunks_exact(cols).flat_map(row).collect();
                &reordered
            }
        };
        let groups = self.groups(cols);
        let strip = |statistic: &Statistic| statistic.strip(groups, self.height, self.weight);
        let (scales, zeros) = (strip(&self.scales), self.zeros.as_ref().map_or(Strip::Constant(0.0), strip));
        let rounding = Rounding { difference: self.fractional, weight: self.weight, product };
        Codes {
            code: self.code,
            levels: self.code.levels(),
            cols,
            packed: pack(self.code, codes, cols),
            group: self.group,
            groups,
            looked_up: look_up(self.code, &scales, &zeros, rounding),
            limit: limit(&scales),
            scales,
            zeros,
            rounding,
        }
    }

    /// The order that brings the columns of each group together, if all groups are as long as they should be then.
    pub(super) fn grouped(&self, cols: usize) -> Option<Vec<u32>> {
        let index = self.index?;
        let mut columns: Vec<u32> = (0..cols as u32).collect();
        columns.sort_by_key(|&col| index[col as usize]);
        let even = columns.iter().enumerate().all(|(place, &col)| index[col as usize] as usize == place / self.group);
        even.then_some(columns)
    }

    /// True if groups are runs of whole lanes.
    pub(super) fn is_even(&self, cols: usize) -> bool {
        self.group.is_multiple_of(LANES) || self.group >= cols
    }
}

impl Statistic<'_> {
    /// True if there are as many numbers as there must be, and floats are of the weight's type.
    fn fits(&self, rows: usize, groups: usize, height: usize, weight: Precision) -> bool {
        let are_floats = |values: &[f32]| values.iter().all(|&value| weight.round(value) == value);
        let count = rows.div_ceil(height) * groups;
        match self {
            Statistic::Constant(_) => true,
            Statistic::Floats(values) => values.len() == count && are_floats(values),
            Statistic::E4m3(values, _) | Statistic::Powers(values) => values.len() == count,
            Statistic::Integers(values) => values.len() == count,
            Statistic::Coded { codes, height: own, scales, zeros } => {
                let tiles = rows.div_ceil((*own).max(1)) * groups;
                let fits = |values: &[f32]| values.len() == tiles && are_floats(values);
                height == 1 && *own > 0 && codes.len() == rows * groups && fits(scales) && fits(zeros)
            }
        }
    }

    fn strip(&self, groups: usize, height: usize, precision: Precision) -> Strip {
        let stride = groups.next_multiple_of(2);
        let plain = |height, numbers| Plain { stride, height, numbers };
        let floats = |values| Numbers::Floats(Floats::new(&filled(values, groups, stride), precision));
        let bytes = |values, f: fn(f32) -> u8| padded(filled(values, groups, stride).into_iter().map(f));
        let numbers = match self {
            Statistic::Constant(value) => return Strip::Constant(*value),
            Statistic::Floats(values) => floats(values),
            Statistic::E4m3(values, global) => Numbers::E4m3(bytes(values, e4m3_byte), *global),
            Statistic::Powers(values) => Numbers::Exponents(bytes(values, |v| (v.to_bits() >> 23) as u8)),
            Statistic::Integers(values) => Numbers::integers(&filled(values, groups, stride)),
            Statistic::Coded { codes, height, scales, zeros } => {
                let codes: Vec<i32> = codes.iter().map(|&code| i32::from(code)).collect();
                return Strip::Coded {
                    codes: plain(1, Numbers::integers(&filled(&codes, groups, stride))),
                    scales: plain(*height, floats(scales)),
                    zeros: plain(*height, floats(zeros)),
                    round: precision,
                };
            }
        };
        Strip::Plain(plain(height, numbers))
    }
}

/// Rows of `groups` numbers, filled up to `stride` with the last one of each.
fn filled<T: Copy>(values: &[T], groups: usize, stride: usize) -> Vec<T> {
    let row = |row: &[T]| {
        let mut row = row.to_vec();
        if let Some(&last) = row.last() {
            row.resize(stride, last);
        }
        row
    };
    values.chunks_exact(groups.max(1)).flat_map(row).collect()
}
