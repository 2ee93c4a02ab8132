//! The visitor that compresses a block: statistics, then fan by fan, then the block's shard.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use paring_model::fan::Fan;
use paring_model::{AttentionInfo, Block, BlockInfo, Held, LinearInfo};

use super::dense::{Beside, DensePath};
use super::elapsed::Elapsed;
use super::encode::Encoded;
use super::fan::{Context, Finished, Sink, Stages, Waiting};
use super::output::Output;
use super::select::Selection;
use super::snapshots::SnapshotSchedule;
use super::start::Started;
use super::{Job, activations, train};
use crate::output::journal::{BlockRecord, Contents, Kept, Line};
use crate::pipeline::activations::Hidden;
use crate::pipeline::drift::Drift;
use crate::pipeline::stats::{Ranges, Stats};
use crate::pipeline::walk::Visitor;
use crate::plan::Curvature;
use crate::report::progress::{Observer, Step, spelled};
use crate::report::{BlockReport, Clock, LayerReport, Stage};
use crate::{Error, Result};

pub(super) struct Compressor<'a> {
    job: &'a Job,
    selection: &'a Selection,
    output: Output,
    observer: &'a mut dyn Observer,
    layers: Vec<LayerReport>,
    notes: Vec<String>,
    arithmetic: Vec<String>,
    /// Layers and notes that are in the journal, and blocks that were done before.
    noted: (usize, usize),
    before: usize,
    /// The contents of the shard that was closed last.
    contents: Contents,
    elapsed: Elapsed,
    snapshots: SnapshotSchedule,
    /// Results that passes through the block at hand have left, for each batch.
    held: Vec<Held>,
    /// The dense model's activations, where it runs beside.
    dense: Option<DensePath>,
    /// Linears of the block at hand that are trained before they are written.
    waiting: Vec<Finished>,
    blocks: Vec<BlockReport>,
}

/// The results of a walk apart from its output.
pub(super) struct Walked {
    pub layers: Vec<LayerReport>,
    pub blocks: Vec<BlockReport>,
    pub notes: Vec<String>,
    /// Each arithmetic that computed, from the beginning.
    pub arithmetic: Vec<String>,
    pub elapsed: Elapsed,
}

impl<'a> Compressor<'a> {
    pub(super) fn new(
        job: &'a Job,
        selection: &'a Selection,
        (started, dense): (Started, Option<DensePath>),
        elapsed: Elapsed,
        observer: &'a mut dyn Observer,
    ) -> Self {
        let before = started.blocks();
        let Started { output, layers, blocks, notes, noted, arithmetic, .. } = started;
        Self {
            job,
            selection,
            output,
            observer,
            noted: (layers.len(), noted),
            layers,
            notes,
            arithmetic,
            before,
            contents: Contents::default(),
            elapsed,
            snapshots: SnapshotSchedule::new(job.resumable),
            held: Vec::new(),
            dense,
            waiting: Vec::new(),
            blocks,
        }
    }

    pub(super) fn finish(self) -> (Output, Walked) {
        let Self { output, layers, blocks, notes, arithmetic, elapsed, .. } = self;
        (output, Walked { layers, blocks, notes, arithmetic, elapsed })
    }

    /// The statistics and ranges that a block's fans ask for, of which there are `fans`.
    fn wanted(&self, context: &Context<'_>, linears: &[LinearInfo], fans: usize) -> Result<Wanted> {
        let mut wanted = Wanted { stats: vec![None; fans], ranges: vec![false; fans] };
        for linear in linears.iter().filter(|l| self.selection.contains(&l.name)) {
            let (_, recipe) = context.choice(&linear.name)?;
            let need = self.job.plan.need(recipe);
            let stats = &mut wanted.stats[linear.fan];
            if need != Curvature::Flat && stats.is_none_or(|(before, _)| before < need) {
                *stats = Some((need, linear.cols));
            }
            wanted.ranges[linear.fan] |= recipe.stores_input_scales();
        }
        Ok(wanted)
    }

