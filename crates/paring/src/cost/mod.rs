//! Estimate of a run before it begins: bytes and operations as formulas of the shapes.
//!
//! * [`of`]: the bytes of a run's output, operations and bytes of each part, about how long they take here, and the most
//!   memory.
//! * [`device`]: what lies on a GPU at each point of a block, how many windows go through a block together, and where
//!   activations wait.
//! * [`Llama::floor`]: what runs of models that are not at hand cannot be faster than on a card.

mod allocation;
mod floors;
mod memory;
mod rates;
mod sheet;
#[cfg(test)]
mod tests;
mod work;

use serde::Serialize;

use paring_kernels::allocator;

use crate::Result;
use crate::compress::{Job, LONG, can_resume, check_allocation, destination};
use crate::output::side_files::beside;
use crate::pipeline::budget::largest_block;
pub use crate::pipeline::vram::{Device, Part, Pass, Point, device};
use crate::report::progress::{Estimate, SmallerData};
use crate::report::{Stage, resident};
use paring_data::Windows;

use rates::Rates;
use sheet::Sheet;
use work::Work;

pub use floors::{Card, Floor, LLAMAS, Llama};

/// Estimate of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Costs {
    /// Parts of the run, in the order of its report.
    pub stages: Vec<StageCosts>,
    /// Memory of the GPU, when the run has one and runs blocks there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<Device>,
    /// The most bytes of tensors on the GPU at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_vram: Option<u64>,
    /// The most resident memory of the process, pages of files among it, in bytes: within a quarter.
    pub peak_rss: u64,
    /// The moment of the peak, and the memory at it.
    pub peak: Point,
    /// Bytes of the tensors of the output.
    pub bytes_out: u64,
    /// True if these bytes are known: how many outliers a threshold keeps, and how many zeros a model has, shows in its
    /// weights alone. Without a share that was asked for, none are counted.
    pub bytes_out_known: bool,
    /// Bytes that the run needs on the disk of its output, those of an earlier one not deducted.
    pub disk: u64,
    /// Bytes of an earlier output, which stays on that disk until this one is finished.
    pub replaced: u64,
    /// Those of them for activations that a resumed run continues from: two snapshots, while one replaces the other. Where the
    /// disk is full they are left out.
    pub disk_snapshots: u64,
    /// Seconds that the run takes, about.
    pub seconds: f64,
}

/// Estimate of a part of a run.
#[derive(Clone, Debug, Serialize)]
pub struct StageCosts {
    /// Its name, as in the report.
    pub stage: &'static str,
    /// Additions and multiplications.
    pub operations: f64,
    /// Bytes through memory, each operand read once and each result written once.
    pub bytes_moved: f64,
    /// Bytes between host and GPU; 0 without one.
    pub bytes_carried: f64,
    /// Bytes read from files.
    pub bytes_read: f64,
    /// Bytes written to files.
    pub bytes_written: f64,
    /// Seconds, about.
    pub seconds: f64,
}

/// A measurement of a model, before a run and after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measurement {
    /// Tokens that go through its blocks.
    pub tokens: usize,
    /// Tokens that go through its head.
    pub predictions: usize,
    /// Tokens of a text, in the mean.
    pub length: usize,
    /// Passes over the weights.
    pub passes: usize,
}

impl From<&Windows> for Measurement {
    /// The perplexity of windows.
    fn from(windows: &Windows) -> Self {
        let tokens = windows.ids.len();
        Self { tokens, predictions: tokens, length: windows.seqlen, passes: 1 }
    }
}

/// Estimates `job`, if this process runs it next. Writes nothing, and reads no weight; small matrices are tried for
/// half a second to see how fast the machine is. A part `eval` says what is `measured` before and after takes, in
/// [`Costs::seconds`] too; its memory is not looked at.
///
/// # Errors
/// As a run before its work.
pub fn of(job: &Job, measured: &[Measurement]) -> Result<Costs> {
    Ok(assess(job, measured)?.0)
}

/// As [`of`], in short, and with less calibration data where a run takes long.
///
/// # Errors
/// As [`of`].
pub fn estimate(job: &Job, measured: &[Measurement]) -> Result<Estimate> {
    let (Costs { seconds, peak_rss, peak_vram, disk, .. }, smaller) = assess(job, measured)?;
    Ok(Estimate { seconds, memory: peak_rss, vram: peak_vram, disk, smaller })
}

/// Numbers of windows of [`SHORT`] tokens that a run may do with, from the best.
const FEW: [usize; 3] = [64, 32, 16];
/// Tokens of their windows, at most.
const SHORT: usize = 512;
/// Seconds that a run with less data should take at most.
const MINUTE: f64 = 90.0;

