//! Runs side by side, in sentences and as a table.

use paring::report::comparison::{Comparison, Differing, Judged, Measure, Run};
use paring::report::difference::{Difference, NumberDifference};
use paring::report::words::{digits, memory, time};

use super::{size, stored, tasks, terminal};
use crate::option;

/// Runs up to which each is compared with the first in a sentence.
pub const FEW: usize = 4;
/// Change of size from which on it is worth a word, in per cent, and of time, as a ratio.
const SIZE: f64 = 0.5;
const TIME: f64 = 1.1;
/// Layers that are named.
const LAYERS: usize = 10;
/// Columns of a value of an option.
const VALUE: usize = 40;

/// The name of a measure.
pub fn measure(measure: Measure) -> &'static str {
    match measure {
        Measure::Perplexity => "perplexity",
        Measure::Error => "mean error",
    }
}

/// The comparison in sentences: few runs against the first, and of several the best.
pub fn headline(comparison: &Comparison) -> Vec<String> {
    let runs = &comparison.runs;
    let mut lines = Vec::new();
    if runs.len() <= FEW
        && let Some((first, others)) = runs.split_first()
    {
        lines.extend(others.iter().map(|run| against(first, run, comparison.measure)));
    }
    if let Some(measured) = comparison.measure.filter(|_| runs.len() > 2) {
        let mut best: Vec<&Run> = runs.iter().filter(|run| run.best).collect();
        best.sort_by(|a, b| a.bits_per_weight.total_cmp(&b.bits_per_weight));
        let of = |run: &&Run| format!("{} ({:.2} bits, {})", run.label, run.bits_per_weight, quality(run, measured));
        let names = best.iter().map(of).collect::<Vec<_>>().join(", ");
        lines.push(format!("Best trade-offs of bits and {}: {names}", measure(measured)));
    }
    if comparison.has_other_models() {
        lines.push("The runs had different inputs: sizes and errors are of different weights".into());
    }
    lines
}

/// A run's number.
pub fn quality(run: &Run, measure: Measure) -> String {
    run.quality(measure).map_or("–".to_string(), digits)
}

/// A run against the first: `B: perplexity −0.07, +19 % size, 10× faster`.
fn against(first: &Run, run: &Run, measured: Option<Measure>) -> String {
    let mut parts = Vec::new();
    if let Some(measured) = measured {
        parts.push(match (first.quality(measured), run.quality(measured)) {
            (Some(a), Some(b)) if a == b => format!("the same {}", measure(measured)),
            (Some(a), Some(b)) if measured == Measure::Perplexity => format!("perplexity {}", change(b - a)),
            (Some(a), Some(b)) if a > 0.0 => format!("{} {}", measure(measured), stored::change(b / a - 1.0)),
            _ => format!("no {} to compare", measure(measured)),
        });
    }
    let growth = 100.0 * (run.bytes_out as f64 / first.bytes_out.max(1) as f64 - 1.0);
    parts.push(match growth {
        growth if growth.abs() < SIZE => "the same size".to_string(),
        growth => format!("{} size", stored::change(growth / 100.0)),
    });
    parts.extend(pace(first.seconds / run.seconds));
    format!("{}: {}", run.label, parts.join(", "))
}

/// A difference of perplexities: two digits after the point, more where they would be 0.
fn change(by: f64) -> String {
    let sign = if by < 0.0 { "−" } else { "+" };
    match by.abs() {
        by if (0.005..1e4).contains(&by) => format!("{sign}{by:.2}"),
        by => format!("{sign}{}", digits(by)),
    }
}

/// A ratio of speeds; nothing where it is about 1, or where a report has no time.
fn pace(ratio: f64) -> Option<String> {
    let (ratio, word) = if ratio >= 1.0 { (ratio, "faster") } else { (1.0 / ratio, "slower") };
    match ratio {
        ratio if !(TIME..1e9).contains(&ratio) => None,
        ratio if ratio < 10.0 => Some(format!("{ratio:.1}× {word}")),
        ratio => Some(format!("{ratio:.0}× {word}")),
    }
}

