//! Results on stdout.

pub mod stored;
pub mod terminal;
mod tokens;

use std::io::Write;

use paring::commands::compare::Comparison;
use paring::commands::inspect::{GroupSummary, Summary};
use paring::commands::verify::Verified;
use paring::report::Report;
use paring::{Error, Result};
use serde::Serialize;
use serde_json::Value;

pub use stored::{difference, run};
use terminal::{name, printable};
pub use tokens::tokens;

/// Text that the program made itself, as it is.
pub fn out(text: &str) -> Result<()> {
    let io = |source| Error::Io { path: "stdout".into(), source };
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        // A reader that has seen enough, such as head, is no failure.
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(io),
    }
}

/// One JSON object on a line of its own.
pub fn json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string(value).map_err(|e| Error::Plan(format!("cannot print the result: {e}")))?;
    out(&format!("{}\n", terminal::json(&text)))
}

/// A result as a JSON value.
pub fn value(result: &impl Serialize) -> Result<Value> {
    serde_json::to_value(result).map_err(|e| Error::Plan(format!("cannot print the result: {e}")))
}

/// Lines of text, with whatever names are in them.
pub fn lines(lines: &[String]) -> Result<()> {
    out(&lines.iter().map(|line| format!("{}\n", printable(line))).collect::<String>())
}

/// Columns at which the text of an [`entry`] begins, and its lines end.
const ENTRY: (usize, usize) = (16, 100);

/// A name and its text, whose lines are broken between words.
pub fn entry(name: &str, text: &str) -> Vec<String> {
    let (indent, width) = ENTRY;
    let mut lines = vec![format!("  {name:<0$}", indent - 3)];
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(format!("{:indent$}{word}", "")),
        }
    }
    lines
}

/// The small table at the end of a run.
pub fn report(report: &Report) -> Result<()> {
    lines(&outcome(report))
}

/// Prints a run in a few lines.
pub fn outcome(report: &Report) -> Vec<String> {
    let mut rows = vec![
        format!("{:<22} {:>10} {:>10}", report.method, "before", "after"),
        format!("{:<22} {:>10.2} {:>10.2}", "bits per weight", report.bits_before, report.bits_per_weight),
    ];
    if let (Some(formula), Some(published)) = (report.formula_bits, report.published_bits) {
        rows.push(format!("{:<22} {:>10} {:>10.2}", "  by counting", "", formula));
        rows.push(format!("{:<22} {:>10} {:>10.2}", "  by SpQR's formula", "", published));
        rows.push(format!("{:<22} {:>10} {:>9.2}%", "outliers", "", 100.0 * report.outlier_share));
    }
    rows.push(format!("{:<22} {:>10} {:>9.1}%", "zeros", "", 100.0 * report.sparsity));
    rows.push(format!("{:<22} {:>10} {:>10}", "size", size(report.bytes_in), size(report.bytes_out)));
    if let Some(change) = &report.perplexity {
        rows.push(format!("{:<22} {:>10.3} {:>10.3}", "perplexity", change.before, change.after));
    }
    rows.push(format!(
        "{} linears in {:.1} s on {}, {} at most; written to {}, reopened and checked",
        report.layers.len(),
        report.seconds,
        report.place.words(),
        report.place.memory(report.peak_rss_mib),
        report.out
    ));
    rows
}

/// Targets of a group that are named.
const TARGETS: usize = 4;

