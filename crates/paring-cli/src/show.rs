//! Results on stdout.

use std::io::Write;

use paring::report::Report;
use paring::{Error, Result};
use serde::Serialize;

/// Perplexity before and after.
#[derive(Clone, Copy, Serialize)]
pub struct Change {
    pub before: f64,
    pub after: f64,
}

fn out(text: &str) -> Result<()> {
    let io = |source| Error::Io { path: "stdout".into(), source };
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        // A reader that has seen enough, such as head, is no failure.
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(io),
    }
}

/// One JSON object on a line of its own.
pub fn json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string(value).map_err(|e| Error::Plan(format!("cannot print the result: {e}")))?;
    out(&format!("{text}\n"))
}

/// Lines of text.
pub fn lines(lines: &[String]) -> Result<()> {
    out(&lines.iter().map(|l| format!("{l}\n")).collect::<String>())
}

/// The small table at the end of a run.
pub fn report(report: &Report, bits_before: f64, change: Option<Change>) -> Result<()> {
    let mut rows = vec![
        format!("{:<22} {:>10} {:>10}", report.method, "before", "after"),
        format!("{:<22} {:>10.2} {:>10.2}", "bits per weight", bits_before, report.bits_per_weight),
        format!("{:<22} {:>10} {:>9.1}%", "zeros", "", 100.0 * report.sparsity),
        format!("{:<22} {:>10} {:>10}", "size", size(report.bytes_in), size(report.bytes_out)),
    ];
    if let Some(change) = change {
        rows.push(format!("{:<22} {:>10.3} {:>10.3}", "perplexity", change.before, change.after));
    }
    rows.push(format!(
        "{} linears in {:.1} s, {:.0} MiB at most; written to {}, reopened and checked",
        report.layers.len(),
        report.seconds,
        report.peak_rss_mib,
        report.out
    ));
    lines(&rows)
}

/// Bytes as people read them.
pub fn size(bytes: u64) -> String {
    let bytes = bytes as f64;
    match bytes {
        b if b < 1e3 => format!("{b} B"),
        b if b < 1e6 => format!("{:.1} kB", b / 1e3),
        b if b < 1e9 => format!("{:.2} MB", b / 1e6),
        b => format!("{:.2} GB", b / 1e9),
    }
}
