//! Reports of runs that are done, as text.

pub use paring::report::choices::plain;
use paring::report::difference::{Difference, NumberDifference, ValueDifference, mean};
pub use paring::report::words::digits;
use paring::report::{Report, StageReport, quoted};

use super::amounts;
use super::outcome::{sentence, table};
use super::size;

/// Layers with the largest errors that are named.
const LAYERS: usize = 10;

/// A relative change, with its sign.
pub fn change(share: f64) -> String {
    let percent = 100.0 * share.abs();
    let digits = if percent < 9.95 { 1 } else { 0 };
    let sign = if share < 0.0 { "−" } else { "+" };
    format!("{sign}{percent:.digits$} %")
}

/// The command of a run.
pub fn command(report: &Report) -> Option<String> {
    (!report.command.is_empty()).then(|| format!("{:<12} {}", "command", quoted(&report.command)))
}

/// A run: where it ran, what came of it.
pub fn run(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    lines.push(format!("{:<12} {}", "started", report.started));
    lines.extend(environment(report).into_iter().map(|(name, value)| format!("{name:<12} {value}")));
    lines.push(String::new());
    lines.extend(table(report));
    lines.push(sentence(report));
    if !report.stages.is_empty() {
        lines.push(String::new());
        lines.push(format!("{:<22} {:>10} {:>10} {:>12}", "stage", "seconds", "GFLOP/s", "memory"));
        lines.extend(report.stages.iter().map(stage));
    }
    lines.extend(errors(report));
    if !report.notes.is_empty() {
        lines.push(String::new());
        lines.extend(report.notes.iter().map(|note| format!("note: {note}")));
    }
    lines
}

/// Program and machine, by name.
pub fn environment(report: &Report) -> Vec<(String, String)> {
    let machine = &report.environment;
    let gib = machine.memory_mib / 1024.0;
    let cores = format!("{} of {} cores", machine.threads, machine.cores);
    let rows = [
        ("program", machine.program.clone()),
        ("system", machine.system.clone()),
        ("processor", machine.cpu.clone()),
        ("instructions", machine.instructions.join(" ")),
        ("threads", cores),
        ("memory", if gib > 0.0 { format!("{gib:.1} GiB") } else { String::new() }),
        ("device", report.place.words()),
    ];
    rows.into_iter().filter(|(_, v)| !v.is_empty()).map(|(name, value)| (name.to_string(), value)).collect()
}

fn stage(stage: &StageReport) -> String {
    let rate = stage.gigaflop_per_second.map_or(String::new(), |rate| format!("{rate:.0}"));
    format!("{:<22} {:>10} {rate:>10} {:>8.0} MiB", stage.stage, seconds(stage.seconds), stage.peak_rss_mib)
}

/// Mean errors by kind, and the layers with the largest ones; nothing when none were computed.
fn errors(report: &Report) -> Vec<String> {
    let mut layers: Vec<(&str, &str, f64)> =
        report.layers.iter().filter_map(|l| Some((l.kind.as_str(), l.name.as_str(), l.error?))).collect();
    if layers.is_empty() {
        return Vec::new();
    }
    let mut kinds: Vec<&str> = layers.iter().map(|(kind, _, _)| *kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let of = |kind: &str| mean(layers.iter().filter(|(other, _, _)| *other == kind).map(|(_, _, error)| *error));
    let rounded = |kind: &str| mean(report.layers.iter().filter(|l| l.kind == kind).filter_map(|l| l.baseline_error));
    let plain = if report.layers.iter().any(|l| l.baseline_error.is_some()) { "baseline" } else { "" };
    let mut lines = vec![String::new(), format!("{:<23} {:>10} {plain:>12}", "error by kind of linear", "mean")];
    lines.extend(kinds.iter().map(|kind| {
        let number = |value: Option<f64>| value.map_or(String::new(), digits);
        format!("  {kind:<21} {:>10} {:>12}", number(of(kind)), number(rounded(kind))).trim_end().to_string()
    }));
    layers.sort_by(|a, b| b.2.total_cmp(&a.2));
    lines.push("largest errors".to_string());
    lines.extend(layers.iter().take(LAYERS).map(|(_, name, error)| format!("  {name}  {}", digits(*error))));
    lines
}

/// All numbers in which the second of two runs differs from the first; `numbers` are those of the whole runs to show.
pub fn difference(difference: &Difference, numbers: &[NumberDifference]) -> Vec<String> {
    let mut lines = vec![String::new()];
    if difference.environment.is_empty() {
        lines.push("the same environment".to_string());
    } else {
        lines.push("environment".to_string());
        lines.extend(difference.environment.iter().map(choice));
    }
    let in_words = |n: &NumberDifference| NumberDifference { name: words(&n.name).to_string(), ..n.clone() };
    let named: Vec<NumberDifference> = numbers.iter().map(in_words).collect();
    for (what, numbers) in
        [("", &named), ("seconds by stage", &difference.stages), ("mean error by kind", &difference.kinds)]
    {
        if numbers.is_empty() {
            continue;
        }
        lines.push(String::new());
        lines.push(format!("{what:<22} {:>14} {:>14} {:>14} {:>9}", "A", "B", "B - A", "B / A"));
        lines.extend(numbers.iter().map(number));
    }
    for (run, only) in [("A", &difference.only_first), ("B", &difference.only_second)] {
        if let Some(one) = only.first() {
            let more = if only.len() > 1 { format!(" and {} more", only.len() - 1) } else { String::new() };
            lines.push(format!("only {run} compressed {one}{more}"));
        }
    }
    lines
}

fn choice(choice: &ValueDifference) -> String {
    format!("  {:<40} {} → {}", choice.key, plain(&choice.first), plain(&choice.second))
}

fn number(n: &NumberDifference) -> String {
    let ratio = n.ratio.map_or(String::new(), |ratio| format!("{ratio:.3}"));
    let difference = n.difference.map_or(String::new(), |by| signed(by, n.unit));
    format!("{:<22} {:>14} {:>14} {difference:>14} {ratio:>9}", n.name, value(n.first, n.unit), value(n.second, n.unit))
}

/// The name of a number of the report.
pub fn words(name: &str) -> &str {
    match name {
        "perplexity_before" => "perplexity of the input",
        "bits_per_weight" => "bits per weight",
        "bytes_out" => "size",
        "sparsity" => "zeros",
        "outlier_share" => "outliers",
        "error" => "mean error",
        "seconds" => "time",
        "peak_rss_mib" => "memory",
        "peak_vram_mib" => "memory of the GPU",
        other => other,
    }
}

/// A number with its unit; a dash where there is none.
pub fn value(number: Option<f64>, unit: &str) -> String {
    let Some(number) = number else { return "–".to_string() };
    match unit {
        "bytes" => size(number as u64),
        "share" => format!("{:.2} %", 100.0 * number),
        "s" if number >= 60.0 => amounts::seconds(number),
        "s" => format!("{} s", seconds(number)),
        "MiB" if number < 100.0 => format!("{number:.1} MiB"),
        "MiB" => format!("{number:.0} MiB"),
        "bits" => format!("{number:.3}"),
        _ => digits(number),
    }
}

/// Seconds, finer where they are few.
pub fn seconds(number: f64) -> String {
    if number < 1.0 { format!("{number:.3}") } else { format!("{number:.2}") }
}

/// A difference, with its sign.
pub fn signed(difference: f64, unit: &str) -> String {
    let sign = if difference > 0.0 {
        "+"
    } else if difference < 0.0 {
        "−"
    } else {
        ""
    };
    format!("{sign}{}", value(Some(difference.abs()), unit))
}
