//! The options of `paring bench`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser};
use paring::bench::SHAPES;

use super::DeviceArg;

#[derive(Args)]
pub struct BenchArgs {
    #[command(flatten)]
    pub place: DeviceArg,
    /// First run the cases that every operation is held to, and stop with an error if one fails
    #[arg(long)]
    pub check: bool,
    /// With --check: also compress the layers in this folder on the device and on the CPU, and compare (the source has
    /// them in tests/golden/algorithms)
    #[arg(long, value_name = "FOLDER", requires = "check")]
    pub golden: Option<PathBuf>,
    /// Measure only operations whose names begin so [default: all]; `none` measures nothing
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub ops: Vec<String>,
    /// The shapes of these models [default: small on a CPU, llama-7b and llama-3-8b on a GPU]
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = shapes())]
    pub shapes: Vec<String>,
    /// Begin no operation after so many seconds
    #[arg(long, value_name = "S", default_value = "600", value_parser = clap::value_parser!(u32).range(1..))]
    pub seconds: u32,
}

fn shapes() -> PossibleValuesParser {
    PossibleValuesParser::new(SHAPES.iter().map(|shapes| PossibleValue::new(shapes.name)).collect::<Vec<_>>())
}
