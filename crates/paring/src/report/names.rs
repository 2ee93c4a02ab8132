//! Names of the files that a run leaves beside its model.

use paring_format::names::RunFiles;

/// The file of a run's report.
pub const REPORT: &str = "report.json";

/// The same report as a page.
pub const REPORT_PAGE: &str = "report.html";

/// The model card of an output, and the chart in it.
pub const CARD: &str = "README.md";
/// The chart of the card.
pub const CARD_CHART: &str = "layer-errors.svg";

/// Prefix of the files in which a run keeps activations.
pub const ACTIVATIONS: &str = ".activations";

/// The report of a fine-tuning.
pub const TRAINING: &str = "training.json";

/// All of them, which an overwritten output loses.
pub const RUN_FILES: RunFiles = RunFiles { names: &[REPORT, REPORT_PAGE, TRAINING], prefix: Some(ACTIVATIONS) };
