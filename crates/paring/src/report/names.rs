//! Names of the files that a run leaves beside its model.

use paring_format::names::RunFiles;

/// The file of a run's report.
pub const REPORT: &str = "report.json";

/// The same report as a page.
pub const REPORT_PAGE: &str = "report.html";

/// Prefix of the files in which a run keeps activations.
pub const ACTIVATIONS: &str = ".activations";

/// All of them, which an overwritten output loses.
pub const RUN_FILES: RunFiles = RunFiles { names: &[REPORT, REPORT_PAGE], prefix: Some(ACTIVATIONS) };
