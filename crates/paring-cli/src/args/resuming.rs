//! Options of runs that can be resumed.

use clap::{Args, ValueEnum};

#[derive(Args)]
pub struct Resuming {
    /// Go on with the run that was begun in the output folder, and begin it where there is none
    #[arg(long, conflicts_with = "overwrite")]
    pub resume: bool,
    /// Resume also on a processor or device whose sums have other last bits than those that began the run
    #[arg(long, requires = "resume")]
    pub allow_mixed_arithmetic: bool,
    /// Keep activations on disk between blocks, so that --resume need not compute them again; auto: in runs of more than ten
    /// minutes
    #[arg(
        long, value_name = "WHEN", value_enum, default_value = "auto",
        num_args = 0..=1, require_equals = true, default_missing_value = "always"
    )]
    pub resumable: When,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum When {
    Auto,
    Always,
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
