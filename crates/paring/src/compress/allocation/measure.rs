//! The walk that measures: errors of options on the Gram matrices of the dense model, and effects of units on its predictions.

use std::path::Path;
use std::sync::Arc;

use paring_kernels::gram::Quadratic;
use paring_model::LinearInfo;
use paring_model::decoder::Block;
use paring_model::weight::{Dense, Weight};

use super::streams::Streams;
use super::{Candidate, Job, Units, no_data, windows};
use crate::methods::{Matrix, Outcome, Prepared};
use crate::pipeline::activations::Hidden;
use crate::pipeline::stats::Stats;
use crate::pipeline::walk::{Visitor, walk};
use crate::plan::{Curvature, Recipe};
use crate::report::Clock;
use crate::report::progress::{EvalProgress, Observer, Step};
use crate::{Error, Result};

/// Rows of a linear that an option is tried on, about.
pub(super) const ROWS: usize = 128;

/// Errors and effects of units.
pub(super) struct Measured {
    /// The error of each option of each unit, tr(ΔW·H·ΔWᵀ), estimated from some rows.
    errors: Vec<Vec<f64>>,
    /// Divergence of the predictions when the unit alone has its usual option, in nats per token.
    pub effects: Vec<f64>,
}

impl Measured {
    /// The losses of a unit's options: its effect with the option numbered `usual`, scaled by their errors.
    pub fn losses(&self, unit: usize, usual: usize) -> impl Iterator<Item = f64> + '_ {
        let (errors, effect) = (&self.errors[unit], self.effects[unit]);
        let base = errors[usual];
        errors.iter().map(move |error| if base > 0.0 { effect * error / base } else { 0.0 })
    }
}

/// Measures all options of all units. Costs a forward pass over some of the windows, a sweep of some rows for each option and
/// of all for one, and for each unit a pass of a few tokens from its block to the end and through the head.
pub(super) fn measure((job, dir): (&Job, &Path), units: &Units, observer: &mut dyn Observer) -> Result<Measured> {
    let some = windows(job).ok_or_else(no_data)?;
    let decoder = job.decoder.as_ref();
    let mut hidden = Hidden::embed(decoder, &some, job.storage(&some, dir)?)?;
    let streams = Streams::new((job, dir), units.units.len())?;
    let errors = Vec::with_capacity(units.units.len());
    let mut visitor = Measurer { job, units, observer, errors, streams };
    walk(decoder, 0..decoder.blocks(), Some(&mut hidden), &mut visitor, false, &mut Clock::default())?;
    let Measurer { errors, streams, .. } = visitor;
    let effects = streams.divergences(&job.budget)?;
    Ok(Measured { errors, effects })
}

struct Measurer<'a> {
    job: &'a Job,
    units: &'a Units,
    observer: &'a mut dyn Observer,
    /// Of the units of the blocks that were seen.
    errors: Vec<Vec<f64>>,
    streams: Streams<'a>,
}

/// The inputs of a unit, as far as its sweeps must know.
struct Inputs<'a> {
    stats: &'a Stats,
    quadratic: Quadratic<'a>,
    /// Preparations, each with a recipe that it is for.
    prepared: Vec<(&'a Recipe, Prepared)>,
}

impl Visitor for Measurer<'_> {
    fn block(&mut self, i: usize, entering: Option<(&mut dyn Block, &Hidden)>, clock: &mut Clock) -> Result<()> {
        let Some((block, hidden)) = entering else { return Ok(()) };
        let (round, blocks) = (hidden.windows(), self.job.decoder.blocks());
        self.observer.measured(&EvalProgress { done: 0, of: round, round, passed: i, blocks });
        let (units, first) = (self.units, self.errors.len());
        let end = first + units.units[first..].iter().take_while(|unit| unit.block == i).count();
        let linears: Vec<LinearInfo> = units.units[first..end].iter().flat_map(|unit| &unit.linears).cloned().collect();
        let wanted = (&linears[..], Curvature::Full);
        let stats = self.job.statistics(i, (&*block, hidden), wanted, self.observer, clock)?;
        let mut made = Vec::with_capacity(end - first);
        for number in first..end {
            let fan = units.units[number].linears[0].fan;
            let missing = || Error::Plan(format!("{}: no statistics", units.units[number].linears[0].name));
            let (errors, dense) = self.unit(number, stats[fan].as_ref().ok_or_else(missing)?)?;
            self.errors.push(errors);
            made.push(self.changed(i, block, number, dense)?);
        }
        self.streams.advance((i, &*block), made)
    }

    fn step(&mut self, step: &Step<'_>) {
        self.observer.step(step);
    }
}

