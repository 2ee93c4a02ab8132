//! When the activations between two blocks are kept on disk.

use std::time::{Duration, Instant};

/// A run that takes longer keeps them when nobody says.
pub(crate) const LONG: Duration = Duration::from_secs(600);
/// So many times what keeping them takes passes before they are kept again: at most a twentieth of a run goes there, and
/// whoever goes on runs at most the blocks of that time once more.
const SELDOM: u32 = 20;

/// Says when.
pub(super) struct Keeping {
    /// Whether they are kept at all; `None`: in a long run.
    asked: Option<bool>,
    start: Instant,
    last: Option<(Instant, Duration)>,
}

impl Keeping {
    pub fn new(asked: Option<bool>) -> Self {
        Self { asked, start: Instant::now(), last: None }
    }

    /// Whether they are kept now, with `done` of `of` blocks done in this process.
    pub fn is_due(&self, done: usize, of: usize) -> bool {
        let gone = self.start.elapsed();
        let since = self.last.map(|(at, took)| (at.elapsed(), took));
        self.asked.unwrap_or_else(|| is_long(gone, done, of)) && is_time(since)
    }

    /// They were, since `start`.
    pub fn kept(&mut self, start: Instant) {
        self.last = Some((Instant::now(), start.elapsed()));
    }
}

/// Whether a run of which `done` of `of` blocks took `gone` is a long one.
fn is_long(gone: Duration, done: usize, of: usize) -> bool {
    gone.as_secs_f64() / done.max(1) as f64 * of as f64 > LONG.as_secs_f64()
}

/// Whether it is time again, so long after the last, which took so long.
fn is_time(last: Option<(Duration, Duration)>) -> bool {
    last.is_none_or(|(since, took)| since >= took.saturating_mul(SELDOM))
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
    fn who_is_asked_does_not_guess() {
        let mut keeping = Keeping::new(Some(true));
        assert!(keeping.is_due(1, 2));
        keeping.last = Some((Instant::now(), Duration::from_secs(3600)));
        assert!(!keeping.is_due(2, 2));
        assert!(!Keeping::new(Some(false)).is_due(1, 1_000_000));
        assert!(!Keeping::new(None).is_due(1, 1));
    }
}
