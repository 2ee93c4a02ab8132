//! A run that is asked to end: the first ctrl-C (or SIGTERM) ends it behind the block that it works on, the second at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use paring::{Error, Result};

use super::Voice;

/// Whether the run was asked to end.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Listens from now on, until the process ends, and answers with this voice. Errors when the system does not let it.
    pub fn listen(voice: Voice) -> Result<Self> {
        let stop = Self::default();
        #[cfg(unix)]
        stop.clone().on_signals(voice).map_err(|e| Error::Plan(format!("cannot listen for ctrl-C: {e}")))?;
        Ok(stop)
    }

    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    #[cfg(unix)]
    fn on_signals(self, voice: Voice) -> std::io::Result<()> {
        use signal_hook::consts::{SIGINT, SIGTERM};
        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
        std::thread::spawn(move || {
            for _ in signals.forever() {
                if self.0.swap(true, Ordering::Relaxed) {
                    voice.last("error: stopped at once, as asked; what is done stays, and --resume goes on behind it");
                    std::process::exit(i32::from(crate::FAILED));
                }
                voice.line("stopping behind this block; once more stops at once");
            }
        });
        Ok(())
    }
}
