//! Divergence of two models' predictions on the same tokens.

use paring_format::message;
use std::time::Instant;

use candle_core::Tensor;
use paring_model::decoder::Decoder;
use rayon::prelude::*;
use serde::Serialize;

use crate::commands::perplexity::RoundObserver;
use crate::pipeline::activations::Hidden;
use crate::pipeline::budget;
use crate::pipeline::device::DeviceBudget;
use crate::pipeline::prediction::{LOGITS_BYTES, Prediction};
use crate::pipeline::walk::walk;
use crate::plan::Opt;
use crate::report::progress::EvalProgress;
use crate::report::progress::Observer;
use crate::report::{Clock, DeviceReport, peak_rss_mib};
use crate::{Error, Result};
use paring_data::Windows;

/// Bytes of activations of both models that are kept between blocks; more windows pass through in several rounds.
const HIDDEN_BYTES: usize = 128 << 20;

/// Divergence of a model from a reference. All means are over the predictions of a window's tokens except the first.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Device.
    #[serde(flatten)]
    pub place: DeviceReport,
    /// The data set.
    pub dataset: String,
    /// Windows.
    pub windows: usize,
    /// Tokens in all windows.
    pub tokens: usize,
    /// Tokens in a window.
    pub seqlen: usize,
    /// Mean of KL(reference ‖ model), in nats.
    pub mean_kl: f64,
    /// The largest.
    pub max_kl: f64,
    /// Share of predictions whose most likely token is the same.
    pub top1_agreement: f64,
    /// Perplexity of the model: exp of the mean over windows of the mean negative log-likelihood.
    pub perplexity: f64,
    /// Perplexity of the reference.
    pub reference_perplexity: f64,
    /// The first over the second.
    pub perplexity_ratio: f64,
    /// Time it took.
    pub seconds: f64,
    /// Highest resident memory of the process so far.
    pub peak_rss_mib: f64,
}

/// Bounds that a comparison must keep.
#[derive(Clone, Copy, Debug, Default)]
pub struct ComparisonLimits {
    /// Upper bound of [`Comparison::mean_kl`].
    pub max_kl: Option<f64>,
    /// Lower bound of [`Comparison::top1_agreement`], 0 to 1.
    pub min_top1: Option<f64>,
    /// Upper bound of [`Comparison::perplexity_ratio`].
    pub max_perplexity_ratio: Option<f64>,
}

impl Comparison {
    /// Errors with the name of every limit that is not kept; a NaN keeps none.
    pub fn check(&self, limits: &ComparisonLimits) -> Result<()> {
        let mut broken = Vec::new();
        if let Some(limit) =
            limits.max_kl.filter(|limit| !matches!(self.mean_kl.partial_cmp(limit), Some(o) if o.is_le()))
        {
            let over = format!("mean KL divergence {:.6} is over ", self.mean_kl);
            broken.push((Opt::MaxKl, message![over, Opt::MaxKl.with(limit)]));
        }
        if let Some(limit) = limits.min_top1.filter(|&limit| self.top1_agreement < limit) {
            let under = format!("top-1 agreement {:.6} is under ", self.top1_agreement);
            broken.push((Opt::MinTop1, message![under, Opt::MinTop1.with(limit)]));
        }
        let over = |limit: &f64| !matches!(self.perplexity_ratio.partial_cmp(limit), Some(o) if o.is_le());
        if let Some(limit) = limits.max_perplexity_ratio.filter(over) {
            let ratio = self.perplexity_ratio;
            let over = format!("perplexity ratio {ratio:.6} is over ");
            broken.push((Opt::MaxPerplexityRatio, message![over, Opt::MaxPerplexityRatio.with(limit)]));
        }
        let Some(&(first, _)) = broken.first() else { return Ok(()) };
        let all = broken.into_iter().map(|(_, text)| text).reduce(|all, more| all.then("; ").then(more));
        Err(first.misfit(all.unwrap_or_default()))
    }
}

