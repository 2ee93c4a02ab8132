//! Options of `report`.

use std::path::PathBuf;

use clap::Args;

#[derive(Args)]
pub struct ReportArgs {
    /// The output folder of a run, or its report.json
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// Another run: say how it differs from the first
    #[arg(value_name = "OTHER")]
    pub other: Option<PathBuf>,
    /// File for the page [default: report.html beside the report; for two runs none is written]
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Replace a file also where another program wrote it
    #[arg(long)]
    pub overwrite: bool,
    /// Also write the numbers by block and of the run as an event file of TensorBoard, in a folder below this one
    #[arg(long, value_name = "FOLDER", conflicts_with = "other")]
    pub tensorboard: Option<PathBuf>,
    /// Also write them as an offline run of Weights & Biases, in a folder below this one; `wandb sync` uploads it
    #[arg(long, value_name = "FOLDER", conflicts_with = "other")]
    pub wandb: Option<PathBuf>,
}
