//! The numbers of a run: `report.json`, described in `docs/report.md`.

mod block;
pub mod choices;
pub mod comparison;
pub mod difference;
pub mod drawing;
mod environment;
pub mod export;
mod file;
pub mod moment;
pub mod names;
pub mod outlier_map;
pub mod progress;
mod size;
mod tasks;
#[cfg(test)]
pub(crate) mod tests;
pub mod training;
pub mod words;

use std::time::{Duration, Instant};

use candle_core::Device;
use paring_kernels::device;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use block::BlockReport;
pub use environment::{Environment, arithmetic, quoted};
pub(crate) use size::stored_bits;
pub use size::{Size, Sizes};
pub use tasks::{Answers, TasksReport};

use crate::Result;
use choices::Choices;

/// Version of the report's form. A reader refuses others.
pub const VERSION: u32 = 1;
/// The share of zeros from which on a model counts as pruned. Rounding to three bits or more makes fewer.
pub const PRUNED: f64 = 0.45;

/// Device of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceReport {
    /// As `--device` takes it: `cpu`, or `cuda:N`.
    pub device: String,
    /// The GPU's name; `cpu` for the CPU.
    pub device_name: String,
    /// Peak of tensors' memory on the GPU, in MiB, since the process began; `None` for the CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_vram_mib: Option<f64>,
}

impl DeviceReport {
    /// Describes this device, now. Errors when its driver does not say its name.
    pub fn new(device: &Device) -> Result<Self> {
        let peak_vram_mib = device::peak(device)?.map(|bytes| bytes as f64 / f64::from(1u32 << 20));
        Ok(Self { device: device::label(device), device_name: device::name(device)?, peak_vram_mib })
    }

    /// In words: the label, and the name of a GPU.
    pub fn words(&self) -> String {
        match self.device == self.device_name {
            true => self.device.clone(),
            false => format!("{} ({})", self.device, self.device_name),
        }
    }

    /// In words: the peak of memory, `resident_mib` on the host.
    pub fn memory(&self, resident_mib: f64) -> String {
        let gpu = self.peak_vram_mib.map_or(String::new(), |mib| format!(" and {mib:.0} MiB on the GPU"));
        format!("{resident_mib:.0} MiB{gpu}")
    }
}

/// A stage of a run's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Reading weights and laying them out for products.
    Read,
    /// Blocks applied to activations.
    Forward,
    /// Gram matrices.
    Gram,
    /// Factors of inverses.
    Factor,
    /// The column sweeps.
    Sweep,
    /// The error of each layer.
    Error,
    /// Codes and floats into bytes.
    Pack,
    /// Shards to disk.
    Write,
    /// The output reopened and compared.
    Check,
    /// Final norm and head.
    Head,
    /// Measuring which setting each linear gets.
    Allocate,
    /// Blocks trained after they were compressed.
    Train,
}

/// Names of the stages, in the order of [`Stage`].
const STAGES: [&str; 12] =
    ["read", "forward", "gram", "factor", "sweep", "error", "pack", "write", "check", "head", "allocate", "train"];

impl Stage {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        STAGES[self as usize]
    }
}

/// Time and operations by stage.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    time: [Duration; STAGES.len()],
    work: [f64; STAGES.len()],
    /// Peak of resident bytes seen in each stage, and of the process at the last look.
    resident: [usize; STAGES.len()],
    highest: usize,
}

impl Clock {
    /// Adds the time since `start` and `operations` (floating-point additions and multiplications) to a stage. Time
    /// inside another stage is subtracted there: [`Clock::shift`]. Reads the process's memory, which takes some 30 µs.
    pub fn add(&mut self, stage: Stage, start: Instant, operations: f64) {
        let stage = stage as usize;
        self.time[stage] += start.elapsed();
        self.work[stage] += operations;
        // A peak that has risen since the last look was in this stage; otherwise its memory is what is resident at its end.
        let (now, highest) = resident();
        self.resident[stage] = self.resident[stage].max(if highest > self.highest { highest } else { now });
        self.highest = highest;
    }

    /// Time of a stage so far.
    pub fn time(&self, stage: Stage) -> Duration {
        self.time[stage as usize]
    }

