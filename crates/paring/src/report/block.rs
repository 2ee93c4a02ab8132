//! Blocks as wholes, where a run worked on them as such.

use serde::{Deserialize, Serialize};

/// A block that was trained after its linears were compressed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BlockReport {
    /// Its number, from 0.
    pub block: usize,
    /// The mean squared distance of its output from that of the dense model's block, each token's as a share of its mean square, on
    /// windows that it was not trained on, before training.
    pub before: f64,
    /// The same of what is stored.
    pub after: f64,
    /// Steps that were made.
    pub steps: usize,
    /// The step whose result is stored; 0 where none was better.
    pub kept: usize,
    /// Seconds that it took.
    pub seconds: f64,
}
