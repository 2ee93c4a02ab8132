//! Options of progress and events.

use std::path::{Path, PathBuf};

use clap::Args;

use super::Command;

#[derive(Args)]
pub struct LogArg {
    /// Append what happens to this file, as JSON, an event a line (docs/log-json.md); `-`: to stderr, instead of progress
    #[arg(long, value_name = "FILE", help_heading = "Running")]
    pub log_json: Option<PathBuf>,
}

/// For commands that only read and write.
#[derive(Args)]
pub struct OutputArgs {
    /// No progress
    #[arg(long, short, help_heading = "Running")]
    pub quiet: bool,
    #[command(flatten)]
    pub log: LogArg,
}

impl Command {
    /// The file of its events, if there is one.
    pub fn log_json(&self) -> Option<&Path> {
        let log = match self {
            Command::Sparsify(args) => &args.running.log,
            Command::Quantize(args) => &args.running.log,
            Command::Eval(args) => &args.running.log,
            Command::Verify(args) => &args.running.log,
            Command::Decompress(args) => &args.output.log,
            Command::Convert(args) => &args.output.log,
            Command::Inspect(_)
            | Command::Tokens(_)
            | Command::Schemes(_)
            | Command::Layer(_)
            | Command::Bench(_)
            | Command::Report(_)
            | Command::Completions(_)
            | Command::Man(_) => return None,
        };
        log.log_json.as_deref()
    }
}
