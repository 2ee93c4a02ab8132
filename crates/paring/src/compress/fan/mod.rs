//! The stages that a block's fans pass: read, prepare, sweep, judge, store.
//!
//! A linear moves through them by value, in a type of its own after each: `Loaded`, `Ready`, `Swept`, `Judged`, `Finished`.
//! Three fans are on their way at once: while one is swept, the next is read, and the one before is encoded and put into
//! the block. What comes out is in the order of the fans all the same.

mod judge;
mod prepare;
mod read;
mod shift;
mod store;
mod sweep;
#[cfg(test)]
mod tests;

use std::time::Instant;

use paring_format::Checkpoint;
use paring_format::masks::Masks;
use paring_model::LinearInfo;
use paring_model::fan::Fan;

use super::encode::{Encoded, Encoder};
use super::fallback::Measure;
use super::select::Selection;
use crate::pipeline::device::DeviceBudget;
use crate::pipeline::drift::Drift;
use crate::pipeline::stats::Stats;
use crate::plan::{Plan, Recipe};
use crate::report::progress::Step;
use crate::report::{Clock, Stage};
use crate::{Error, Result};

use judge::Judged;
pub(super) use read::zeros;
use read::{Loaded, Read};
pub(super) use store::Finished;

/// The shared inputs of all stages.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub plan: &'a Plan,
    pub selection: &'a Selection,
    pub checkpoint: &'a Checkpoint,
    /// Masks that are given.
    pub masks: Option<&'a Masks>,
    pub encoder: &'a Encoder,
    pub budget: &'a DeviceBudget,
    /// The block at hand.
    pub block: usize,
}

impl<'a> Context<'a> {
    /// The number and the recipe of a linear's choice.
    pub fn choice(&self, name: &str) -> Result<(usize, &'a Recipe)> {
        let found = self.selection.choice(name).and_then(|number| Some((number, self.plan.choice(number)?.recipe)));
        found.ok_or_else(|| Error::Plan(format!("{name}: nothing is chosen for it")))
    }
}

/// A fan that waits for its turn.
pub(super) struct Waiting<'f> {
    pub linears: Vec<LinearInfo>,
    /// Statistics of its inputs.
    pub stats: Option<Stats>,
    /// Their distance from the dense model's, where that runs beside.
    pub drift: Option<Drift>,
    /// The least and the largest of its inputs, where scales are stored for them.
    pub range: Option<[f32; 2]>,
    /// The same fan in the block; `None` where no block was read.
    pub target: Option<&'f mut Fan>,
}

/// Receives what leaves the stages, in the order of the fans.
pub(super) trait Sink {
    /// A piece of work begins.
    fn step(&mut self, step: &Step<'_>);
    /// Something deserves attention.
    fn note(&mut self, text: String);
    /// A linear that is not compressed.
    fn kept(&mut self, encoded: Encoded);
    /// A linear that is done.
    fn finished(&mut self, finished: Finished);
}

/// A fan between its last two stages.
struct Leaving<'a, 'f> {
    kept: Vec<Encoded>,
    judged: Vec<Judged<'a>>,
    range: Option<[f32; 2]>,
    target: Option<&'f mut Fan>,
}

impl Leaving<'_, '_> {
    fn store(self, context: Context<'_>) -> Result<(Vec<Encoded>, Vec<Finished>)> {
        Ok((self.kept, store::store(context, self.judged, self.range, self.target)?))
    }
}

/// The stages of a block.
pub(super) struct Stages<'a> {
    context: Context<'a>,
    /// The fan that comes next, read while the one before it was swept.
    next: Option<Result<Read<'a>>>,
}

impl<'a> Stages<'a> {
    pub fn new(context: Context<'a>) -> Self {
        Self { context, next: None }
    }

    /// Passes fans through all stages, one after the other, and is done when they are in the block. `following` are the
    /// linears of the fan after them, which is read early too.
    pub fn pass(
        &mut self,
        fans: Vec<Waiting<'_>>,
        following: Option<&[LinearInfo]>,
        sink: &mut dyn Sink,
        clock: &mut Clock,
    ) -> Result<()> {
        let context = self.context;
        let mut leaving: Option<Leaving<'_, '_>> = None;
        let mut fans = fans.into_iter().peekable();
        while let Some(Waiting { linears, stats, drift, range, target }) = fans.next() {
            let Read { kept, linears } = match self.arrive(&linears, clock) {
                Ok(read) => read,
                Err(error) => {
                    last(context, leaving, sink, clock)?;
                    return Err(error);
                }
            };
            let coming = fans.peek().map(|fan| fan.linears.as_slice()).or(following);
            let before = leaving.take();
            let (mut notes, mut worked) = (Vec::new(), Instant::now());
            let (next, stored, judged) = overlap(
                coming.map(|linears| move || read::read(context, linears)),
                before.map(|fan| move || fan.store(context)),
                || {
                    let judged = compress(context, linears, (stats, drift), &mut notes, sink, clock);
                    worked = Instant::now();
                    judged
                },
            );
            clock.add(Stage::Pack, worked, 0.0);
            self.next = next;
            if let Some(stored) = stored {
                hand_over(stored?, sink);
            }
            notes.into_iter().for_each(|note| sink.note(note));
            leaving = Some(Leaving { kept, judged: judged?, range, target });
        }
        last(context, leaving, sink, clock)
    }