impl Measurer<'_> {
    /// The errors of a unit's options, and its linears with the usual one.
    fn unit(&self, number: usize, stats: &Stats) -> Result<(Vec<f64>, Vec<Vec<f32>>)> {
        let Stats::Gram(gram) = stats else { return Err(Error::Plan("no Gram matrix".into())) };
        let quadratic = Quadratic::new(gram, self.job.plan.precision)?;
        let mut inputs = Inputs { stats, quadratic, prepared: Vec::new() };
        let (unit, options) = (&self.units.units[number], &self.units.options[number]);
        let mut errors = vec![0.0; options.len()];
        let mut dense = Vec::with_capacity(unit.linears.len());
        for linear in &unit.linears {
            let original = self.job.checkpoint.read_linear(&linear.name, linear.rows, linear.cols)?;
            let (dtype, weight) = (original.dtype, original.into_dense());
            let step = linear.rows.div_ceil(ROWS).max(1);
            let sample: Vec<f32> = weight.chunks(linear.cols).step_by(step).flatten().copied().collect();
            let scale = weight.len() as f64 / sample.len().max(1) as f64;
            let given = self.job.removed(linear)?;
            let some =
                |given: &Vec<u8>| given.chunks(linear.cols).step_by(step).flatten().copied().collect::<Vec<u8>>();
            let given_sample = given.as_ref().map(some);
            for (error, &option) in errors.iter_mut().zip(options) {
                let candidate = &self.units.candidates[option];
                let stored = candidate.kind.stored(dtype);
                let matrix = Matrix::new(&sample, stored, &linear.name).under(given_sample.as_deref());
                let outcome = inputs.compress(candidate, matrix, linear.cols)?;
                *error += scale * inputs.error(&sample, outcome)?;
            }
            let usual = &self.units.candidates[options[self.units.usual[number]]];
            let matrix = Matrix::new(&weight, usual.kind.stored(dtype), &linear.name).under(given.as_deref());
            dense.push(inputs.compress(usual, matrix, linear.cols)?.into_dense());
        }
        Ok((errors, dense))
    }

    /// The output of a block for the few tokens when the linears of a unit have these weights; the block is as it was
    /// after that.
    fn changed(
        &mut self,
        i: usize,
        block: &mut dyn Block,
        number: usize,
        dense: Vec<Vec<f32>>,
    ) -> Result<candle_core::Tensor> {
        let linears = &self.units.units[number].linears;
        let (device, precision) = (self.job.decoder.device(), self.job.plan.precision);
        let mut before: Vec<(String, Arc<dyn Weight>)> = Vec::with_capacity(linears.len());
        for (info, dense) in linears.iter().zip(dense) {
            let made = Arc::new(Dense::on(device, info.rows, info.cols, dense, precision)?);
            for linear in block.fans().into_iter().flat_map(|fan| &mut fan.linears).filter(|l| l.name == info.name) {
                before.push((info.name.clone(), std::mem::replace(&mut linear.weight, made.clone())));
            }
        }
        let output = self.streams.branch((i, &*block));
        for linear in block.fans().into_iter().flat_map(|fan| &mut fan.linears) {
            if let Some(at) = before.iter().position(|(name, _)| *name == linear.name) {
                linear.weight = before.swap_remove(at).1;
            }
        }
        output
    }
}

impl<'a> Inputs<'a> {
    fn compress(&mut self, candidate: &'a Candidate, matrix: Matrix<'_>, cols: usize) -> Result<Outcome> {
        let recipe = &candidate.recipe;
        let known = self.prepared.iter().position(|(other, _)| other.prepares_like(recipe));
        let at = match known {
            Some(at) => at,
            None => {
                self.prepared.push((recipe, recipe.prepare(Some(self.stats), Some(&matrix.weight), matrix.module)?));
                self.prepared.len() - 1
            }
        };
        let module = matrix.module;
        let made = recipe.compress_all(vec![matrix], cols, &self.prepared[at].1)?.pop();
        made.ok_or_else(|| Error::Plan(format!("{module}: nothing came out")))
    }

    /// tr(ΔW·H·ΔWᵀ) of an outcome: the sweep's own sum where that says it, for rows·cols² operations elsewhere.
    fn error(&self, weight: &[f32], outcome: Outcome) -> Result<f64> {
        if let Some(error) = outcome.told_distortion() {
            return Ok(error);
        }
        let mut difference = outcome.into_dense();
        difference.iter_mut().zip(weight).for_each(|(made, w)| *made -= w);
        Ok(self.quadratic.trace(&difference)?.max(0.0))
    }
}
