//! Options of the commands that print completions and manual pages.

use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

use super::headings::OUTPUT;

#[derive(Args)]
pub struct CompletionsArgs {
    /// Shell
    #[arg(value_enum)]
    pub shell: Shell,
}

#[derive(Args)]
pub struct ManArgs {
    /// Command whose page to print [default: the page of paring itself]
    #[arg(conflicts_with = "out")]
    pub command: Option<String>,
    /// Write all pages into this folder, which is made if need be
    #[arg(long, short, value_name = "DIR", help_heading = OUTPUT)]
    pub out: Option<PathBuf>,
    /// Replace a page also where another program wrote it
    #[arg(long, requires = "out", help_heading = OUTPUT)]
    pub overwrite: bool,
}