    /// The fan of these linears, read early or now.
    fn arrive(&mut self, linears: &[LinearInfo], clock: &mut Clock) -> Result<Read<'a>> {
        if let Some(read) = self.next.take() {
            return read;
        }
        let start = Instant::now();
        let read = read::read(self.context, linears);
        clock.add(Stage::Read, start, 0.0);
        read
    }
}

/// Stores a fan that no other follows.
fn last(context: Context<'_>, fan: Option<Leaving<'_, '_>>, sink: &mut dyn Sink, clock: &mut Clock) -> Result<()> {
    let Some(fan) = fan else { return Ok(()) };
    let start = Instant::now();
    hand_over(fan.store(context)?, sink);
    clock.add(Stage::Pack, start, 0.0);
    Ok(())
}

fn hand_over((kept, finished): (Vec<Encoded>, Vec<Finished>), sink: &mut dyn Sink) {
    kept.into_iter().for_each(|encoded| sink.kept(encoded));
    finished.into_iter().for_each(|linear| sink.finished(linear));
}

/// Does `work` on this thread, while other threads of the pool do what reads ahead and what stores the fan before.
fn overlap<N: Send, S: Send, W>(
    next: Option<impl FnOnce() -> N + Send>,
    before: Option<impl FnOnce() -> S + Send>,
    work: impl FnOnce() -> W,
) -> (Option<N>, Option<S>, W) {
    let (mut read, mut stored) = (None, None);
    let worked = rayon::in_place_scope(|scope| {
        if let Some(before) = before {
            scope.spawn(|_| stored = Some(before()));
        }
        if let Some(next) = next {
            scope.spawn(|_| read = Some(next()));
        }
        work()
    });
    (read, stored, worked)
}

/// The stages that use all threads, or the device: prepares, sweeps and judges the linears of a fan.
fn compress<'a>(
    context: Context<'a>,
    linears: Vec<Loaded<'a>>,
    (stats, drift): (Option<Stats>, Option<Drift>),
    notes: &mut Vec<String>,
    sink: &mut dyn Sink,
    clock: &mut Clock,
) -> Result<Vec<Judged<'a>>> {
    let Some(first) = linears.first() else { return Ok(Vec::new()) };
    let (first, plan, stats) = (first.info.name.clone(), context.plan, stats.as_ref());
    let step = |stage: Stage| Step::new(stage).block(context.block);
    let failed = |error: Error, doing: &str| context.budget.with_context(error, format_args!("{first}: {doing}"));

    sink.step(&step(Stage::Factor).module(&first));
    let start = Instant::now();
    let mut ready = prepare::prepare(linears, stats).map_err(|e| failed(e, "factor"))?;
    if let Some((drift, how)) = drift.as_ref().zip(plan.dense_stream) {
        shift::shift(&mut ready, stats, drift, how).map_err(|e| failed(e, "shift"))?;
    }
    drop(drift);
    prepare::foresee_underflow(&mut ready);
    clock.add(Stage::Factor, start, prepare::work(&ready, stats) + shift::work(&ready));
    notes.extend(prepare::repairs(&ready));

    let start = Instant::now();
    let measure = Measure::of(stats, plan).map_err(|e| failed(e, "error"))?;
    prepare::expect(&mut ready, measure.as_ref()).map_err(|e| failed(e, "error of the baseline"))?;
    clock.add(Stage::Error, start, prepare::expected_work(&ready));

    let (start, work) = (Instant::now(), sweep::work(&ready));
    let swept = sweep::sweep(ready, |module| sink.step(&step(Stage::Sweep).module(module)));
    let swept = swept.map_err(|e| failed(e, "sweep"))?;
    clock.add(Stage::Sweep, start, work);

    let start = Instant::now();
    let judged = judge::judge(swept, measure.as_ref(), plan.allow_fallback).map_err(|e| failed(e, "error"))?;
    clock.add(Stage::Error, start, work);
    Ok(judged)
}
