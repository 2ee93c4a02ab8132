//! Where progress is shown: bars on a terminal, lines elsewhere, or nowhere.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use paring_data::utc::Utc;

use super::left::Left;
use super::words;

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

/// Where progress is shown.
pub enum Screen {
    /// Two lines that are drawn again and again: the whole work, and what is done now.
    Terminal(Bars),
    /// A line now and then, with the time.
    Lines {
        /// When the last one was written.
        last: Instant,
    },
    /// Only what must be said.
    Quiet,
}

impl Screen {
    /// What suits stderr, or nothing if `quiet`.
    pub fn new(quiet: bool) -> Self {
        match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => Screen::Quiet,
            (false, true) => Screen::Terminal(Bars::new()),
            (false, false) => Screen::Lines { last: Instant::now() },
        }
    }

    /// A line that stays.
    pub fn line(&mut self, text: &str) {
        match self {
            Screen::Terminal(bars) => bars.line(text),
            Screen::Lines { last } => {
                *last = Instant::now();
                eprintln!("{} {text}", Utc::now());
            }
            Screen::Quiet => eprintln!("{text}"),
        }
    }

    /// How much of the work is done: in words, as a part of 1, and how long it will still take. `whole` says that a
    /// piece is done that is worth a line.
    pub fn reached(&mut self, head: &str, share: f64, left: &Left, whole: bool) {
        match self {
            Screen::Terminal(bars) => bars.reached(head, share, left),
            Screen::Lines { last } if whole || last.elapsed() >= BETWEEN_LINES => {
                let now = Instant::now();
                let rest = left
                    .at(now)
                    .filter(|_| share < 1.0)
                    .map_or(String::new(), |rest| format!(", {} left", words::time(rest)));
                self.line(&format!("{head}, {:.1} s{rest}", left.gone(now).as_secs_f64()));
            }
            Screen::Lines { .. } | Screen::Quiet => {}
        }
    }

    /// What is done now. `place` says where, for a line that stands alone.
    pub fn doing(&mut self, place: &str, text: &str) {
        match self {
            Screen::Terminal(bars) => bars.doing(text),
            Screen::Lines { last } if last.elapsed() >= BETWEEN_LINES => self.line(&format!("{place}{text}")),
            Screen::Lines { .. } | Screen::Quiet => {}
        }
    }

    /// For another thread that has something to say.
    pub fn voice(&self) -> Voice {
        match self {
            Screen::Terminal(bars) => Voice::Above(bars.all.clone()),
            Screen::Lines { .. } => Voice::Timed,
            Screen::Quiet => Voice::Plain,
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

/// How another thread speaks while progress is shown.
pub enum Voice {
    /// Above bars.
    Above(MultiProgress),
    /// With the time.
    Timed,
    /// Just so.
    Plain,
}

impl Voice {
    /// Says a line.
    pub fn line(&self, text: &str) {
        match self {
            Voice::Above(bars) => bars.suspend(|| eprintln!("{text}")),
            Voice::Timed => eprintln!("{} {text}", Utc::now()),
            Voice::Plain => eprintln!("{text}"),
        }
    }

    /// Says the last line before the process ends.
    pub fn last(&self, text: &str) {
        if let Voice::Above(bars) = self {
            // A terminal that is gone shows nothing anyway.
            let _ = bars.clear();
        }
        eprintln!("{text}");
    }
}

/// Two lines at the bottom of a terminal.
pub struct Bars {
    all: MultiProgress,
    whole: ProgressBar,
    now: ProgressBar,
    /// What the thread that draws knows of the time.
    left: Arc<Mutex<Option<Left>>>,
    /// Whether there is anything to draw yet.
    shown: bool,
}

impl Bars {
    fn new() -> Self {
        let left: Arc<Mutex<Option<Left>>> = Arc::default();
        let seen = left.clone();
        let time = move |_: &ProgressState, out: &mut dyn std::fmt::Write| {
            let now = Instant::now();
            let left = seen.lock().unwrap_or_else(PoisonError::into_inner);
            let text = match left.as_ref().map(|left| (left.at(now), left.gone(now))) {
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
        // As long as its text: what ctrl-C writes behind it must not begin another line.
        let now = add(styled("  {msg}"));
        Self { all, whole, now, left, shown: false }
    }

    fn line(&self, text: &str) {
        // A terminal that is gone has no use for it.
        let _ = self.all.println(text);
    }

    fn reached(&mut self, head: &str, share: f64, left: &Left) {
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) = Some(*left);
        self.whole.set_prefix(head.to_string());
        self.whole.set_position((share * PARTS) as u64);
        if !self.shown {
            // The time that is left runs down by itself.
            self.whole.enable_steady_tick(Duration::from_secs(1));
            self.shown = true;
        }
    }

    fn doing(&self, text: &str) {
        self.now.set_message(words::cut(text, MOST_CHARS));
    }

    fn clear(&mut self) {
        self.whole.disable_steady_tick();
        self.now.finish_and_clear();
        self.whole.finish_and_clear();
        self.shown = false;
    }
}
