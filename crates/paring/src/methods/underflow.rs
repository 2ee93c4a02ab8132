//! Weights that are lost because a file cannot hold scales as small as theirs would have to be.

use paring_format::Dtype;
use rayon::prelude::*;

use super::{Matrix, Prepared, Stored};
use crate::plan::Recipe;

/// Rows that are looked at, about.
const ROWS: usize = 256;
/// Weights of a float type are looked at where the largest of those that share a scale is smaller: scales are hundreds of
/// times smaller, and the type has few digits, or none, for them.
const SMALL: [(Dtype, f32); 2] = [(Dtype::F16, 4e-3), (Dtype::Bf16, 1e-5)];
/// The same of other types.
const SMALL_F32: f32 = 1e-5;
/// Scales of 8 bits under a global scale have a range of their own: the largest weight may be so many times larger.
const RANGE: f32 = 1e3;
/// Shares of weights that become 0, and of errors, that rounding alone would not have: less is not worth a word.
const LOST: f64 = 0.01;
const WORSE: f64 = 1.5;

/// The loss in a matrix, as its report has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Underflow {
    pub zeros: f64,
    pub error: f64,
    pub usual_error: f64,
}

impl Recipe {
    /// Rounds rows of `matrix` whose weights are so small that their scales may not fit, and the same rows multiplied by
    /// powers of two, which is the same to an exact grid. `None` where there are none, and where both are alike.
    ///
    /// Twice a sweep without inputs over 256 rows at most.
    pub(crate) fn underflow(&self, matrix: &Matrix<'_>, cols: usize, prepared: &Prepared) -> Option<Underflow> {
        let rounding = self.rounding?;
        let (weight, rows) = (&matrix.weight[..], matrix.weight.len() / cols);
        let height = self.rows_apart(rows, cols).unwrap_or(rows);
        let amax = |piece: &[f32]| piece.iter().fold(0f32, |most, w| most.max(w.abs()));
        let dtype = matrix.stored.dtype;
        let small = SMALL.iter().find(|(of, _)| *of == dtype).map_or(SMALL_F32, |(_, small)| *small);
        let group = rounding.group_size().unwrap_or(cols).clamp(1, cols);
        // Weights whose scale is their own: groups of one row have nothing in common but a global scale.
        let alone = if height == 1 && self.spqr.is_none() { group } else { height * cols };
        let relative = self.shares_amax().then(|| matrix.stored.amax.unwrap_or_else(|| amax(weight)) / RANGE);
        let is_small = |piece: &[f32]| {
            let least = piece.chunks(alone).map(amax).filter(|&most| most > 0.0).fold(f32::INFINITY, f32::min);
            least.is_finite() && least < small.max(relative.unwrap_or(0.0))
        };
        let found: Vec<&[f32]> = weight.par_chunks(height * cols).filter(|piece| is_small(piece)).collect();
        let step = found.len().div_ceil(ROWS.div_ceil(height)).max(1);
        let some: Vec<&[f32]> = found.iter().copied().step_by(step).collect();
        if some.is_empty() {
            return None;
        }
        let tiny: Vec<f32> = some.concat();
        let raised: Vec<f32> = some.iter().flat_map(|piece| piece.chunks(alone)).flat_map(raised).collect();
        let of = |weight: &[f32], stored: Stored| -> Option<(usize, f64)> {
            let rounds = Recipe { pattern: None, ..self.clone() };
            // What cannot be rounded is an error of the sweep.
            let made = rounds.compress_plain(&Matrix::new(weight, stored, matrix.module), cols, prepared).ok()?;
            Some(lost(weight, made.dense(), group))
        };
        let shared = relative.map(|relative| relative * RANGE);
        let (zeros, error) = of(&tiny, Stored { amax: shared, ..matrix.stored })?;
        let (usual_zeros, usual) = of(&raised, Stored { amax: None, ..matrix.stored })?;
        let more = zeros.saturating_sub(usual_zeros) as f64 / tiny.len() as f64;
        let is_lost = error > WORSE * usual && (more > LOST || error > usual + LOST);
        let share = more * found.iter().map(|piece| piece.len()).sum::<usize>() as f64 / weight.len() as f64;
        is_lost.then_some(Underflow { zeros: share, error, usual_error: usual })
    }
}

/// Weights times the power of two that brings the largest to about 1.
fn raised(piece: &[f32]) -> Vec<f32> {
    let most = piece.iter().fold(0f32, |most, w| most.max(w.abs()));
    if most == 0.0 {
        return piece.to_vec();
    }
    let factor = (-f64::from(most).log2().ceil()).exp2();
    piece.iter().map(|&w| (f64::from(w) * factor) as f32).collect()
}

/// Weights that are 0 and were not, and the mean of the relative squared errors of all groups.
fn lost(weight: &[f32], made: &[f32], group: usize) -> (usize, f64) {
    let zeros = weight.iter().zip(made).filter(|&(&w, &made)| w != 0.0 && made == 0.0).count();
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
    let error = |(weight, made): (&[f32], &[f32])| {
        let all = square(&mut weight.iter().map(|&w| f64::from(w)));
        let off = square(&mut weight.iter().zip(made).map(|(&w, &made)| f64::from(w) - f64::from(made)));
        (all > 0.0).then(|| off / all)
    };
    let errors: Vec<f64> = weight.chunks(group).zip(made.chunks(group)).filter_map(error).collect();
    (zeros, errors.iter().sum::<f64>() / errors.len().max(1) as f64)
}
