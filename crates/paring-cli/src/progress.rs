//! Progress on stderr: a bar with the time left on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use paring::compress::Observer;
use paring::hub::Watch;
use paring::report::{LayerReport, StageReport};

use crate::args::Running;
use crate::show;
use crate::stop::Stop;

/// Between two lines about the same file.
const BETWEEN_LINES: Duration = Duration::from_secs(10);

fn bar(template: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template(template);
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// Shows how far a run is.
pub struct Progress {
    bar: Option<ProgressBar>,
    plain: bool,
    verbose: bool,
    blocks: usize,
    start: Instant,
    stop: Stop,
}

impl Progress {
    /// As quiet or verbose as asked for.
    pub fn new(running: &Running) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = (terminal && !running.quiet).then(|| bar("{msg} {bar:30} {pos}/{len}  {elapsed} gone, {eta} left"));
        Self {
            bar,
            plain: !terminal && !running.quiet,
            verbose: running.verbose,
            blocks: 0,
            start: Instant::now(),
            stop: Stop::default(),
        }
    }

    /// Ends the run when `stop` says so.
    pub fn stops(&mut self, stop: Stop) {
        self.stop = stop;
    }

    /// So many of so many windows are measured.
    pub fn windows(&self, done: usize, of: usize) {
        self.step("windows", done, of);
    }

    fn step(&self, what: &str, done: usize, of: usize) {
        if let Some(bar) = &self.bar {
            bar.set_length(of as u64);
            bar.set_position(done as u64);
            bar.set_message(what.to_string());
        } else if self.plain {
            eprintln!("{what} {done}/{of}  {:.1} s", self.start.elapsed().as_secs_f64());
        }
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => eprintln!("{text}"),
        }
    }

    /// Where the time went.
    pub fn stages(&self, stages: &[StageReport]) {
        if !self.verbose {
            return;
        }
        self.line(&format!("{:<8} {:>9} {:>11} {:>10}", "stage", "seconds", "GFLOP", "GFLOP/s"));
        for s in stages {
            let rate = s.gigaflop_per_second.map_or(String::new(), |r| format!("{r:.0}"));
            let work = if s.gigaflop > 0.0 { format!("{:.1}", s.gigaflop) } else { String::new() };
            self.line(&format!("{:<8} {:>9.3} {work:>11} {rate:>10}", s.stage, s.seconds));
        }
    }

    /// Takes the bar away.
    pub fn done(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Observer for Progress {
    fn start(&mut self, blocks: usize, linears: usize) {
        self.blocks = blocks;
        if self.verbose {
            self.line(&format!("{linears} linears in {blocks} blocks"));
        }
    }

    fn linear(&mut self, layer: &LayerReport) {
        if self.verbose {
            let error = layer.error.map_or(String::new(), |e| format!("  error {e:.5}"));
            self.line(&format!(
                "{}  [{}, {}]  {:.3} bits  {:.1} % zero{error}  {:.3} s",
                layer.name,
                layer.rows,
                layer.cols,
                layer.bits,
                100.0 * layer.sparsity,
                layer.seconds
            ));
        }
    }

    fn block(&mut self, i: usize) {
        self.step("blocks", i + 1, self.blocks);
    }

    fn note(&mut self, text: &str) {
        self.line(&format!("note: {text}"));
    }

    fn stop(&mut self) -> bool {
        self.stop.is_asked()
    }
}

/// Shows how far a download is.
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
        Self { bar: (terminal && !quiet).then(|| bar(template)), quiet, last: Instant::now() }
    }
}

impl Watch for Downloads {
    fn bytes(&mut self, file: &str, done: u64, of: u64) {
        if let Some(bar) = &self.bar {
            if bar.message() != file {
                bar.reset();
                bar.set_message(file.to_string());
            }
            bar.set_length(of);
            bar.set_position(done);
        } else if !self.quiet && (done == of || self.last.elapsed() > BETWEEN_LINES) {
            eprintln!("{file}  {} of {}", show::size(done), show::size(of));
            self.last = Instant::now();
        }
    }

    fn note(&mut self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(format!("note: {text}")),
            None if self.quiet => {}
            None => eprintln!("note: {text}"),
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
