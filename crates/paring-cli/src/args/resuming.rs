//! Options of runs that can be resumed.

use clap::{Args, ValueEnum};

use super::headings::OUTPUT;

#[derive(Args)]
#[command(next_help_heading = OUTPUT)]
pub struct Resuming {
    /// Continue an interrupted run in the output folder, or start one
    #[arg(long, conflicts_with = "overwrite")]
    pub resume: bool,
    /// Resume also on another kind of processor or device, whose sums differ in the last bits
    #[arg(long, requires = "resume", hide_short_help = true)]
    pub allow_mixed_arithmetic: bool,
    /// Save activations between blocks, so that --resume is instant [auto: in runs over 10 minutes]
    #[arg(
        long, value_name = "WHEN", value_enum, default_value = "auto", hide_short_help = true,
        num_args = 0..=1, require_equals = true, default_missing_value = "always"
    )]
    pub resumable: When,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// In runs over 10 minutes
    Auto,
    /// In every run
    Always,
    /// Compute them again
    Never,
}

impl When {
    /// The decision; `None` for auto.
    pub fn decided(self) -> Option<bool> {
        match self {
            When::Auto => None,
            When::Always => Some(true),
            When::Never => Some(false),
        }
    }
}
