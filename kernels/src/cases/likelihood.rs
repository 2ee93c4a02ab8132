//! Cases of likelihoods from logits in pieces.

use candle_core::Tensor;

use super::{Case, Deviation, largest, values};
use crate::likelihood::Likelihood;

/// Positions, vocabulary, entries of a piece, positions of a piece.
const SHAPES: [(usize, usize, usize, usize); 5] =
    [(1, 1, 1, 1), (3, 1000, 1, 2), (7, 1000, 333, 7), (5, 4099, 4096, 3), (70, 300, 1000, 64)];

pub(super) fn cases() -> Vec<Case> {
    let case = |(count, vocab, piece, together): (usize, usize, usize, usize)| {
        Case::new(format!("likelihood: {count} positions, {piece} of {vocab} entries at a time"), move |device| {
            // Rows that rise: each piece brings a new largest logit.
            let mut logits: Vec<f32> =
                values(count * vocab, 4.0, 1).iter().enumerate().map(|(i, v)| v + (i % vocab) as f32 * 0.01).collect();
            let largest_of = |row: &[f32]| row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let first_of = |row: &[f32]| row.iter().position(|&v| v == largest_of(row)).unwrap_or(0);
            // Each third target is the likeliest, and a later entry has the same logit.
            for row in logits.chunks_exact_mut(vocab) {
                row[vocab - 1] = largest_of(row);
            }
            let firsts: Vec<usize> = logits.chunks_exact(vocab).map(first_of).collect();
            let target = |i: usize| if i.is_multiple_of(3) { firsts[i] } else { (i * 7919) % vocab };
            let targets: Vec<u32> = (0..count).map(|i| target(i) as u32).collect();
            let mut likelihood = Likelihood::new(device, &targets)?;
            let whole = Tensor::from_slice(&logits, (count, vocab), device)?;
            for first in (0..vocab).step_by(piece) {
                let part = whole.narrow(1, first, piece.min(vocab - first))?;
                for position in (0..count).step_by(together) {
                    let rows = part.narrow(0, position, together.min(count - position))?;
                    likelihood.add(position, first, &rows.contiguous()?)?;
                }
            }
            let want: Vec<f64> = (logits.chunks_exact(vocab).zip(&targets))
                .map(|(row, &target)| {
                    let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                    let sum: f64 = row.iter().map(|&v| (f64::from(v) - f64::from(top)).exp()).sum();
                    sum.ln() + f64::from(top) - f64::from(row[target as usize])
                })
                .collect();
            // Differences of some tens are rounded (2e-6) before the exponential, and so is the result.
            let found = likelihood.finish()?;
            if found.iter().enumerate().any(|(i, found)| found.is_likeliest != (target(i) == firsts[i])) {
                candle_core::bail!("the likeliest entries are others");
            }
            let nll: Vec<f32> = found.iter().map(|found| found.nll).collect();
            Ok(Deviation::ratio(largest(&nll, &want, |_, want| 3e-6 + 1e-7 * want.abs())))
        })
    };
    SHAPES.into_iter().map(case).collect()
}
