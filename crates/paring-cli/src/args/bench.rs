//! The options of `paring bench`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser};
use paring::bench::SHAPES;

use super::DeviceArg;
use super::headings::WHAT;

#[derive(Args)]
#[command(next_help_heading = WHAT)]
pub struct BenchArgs {
    /// First run the cases that every operation must pass, and stop with an error if one fails
    #[arg(long)]
    pub check: bool,
    /// With --check: also compress the layers in this folder on the device and on the CPU, and compare them
    ///
    /// The source has such layers in tests/golden/algorithms.
    #[arg(long, value_name = "FOLDER", requires = "check")]
    pub golden: Option<PathBuf>,
    /// Only operations whose names start like this [default: all]; `none`: no operation
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub ops: Vec<String>,
    /// Shapes of these models [default: small on a CPU, llama-7b and llama-3-8b on a GPU]
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = shapes())]
    pub shapes: Vec<String>,
    /// Start no operation after so many seconds
    #[arg(long, value_name = "S", default_value = "600", value_parser = clap::value_parser!(u32).range(1..))]
    pub seconds: u32,
    #[command(flatten)]
    pub place: DeviceArg,
}

fn shapes() -> PossibleValuesParser {
    PossibleValuesParser::new(SHAPES.iter().map(|shapes| PossibleValue::new(shapes.name)).collect::<Vec<_>>())
}
