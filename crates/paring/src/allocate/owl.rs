//! Sparsities of blocks by their outliers (OWL, arXiv 2310.05175, section 4, and its published code).

use rayon::prelude::*;

use super::parts;
#[cfg(doc)]
use crate::plan::allocation::PARTS;

/// A score that is so many times the mean of its block is an outlier: M of the paper.
const OUTLIER: f64 = 5.0;
/// The most by which the sparsity of a block differs from that of all: λ of the paper.
const SPREAD: f64 = 0.08;
/// The most weights of a block that are removed.
const MOST: f64 = 0.99;

/// Σ |weight| · ‖input‖ of a matrix, row-major `[rows, cols]`, whose inputs have these norms, `[cols]`.
pub fn sum(weight: &[f32], norms: &[f32]) -> f64 {
    let of_row = |row: &[f32]| row.iter().zip(norms).map(|(w, norm)| f64::from(w.abs() * norm)).sum::<f64>();
    // Added in order: the same for any number of threads.
    let rows: Vec<f64> = weight.par_chunks_exact(norms.len().max(1)).map(of_row).collect();
    rows.iter().sum()
}

/// The number of scores of a matrix that are outliers where the mean of its block's is `mean`.
pub fn outliers(weight: &[f32], norms: &[f32], mean: f64) -> usize {
    let above = OUTLIER * mean;
    let of_row = |row: &[f32]| row.iter().zip(norms).filter(|(w, norm)| f64::from(w.abs() * **norm) > above).count();
    weight.par_chunks_exact(norms.len().max(1)).map(of_row).sum()
}

/// The sparsity of each block, in [`PARTS`], from its share of outliers and its number of weights: what it keeps rises with
/// the outliers by up to 2λ from the block with the fewest to that with the most, and the mean over all weights is `mean`.
pub fn sparsities(blocks: &[(f64, u64)], mean: f64) -> Vec<u32> {
    let least = blocks.iter().map(|(share, _)| *share).fold(f64::INFINITY, f64::min);
    let most = blocks.iter().map(|(share, _)| *share).fold(0.0, f64::max);
    let range = if most > least { most - least } else { 1.0 };
    let kept: Vec<f64> = blocks.iter().map(|(share, _)| (share - least) / range * 2.0 * SPREAD).collect();
    let all: u64 = blocks.iter().map(|(_, weights)| weights).sum();
    let total: f64 = kept.iter().zip(blocks).map(|(kept, (_, weights))| kept * *weights as f64).sum();
    let centre = total / all.max(1) as f64;
    let of = |kept: &f64| (mean + centre - kept).clamp(0.0, MOST);
    kept.iter().map(|kept| parts(of(kept))).collect()
}
