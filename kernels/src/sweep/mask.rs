//! Scores of weights, and the mask of a slice when it begins.

use rayon::prelude::*;

use super::curvature::OnHost;
use super::{CurvatureData, Drop, Swept, share_of};
use crate::select;
use crate::simd::multiversion;

/// The coefficients of scores and errors, for each column of a slice.
pub(super) struct Scores {
    /// Factor of |w|, or divisor of w² when `squared`.
    pub coefficients: Vec<f32>,
    pub squared: bool,
    /// Divisor (full) or factor (diagonal) of the error.
    pub d: Vec<f32>,
}

impl Scores {
    pub fn new(curvature: OnHost<'_>, first: usize, width: usize, cols: usize) -> Self {
        let columns = first..first + width;
        match curvature {
            CurvatureData::Flat => Self { coefficients: vec![1.0; width], squared: false, d: vec![1.0; width] },
            CurvatureData::Diagonal(norms) => {
                Self { coefficients: norms[columns.clone()].to_vec(), squared: false, d: norms[columns].to_vec() }
            }
            CurvatureData::Full(u) => {
                let d: Vec<f32> = columns.map(|j| u[j * cols + j]).collect();
                Self { coefficients: d.iter().map(|d| d * d).collect(), squared: true, d }
            }
        }
    }

    #[inline(always)]
    fn score(&self, w: f32, j: usize) -> f32 {
        if self.squared { w * w / self.coefficients[j] } else { w.abs() * self.coefficients[j] }
    }
}

multiversion! {
    fn scores_of_row(row: &[f32], scores: &Scores, out: &mut [f32]) {
        for (j, (&w, s)) in row.iter().zip(out).enumerate() {
            *s = scores.score(w, j);
        }
    }
}

/// Masks in `out.dropped` the weights that are chosen when a slice begins.
pub(super) fn mask_slice(
    out: &mut Swept,
    cols: usize,
    first: usize,
    width: usize,
    scores: &Scores,
    drop: Option<Drop<'_>>,
) {
    let score_rows = |weight: &[f32]| {
        let mut all = vec![0f32; weight.len() / cols * width];
        all.par_chunks_mut(width).zip(weight.par_chunks(cols)).for_each(|(s, row)| {
            scores_of_row(&row[first..first + width], scores, s);
        });
        all
    };
    match drop {
        Some(Drop::Threshold { sparsity }) => {
            let all = score_rows(&out.weight);
            let cut = select::nth_smallest(&all, share_of(sparsity, all.len()));
            out.dropped.par_chunks_mut(cols).zip(all.par_chunks(width)).for_each(|(mask, scores)| {
                for (m, &s) in mask[first..first + width].iter_mut().zip(scores) {
                    *m = u8::from(s <= cut);
                }
            });
        }
        Some(Drop::PerRow { count }) => {
            assert_eq!(width, cols, "a count per row needs the whole row in one slice");
            let all = score_rows(&out.weight);
            out.dropped.par_chunks_mut(cols).zip(all.par_chunks(width)).for_each(|(mask, scores)| {
                select::mask_smallest(scores, count, mask);
            });
        }
        Some(Drop::NofM { .. } | Drop::Given(_)) | None => {}
    }
}