/// The table of a checkpoint's tensors, its groups and totals.
pub fn summary(summary: &Summary) -> Vec<String> {
    let names: Vec<String> = summary.tensors.iter().map(|t| name(&t.name)).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let mut lines: Vec<String> = Vec::new();
    for (t, name) in summary.tensors.iter().zip(&names) {
        lines.push(format!(
            "{name:<width$}  {:<14} {:>7.3} bits {:>6.2} % zero  {}",
            format!("{:?}", t.shape),
            t.bits_per_weight,
            100.0 * t.sparsity,
            t.format
        ));
    }
    if summary.most_outliers().is_some() {
        let shares = summary.outlier_shares.iter().map(|(kind, share)| format!("{kind} {:.3} %", 100.0 * share));
        lines.push(format!("outliers by kind of linear: {}", shares.collect::<Vec<_>>().join(", ")));
    }
    for GroupSummary { name, targets, format, weights, inputs, outputs, linears, bytes } in &summary.groups {
        let mut what = format!("{name}: {linears} linears, {}, {format}", size(*bytes));
        let parts = [("weights", weights), ("inputs", inputs), ("outputs", outputs)];
        parts.iter().filter_map(|(of, how)| Some((of, how.as_ref()?))).for_each(|(of, how)| {
            what += &format!("; {of} {how}");
        });
        // Lists of all modules are what some configs have in the place of a class.
        let more = targets.len().saturating_sub(TARGETS);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        lines.push(format!("{what}; for {}{more}", targets[..targets.len().min(TARGETS)].join(", ")));
    }
    if let Some(cache) = &summary.kv_cache {
        lines.push(format!("keys and values: {cache}"));
    }
    lines.push(format!(
        "{}: {:.3} bits per weight over all tensors, {:.2} % zeros in the linears, {}",
        summary.format,
        summary.bits_per_weight,
        100.0 * summary.sparsity,
        size(summary.bytes)
    ));
    lines
}

/// The checks that passed.
pub fn verified(model: &str, verified: &Verified) -> Vec<String> {
    let formats = verified.formats.iter().map(|(format, n)| format!("{n} {format}")).collect::<Vec<_>>().join(", ");
    let Verified { linears, tensors, digests_checked, bytes, covered, ignored, untargeted, .. } = verified;
    let digests = match digests_checked {
        0 => "no digests beside it to compare with".to_string(),
        n => format!("{n} digests equal to those of the run that wrote it"),
    };
    vec![
        format!("{:<10} {linears} ({formats})", "linears"),
        format!("{:<10} {tensors} others, floats finite", "tensors"),
        format!("{:<10} {digests}", "digests"),
        match covered + ignored + untargeted {
            0 => format!("{:<10} none", "groups"),
            _ => format!("{:<10} {covered} linears covered, {ignored} ignored, {untargeted} neither", "groups"),
        },
        format!("{model}: complete and as its config says, {}", size(*bytes)),
    ]
}

/// The distance of a model from a reference.
pub fn compared(reference: &str, compared: &Comparison) -> Vec<String> {
    let Comparison { mean_kl, max_kl, top1_agreement, perplexity, reference_perplexity, perplexity_ratio, .. } =
        compared;
    let Comparison { windows, seqlen, dataset, seconds, peak_rss_mib, place, .. } = compared;
    vec![
        format!("{:<10} {mean_kl:.6} nats on average, {max_kl:.6} at most", "KL"),
        format!("{:<10} {:.2} % of the most likely tokens are the same", "top-1", 100.0 * top1_agreement),
        format!("{:<10} {perplexity:.4} / {reference_perplexity:.4} = {perplexity_ratio:.6}", "perplexity"),
        format!(
            "compared with {reference} ({windows} windows of {seqlen} tokens of {dataset}, {seconds:.1} s on {}, \
            {})",
            place.words(),
            place.memory(*peak_rss_mib)
        ),
    ]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_broken_between_words() {
        assert_eq!(entry("inputs", "int8, a row"), ["  inputs        int8, a row"]);
        let words = vec!["twelve-chars"; 30].join(" ");
        let lines = entry("vLLM", &words);
        assert!(lines.len() == 5 && lines.iter().all(|line| line.len() <= ENTRY.1), "{lines:#?}");
        let text = lines.iter().map(|line| line[ENTRY.0..].to_string()).collect::<Vec<_>>().join(" ");
        assert_eq!(text, words);
    }
}
