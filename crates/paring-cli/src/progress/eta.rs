//! The estimated time that a run still takes.

use std::time::{Duration, Instant};

/// An estimate from the work that is done: the rest takes as long per part.
#[derive(Clone, Copy, Debug)]
pub struct Eta {
    start: Instant,
    /// The part that was done before.
    first: f64,
    /// The last moment at which something was known, and what was left then.
    known: Option<(Instant, Duration)>,
}

impl Eta {
    /// Begins at `start` with the part `first`, 0 to 1, already done.
    pub fn new(start: Instant, first: f64) -> Self {
        Self { start, first, known: None }
    }

    /// At `now` the part `share`, 0 to 1, is done.
    pub fn reached(&mut self, share: f64, now: Instant) {
        let done = share - self.first;
        if done > 0.0 {
            let elapsed = now.saturating_duration_since(self.start).as_secs_f64();
            let left = elapsed * (1.0 - share).max(0.0) / done;
            self.known = Duration::try_from_secs_f64(left).ok().map(|left| (now, left));
        }
    }

    /// Time that remains at `now`; `None` before anything was done.
    pub fn at(&self, now: Instant) -> Option<Duration> {
        self.known.map(|(then, left)| left.saturating_sub(now.saturating_duration_since(then)))
    }

    /// Time elapsed at `now`.
    pub fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_as_slow_as_what_was_done() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut eta = Eta::new(start, 0.0);
        assert_eq!(eta.at(after(5)), None);
        eta.reached(0.25, after(10));
        assert_eq!(eta.at(after(10)), Some(Duration::from_secs(30)));
        // It runs down between two parts, and not below nothing.
        assert_eq!(eta.at(after(14)), Some(Duration::from_secs(26)));
        assert_eq!(eta.at(after(99)), Some(Duration::ZERO));
        eta.reached(1.0, after(40));
        assert_eq!(eta.at(after(40)), Some(Duration::ZERO));
        // What an earlier process did says nothing about this one's speed.
        let mut resumed = Eta::new(start, 0.5);
        resumed.reached(0.5, after(3));
        assert_eq!(resumed.at(after(3)), None);
        resumed.reached(0.75, after(10));
        assert_eq!(resumed.at(after(10)), Some(Duration::from_secs(10)));
        assert_eq!(resumed.elapsed(after(10)), Duration::from_secs(10));
    }
}