/// Runs both models over the same windows, block by block: in memory are one block, the activations of both models for
/// as many windows as fit, and a piece of the logits. `observer` gets the progress.
///
/// Errors when the vocabularies differ, and when a block's output or a logit is not finite. The device of `budget` is that
/// of both.
pub fn compare(
    model: &dyn Decoder,
    reference: &dyn Decoder,
    budget: &DeviceBudget,
    windows: &Windows,
    dataset: &str,
    clock: &mut Clock,
    observer: &mut dyn Observer,
) -> Result<Comparison> {
    let start = Instant::now();
    let vocab = model.vocab_size();
    if vocab != reference.vocab_size() {
        let other = reference.vocab_size();
        return Err(Error::Plan(format!(
            "the model has a vocabulary of {vocab} tokens, but the reference has {other}; compare models with \
            the same tokenizer"
        )));
    }
    let seqlen = windows.seqlen;
    let window_bytes = seqlen * (model.hidden_size() + reference.hidden_size()) * size_of::<f32>();
    let per_round = (HIDDEN_BYTES / window_bytes.max(1)).max(1);
    let mut total = Totals::default();
    let mut done = 0;
    for ids in windows.ids.chunks(per_round * seqlen) {
        let round = Windows { ids: ids.to_vec(), seqlen, seed: None };
        let blocks = model.blocks() + reference.blocks();
        let at = EvalProgress { done, of: windows.count(), round: round.count(), passed: 0, blocks };
        let mut through = |decoder: &dyn Decoder, passed: usize| -> Result<Vec<Tensor>> {
            let mut hidden =
                Hidden::embed(decoder, &round, budget::to_run(budget, decoder, (round.count(), round.seqlen), None)?)?;
            let mut passing = RoundObserver { at: EvalProgress { passed, ..at }, observer };
            walk(decoder, 0..decoder.blocks(), Some(&mut hidden), &mut passing, true, clock)?;
            each_window(&hidden)
        };
        let ours = through(model, 0).map_err(|e| e.offset_window(done))?;
        let theirs = through(reference, model.blocks()).map_err(|e| e.offset_window(done))?;
        for ((ours, theirs), ids) in ours.iter().zip(&theirs).zip(ids.chunks_exact(seqlen)) {
            let seen = total.window((model, ours), (reference, theirs), ids);
            seen.map_err(|e| budget.with_context(e, "the head"))?;
            done += 1;
            observer.measured(&EvalProgress { done, round: 0, ..at });
        }
    }
    let count = (windows.count() * (seqlen - 1)).max(1) as f64;
    let of_windows = |sum: f64| (sum / windows.count().max(1) as f64).exp();
    let (perplexity, reference_perplexity) = (of_windows(total.nll), of_windows(total.reference_nll));
    Ok(Comparison {
        place: DeviceReport::new(model.device())?,
        dataset: dataset.to_string(),
        windows: windows.count(),
        tokens: windows.ids.len(),
        seqlen,
        mean_kl: total.kl / count,
        max_kl: total.max_kl,
        top1_agreement: total.same as f64 / count,
        perplexity,
        reference_perplexity,
        perplexity_ratio: perplexity / reference_perplexity,
        seconds: start.elapsed().as_secs_f64(),
        peak_rss_mib: peak_rss_mib(),
    })
}

/// Activations of each window, `[1, t, dim]`.
fn each_window(hidden: &Hidden) -> Result<Vec<Tensor>> {
    let mut windows = Vec::with_capacity(hidden.windows());
    for i in 0..hidden.batches() {
        let batch = hidden.batch(i)?;
        for row in 0..batch.dim(0)? {
            windows.push(batch.narrow(0, row, 1)?);
        }
    }
    Ok(windows)
}

/// Sums over predictions; the likelihoods are sums over windows of their means.
#[derive(Default)]
struct Totals {
    kl: f64,
    max_kl: f64,
    same: usize,
    nll: f64,
    reference_nll: f64,
}

impl Totals {
    /// Adds the predictions of a window, whose last activations `[1, t, dim]` both models have.
    fn window(
        &mut self,
        (model, ours): (&dyn Decoder, &Tensor),
        (reference, theirs): (&dyn Decoder, &Tensor),
        ids: &[u32],
    ) -> Result<()> {
        let vocab = model.vocab_size();
        let predictions = ids.len() - 1;
        let step = (LOGITS_BYTES / (vocab * size_of::<f32>()).max(1)).max(1);
        let (mut nll, mut reference_nll) = (0.0, 0.0);
        for first in (0..predictions).step_by(step) {
            let count = step.min(predictions - first);
            let logits = |decoder: &dyn Decoder, h: &Tensor| -> Result<Vec<f32>> {
                Ok(decoder.logits(&h.narrow(1, first, count)?)?.flatten_all()?.to_vec1::<f32>()?)
            };
            let (p, q) = (logits(reference, theirs)?, logits(model, ours)?);
            let rows = p.par_chunks_exact(vocab).zip(q.par_chunks_exact(vocab)).zip(&ids[first + 1..=first + count]);
            let seen: Vec<Prediction> = rows.map(|((p, q), &target)| Prediction::new(p, q, target as usize)).collect();
            // One after the other, so that the sums do not depend on the number of threads.
            for (i, seen) in seen.iter().enumerate() {
                if !seen.kl.is_finite() {
                    let position = first + i;
                    return Err(Error::Plan(format!(
                        "the logits at position {position} of a window are NaN or infinite; one of the models is \
                        damaged"
                    )));
                }
                self.kl += seen.kl;
                self.max_kl = self.max_kl.max(seen.kl);
                self.same += usize::from(seen.same);
                nll += seen.nll;
                reference_nll += seen.reference_nll;
            }
        }
        self.nll += nll / predictions as f64;
        self.reference_nll += reference_nll / predictions as f64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_that_is_broken_is_named() {
        let comparison = Comparison {
            place: DeviceReport::new(&candle_core::Device::Cpu).unwrap(),
            dataset: "d".into(),
            windows: 1,
            tokens: 2,
            seqlen: 2,
            mean_kl: 0.5,
            max_kl: 0.5,
            top1_agreement: 0.5,
            perplexity: 3.0,
            reference_perplexity: 2.0,
            perplexity_ratio: 1.5,
            seconds: 0.0,
            peak_rss_mib: 0.0,
        };
        let limits = |kl, top, ratio| ComparisonLimits {
            max_kl: Some(kl),
            min_top1: Some(top),
            max_perplexity_ratio: Some(ratio),
        };
        comparison.check(&limits(0.5, 0.5, 1.5)).unwrap();
        comparison.check(&ComparisonLimits::default()).unwrap();
        let all = comparison.check(&limits(0.4, 0.6, 1.4)).unwrap_err().to_string();
        assert!(
            ["over max-kl 0.4", "under min-top1 0.6", "over max-perplexity-ratio 1.4"].iter().all(|w| all.contains(w)),
            "{all}"
        );
        let broken = Comparison { perplexity_ratio: f64::NAN, ..comparison };
        assert!(broken.check(&limits(1.0, 0.0, 9.0)).is_err());
    }
}
