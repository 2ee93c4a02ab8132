//! Progress on stderr: bars on a terminal, lines elsewhere, or nothing.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use paring::report::moment;
use paring_kernels::threads;

use super::eta::Eta;
use crate::show::amounts::{seconds, time};
use crate::show::paint::{self, Label};
use crate::show::terminal::{cut, one_line, printable};
use crate::show::wrap::{of_stderr, wrapped};
use crate::stderr;

/// Between two lines about the same work.
pub const BETWEEN_LINES: Duration = Duration::from_secs(10);
/// Characters of what is done now: fewer than a narrow terminal has.
const MOST_CHARS: usize = 36;
/// Parts of a bar.
const PARTS: f64 = 10_000.0;

/// A bar on stderr.
pub fn bar(style: ProgressStyle) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    bar.set_style(style);
    bar
}

/// A template as a style.
pub fn styled(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// The form in which progress is shown.
pub enum Screen {
    /// Two lines that are drawn again and again: the whole work, and what is done now.
    Terminal(Bars),
    /// A line now and then, with the time.
    Lines {
        /// Time of the last one.
        last: Instant,
    },
    /// Only what must be said.
    Quiet,
}

impl Screen {
    /// The form that suits stderr, or none if `quiet`.
    pub fn new(quiet: bool) -> Self {
        match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => Screen::Quiet,
            (false, true) => Screen::Terminal(Bars::new()),
            (false, false) => Screen::Lines { last: Instant::now() },
        }
    }

    /// A line that stays, whatever names are in its text.
    pub fn line(&mut self, text: &str) {
        if let Screen::Lines { last } = self {
            *last = Instant::now();
        }
        self.printer().line(text);
    }

    /// A note that stays.
    pub fn note(&mut self, text: &str) {
        self.printer().note(text);
    }

    /// Shows how much of the work is done: in words, as a part of 1, and the time that remains. Without a terminal that is
    /// a line now and then, and one at the end.
    pub fn reached(&mut self, head: &str, share: f64, eta: &Eta) {
        match self {
            Screen::Terminal(bars) => bars.reached(head, share, eta),
            Screen::Lines { last } if share >= 1.0 || last.elapsed() >= BETWEEN_LINES => {
                let now = Instant::now();
                let rest = remaining(eta, now).filter(|_| share < 1.0);
                let rest = rest.map_or(String::new(), |rest| format!(", {rest} left"));
                self.line(&format!("{head}, {}{rest}", seconds(eta.elapsed(now).as_secs_f64())));
            }
            Screen::Lines { .. } | Screen::Quiet => {}
        }
    }

    /// Shows the current step. `place` names its block, for a line that stands alone.
    pub fn doing(&mut self, place: &str, text: &str) {
        match self {
            Screen::Terminal(bars) => bars.doing(text),
            Screen::Lines { last } if last.elapsed() >= BETWEEN_LINES => self.line(&format!("{place}{text}")),
            Screen::Lines { .. } | Screen::Quiet => {}
        }
    }

    /// A printer, also for another thread.
    pub fn printer(&self) -> LinePrinter {
        match self {
            Screen::Terminal(bars) => LinePrinter::Above { bars: bars.all.clone(), shown: bars.shown.clone() },
            Screen::Lines { .. } => LinePrinter::Timed,
            Screen::Quiet => LinePrinter::Plain,
        }
    }

    /// Takes away what is drawn.
    pub fn clear(&mut self) {
        if let Screen::Terminal(bars) = self {
            bars.clear();
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Prints lines while progress is shown.
pub enum LinePrinter {
    /// Above bars, where there are some.
    Above {
        /// The bars.
        bars: MultiProgress,
        /// True while they are drawn.
        shown: Arc<AtomicBool>,
    },
    /// With the time.
    Timed,
    /// Just so.
    Plain,
}

impl LinePrinter {
    /// Prints a line.
    pub fn line(&self, text: &str) {
        self.print(wrapped(&one_line(text), of_stderr()).join("\n"));
    }

    /// Prints a note.
    pub fn note(&self, text: &str) {
        self.print(paint::labelled(Label::Note, text));
    }

    fn print(&self, text: String) {
        match self {
            LinePrinter::Above { bars, .. } => bars.suspend(|| stderr::line(text)),
            LinePrinter::Timed => stderr::line(format_args!("{} {text}", moment::now())),
            LinePrinter::Plain => stderr::line(text),
        }
    }

    /// Takes back the `^C` that a terminal prints where ctrl-C is pressed. Bars end at the last column, so that it began a
    /// line, where the bars would not be found again.
    pub fn unprint_key(&self) {
        if let LinePrinter::Above { shown, .. } = self
            && shown.load(Ordering::Relaxed)
        {
            // A space begins that line where the terminal printed nothing.
            stderr::text(" \r\u{1b}[2K\u{1b}[1A");
        }
    }

    /// Takes bars away, before the process ends.
    pub fn clear(&self) {
        if let LinePrinter::Above { bars, .. } = self {
            // A terminal that is gone shows nothing anyway.
            let _ = bars.clear();
            bars.set_draw_target(ProgressDrawTarget::hidden());
        }
    }
}

/// The time that remains; `None` where it is not known, or a second is more than it.
fn remaining(eta: &Eta, now: Instant) -> Option<String> {
    eta.at(now).filter(|left| left.as_secs_f64() >= 0.5).map(time)
}

/// The time for the end of a bar.
fn clock(eta: &Eta, now: Instant) -> String {
    match remaining(eta, now) {
        Some(left) => format!("{left} left"),
        None if eta.elapsed(now).as_secs() > 0 => format!("{} so far", time(eta.elapsed(now))),
        None => String::new(),
    }
}

/// Draws a bar again every second, as long as there is one. The bar's own way to do so takes it for granted that there is a
/// thread to be had.
fn tick(bar: &ProgressBar) {
    let draw = |bar: indicatif::WeakProgressBar| {
        while let Some(bar) = bar.upgrade().filter(|bar| !bar.is_finished()) {
            bar.tick();
            drop(bar);
            thread::sleep(Duration::from_secs(1));
        }
    };
    // Without one it is drawn when there is news.
    drop(threads::spawn(bar.downgrade(), draw));
}

/// Two lines at the bottom of a terminal.
pub struct Bars {
    all: MultiProgress,
    whole: ProgressBar,
    now: ProgressBar,
    /// The estimate, shared with the thread that draws.
    eta: Arc<Mutex<Option<Eta>>>,
    /// True once there is something to draw.
    shown: Arc<AtomicBool>,
}

impl Bars {
    fn new() -> Self {
        let eta: Arc<Mutex<Option<Eta>>> = Arc::default();
        let seen = eta.clone();
        let time = move |_: &ProgressState, out: &mut dyn std::fmt::Write| {
            let now = Instant::now();
            let eta = seen.lock().unwrap_or_else(PoisonError::into_inner);
            let text = eta.as_ref().map_or(String::new(), |eta| clock(eta, now));
            // Nobody would see an error of a buffer in memory.
            let _ = out.write_str(&text);
        };
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let add = |style: ProgressStyle| all.add(ProgressBar::new(PARTS as u64).with_style(style));
        let whole = add(styled("{prefix} {wide_bar} {time}").with_key("time", time));
        let now = add(styled("  {msg}"));
        Self { all, whole, now, eta, shown: Arc::default() }
    }

    fn reached(&mut self, head: &str, share: f64, eta: &Eta) {
        *self.eta.lock().unwrap_or_else(PoisonError::into_inner) = Some(*eta);
        self.whole.set_prefix(head.to_string());
        self.whole.set_position((share * PARTS) as u64);
        if !self.shown.swap(true, Ordering::Relaxed) {
            // The time that is left runs down by itself.
            tick(&self.whole);
        }
    }

    fn doing(&self, text: &str) {
        self.now.set_message(cut(&printable(text), MOST_CHARS));
    }

    fn clear(&mut self) {
        self.now.finish_and_clear();
        self.whole.finish_and_clear();
        self.shown.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_time_of_no_seconds_is_shown() {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let mut eta = Eta::new(start, 0.0);
        assert_eq!(clock(&eta, after(900)), "");
        assert_eq!(clock(&eta, after(7200)), "7 s so far");
        eta.reached(0.5, after(61_000));
        assert_eq!(clock(&eta, after(61_000)), "1 min 1 s left");
        assert_eq!(clock(&eta, after(121_400)), "1 s left");
        assert_eq!(clock(&eta, after(121_600)), "2 min 2 s so far");
    }
}
