//! The schedule by which activations between two blocks are kept on disk.

use std::time::{Duration, Instant};

use paring_format::message;
use paring_format::message::Message;

use crate::Error;
use crate::plan::Opt;

/// By default, runs that take longer keep them.
pub(crate) const LONG: Duration = Duration::from_secs(600);
/// The time between two snapshots, as a multiple of what the last one took: at most a twentieth of a run goes there, and a
/// resumed run recomputes at most that much.
const MIN_INTERVAL_RATIO: u32 = 20;

/// Decides after each block.
pub(super) struct SnapshotSchedule {
    /// True: always; false: never; `None`: in a long run.
    asked: Option<bool>,
    start: Instant,
    last: Option<(Instant, Duration)>,
    /// One could not be written: a run does without them rather than end.
    given_up: bool,
}

impl SnapshotSchedule {
    pub fn new(asked: Option<bool>) -> Self {
        Self { asked, start: Instant::now(), last: None, given_up: false }
    }

    /// Tells whether they are kept now, with `done` of `of` blocks done in this process.
    pub fn is_due(&self, done: usize, of: usize) -> bool {
        let gone = self.start.elapsed();
        let since = self.last.map(|(at, took)| (at.elapsed(), took));
        !self.given_up && self.asked.unwrap_or_else(|| is_long(gone, done, of)) && is_time(since)
    }

    /// Notes that they could not be kept, and are not from here on. Returns what to tell about it.
    pub fn give_up(&mut self, error: &Error) -> Message {
        self.given_up = true;
        let left_out = format!("activations are no longer saved, so a resumed run computes them again: {error}");
        match self.asked {
            Some(true) => message![Opt::Resumable, ": "].then(left_out),
            _ => left_out.into(),
        }
    }

    /// Notes that they were kept, which took since `start`.
    pub fn kept(&mut self, start: Instant) {
        self.last = Some((Instant::now(), start.elapsed()));
    }
}

/// Tells whether a run of which `done` of `of` blocks took `gone` is a long one.
fn is_long(gone: Duration, done: usize, of: usize) -> bool {
    gone.as_secs_f64() / done.max(1) as f64 * of as f64 > LONG.as_secs_f64()
}

/// Tells whether it is time again; the last one was this long ago and took this long.
fn is_time(last: Option<(Duration, Duration)>) -> bool {
    last.is_none_or(|(since, took)| since >= took.saturating_mul(MIN_INTERVAL_RATIO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_runs_keep_them_now_and_then() {
        let seconds = Duration::from_secs;
        for (gone, done, of, long) in [(20, 1, 30, false), (21, 1, 30, true), (40, 2, 30, false), (700, 30, 30, true)] {
            assert_eq!(is_long(seconds(gone), done, of), long, "{gone} s for {done} of {of}");
        }
        assert!(is_time(None));
        assert!(!is_time(Some((seconds(39), seconds(2)))));
        assert!(is_time(Some((seconds(40), seconds(2)))));
    }

    #[test]
    fn a_choice_is_followed() {
        let mut schedule = SnapshotSchedule::new(Some(true));
        assert!(schedule.is_due(1, 2));
        schedule.last = Some((Instant::now(), Duration::from_secs(3600)));
        assert!(!schedule.is_due(2, 2));
        assert!(!SnapshotSchedule::new(Some(false)).is_due(1, 1_000_000));
        assert!(!SnapshotSchedule::new(None).is_due(1, 1));
        for (asked, words) in
            [(Some(true), "resumable: activations are no longer"), (None, "activations are no longer")]
        {
            let mut schedule = SnapshotSchedule::new(asked);
            let note = schedule.give_up(&Error::Plan("the disk is full".into())).to_string();
            assert!(note.starts_with(words) && note.ends_with(": the disk is full"), "{note}");
            assert!(!schedule.is_due(1, 1_000_000));
        }
    }
}
