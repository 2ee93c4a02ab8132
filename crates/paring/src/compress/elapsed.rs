//! Time and memory of a run, with those of the processes that it was resumed from.

use std::time::{Duration, Instant};

use crate::report::{moment, peak_rss_mib};

pub(super) struct Elapsed {
    /// The moment at which this process began.
    pub started: String,
    since: Instant,
    /// Seconds of earlier processes, and the most memory of one.
    earlier: (f64, f64),
}

impl Elapsed {
    pub fn start() -> Self {
        Self { started: moment::now(), since: Instant::now(), earlier: (0.0, 0.0) }
    }

    /// Leaves out a time that belongs to something else.
    pub fn leave_out(&mut self, time: Duration) {
        self.since += time;
    }

    /// Counts what earlier processes took.
    pub fn resume(&mut self, seconds: f64, peak_rss_mib: f64) {
        self.earlier = (seconds, peak_rss_mib);
    }

    pub fn seconds(&self) -> f64 {
        self.earlier.0 + self.since.elapsed().as_secs_f64()
    }

    pub fn peak_rss_mib(&self) -> f64 {
        self.earlier.1.max(peak_rss_mib())
    }
}
