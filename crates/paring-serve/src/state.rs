//! All that the answers to requests need.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::scheduler::Scheduler;
use crate::words::Words;

/// The state of a server.
pub struct State {
    /// The name of the model.
    pub name: String,
    /// The time of the start, in seconds since 1970.
    pub created: u64,
    /// Tokens in the longest text.
    pub context: usize,
    /// Number of token ids.
    pub vocab: usize,
    /// Tokens that end a text.
    pub eos: Vec<u32>,
    /// The key that clients have to know.
    pub key: Option<String>,
    pub limits: Limits,
    pub words: Words,
    pub scheduler: Scheduler,
    pub metrics: Arc<Metrics>,
    /// True once the server is stopping.
    pub stopping: watch::Receiver<bool>,
}

/// The time in seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
