//! Grids without a forced zero, and statistics coded on such grids.

#[cfg(test)]
mod tests;

use super::{Outlier, Rule};
use crate::matmul::Precision;

/// Below this a scale is not divided by (the published codes' bound).
pub(super) const LEAST_SCALE: f32 = 1e-9;

/// A grid on which a value is `scale · (code − zero)`; the zero need not be a whole number, nor among the codes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct AffineGrid {
    pub scale: f32,
    pub zero: f32,
    pub max_code: f32,
    pub stored: Precision,
}

impl AffineGrid {
    /// The code of `x`: the zero is added before rounding.
    #[inline(always)]
    pub fn encode(&self, x: f32) -> f32 {
        // Adding zero makes the code that is -0 the one that is read back.
        (x / self.scale.max(LEAST_SCALE) + self.zero).round_ties_even().clamp(0.0, self.max_code) + 0.0
    }

    /// The value of a code, every operation rounded.
    #[inline(always)]
    pub fn decode(&self, code: f32) -> f32 {
        self.stored.round(self.scale * self.stored.round(code - self.zero))
    }

    /// The grid from `lo` to `hi` with codes of `bits` bits. Where all values are the same it holds that value exactly,
    /// other than the published codes, whose grid then goes from −1 to 1 and misses it.
    pub(super) fn spanning(lo: f32, hi: f32, bits: u32, symmetric: bool, stored: Precision) -> AffineGrid {
        let max_code = ((1u32 << bits) - 1) as f32;
        let middle = (max_code + 1.0) / 2.0;
        if let Some(value) = constant(lo, hi, stored) {
            let scale = if value == 0.0 { 1.0 } else { stored.round(value.abs()) };
            let below = if value < 0.0 { 1.0 } else { 0.0 };
            return AffineGrid { scale, zero: if symmetric { middle } else { below }, max_code, stored };
        }
        let (lo, hi) = mirrored(lo, hi, symmetric);
        let scale = positive((hi - lo) / max_code, stored);
        AffineGrid { scale, zero: if symmetric { middle } else { stored.round(-lo / scale) }, max_code, stored }
    }
}

/// The one value of a range that has no width. A range that is narrow against its distance from zero counts as one where
/// 16-bit floats could not tell its ends apart anyway: its zero would be out of their reach.
pub(super) fn constant(lo: f32, hi: f32, stored: Precision) -> Option<f32> {
    let narrow = stored != Precision::F32 && hi - lo <= lo.abs().max(hi.abs()) / 1024.0;
    (lo == hi || narrow).then_some(lo + (hi - lo) / 2.0)
}

/// The range of a symmetric grid; any other is left as it is.
#[inline(always)]
pub(super) fn mirrored(lo: f32, hi: f32, symmetric: bool) -> (f32, f32) {
    let top = if -lo > hi { -lo } else { hi };
    let (bottom, top) = (if lo < 0.0 { -top } else { lo }, top);
    if symmetric { (bottom, top) } else { (lo, hi) }
}

/// `scale` as it is stored, but never zero.
#[inline(always)]
pub(super) fn positive(scale: f32, stored: Precision) -> f32 {
    let rounded = stored.round(scale);
    let least = if matches!(stored, Precision::F16) { 5.960_464_5e-8 } else { f32::MIN_POSITIVE };
    if rounded == 0.0 { least } else { rounded }
}

/// The codes of one statistic that a task owns: `codes` row-major `[rows, groups]`, the others
/// `[⌈rows / second.rows⌉, groups]`.
pub(super) struct CodedPart<'a> {
    pub codes: &'a mut [u8],
    pub scales: &'a mut [f32],
    pub zeros: &'a mut [f32],
}

/// The statistics of one group for some rows, before the second level.
pub(super) struct FirstLevel<'a> {
    pub scales: &'a mut [f32],
    pub zeros: &'a mut [f32],
    /// The value of rows that are constant in this group: their scale and zero are free.
    pub constant: &'a [Option<f32>],
}

/// The place of a group's statistics: `groups` in a row, this one is `group`.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub groups: usize,
    pub group: usize,
}

/// The grids for the scales and for the zeros of a tile, where they are known; `None`: they span their values.
pub(super) type SecondGrids = [Option<AffineGrid>; 2];

