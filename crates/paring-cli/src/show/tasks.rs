//! Results of tasks, as a table.

use paring::commands::likelihoods::Amount;
use paring::commands::summaries::{Figure, Summaries};
use paring::commands::tasks::Judged;
use paring::report::TasksReport;
use paring::report::words::{digits, plural};
use paring_tasks::results::summary;
use paring_tasks::{Comparison, Metric, TaskResult};

use super::amounts;
use super::comparison::table;

/// A line for each result, with its metrics and their standard errors, and one on the work.
pub fn judged(judged: &Judged) -> Vec<String> {
    let results = summary(&judged.results);
    let columns = results.iter().map(|result| result.metrics.len()).max().unwrap_or(0);
    let row = |result: &&TaskResult| {
        let metric = |metric: &Metric| format!("{} {}", metric.metric, with_error(metric));
        let shots = if result.shots > 0 { format!(", {}-shot", result.shots) } else { String::new() };
        let about = format!("{}{shots}, version {}", plural(result.documents, "document"), result.version);
        let mut row: Vec<String> = [result.task.clone()].into_iter().chain(result.metrics.iter().map(metric)).collect();
        row.resize(1 + columns, String::new());
        row.push(about);
        row
    };
    let mut lines = table(results.iter().map(row).collect(), usize::MAX);
    let Judged { amount: Amount { requests, tokens, .. }, seconds, place, peak_rss_mib, .. } = judged;
    lines.push(format!(
        "{} of {tokens} tokens, {} on {}, {}",
        plural(*requests, "request"),
        amounts::seconds(*seconds),
        place.words(),
        place.memory(*peak_rss_mib)
    ));
    lines
}

/// A metric's value and its standard error.
pub fn with_error(metric: &Metric) -> String {
    match metric.stderr {
        Some(stderr) => format!("{} ± {}", number(metric.value), number(stderr)),
        None => number(metric.value),
    }
}

/// Four digits after the point of what is below 100, as the harness prints it.
pub fn number(value: f64) -> String {
    if value.abs() < 100.0 { format!("{value:.4}") } else { digits(value) }
}

/// Lines of tasks before and after: the first metric of each that has a difference by documents, and groups for their tasks.
pub fn changed(report: &TasksReport) -> Vec<String> {
    let lines = report.shown().filter_map(|(_, result)| {
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
pub fn summarized(task: &str, made: &Summaries) -> Vec<String> {
    let figure = |figure: &Figure| {
        let stderr = figure.stderr.map_or(String::new(), |stderr| format!(" ± {stderr:.2}"));
        let about = if figure.is_approximate { " (approximate: sentences by rules)" } else { "" };
        format!("{task}  {:<9} {:.2}{stderr}{about}", figure.kind, figure.f)
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
pub fn amount(amount: &Amount) -> String {
    let Amount { requests, tokens, computed, rounds, activations, on_disk, .. } = *amount;
    let file = if on_disk > 0 { format!(", and {} in a file", amounts::size(on_disk as u64)) } else { String::new() };
    format!(
        "{} of {tokens} tokens, of which {computed} are computed and others shared, in {} of the weights; activations take {} \
        in memory{file}",
        plural(requests, "request"),
        if rounds == 1 { "one pass".into() } else { format!("{rounds} passes") },
        amounts::size(activations as u64),
    )
}
