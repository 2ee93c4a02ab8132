//! Options of `report`.

use std::path::PathBuf;

use clap::Args;

use super::headings::OUTPUT;

#[derive(Args)]
#[command(next_help_heading = OUTPUT)]
pub struct ReportArgs {
    /// Output folder of a run, or its report.json
    #[arg(value_name = "RUN", help_heading = None::<&str>)]
    pub run: PathBuf,
    /// Other runs to compare it with, and with each other
    #[arg(value_name = "OTHER", help_heading = None::<&str>)]
    pub others: Vec<PathBuf>,
    /// Write the page here [default: report.html beside the report; none for several runs]
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Replace a file also where another program wrote it
    #[arg(long)]
    pub overwrite: bool,
    /// Also write an event file for TensorBoard, in a folder below this one
    #[arg(long, value_name = "FOLDER", conflicts_with = "others")]
    pub tensorboard: Option<PathBuf>,
    /// Also write an offline run of Weights & Biases, in a folder below this one; `wandb sync` uploads it
    #[arg(long, value_name = "FOLDER", conflicts_with = "others")]
    pub wandb: Option<PathBuf>,
}
