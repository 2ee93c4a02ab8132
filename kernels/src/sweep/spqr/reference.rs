//! The definition: plain loops over rows, the weights left out one by one.

use super::grid::{self, AffineGrid, CodedPart, FirstLevel, Place};
use super::search::{self, Costs};
use super::{Outlier, Rule, Statistic, Swept};
use crate::matmul::Precision;

/// Σ ((decode(encode(x)) − x) / d)² on the single-level grid of exactly these values.
fn errors(x: &[f32], d: &[f32], rule: &Rule<'_>) -> f32 {
    let (lo, hi) = x.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(lo, hi), &v| (lo.min(v), hi.max(v)));
    if lo == hi {
        return 0.0;
    }
    let max_code = rule.max_code();
    let (bottom, top) = if rule.symmetric {
        let top = hi.max(lo.abs());
        (if lo < 0.0 { -top } else { lo }, top)
    } else {
        (lo, hi)
    };
    let scale = (top - bottom) / max_code;
    let zero = if rule.symmetric { (max_code + 1.0) / 2.0 } else { -bottom / scale };
    let line = AffineGrid { scale, zero, max_code, stored: Precision::F32 };
    x.iter().zip(d).map(|(&x, &d)| ((line.decode(line.encode(x)) - x) / d).powi(2)).sum()
}

/// Marks the weights of one row and group that are likely to be outliers.
pub(super) fn likely_outliers(x: &[f32], d: &[f32], rule: &Rule<'_>, threshold: f32) -> Vec<bool> {
    let all = errors(x, d, rule);
    let without = |k: usize, v: &[f32]| [&v[..k], &v[k + 1..]].concat();
    (0..x.len()).map(|k| all - errors(&without(k, x), &without(k, d), rule) > threshold).collect()
}

/// As [`super::sweep`].
pub(super) fn sweep(weight: Vec<f32>, cols: usize, slice: usize, u: &[f32], rule: &Rule<'_>) -> Swept {
    let rows = weight.len() / cols;
    let mut out = Swept::before(weight, rows, cols.div_ceil(rule.group_size), rule);
    let end = cols - rule.keep_last;
    for first in (0..end).step_by(slice) {
        let columns = first..(first + slice).min(end);
        let mut errors = Vec::with_capacity(columns.len());
        for j in columns.clone() {
            if j % rule.group_size == 0 {
                fit_group(&mut out, cols, j, columns.end, u, rule);
            }
            errors.push((0..rows).map(|r| visit(&mut out, [r, j, cols], columns.end, u, rule)).collect::<Vec<f32>>());
        }
        for r in 0..rows {
            for (j, errors) in columns.clone().zip(&errors) {
                for k in columns.end..cols {
                    out.weight[r * cols + k] -= errors[r] * u[j * cols + k];
                }
            }
        }
    }
    for r in 0..rows {
        for j in end..cols {
            out.weight[r * cols + j] = rule.stored.round(out.weight[r * cols + j]);
            out.outliers[r * cols + j] = 1;
        }
    }
    out
}

/// True for a weight that becomes zero.
fn is_marked(rule: &Rule<'_>, at: usize) -> bool {
    rule.zeros.is_some_and(|zeros| zeros[at] == 1)
}

/// The least and the greatest value of one row and group without its likely outliers, and true if all its values are the
/// same.
fn range(mut x: Vec<f32>, d: &[f32], rule: &Rule<'_>) -> (f32, f32, bool) {
    let same = x.iter().all(|&v| v == x[0]);
    if let Some(threshold) = rule.threshold.filter(|_| !rule.simplified && rule.per_channel) {
        let marks = likely_outliers(&x, d, rule, threshold);
        let others: Vec<f32> = x.iter().zip(&marks).filter(|(_, m)| !**m).map(|(&v, _)| v).collect();
        let mean = others.iter().sum::<f32>() / others.len().max(1) as f32;
        x.iter_mut().zip(&marks).filter(|(_, m)| **m).for_each(|(v, _)| *v = mean);
    }
    let (lo, hi) = x.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), &v| (a.min(v), b.max(v)));
    (lo, hi, same)
}

