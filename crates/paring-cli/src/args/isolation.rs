//! The process that tokenizers and chat templates run in.

use std::path::{Path, PathBuf};
use std::time::Duration;

use paring_data::Isolation;
use paring_data::worker::PATIENCE;

/// Seconds that any text may take, for tests of what never ends.
const SECONDS: &str = "PARING_TOKENIZER_SECONDS";

/// This program, started once more: `main` knows what that is for.
pub fn isolation() -> Isolation {
    // Also leads to the program where its file has another name by now.
    let own = Path::new("/proc/self/exe");
    let named = || std::env::current_exe().ok().or_else(|| std::env::args_os().next().map(PathBuf::from));
    let program = Some(own).filter(|own| own.exists()).map(PathBuf::from).or_else(named).unwrap_or_default();
    let seconds = std::env::var(SECONDS).ok().and_then(|text| text.parse().ok());
    Isolation::Process { program, patience: seconds.map_or(PATIENCE, Duration::from_secs) }
}