    /// Compresses the fans of a block that was read, in groups of `step`: what a group has to know is collected when all fans
    /// before it are in the block.
    fn fans(
        &mut self,
        context: Context<'_>,
        BlockInfo { linears, attention, .. }: &BlockInfo,
        entering: &mut Option<(&mut dyn Block, &Hidden)>,
        clock: &mut Clock,
    ) -> Result<()> {
        let count = linears.iter().map(|l| l.fan + 1).max().unwrap_or(0);
        let of_fan = |f: usize| linears.iter().filter(|l| l.fan == f).cloned().collect::<Vec<_>>();
        let wanted = self.wanted(&context, linears, count)?;
        let mut stages = Stages::new(context);
        let step = if self.job.plan.true_sequential { 1 } else { count.max(1) };
        self.held = entering.as_ref().map_or_else(Vec::new, |(_, hidden)| self.job.holding(context.block, hidden));
        for first in (0..count).step_by(step) {
            let group = first..(first + step).min(count);
            let Collected { mut stats, ranges, mut drift } =
                self.collect((context.block, attention), &wanted, &group, entering, clock)?;
            let mut targets: Vec<Option<&mut Fan>> = match entering {
                Some((block, _)) => block.fans().into_iter().map(Some).collect(),
                None => (0..count).map(|_| None).collect(),
            };
            let mut waiting = |f: usize| Waiting {
                linears: of_fan(f),
                stats: stats[f].take(),
                drift: drift.get_mut(f).and_then(Option::take),
                range: ranges.fans[f].filter(|_| targets[f].is_some()),
                target: targets[f].take(),
            };
            let fans = group.clone().map(&mut waiting).collect();
            let following = (group.end < count).then(|| of_fan(group.end));
            stages.pass(fans, following.as_deref(), self, clock)?;
        }
        Ok(())
    }

    /// The statistics of a group of fans and the ranges of their inputs. Adds the scales of the caches, if they are seen on
    /// the way.
    fn collect(
        &mut self,
        (i, AttentionInfo { module, output_fan, .. }): (usize, &AttentionInfo),
        wanted: &Wanted,
        group: &Range<usize>,
        entering: &Option<(&mut dyn Block, &Hidden)>,
        clock: &mut Clock,
    ) -> Result<Collected> {
        let (of_group, output_fan) = (|f: usize| group.contains(&f), *output_fan);
        let fans = wanted.ranges.len();
        let mut ranges = Ranges {
            fans: (0..fans).map(|f| (wanted.ranges[f] && of_group(f)).then_some([0.0; 2])).collect(),
            cache: self.job.plan.kv_cache.as_ref().filter(|_| of_group(output_fan)).map(|_| [[0.0; 2]; 2]),
            output_fan,
        };
        let (mut stats, mut drift) = (vec![None; fans], Vec::new());
        if let Some((block, hidden)) = entering {
            let shown: Vec<Option<(Curvature, usize)>> =
                wanted.stats.iter().enumerate().map(|(f, fan)| fan.filter(|_| of_group(f))).collect();
            let compared = || shown.iter().map(Option::is_some).collect();
            let beside = self.dense.as_mut().map(|dense| dense.beside(self.job, i, compared()));
            let mut beside = beside.transpose()?.flatten();
            let entering = (&**block, *hidden, &mut self.held[..]);
            stats = self.job.collect(i, entering, (&shown, beside.as_mut()), &mut ranges, self.observer, clock)?;
            drift = beside.map_or_else(Vec::new, Beside::finish);
        }
        if let Some((args, seen)) = self.job.plan.kv_cache.as_ref().zip(ranges.cache) {
            self.output.add(activations::of_cache(args, module, seen, self.job.float_type())?);
        }
        Ok(Collected { stats, ranges, drift })
    }

    /// Puts a linear into the open shard.
    fn put(&mut self, finished: Finished) {
        let Finished { encoded, scales, report, note, .. } = finished;
        self.output.put(encoded);
        self.output.add(scales);
        note.into_iter().for_each(|note| Sink::note(self, spelled(&note, self.observer)));
        self.layers.push(report);
    }

    /// Trains the block whose linears wait, puts them into the open shard, and returns the names of the other tensors that
    /// went there.
    fn train(
        &mut self,
        i: usize,
        info: &BlockInfo,
        entering: Option<(&mut dyn Block, &Hidden)>,
        clock: &mut Clock,
    ) -> Result<Vec<String>> {
        let mut linears = std::mem::take(&mut self.waiting);
        let mut vectors = Vec::new();
        if let Some(((block, hidden), dense)) = entering.zip(self.dense.as_ref()).filter(|_| !linears.is_empty()) {
            // Computed with weights that are about to go.
            self.held = Vec::new();
            let job = self.job;
            let encoder = self.output.encoder();
            let made = train::train(
                job,
                (i, info, block),
                (hidden, dense.hidden()),
                (encoder, &mut linears),
                self.observer,
                clock,
            )?;
            vectors = made.vectors;
            self.blocks.push(made.report);
        }
        linears.into_iter().for_each(|linear| self.put(linear));
        let names = vectors.iter().map(|tensor| tensor.name.clone()).collect();
        self.output.add(vectors);
        Ok(names)
    }

