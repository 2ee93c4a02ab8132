//! The numbers of a fine-tuning.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Environment;
use super::file;

/// Results of a step of the optimizer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingStep {
    /// Its number, from 0.
    pub step: usize,
    /// The loss before it.
    #[serde(deserialize_with = "file::number")]
    pub loss: f64,
    /// Mean cross-entropy of the tokens that were learned.
    #[serde(deserialize_with = "file::number")]
    pub cross_entropy: f64,
    /// T² times the mean divergence from the teacher, 0 where it is no part of the loss.
    #[serde(default)]
    pub divergence: f64,
    /// The sum over blocks of the states' distances from the teacher's, 0 where they are no part of the loss.
    #[serde(default)]
    pub states: f64,
    /// Tokens that were learned.
    pub learned: usize,
    /// The norm of all gradients.
    #[serde(deserialize_with = "file::number")]
    pub gradient_norm: f64,
    /// The rate.
    #[serde(deserialize_with = "file::number")]
    pub rate: f64,
}

/// A measurement on text that nothing was trained on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeldOut {
    /// Steps that were made before it.
    pub steps: usize,
    /// exp of the mean cross-entropy.
    #[serde(deserialize_with = "file::number")]
    pub perplexity: f64,
}

/// A fine-tuning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingReport {
    /// 1.
    pub version: u32,
    /// The output folder.
    pub out: String,
    /// Start, UTC, as RFC 3339 writes it; that of the resumed run, if it was resumed.
    pub started: String,
    /// Seconds of all processes that worked on it.
    pub seconds: f64,
    /// Highest resident memory of the process so far, in MiB.
    pub peak_rss_mib: f64,
    /// Program and machine.
    pub environment: Environment,
    /// All choices.
    pub plan: Value,
    /// Numbers that train.
    pub trained: usize,
    /// Weights of the linears of blocks that are 0 in the input and in the output.
    pub zeros: [usize; 2],
    /// Each step.
    pub steps: Vec<TrainingStep>,
    /// The measurements on held-out text, the first before any step.
    pub held_out: Vec<HeldOut>,
}

impl TrainingReport {
    /// The measurement with the least perplexity; `None` where nothing was measured.
    pub fn best(&self) -> Option<&HeldOut> {
        self.held_out.iter().min_by(|a, b| a.perplexity.total_cmp(&b.perplexity))
    }
}
