//! Progress of a command: for people on stderr, for programs in a file of events.

mod downloads;
mod estimate;
mod eta;
mod log;
mod screen;
mod stop;
mod within;
mod words;

use std::time::{Duration, Instant};

use paring::report::progress::Observer;
use paring::report::progress::{Estimate, EvalProgress, Step};
use paring::report::training::{HeldOut, TrainingStep};
use paring::report::{LayerReport, Report, Stage, StageReport, quoted};
use paring::{Error, Result};
use serde_json::{Map, Value, json};

use crate::show::{Channels, Failure};
use paring::report::words::plural;

pub use downloads::Downloads;
pub use log::Log;
pub use stop::{Interrupt, Part, survive_limits};

use eta::Eta;
use screen::Screen;
use stop::{Ending, Stop};
use within::BlockProgress;

/// Between two events about the same step.
const BETWEEN_EVENTS: Duration = Duration::from_secs(1);

/// Time after which the first block's parts are trusted to say how long the rest takes.
const BEFORE_GUESSES: Duration = Duration::from_secs(10);
/// The share of work that is not done yet, at most.
const ALMOST: f64 = 0.999;

/// Shows the progress of a run.
pub struct Progress<'a> {
    screen: Screen,
    log: &'a Log,
    channels: Channels,
    verbose: bool,
    /// Blocks of a model that is compressed, and those of them that were done before.
    blocks: usize,
    first: usize,
    /// Blocks that are done, and the progress inside the one at work.
    done: usize,
    within: BlockProgress,
    stop: Stop,
    /// The name of the measurement.
    what: &'static str,
    eta: Eta,
    /// Windows that were measured when this was last told.
    measured: usize,
    /// True once the header of the table of layers is printed.
    has_header: bool,
    /// The kind and the place of the last step in the log, and when it was written.
    logged: Option<(Stage, Option<usize>, Instant)>,
}

impl<'a> Progress<'a> {
    /// As quiet or verbose as asked for.
    pub fn new(channels: Channels, verbose: bool, log: &'a Log) -> Self {
        Self {
            screen: Screen::new(channels.quiet || log.is_on_stderr()),
            log,
            channels,
            verbose,
            blocks: 0,
            first: 0,
            done: 0,
            within: BlockProgress::new(1.0),
            stop: Stop::default(),
            what: "windows",
            eta: Eta::new(Instant::now(), 0.0),
            measured: 0,
            has_header: false,
            logged: None,
        }
    }

    /// Shows how many blocks of a model were read.
    pub fn reading(&mut self, done: usize, of: usize) {
        let (now, share) = (Instant::now(), done as f64 / of.max(1) as f64);
        if done == 0 {
            self.eta = Eta::new(now, 0.0);
        }
        self.eta.reached(share, now);
        self.screen.reached(&format!("reading block {}/{of}", (done + 1).min(of)), share.min(ALMOST), &self.eta);
    }

    /// Ends a command that has nothing to continue as soon as the user asks for it.
    pub fn end_on_signals(&mut self) -> Result<()> {
        self.listen(None)
    }

    /// Ends a run after the part at work (a block, a step) when the user asks for it.
    pub fn stop_on_signals(&mut self, part: Part) -> Result<()> {
        self.listen(Some((resuming_command(), part)))
    }

    /// Lets ctrl-C end pieces of work one by one.
    pub fn interrupts(&self) -> Result<Interrupt> {
        Interrupt::listen(self.screen.printer(), self.channels)
    }

    fn listen(&mut self, continued_by: Option<(String, Part)>) -> Result<()> {
        let ending = Ending { continued_by, channels: self.channels };
        self.stop = Stop::listen(self.screen.printer(), ending)?;
        Ok(())
    }

    /// The failure of a run, which may have ended because it was asked to.
    pub fn failure(&self, error: Error) -> Failure {
        let (cause, staged) = match &error {
            Error::Beside { error, .. } => (error.as_ref(), true),
            error => (error, false),
        };
        let &Error::Stopped { part, done, of, .. } = cause else { return error.into() };
        let earlier = if staged { "; the earlier output stays as it is" } else { "" };
        let text = format!("stopped after {part} {done} of {of}{earlier}");
        Failure::new(&text, self.stop.code()).continued_by(resuming_command())
    }

