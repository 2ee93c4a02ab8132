//! Targets of files that runs leave: journals, reports and the digests beside the weights.

use std::sync::Arc;

use paring::commands::verify::verify;
use paring::report::Report;
use paring::report::comparison::Comparison;
use paring::report::difference::Difference;
use paring::report::drawing::error_svg;
use paring::report::export::{tensorboard, wandb};
use paring_format::Checkpoint;
use paring_format::writer::InputFiles;

use super::readers::{CONFIG, WEIGHTS};
use super::{folder, is_good, put};

/// Records of an interrupted run.
pub fn journal(data: &[u8]) -> bool {
    is_good(paring::output::journal::blocks_done(data))
}

/// The report of a run, compared with itself and with good ones, drawn, and written for other programs.
pub fn report(data: &[u8]) -> bool {
    const GOOD: &[u8] = include_bytes!("../../../tests/golden/report.json");
    let folder = folder("report", &[("good.json", GOOD)]);
    let path = folder.join("report.json");
    put(&path, data);
    let Ok(report) = Report::read(&path).inspect_err(super::assert_text) else { return false };
    let good = Report::read(&folder.join("good.json")).expect("a report of ours");
    for (a, b) in [(&report, &report), (&report, &good), (&good, &report)] {
        let difference = Difference::between(a, b);
        serde_json::to_string(&difference).expect("a difference is JSON");
    }
    if let Some(svg) = error_svg(&report) {
        assert!(svg.matches("<svg").count() == 1 && svg.ends_with("</svg>\n"), "one picture");
    }
    let comparison = Comparison::of(&[report.clone(), good.clone(), good]);
    serde_json::to_string(&comparison).expect("a comparison is JSON");
    let exports = folder.join("exports");
    let inputs = InputFiles::default();
    let written = [tensorboard::write, wandb::write].map(|write| write(&report, &exports, (&inputs, false)));
    for written in written {
        if let Ok(path) = written.inspect_err(super::assert_text) {
            let inside = path.canonicalize().expect("what was written just now");
            assert!(inside.starts_with(exports.canonicalize().expect("their folder")), "{}", path.display());
        }
    }
    if exports.exists() {
        std::fs::remove_dir_all(&exports).expect("the folder of the exports");
    }
    true
}

/// A small model is verified by the digests beside it.
pub fn manifest(data: &[u8]) -> bool {
    let folder = folder("manifest", &[("config.json", CONFIG), ("model.safetensors", WEIGHTS)]);
    put(&folder.join("paring.json"), data);
    let checkpoint = Checkpoint::open(&folder).expect("a model of ours");
    is_good(verify(Arc::new(checkpoint)))
}
