//! The alternating direction method of multipliers: weights that fit, and weights under a mask, drawn together.

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use super::Objective;
use crate::cholesky::{NotPositive, inverse_factor};
use crate::gram::Gram;
use crate::matmul::Precision;
use crate::matmul::panels::Panels;
use crate::select;
use crate::simd::multiversion;

/// The weights that are to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// So many of the matrix, or more where several are equal.
    Total(usize),
    /// `n` of every `of` consecutive columns of a row.
    Groups {
        /// Columns removed.
        n: usize,
        /// Columns of a group.
        of: usize,
    },
}

/// The settings of [`alternate`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Admm {
    /// The penalty of a difference between the two sets of weights, where H has a diagonal of 1.
    pub penalty: f32,
    /// Damping of that H.
    pub damping: f32,
    /// Rounds.
    pub rounds: usize,
    /// Rounds in which the share that is removed grows to the whole.
    pub growing: usize,
}

impl Default for Admm {
    fn default() -> Self {
        Self { penalty: 1.0, damping: 0.1, rounds: 20, growing: 15 }
    }
}

/// The ways in which there is no result.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// H is not positive definite.
    #[error(transparent)]
    NotPositive(#[from] NotPositive),
    /// The error of the tensor library.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// A mask of its own for `target`, row-major `[rows, n]`, and weights under it that are near the best ones (Boža, arXiv
/// 2401.02938, sections 3.1 to 3.3: columns scaled so that H has a diagonal of 1, a share that grows by a cubic schedule):
/// the weights, and 1 where they are removed.
///
/// With B what fits, Z what is sparse, U the sum of their differences and A = (H + ρ)⁻¹: Z is B + U without its smallest
/// elements, U becomes U + B − Z, and B = T + ρ (Z − U − T) A. That correction is small beside T, so its product is one of
/// bfloat16.
///
/// n³ multiplications for A and rows · n² a round; 12 bytes for each weight and 10·n² for A. Errors where H is not positive
/// definite.
pub fn alternate(
    objective: &Objective,
    target: &[f32],
    removal: Removal,
    settings: Admm,
) -> Result<(Vec<f32>, Vec<u8>), Failed> {
    let n = objective.n();
    assert!(target.len().is_multiple_of(n), "{} weights in rows of {n}", target.len());
    let scales: Vec<f32> = objective.h.iter().step_by(n + 1).map(|&h| if h > 0.0 { h.sqrt() } else { 1.0 }).collect();
    let inverse = Panels::pack(&inverse(objective, &scales, settings)?, n, n);
    let mut fit = target.to_vec();
    fit.par_chunks_exact_mut(n).for_each(|row| row.iter_mut().zip(&scales).for_each(|(w, s)| *w *= s));
    let target = fit.clone();
    let (mut sums, mut dropped) = (vec![0f32; target.len()], vec![0u8; target.len()]);
    let mut scores = vec![0f32; target.len()];
    for round in 0..settings.rounds {
        let rows = sums.par_chunks_exact_mut(n).zip(fit.par_chunks_exact(n)).zip(scores.par_chunks_exact_mut(n));
        rows.for_each(|((sums, fit), scores)| add(sums, fit, scores));
        mark(&mut scores, removal, grown(round, settings.growing), n, &mut dropped);
        if round + 1 == settings.rounds {
            break;
        }
        let rows = sums.par_chunks_exact_mut(n).zip(target.par_chunks_exact(n)).zip(dropped.par_chunks_exact(n));
        rows.zip(scores.par_chunks_exact_mut(n)).for_each(|(((sums, target), dropped), pull)| {
            part(sums, target, dropped, settings.penalty, pull);
        });
        fit = inverse.apply(&scores, Some(&target));
    }
    sums.par_chunks_exact_mut(n).zip(dropped.par_chunks_exact(n)).for_each(|(row, dropped)| {
        for ((w, &mark), s) in row.iter_mut().zip(dropped).zip(&scales) {
            *w = if mark == 0 { *w / s } else { 0.0 };
        }
    });
    Ok((sums, dropped))
}

multiversion! {
    /// B + U in place of U, and its magnitudes.
    fn add(sums: &mut [f32], fit: &[f32], scores: &mut [f32]) {
        for ((sum, fit), score) in sums.iter_mut().zip(fit).zip(scores) {
            *sum += fit;
            *score = sum.abs();
        }
    }
}

multiversion! {
    /// Parts B + U into Z, where it stays, and the new U, which takes its place; ρ (Z − U − T) in `pull`.
    fn part(sums: &mut [f32], target: &[f32], dropped: &[u8], penalty: f32, pull: &mut [f32]) {
        for (((sum, t), &mark), pull) in sums.iter_mut().zip(target).zip(dropped).zip(pull) {
            let (z, u) = if mark == 0 { (*sum, 0.0) } else { (0.0, *sum) };
            *pull = penalty * (z - u - t);
            *sum = u;
        }
    }
}

/// (Hn + damping + ρ)⁻¹ with Hn = H of columns that are scaled: UᵀU.
fn inverse(objective: &Objective, scales: &[f32], settings: Admm) -> Result<Vec<f32>, Failed> {
    let n = objective.n();
    let mut h = objective.h.clone();
    h.par_chunks_exact_mut(n).enumerate().for_each(|(i, row)| {
        row.iter_mut().zip(scales).for_each(|(h, s)| *h /= scales[i] * s);
        row[i] = 1.0 + settings.damping + settings.penalty;
    });
    let u = Tensor::from_vec(inverse_factor(&h, n)?, (n, n), &Device::Cpu)?;
    let mut gram = Gram::new(n, Precision::F32);
    gram.add(&u)?;
    Ok(gram.finish(1.0)?.to_host()?.into_owned())
}

/// The part of what is to be removed that is removed in a round.
fn grown(round: usize, growing: usize) -> f64 {
    let left = 1.0 - (round + 1) as f64 / growing.max(1) as f64;
    1.0 - left.max(0.0).powi(3)
}

/// Marks what a round removes by `scores`, the magnitudes: of groups, the smallest part of what they would remove in the end.
fn mark(scores: &mut [f32], removal: Removal, share: f64, n: usize, dropped: &mut [u8]) {
    let total = match removal {
        Removal::Total(count) => count,
        Removal::Groups { n: smallest, of } => {
            dropped.par_chunks_exact_mut(n).zip(scores.par_chunks_exact_mut(n)).for_each(|(dropped, scores)| {
                for (dropped, scores) in dropped.chunks_mut(of).zip(scores.chunks_mut(of)) {
                    select::mask_smallest(scores, smallest, dropped);
                    // Those that stay are no candidates.
                    for (score, &mark) in scores.iter_mut().zip(&*dropped) {
                        *score = if mark == 1 { *score } else { f32::INFINITY };
                    }
                }
            });
            if share >= 1.0 {
                return;
            }
            scores.len() / of * smallest
        }
    };
    let count = (share * total as f64) as usize;
    let cut = if count == 0 { -1.0 } else { select::nth_smallest(scores, count - 1) };
    dropped.par_chunks_mut(n).zip(scores.par_chunks(n)).for_each(|(dropped, scores)| {
        dropped.iter_mut().zip(scores).for_each(|(mark, score)| *mark = u8::from(*score <= cut));
    });
}
