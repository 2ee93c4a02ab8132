//! The definition: one row at a time, every update at once.

use super::*;
use crate::select;

/// As [`super::sweep`], by plain loops; updates reach all columns ahead at once except that grids and scores see only
/// what the slice rules say, which needs the updates of a slice to be kept apart until its end.
pub(crate) fn sweep(mut w: Vec<f32>, cols: usize, slice: usize, curvature: Curvature<'_>, rule: Rule<'_>) -> Swept {
    let rows = w.len() / cols;
    let mut dropped = vec![0u8; w.len()];
    let mut codes = vec![0u8; if rule.round.is_some() { w.len() } else { 0 }];
    let mut grids = rule.round.map(|round| match round.fit {
        Fit::Before { grids, .. } => grids.clone(),
        Fit::AtSlice { group_size } => {
            let groups = cols.div_ceil(group_size);
            Grids { groups, scales: vec![0.0; rows * groups], zeros: vec![0.0; rows * groups] }
        }
    });
    let score = |w: f32, j: usize| match curvature {
        Curvature::Flat => w.abs(),
        Curvature::Diagonal(norms) => w.abs() * norms[j],
        Curvature::Full(u) => w * w / (u[j * cols + j] * u[j * cols + j]),
    };
    let mut loss = 0.0;
    for first in (0..cols).step_by(slice) {
        let end = (first + slice).min(cols);
        let mut marks = vec![0u8; rows * cols];
        let all = || (0..rows).flat_map(move |r| (first..end).map(move |j| (r, j)));
        match rule.drop {
            Some(Drop::Threshold { sparsity }) => {
                let mut scores: Vec<f32> = all().map(|(r, j)| score(w[r * cols + j], j)).collect();
                scores.sort_by(f32::total_cmp);
                let cut = scores[share_of(sparsity, scores.len())];
                all().for_each(|(r, j)| marks[r * cols + j] = u8::from(score(w[r * cols + j], j) <= cut));
            }
            Some(Drop::PerRow { count }) => {
                for r in 0..rows {
                    let scores: Vec<f32> = (0..cols).map(|j| score(w[r * cols + j], j)).collect();
                    select::mark_smallest(&scores, count, &mut marks[r * cols..][..cols]);
                }
            }
            Some(Drop::Given(given)) => marks.copy_from_slice(given),
            Some(Drop::NofM { .. }) | None => {}
        }
        let mut errors = vec![0f32; rows * (end - first)];
        for r in 0..rows {
            let row = &mut w[r * cols..][..cols];
            if let (Some(Round { format, fit: Fit::AtSlice { group_size } }), Some(grids)) = (rule.round, &mut grids) {
                for j in (first..end).filter(|j| j % group_size == 0) {
                    let at = r * grids.groups + j / group_size;
                    (grids.scales[at], grids.zeros[at]) = format.fit(&row[j..(j + group_size).min(cols)]);
                }
            }
            for j in first..end {
                if let Some(Drop::NofM { n, m }) = rule.drop
                    && (j - first) % m == 0
                {
                    let last = (j + m).min(end);
                    let scores: Vec<f32> = (j..last).map(|k| score(row[k], k)).collect();
                    select::mark_smallest(&scores, n, &mut marks[r * cols + j..r * cols + last]);
                }
                let old = row[j];
                let mut q = if marks[r * cols + j] == 1 { 0.0 } else { old };
                dropped[r * cols + j] = u8::from(q == 0.0);
                if let (Some(round), Some(grids)) = (rule.round, &grids) {
                    let group = match round.fit {
                        Fit::Before { group_of, .. } => group_of[j] as usize,
                        Fit::AtSlice { group_size } => j / group_size,
                    };
                    let at = r * grids.groups + group;
                    let (scale, zero) = (round.format.applied(grids.scales[at]), grids.zeros[at]);
                    let number = round.format.encode(q, scale, zero);
                    codes[r * cols + j] = round.format.code(number);
                    q = round.format.decode(number, scale, zero);
                } else {
                    q = rule.stored.round(q);
                }
                let e = match curvature {
                    Curvature::Flat => old - q,
                    Curvature::Diagonal(norms) => (old - q) * norms[j],
                    Curvature::Full(u) => (old - q) / u[j * cols + j],
                };
                loss += f64::from(e) * f64::from(e);
                row[j] = q;
                if let Curvature::Full(u) = curvature {
                    for k in j + 1..end {
                        row[k] -= e * u[j * cols + k];
                    }
                }
                errors[r * (end - first) + j - first] = e;
            }
            if let Curvature::Full(u) = curvature {
                for (i, e) in errors[r * (end - first)..][..end - first].iter().enumerate() {
                    for k in end..cols {
                        row[k] -= e * u[(first + i) * cols + k];
                    }
                }
            }
        }
    }
    Swept { weight: w, dropped, codes, grids, loss }
}