    /// The share of all blocks that is done.
    fn share(&self) -> f64 {
        (self.done as f64 + self.within.share()) / self.blocks.max(1) as f64
    }

    /// From now on blocks are compressed.
    fn begin(&mut self) {
        self.eta = Eta::new(Instant::now(), self.share());
    }

    /// Shows progress inside a block.
    fn moved(&mut self, block: usize, now: Instant) {
        let share = self.share();
        // Where no block tells how long one takes, its parts do, once they took a while.
        if self.done == self.first && self.eta.elapsed(now) >= BEFORE_GUESSES {
            self.eta.reached(share, now);
        }
        self.screen.reached(&format!("block {}/{}", block + 1, self.blocks), share.min(ALMOST), &self.eta);
    }

    fn line(&mut self, text: &str) {
        // Events on stderr are not mixed with anything else.
        if !self.log.is_on_stderr() {
            self.screen.line(text);
        }
    }

    /// Prints a line of information, unless the user wants none.
    pub fn say(&mut self, text: &str) {
        if !self.channels.quiet {
            self.line(text);
        }
    }

    /// Prints the time of each stage.
    pub fn stages(&mut self, stages: &[StageReport]) {
        if !self.verbose {
            return;
        }
        self.line(&format!("{:<8} {:>9} {:>11} {:>10}", "stage", "seconds", "GFLOP", "GFLOP/s"));
        for s in stages {
            let rate = s.gigaflop_per_second.map_or(String::new(), |r| format!("{r:.0}"));
            let work = if s.gigaflop > 0.0 { format!("{:.1}", s.gigaflop) } else { String::new() };
            self.line(&format!("{:<8} {:>9.3} {work:>11} {rate:>10}", s.stage, s.seconds));
        }
    }

    /// Takes the bars away.
    pub fn done(&mut self) {
        self.screen.clear();
    }
}

