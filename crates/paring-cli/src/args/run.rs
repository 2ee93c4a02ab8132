//! Options of the commands that compress a model.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use paring::plan::file::Alike;
use paring::request::GroupOptions;
use paring_format::{Element, QuantArgs, Strategy};
use paring_kernels::gram::GramPrecision;

use super::resuming::Resuming;

#[derive(Args)]
pub struct Run {
    /// Options in a file: TOML with the names of these ones and `override` tables, or a YAML recipe of llm-compressor
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Options of the file for some of the linears, read by [`crate::args::parse`].
    #[arg(skip)]
    pub groups: Vec<GroupOptions>,
    /// Names of the options that the file sets, likewise.
    #[arg(skip)]
    pub from_file: Vec<String>,
    /// Linears that the file names in two ways, likewise.
    #[arg(skip)]
    pub alike: Option<Alike>,
    /// Notes on keys of the file without effect, likewise.
    #[arg(skip)]
    pub notes: Vec<String>,
    /// Output folder [default: the model's name with what is done to it, here]
    #[arg(long, alias = "save", value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Calibration windows [default: 128, or as many as the data has]; more than it has are drawn at random and overlap
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub nsamples: Option<u32>,
    /// Tokens in a window [default: 2048, or as many positions as the model has]
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(2..))]
    pub seqlen: Option<u32>,
    /// Draw the windows at random, as Python's random does [default: 0 for named sets; files are taken from their start]
    #[arg(long, value_name = "SEED", allow_negative_numbers = true)]
    pub seed: Option<u64>,
    /// Take each fan's statistics after the fans before it were compressed
    #[arg(long)]
    pub true_sequential: bool,
    /// Keep calibration activations beyond 256 MiB in a file in the output folder; those that fit on a GPU stay there
    #[arg(long, value_enum, default_value = "none")]
    pub offload: OffloadArg,
    /// Type in which a GPU multiplies f32 activations for Gram matrices: f32, bf16x3 (faster, off by 3e-6) or tf32
    /// (5e-5); those of 16 bits (--dtype) are exact
    #[arg(long, value_name = "PRECISION", default_value = "f32")]
    pub gram_precision: GramPrecision,
    /// Don't compute the error of each layer
    #[arg(long)]
    pub skip_out_loss: bool,
    /// Store a linear rounded to nearest (pruned by magnitude) where that has the smaller error on the calibration data;
    /// without this the report only says so
    #[arg(long, conflicts_with = "skip_out_loss")]
    pub allow_fallback: bool,
    /// Compress only these modules: exact names or `re:` patterns
    #[arg(long, value_name = "PATTERN")]
    pub include: Vec<String>,
    /// Leave these modules alone (lm_head always is: only linears of blocks are compressed)
    #[arg(long, value_name = "PATTERN")]
    pub ignore: Vec<String>,
    /// Compress only blocks A up to, not including, B
    #[arg(long, value_name = "A..B", value_parser = range)]
    pub layers: Option<(usize, usize)>,
    /// The layout to write [default: what fits]: pack-quantized, int-quantized, float-quantized, paring-spqr, spqr (what
    /// spqr_quant reads), dense, …; legacy: sparse-bitmask, sparse-24-bitmask, marlin-24
    #[arg(long, value_name = "NAME")]
    pub format: Option<String>,
    /// Store scales for a cache of keys and values in this type, from the calibration data
    #[arg(long, value_enum, value_name = "TYPE")]
    pub kv_cache: Option<KvCacheArg>,
    /// Stop before the work when transformers or vLLM would not run the output; otherwise a note says so
    #[arg(long)]
    pub strict: bool,
    /// Replace an earlier output of paring, once this one is complete; other files in the folder stay
    #[arg(long)]
    pub overwrite: bool,
    #[command(flatten)]
    pub resuming: Resuming,
    /// Check everything, print what the run will take, and stop before the work: nothing is written
    #[arg(long)]
    pub dry_run: bool,
    /// Measure perplexity on this data before and after
    #[arg(long, value_name = "DATASET")]
    pub eval: Option<String>,
    /// Windows of --eval [default: all; 64 for demo]
    #[arg(long, value_name = "WINDOWS", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum OffloadArg {
    None,
    Activations,
}

/// Types of an attention's cache.
#[derive(Clone, Copy, ValueEnum)]
pub enum KvCacheArg {
    /// 8-bit floats, one scale for a layer's keys and one for its values
    Fp8,
}

impl KvCacheArg {
    /// The same as a config says it.
    pub fn args(self) -> QuantArgs {
        match self {
            KvCacheArg::Fp8 => QuantArgs { strategy: Strategy::Tensor, ..QuantArgs::new(Element::E4m3) },
        }
    }
}

fn range(text: &str) -> std::result::Result<(usize, usize), String> {
    let numbers = text.split_once("..").and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    numbers.ok_or_else(|| "expected A..B, such as 0..12".to_string())
}
