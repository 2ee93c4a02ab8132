//! Progress of downloads.

use std::io::IsTerminal;
use std::time::Instant;

use indicatif::ProgressBar;
use paring::report::moment;
use paring_data::hub::DownloadObserver;

use super::screen::{BETWEEN_LINES, bar, styled};
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
        let template = "{msg} {wide_bar} {bytes}/{total_bytes}  {bytes_per_sec}, {eta} left";
        Self { bar: (terminal && !quiet).then(|| bar(styled(template))), quiet, last: Instant::now() }
    }
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
