//! Options of a recipe.

use clap::{Args, ValueEnum};
use paring::plan::{Pattern, Permutation};

#[derive(Clone, Copy, ValueEnum)]
pub enum ActOrderArg {
    None,
    Static,
    Group,
}

#[derive(Args, Clone)]
#[command(next_help_heading = "Rounding")]
pub struct Grids {
    /// A scheme by its name (`paring schemes` lists them): element, groups, symmetry and quantized inputs at once
    #[arg(long, value_name = "NAME", conflicts_with = "wbits")]
    pub scheme: Option<String>,
    /// Bits of a weight, 2 to 8
    #[arg(long, value_name = "B", allow_negative_numbers = true)]
    pub wbits: Option<u32>,
    /// Columns that share a scale; -1: the whole row [default: -1, or what the scheme says]
    #[arg(long, value_name = "G", allow_negative_numbers = true)]
    pub groupsize: Option<i64>,
    /// Symmetric grids, without zero points
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub sym: Option<bool>,
    /// One grid per row; `--perchannel=false`, for spqr, has one for all rows
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub perchannel: Option<bool>,
    /// Shrink each grid's range to the one with the least error
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub mse: Option<bool>,
    /// Visit columns by falling Gram diagonal: `static` keeps groups in file order [default: none]
    #[arg(long, value_enum, value_name = "ORDER")]
    pub actorder: Option<ActOrderArg>,
    /// Fit the grids of all groups before the sweep
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub static_groups: Option<bool>,
}

#[derive(Args)]
#[command(next_help_heading = "Pruning")]
pub struct Removal {
    /// Keep N of every M consecutive weights of a row
    #[arg(long, value_name = "N:M", value_parser = pattern)]
    pub pattern: Option<Pattern>,
    /// Share of the weights to remove
    #[arg(long, value_name = "S", conflicts_with = "pattern", allow_negative_numbers = true)]
    pub sparsity: Option<f64>,
}

#[derive(Args)]
#[command(next_help_heading = "Sweep")]
pub struct Sweep {
    /// Damping of the Gram matrix, as a share of its mean diagonal [default: 0.01]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    pub percdamp: Option<f64>,
    /// Columns of a slice of the sweep [default: 128]
    #[arg(long, value_name = "COLUMNS", allow_negative_numbers = true)]
    pub blocksize: Option<usize>,
}

/// SpQR's options, as its published script spells them (with hyphens or underscores).
#[derive(Args)]
#[command(next_help_heading = "SpQR (any of these selects --method spqr)")]
pub struct SpqrArgs {
    /// Quantize the scales again, to B bits
    #[arg(long, value_name = "B", allow_negative_numbers = true)]
    pub qq_scale_bits: Option<u32>,
    /// Quantize the zeros again, to B bits
    #[arg(long, value_name = "B", allow_negative_numbers = true)]
    pub qq_zero_bits: Option<u32>,
    /// Rows whose scales and zeros share a grid [default: 16]
    #[arg(long, value_name = "ROWS", allow_negative_numbers = true)]
    pub qq_groupsize: Option<usize>,
    /// Symmetric grids for the zeros
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub qq_zero_sym: Option<bool>,
    /// Keep a weight exact when its squared error is over this share of the weights' mean variance; inf keeps none
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    pub outlier_threshold: Option<f64>,
    /// Find the threshold that keeps this share of the weights exact, on a sample of the layers
    #[arg(long, value_name = "SHARE", conflicts_with = "outlier_threshold", allow_negative_numbers = true)]
    pub outlier_share: Option<f64>,
    /// Choose bits, groups and outliers for this many bits per weight on disk
    #[arg(
        long,
        value_name = "BITS",
        conflicts_with_all = ["outlier_share", "outlier_threshold", "qq_scale_bits", "qq_zero_bits", "qq_groupsize"],
        allow_negative_numbers = true
    )]
    pub target_bits: Option<f64>,
    /// The order in which columns are visited [default: identity]
    #[arg(long, value_enum, value_name = "ORDER")]
    pub permutation_order: Option<PermutationArg>,
    /// Fit grids to all weights of a group, without looking for likely outliers first
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub simplified_outliers: Option<bool>,
    /// Round zeros to whole numbers
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub round_zero: Option<bool>,
    /// Correct but don't round the last N columns visited
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub keep_last_columns: Option<usize>,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum PermutationArg {
    /// As in the file
    Identity,
    /// By falling Gram diagonal
    #[value(name = "act_order", alias = "act-order")]
    ActOrder,
    /// Columns whose weights rank alike side by side
    Spearman,
}

impl PermutationArg {
    /// The same as a recipe has it.
    pub fn permutation(self) -> Permutation {
        match self {
            PermutationArg::Identity => Permutation::Identity,
            PermutationArg::ActOrder => Permutation::ActOrder,
            PermutationArg::Spearman => Permutation::Spearman,
        }
    }
}

fn pattern(text: &str) -> std::result::Result<Pattern, String> {
    let numbers = text.split_once(':').and_then(|(n, m)| Some((n.parse().ok()?, m.parse().ok()?)));
    let (keep, of) = numbers.ok_or_else(|| "expected N:M, such as 2:4".to_string())?;
    Ok(Pattern::NofM { keep, of })
}
