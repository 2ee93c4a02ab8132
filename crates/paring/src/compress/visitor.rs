//! The visitor that compresses a block: statistics, then fan by fan, then the block's shard.

use std::sync::Arc;
use std::time::Instant;

use paring_format::{Compressed, Values};
use paring_model::fan::Fan;
use paring_model::weight::Dense;
use paring_model::{Block, BlockInfo, LinearInfo};
use rayon::prelude::*;

use super::fallback::{Expected, Judged, Measure};
use super::output::{Encoded, Output};
use super::select::Selection;
use super::snapshots::Keeping;
use super::start::Begin;
use super::{Job, activations};
use crate::methods::{Matrix, Outcome, Prepared, Stored, share_amax};
use crate::output::journal::{Contents, Done, Kept, Line};
use crate::output::modules::kind;
use crate::pipeline::activations::Hidden;
use crate::pipeline::stats::{Ranges, Stats};
use crate::pipeline::walk::Visitor;
use crate::plan::Curvature;
use crate::plan::Recipe;
use crate::report::progress::{Observer, Step, spelled};
use crate::report::{Clock, LayerReport, Stage, peak_rss_mib};
use crate::{Error, Result};

pub(super) struct Compressor<'a> {
    job: &'a Job,
    selection: &'a Selection,
    output: Output,
    observer: &'a mut dyn Observer,
    /// The block at hand.
    block: usize,
    layers: Vec<LayerReport>,
    notes: Vec<String>,
    /// Layers and notes that are in the journal, and blocks that were done before.
    noted: (usize, usize),
    before: usize,
    /// What the shard holds that was closed last.
    contents: Contents,
    /// When the run began, without the time between processes.
    start: Instant,
    earlier: f64,
    peak_rss_mib: f64,
    keeping: Keeping,
}

/// What a walk leaves.
pub(super) struct Walked {
    pub output: Output,
    pub layers: Vec<LayerReport>,
    pub notes: Vec<String>,
}

impl<'a> Compressor<'a> {
    pub(super) fn new(
        job: &'a Job,
        selection: &'a Selection,
        begin: Begin,
        start: Instant,
        observer: &'a mut dyn Observer,
    ) -> Self {
        let (before, earlier, peak_rss_mib) = (begin.blocks(), begin.seconds, begin.peak_rss_mib);
        let Begin { output, layers, notes, .. } = begin;
        Self {
            job,
            selection,
            output,
            observer,
            block: 0,
            noted: (layers.len(), begin.noted),
            layers,
            notes,
            before,
            contents: Contents::default(),
            start,
            earlier,
            peak_rss_mib,
            keeping: Keeping::new(job.resumable),
        }
    }

    pub(super) fn finish(self) -> Walked {
        Walked { output: self.output, layers: self.layers, notes: self.notes }
    }

    /// The number and the recipe of a linear's choice.
    fn choice(&self, name: &str) -> Result<(usize, &'a Recipe)> {
        let plan = &self.job.plan;
        let found = self.selection.choice(name).and_then(|number| Some((number, plan.choice(number)?.recipe)));
        found.ok_or_else(|| Error::Plan(format!("{name}: nothing is chosen for it")))
    }

    fn note(&mut self, text: String) {
        self.observer.note(&text);
        self.notes.push(text);
    }

