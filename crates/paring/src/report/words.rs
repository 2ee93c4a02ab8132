//! Numbers and names of a report in words.

use std::time::Duration;

use super::Report;
use super::choices::Choices;

/// A count and its noun, in the singular or with an s.
pub fn plural(count: usize, noun: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{s}")
}

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

/// A time that was measured or estimated, in seconds: as [`whole_time`], and finer where it is short.
pub fn time(seconds: f64) -> String {
    match Duration::try_from_secs_f64(seconds) {
        Ok(_) if seconds < 0.095 => format!("{seconds:.3} s"),
        Ok(_) if seconds < 0.95 => format!("{seconds:.2} s"),
        Ok(_) if seconds < 9.95 => format!("{seconds:.1} s"),
        Ok(long) => whole_time(long),
        // A report may come from anywhere.
        Err(_) => format!("{seconds} s"),
    }
}

/// A time in its two largest units: `42 s`, `3 min 9 s`, `1 h 38 min`.
pub fn whole_time(time: Duration) -> String {
    let seconds = time.as_secs_f64().round() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s} s"),
        // Seconds of hours are noise, and round the minutes.
        _ => {
            let minutes = (seconds + 30) / 60;
            format!("{} h {} min", minutes / 60, minutes % 60)
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_finer_where_they_are_short() {
        for (seconds, want) in [
            (0.0, "0.000 s"),
            (0.06, "0.060 s"),
            (0.349, "0.35 s"),
            (4.04, "4.0 s"),
            (9.96, "10 s"),
            (59.4, "59 s"),
            (59.6, "1 min 0 s"),
            (189.0, "3 min 9 s"),
            (3599.7, "1 h 0 min"),
            (5852.0, "1 h 38 min"),
            (360_029.0, "100 h 0 min"),
            (-1.0, "-1 s"),
            (f64::NAN, "NaN s"),
        ] {
            assert_eq!(time(seconds), want, "{seconds}");
        }
        assert_eq!(whole_time(Duration::from_millis(4400)), "4 s");
    }
}
