//! Options of a recipe.

use clap::{Args, ValueEnum};
use paring::plan::allocation::SparsityBy;
use paring::plan::{MaskSearch, Pattern, Permutation, Search};

use super::headings::{GPTQ, SPQR, WHAT};

#[derive(Clone, Copy, ValueEnum)]
pub enum ActOrderArg {
    /// Visit columns as they are stored
    None,
    /// Groups stay of neighbouring columns: every program loads that
    Static,
    /// Groups follow the order of visit: needs --format dense
    Group,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum ScalesArg {
    /// The grid spans its weights
    Minmax,
    /// The clipping range whose errors have the least sum of powers of 2.4, as in the GPTQ code
    Mse,
    /// The scale and zero point with the least errors, each column weighted by its inputs: needs calibration data
    Weighted,
}

impl ScalesArg {
    /// The same as a recipe has it.
    pub fn search(self) -> Search {
        match self {
            ScalesArg::Minmax => Search::MinMax,
            ScalesArg::Mse => Search::Mse,
            ScalesArg::Weighted => Search::Weighted,
        }
    }
}

#[derive(Args, Clone)]
#[command(next_help_heading = WHAT)]
pub struct Grids {
    /// Preset such as W4A16, FP8_DYNAMIC or NVFP4; `paring schemes` lists all
    ///
    /// `paring quantize` takes W4A16 where neither a scheme nor bits are given.
    #[arg(long, value_name = "NAME", conflicts_with = "wbits")]
    pub scheme: Option<String>,
    /// Bits per weight, 2 to 8
    #[arg(long, value_name = "B", allow_negative_numbers = true)]
    pub wbits: Option<u32>,
    /// Weights per scale, such as 128; -1: one scale per row
    ///
    /// Default: what the scheme says, or 64 or 32 where that does not divide the inputs of all layers; without a scheme, one
    /// scale per row.
    #[arg(long, value_name = "G", allow_negative_numbers = true)]
    pub groupsize: Option<i64>,
    /// Symmetric quantization, without zero points
    #[arg(
        long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        hide_short_help = true
    )]
    pub sym: Option<bool>,
}

#[derive(Args)]
#[command(next_help_heading = WHAT)]
pub struct Target {
    /// Bits per weight to reach on disk
    ///
    /// Chooses bits, groups and outliers of SpQR; with --method gptq or rtn, by measuring, the bits and groups of each layer.
    #[arg(
        long,
        value_name = "BITS",
        conflicts_with_all = ["outlier_share", "outlier_threshold", "qq_scale_bits", "qq_zero_bits", "qq_groupsize"],
        allow_negative_numbers = true
    )]
    pub target_bits: Option<f64>,
}

#[derive(Args)]
#[command(next_help_heading = WHAT)]
pub struct Removal {
    /// Keep N of every M consecutive weights of a row, such as 2:4
    #[arg(long, value_name = "N:M", value_parser = pattern)]
    pub pattern: Option<Pattern>,
    /// Share of the weights to remove, such as 0.5
    #[arg(long, value_name = "S", conflicts_with = "pattern", allow_negative_numbers = true)]
    pub sparsity: Option<f64>,
    /// Choice of the weights that sparsegpt removes [default in `paring prune`: descent for N:M, admm for a share]
    #[arg(long, value_enum, value_name = "SEARCH", hide_short_help = true)]
    pub mask: Option<MaskArg>,
    /// Fit the weights that stay once more when it is known which [default: with sparsegpt in `paring prune`]
    ///
    /// For any method that prunes. It needs calibration data, and the Gram matrix of each linear's inputs.
    #[arg(
        long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        hide_short_help = true
    )]
    pub refit: Option<bool>,
    /// Remove what sparsegpt removes, and leave all other weights as they are
    ///
    /// Its sweep moves errors to find the mask, and they are dropped. For masks that training starts from.
    #[arg(long, hide_short_help = true)]
    pub mask_only: bool,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum MaskArg {
    /// As the sweep of SparseGPT comes upon them
    Sparsegpt,
    /// Then every group of columns chooses anew, given all others
    Descent,
    /// By alternating between weights that fit and weights under a mask (ADMM)
    Admm,
}

impl MaskArg {
    /// The same as a recipe has it.
    pub fn search(self) -> MaskSearch {
        match self {
            MaskArg::Sparsegpt => MaskSearch::SparseGpt,
            MaskArg::Descent => MaskSearch::Descent,
            MaskArg::Admm => MaskSearch::Admm,
        }
    }
}

#[derive(Args)]
#[command(next_help_heading = WHAT)]
pub struct Allocate {
    /// Let --sparsity be the mean, and choose the share of each layer: owl, by outliers of its block's scores; error, by what
    /// its error does to the predictions
    #[arg(long, value_name = "BY", value_parser = allocation, hide_short_help = true)]
    pub allocate: Option<SparsityBy>,
}

