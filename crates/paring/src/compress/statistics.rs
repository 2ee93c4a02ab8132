//! The pass through a block that collects statistics of its inputs.

use std::time::Instant;

use paring_model::{Block, Held, LinearInfo, Pass};

use super::Job;
use super::dense::Beside;
use crate::pipeline::activations::Hidden;
use crate::pipeline::nonfinite;
use crate::pipeline::stats::{Collector, Ranges, Stats};
use crate::pipeline::walk::forward_work;
use crate::plan::Curvature;
use crate::report::progress::{Observer, Step};
use crate::report::{Clock, Stage};
use crate::{Error, Result};

/// The statistics that are needed of a fan's inputs, and their number of features; `None`: nothing.
type Need = Option<(Curvature, usize)>;

impl Job {
    /// The statistics of the inputs of some of block `i`'s linears, as [`Job::collect`] has them.
    pub(super) fn statistics(
        &self,
        i: usize,
        (block, hidden): (&dyn Block, &Hidden),
        (linears, need): (&[LinearInfo], Curvature),
        observer: &mut dyn Observer,
        clock: &mut Clock,
    ) -> Result<Vec<Option<Stats>>> {
        let fans = linears.iter().map(|linear| linear.fan + 1).max().unwrap_or(0);
        let mut shown = vec![None; fans];
        linears.iter().for_each(|linear| shown[linear.fan] = Some((need, linear.cols)));
        self.collect(i, (block, hidden, &mut []), (&shown, None), &mut Ranges::default(), observer, clock)
    }

    /// Runs block `i` on all windows as far as the last of the `fans` of which something is needed, and returns the
    /// statistics of those, one entry per fan. A fan is given as what is needed of it and its number of features. On the
    /// way `ranges` are widened, as far as they are asked for, and `observer` hears how many windows are done. What is `held`
    /// of each batch is not computed again. The dense model may run `beside`.
    pub(super) fn collect(
        &self,
        i: usize,
        (block, hidden, held): (&dyn Block, &Hidden, &mut [Held]),
        (fans, mut beside): (&[Need], Option<&mut Beside<'_>>),
        ranges: &mut Ranges,
        observer: &mut dyn Observer,
        clock: &mut Clock,
    ) -> Result<Vec<Option<Stats>>> {
        let Some(last) = fans.iter().rposition(Option::is_some).max(ranges.last()) else {
            return Ok(vec![None; fans.len()]);
        };
        let (start, gram_before) = (Instant::now(), clock.time(Stage::Gram));
        let failed =
            |error: Error| self.budget.with_context(error, format_args!("block {i}: forward pass and statistics"));
        let products = (self.plan.precision, self.plan.gram_precision);
        let collector = Collector::new(fans, ranges, products, self.decoder.device(), clock);
        let mut collector = collector.map_err(failed)?;
        let mut done = 0;
        let from = Held::next_fan(held);
        let mut batches = held.iter_mut();
        let passed = hidden.each(|batch| {
            observer.step(&Step::new(Stage::Gram).block(i).count(done, hidden.windows()));
            done += batch.dim(0)?;
            match &mut beside {
                Some(beside) => beside.run((block, batch), last, &mut collector, batches.next()),
                None => {
                    block.run(batch, &mut Pass::up_to(last, &mut collector).holding(batches.next()))?;
                    Ok(())
                }
            }
        });
        passed.map_err(failed)?;
        let overflowed = collector.overflowed();
        let stats = collector.finish(hidden.windows()).map_err(failed)?;
        let mut bad = None;
        for (fan, stats) in stats.iter().enumerate().filter(|_| !overflowed) {
            let feature = stats.as_ref().map(Stats::first_bad).transpose()?.flatten();
            bad = bad.or(feature.map(|feature| (fan, feature)));
        }
        if overflowed || bad.is_some() {
            let decoder = self.decoder.as_ref();
            return Err(nonfinite::of_statistics(decoder, (i, block), hidden, self.plan.precision, bad)?);
        }
        let work = |from: usize| forward_work(self.decoder.as_ref(), i, hidden, from..last);
        clock.add(Stage::Forward, start, work(from) + beside.as_ref().map_or(0.0, |beside| work(beside.from)));
        clock.shift(Stage::Forward, clock.time(Stage::Gram) - gram_before);
        if let Some(beside) = beside {
            clock.shift(Stage::Forward, beside.sums);
            clock.put(Stage::Gram, beside.sums, beside.operations);
        }
        Ok(stats)
    }
}
