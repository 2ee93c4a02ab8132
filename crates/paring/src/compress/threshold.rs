//! The outlier threshold that keeps a wanted share of the weights exact, found on a sample of the layers.

use paring_model::LinearInfo;
use paring_model::decoder::Block;
use std::path::Path;

use super::Job;
use super::schemes::Kind;
use super::select::Selection;
use super::start::Started;
use crate::methods::Stored;
use crate::output::journal::Line;
use crate::pipeline::activations::Hidden;
use crate::pipeline::stats::Stats;
use crate::pipeline::walk::{Visitor, walk};
use crate::plan::Recipe;
use crate::report::Clock;
use crate::report::progress::{EvalProgress, Observer, Step};
use crate::{Error, Result};
use paring_data::Windows;

/// Blocks that are looked at, evenly spread; the last one is among them.
const BLOCKS: usize = 4;
/// Rows of a linear that are looked at, about.
const ROWS: usize = 192;
/// Thresholds that are tried: this many, from the first on, each the given factor above the one before.
const TRIES: (usize, f64, f64) = (14, 0.01, 1.7);
/// Tokens per feature of the widest linear: enough for a Gram matrix of full rank.
const TOKENS_PER_FEATURE: usize = 2;

/// Counts outliers of each threshold in some of the blocks.
struct Sampler<'a> {
    job: &'a Job,
    selection: &'a Selection,
    observer: &'a mut dyn Observer,
    /// The choice whose threshold is looked for.
    number: usize,
    kind: Kind,
    blocks: Vec<usize>,
    recipes: Vec<Recipe>,
    /// Outliers expected among all weights of the sampled linears, by threshold.
    outliers: Vec<f64>,
    weights: f64,
}

/// The relative threshold with which about `share` of the weights of the linears with choice `number` is kept exact.
///
/// The dense model is run on as many windows as the widest linear needs; of each linear of a few blocks some rows are
/// swept with thresholds in geometric steps, and the threshold is read off between two of them. Costs a part of a
/// forward pass and about a sweep.
pub(super) fn choose(
    (job, dir): (&Job, &Path),
    selection: &Selection,
    (number, share): (usize, f64),
    observer: &mut dyn Observer,
    clock: &mut Clock,
) -> Result<f64> {
    let none = || Error::Plan("a share of outliers needs spqr and calibration data; name a data set".into());
    let choice = job.plan.choice(number).ok_or_else(none)?;
    let (Some(windows), Some(spqr)) = (&job.windows, &choice.recipe.spqr) else { return Err(none()) };
    let decoder = job.decoder.as_ref();
    let blocks = decoder.blocks();
    let widest = (0..blocks).flat_map(|i| decoder.linears(i)).map(|l| l.cols).max().unwrap_or(1);
    let count = (TOKENS_PER_FEATURE * widest).div_ceil(windows.seqlen).clamp(1, windows.count());
    let ids = windows.ids[..count * windows.seqlen].to_vec();
    let some = Windows { ids, seqlen: windows.seqlen, seed: windows.seed };
    let mut hidden = Hidden::embed(decoder, &some, job.storage(&some, dir)?)?;
    let has_work = |i: &usize| decoder.linears(*i).iter().any(|l| selection.choice(&l.name) == Some(number));
    let candidates: Vec<usize> = (0..blocks).filter(has_work).collect();
    let picks = BLOCKS.min(candidates.len());
    let (tries, first, factor) = TRIES;
    let thresholds: Vec<f64> = (0..tries).map(|t| first * factor.powi(t as i32)).collect();
    let recipe = |threshold: &f64| {
        let spqr = crate::plan::Spqr { outlier_threshold: Some(*threshold), ..spqr.clone() };
        Recipe { spqr: Some(spqr), ..choice.recipe.clone() }
    };
    let mut sampler = Sampler {
        job,
        selection,
        observer,
        number,
        kind: Kind::of(&choice)?,
        blocks: (1..=picks).map(|p| candidates[p * candidates.len() / picks - 1]).collect(),
        recipes: thresholds.iter().map(recipe).collect(),
        outliers: vec![0.0; tries],
        weights: 0.0,
    };
    sampler.observer.measuring("outlier threshold");
    walk(decoder, 0..blocks, Some(&mut hidden), &mut sampler, false, clock)?;
    let shares: Vec<f64> = sampler.outliers.iter().map(|o| o / sampler.weights.max(1.0)).collect();
    tracing::debug!(?thresholds, ?shares, "outliers by threshold");
    // As f32, of which a logarithm that one compiler folds and another computes does not change the last digit.
    Ok(f64::from(crossing(&thresholds, &shares, share) as f32))
}

