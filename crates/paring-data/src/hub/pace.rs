//! The rate of transfers: one that hardly moves is broken off.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use super::settings::Timing;

/// Bytes a second that a transfer brings at least.
const LEAST_RATE: u64 = 1000;

/// A body that fails where it brings fewer than 1,000 bytes a second.
pub(super) struct Paced<R> {
    inner: R,
    timing: Timing,
    /// The beginning of the stretch of time that is measured, and the bytes that it brought.
    since: Instant,
    bytes: u64,
    /// The end of the whole.
    deadline: Option<Instant>,
}

impl<R: Read> Paced<R> {
    pub fn new(inner: R, timing: Timing) -> Self {
        Self { inner, timing, since: Instant::now(), bytes: 0, deadline: None }
    }

    /// With an end to the whole of it, however fast it is.
    pub fn within(self, limit: Duration) -> Self {
        Self { deadline: Instant::now().checked_add(limit), ..self }
    }
}

impl<R: Read> Read for Paced<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let slow = |text: String| Err(io::Error::new(io::ErrorKind::TimedOut, text));
        let read = self.inner.read(buffer)?;
        self.bytes += read as u64;
        let passed = self.since.elapsed();
        if read > 0 && passed >= self.timing.stretch {
            let bytes = self.bytes;
            if bytes < LEAST_RATE.saturating_mul(passed.as_millis() as u64) / 1000 {
                let seconds = passed.as_secs_f64();
                return slow(format!("{bytes} bytes in {seconds:.1} s, expected {LEAST_RATE} a second at least"));
            }
            (self.since, self.bytes) = (Instant::now(), 0);
        }
        if self.deadline.is_some_and(|deadline| Instant::now() > deadline) {
            return slow("it takes too long; try again later".into());
        }
        Ok(read)
    }
}
