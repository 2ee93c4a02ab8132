//! Bytes, times and counts as people read them.

use std::time::Duration;

/// Bytes, to three digits that count.
pub fn size(bytes: u64) -> String {
    let (number, unit) = match bytes as f64 {
        b if b < 1e3 => return format!("{b} B"),
        b if b < 999.5e3 => (b / 1e3, "kB"),
        b if b < 999.5e6 => (b / 1e6, "MB"),
        b => (b / 1e9, "GB"),
    };
    let decimals = match number {
        n if n < 9.995 => 2,
        n if n < 99.95 => 1,
        _ => 0,
    };
    format!("{number:.decimals$} {unit}")
}

/// A time in its two largest units: `42 s`, `3 min 9 s`, `1 h 38 min`.
pub fn time(time: Duration) -> String {
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

/// A time that was measured or estimated, in seconds: as [`time`], and finer where it is short.
pub fn seconds(seconds: f64) -> String {
    match Duration::try_from_secs_f64(seconds) {
        Ok(_) if seconds < 9.95 => format!("{seconds:.1} s"),
        Ok(long) => time(long),
        // A report may come from anywhere.
        Err(_) => format!("{seconds} s"),
    }
}

/// A count and its noun, in the singular or with an s.
pub fn plural(count: usize, noun: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{s}")
}

/// MiB, without digits that nobody needs.
pub fn mib(bytes: u64) -> String {
    format!("{:.0} MiB", bytes as f64 / f64::from(1u32 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_the_units_that_fit() {
        let times = [
            (0.0, "0.000 s"),
            (0.349, "0.35 s"),
            (0.06, "0.060 s"),
            (4.04, "4.0 s"),
            (9.94, "9.9 s"),
            (9.96, "10 s"),
            (59.4, "59 s"),
            (59.6, "1 min 0 s"),
        ];
        let long = [(189.0, "3 min 9 s"), (3599.7, "1 h 0 min"), (5852.0, "1 h 38 min"), (360_029.0, "100 h 0 min")];
        for (given, want) in times.into_iter().chain(long) {
            assert_eq!(seconds(given), want, "{given}");
        }
        assert_eq!((seconds(-1.0), seconds(f64::NAN)), ("-1 s".into(), "NaN s".into()));
        assert_eq!(time(Duration::from_millis(4400)), "4 s");
        let sizes = [
            (999, "999 B"),
            (1500, "1.50 kB"),
            (99_960, "100 kB"),
            (999_700, "1.00 MB"),
            (269_030_000, "269 MB"),
            (14_500_000_000, "14.5 GB"),
            (1_234_500_000_000, "1234 GB"),
        ];
        for (given, want) in sizes {
            assert_eq!(size(given), want);
        }
        assert_eq!((plural(1, "window"), plural(0, "window")), ("1 window".to_string(), "0 windows".to_string()));
        assert_eq!(mib(3 << 20), "3 MiB");
    }
}
