//! Bytes, times and counts as people read them.

pub use paring::report::words::{time as seconds, whole_time as time};

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

/// MiB, without digits that nobody needs.
pub fn mib(bytes: u64) -> String {
    format!("{:.0} MiB", bytes as f64 / f64::from(1u32 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;
    use paring::report::words::plural;

    #[test]
    fn amounts_have_the_units_that_fit() {
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
