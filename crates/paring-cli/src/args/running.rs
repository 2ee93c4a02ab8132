//! Options of all commands that compute: where, how, and what they tell meanwhile.

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};
use paring::Precision;
use paring_kernels::device::Choice;

use super::LogArg;
use super::headings::{GLOBAL, SPEED};

#[derive(Args)]
#[command(next_help_heading = SPEED)]
pub struct Running {
    #[command(flatten)]
    pub place: DeviceArg,
    /// Threads [default: one per core]; results do not depend on it
    #[arg(long, display_order = 2, value_name = "N", hide_short_help = true, value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    /// Compute type: products round their inputs to it
    #[arg(long, display_order = 3, value_enum, default_value = "auto", hide_short_help = true)]
    pub dtype: DtypeArg,
    /// GPU memory to use at most, such as 8GiB or 8000MB [default: what is free, less a sixteenth of all]
    #[arg(long, display_order = 4, value_name = "SIZE", hide_short_help = true, value_parser = size)]
    pub max_vram: Option<u64>,
    /// Print each layer and a time breakdown
    #[arg(long, short, hide_short_help = true, help_heading = GLOBAL)]
    pub verbose: bool,
    #[command(flatten)]
    pub log: LogArg,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum DtypeArg {
    /// bf16 for bfloat16 checkpoints, f32 for others
    Auto,
    F32,
    Bf16,
    F16,
}

#[derive(Args)]
#[command(next_help_heading = SPEED)]
pub struct DeviceArg {
    /// auto, cpu, cuda or cuda:N; auto is the first GPU if this build has CUDA and one answers
    #[arg(long, display_order = 1, value_name = "DEVICE", default_value = "auto", hide_short_help = true)]
    pub device: Choice,
    /// Fastest instructions to use on the CPU, such as avx512 [default: $PARING_ISA, or the best; --version says which]
    #[arg(long, display_order = 2, value_name = "NAME", hide_short_help = true, value_parser = NonEmptyStringValueParser::new())]
    pub isa: Option<String>,
}

impl DtypeArg {
    /// The precision of products; `None` where the checkpoint decides.
    pub fn precision(self) -> Option<Precision> {
        match self {
            DtypeArg::Auto => None,
            DtypeArg::F32 => Some(Precision::F32),
            DtypeArg::Bf16 => Some(Precision::Bf16),
            DtypeArg::F16 => Some(Precision::F16),
        }
    }
}

/// Bytes, written as a number and perhaps a unit.
fn size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, f64); 10] = [
        ("", 1.0),
        ("b", 1.0),
        ("kb", 1e3),
        ("mb", 1e6),
        ("gb", 1e9),
        ("tb", 1e12),
        ("kib", 1024.0),
        ("mib", 1_048_576.0),
        ("gib", 1_073_741_824.0),
        ("tib", 1_099_511_627_776.0),
    ];
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim().to_ascii_lowercase();
    let factor = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| factor);
    let bytes = number.parse::<f64>().ok().zip(factor).map(|(number, factor)| number * factor);
    let bytes = bytes.filter(|bytes| (1.0..1e18).contains(bytes));
    bytes
        .map(|bytes| bytes as u64)
        .ok_or_else(|| "expected a size such as 8GiB, 8000MB or a number of bytes".to_string())
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_have_units_or_none() {
        for (text, want) in [
            ("8GiB", 8u64 << 30),
            ("8 gib", 8 << 30),
            ("0.5GiB", 1 << 29),
            ("8000MB", 8_000_000_000),
            ("123", 123),
            ("1TB", 1_000_000_000_000),
            ("64kib", 65536),
        ] {
            assert_eq!(size(text), Ok(want), "{text}");
        }
        for text in ["", "GiB", "-1", "0", "8G B", "8 parsecs", "1e3", "nan", "8.0.1MB", "99999999TiB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
