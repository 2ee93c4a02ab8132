//! Progress events of a run.

use paring_format::message::Message;

use super::training::{HeldOut, TrainingStep};
use super::{LayerReport, Report, Stage};

/// A piece of work that begins or continues.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step<'a> {
    /// Stage of the work.
    pub stage: Stage,
    /// The block that it belongs to; `None` outside them.
    pub block: Option<usize>,
    /// The linear that it is about, the first if there are several.
    pub module: Option<&'a str>,
    /// Done and total: windows in [`Stage::Gram`] and [`Stage::Forward`], shards in [`Stage::Write`], passes of a step through blocks in
    /// [`Stage::Train`] where no block is named.
    pub count: Option<(usize, usize)>,
}

impl<'a> Step<'a> {
    /// A step of this stage, with nothing else known.
    pub fn new(stage: Stage) -> Self {
        Self { stage, block: None, module: None, count: None }
    }

    /// Sets the block.
    pub fn block(self, i: usize) -> Self {
        Self { block: Some(i), ..self }
    }

    /// Sets the linear.
    pub fn module(self, name: &'a str) -> Self {
        Self { module: Some(name), ..self }
    }

    /// Sets how many are done and how many there are.
    pub fn count(self, done: usize, of: usize) -> Self {
        Self { count: Some((done, of)), ..self }
    }
}

/// Progress of an evaluation over windows, which pass through the blocks a round at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvalProgress {
    /// Windows that are evaluated.
    pub done: usize,
    /// All windows.
    pub of: usize,
    /// Windows of the current round, beyond `done`.
    pub round: usize,
    /// Blocks that the round has passed.
    pub passed: usize,
    /// Blocks that a round passes, those of both models where two are compared.
    pub blocks: usize,
}

impl EvalProgress {
    /// Share of the work that is done, 0 to 1. The head counts as a block.
    pub fn share(&self) -> f64 {
        let passed = self.passed as f64 / (self.blocks + 1) as f64;
        (self.done as f64 + self.round as f64 * passed) / self.of.max(1) as f64
    }
}

/// Estimate of what a run takes.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Estimate {
    /// Seconds.
    pub seconds: f64,
    /// The most resident memory of the process, in bytes.
    pub memory: u64,
    /// The most bytes of tensors on a GPU, where the run has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vram: Option<u64>,
    /// Bytes on the disk of the output.
    pub disk: u64,
    /// Calibration data that takes about a minute, where the run takes long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smaller: Option<SmallerData>,
}

/// Less calibration data, and what a run with it takes.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct SmallerData {
    /// Windows.
    pub nsamples: usize,
    /// Tokens in a window.
    pub seqlen: usize,
    /// Seconds.
    pub seconds: f64,
}

/// The text of a message in the spelling of `observer`.
pub(crate) fn spelled(message: &Message, observer: &dyn Observer) -> String {
    message.spelled(|option| observer.spell(option))
}

/// Notes a message that names options.
pub(crate) fn tell(message: &Message, observer: &mut dyn Observer) {
    let text = spelled(message, observer);
    observer.note(&text);
}

/// Receiver of a run's progress events. `()` ignores them.
pub trait Observer {
    /// The estimate of what the run takes, before it begins, where the request asks for one.
    fn estimated(&mut self, estimate: &Estimate) {
        let _ = estimate;
    }
    /// The run begins: so many blocks, of which an earlier process wrote the first `done`, and linears to compress.
    fn start(&mut self, done: usize, blocks: usize, linears: usize);
    /// A linear was compressed.
    fn linear(&mut self, layer: &LayerReport);
    /// A block was written.
    fn block(&mut self, i: usize);
    /// Something was repaired or deserves attention.
    fn note(&mut self, text: &str);
    /// Spells an option for notes, also those of reports: by its name, or as a program takes it.
    fn spell(&self, option: &str) -> String {
        option.to_string()
    }
    /// Returns true to end the run after the block that was just finished.
    fn stop(&mut self) -> bool {
        false
    }
    /// A piece of work begins or continues. Some take minutes; there is at most one event per batch of windows.
    fn step(&mut self, step: &Step<'_>) {
        let _ = step;
    }
    /// The output is written and checked. A measurement of perplexity may follow.
    fn compressed(&mut self, report: &Report) {
        let _ = report;
    }
    /// A fine-tuning begins or continues after so many steps: all steps, and the numbers that train.
    fn training(&mut self, done: usize, steps: usize, numbers: usize) {
        let _ = (done, steps, numbers);
    }
    /// A step of a fine-tuning was made, of so many.
    fn trained(&mut self, step: &TrainingStep, steps: usize) {
        let _ = (step, steps);
    }
    /// Held-out text was measured in a fine-tuning of so many steps.
    fn held_out(&mut self, measured: &HeldOut, steps: usize) {
        let _ = (measured, steps);
    }
    /// A measurement begins; `what` is its subject, in a word or two.
    fn measuring(&mut self, what: &'static str) {
        let _ = what;
    }
    /// An evaluation over windows has come this far.
    fn measured(&mut self, measured: &EvalProgress) {
        let _ = measured;
    }
}

impl Observer for () {
    fn start(&mut self, _done: usize, _blocks: usize, _linears: usize) {}
    fn linear(&mut self, _layer: &LayerReport) {}
    fn block(&mut self, _i: usize) {}
    fn note(&mut self, _text: &str) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measurement_is_done_by_rounds_and_blocks() {
        let share = |done, round, passed| EvalProgress { done, of: 10, round, passed, blocks: 3 }.share();
        assert_eq!((share(0, 4, 0), share(0, 4, 2), share(4, 4, 1), share(10, 0, 0)), (0.0, 0.2, 0.5, 1.0));
        assert_eq!(EvalProgress { done: 0, of: 0, round: 0, passed: 0, blocks: 0 }.share(), 0.0);
    }
}
