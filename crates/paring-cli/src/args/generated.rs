//! Options of the commands that print completions and manual pages.

use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

#[derive(Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: Shell,
}

#[derive(Args)]
pub struct ManArgs {
    /// The command whose page to print [default: that of paring itself]
    #[arg(conflicts_with = "out")]
    pub command: Option<String>,
    /// Write all pages into this folder, which is made if need be
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Replace a page also where another program wrote it
    #[arg(long, requires = "out")]
    pub overwrite: bool,
}