/// The threshold at which the falling `shares` cross `wanted`, between two thresholds on a logarithmic scale.
fn crossing(thresholds: &[f64], shares: &[f64], wanted: f64) -> f64 {
    for (t, s) in thresholds.windows(2).zip(shares.windows(2)) {
        if s[0] >= wanted && s[1] < wanted {
            // Where the lower share is 0 half a weight stands for it.
            let (above, below) = (s[0].ln(), s[1].max(wanted * 1e-2).ln());
            let part = if above > below { (above - wanted.ln()) / (above - below) } else { 0.5 };
            return t[0] * (t[1] / t[0]).powf(part);
        }
    }
    // A share that no threshold reaches gets the nearest one.
    let nearest = if shares.first().is_some_and(|&s| s < wanted) { thresholds.first() } else { thresholds.last() };
    nearest.copied().unwrap_or(1.0)
}

impl Visitor for Sampler<'_> {
    fn block(&mut self, i: usize, entering: Option<(&mut dyn Block, &Hidden)>, clock: &mut Clock) -> Result<()> {
        if let Some((_, hidden)) = &entering {
            let (round, blocks) = (hidden.windows(), self.job.decoder.blocks());
            self.observer.measured(&EvalProgress { done: 0, of: round, round, passed: i, blocks });
        }
        let Some((block, hidden)) = entering.filter(|_| self.blocks.contains(&i)) else { return Ok(()) };
        let chosen = |linear: &LinearInfo| self.selection.choice(&linear.name) == Some(self.number);
        let linears: Vec<LinearInfo> = self.job.decoder.linears(i).into_iter().filter(chosen).collect();
        let wanted = (&linears[..], self.recipes[0].statistics());
        let stats = self.job.statistics(i, (&*block, hidden), wanted, self.observer, clock)?;
        for linear in linears {
            let original = self.job.checkpoint.read_linear(&linear.name, linear.rows, linear.cols)?;
            let stored = self.kind.stored(original.dtype);
            self.count(&linear.name, &original.into_dense(), linear.cols, stored, stats[linear.fan].as_ref())?;
        }
        Ok(())
    }

    fn step(&mut self, step: &Step<'_>) {
        self.observer.step(step);
    }
}

impl Sampler<'_> {
    fn count(&mut self, name: &str, weight: &[f32], cols: usize, stored: Stored, stats: Option<&Stats>) -> Result<()> {
        // Whole second-level groups, evenly spread over the rows.
        let height = self.recipes[0].spqr.as_ref().map_or(1, |s| s.second_rows);
        let chunks = weight.chunks(height * cols);
        let step = chunks.len().div_ceil(ROWS.div_ceil(height)).max(1);
        let sample: Vec<f32> = chunks.step_by(step).flatten().copied().collect();
        let prepared = self.recipes[0].prepare(stats, Some(&sample), name)?;
        let scale = weight.len() as f64 / sample.len() as f64;
        for (recipe, outliers) in self.recipes.iter().zip(&mut self.outliers) {
            let made = recipe.compress(&sample, cols, &prepared, stored, name)?;
            let kept = made.compressed.outlier_mask().unwrap_or_default();
            *outliers += scale * kept.iter().filter(|&&m| m == 1).count() as f64;
        }
        self.weights += weight.len() as f64;
        Ok(())
    }
}

/// Gives each choice of the plan that asks for a share of outliers the threshold that keeps it: the one in the journal, or
/// one that is found now.
pub(super) fn set_all(
    job: &mut Job,
    selection: &Selection,
    started: &mut Started,
    observer: &mut dyn Observer,
    clock: &mut Clock,
) -> Result<()> {
    for number in selection.used() {
        let Some(share) = job.plan.choice(number).and_then(|choice| choice.outlier_share) else { continue };
        let threshold = match started.thresholds.get(&number) {
            Some(&threshold) => threshold,
            None => {
                observer.note("searching for the outlier threshold");
                let dir = started.output.dir();
                let threshold = choose((job, dir), selection, (number, share), observer, clock)?;
                let line = Line::Threshold { choice: number, bits: threshold.to_bits() };
                started.output.note(move |_| Some(line))?;
                threshold
            }
        };
        started.note(format!("outlier threshold {threshold:.4} (keeps {:.2} % of weights)", 100.0 * share), observer);
        if let Some(spqr) = job.plan.recipe_mut(number).and_then(|recipe| recipe.spqr.as_mut()) {
            spqr.outlier_threshold = Some(threshold);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::crossing;

    #[test]
    fn the_threshold_is_read_off_between_two() {
        let thresholds = [0.1, 0.2, 0.4, 0.8];
        let shares = [0.04, 0.02, 0.01, 0.0];
        // Share = 0.004 / threshold: a straight line on logarithmic scales.
        assert!((crossing(&thresholds, &shares, 0.015) - 0.004 / 0.015).abs() < 1e-9);
        assert!((crossing(&thresholds, &shares, 0.03) - 0.004 / 0.03).abs() < 1e-9);
        let last = crossing(&thresholds, &shares, 0.005);
        assert!(last > 0.4 && last < 0.8);
        assert_eq!(crossing(&thresholds, &shares, 0.5), 0.1);
        assert_eq!(crossing(&thresholds, &[0.04, 0.03, 0.02, 0.02], 0.01), 0.8);
    }
}