    /// Keeps the activations after block `i` on disk, if it is time. Where they do not fit there, a note says so.
    fn keep(&mut self, i: usize, leaving: Option<&Hidden>, clock: &mut Clock) -> Result<Option<Kept>> {
        let (done, of) = (i + 1 - self.before, self.job.decoder.blocks() - self.before);
        let Some(hidden) = leaving.filter(|_| self.snapshots.is_due(done, of)) else { return Ok(None) };
        let start = Instant::now();
        let streams: Vec<&Hidden> = [hidden].into_iter().chain(self.dense.as_ref().map(DensePath::hidden)).collect();
        let kept = Hidden::keep(&streams, self.output.dir(), i + 1, self.job.decoder.hidden_size());
        clock.add(Stage::Write, start, 0.0);
        match kept {
            Ok(kept) => {
                self.snapshots.kept(start);
                Ok(Some(Kept::from(kept)))
            }
            // They only save time, and nothing of them is left.
            Err(error @ Error::Format(_)) => {
                let note = self.snapshots.give_up(&error);
                Sink::note(self, spelled(&note, self.observer));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// The numbers that passes through a block have collected, by number of the fan.
struct Collected {
    stats: Vec<Option<Stats>>,
    ranges: Ranges,
    /// Empty where no dense model runs beside.
    drift: Vec<Option<Drift>>,
}

/// The numbers to collect of the inputs of a block's fans, by number of the fan.
struct Wanted {
    /// Statistics, and features.
    stats: Vec<Option<(Curvature, usize)>>,
    /// True if the least and the largest number are.
    ranges: Vec<bool>,
}

impl Sink for Compressor<'_> {
    fn step(&mut self, step: &Step<'_>) {
        self.observer.step(step);
    }

    fn note(&mut self, text: String) {
        self.observer.note(&text);
        self.notes.push(text);
    }

    fn kept(&mut self, encoded: Encoded) {
        self.output.put_kept(encoded);
    }

    fn finished(&mut self, finished: Finished) {
        self.observer.linear(&finished.report);
        match finished.trains {
            Some(_) => self.waiting.push(finished),
            None => self.put(finished),
        }
    }
}

impl Visitor for Compressor<'_> {
    fn block(&mut self, i: usize, entering: Option<(&mut dyn Block, &Hidden)>, clock: &mut Clock) -> Result<()> {
        let (job, encoder) = (self.job, Arc::clone(self.output.encoder()));
        let context = Context {
            plan: &job.plan,
            selection: self.selection,
            checkpoint: &job.checkpoint,
            masks: job.masks.as_deref(),
            encoder: &encoder,
            budget: &job.budget,
            block: i,
        };
        let (info, mut entering) = (job.decoder.block_info(i), entering);
        if let Some(dense) = &mut self.dense {
            dense.begin(job, i, clock)?;
        }
        self.fans(context, &info, &mut entering, clock)?;
        if let Some(dense) = &mut self.dense {
            // Nobody asks what the last block makes, unless it trains.
            let is_asked = i + 1 < job.decoder.blocks() || !self.waiting.is_empty();
            dense.end(job, i, is_asked, clock)?;
        }
        let trained = self.train(i, &info, entering, clock)?;
        self.observer.step(&Step::new(Stage::Write).block(i));
        let start = Instant::now();
        for name in job.decoder.rest_names(i).iter().filter(|name| !trained.contains(name)) {
            self.output.copy(&job.checkpoint, name)?;
        }
        self.contents = self.output.close_shard()?;
        clock.add(Stage::Write, start, 0.0);
        self.observer.block(i);
        Ok(())
    }

    fn held(&mut self) -> Vec<Held> {
        std::mem::take(&mut self.held)
    }

    fn after_block(&mut self, i: usize, leaving: Option<&Hidden>, clock: &mut Clock) -> Result<()> {
        let blocks = self.job.decoder.blocks();
        let hidden = self.keep(i, leaving, clock)?;
        let contents = std::mem::take(&mut self.contents);
        let (layers, notes) = (self.layers[self.noted.0..].to_vec(), self.notes[self.noted.1..].to_vec());
        self.noted = (self.layers.len(), self.notes.len());
        let trained = self.blocks.last().filter(|report| report.block == i).cloned();
        let (seconds, peak_rss_mib) = (self.elapsed.seconds(), self.elapsed.peak_rss_mib());
        let stages = clock.stages();
        let start = Instant::now();
        self.output.note(move |shard| {
            let shard = shard?.into();
            let record = BlockRecord {
                block: i,
                shard,
                hidden,
                contents,
                layers,
                trained,
                notes,
                stages,
                seconds,
                peak_rss_mib,
            };
            Some(Line::Block(Box::new(record)))
        })?;
        clock.add(Stage::Write, start, 0.0);
        match self.observer.stop() && i + 1 < blocks {
            true => Err(Error::Stopped { out: self.job.out.clone(), part: "block", done: i + 1, of: blocks }),
            false => Ok(()),
        }
    }

    fn step(&mut self, step: &Step<'_>) {
        self.observer.step(step);
    }
}
