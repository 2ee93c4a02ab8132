//! Progress of a command: for people on stderr, for programs in a file of events.

mod downloads;
mod eta;
mod log;
mod screen;
mod stop;
mod words;

use std::time::{Duration, Instant};

use paring::Result;
use paring::report::progress::Observer;
use paring::report::progress::{EvalProgress, Step};
use paring::report::{LayerReport, Report, Stage, StageReport};
use serde_json::{Map, Value, json};

pub use downloads::Downloads;
pub use log::Log;
use screen::LinePrinter;
use stop::Stop;
pub use stop::survive_limits;

use eta::Eta;
use screen::Screen;

/// Between two events about the same step.
const BETWEEN_EVENTS: Duration = Duration::from_secs(1);

/// Shows the progress of a run.
pub struct Progress<'a> {
    screen: Screen,
    log: &'a Log,
    verbose: bool,
    /// Blocks of a model that is compressed, and those of them that were done before.
    blocks: usize,
    first: usize,
    stop: Stop,
    /// The name of the measurement.
    what: &'static str,
    eta: Eta,
    /// Windows that were measured when this was last told.
    measured: usize,
    /// The kind and the place of the last step in the log, and when it was written.
    logged: Option<(Stage, Option<usize>, Instant)>,
}

impl<'a> Progress<'a> {
    /// As quiet or verbose as asked for.
    pub fn new(quiet: bool, verbose: bool, log: &'a Log) -> Self {
        Self {
            screen: Screen::new(quiet || log.is_on_stderr()),
            log,
            verbose,
            blocks: 0,
            first: 0,
            stop: Stop::default(),
            what: "windows",
            eta: Eta::new(Instant::now(), 0.0),
            measured: 0,
            logged: None,
        }
    }

    /// Ends the run when the user asks for it.
    pub fn listen(&mut self) -> Result<()> {
        self.stop = Stop::listen(self.screen.printer())?;
        Ok(())
    }

    /// The part of the blocks that `done` are.
    fn share(&self, done: usize) -> f64 {
        done as f64 / self.blocks.max(1) as f64
    }

    /// From now on blocks are compressed.
    fn begin(&mut self) {
        self.eta = Eta::new(Instant::now(), self.share(self.first));
    }

    fn line(&mut self, text: &str) {
        // Events on stderr are not mixed with anything else.
        if !self.log.is_on_stderr() {
            self.screen.line(text);
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
    fn start(&mut self, done: usize, blocks: usize, linears: usize) {
        (self.first, self.blocks) = (done, blocks);
        let event = if done > 0 { "resumed" } else { "work" };
        self.log.event(event, json!({"block": done, "blocks": blocks, "linears": linears}));
        self.begin();
        if self.verbose {
            self.line(&format!("{linears} linears in {blocks} blocks"));
        }
        let first = (done + 1).min(blocks);
        self.screen.reached(&format!("block {first}/{blocks}"), self.share(done), &self.eta, false);
    }

    fn linear(&mut self, layer: &LayerReport) {
        self.log.event("layer", json!({"layer": layer}));
        if self.verbose {
            let error = layer.error.map_or(String::new(), |e| format!("  error {e:.5}"));
            self.line(&format!(
                "{}  [{}, {}]  {:.3} bits  {:.1} % zero{error}  {:.3} s",
                layer.name,
                layer.rows,
                layer.cols,
                layer.bits,
                100.0 * layer.sparsity,
                layer.seconds
            ));
        }
    }

    fn block(&mut self, i: usize) {
        let (done, now) = (i + 1, Instant::now());
        let share = self.share(done);
        self.eta.reached(share, now);
        let left = self.eta.at(now).map(|left| left.as_secs_f64());
        self.log.event("block", json!({"block": i, "blocks": self.blocks, "seconds_left": left}));
        let head = match &self.screen {
            // A bar names the block at work, a line the one that is done.
            Screen::Terminal(_) => (done + 1).min(self.blocks),
            Screen::Lines { .. } | Screen::Quiet => done,
        };
        self.screen.reached(&format!("block {head}/{}", self.blocks), share, &self.eta, true);
    }

    fn note(&mut self, text: &str) {
        self.log.event("note", json!({"text": text}));
        self.line(&format!("note: {text}"));
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
        // Windows are many; that another linear begins is always told.
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
                self.screen.reached(&format!("shard {}/{of}", done + 1), share, &self.eta, false);
            }
            _ => {
                let place = step.block.map_or(String::new(), |i| format!("block {}/{}: ", i + 1, self.blocks));
                self.screen.doing(&place, &words::doing(step));
            }
        }
    }

    fn compressed(&mut self, report: &Report) {
        self.stages(&report.stages);
    }

    fn measuring(&mut self, what: &'static str) {
        (self.what, self.measured, self.blocks) = (what, 0, 0);
        self.eta = Eta::new(Instant::now(), 0.0);
    }

    fn measured(&mut self, measured: &EvalProgress) {
        let &EvalProgress { done, of, passed, blocks, round } = measured;
        let (now, share) = (Instant::now(), measured.share());
        self.eta.reached(share, now);
        let whole = done > self.measured;
        if whole {
            let left = self.eta.at(now).map(|left| left.as_secs_f64());
            self.log.event("window", json!({"what": self.what, "done": done, "of": of, "seconds_left": left}));
        }
        self.measured = done;
        self.screen.reached(&format!("{} {done}/{of}", self.what), share, &self.eta, whole);
        if round > 0 {
            let text = format!("{round} windows at once, block {}/{blocks}", (passed + 1).min(blocks));
            self.screen.doing("", &text);
        }
    }
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