/// The numbers of two runs; zeros only where weights of one were removed.
pub fn numbers(comparison: &Comparison, difference: &Difference) -> Vec<NumberDifference> {
    let is_pruned = comparison.runs.iter().any(|run| run.is_pruned);
    difference.numbers.iter().filter(|number| is_pruned || number.name != "sparsity").cloned().collect()
}

/// An option's name as it is typed.
pub fn name(differing: &Differing) -> String {
    if differing.typed { option(&differing.option) } else { differing.option.clone() }
}

/// A value of an option; an option that is not set has none.
pub fn value(value: Option<&str>) -> String {
    match value {
        None => "–".to_string(),
        Some("") => "on".to_string(),
        Some(value) => value.to_string(),
    }
}

/// A run's metric of a task, with its standard error or its difference to the first run.
pub fn answered(judged: &Judged, run: usize) -> String {
    let (metric, difference) = (judged.values.get(run), judged.differences.get(run));
    match (metric.and_then(Option::as_ref), difference.and_then(Option::as_ref)) {
        (None, _) => "–".to_string(),
        (Some(metric), Some(found)) => format!("{} ({})", tasks::number(metric.value), tasks::difference(found)),
        (Some(metric), None) => tasks::with_error(metric),
    }
}

/// Runs as a table, the options in which they differ, and the layers that differ most.
pub fn tables(comparison: &Comparison) -> Vec<String> {
    let measured = comparison.measure;
    let row = |run: &Run| {
        let mut row = vec![run.label.clone(), run.out.clone(), run.scheme.clone()];
        row.extend([format!("{:.2}", run.bits_per_weight), size(run.bytes_out)]);
        row.extend(measured.map(|measured| quality(run, measured)));
        row.extend([time(run.seconds), memory(run.peak_rss_mib)]);
        row
    };
    let names = ["", "run", "scheme", "bits", "size"].into_iter();
    let head = names.chain(measured.map(measure)).chain(["time", "memory"]).map(String::from).collect();
    let mut lines = vec![String::new()];
    lines.extend(table(std::iter::once(head).chain(comparison.runs.iter().map(row)).collect(), 3));
    let labels = || comparison.runs.iter().map(|run| run.label.clone());
    if !comparison.options.is_empty() {
        lines.push(String::new());
        let head = std::iter::once("options that differ".to_string()).chain(labels()).collect();
        let row = |differing: &Differing| {
            let values = differing.values.iter().map(|given| value(given.as_deref()));
            std::iter::once(name(differing)).chain(values).collect()
        };
        let rows = comparison.options.iter().map(row);
        lines.extend(table(std::iter::once(head).chain(rows).collect(), usize::MAX));
    }
    if !comparison.tasks.is_empty() {
        lines.push(String::new());
        let head = std::iter::once("tasks".to_string()).chain(labels()).collect();
        let row = |judged: &Judged| {
            let values = (0..judged.values.len()).map(|run| answered(judged, run));
            std::iter::once(format!("{} {}", judged.task, judged.metric)).chain(values).collect()
        };
        lines.extend(table(std::iter::once(head).chain(comparison.tasks.iter().map(row)).collect(), usize::MAX));
    }
    if !comparison.layers.is_empty() {
        lines.push(String::new());
        let head = std::iter::once("errors that differ most".to_string()).chain(labels()).collect();
        let rows = comparison.layers.iter().take(LAYERS).map(|layer| {
            let errors = layer.errors.iter().map(|error| error.map_or("–".to_string(), digits));
            std::iter::once(layer.name.clone()).chain(errors).collect()
        });
        lines.extend(table(std::iter::once(head).chain(rows).collect(), 1));
    }
    lines
}

/// Rows of text under each other, the columns from this one on aligned to the right.
pub fn table(rows: Vec<Vec<String>>, right: usize) -> Vec<String> {
    let cut = |text: &String, i: usize| terminal::cut(text, if i == 0 { terminal::NAME } else { VALUE });
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().enumerate().map(|(i, text)| cut(text, i)).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |i: usize| rows.iter().filter_map(|row| row.get(i)).map(|text| text.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().enumerate().map(|(i, text)| match i >= right {
            true => format!("{text:>0$}", widths[i]),
            false => format!("{text:<0$}", widths[i]),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_string()
    };
    rows.iter().map(line).collect()
}
