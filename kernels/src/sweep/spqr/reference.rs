//! The definition: plain loops over rows, the weights left out one by one.

use super::grid::{self, At, CodedPart, First, Line};
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
    let line = Line { scale, zero, max_code, stored: Precision::F32 };
    x.iter().zip(d).map(|(&x, &d)| ((line.decode(line.encode(x)) - x) / d).powi(2)).sum()
}

/// Marks the weights of one row and group that are likely to be outliers.
pub(super) fn likely_outliers(x: &[f32], d: &[f32], rule: &Rule<'_>, threshold: f32) -> Vec<bool> {
    let all = errors(x, d, rule);
    let without = |k: usize, v: &[f32]| [&v[..k], &v[k + 1..]].concat();
    (0..x.len()).map(|k| all - errors(&without(k, x), &without(k, d), rule) > threshold).collect()
}

/// As [`super::sweep`].
pub(super) fn sweep(mut w: Vec<f32>, cols: usize, slice: usize, u: &[f32], rule: &Rule<'_>) -> Swept {
    let rows = w.len() / cols;
    let groups = cols.div_ceil(rule.group_size);
    let mut scales = Statistic::new(rows, groups, rule.second.scale_bits, rule.second.rows);
    let mut zeros = Statistic::new(rows, groups, rule.zero_bits(), rule.second.rows);
    let (mut codes, mut outliers) = (vec![0u8; w.len()], vec![0u8; w.len()]);
    let mut loss = 0f64;
    let end = cols - rule.keep_last;
    let marked = |i: usize| rule.zeros.is_some_and(|zeros| zeros[i] == 1);
    for first in (0..end).step_by(slice) {
        let last = (first + slice).min(end);
        let mut errors = vec![0f32; rows * (last - first)];
        for j in first..last {
            let group = j / rule.group_size;
            if j % rule.group_size == 0 {
                let to = (j + rule.group_size).min(cols);
                let d: Vec<f32> = (j..to).map(|k| u[k * cols + k]).collect();
                let mut ranges = Vec::new();
                for r in 0..rows {
                    let value = |k: usize| if k < last && marked(r * cols + k) { 0.0 } else { w[r * cols + k] };
                    let mut x: Vec<f32> = (j..to).map(value).collect();
                    let same = x.iter().all(|&v| v == x[0]);
                    if let Some(threshold) = rule.threshold.filter(|_| !rule.simplified && rule.per_channel) {
                        let marks = likely_outliers(&x, &d, rule, threshold);
                        let others: Vec<f32> = x.iter().zip(&marks).filter(|(_, m)| !**m).map(|(&v, _)| v).collect();
                        let mean = others.iter().sum::<f32>() / others.len().max(1) as f32;
                        x.iter_mut().zip(&marks).filter(|(_, m)| **m).for_each(|(v, _)| *v = mean);
                    }
                    let (lo, hi) = x.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), &v| (a.min(v), b.max(v)));
                    ranges.push((lo, hi, same));
                }
                if !rule.per_channel {
                    let all =
                        ranges.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |a, r| (a.0.min(r.0), a.1.max(r.1)));
                    ranges.fill((all.0, all.1, all.0 == all.1));
                }
                let fitted: Vec<_> =
                    ranges.iter().map(|&(lo, hi, same)| grid::first_level(rule, lo, hi, same)).collect();
                let mut of_scales: Vec<f32> = fitted.iter().map(|f| f.0).collect();
                let mut of_zeros: Vec<f32> = fitted.iter().map(|f| f.1).collect();
                let constant: Vec<Option<f32>> = fitted.iter().map(|f| f.2).collect();
                fn part(s: &mut Statistic) -> Option<CodedPart<'_>> {
                    s.coded.as_mut().map(|c| CodedPart {
                        codes: &mut c.codes,
                        scales: &mut c.scales,
                        zeros: &mut c.zeros,
                    })
                }
                let mut level = First { scales: &mut of_scales, zeros: &mut of_zeros, constant: &constant };
                let at = At { groups, group };
                grid::second_level(rule, &mut level, part(&mut scales).as_mut(), part(&mut zeros).as_mut(), at);
                for r in 0..rows {
                    scales.values[r * groups + group] = of_scales[r];
                    zeros.values[r * groups + group] = of_zeros[r];
                }
            }
            for r in 0..rows {
                let at = r * groups + group;
                let line = Line {
                    scale: scales.values[at],
                    zero: zeros.values[at],
                    max_code: rule.max_code(),
                    stored: rule.stored,
                };
                let old = w[r * cols + j];
                let forced = marked(r * cols + j);
                let mut code = line.encode(if forced { 0.0 } else { old });
                let mut q = line.decode(code);
                let mut e = (old - q) / u[j * cols + j];
                if rule.threshold.is_some_and(|threshold| e * e > threshold) && !forced {
                    outliers[r * cols + j] = 1;
                    match rule.outlier {
                        Outlier::Replaces => {
                            code = line.encode(0.0);
                            q = rule.stored.round(old);
                        }
                        Outlier::Adds => q = rule.stored.round(q + rule.stored.round(old - q)),
                    }
                    e = (old - q) / u[j * cols + j];
                }
                codes[r * cols + j] = code as u8;
                w[r * cols + j] = q;
                for k in j + 1..last {
                    w[r * cols + k] -= e * u[j * cols + k];
                }
                errors[r * (last - first) + j - first] = e;
                loss += f64::from(e) * f64::from(e);
            }
        }
        for r in 0..rows {
            for j in first..last {
                for k in last..cols {
                    w[r * cols + k] -= errors[r * (last - first) + j - first] * u[j * cols + k];
                }
            }
        }
    }
    for r in 0..rows {
        for j in end..cols {
            w[r * cols + j] = rule.stored.round(w[r * cols + j]);
            outliers[r * cols + j] = 1;
        }
    }
    Swept { weight: w, codes, outliers, scales, zeros, loss }
}
