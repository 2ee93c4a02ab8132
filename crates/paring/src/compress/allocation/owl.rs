//! Sparsities of blocks by the outliers of their scores.

use std::path::Path;

use paring_model::LinearInfo;
use paring_model::decoder::Block;

use super::{Found, Job, Selection, mean_sparsity, no_data, summary, windows};
use crate::allocate::{Unit, allotted, owl};
use crate::pipeline::activations::Hidden;
use crate::pipeline::stats::Stats;
use crate::pipeline::walk::{Visitor, walk};
use crate::plan::Curvature;
use crate::plan::allocation::{PARTS, Setting};
use crate::report::Clock;
use crate::report::progress::{EvalProgress, Observer, Step};
use crate::{Error, Result};

/// The sparsity of each block. Costs a forward pass over some of the windows.
pub(super) fn find(job: &Job, dir: &Path, selection: &Selection, observer: &mut dyn Observer) -> Result<Found> {
    let some = windows(job).ok_or_else(no_data)?;
    let decoder = job.decoder.as_ref();
    let mut hidden = Hidden::embed(decoder, &some, job.storage(&some, dir)?)?;
    let mut counter = Counter { job, selection, observer, blocks: Vec::new(), units: Vec::new() };
    walk(decoder, 0..decoder.blocks(), Some(&mut hidden), &mut counter, false, &mut Clock::default())?;
    let Counter { blocks, units, .. } = counter;
    let mean = mean_sparsity(&job.plan);
    let settings: Vec<Setting> = owl::sparsities(&blocks, mean).into_iter().map(Setting::Sparsity).collect();
    let weights: f64 = blocks.iter().map(|(_, weights)| *weights as f64).sum();
    let share = |(setting, (_, weights)): (&Setting, &(f64, u64))| match setting {
        Setting::Sparsity(parts) => f64::from(*parts) * *weights as f64,
        Setting::Grid { .. } => 0.0,
    };
    let removed = settings.iter().zip(&blocks).map(share).sum::<f64>() / weights.max(1.0) / PARTS;
    let reached = format!("{:.2} % of the weights go", 100.0 * removed);
    let settings = allotted(&units, &settings);
    Ok(Found { summary: summary(&reached, &settings, &units, None), settings })
}

struct Counter<'a> {
    job: &'a Job,
    selection: &'a Selection,
    observer: &'a mut dyn Observer,
    /// The share of outliers and the weights of each block of which some are chosen.
    blocks: Vec<(f64, u64)>,
    /// Their linears.
    units: Vec<Unit>,
}

impl Visitor for Counter<'_> {
    fn block(&mut self, i: usize, entering: Option<(&mut dyn Block, &Hidden)>, clock: &mut Clock) -> Result<()> {
        let Some((block, hidden)) = entering else { return Ok(()) };
        let (round, blocks) = (hidden.windows(), self.job.decoder.blocks());
        self.observer.measured(&EvalProgress { done: 0, of: round, round, passed: i, blocks });
        let chosen = |linear: &LinearInfo| self.selection.contains(&linear.name);
        let linears: Vec<LinearInfo> = self.job.decoder.linears(i).into_iter().filter(chosen).collect();
        if linears.is_empty() {
            return Ok(());
        }
        let wanted = (&linears[..], Curvature::Diagonal);
        let stats = self.job.statistics(i, (&*block, hidden), wanted, self.observer, clock)?;
        let norms = |linear: &LinearInfo| match &stats[linear.fan] {
            Some(Stats::Norms(squares)) => Ok(squares.iter().map(|square| square.sqrt()).collect::<Vec<f32>>()),
            _ => Err(Error::Plan(format!("{}: no statistics", linear.name))),
        };
        // Twice over the weights, which are read as they are needed: the mean comes first.
        let read = |linear: &LinearInfo| self.job.checkpoint.read_linear(&linear.name, linear.rows, linear.cols);
        let (mut sum, mut outliers) = (0.0, 0);
        for linear in &linears {
            sum += owl::sum(&read(linear)?.into_dense(), &norms(linear)?);
        }
        let weights: usize = linears.iter().map(|linear| linear.rows * linear.cols).sum();
        let mean = sum / weights.max(1) as f64;
        for linear in &linears {
            outliers += owl::outliers(&read(linear)?.into_dense(), &norms(linear)?, mean);
        }
        self.blocks.push((outliers as f64 / weights.max(1) as f64, weights as u64));
        self.units.push(Unit { block: i, linears });
        Ok(())
    }

    fn step(&mut self, step: &Step<'_>) {
        self.observer.step(step);
    }
}