impl Observer for Progress<'_> {
    fn estimated(&mut self, estimate: &Estimate) {
        self.log.event("estimate", json!(estimate));
        self.line(&estimate::sentence(estimate, crate::option));
    }

    fn start(&mut self, done: usize, blocks: usize, linears: usize) {
        (self.first, self.done, self.blocks) = (done, done, blocks);
        self.within = BlockProgress::new(linears as f64 / blocks.max(1) as f64);
        let event = if done > 0 { "resumed" } else { "work" };
        self.log.event(event, json!({"block": done, "blocks": blocks, "linears": linears}));
        self.begin();
        if self.verbose {
            self.line(&format!("{linears} linears in {blocks} blocks"));
        }
        let first = (done + 1).min(blocks);
        self.screen.reached(&format!("block {first}/{blocks}"), self.share().min(ALMOST), &self.eta);
    }

    fn linear(&mut self, layer: &LayerReport) {
        self.log.event("layer", json!({"layer": layer}));
        let now = Instant::now();
        self.within.linear(now);
        self.moved(layer.block, now);
        if self.verbose {
            if !std::mem::replace(&mut self.has_header, true) {
                self.line(&words::layer_header());
            }
            self.line(&words::layer(layer));
        }
    }

    fn block(&mut self, i: usize) {
        let now = Instant::now();
        self.done = i + 1;
        self.within.block(now);
        let share = self.share();
        self.eta.reached(share, now);
        let left = self.eta.at(now).map(|left| left.as_secs_f64());
        self.log.event("block", json!({"block": i, "blocks": self.blocks, "seconds_left": left}));
        self.screen.reached(&format!("block {}/{}", self.done, self.blocks), share, &self.eta);
    }

    fn note(&mut self, text: &str) {
        self.log.event("note", json!({"text": text}));
        if !self.log.is_on_stderr() {
            self.screen.note(text);
        }
    }

    fn spell(&self, name: &str) -> String {
        crate::option(name)
    }

    fn stop(&mut self) -> bool {
        self.stop.is_asked()
    }

    fn step(&mut self, step: &Step<'_>) {
        let now = Instant::now();
        let at = (step.stage, step.block);
        let again = |(stage, block, then): (_, _, Instant)| (stage, block) == at && now - then < BETWEEN_EVENTS;
        // Windows are many; another linear is always an event.
        if step.count.is_none() || !self.logged.is_some_and(again) {
            self.logged = Some((at.0, at.1, now));
            self.log.event("stage", fields(step));
        }
        if step.stage == Stage::Read && step.block == Some(self.first) {
            // Work before the first block, such as activations of a resumed run, says nothing about blocks.
            self.begin();
        }
        match step.count {
            // Where no block is, shards are all there is.
            Some((done, of)) if step.stage == Stage::Write => {
                let share = done as f64 / of.max(1) as f64;
                self.eta.reached(share, now);
                self.screen.reached(&format!("shard {}/{of}", (done + 1).min(of)), share.min(ALMOST), &self.eta);
            }
            _ => {
                // Before the work on blocks begins, some of them may be looked at.
                let block = step.block.filter(|_| self.blocks > 0);
                if let Some(i) = block {
                    self.within.step(step, now);
                    self.moved(i, now);
                }
                let place = block.map_or(String::new(), |i| format!("block {}/{}: ", i + 1, self.blocks));
                self.screen.doing(&place, &words::doing(step));
            }
        }
    }

    fn compressed(&mut self, report: &Report) {
        self.stages(&report.stages);
    }

    fn training(&mut self, done: usize, steps: usize, numbers: usize) {
        let event = if done > 0 { "resumed" } else { "work" };
        self.log.event(event, json!({"step": done, "steps": steps, "numbers": numbers}));
        let now = Instant::now();
        self.eta = Eta::new(now, done as f64 / steps.max(1) as f64);
        self.screen.reached(&format!("step {}/{steps}", (done + 1).min(steps)), 0.0, &self.eta);
    }

    fn trained(&mut self, step: &TrainingStep, steps: usize) {
        let now = Instant::now();
        let share = (step.step + 1) as f64 / steps.max(1) as f64;
        self.eta.reached(share, now);
        let left = self.eta.at(now).map(|left| left.as_secs_f64());
        self.log.event("step", json!({"step": step, "steps": steps, "seconds_left": left}));
        if self.verbose {
            self.line(&words::training(step, steps));
        }
        let text = format!("step {}/{steps}, loss {:.4}", step.step + 1, step.loss);
        self.screen.reached(&text, share.min(ALMOST), &self.eta);
    }

    fn held_out(&mut self, measured: &HeldOut, steps: usize) {
        self.log.event("held_out", json!({"measured": measured, "steps": steps}));
        let HeldOut { steps: made, perplexity } = measured;
        self.say(&format!("after {made} of {steps} steps: held-out perplexity {perplexity:.3}"));
    }

    fn measuring(&mut self, what: &'static str) {
        (self.what, self.measured, self.blocks) = (what, 0, 0);
        self.eta = Eta::new(Instant::now(), 0.0);
    }

    fn measured(&mut self, measured: &EvalProgress) {
        let &EvalProgress { done, of, passed, blocks, round } = measured;
        let (now, share) = (Instant::now(), measured.share());
        self.eta.reached(share, now);
        if done > self.measured {
            let left = self.eta.at(now).map(|left| left.as_secs_f64());
            self.log.event("window", json!({"what": self.what, "done": done, "of": of, "seconds_left": left}));
        }
        self.measured = done;
        let percent = (100.0 * share).floor();
        self.screen.reached(&format!("{}, {percent} %", self.what), share, &self.eta);
        if round > 0 {
            let text = format!("{}, block {}/{blocks}", plural(round, "window"), (passed + 1).min(blocks));
            self.screen.doing("", &text);
        }
    }
}

/// The command line that continues this run.
fn resuming_command() -> String {
    let mut words: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    if !words.iter().any(|word| word == "--resume") {
        words.push("--resume".to_string());
    }
    quoted(&words)
}

/// A step as the fields of an event; those that it does not have are left out.
fn fields(step: &Step<'_>) -> Value {
    let mut fields = Map::new();
    let mut insert = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            fields.insert(name.to_string(), value);
        }
    };
    insert("stage", Some(step.stage.name().into()));
    insert("block", step.block.map(Value::from));
    insert("module", step.module.map(Value::from));
    insert("done", step.count.map(|(done, _)| done.into()));
    insert("of", step.count.map(|(_, of)| of.into()));
    Value::Object(fields)
}