/// Fits the grids of the group that begins at column `j`, in a slice that ends at `last`.
fn fit_group(out: &mut Swept, cols: usize, j: usize, last: usize, u: &[f32], rule: &Rule<'_>) {
    let (rows, groups, group) = (out.weight.len() / cols, cols.div_ceil(rule.group_size), j / rule.group_size);
    let to = (j + rule.group_size).min(cols);
    let d: Vec<f32> = (j..to).map(|k| u[k * cols + k]).collect();
    let value = |at: usize, k: usize| if k < last && is_marked(rule, at) { 0.0 } else { out.weight[at] };
    let x: Vec<Vec<f32>> = (0..rows).map(|r| (j..to).map(|k| value(r * cols + k, k)).collect()).collect();
    let mut ranges: Vec<_> = x.iter().map(|x| range(x.clone(), &d, rule)).collect();
    if rule.is_searched() {
        ranges.iter_mut().enumerate().for_each(|(r, range)| rule.hold_zeros(r * cols + j..r * cols + to, range));
    }
    if !rule.per_channel {
        let all = ranges.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |a, r| (a.0.min(r.0), a.1.max(r.1)));
        ranges.fill((all.0, all.1, all.0 == all.1));
    }
    let fitted: Vec<_> = ranges.iter().map(|&(lo, hi, same)| grid::first_level(rule, lo, hi, same)).collect();
    let mut scales: Vec<f32> = fitted.iter().map(|f| f.0).collect();
    let mut zeros: Vec<f32> = fitted.iter().map(|f| f.1).collect();
    let constant: Vec<Option<f32>> = fitted.iter().map(|f| f.2).collect();
    let mut level = FirstLevel { scales: &mut scales, zeros: &mut zeros, constant: &constant };
    let mut tiles = Vec::new();
    if rule.is_searched() {
        let h: Vec<f32> = d.iter().map(|d| 1.0 / (d * d)).collect();
        let costs = Costs { h: &h, limit: rule.threshold.unwrap_or(f32::INFINITY) };
        tiles = search::reference::fit(rule, &x, &costs, &mut level);
    }
    let (mut scale_codes, mut zero_codes) = (part(&mut out.scales), part(&mut out.zeros));
    grid::second_level(rule, &mut level, &tiles, scale_codes.as_mut(), zero_codes.as_mut(), Place { groups, group });
    for r in 0..rows {
        out.scales.values[r * groups + group] = scales[r];
        out.zeros.values[r * groups + group] = zeros[r];
    }
}

/// All codes of a statistic.
fn part(statistic: &mut Statistic) -> Option<CodedPart<'_>> {
    let coded = statistic.coded.as_mut()?;
    Some(CodedPart { codes: &mut coded.codes, scales: &mut coded.scales, zeros: &mut coded.zeros })
}

/// Visits the weight at row `r` and column `j`, in a slice that ends at `last`, and returns its error.
fn visit(out: &mut Swept, [r, j, cols]: [usize; 3], last: usize, u: &[f32], rule: &Rule<'_>) -> f32 {
    let (i, at) = (r * cols + j, r * cols.div_ceil(rule.group_size) + j / rule.group_size);
    let (scale, zero) = (out.scales.values[at], out.zeros.values[at]);
    let grid = AffineGrid { scale, zero, max_code: rule.max_code(), stored: rule.stored };
    let (old, forced) = (out.weight[i], is_marked(rule, i));
    let mut code = grid.encode(if forced { 0.0 } else { old });
    let mut q = grid.decode(code);
    let mut e = (old - q) / u[j * cols + j];
    if rule.threshold.is_some_and(|threshold| e * e > threshold) && !forced {
        out.outliers[i] = 1;
        match rule.outlier {
            Outlier::Replaces => {
                code = grid.encode(0.0);
                q = rule.stored.round(old);
            }
            Outlier::Adds => q = rule.stored.round(q + rule.stored.round(old - q)),
        }
        e = (old - q) / u[j * cols + j];
    }
    out.codes[i] = code as u8;
    out.weight[i] = q;
    for k in j + 1..last {
        out.weight[r * cols + k] -= e * u[j * cols + k];
    }
    out.loss += f64::from(e) * f64::from(e);
    e
}
