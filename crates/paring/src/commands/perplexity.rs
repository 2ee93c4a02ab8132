//! Perplexity, block by block: one block in memory at a time.

use std::time::Instant;

use paring_model::decoder::{Block, Decoder};
use serde::Serialize;

use crate::pipeline::activations::Hidden;
use crate::pipeline::budget;
use crate::pipeline::device::DeviceBudget;
use crate::pipeline::walk::{Visitor, walk};
use crate::report::progress::EvalProgress;
use crate::report::progress::Observer;
use crate::report::{Clock, DeviceReport, Stage, peak_rss_mib};
use crate::{Error, Result};
use paring_data::Windows;

/// Bytes of activations that are kept between blocks. More windows than fit pass through the model in several rounds:
/// reading the weights again costs little beside the products of so many tokens.
const HIDDEN_BYTES: usize = 128 << 20;
/// The same for a GPU, whose products take less time than its weights take to get there.
const GPU_HIDDEN_BYTES: usize = 8 << 30;

/// Result of a measurement.
#[derive(Clone, Debug, Serialize)]
pub struct Perplexity {
    /// exp of the mean over windows of the mean negative log-likelihood of a window's `seqlen − 1` predictions.
    pub perplexity: f64,
    /// Device.
    #[serde(flatten)]
    pub place: DeviceReport,
    /// The data set.
    pub dataset: String,
    /// Windows.
    pub windows: usize,
    /// Tokens in all windows.
    pub tokens: usize,
    /// Tokens in a window.
    pub seqlen: usize,
    /// Time it took.
    pub seconds: f64,
    /// Highest resident memory of the process so far.
    pub peak_rss_mib: f64,
}

/// Measures perplexity over non-overlapping windows, as the published codes do: no context is carried over, and the loss
/// is in f32. The device of `budget` is the decoder's. `observer` gets the progress.
pub fn measure(
    decoder: &dyn Decoder,
    budget: &DeviceBudget,
    windows: &Windows,
    dataset: &str,
    clock: &mut Clock,
    observer: &mut dyn Observer,
) -> Result<Perplexity> {
    let start = Instant::now();
    let seqlen = windows.seqlen;
    let window_bytes = seqlen * decoder.hidden_size() * size_of::<f32>();
    let per_round = (hidden_bytes(decoder) / window_bytes).max(1);
    let mut means = Vec::with_capacity(windows.count());
    for ids in windows.ids.chunks(per_round * seqlen) {
        let round = Windows { ids: ids.to_vec(), seqlen, seed: None };
        let first = means.len();
        let hidden =
            Hidden::embed(decoder, &round, budget::to_run(budget, decoder, (round.count(), round.seqlen), None)?);
        let mut hidden = hidden.map_err(|e| e.offset_window(first))?;
        let at = EvalProgress {
            done: first,
            of: windows.count(),
            round: round.count(),
            passed: 0,
            blocks: decoder.blocks(),
        };
        let walked =
            walk(decoder, 0..decoder.blocks(), Some(&mut hidden), &mut RoundObserver { at, observer }, true, clock);
        walked.map_err(|e| e.offset_window(first))?;
        observer.measured(&EvalProgress { passed: at.blocks, ..at });
        let head = Instant::now();
        let mut rest = ids;
        for batch in (0..hidden.batches()).map(|i| hidden.batch(i)) {
            let batch = batch?;
            let (b, _, _) = batch.dims3()?;
            let (now, later) = rest.split_at(b * seqlen);
            rest = later;
            let losses = decoder.nll(&batch, now).map_err(|e| budget.with_context(e.into(), "the head"))?;
            if let Some(at) = losses.iter().position(|loss| !loss.is_finite()) {
                let (window, position) = (means.len() + at / (seqlen - 1), at % (seqlen - 1));
                return Err(Error::Loss { window, position, value: losses[at] });
            }
            for window in losses.chunks_exact(seqlen - 1) {
                means.push(window.iter().map(|&l| f64::from(l)).sum::<f64>() / (seqlen - 1) as f64);
            }
        }
        let work = 2.0 * (decoder.hidden_size() * decoder.vocab_size()) as f64 * ids.len() as f64;
        clock.add(Stage::Head, head, work);
        observer.measured(&EvalProgress { done: means.len(), round: 0, ..at });
    }
    Ok(Perplexity {
        perplexity: (means.iter().sum::<f64>() / means.len() as f64).exp(),
        place: DeviceReport::new(decoder.device())?,
        dataset: dataset.to_string(),
        windows: windows.count(),
        tokens: windows.ids.len(),
        seqlen,
        seconds: start.elapsed().as_secs_f64(),
        peak_rss_mib: peak_rss_mib(),
    })
}

/// Bytes of activations of a round.
pub(super) fn hidden_bytes(decoder: &dyn Decoder) -> usize {
    if decoder.device().is_cpu() { HIDDEN_BYTES } else { GPU_HIDDEN_BYTES }
}

/// Reports the blocks that a round has passed.
pub(crate) struct RoundObserver<'a> {
    /// Progress when the walk begins.
    pub(crate) at: EvalProgress,
    pub(crate) observer: &'a mut dyn Observer,
}

impl Visitor for RoundObserver<'_> {
    fn block(&mut self, i: usize, _: Option<(&mut dyn Block, &Hidden)>, _: &mut Clock) -> Result<()> {
        self.observer.measured(&EvalProgress { passed: self.at.passed + i, ..self.at });
        Ok(())
    }
}