    /// Compresses the linears of one fan and hands them to the output, with the scales of inputs over `range`; with `swap`,
    /// puts them back into the block. Its inputs are not rounded there: what later blocks and scales see are activations as
    /// they are, as in llm-compressor.
    fn fan(
        &mut self,
        linears: &[LinearInfo],
        stats: Option<Stats>,
        range: Option<[f32; 2]>,
        mut swap: Option<&mut Fan>,
        clock: &mut Clock,
    ) -> Result<()> {
        let chosen: Vec<&LinearInfo> = linears.iter().filter(|l| self.selection.contains(&l.name)).collect();
        for linear in linears.iter().filter(|l| !self.selection.contains(&l.name)) {
            let kept = self.job.checkpoint.read_linear(&linear.name, linear.rows, linear.cols)?;
            self.output.keep(&linear.name, kept)?;
        }
        let Some(first) = chosen.first() else { return Ok(()) };
        let budget = &self.job.budget;
        let failed = |error: Error, doing: &str| budget.with_context(error, format_args!("{}: {doing}", first.name));
        let choices: Vec<(usize, &Recipe)> = chosen.iter().map(|l| self.choice(&l.name)).collect::<Result<_>>()?;
        // The sweep of a linear uses all threads itself; what comes before and after it is done for the linears of the
        // fan at once.
        let start = Instant::now();
        let read = |(linear, (number, _)): (&&LinearInfo, &(usize, &Recipe))| {
            let original = self.job.checkpoint.read_linear(&linear.name, linear.rows, linear.cols)?;
            let stored = self.output.kind(*number)?.stored(original.dtype);
            Ok((original.into_dense(), stored))
        };
        let mut originals: Vec<(Vec<f32>, Stored)> =
            chosen.par_iter().zip(&choices).map(read).collect::<Result<_>>()?;
        share_amax(chosen.iter().zip(&choices).map(|(linear, (_, recipe))| (*linear, *recipe)), &mut originals);
        clock.add(Stage::Read, start, 0.0);

        self.observer.step(&Step::of(Stage::Factor).block(self.block).module(&first.name));
        let start = Instant::now();
        // One preparation serves all linears of a fan that are treated alike, unless it looks at their weights. With each
        // the linear that it was made for; `by` says which one is whose.
        let mut prepared: Vec<(usize, Prepared)> = Vec::new();
        let mut by: Vec<usize> = Vec::with_capacity(chosen.len());
        for (i, (linear, (_, recipe))) in chosen.iter().zip(&choices).enumerate() {
            let same = prepared.iter().position(|(first, _)| choices[*first].1.prepares_like(recipe));
            by.push(same.unwrap_or(prepared.len()));
            if same.is_none() {
                let weight = recipe.prepares_each().then_some(originals[i].0.as_slice());
                let made = recipe.prepare(stats.as_ref(), weight, &linear.name);
                prepared.push((i, made.map_err(|e| failed(e, "factor"))?));
            }
        }
        let of = |i: usize| &prepared[by[i]].1;
        let n = first.cols as f64;
        let work = if matches!(stats, Some(Stats::Gram(_))) { 2.0 / 3.0 * n * n * n } else { 0.0 };
        clock.add(Stage::Factor, start, work * prepared.len() as f64);
        for (which, (_, prepared)) in prepared.iter().enumerate() {
            for text in prepared.repairs() {
                let names = (0..chosen.len()).filter(|&i| by[i] == which).map(|i| chosen[i].name.as_str());
                let names = names.collect::<Vec<_>>().join(", ");
                self.note(format!("{names}: {text}"));
            }
        }

        let start = Instant::now();
        let measuring = || Measure::of(stats.as_ref(), &self.job.plan).map_err(|e| failed(e, "error"));
        let matrix = |i: usize| Matrix { weight: &originals[i].0, stored: originals[i].1, module: &chosen[i].name };
        // Before the sweep, which leaves more behind.
        let mut expected: Vec<Option<Expected>> = vec![None; chosen.len()];
        let measure = measuring()?;
        for (i, expected) in expected.iter_mut().enumerate() {
            let found = measure.as_ref().map(|m| m.expected(choices[i].1, &matrix(i), chosen[i].cols, of(i)));
            *expected = found.transpose().map_err(|e| failed(e, "error of the baseline"))?.flatten();
        }
        // Made again behind the sweep, which needs the memory.
        drop(measure);
        let rows: usize = expected.iter().flatten().map(|expected| expected.rows).sum();
        clock.add(Stage::Error, start, (rows * first.cols * first.cols) as f64);

        let start = Instant::now();
        let square = |(_, l): (usize, &&LinearInfo)| (l.rows * l.cols * l.cols) as f64;
        let work: f64 = chosen.iter().enumerate().filter(|(i, _)| of(*i).damp().is_some()).map(square).sum();
        let mut outcomes: Vec<Outcome> = Vec::with_capacity(chosen.len());
        while outcomes.len() < chosen.len() {
            let first = outcomes.len();
            let (recipe, prepared) = (choices[first].1, of(first));
            // Those that follow and are treated alike, where they are swept faster together.
            let alike = |i: &usize| prepared.prefers_many() && by[*i] == by[first] && choices[*i].0 == choices[first].0;
            let last = (first + 1..chosen.len()).take_while(alike).count() + first + 1;
            self.observer.step(&Step::of(Stage::Sweep).block(self.block).module(&chosen[first].name));
            let matrices: Vec<Matrix<'_>> = (first..last).map(matrix).collect();
            let made = recipe.compress_all(&matrices, chosen[first].cols, prepared);
            outcomes.extend(made.map_err(|e| failed(e, "sweep"))?);
        }
        clock.add(Stage::Sweep, start, work);

        let start = Instant::now();
        let mut judged = vec![Judged::default(); chosen.len()];
        let measure = measuring()?;
        for (i, (judged, outcome)) in judged.iter_mut().zip(&mut outcomes).enumerate() {
            let Some(measure) = &measure else { break };
            let replace = self.job.plan.allow_fallback;
            let found = measure.total(matrix(i).weight).and_then(|total| {
                measure.judge(choices[i].1, &matrix(i), of(i), (expected[i], total), outcome, replace)
            });
            *judged = found.map_err(|e| failed(e, "error"))?;
        }
        // A Gram matrix is the largest thing of a wide fan.
        drop(measure);
        drop(stats);
        clock.add(Stage::Error, start, work);

        let start = Instant::now();
        let (output, precision, swaps) = (&self.output, self.job.plan.precision, swap.is_some());
        let device = self.job.decoder.device();
        let finish = |((linear, outcome), (number, _)): ((&&LinearInfo, &mut Outcome), &(usize, &Recipe))| {
            let zeros = outcome.dense.iter().filter(|&&v| v == 0.0).count();
            if let Some(at) = outcome.dense.iter().position(|v| !v.is_finite()) {
                return Err(Error::Overflow {
                    module: linear.name.clone(),
                    row: at / linear.cols,
                    column: at % linear.cols,
                    value: outcome.dense[at],
                    dtype: outcome.compressed.dtype,
                });
            }
            let encoded = output.encode(*number, &linear.name, &outcome.compressed, &outcome.dense)?;
            let dense = std::mem::take(&mut outcome.dense);
            let weight =
                if swaps { Some(Dense::on(device, linear.rows, linear.cols, dense, precision)?) } else { None };
            Ok((zeros, encoded, weight))
        };
        let finished: Vec<(usize, Encoded, Option<Dense>)> =
            chosen.par_iter().zip(&mut outcomes).zip(&choices).map(finish).collect::<Result<_>>()?;
        for (i, (((linear, outcome), judged), (zeros, encoded, weight))) in
            chosen.into_iter().zip(outcomes).zip(judged).zip(finished).enumerate()
        {
            let Compressed { rows, cols, dtype, values } = &outcome.compressed;
            let (outliers, formula_bits) = match values {
                Values::Spqr(spqr) => (spqr.outliers.at.len(), Some(spqr.formula_bits(*rows, *cols, *dtype))),
                Values::Dense(_) | Values::Codes { .. } => (0, None),
            };
            let count = (linear.rows * linear.cols) as f64;
            let report = LayerReport {
                name: linear.name.clone(),
                block: self.block,
                kind: kind(&linear.name).to_string(),
                method: choices[i].1.method.to_string(),
                format: self.output.kind(choices[i].0)?.layout.name().to_string(),
                rows: linear.rows,
                cols: linear.cols,
                bits: encoded.bytes() as f64 * 8.0 / count,
                sparsity: zeros as f64 / count,
                outliers,
                formula_bits,
                error: judged.error,
                baseline_error: judged.baseline,
                fallback: judged.fallback,
                damp: of(i).damp(),
                repairs: of(i).repairs(),
                dead: of(i).dead(),
                seconds: outcome.seconds,
            };
            self.output.put(encoded);
            if let Some((input, range)) = choices[i].1.input.as_ref().zip(range) {
                self.output.add(activations::of_input(input, &linear.name, range, outcome.compressed.dtype)?);
            }
            if let (Some(fan), Some(weight)) = (swap.as_deref_mut(), weight)
                && let Some(target) = fan.linears.iter_mut().find(|l| l.name == linear.name)
            {
                target.weight = Arc::new(weight);
            }
            self.observer.linear(&report);
            judged.note.into_iter().for_each(|note| self.note(spelled(&note, self.observer)));
            self.layers.push(report);
        }
        clock.add(Stage::Pack, start, 0.0);
        Ok(())
    }
}