    /// Subtracts time from a stage that ran around another one.
    pub fn shift(&mut self, stage: Stage, by: Duration) {
        self.time[stage as usize] = self.time[stage as usize].saturating_sub(by);
    }

    /// Adds time and operations to a stage that ran inside another one.
    pub fn put(&mut self, stage: Stage, by: Duration, operations: f64) {
        self.time[stage as usize] += by;
        self.work[stage as usize] += operations;
    }

    /// Starts from the time that stages took earlier, in another process.
    pub(crate) fn restore(&mut self, stages: &[StageReport]) {
        for stage in stages {
            if let Some(at) = STAGES.iter().position(|name| *name == stage.stage) {
                // A negative or non-finite time was edited by hand and harms nothing but the report.
                self.time[at] += Duration::try_from_secs_f64(stage.seconds).unwrap_or_default();
                self.work[at] += stage.gigaflop * 1e9;
                self.resident[at] = self.resident[at].max((stage.peak_rss_mib * f64::from(1u32 << 20)) as usize);
            }
        }
    }

    /// One row per stage that took time.
    pub fn stages(&self) -> Vec<StageReport> {
        (0..STAGES.len())
            .filter(|&i| !self.time[i].is_zero())
            .map(|i| {
                let seconds = self.time[i].as_secs_f64();
                let gigaflop = self.work[i] / 1e9;
                let rate = (self.work[i] > 0.0).then(|| gigaflop / seconds);
                StageReport {
                    stage: STAGES[i].to_string(),
                    seconds,
                    gigaflop,
                    gigaflop_per_second: rate,
                    peak_rss_mib: mib(self.resident[i]),
                }
            })
            .collect()
    }
}

/// Time and work of one stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageReport {
    /// Its name.
    pub stage: String,
    /// Seconds of the main thread.
    pub seconds: f64,
    /// Operations the stage must do, in 10⁹; 0 if they are not what costs.
    pub gigaflop: f64,
    /// Rate reached, in 10⁹ operations a second.
    pub gigaflop_per_second: Option<f64>,
    /// Peak of resident memory in it, in MiB: the process's peak if that rose in it, otherwise what was resident
    /// when a part of it ended.
    pub peak_rss_mib: f64,
}

/// One linear after compression.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerReport {
    /// Module path.
    pub name: String,
    /// Its block, counted from 0.
    pub block: usize,
    /// Its kind: the last component of its path, such as `q_proj`.
    pub kind: String,
    /// The method.
    pub method: String,
    /// The layout that stores it.
    pub format: String,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// Bits on disk per weight, scales and zero points included.
    pub bits: f64,
    /// Share of weights that were exactly zero in the input; 0 in reports of versions that did not count them.
    #[serde(default)]
    pub sparsity_before: f64,
    /// Share of weights that are exactly zero.
    pub sparsity: f64,
    /// Bits per weight by counting what is stored, for SpQR: without padding and shapes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub formula_bits: Option<f64>,
    /// Weights kept exact.
    pub outliers: usize,
    /// tr(ΔW·H·ΔWᵀ)/tr(W·H·Wᵀ); `None` when the method uses no Gram matrix.
    pub error: Option<f64>,
    /// The same for the baseline, which ignores the inputs: weights rounded to nearest on such grids, the smallest
    /// ones removed. `None` if there is no error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline_error: Option<f64>,
    /// True if the baseline is stored, because its error is the smaller one (`--allow-fallback`); `error` is then
    /// the baseline's too.
    #[serde(default)]
    pub fallback: bool,
    /// The damping that was used, as a share of the mean diagonal; `None` when the method has none.
    pub damp: Option<f64>,
    /// Remedies in the factorization of the Gram matrix, in words: more damping than asked for, f64 after f32 failed.
    #[serde(default)]
    pub repairs: Vec<String>,
    /// Input features that were always zero.
    pub dead: usize,
    /// The loss of weights whose scales are too small for the file; `None` where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub underflow: Option<Underflow>,
    /// Steps beyond the published sweep, in their order, and what each changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
    /// Seconds in the sweep.
    pub seconds: f64,
}

/// The error of a linear before and after one step, such as a search of scales or of masks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The step.
    pub step: String,
    /// The error without it, as a share: of tr(W·H·Wᵀ), or for scales of the weights' own squares weighted as the search
    /// weights them.
    pub before: f64,
    /// The error with it.
    pub after: f64,
}

