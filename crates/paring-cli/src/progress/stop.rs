//! Ctrl-C and SIGTERM: the first ends a run after the block at work, the second immediately. Commands that have nothing to
//! continue end at the first.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use paring::{Error, Result};

use super::screen::LinePrinter;
use crate::show::{Channels, Failure};

/// Exit codes of processes that end by a signal are its number and this, as shells have it.
const SIGNALLED: usize = 128;
/// The number of the signal that ctrl-C sends.
const INTERRUPTED: usize = 2;

/// The exit code of a process that a signal ended.
fn signalled(signal: usize) -> u8 {
    u8::try_from(SIGNALLED + signal).unwrap_or(crate::FAILED)
}

/// The parts of a run, after each of which it can end.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Its name.
    name: &'static str,
    /// The parts that stay of a run that ends immediately.
    kept: &'static str,
}

impl Part {
    /// Blocks of a model.
    pub const BLOCK: Self = Self { name: "block", kept: "finished blocks" };
    /// Steps of a training.
    pub const STEP: Self = Self { name: "step", kept: "steps up to the last checkpoint" };
}

/// The end of a command that is asked to stop.
pub struct Ending {
    /// The command line that continues the work, of a run that finishes the part at work first; `None` for commands that end
    /// immediately.
    pub continued_by: Option<(String, Part)>,
    /// The way to print it.
    pub channels: Channels,
}

impl Ending {
    fn failure(&self, code: u8) -> Failure {
        match &self.continued_by {
            None => Failure::new("stopped", code),
            Some((command, part)) => {
                Failure::new(&format!("stopped; {} are kept", part.kept), code).continued_by(command.clone())
            }
        }
    }

    /// Ends the process.
    #[cfg(unix)]
    fn now(&self, printer: &LinePrinter, code: u8) -> ! {
        printer.clear();
        let mut failure = self.failure(code);
        failure.print_results(self.channels, false);
        failure.print_error();
        std::process::exit(i32::from(code))
    }
}

/// A flag that ctrl-C sets.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    asked: Arc<AtomicBool>,
    signal: Arc<AtomicUsize>,
}

impl Stop {
    /// Listens until the process ends, and answers on this printer. Errors when the system does not allow it.
    pub fn listen(printer: LinePrinter, ending: Ending) -> Result<Self> {
        let stop = Self::default();
        #[cfg(unix)]
        stop.clone().on_signals(printer, ending).map_err(|e| Error::Plan(format!("cannot listen for ctrl-C: {e}")))?;
        Ok(stop)
    }

    pub fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// The exit code of a process that was asked to stop.
    pub fn code(&self) -> u8 {
        match self.signal.load(Ordering::Relaxed) {
            0 => signalled(INTERRUPTED),
            signal => signalled(signal),
        }
    }

    #[cfg(unix)]
    fn on_signals(self, printer: LinePrinter, ending: Ending) -> std::io::Result<()> {
        use signal_hook::consts::{SIGINT, SIGTERM};
        let signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
        let (flags, part) = (self.clone(), ending.continued_by.as_ref().map(|(_, part)| *part));
        let answer = move |mut signals: signal_hook::iterator::Signals| {
            for signal in signals.forever() {
                self.signal.store(signal as usize, Ordering::Relaxed);
                if signal == SIGINT {
                    printer.unprint_key();
                }
                let was_asked = self.asked.swap(true, Ordering::Relaxed);
                match part {
                    Some(Part { name, .. }) if !was_asked => {
                        printer.line(&format!("finishing this {name}; press ctrl-C again to stop now"));
                    }
                    _ => ending.now(&printer, self.code()),
                }
            }
        };
        match paring_kernels::threads::spawn(signals, answer) {
            Ok(_) => Ok(()),
            // Without a thread nobody answers, but both are obeyed.
            Err(signals) => {
                drop(signals);
                [SIGINT, SIGTERM].into_iter().filter(|_| part.is_some()).try_for_each(|signal| flags.obey(signal))
            }
        }
    }

    /// Sets the flag on the first signal, and ends the process on the next.
    #[cfg(unix)]
    fn obey(&self, signal: i32) -> std::io::Result<()> {
        use signal_hook::flag;
        let number = signal as usize;
        flag::register_conditional_shutdown(signal, (SIGNALLED + number) as i32, self.asked.clone())?;
        flag::register_usize(signal, self.signal.clone(), number)?;
        flag::register(signal, self.asked.clone())?;
        Ok(())
    }
}

