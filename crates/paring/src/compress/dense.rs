//! The dense path: the activations of the model as it was, which pass through each block beside those of the compressed one.

use std::time::{Duration, Instant};

use candle_core::Tensor;
use paring_model::fan::Tap;
use paring_model::{Block, Held, Pass};

use super::Job;
use crate::pipeline::activations::Hidden;
use crate::pipeline::drift::{Drift, DriftCollector, Record};
use crate::pipeline::walk::pass_to_output;
use crate::plan::Plan;
use crate::report::{Clock, Stage};
use crate::{Error, Result};

/// The activations of the dense model, and the block that they are in.
pub(super) struct DensePath {
    hidden: Hidden,
    /// True if both models are compared inside blocks; else only what leaves them is, and the dense block is read when the other is done.
    inside: bool,
    /// As the checkpoint has it; `None` between two blocks.
    block: Option<Box<dyn Block>>,
    /// Results that passes through it hand on, for each batch.
    held: Vec<Held>,
}

impl DensePath {
    /// The path of these activations, which enter the next block of a run as planned.
    pub fn new(hidden: Hidden, plan: &Plan) -> Self {
        Self { hidden, inside: plan.dense_stream.is_some(), block: None, held: Vec::new() }
    }

    /// Its activations between two blocks.
    pub fn hidden(&self) -> &Hidden {
        &self.hidden
    }

    /// Reads block `i`, if both are compared inside it.
    pub fn begin(&mut self, job: &Job, i: usize, clock: &mut Clock) -> Result<()> {
        if self.inside { self.enter(job, i, clock) } else { Ok(()) }
    }

    /// Passes the activations to the output of block `i`, if anything asks for that, and lets go of it.
    pub fn end(&mut self, job: &Job, i: usize, is_asked: bool, clock: &mut Clock) -> Result<()> {
        if !is_asked {
            (self.block, self.held) = (None, Vec::new());
            return Ok(());
        }
        if !self.inside {
            self.enter(job, i, clock)?;
        }
        self.leave(job, i, clock)
    }

    /// Reads block `i`, which the path is about to enter.
    fn enter(&mut self, job: &Job, i: usize, clock: &mut Clock) -> Result<()> {
        let start = Instant::now();
        self.block = Some(job.decoder.block(i)?);
        self.held = job.holding(i, &self.hidden);
        clock.add(Stage::Read, start, 0.0);
        Ok(())
    }

    /// Passes the activations through block `i`, where they are, to its output, and lets go of it.
    fn leave(&mut self, job: &Job, i: usize, clock: &mut Clock) -> Result<()> {
        let mut block = self.block.take().ok_or_else(|| outside(i))?;
        let mut held = std::mem::take(&mut self.held);
        let along = (&mut self.hidden, &mut held[..]);
        let passed = pass_to_output(job.decoder.as_ref(), (i, block.as_mut()), along, |_| (), clock);
        passed.map_err(|e| job.budget.with_context(e, format_args!("block {i}: the dense path")))
    }

    /// A comparison of both models in block `i`, at the `wanted` fans, by number; `None` where they are not compared.
    pub fn beside(&mut self, job: &Job, i: usize, wanted: Vec<bool>) -> Result<Option<Beside<'_>>> {
        if !self.inside {
            return Ok(None);
        }
        let block = self.block.as_deref().ok_or_else(|| outside(i))?;
        let collector = DriftCollector::new(wanted.len(), job.plan.precision);
        let from = Held::next_fan(&self.held);
        Ok(Some(Beside {
            block,
            hidden: &self.hidden,
            held: &mut self.held,
            wanted,
            collector,
            from,
            number: 0,
            sums: Duration::ZERO,
            operations: 0.0,
        }))
    }
}

fn outside(i: usize) -> Error {
    Error::Plan(format!("block {i}: the dense path is not in it"))
}

/// Passes of both models through a block, as far as the inputs of some fans.
pub(super) struct Beside<'a> {
    block: &'a dyn Block,
    hidden: &'a Hidden,
    held: &'a mut [Held],
    wanted: Vec<bool>,
    collector: DriftCollector,
    /// The first fan that the dense model multiplies with.
    pub from: usize,
    /// The batch that comes next.
    number: usize,
    /// Time that sums took, and their operations.
    pub sums: Duration,
    pub operations: f64,
}

impl Beside<'_> {
    /// Passes the next batch, `h`, through `block` as far as fan `stop`, for `tap`, and the dense model's activations of the same windows
    /// through the dense block.
    pub fn run(
        &mut self,
        (block, h): (&dyn Block, &Tensor),
        stop: usize,
        tap: &mut dyn Tap,
        held: Option<&mut Held>,
    ) -> Result<()> {
        let mut ours = Record::new(tap, &self.wanted);
        block.run(h, &mut Pass::up_to(stop, &mut ours).holding(held))?;
        let ours = ours.finish();
        let mut ignored = ();
        let mut theirs = Record::new(&mut ignored, &self.wanted);
        let dense = self.hidden.batch(self.number)?;
        self.block.run(&dense, &mut Pass::up_to(stop, &mut theirs).holding(self.held.get_mut(self.number)))?;
        let theirs = theirs.finish();
        self.number += 1;
        let start = Instant::now();
        self.operations += self.collector.add(ours, theirs)?;
        self.sums += start.elapsed();
        Ok(())
    }

    /// The drift of each fan.
    pub fn finish(self) -> Vec<Option<Drift>> {
        self.collector.finish(self.hidden.windows())
    }
}
