//! Reports of runs that are done, as text.

use paring::report::difference::{Difference, NumberDifference, ValueDifference, leaves, mean};
use paring::report::{Report, StageReport, quoted};
use serde_json::Value;

use super::amounts;
use super::inspected::PRUNED;
use super::outcome::{sentence, table};
use super::size;

/// Layers that are named: those with the largest errors, and those that differ most.
const LAYERS: usize = 10;

/// True if weights were removed, by the run or before it.
pub fn is_pruned(report: &Report) -> bool {
    let removes = |recipe: &Value| !recipe["pattern"].is_null();
    let overrides = report.plan["overrides"].as_array().into_iter().flatten();
    removes(&report.plan["recipe"]) || overrides.map(|over| &over["recipe"]).any(removes) || report.sparsity >= PRUNED
}

/// A relative change, with its sign.
pub fn change(share: f64) -> String {
    let sign = if share < 0.0 { "−" } else { "+" };
    format!("{sign}{:.1} %", 100.0 * share.abs())
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

/// The differences of two runs; `names` are what they are called.
pub fn difference(difference: &Difference, names: [&str; 2]) -> Vec<String> {
    let [first, second] = names;
    let mut lines = vec![format!("A  {first}"), format!("B  {second}")];
    for (what, choices) in [("plan", &difference.plan), ("environment", &difference.environment)] {
        lines.push(String::new());
        if choices.is_empty() {
            lines.push(format!("the same {what}"));
        } else {
            lines.push(format!("{what}: what differs"));
            lines.extend(choices.iter().map(choice));
        }
    }
    let in_words = |n: &NumberDifference| NumberDifference { name: words(&n.name).to_string(), ..n.clone() };
    let named: Vec<NumberDifference> = difference.numbers.iter().map(in_words).collect();
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
    let differing =
        difference.layers.iter().filter(|l| l.error.first != l.error.second || l.bits.first != l.bits.second);
    let most: Vec<_> = differing.take(LAYERS).collect();
    if !most.is_empty() {
        lines.push(String::new());
        lines.push("layers that differ most: error, bits".to_string());
        for layer in most {
            let arrow = |n: &NumberDifference| format!("{} → {}", value(n.first, n.unit), value(n.second, n.unit));
            lines.push(format!("  {}  {}, {}", layer.name, arrow(&layer.error), arrow(&layer.bits)));
        }
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

/// A value as it would be typed.
pub fn plain(value: &Value) -> String {
    match value {
        Value::Null => "none".to_string(),
        Value::String(text) => text.clone(),
        Value::Array(list) if !list.is_empty() => list.iter().map(plain).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
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

/// A number, to three digits that count or more.
pub fn digits(number: f64) -> String {
    match number.abs() {
        0.0 => "0".to_string(),
        small if small < 1e-5 => format!("{number:.2e}"),
        below if below < 1.0 => format!("{number:.0$}", (2.0 - below.log10().floor()) as usize),
        below if below < 1e4 => format!("{number:.3}"),
        _ => format!("{number:.4e}"),
    }
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

/// Choices that were made: those of the plan that are not empty, with their paths.
pub fn chosen(plan: &Value) -> Vec<(String, String)> {
    let nothing = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.is_empty(),
        _ => false,
    };
    leaves(plan).into_iter().filter(|(_, v)| !nothing(v)).map(|(key, v)| (key, plain(&v))).collect()
}