/// The most calibration data with which a run of `seconds` takes about a minute, or the least that is of use; `None` where
/// the run is no longer than [`LONG`], or would still take more than half as long.
fn smaller(seconds: f64, sheet: &Sheet<'_>, takes: impl Fn(&Sheet<'_>) -> f64) -> Option<SmallerData> {
    if sheet.windows == 0 || seconds <= LONG.as_secs_f64() {
        return None;
    }
    let seqlen = sheet.seqlen.min(SHORT);
    let of =
        |&nsamples: &usize| SmallerData { nsamples, seqlen, seconds: takes(&sheet.with_windows(nsamples, seqlen)) };
    let all: Vec<SmallerData> = FEW.iter().filter(|&&few| few < sheet.windows).map(of).collect();
    let best = all.iter().find(|data| data.seconds <= MINUTE).or(all.last())?;
    Some(best.clone()).filter(|data| data.seconds < seconds / 2.0)
}

fn assess(job: &Job, measured: &[Measurement]) -> Result<(Costs, Option<SmallerData>)> {
    let selection = job.check()?;
    check_allocation(job, &selection)?;
    let replaced = if can_resume(job) { 0 } else { destination(job)?.check()?.replaced_bytes };
    // Before anything that a run would not do.
    let (base, so_far) = resident();
    let freed = allocator::pooled_bytes();
    let block = largest_block(job.decoder.as_ref());
    let used = match job.budget.bytes().zip(job.windows.as_ref()) {
        None => None,
        Some((bytes, windows)) => Some(device(&job.pass(&block, windows), bytes)?),
    };
    let mut sheet = Sheet::of(job, &selection, used.as_ref().map(|used| used.batch))?;
    if used.as_ref().is_some_and(|used| used.holds_activations) {
        sheet.resident = usize::MAX;
    }
    // A run reads them before its work.
    let companions = beside(&job.checkpoint, job.companions.clone())?;
    let files: usize = companions.iter().map(|(_, bytes)| bytes.len()).sum();
    let mut peak = match &used {
        None => sheet.host_peak(base + files, freed),
        Some(used) => sheet.beside(base, used),
    };
    if so_far as u64 > peak.bytes() {
        // Opening took more than the run will: tokens of a long text, for one.
        peak = Point { at: "open", parts: vec![Part { name: "program and what is open", bytes: so_far as u64 }] };
    }
    // What is tried takes no more memory than the run.
    let room = peak.bytes().saturating_sub(so_far as u64) / 2;
    let rates = Rates::of(job, &selection, &sheet, room)?;
    let parts = |sheet: &Sheet<'_>| parts(sheet, &rates, used.as_ref(), (measured, job.decoder.vocab_size()));
    let stages = parts(&sheet);
    let seconds = total(&stages);
    let smaller = smaller(seconds, &sheet, |sheet| total(&parts(sheet)));
    // Those that were kept last stay until the next are there.
    let keeps = job.resumable.unwrap_or(seconds > LONG.as_secs_f64());
    let tokens = job.windows.as_ref().filter(|_| keeps).map_or(0, |windows| windows.ids.len());
    let snapshots = 2 * (sheet.models() * tokens * job.decoder.hidden_size() * size_of::<f32>()) as u64;
    let costs = Costs {
        seconds,
        stages,
        peak_vram: used.as_ref().map(Device::bytes),
        device: used,
        peak_rss: peak.bytes(),
        peak,
        bytes_out: sheet.written(),
        bytes_out_known: sheet.is_known,
        replaced,
        disk_snapshots: snapshots,
        // While shards are merged, one of them is there twice.
        disk: sheet.written() + sheet.largest_shard() + sheet.spilled() + snapshots + sheet.paper() + files as u64,
    };
    Ok((costs, smaller))
}

/// The seconds of all parts.
fn total(stages: &[StageCosts]) -> f64 {
    stages.iter().map(|stage| stage.seconds).sum()
}

/// The parts of a run; `measured` is what its model is measured by, and the tokens that the model knows.
fn parts(
    sheet: &Sheet<'_>,
    rates: &Rates,
    used: Option<&Device>,
    (measured, vocabulary): (&[Measurement], usize),
) -> Vec<StageCosts> {
    let stage = |stage: Stage| {
        let mut work = sheet.work(stage, used.is_none_or(|used| used.holds_activations));
        work.carried *= f64::from(u8::from(used.is_some()));
        (stage.name(), work, rates.seconds(stage, &work, sheet))
    };
    let mut stages: Vec<_> = work::STAGES.into_iter().map(stage).collect();
    stages.extend(sheet.allocating().map(|[forward, gram, sweep]| {
        let seconds = rates.seconds(Stage::Forward, &forward, sheet)
            + rates.seconds(Stage::Gram, &gram, sheet)
            + rates.seconds(Stage::Sweep, &sweep, sheet);
        let mut work = forward;
        work.add(gram);
        work.add(sweep);
        (Stage::Allocate.name(), work, seconds)
    }));
    if !measured.is_empty() {
        let mut work = Work::default();
        measured.iter().for_each(|measured| work.add(sheet.measuring(measured, vocabulary)));
        stages.push(("eval", work, rates.seconds(Stage::Forward, &work, sheet)));
    }
    let costs = |(stage, work, seconds): (&'static str, Work, f64)| StageCosts {
        stage,
        operations: work.operations,
        bytes_moved: work.moved,
        bytes_carried: work.carried,
        bytes_read: work.read,
        bytes_written: work.written,
        seconds,
    };
    stages.into_iter().map(costs).collect()
}
