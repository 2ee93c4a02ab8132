//! Names of the files that a run leaves beside its model.

use paring_format::names::RunFiles;

/// The file of a run's report.
pub const REPORT: &str = "report.json";

/// The file of the same as a page.
pub const REPORT_PAGE: &str = "report.html";

/// The beginning of the names of files in which a run keeps activations.
pub const ACTIVATIONS: &str = ".activations";

/// All of them: what overwrites an output removes.
pub const RUN_FILES: RunFiles = RunFiles { names: &[REPORT, REPORT_PAGE], prefix: Some(ACTIVATIONS) };
