//! Results of tasks, as a table.

use paring::commands::likelihoods::Amount;
use paring::commands::summaries::{Figure, Summaries};
use paring::report::TasksReport;
use paring::report::words::{digits, plural};
use paring_tasks::{Comparison, TaskResult};

use super::amounts;

/// A line for each result: its documents, and its metrics with their standard errors.
pub fn judged(results: &[&TaskResult]) -> Vec<String> {
    let row = |result: &&TaskResult| {
        let metric = |metric: &paring_tasks::Metric| match metric.stderr {
            Some(stderr) => format!("{} {} ± {}", metric.metric, number(metric.value), number(stderr)),
            None => format!("{} {}", metric.metric, number(metric.value)),
        };
        let shots = if result.shots > 0 { format!(", {}-shot", result.shots) } else { String::new() };
        let about = format!("{}{shots}, version {}", plural(result.documents, "document"), result.version);
        let mut row = vec![result.task.clone()];
        row.extend(result.metrics.iter().map(metric));
        (row, about)
    };
    let rows: Vec<(Vec<String>, String)> = results.iter().map(row).collect();
    let columns = rows.iter().map(|(row, _)| row.len()).max().unwrap_or(0);
    let width = |k: usize| rows.iter().filter_map(|(row, _)| row.get(k)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|k| width(k).unwrap_or(0)).collect();
    let line = |(row, about): &(Vec<String>, String)| {
        let cell = |(k, width): (usize, &usize)| format!("{:<width$}  ", row.get(k).map_or("", String::as_str));
        widths.iter().enumerate().map(cell).collect::<String>() + about
    };
    rows.iter().map(line).collect()
}

/// Four digits after the point of what is below 100, as the harness prints it.
pub fn number(value: f64) -> String {
    if value.abs() < 100.0 { format!("{value:.4}") } else { digits(value) }
}

/// Lines that a run shows of the tasks it was judged by.
const LINES: usize = 24;

/// Lines of tasks before and after: the first metric of each that has a difference by documents, and groups for their tasks.
pub fn changed(report: &TasksReport) -> Vec<String> {
    let shown = paring::commands::tasks::summary(&report.after, LINES);
    let lines = shown.iter().filter_map(|result| {
        let found = report.differences.iter().find(|found| found.task == result.task)?;
        let about = difference(found);
        let name = format!("{} {}", found.task, found.metric);
        Some(format!("  {name:<24} {} → {}  ({about})", number(found.before), number(found.after)))
    });
    lines.collect()
}

/// A difference, its standard error, and whether chance explains it.
pub fn difference(found: &Comparison) -> String {
    let sign = if found.difference < 0.0 { "−" } else { "+" };
    let by = format!("{sign}{}", number(found.difference.abs()));
    match (found.stderr, found.p) {
        (Some(stderr), Some(p)) if p < CERTAIN => format!("{by} ± {}, p < {CERTAIN}", number(stderr)),
        (Some(stderr), Some(p)) => format!("{by} ± {}, p {p:.3}", number(stderr)),
        _ => by,
    }
}

/// Probabilities below are not told apart.
const CERTAIN: f64 = 0.001;

/// The figures of summaries.
pub fn summarized(made: &Summaries) -> Vec<String> {
    let figure = |figure: &Figure| {
        let stderr = figure.stderr.map_or(String::new(), |stderr| format!(" ± {stderr:.2}"));
        let about = if figure.is_approximate { " (approximate: sentences by rules)" } else { "" };
        format!("cnn_dailymail  {:<9} {:.2}{stderr}{about}", figure.kind, figure.f)
    };
    let Summaries { articles, of, cut, longest_input, beams, new_tokens, seconds, place, peak_rss_mib, .. } = made;
    let all = if articles < of { format!(" of {of}") } else { String::new() };
    let about = format!(
        "{}{all}, {cut} of them cut after {longest_input} tokens; {} and {new_tokens} new tokens, {} on {}, {}",
        plural(*articles, "article"),
        plural(*beams, "beam"),
        amounts::seconds(*seconds),
        place.words(),
        place.memory(*peak_rss_mib)
    );
    made.rouge.iter().map(figure).chain([about]).collect()
}

/// The work of a measurement, in a line.
pub fn amount(amount: &Amount) -> Vec<String> {
    let Amount { requests, tokens, computed, rounds, activations } = *amount;
    vec![format!(
        "{} of {tokens} tokens, of which {computed} are computed and others shared; activations take {} in memory, in {}",
        plural(requests, "request"),
        amounts::size(activations as u64),
        plural(rounds, "round")
    )]
}
