//! Progress of downloads.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressState};
use paring::report::moment;
use paring_data::hub::DownloadObserver;

use super::screen::{BETWEEN_LINES, bar, styled};
use crate::show::amounts::time;
use crate::show::paint::{self, Label};
use crate::show::terminal::printable;
use crate::{show, stderr};

/// Shows the progress of a download.
pub struct Downloads {
    bar: Option<ProgressBar>,
    quiet: bool,
    last: Instant,
}

impl Downloads {
    /// Says nothing at all if `quiet`.
    pub fn new(quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let template = "{msg} {wide_bar} {bytes}/{total_bytes}  {bytes_per_sec}{left}";
        let left = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            // Nobody would see an error of a buffer in memory.
            let _ = out.write_str(&left(state.eta()));
        };
        let style = || styled(template).with_key("left", left);
        Self { bar: (terminal && !quiet).then(|| bar(style())), quiet, last: Instant::now() }
    }
}

/// The time that a download still takes, where that is a second or more.
fn left(eta: Duration) -> String {
    if eta.as_secs_f64() < 0.5 { String::new() } else { format!(", {} left", time(eta)) }
}

impl DownloadObserver for Downloads {
    fn bytes(&mut self, file: &str, done: u64, of: u64) {
        let file = &*printable(file);
        if let Some(bar) = &self.bar {
            if bar.message() != file {
                bar.reset();
                bar.set_message(file.to_string());
            }
            bar.set_length(of);
            bar.set_position(done);
        } else if !self.quiet && (done == of || self.last.elapsed() >= BETWEEN_LINES) {
            stderr::line(format_args!("{} {file}  {} of {}", moment::now(), show::size(done), show::size(of)));
            self.last = Instant::now();
        }
    }

    fn note(&mut self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| stderr::line(paint::labelled(Label::Note, text))),
            None if self.quiet => {}
            None => stderr::line(format_args!("{} {}", moment::now(), paint::labelled(Label::Note, text))),
        }
    }
}

impl Drop for Downloads {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_time_of_no_seconds_is_left() {
        let of = |millis| left(Duration::from_millis(millis));
        assert_eq!((of(400), of(600), of(65_000)), (String::new(), ", 1 s left".into(), ", 1 min 5 s left".into()));
    }
}
