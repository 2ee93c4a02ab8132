//! The work of measuring which settings linears get.

use super::sheet::Sheet;
use super::work::Work;
use crate::compress::{Job, effort, measuring_windows};
use crate::report::Stage;

/// Numbers of what is measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measures {
    /// Windows that statistics are of, and tokens in each.
    windows: [usize; 2],
    /// Sweeps of all linears.
    sweeps: f64,
    /// Tokens that go from a block to the end of the model and through its head.
    tokens: usize,
    /// Words of the model.
    vocab: usize,
}

impl Measures {
    /// Those of a job; `None` where nothing is measured before its run.
    pub fn of(job: &Job) -> Option<Self> {
        job.plan.allocation?;
        let windows = measuring_windows(job)?;
        let (sweeps, tokens) = effort(job).unwrap_or((0.0, 0));
        Some(Self { windows: [windows.count(), windows.seqlen], sweeps, tokens, vocab: job.decoder.vocab_size() })
    }
}

impl Sheet<'_> {
    /// The forward passes, the statistics and the sweeps of measuring; `None` where nothing is measured.
    pub(super) fn allocating(&self) -> Option<[Work; 3]> {
        let Measures { windows: [windows, seqlen], sweeps, tokens, vocab } = self.measures?;
        let some = self.with_windows(windows, seqlen);
        let mut forward = some.work(Stage::Forward, true);
        // On average a token of a unit goes through half of the blocks.
        let weights: usize = self.linears().map(|linear| linear.weights()).sum();
        let head = (self.dim * vocab) as f64;
        forward.operations += tokens as f64 * (weights as f64 + 2.0 * head);
        let mut sweep = self.work(Stage::Sweep, true);
        sweep.operations *= sweeps;
        sweep.moved *= sweeps;
        sweep.carried *= sweeps;
        Some([forward, some.work(Stage::Gram, true), sweep])
    }
}
