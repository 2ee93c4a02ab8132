//! Progress inside a block, from the steps of its work.

use std::time::{Duration, Instant};

use paring::report::Stage;
use paring::report::progress::Step;

/// The parts of the work on a block, in their order. The pass of the activations through the block before is the first.
const PARTS: usize = 3;
const FORWARD: usize = 0;
const STATISTICS: usize = 1;
const LINEARS: usize = 2;
/// Shares of a block's time that its parts take, as long as no block says how long they take.
const USUAL: [f64; PARTS] = [0.2, 0.4, 0.4];

/// The share of a block that is done. Its parts count by the time that they took in the block before.
#[derive(Clone, Debug)]
pub struct BlockProgress {
    weights: [f64; PARTS],
    /// Linears of a block.
    linears: f64,
    done: [f64; PARTS],
    begun: [bool; PARTS],
    /// Parts that this block turned out not to have.
    skipped: [bool; PARTS],
    time: [Duration; PARTS],
    /// The part at work, and since when.
    at: Option<(usize, Instant)>,
    share: f64,
}

impl BlockProgress {
    /// Of the first block, which has about so many linears.
    pub fn new(linears: f64) -> Self {
        Self {
            weights: USUAL,
            linears: linears.max(1.0),
            done: [0.0; PARTS],
            begun: [false; PARTS],
            skipped: [false; PARTS],
            time: [Duration::ZERO; PARTS],
            at: None,
            share: 0.0,
        }
    }

    /// A step begins.
    pub fn step(&mut self, step: &Step<'_>, now: Instant) {
        let part = match step.stage {
            Stage::Forward => FORWARD,
            Stage::Gram => STATISTICS,
            Stage::Factor | Stage::Sweep => LINEARS,
            _ => return,
        };
        self.enter(part, now);
        if let Some((done, of)) = step.count {
            self.reached(part, done as f64 / of.max(1) as f64);
        }
    }

    /// A linear is done.
    pub fn linear(&mut self, now: Instant) {
        self.enter(LINEARS, now);
        self.reached(LINEARS, self.done[LINEARS] + 1.0 / self.linears);
    }

    /// The block is done, and the next begins.
    pub fn block(&mut self, now: Instant) {
        self.count_time(now);
        let total: f64 = self.time.iter().map(Duration::as_secs_f64).sum();
        if total > 0.0 {
            self.weights = self.time.map(|time| time.as_secs_f64() / total);
        }
        let swept = (self.done[LINEARS] * self.linears).round();
        *self = Self { weights: self.weights, ..Self::new(if swept > 0.0 { swept } else { self.linears }) };
    }

    /// The share, 0 to 1. It never falls within a block.
    pub fn share(&self) -> f64 {
        self.share
    }

    fn count_time(&mut self, now: Instant) {
        if let Some((part, since)) = self.at {
            self.time[part] += now.saturating_duration_since(since);
        }
    }

    /// A part begins: those before it are done, or not done in this block.
    fn enter(&mut self, part: usize, now: Instant) {
        self.count_time(now);
        self.at = Some((part, now));
        self.begun[part] = true;
        for before in 0..part {
            self.skipped[before] |= !self.begun[before];
            self.done[before] = 1.0;
        }
    }

    fn reached(&mut self, part: usize, done: f64) {
        self.done[part] = self.done[part].max(done).min(1.0);
        let counts = |&part: &usize| !self.skipped[part];
        let all: f64 = (0..PARTS).filter(counts).map(|part| self.weights[part]).sum();
        let reached: f64 = (0..PARTS).filter(counts).map(|part| self.weights[part] * self.done[part]).sum();
        if all > 0.0 {
            self.share = self.share.max((reached / all).min(1.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_done_in_parts() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut block = BlockProgress::new(2.0);
        let gram = |done| Step::new(Stage::Gram).block(0).count(done, 4);
        block.step(&Step::new(Stage::Read).block(0), start);
        block.step(&gram(0), start);
        assert_eq!(block.share(), 0.0);
        // The first block follows no other: what it does not have does not count.
        block.step(&gram(2), after(2));
        assert!((block.share() - 0.25).abs() < 1e-9, "{}", block.share());
        block.linear(after(4));
        block.linear(after(8));
        assert_eq!(block.share(), 1.0);
        block.block(after(12));
        // Statistics took a third of the time, and the linears the rest.
        assert_eq!(block.share(), 0.0);
        block.step(&gram(0), after(12));
        block.step(&gram(2), after(13));
        assert!((block.share() - 1.0 / 6.0).abs() < 1e-9, "{}", block.share());
        block.linear(after(14));
        assert!((block.share() - 2.0 / 3.0).abs() < 1e-9, "{}", block.share());
        // Statistics of the next fan take nothing back, nor do more linears than the block before had.
        block.step(&gram(0), after(15));
        (0..3).for_each(|_| block.linear(after(16)));
        assert_eq!(block.share(), 1.0);
    }

    #[test]
    fn a_block_without_activations_is_done_by_its_linears() {
        let now = Instant::now();
        let mut block = BlockProgress::new(4.0);
        block.linear(now);
        assert_eq!(block.share(), 0.25);
        // Blocks that took no time keep the weights.
        block.block(now);
        block.linear(now);
        assert_eq!((block.share(), BlockProgress::new(0.0).share()), (1.0, 0.0));
    }
}
