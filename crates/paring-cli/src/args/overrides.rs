//! Options for some of the linears, which only a recipe file has.

use clap::Parser;

use super::{Grids, Removal, SpqrArgs, Sweep, Target};

/// The options that may differ between linears.
#[derive(Parser)]
#[command(no_binary_name = true, disable_help_flag = true)]
pub struct Change {
    /// The method
    #[arg(long)]
    pub method: Option<String>,
    #[command(flatten)]
    pub removal: Removal,
    #[command(flatten)]
    pub grids: Grids,
    #[command(flatten)]
    pub target: Target,
    #[command(flatten)]
    pub sweep: Sweep,
    #[command(flatten)]
    pub spqr: SpqrArgs,
    /// The layout
    #[arg(long, value_parser = super::run::layout)]
    pub format: Option<String>,
}

/// A group of linears in a recipe file.
pub struct Changed {
    /// Exact names or `re:` patterns.
    pub targets: Vec<String>,
    /// Options that differ; `None`: the linears stay as they are.
    pub change: Option<Change>,
    /// File and line, for messages.
    pub place: String,
}
