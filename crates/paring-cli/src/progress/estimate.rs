//! The estimate of a run, in a line.

use paring::report::progress::{Estimate, SmallerData};

use crate::show::amounts::{mib, size};

/// About how long, how much memory and disk; and what takes less time, where it is long.
pub fn sentence(estimate: &Estimate, spell: impl Fn(&str) -> String) -> String {
    let Estimate { seconds, memory, vram, disk, smaller } = estimate;
    let vram = vram.map_or(String::new(), |vram| format!(", {} on the GPU", mib(vram)));
    let smaller = smaller.as_ref().map_or(String::new(), |SmallerData { nsamples, seqlen, seconds }| {
        format!("; {} {nsamples} {} {seqlen} takes {}", spell("nsamples"), spell("seqlen"), about(*seconds))
    });
    format!("this takes {}, {} of memory{vram} and {} of disk{smaller}", about(*seconds), mib(*memory), size(*disk))
}

/// A time of which only the first figures are known: `about 40 s`, `about 1 h 38 min`.
fn about(seconds: f64) -> String {
    let minutes = (seconds / 60.0).round() as u64;
    match minutes {
        _ if seconds < 5.0 => "a few seconds".into(),
        _ if seconds < 10.0 => format!("about {seconds:.0} s"),
        _ if seconds < 55.0 => format!("about {:.0} s", (seconds / 5.0).round() * 5.0),
        ..60 => format!("about {} min", minutes.max(1)),
        60..1440 if minutes.is_multiple_of(60) => format!("about {} h", minutes / 60),
        60..1440 => format!("about {} h {} min", minutes / 60, minutes % 60),
        _ => format!("about {:.1} days", seconds / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_a_run_takes() {
        let long = Estimate {
            seconds: 5890.0,
            memory: 829 << 20,
            vram: None,
            disk: 113_000_000,
            smaller: Some(SmallerData { nsamples: 16, seqlen: 512, seconds: 66.0 }),
        };
        assert_eq!(
            sentence(&long, |name| format!("--{name}")),
            "this takes about 1 h 38 min, 829 MiB of memory and 113 MB of disk; --nsamples 16 --seqlen 512 takes about 1 min"
        );
        let short = Estimate { seconds: 1.2, vram: Some(7 << 30), smaller: None, ..long };
        assert_eq!(
            sentence(&short, str::to_string),
            "this takes a few seconds, 829 MiB of memory, 7168 MiB on the GPU and 113 MB of disk"
        );
        for (seconds, expected) in [
            (6.4, "about 6 s"),
            (43.0, "about 45 s"),
            (54.9, "about 55 s"),
            (56.0, "about 1 min"),
            (3590.0, "about 1 h"),
            (200_000.0, "about 2.3 days"),
        ] {
            assert_eq!(about(seconds), expected);
        }
    }
}