impl Visitor for Compressor<'_> {
    fn block(&mut self, i: usize, mut entering: Option<(&mut dyn Block, &Hidden)>, clock: &mut Clock) -> Result<()> {
        self.block = i;
        let BlockInfo { linears, attention, .. } = self.job.decoder.block_info(i);
        let output_fan = attention.output_fan;
        let fans = linears.iter().map(|l| l.fan + 1).max().unwrap_or(0);
        let of_fan = |f: usize| linears.iter().filter(|l| l.fan == f).cloned().collect::<Vec<_>>();
        // What is needed of each fan that has something to compress, and its features.
        let mut wanted: Vec<Option<(Curvature, usize)>> = vec![None; fans];
        for linear in linears.iter().filter(|l| self.selection.contains(&l.name)) {
            let need = self.choice(&linear.name)?.1.info().curvature;
            let before = wanted[linear.fan].map_or(Curvature::Flat, |(need, _)| need);
            wanted[linear.fan] = Some((need.max(before), linear.cols)).filter(|(need, _)| *need != Curvature::Flat);
        }
        let stored = |recipe: &Recipe| recipe.input.as_ref().is_some_and(activations::is_stored);
        let mut with_scales = vec![false; fans];
        for linear in linears.iter().filter(|l| self.selection.contains(&l.name)) {
            with_scales[linear.fan] |= stored(self.choice(&linear.name)?.1);
        }
        let step = if self.job.plan.true_sequential { 1 } else { fans.max(1) };
        for first in (0..fans).step_by(step) {
            let group = first..(first + step).min(fans);
            let mut stats: Vec<Option<Stats>> = vec![None; fans];
            let asked = |f: usize| with_scales[f] && group.contains(&f);
            let mut ranges = Ranges {
                fans: (0..fans).map(|f| asked(f).then_some([0.0; 2])).collect(),
                cache: self.job.plan.kv_cache.as_ref().filter(|_| group.contains(&output_fan)).map(|_| [[0.0; 2]; 2]),
                output_fan,
            };
            if let Some((block, hidden)) = &entering {
                let shown: Vec<Option<(Curvature, usize)>> =
                    wanted.iter().enumerate().map(|(f, fan)| fan.filter(|_| group.contains(&f))).collect();
                stats = self.job.collect(i, (&**block, hidden), &shown, &mut ranges, self.observer, clock)?;
            }
            if let Some((args, seen)) = self.job.plan.kv_cache.as_ref().zip(ranges.cache) {
                self.output.add(activations::of_cache(args, &attention.module, seen, self.job.float_type())?);
            }
            for f in group {
                let list = of_fan(f);
                match &mut entering {
                    Some((block, _)) => {
                        let mut fans = block.fans();
                        let (stats, range) = (stats[f].take(), ranges.fans[f]);
                        self.fan(&list, stats, range, Some(fans.swap_remove(f)), clock)?;
                    }
                    None => self.fan(&list, None, None, None, clock)?,
                }
            }
        }
        self.observer.step(&Step::of(Stage::Write).block(i));
        let start = Instant::now();
        for name in self.job.decoder.rest_names(i) {
            self.output.copy(&self.job.checkpoint, &name)?;
        }
        self.contents = self.output.close_shard()?;
        clock.add(Stage::Write, start, 0.0);
        self.observer.block(i);
        Ok(())
    }

    fn after_block(&mut self, i: usize, leaving: Option<&Hidden>, clock: &mut Clock) -> Result<()> {
        let (start, blocks) = (Instant::now(), self.job.decoder.blocks());
        let (done, of) = (i + 1 - self.before, blocks - self.before);
        let hidden = match leaving.filter(|_| self.keeping.is_due(done, of)) {
            None => None,
            Some(hidden) => {
                let kept = hidden.keep(&self.job.out, i + 1, self.job.decoder.hidden_size())?;
                self.keeping.kept(start);
                Some(Kept::from(kept))
            }
        };
        clock.add(Stage::Write, start, 0.0);
        let contents = std::mem::take(&mut self.contents);
        let (layers, notes) = (self.layers[self.noted.0..].to_vec(), self.notes[self.noted.1..].to_vec());
        self.noted = (self.layers.len(), self.notes.len());
        let seconds = self.earlier + self.start.elapsed().as_secs_f64();
        let (stages, peak_rss_mib) = (clock.stages(), self.peak_rss_mib.max(peak_rss_mib()));
        let start = Instant::now();
        self.output.note(move |shard| {
            let shard = shard?.into();
            let done = Done { block: i, shard, hidden, contents, layers, notes, stages, seconds, peak_rss_mib };
            Some(Line::Block(Box::new(done)))
        })?;
        clock.add(Stage::Write, start, 0.0);
        match self.observer.stop() && i + 1 < blocks {
            true => Err(Error::Stopped { out: self.job.out.clone(), done: i + 1, of: blocks }),
            false => Ok(()),
        }
    }

    fn step(&mut self, step: &Step<'_>) {
        self.observer.step(step);
    }
}
