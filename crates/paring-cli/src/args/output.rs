//! Options of progress and events.

use std::path::{Path, PathBuf};

use clap::Args;

use super::headings::GLOBAL;
use super::{Command, Running};

#[derive(Args)]
#[command(next_help_heading = GLOBAL)]
pub struct LogArg {
    /// Append JSON events to FILE, one per line; `-`: to stderr instead of progress
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    pub log_json: Option<PathBuf>,
}

/// For commands that only read and write.
#[derive(Args)]
pub struct OutputArgs {
    #[command(flatten)]
    pub log: LogArg,
}

impl Command {
    /// The options of computing, of a command that computes with a model.
    pub fn running(&self) -> Option<&Running> {
        match self {
            Command::Sparsify(args) => Some(&args.running),
            Command::Quantize(args) => Some(&args.running),
            Command::Eval(args) => Some(&args.running),
            Command::Verify(args) => Some(&args.running),
            Command::Generate(args) => Some(&args.memory.running),
            Command::Chat(args) => Some(&args.memory.running),
            Command::Serve(args) => Some(&args.memory.running),
            _ => None,
        }
    }

    /// The file of its events, if there is one.
    pub fn log_json(&self) -> Option<&Path> {
        let log = match self {
            Command::Decompress(args) => &args.output.log,
            Command::Convert(args) => &args.output.log,
            Command::ExportMasks(args) => &args.output.log,
            Command::Merge(args) => &args.output.log,
            Command::Finetune(args) => &args.log,
            _ => &self.running()?.log,
        };
        log.log_json.as_deref()
    }
}
