//! Options of every command, before its name or after it.

use clap::Args;

#[derive(Args, Clone, Copy, Default)]
#[command(next_help_heading = "Global options")]
pub struct Shared {
    /// Print no progress, notes or estimates
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Print the result as one JSON object on stdout, and text for people on stderr
    #[arg(long, global = true)]
    pub json: bool,
}
