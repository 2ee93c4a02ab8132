//! Progress on stderr: bars on a terminal, lines elsewhere, or nothing.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use paring::report::moment;
use paring_kernels::threads;

use super::eta::Eta;
use super::words;
use crate::show::terminal::{cut, one_line, printable};
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
        let text = &one_line(text);
        match self {
            Screen::Terminal(bars) => bars.line(text),
            Screen::Lines { last } => {
                *last = Instant::now();
                stderr::line(format_args!("{} {text}", moment::now()));
            }
            Screen::Quiet => stderr::line(text),
        }
    }

    /// Shows how much of the work is done: in words, as a part of 1, and the time that remains. `whole` says that a
    /// piece is done that is worth a line.
    pub fn reached(&mut self, head: &str, share: f64, eta: &Eta, whole: bool) {
        match self {
            Screen::Terminal(bars) => bars.reached(head, share, eta),
            Screen::Lines { last } if whole || last.elapsed() >= BETWEEN_LINES => {
                let now = Instant::now();
                let rest = eta
                    .at(now)
                    .filter(|_| share < 1.0)
                    .map_or(String::new(), |rest| format!(", {} left", words::time(rest)));
                self.line(&format!("{head}, {:.1} s{rest}", eta.elapsed(now).as_secs_f64()));
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

    /// A printer for another thread.
    pub fn printer(&self) -> LinePrinter {
        match self {
            Screen::Terminal(bars) => LinePrinter::Above(bars.all.clone()),
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

/// Prints lines from another thread while progress is shown.
pub enum LinePrinter {
    /// Above bars.
    Above(MultiProgress),
    /// With the time.
    Timed,
    /// Just so.
    Plain,
}

impl LinePrinter {
    /// Prints a line.
    pub fn line(&self, text: &str) {
        match self {
            LinePrinter::Above(bars) => bars.suspend(|| stderr::line(text)),
            LinePrinter::Timed => stderr::line(format_args!("{} {text}", moment::now())),
            LinePrinter::Plain => stderr::line(text),
        }
    }

    /// Prints the last line before the process ends.
    pub fn last(&self, text: &str) {
        if let LinePrinter::Above(bars) = self {
            // A terminal that is gone shows nothing anyway.
            let _ = bars.clear();
        }
        stderr::line(text);
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
    shown: bool,
}

impl Bars {
    fn new() -> Self {
        let eta: Arc<Mutex<Option<Eta>>> = Arc::default();
        let seen = eta.clone();
        let time = move |_: &ProgressState, out: &mut dyn std::fmt::Write| {
            let now = Instant::now();
            let eta = seen.lock().unwrap_or_else(PoisonError::into_inner);
            let text = match eta.as_ref().map(|eta| (eta.at(now), eta.elapsed(now))) {
                Some((Some(left), _)) => format!("{} left", words::time(left)),
                Some((None, gone)) => format!("{} gone", words::time(gone)),
                None => String::new(),
            };
            // Nobody would see an error of a buffer in memory.
            let _ = out.write_str(&text);
        };
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let add = |style: ProgressStyle| all.add(ProgressBar::new(PARTS as u64).with_style(style));
        let whole = add(styled("{prefix} {wide_bar} {time}").with_key("time", time));
        // As long as its text: the ^C that a terminal appends must not begin another line.
        let now = add(styled("  {msg}"));
        Self { all, whole, now, eta, shown: false }
    }

    fn line(&self, text: &str) {
        // A terminal that is gone has no use for it.
        let _ = self.all.println(text);
    }

    fn reached(&mut self, head: &str, share: f64, eta: &Eta) {
        *self.eta.lock().unwrap_or_else(PoisonError::into_inner) = Some(*eta);
        self.whole.set_prefix(head.to_string());
        self.whole.set_position((share * PARTS) as u64);
        if !self.shown {
            // The time that is left runs down by itself.
            tick(&self.whole);
            self.shown = true;
        }
    }

    fn doing(&self, text: &str) {
        self.now.set_message(cut(&printable(text), MOST_CHARS));
    }

    fn clear(&mut self) {
        self.now.finish_and_clear();
        self.whole.finish_and_clear();
        self.shown = false;
    }
}
