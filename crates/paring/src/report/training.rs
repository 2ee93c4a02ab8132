//! The numbers of a fine-tuning.

use std::path::{Path, PathBuf};

use paring_format::files;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::names::{REPORT, TRAINING};
use super::{Environment, Report, file};
use crate::{Error, Result};

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
    /// The choices that decide the output, with what stands for the contents of model and data.
    #[serde(default)]
    pub identity: Value,
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
    /// The report's file in an output folder; the file itself where that is named.
    pub fn path(path: &Path) -> PathBuf {
        if path.is_dir() { path.join(TRAINING) } else { path.to_path_buf() }
    }

    /// The report of a training in this folder, if there is no report of a run; `None` where there is none.
    ///
    /// # Errors
    /// When it is not what a training writes.
    pub fn beside(path: &Path) -> Result<Option<Self>> {
        let file = Self::path(path);
        let is_training = file.file_name().is_some_and(|name| name == TRAINING) && file.is_file();
        if !is_training
            || Report::path(path).file_name().is_some_and(|name| name == REPORT) && path.join(REPORT).is_file()
        {
            return Ok(None);
        }
        let bytes = files::read(&file, files::LISTS)?;
        let read = serde_json::from_slice(&bytes);
        read.map(Some)
            .map_err(|error| Error::content(file.display().to_string(), format!("not what a training writes: {error}")))
    }

    /// The measurement with the least perplexity; `None` where nothing was measured.
    pub fn best(&self) -> Option<&HeldOut> {
        self.held_out.iter().min_by(|a, b| a.perplexity.total_cmp(&b.perplexity))
    }
}
