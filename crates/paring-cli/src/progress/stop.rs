//! Ctrl-C: the first (or SIGTERM) ends a run after the block at work, the second at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use paring::{Error, Result};

use super::LinePrinter;

/// A flag that ctrl-C sets.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Listens until the process ends, and answers on this printer. Errors when the system does not allow it.
    pub fn listen(printer: LinePrinter) -> Result<Self> {
        let stop = Self::default();
        #[cfg(unix)]
        stop.clone().on_signals(printer).map_err(|e| Error::Plan(format!("cannot listen for ctrl-C: {e}")))?;
        Ok(stop)
    }

    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    #[cfg(unix)]
    fn on_signals(self, printer: LinePrinter) -> std::io::Result<()> {
        use signal_hook::consts::{SIGINT, SIGTERM};
        let signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
        let flag = self.0.clone();
        let answer = move |mut signals: signal_hook::iterator::Signals| {
            for _ in signals.forever() {
                if self.0.swap(true, Ordering::Relaxed) {
                    printer
                        .last("error: stopped at once, as asked; what is done stays, and --resume continues after it");
                    std::process::exit(i32::from(crate::FAILED));
                }
                printer.line("stopping after this block; once more stops at once");
            }
        };
        match paring_kernels::threads::spawn(signals, answer) {
            Ok(_) => Ok(()),
            // Without a thread nobody answers, but both are obeyed.
            Err(signals) => {
                drop(signals);
                [SIGINT, SIGTERM].into_iter().try_for_each(|signal| obey(signal, &flag))
            }
        }
    }
}

/// Sets the flag on the first signal, and ends the process on the next.
#[cfg(unix)]
fn obey(signal: i32, flag: &Arc<AtomicBool>) -> std::io::Result<()> {
    signal_hook::flag::register_conditional_shutdown(signal, i32::from(crate::FAILED), flag.clone())?;
    signal_hook::flag::register(signal, flag.clone())?;
    Ok(())
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
