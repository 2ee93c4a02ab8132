//! What a run tells of itself while it goes on.

use paring_format::message::Message;

use super::{LayerReport, Report, Stage};

/// A piece of work that begins, or goes on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step<'a> {
    /// What kind of work.
    pub stage: Stage,
    /// The block that it belongs to; `None` outside them.
    pub block: Option<usize>,
    /// The linear that it is about, the first where there are several.
    pub module: Option<&'a str>,
    /// How many are done of how many: windows in [`Stage::Gram`] and [`Stage::Forward`], shards in [`Stage::Write`].
    pub count: Option<(usize, usize)>,
}

impl<'a> Step<'a> {
    /// Of this kind.
    pub fn of(stage: Stage) -> Self {
        Self { stage, block: None, module: None, count: None }
    }

    /// In block `i`.
    pub fn block(self, i: usize) -> Self {
        Self { block: Some(i), ..self }
    }

    /// About this linear.
    pub fn module(self, name: &'a str) -> Self {
        Self { module: Some(name), ..self }
    }

    /// So many of so many are done.
    pub fn count(self, done: usize, of: usize) -> Self {
        Self { count: Some((done, of)), ..self }
    }
}

/// How far a measurement over windows is. They go through the blocks a round at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// Windows that are measured.
    pub done: usize,
    /// All windows.
    pub of: usize,
    /// Windows of the round at work, beyond `done`.
    pub round: usize,
    /// Blocks that the round has passed.
    pub passed: usize,
    /// Blocks that a round passes, those of both models where two are compared.
    pub blocks: usize,
}

impl Measured {
    /// The part of the work that is done, 0 to 1. The head counts as a block.
    pub fn share(&self) -> f64 {
        let passed = self.passed as f64 / (self.blocks + 1) as f64;
        (self.done as f64 + self.round as f64 * passed) / self.of.max(1) as f64
    }
}

/// A message as it is noted for `observer`.
pub(crate) fn spelled(message: &Message, observer: &dyn Observer) -> String {
    message.spelled(|option| observer.spell(option))
}

/// Notes a message that names options.
pub(crate) fn tell(message: &Message, observer: &mut dyn Observer) {
    let text = spelled(message, observer);
    observer.note(&text);
}

/// Hears how far a run is. `()` is the one that ignores.
pub trait Observer {
    /// The run begins: so many blocks, of which an earlier process wrote the first `done`, and linears to compress.
    fn start(&mut self, done: usize, blocks: usize, linears: usize);
    /// A linear was compressed.
    fn linear(&mut self, layer: &LayerReport);
    /// A block was written.
    fn block(&mut self, i: usize);
    /// Something was repaired or deserves attention.
    fn note(&mut self, text: &str);
    /// The way in which notes, also those of reports, write an option: by its name, or as a program takes it.
    fn spell(&self, option: &str) -> String {
        option.to_string()
    }
    /// Whether the run should end behind the block that was just done.
    fn stop(&mut self) -> bool {
        false
    }
    /// A piece of work begins, or goes on. Some take minutes; none is told more than once a batch of windows.
    fn step(&mut self, step: &Step<'_>) {
        let _ = step;
    }
    /// The output is written and checked. A measurement of perplexity may follow.
    fn compressed(&mut self, report: &Report) {
        let _ = report;
    }
    /// A measurement begins: what of, in a word or two.
    fn measuring(&mut self, what: &'static str) {
        let _ = what;
    }
    /// So much of a measurement over windows is done.
    fn measured(&mut self, measured: &Measured) {
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
        let at = |done, round, passed| Measured { done, of: 10, round, passed, blocks: 3 }.share();
        assert_eq!((at(0, 4, 0), at(0, 4, 2), at(4, 4, 1), at(10, 0, 0)), (0.0, 0.2, 0.5, 1.0));
        assert_eq!(Measured { done: 0, of: 0, round: 0, passed: 0, blocks: 0 }.share(), 0.0);
    }
}