/// Ctrl-C that ends one piece of work after the other, and the process where there is none, or it is pressed again.
#[derive(Clone, Default)]
pub struct Interrupt {
    is_busy: Arc<AtomicBool>,
    /// True if it was ctrl-C that ended a server, not SIGTERM.
    by_key: Arc<AtomicBool>,
    asked: Arc<AtomicBool>,
    /// The way to end a server that answers what it has begun.
    server: Arc<OnceLock<EndOfServer>>,
}

type EndOfServer = Box<dyn Fn() + Send + Sync>;

impl Interrupt {
    /// Listens until the process ends. Errors when the system does not allow it.
    pub fn listen(printer: LinePrinter, channels: Channels) -> Result<Self> {
        let interrupt = Self::default();
        #[cfg(unix)]
        interrupt
            .clone()
            .on_signals(printer, channels)
            .map_err(|e| Error::Plan(format!("cannot listen for ctrl-C: {e}")))?;
        Ok(interrupt)
    }

    /// From now on ctrl-C ends this piece of work alone.
    pub fn begin(&self) {
        self.asked.store(false, Ordering::Relaxed);
        self.is_busy.store(true, Ordering::Relaxed);
    }

    /// From now on ctrl-C and SIGTERM have a server end in order, and a second one ends the process.
    pub fn serve(&self, stop: impl Fn() + Send + Sync + 'static) {
        self.asked.store(false, Ordering::Relaxed);
        // There is one server in a process.
        let _ = self.server.set(Box::new(stop));
    }

    /// Ends the piece of work; true if it was interrupted.
    pub fn end(&self) -> bool {
        self.is_busy.store(false, Ordering::Relaxed);
        self.asked.swap(false, Ordering::Relaxed)
    }

    pub fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// The exit code of a server that ctrl-C ended; `None` after SIGTERM, by which service managers end what runs well.
    pub fn code(&self) -> Option<u8> {
        self.by_key.load(Ordering::Relaxed).then(|| signalled(INTERRUPTED))
    }

    #[cfg(unix)]
    fn on_signals(self, printer: LinePrinter, channels: Channels) -> std::io::Result<()> {
        use signal_hook::consts::{SIGINT, SIGTERM};
        let signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
        let answer = move |mut signals: signal_hook::iterator::Signals| {
            for signal in signals.forever() {
                let is_first = !self.asked.swap(true, Ordering::Relaxed);
                if signal == SIGINT && is_first && self.is_busy.load(Ordering::Relaxed) {
                    continue;
                }
                if let Some(stop) = self.server.get().filter(|_| is_first) {
                    if signal == SIGINT {
                        self.by_key.store(true, Ordering::Relaxed);
                        printer.unprint_key();
                    }
                    if !channels.quiet {
                        printer.line("finishing what has begun; press ctrl-C again to stop now");
                    }
                    stop();
                    continue;
                }
                Ending { continued_by: None, channels }.now(&printer, signalled(signal as usize));
            }
        };
        // Without a thread a signal ends the process, as it would have.
        drop(paring_kernels::threads::spawn(signals, answer));
        Ok(())
    }
}

/// Has a write beyond a limit of the size of files be an error of that write, not the end of the process.
#[cfg(unix)]
pub fn survive_limits() {
    // A system that does not allow it ends the process as before.
    drop(signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default()));
}

/// Other systems have no such signal.
#[cfg(not(unix))]
pub fn survive_limits() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_shells() {
        let code = |signal| Stop { signal: Arc::new(AtomicUsize::new(signal)), ..Stop::default() }.code();
        assert_eq!((code(0), code(2), code(15)), (130, 130, 143));
        let failure = |continued_by: Option<&str>| {
            let continued_by = continued_by.map(|command| (command.to_string(), Part::BLOCK));
            Ending { continued_by, channels: Channels::default() }.failure(130).text()
        };
        assert_eq!(failure(None), "stopped");
        assert_eq!(failure(Some("a --resume")), "stopped; finished blocks are kept. To continue: a --resume");
    }
}
