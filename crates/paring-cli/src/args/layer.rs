//! The options of `paring layer`.

use std::path::PathBuf;

use clap::Args;

use super::headings::{OUTPUT, WHAT};
use super::{DeviceArg, Grids, Published, Removal, SpqrArgs, Sweep, Target, methods};

#[derive(Args)]
pub struct LayerArgs {
    /// A safetensors file with `weight` [R, C] and `activations` [n, t, C] or `hessian` [C, C]
    pub file: PathBuf,
    /// Algorithm
    #[arg(long, value_parser = methods(|_| true), help_heading = WHAT)]
    pub method: String,
    #[command(flatten)]
    pub removal: Removal,
    #[command(flatten)]
    pub grids: Grids,
    #[command(flatten)]
    pub target: Target,
    #[command(flatten)]
    pub published: Published,
    /// Number of sequences in activations of shape [n*t, C]
    #[arg(
        long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), hide_short_help = true,
        help_heading = WHAT
    )]
    pub sequences: Option<u32>,
    /// Output file
    #[arg(long, short, alias = "save", value_name = "FILE", help_heading = OUTPUT)]
    pub out: PathBuf,
    /// Replace the output file also where another program wrote it
    #[arg(long, help_heading = OUTPUT)]
    pub overwrite: bool,
    #[command(flatten)]
    pub place: DeviceArg,
    #[command(flatten)]
    pub sweep: Sweep,
    #[command(flatten)]
    pub spqr: SpqrArgs,
}