#[derive(Args)]
#[command(next_help_heading = WHAT)]
pub struct Published {
    /// Do exactly what the published code does with these options
    ///
    /// Without it, `paring quantize` visits important columns first and searches scales (--actorder static, --scales weighted),
    /// `paring prune` searches the masks of sparsegpt and fits what stays (--mask and --refit), and statistics are
    /// --true-sequential. `paring layer`, which is for comparisons with such code, does this in any case.
    #[arg(long, hide_short_help = true)]
    pub published: bool,
}

#[derive(Args)]
#[command(next_help_heading = GPTQ)]
pub struct Sweep {
    /// Quantize important columns first [default: static in `paring quantize`]
    #[arg(long, value_enum, value_name = "ORDER", hide_short_help = true)]
    pub actorder: Option<ActOrderArg>,
    /// Hessian dampening, as a share of its mean diagonal [default: 0.01]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true, hide_short_help = true)]
    pub percdamp: Option<f64>,
    /// Columns processed per step [default: 128]
    #[arg(long, value_name = "COLUMNS", allow_negative_numbers = true, hide_short_help = true)]
    pub blocksize: Option<usize>,
    /// Choice of each grid's scale [default: weighted in `paring quantize` with gptq and spqr]
    #[arg(long, value_enum, value_name = "SEARCH", hide_short_help = true)]
    pub scales: Option<ScalesArg>,
    /// The same as `--scales mse`
    #[arg(
        long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        hide_short_help = true
    )]
    pub mse: Option<bool>,
    /// Fit the grids of all groups before the first column is quantized
    #[arg(
        long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        hide_short_help = true
    )]
    pub static_groups: Option<bool>,
    /// One scale per row; for SpQR, `--perchannel=false` shares one across rows
    #[arg(
        long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        hide_short_help = true
    )]
    pub perchannel: Option<bool>,
}

/// SpQR's options, as its published script spells them (with hyphens or underscores). Any of them selects its method.
#[derive(Args)]
#[command(next_help_heading = SPQR)]
pub struct SpqrArgs {
    /// Bits for the scales themselves: they are quantized too
    #[arg(long, value_name = "B", allow_negative_numbers = true, hide_short_help = true)]
    pub qq_scale_bits: Option<u32>,
    /// Bits for the zero points themselves
    #[arg(long, value_name = "B", allow_negative_numbers = true, hide_short_help = true)]
    pub qq_zero_bits: Option<u32>,
    /// Rows whose scales and zero points are quantized together [default: 16]
    #[arg(long, value_name = "ROWS", allow_negative_numbers = true, hide_short_help = true)]
    pub qq_groupsize: Option<usize>,
    /// Quantize the zero points symmetrically
    #[arg(
        long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        hide_short_help = true
    )]
    pub qq_zero_sym: Option<bool>,
    /// Keep weights whose error exceeds this in full precision (the paper's tau, such as 0.2); inf: none
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true, hide_short_help = true)]
    pub outlier_threshold: Option<f64>,
    /// Share of the weights to keep in full precision; the threshold is found on a sample of the layers
    #[arg(
        long,
        value_name = "SHARE",
        conflicts_with = "outlier_threshold",
        allow_negative_numbers = true,
        hide_short_help = true
    )]
    pub outlier_share: Option<f64>,
    /// Order in which columns are quantized [default: identity; act_order with --target-bits]
    #[arg(long, value_enum, value_name = "ORDER", hide_short_help = true)]
    pub permutation_order: Option<PermutationArg>,
    /// Fit grids to all weights of a group, likely outliers among them (faster)
    #[arg(
        long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        hide_short_help = true
    )]
    pub simplified_outliers: Option<bool>,
    /// Round zero points to whole numbers
    #[arg(
        long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        hide_short_help = true
    )]
    pub round_zero: Option<bool>,
    /// Leave the last N columns unquantized, but correct them
    #[arg(long, value_name = "N", allow_negative_numbers = true, hide_short_help = true)]
    pub keep_last_columns: Option<usize>,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum PermutationArg {
    /// As stored
    Identity,
    /// Important columns first
    #[value(name = "act_order", alias = "act-order")]
    ActOrder,
    /// Columns with similar rankings side by side
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

fn allocation(text: &str) -> std::result::Result<SparsityBy, String> {
    SparsityBy::named(text).map_err(|error| error.to_string())
}

fn pattern(text: &str) -> std::result::Result<Pattern, String> {
    let numbers = text.split_once(':').and_then(|(n, m)| Some((n.parse().ok()?, m.parse().ok()?)));
    let (keep, of) = numbers.ok_or_else(|| "expected N:M, such as 2:4".to_string())?;
    Ok(Pattern::NofM { keep, of })
}
