//! Numbers and names of a report in words.

use super::Report;
use super::choices::Choices;

/// The model and its treatment, `demo, 3-bit GPTQ in groups of 32`; of a model in a folder, the folder's name.
pub fn title(report: &Report) -> String {
    let model = report.plan.get("model").and_then(|model| model.as_str()).unwrap_or("a model");
    let is_path = model.starts_with(['/', '.']) || model.contains('\\');
    let name = model.trim_end_matches(['/', '\\']).rsplit(['/', '\\']).next().filter(|_| is_path).unwrap_or(model);
    format!("{name}, {}", scheme(report))
}

/// The treatment in a few words: `3-bit GPTQ in groups of 32`; at least the method.
pub fn scheme(report: &Report) -> String {
    Some(Choices::of(&report.plan).words()).filter(|words| !words.is_empty()).unwrap_or_else(|| report.method.clone())
}

/// Seconds as people read them.
pub fn time(seconds: f64) -> String {
    let (minutes, hours) = ((seconds / 60.0).floor(), (seconds / 3600.0).floor());
    match seconds {
        s if s < 100.0 => format!("{s:.1} s"),
        s if s < 3600.0 => format!("{minutes} min {:02.0} s", (s % 60.0).floor()),
        _ => format!("{hours} h {:02.0} min", minutes - 60.0 * hours),
    }
}

/// Memory as people read it.
pub fn memory(mib: f64) -> String {
    if mib < 10_000.0 { format!("{mib:.0} MiB") } else { format!("{:.1} GiB", mib / 1024.0) }
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
