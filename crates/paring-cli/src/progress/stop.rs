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
        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
        std::thread::spawn(move || {
            for _ in signals.forever() {
                if self.0.swap(true, Ordering::Relaxed) {
                    printer
                        .last("error: stopped at once, as asked; what is done stays, and --resume goes on behind it");
                    std::process::exit(i32::from(crate::FAILED));
                }
                printer.line("stopping behind this block; once more stops at once");
            }
        });
        Ok(())
    }
}
