//! A few tokens that pass through the dense model, and beside it once for every unit that is compressed alone: they part at its
//! block, and go through all later ones as these are read, so that each block is read once.

use std::path::Path;

use candle_core::Tensor;
use paring_model::Decoder;
use paring_model::decoder::Block;
use rayon::prelude::*;

use super::{Job, no_data};
use crate::pipeline::activations::{Hidden, Storage};
use crate::pipeline::device::DeviceBudget;
use crate::pipeline::nonfinite::CheckedForward;
use crate::pipeline::prediction::{LOGITS_BYTES, normalizer};
use crate::{Error, Result};
use paring_data::Windows;

/// Tokens of a stream, at least and at most.
const TOKENS: (usize, usize) = (256, 2048);
/// Bytes of the activations of all streams, about.
const BYTES: usize = 512 << 20;

/// The probabilities that logits stand for.
fn softmax(logits: &[f32]) -> Vec<f32> {
    let (_, log) = normalizer(logits);
    logits.iter().map(|&logit| (f64::from(logit) - log).exp() as f32).collect()
}

/// KL(before ‖ after) of logits to second order, half the variance of their differences under the probabilities `shares` of
/// those before: it grows with the square of a change as the errors of linears do, and takes no exponential.
fn divergence(shares: &[f32], before: &[f32], after: &[f32]) -> f64 {
    const LANES: usize = 16;
    let (mut mean, mut square) = ([0f32; LANES], [0f32; LANES]);
    let pieces = shares.chunks(LANES).zip(before.chunks(LANES)).zip(after.chunks(LANES));
    let (mut means, mut squares) = (0.0, 0.0);
    for (i, ((shares, before), after)) in pieces.enumerate() {
        for (lane, ((share, before), after)) in shares.iter().zip(before).zip(after).enumerate() {
            let difference = after - before;
            mean[lane] += share * difference;
            square[lane] += share * difference * difference;
        }
        // Sums of many small numbers keep their digits in f64.
        if i % 64 == 63 {
            means += mean.iter().map(|&m| f64::from(m)).sum::<f64>();
            squares += square.iter().map(|&s| f64::from(s)).sum::<f64>();
            (mean, square) = ([0.0; LANES], [0.0; LANES]);
        }
    }
    means += mean.iter().map(|&m| f64::from(m)).sum::<f64>();
    squares += square.iter().map(|&s| f64::from(s)).sum::<f64>();
    (0.5 * (squares - means * means)).max(0.0)
}

/// The streams: that of the dense model is the first batch, and that of each unit another.
pub(super) struct Streams<'a> {
    decoder: &'a dyn Decoder,
    hidden: Hidden,
    /// Those that parted from the dense one, and itself.
    open: usize,
}

/// Tokens of each stream of so many units, for a run on `tokens` tokens of a model that is `dim` wide: so many that all
/// streams together pass through about as many blocks as the tokens of the run do.
pub(crate) fn tokens(units: usize, tokens: usize, dim: usize) -> usize {
    let time = 2 * tokens / units.max(1);
    let memory = BYTES / (4 * dim * (units + 1)).max(1);
    time.min(memory).clamp(TOKENS.0, TOKENS.1)
}

impl<'a> Streams<'a> {
    /// The streams of so many units, at the input of the first block.
    pub fn new((job, dir): (&'a Job, &'a Path), units: usize) -> Result<Self> {
        let decoder = job.decoder.as_ref();
        let windows = job.windows.as_ref().ok_or_else(no_data)?;
        let wanted = tokens(units, windows.ids.len(), decoder.hidden_size());
        let seqlen = wanted.min(windows.seqlen);
        let count = (wanted / seqlen).clamp(1, windows.count());
        // Evenly spread, each from its start.
        let step = (windows.count() / count).max(1);
        let starts = windows.ids.chunks_exact(windows.seqlen).step_by(step).take(count);
        let few: Vec<u32> = starts.flat_map(|window| &window[..seqlen]).copied().collect();
        let few = Windows { ids: few, seqlen, seed: None };
        let storage = job.storage(&few, dir)?;
        let batch = storage.batch.min(few.count());
        let ids = few.ids[..batch * seqlen].repeat(units + 1);
        let all = Windows { ids, ..few };
        let hidden = Hidden::embed(decoder, &all, Storage { batch, ..storage })?;
        Ok(Self { decoder, hidden, open: 1 })
    }

