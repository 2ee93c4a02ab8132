//! The options of `paring layer`.

use std::path::PathBuf;

use clap::Args;

use super::{DeviceArg, Grids, Removal, SpqrArgs, Sweep, methods};

#[derive(Args)]
pub struct LayerArgs {
    /// A safetensors file with `weight` [R, C] and `activations` [n, t, C] or `hessian` [C, C]
    pub file: PathBuf,
    /// The method
    #[arg(long, value_parser = methods(|_| true))]
    pub method: String,
    #[command(flatten)]
    pub removal: Removal,
    #[command(flatten)]
    pub grids: Grids,
    #[command(flatten)]
    pub sweep: Sweep,
    #[command(flatten)]
    pub spqr: SpqrArgs,
    /// Sequences in activations of shape [n·t, C]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub sequences: Option<u32>,
    /// Output file
    #[arg(long, alias = "save", value_name = "FILE")]
    pub out: PathBuf,
    /// Replace the output file also where another program wrote it
    #[arg(long)]
    pub overwrite: bool,
    #[command(flatten)]
    pub place: DeviceArg,
}