/// Weights that are lost because the file cannot hold scales as small as theirs would have to be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Underflow {
    /// Share of the weights that became 0 by rounding to nearest, and would not with scales that fit.
    pub zeros: f64,
    /// Mean of the relative squared errors of groups of such weights, rounded to nearest.
    pub error: f64,
    /// The same with scales that fit.
    pub usual_error: f64,
}

impl LayerReport {
    /// Its weights. As a float: a report may come from anywhere, and the product may be larger than any memory.
    pub fn weights(&self) -> f64 {
        self.rows as f64 * self.cols as f64
    }
}

/// Perplexity of the input and of the output, on the same tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PerplexityReport {
    /// Perplexity of the input.
    #[serde(deserialize_with = "file::number")]
    pub before: f64,
    /// Perplexity of the output.
    #[serde(deserialize_with = "file::number")]
    pub after: f64,
    /// The data set.
    pub dataset: String,
    /// Windows.
    pub windows: usize,
    /// Tokens in a window.
    pub seqlen: usize,
}

/// A compression run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`VERSION`].
    pub version: u32,
    /// The output folder.
    pub out: String,
    /// The method.
    pub method: String,
    /// Device.
    #[serde(flatten)]
    pub place: DeviceReport,
    /// Start, UTC, as RFC 3339 writes it; that of the resumed run, if it was resumed.
    pub started: String,
    /// Seconds from opening the model to the checked output.
    pub seconds: f64,
    /// Highest resident memory of the process so far, in MiB.
    pub peak_rss_mib: f64,
    /// The words of the command that started it or resumed it; none when no command did.
    pub command: Vec<String>,
    /// Program and machine.
    pub environment: Environment,
    /// All choices, as [`crate::plan::Plan`] writes them.
    pub plan: Value,
    /// Bits on disk per weight of the compressed linears in the input.
    pub bits_before: f64,
    /// Bits on disk per weight of the compressed linears.
    pub bits_per_weight: f64,
    /// Bits per weight by counting what is stored, for SpQR.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub formula_bits: Option<f64>,
    /// Bits per weight by the formula of the published SpQR code, which has 32 bits for an outlier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published_bits: Option<f64>,
    /// Share of zeros in the compressed linears.
    pub sparsity: f64,
    /// Share of weights kept exact.
    pub outlier_share: f64,
    /// Bytes of the tensors of the input.
    pub bytes_in: u64,
    /// Bytes of the tensors of the output.
    pub bytes_out: u64,
    /// Sizes by what the tensors are for.
    pub size: Size,
    /// Perplexity, if it was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub perplexity: Option<PerplexityReport>,
    /// Tasks, if it was judged by any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks: Option<TasksReport>,
    /// Repairs, in words.
    pub notes: Vec<String>,
    /// One entry per compressed linear.
    pub layers: Vec<LayerReport>,
    /// One entry per block that was trained.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocks: Vec<BlockReport>,
    /// Time by stage.
    pub stages: Vec<StageReport>,
}

impl Report {
    /// True if weights were removed, by the run or before it. Zeros that come of rounding do not count.
    pub fn is_pruned(&self) -> bool {
        let zeros: f64 = self.layers.iter().map(|layer| layer.sparsity_before * layer.weights()).sum();
        let weights: f64 = self.layers.iter().map(LayerReport::weights).sum();
        Choices::of(&self.plan).prunes() || zeros >= PRUNED * weights.max(1.0)
    }
}

/// Highest resident memory of this process in MiB, from the system's own accounting; 0 where there is none.
pub fn peak_rss_mib() -> f64 {
    mib(resident().1)
}

fn mib(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1u32 << 20)
}

/// Resident memory of this process now and at its peak, in bytes; 0 if the system does not say.
pub(crate) fn resident() -> (usize, usize) {
    (status("VmRSS:"), status("VmHWM:"))
}

/// Bytes of an entry of the system's accounting.
fn status(key: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix(key));
    let kib = line.and_then(|l| l.split_whitespace().next()?.parse::<usize>().ok());
    kib.unwrap_or(0) * 1024
}
