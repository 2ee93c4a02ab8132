//! The definition: one row at a time, every update at once.

use std::ops::Range;

use super::curvature::OnHost;
use super::*;
use crate::select;

/// As [`super::sweep`], by plain loops; updates reach all columns ahead at once except that grids and scores see only
/// what the slice rules say, which needs the updates of a slice to be kept apart until its end.
pub(crate) fn sweep(weight: Vec<f32>, cols: usize, slice: usize, curvature: OnHost<'_>, rule: Rule<'_>) -> Swept {
    let rows = weight.len() / cols;
    let mut out = Swept {
        dropped: vec![0; weight.len()],
        codes: vec![0; if rule.round.is_some() { weight.len() } else { 0 }],
        grids: rule.round.map(|round| round.fit.begin(rows, cols)),
        weight,
        loss: 0.0,
    };
    for first in (0..cols).step_by(slice) {
        let columns = first..(first + slice).min(cols);
        let mut mask = mask_slice(&out.weight, cols, &columns, curvature, rule.drop);
        for r in 0..rows {
            fit_groups(&mut out, r, cols, &columns, rule);
            let errors = visit_row(&mut out, r, cols, &columns, &mut mask, (curvature, rule));
            if let CurvatureData::Full(u) = curvature {
                let row = &mut out.weight[r * cols..][..cols];
                for (j, e) in columns.clone().zip(errors) {
                    for k in columns.end..cols {
                        row[k] -= e * u[j * cols + k];
                    }
                }
            }
        }
    }
    out
}

fn score(w: f32, j: usize, cols: usize, curvature: OnHost<'_>) -> f32 {
    match curvature {
        CurvatureData::Flat => w.abs(),
        CurvatureData::Diagonal(norms) => w.abs() * norms[j],
        CurvatureData::Full(u) => w * w / (u[j * cols + j] * u[j * cols + j]),
    }
}

/// The mask `[rows, cols]` of weights that are chosen when a slice begins.
fn mask_slice(
    w: &[f32],
    cols: usize,
    columns: &Range<usize>,
    curvature: OnHost<'_>,
    drop: Option<Drop<'_>>,
) -> Vec<u8> {
    let (rows, mut mask) = (w.len() / cols, vec![0u8; w.len()]);
    let all = || (0..rows).flat_map(|r| columns.clone().map(move |j| (r, j)));
    let score = |(r, j): (usize, usize)| score(w[r * cols + j], j, cols, curvature);
    match drop {
        Some(Drop::Threshold { sparsity }) => {
            let mut scores: Vec<f32> = all().map(score).collect();
            scores.sort_by(f32::total_cmp);
            let cut = scores[share_of(sparsity, scores.len())];
            all().for_each(|(r, j)| mask[r * cols + j] = u8::from(score((r, j)) <= cut));
        }
        Some(Drop::PerRow { count }) => {
            for r in 0..rows {
                let scores: Vec<f32> = (0..cols).map(|j| score((r, j))).collect();
                select::mask_smallest(&scores, count, &mut mask[r * cols..][..cols]);
            }
        }
        Some(Drop::Given(given)) => mask.copy_from_slice(given),
        Some(Drop::NofM { .. }) | None => {}
    }
    mask
}

/// Fits the grids of a row's groups that begin in the slice.
fn fit_groups(out: &mut Swept, r: usize, cols: usize, columns: &Range<usize>, rule: Rule<'_>) {
    let Some(Round { format, fit: Fit::AtSlice { group_size, importance } }) = rule.round else { return };
    let (row, Some(grids)) = (&out.weight[r * cols..][..cols], &mut out.grids) else { return };
    for j in columns.clone().filter(|j| j % group_size == 0) {
        let at = r * grids.groups + j / group_size;
        let group = j..(j + group_size).min(cols);
        (grids.scales[at], grids.zeros[at]) = match format.search {
            Search::Weighted => {
                let h = importance.map_or_else(|| vec![1.0; group.len()], |h| h[group.clone()].to_vec());
                weighted::reference::fit(&format, &row[group], &h)
            }
            Search::MinMax | Search::Mse => format.fit(&row[group]),
        };
    }
}

/// Visits a row's columns of a slice, and returns their errors.
fn visit_row(
    out: &mut Swept,
    r: usize,
    cols: usize,
    columns: &Range<usize>,
    mask: &mut [u8],
    (curvature, rule): (OnHost<'_>, Rule<'_>),
) -> Vec<f32> {
    let (row, mask) = (&mut out.weight[r * cols..][..cols], &mut mask[r * cols..][..cols]);
    let mut errors = Vec::with_capacity(columns.len());
    for j in columns.clone() {
        if let Some(Drop::NofM { n, m }) = rule.drop
            && (j - columns.start).is_multiple_of(m)
        {
            let group = j..(j + m).min(columns.end);
            let scores: Vec<f32> = group.clone().map(|k| score(row[k], k, cols, curvature)).collect();
            select::mask_smallest(&scores, n, &mut mask[group]);
        }
        let old = row[j];
        let mut q = if mask[j] == 1 { 0.0 } else { old };
        out.dropped[r * cols + j] = u8::from(q == 0.0);
        if let (Some(Round { format, fit }), Some(grids)) = (rule.round, &out.grids) {
            let at = r * grids.groups + fit.kind().group(j);
            let (scale, zero) = (format.applied(grids.scales[at]), grids.zeros[at]);
            let number = format.encode(q, scale, zero);
            out.codes[r * cols + j] = format.code(number);
            q = format.decode(number, scale, zero);
        } else {
            q = rule.stored.round(q);
        }
        let e = match curvature {
            CurvatureData::Flat => old - q,
            CurvatureData::Diagonal(norms) => (old - q) * norms[j],
            CurvatureData::Full(u) => (old - q) / u[j * cols + j],
        };
        out.loss += f64::from(e) * f64::from(e);
        row[j] = q;
        if let CurvatureData::Full(u) = curvature {
            for k in j + 1..columns.end {
                row[k] -= e * u[j * cols + k];
            }
        }
        errors.push(e);
    }
    errors
}