    /// The output of block number `i` as it is now, for the dense stream.
    pub fn branch(&self, (i, block): (usize, &dyn Block)) -> Result<Tensor> {
        let input = self.hidden.batch(0)?;
        CheckedForward::new(self.decoder.arithmetic().precision).forward(self.decoder, (i, block), &input, None)
    }

    /// Passes all open streams through block number `i`, and opens those that have the outputs `made`.
    pub fn advance(&mut self, (i, block): (usize, &dyn Block), made: Vec<Tensor>) -> Result<()> {
        let (open, mut number) = (self.open, 0usize);
        let decoder = self.decoder;
        self.open += made.len();
        let mut checked = CheckedForward::new(decoder.arithmetic().precision);
        self.hidden.advance(i, |h| {
            let stream = number;
            number += 1;
            match stream.checked_sub(open) {
                None => checked.forward(decoder, (i, block), h, None),
                Some(new) => Ok(made.get(new).unwrap_or(h).clone()),
            }
        })
    }

    /// The mean divergence of each unit's predictions from those of the dense model, in nats per token.
    pub fn divergences(&self, budget: &DeviceBudget) -> Result<Vec<f64>> {
        let (vocab, failed) = (self.decoder.vocab_size(), |e: Error| budget.with_context(e, "the head"));
        let dense = self.hidden.batch(0)?;
        let (count, seqlen, _) = dense.dims3()?;
        let step = (LOGITS_BYTES / (vocab * count * size_of::<f32>()).max(1)).max(1);
        let mut sums = vec![0.0; self.hidden.batches() - 1];
        for first in (0..seqlen).step_by(step) {
            let positions = step.min(seqlen - first);
            let logits = |h: &Tensor| -> Result<Vec<f32>> {
                let h = h.narrow(1, first, positions)?.contiguous()?;
                Ok(self.decoder.logits(&h)?.flatten_all()?.to_vec1::<f32>()?)
            };
            let reference = logits(&dense).map_err(failed)?;
            let shares: Vec<f32> = reference.par_chunks_exact(vocab).flat_map_iter(softmax).collect();
            for (stream, sum) in sums.iter_mut().enumerate() {
                let made = logits(&self.hidden.batch(stream + 1)?).map_err(failed)?;
                let rows = reference.par_chunks_exact(vocab).zip(made.par_chunks_exact(vocab));
                // Added one after the other, so that sums do not depend on the number of threads.
                let rows = rows.zip(shares.par_chunks_exact(vocab));
                let seen: Vec<f64> = rows.map(|((before, after), shares)| divergence(shares, before, after)).collect();
                *sum += seen.iter().sum::<f64>();
            }
        }
        Ok(sums.into_iter().map(|sum| sum / (count * seqlen) as f64).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_changes_diverge_as_their_squares() {
        let before: Vec<f32> = (0..3001).map(|i| ((i * 37) % 101) as f32 / 25.0).collect();
        let shares = softmax(&before);
        assert!((shares.iter().map(|&s| f64::from(s)).sum::<f64>() - 1.0).abs() < 1e-5);
        let shifted: Vec<f32> = before.iter().map(|logit| logit + 0.5).collect();
        assert!(divergence(&shares, &before, &shifted) < 1e-6, "all logits alike change nothing");
        for step in [0.01f32, 0.1] {
            let after: Vec<f32> =
                before.iter().enumerate().map(|(i, logit)| logit + step * ((i % 7) as f32 - 3.0)).collect();
            let exact = crate::pipeline::prediction::Prediction::new(&before, &after, 0).kl;
            let seen = divergence(&shares, &before, &after);
            assert!((seen / exact - 1.0).abs() < 0.1, "{seen} where KL is {exact}");
        }
    }

    #[test]
    fn streams_take_about_the_time_of_the_run() {
        // 120 units of a small model; 128 of one of seven billion weights, where memory decides.
        assert_eq!(tokens(120, 16 * 512, 576), 256);
        assert_eq!(tokens(120, 128 * 2048, 576), 1925);
        assert_eq!(tokens(128, 128 * 2048, 4096), 256);
        assert_eq!(tokens(1, 128 * 2048, 64), 2048);
    }
}