/// Replaces the statistics of one group by what their codes say, and writes the codes down. `tiles` has the grids that were
/// searched for each tile.
pub(super) fn second_level(
    rule: &Rule<'_>,
    first: &mut FirstLevel<'_>,
    tiles: &[SecondGrids],
    mut scale_codes: Option<&mut CodedPart<'_>>,
    mut zero_codes: Option<&mut CodedPart<'_>>,
    at: Place,
) {
    if scale_codes.is_none() && zero_codes.is_none() {
        return;
    }
    let height = rule.second.rows;
    let rows = first.scales.len();
    for (chunk, start) in (0..rows).step_by(height).enumerate() {
        let end = (start + height).min(rows);
        let constant = &first.constant[start..end];
        let (scales, zeros) = (&mut first.scales[start..end], &mut first.zeros[start..end]);
        // Inputs that are always zero fill whole groups. They get the published codes, and zeros of exactly 1, so that
        // they decode to exactly 0.
        let dead = constant.iter().all(|c| *c == Some(0.0)) && zero_codes.is_some();
        if dead {
            scales.fill(rule.stored.round(2.0 / rule.max_code()));
            zeros.fill(1.0);
        }
        let [scale_grid, zero_grid] = tiles.get(chunk).copied().unwrap_or_default();
        let code = |part: &mut CodedPart<'_>,
                    values: &mut [f32],
                    known: Option<AffineGrid>,
                    bits: Option<u32>,
                    symmetric: bool| {
            let bits = bits.unwrap_or(8);
            let grid = match dead {
                false => known.unwrap_or_else(|| {
                    let (lo, hi) = range(values, constant);
                    AffineGrid::spanning(lo, hi, bits, symmetric, rule.stored)
                }),
                true if values[0] != 1.0 => AffineGrid::spanning(-1.0, 1.0, bits, symmetric, rule.stored),
                true => {
                    let max_code = ((1u32 << bits) - 1) as f32;
                    AffineGrid { scale: 1.0, zero: max_code - 1.0, max_code, stored: rule.stored }
                }
            };
            let place = chunk * at.groups + at.group;
            (part.scales[place], part.zeros[place]) = (grid.scale, grid.zero);
            for (r, v) in values.iter_mut().enumerate() {
                let code = grid.encode(*v);
                part.codes[(start + r) * at.groups + at.group] = code as u8;
                *v = grid.decode(code);
            }
            grid
        };
        let scale_grid =
            scale_codes.as_deref_mut().map(|part| code(part, scales, scale_grid, rule.second.scale_bits, false));
        let zero_grid = zero_codes
            .as_deref_mut()
            .map(|part| code(part, zeros, zero_grid, rule.zero_bits(), rule.second.zero_symmetric));
        for (r, value) in constant.iter().enumerate().filter_map(|(r, c)| c.map(|c| (r, c))) {
            let Some((scale, zero)) = settle(rule, value, scale_grid, zero_grid, (scales[r], zeros[r])) else {
                continue;
            };
            (scales[r], zeros[r]) = (scale.0, zero.0);
            let index = (start + r) * at.groups + at.group;
            if let Some(part) = scale_codes.as_deref_mut() {
                part.codes[index] = scale.1;
            }
            if let Some(part) = zero_codes.as_deref_mut() {
                part.codes[index] = zero.1;
            }
        }
    }
}

/// The range of the statistics of rows that are not constant (of all, if all are).
fn range(values: &[f32], constant: &[Option<f32>]) -> (f32, f32) {
    let all = constant.iter().all(Option::is_some);
    let used = values.iter().zip(constant).filter(|(_, c)| all || c.is_none());
    used.fold((f32::INFINITY, f32::NEG_INFINITY), |(lo, hi), (&v, _)| (lo.min(v), hi.max(v)))
}

/// A statistic and its code, where it has one.
type Said = (f32, u8);

/// The scale and zero that hold a constant row best, of those that the second level can say; `None` when what they are
/// `now` is as good as any.
fn settle(
    rule: &Rule<'_>,
    value: f32,
    scale_grid: Option<AffineGrid>,
    zero_grid: Option<AffineGrid>,
    now: (f32, f32),
) -> Option<(Said, Said)> {
    let max_code = rule.max_code();
    let miss = |scale: f32, zero: f32| {
        let grid = AffineGrid { scale, zero, max_code, stored: rule.stored };
        (grid.decode(grid.encode(value)) - value).abs()
    };
    let all =
        |grid: AffineGrid| (0..=grid.max_code as u8).map(|c| (grid.decode(f32::from(c)), c)).collect::<Vec<Said>>();
    let scales = scale_grid.map_or_else(|| vec![(now.0, 0), (0.0, 0)], all);
    let zeros = zero_grid.map_or_else(|| vec![(now.1, 0)], all);
    let (mut least, mut best) = (miss(now.0, now.1), None);
    let mut offer = |scale: Said, zero: Said| {
        if scale.0.is_finite() && zero.0.is_finite() && scale.0 >= 0.0 && miss(scale.0, zero.0) < least {
            (least, best) = (miss(scale.0, zero.0), Some((scale, zero)));
        }
    };
    for &zero in &zeros {
        for &scale in &scales {
            offer(scale, zero);
            if zero_grid.is_none() && !rule.symmetric && !rule.round_zero && scale.0 > 0.0 {
                offer(scale, (rule.stored.round(-value / scale.0), 0));
            }
        }
        if scale_grid.is_none() {
            // A scale of its own reaches the value from the zero at either end of the codes.
            let reach = if value > 0.0 { max_code - zero.0 } else { -zero.0 };
            offer((rule.stored.round(value / reach), 0), zero);
        }
    }
    best
}

/// The value that a reader gives an outlier `w` whose code says `base`.
#[inline(always)]
pub(super) fn kept(rule: &Rule<'_>, w: f32, base: f32) -> f32 {
    match rule.outlier {
        Outlier::Replaces => rule.stored.round(w),
        Outlier::Adds => rule.stored.round(base + rule.stored.round(w - base)),
    }
}

/// The grid of the values from `lo` to `hi` of one row and group, and their value if they were all the `same`.
///
/// If all but equal weights are likely to be outliers, the range has no width though the group was not constant: the
/// published codes then take −1 to 1, which leaves it to the threshold what becomes of the weights.
pub(super) fn first_level(rule: &Rule<'_>, lo: f32, hi: f32, same: bool) -> (f32, f32, Option<f32>) {
    let coded = rule.second.scale_bits.is_some();
    // What is coded again is rounded only there.
    let stored = if coded { Precision::F32 } else { rule.stored };
    let emptied = lo == hi && !same;
    let constant = if emptied { None } else { constant(lo, hi, rule.stored) };
    let (lo, hi) = if emptied { (-1.0, 1.0) } else { constant.map_or((lo, hi), |value| (value, value)) };
    let mut grid = AffineGrid::spanning(lo, hi, rule.bits, rule.symmetric, stored);
    if rule.round_zero && !rule.symmetric {
        grid.zero = grid.zero.round_ties_even();
    }
    if rule.zero_bits().is_none() {
        grid.zero = rule.stored.round(grid.zero);
    }
    (grid.scale, grid.zero, constant)
}
