//! Options of the commands that compress a model.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use paring::plan::DenseStream;
use paring::plan::file::Alike;
use paring::request::GroupOptions;
use paring_format::{Element, QuantArgs, Strategy};
use paring_kernels::gram::GramPrecision;
use paring_tasks::Limit;

use super::generation::count;
use super::headings::{DATA, EVALUATION, GPTQ, LAYERS, OUTPUT, SPEED, WHAT};
use super::resuming::Resuming;
use super::tasks::limit;

#[derive(Args)]
pub struct Run {
    /// Read options from FILE: TOML, or a YAML recipe of llm-compressor
    ///
    /// TOML has these options by their names, and `override` tables for some of the layers. Options that are typed win.
    #[arg(long, value_name = "FILE", help_heading = WHAT)]
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
    /// Remove the weights that the masks in FILE say: of `paring export-masks`, or 0 and 1 per weight as other programs save them
    ///
    /// A --pattern is then what the masks must have. sparsegpt and gptq move errors as usual.
    #[arg(long, value_name = "FILE", hide_short_help = true, help_heading = WHAT)]
    pub masks: Option<PathBuf>,
    /// Calibrate scales for a quantized KV cache
    #[arg(long, value_enum, value_name = "TYPE", hide_short_help = true, help_heading = WHAT)]
    pub kv_cache: Option<KvCacheArg>,
    /// Output folder [default: such as ./demo-gptq-w4g128]
    ///
    /// The default is named after the model and what is done to it.
    #[arg(long, short, alias = "save", value_name = "DIR", help_heading = OUTPUT)]
    pub out: Option<PathBuf>,
    /// Replace an earlier output of paring, once this one is complete
    ///
    /// Other files in the folder stay.
    #[arg(long, help_heading = OUTPUT)]
    pub overwrite: bool,
    #[command(flatten)]
    pub resuming: Resuming,
    /// Check everything and estimate time, memory and disk; write nothing
    #[arg(long, help_heading = OUTPUT)]
    pub dry_run: bool,
    /// Fail before starting if transformers or vLLM cannot load the result
    ///
    /// Without it a note says so. With it, groups of a scheme that do not fit the model are an error too.
    #[arg(long, hide_short_help = true, help_heading = OUTPUT)]
    pub strict: bool,
    /// Storage format [default: chosen from the scheme]
    ///
    /// One of pack-quantized, int-quantized, float-quantized, paring-spqr, spqr (what spqr_quant reads), dense, ...; legacy:
    /// sparse-bitmask, sparse-24-bitmask, marlin-24. docs/formats.md says who reads them.
    #[arg(long, value_name = "NAME", value_parser = layout, hide_short_help = true, help_heading = OUTPUT)]
    pub format: Option<String>,
    /// Calibration windows [default: 128, or as many as fit]; 16 are enough to try
    ///
    /// More than the data has are drawn at random, and overlap.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = DATA)]
    pub nsamples: Option<u32>,
    /// Tokens per window [default: 2048, or the model's context]
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(2..), help_heading = DATA)]
    pub seqlen: Option<u32>,
    /// Pick windows at random with this seed [default: 0 for named sets; files are read from their start]
    #[arg(long, value_name = "SEED", allow_negative_numbers = true, hide_short_help = true, help_heading = DATA)]
    pub seed: Option<u64>,
    /// Compress only these modules: exact names, or patterns such as re:.*mlp.*
    #[arg(long, value_name = "PATTERN", hide_short_help = true, help_heading = LAYERS)]
    pub include: Vec<String>,
    /// Don't compress these modules; lm_head is never compressed
    #[arg(long, value_name = "PATTERN", help_heading = LAYERS)]
    pub ignore: Vec<String>,
    /// Compress only blocks A to B-1, such as 0..12
    #[arg(long, value_name = "A..B", value_parser = range, hide_short_help = true, help_heading = LAYERS)]
    pub layers: Option<(usize, usize)>,
    /// Measure perplexity on this data, or answer these tasks, before and after
    ///
    /// A data set as DATASET of `paring eval`, or tasks as its --tasks, or both: wikitext2,piqa,arc_easy.
    #[arg(long, value_name = "DATASET|TASKS", hide_short_help = true, help_heading = EVALUATION)]
    pub eval: Option<String>,
    /// Windows, or documents of each task, for --eval [default: all; 64 windows for demo]
    #[arg(long, value_name = "N", value_parser = limit, hide_short_help = true, help_heading = EVALUATION)]
    pub limit: Option<Limit>,
    /// Multiple-choice questions of your own to answer before and after, as --task-file of `paring eval`; may be repeated
    #[arg(long, value_name = "FILE.jsonl", hide_short_help = true, help_heading = EVALUATION)]
    pub task_file: Vec<PathBuf>,
    /// Examples before each question of tasks [default: 0]
    #[arg(long, value_name = "N", value_parser = count(0), hide_short_help = true, help_heading = EVALUATION)]
    pub num_fewshot: Option<usize>,
    /// Keep calibration activations beyond 256 MiB in a file in the output folder
    ///
    /// Those that fit on a GPU stay there.
    #[arg(
        long, value_enum, value_name = "WHAT", default_value = "none", hide_short_help = true, help_heading = SPEED
    )]
    pub offload: OffloadArg,
    /// GPU only: precision of calibration statistics for f32 models
    ///
    /// f32, bf16x3 (faster, off by 3e-6) or tf32 (5e-5). Statistics of 16-bit types (--dtype) are exact.
    #[arg(long, value_name = "PRECISION", default_value = "f32", hide_short_help = true, help_heading = SPEED)]
    pub gram_precision: GramPrecision,
    /// Skip the error of each layer (faster)
    #[arg(long, hide_short_help = true, help_heading = SPEED)]
    pub skip_out_loss: bool,
    /// Take each projection's statistics when those before it in the block are compressed [default: on a CPU, true]
    ///
    /// There the activations inside a block are kept between two projections, so that this saves time. Published code takes all
    /// statistics of a block from its original weights.
    #[arg(
        long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        hide_short_help = true, help_heading = GPTQ
    )]
    pub true_sequential: Option<bool>,
    /// Run the dense model beside, and shift weights by this share of the way to what it computes [default: 0.5 for gptq, spqr and
    /// sparsegpt on a CPU]
    ///
    /// Up to 1, none, or qronos. Corrects for what was lost before a projection, for any method. Takes about two and a half times as
    /// long, and memory for a second set of activations. With few tokens a large share fits their noise.
    #[arg(long, value_name = "SHARE", hide_short_help = true, help_heading = GPTQ)]
    pub dense_stream: Option<DenseStream>,
    /// Train each block, once it is compressed, until it answers as the dense one: weights that are left, or scales, and norms and biases
    ///
    /// On a CPU. Takes some times as long as the rest, and memory for the moments of a block. What is stored has the least loss on an
    /// eighth of the windows, which are held out.
    #[arg(long, hide_short_help = true, help_heading = GPTQ)]
    pub reconstruct: bool,
    /// Steps of --reconstruct for each block [default: 64]; implies it
    #[arg(
        long, value_name = "STEPS", value_parser = clap::value_parser!(u32).range(1..), hide_short_help = true,
        help_heading = GPTQ
    )]
    pub reconstruct_steps: Option<u32>,
    /// Store plain rounding or pruning where it has the smaller error on a layer, instead of only reporting it
    #[arg(long, conflicts_with = "skip_out_loss", hide_short_help = true, help_heading = GPTQ)]
    pub allow_fallback: bool,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum OffloadArg {
    /// All in memory
    None,
    /// Those beyond 256 MiB on disk
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

/// The name of a layout, as files have it: with hyphens.
pub fn layout(text: &str) -> std::result::Result<String, String> {
    Ok(text.replace('_', "-"))
}

fn range(text: &str) -> std::result::Result<(usize, usize), String> {
    let numbers = text.split_once("..").and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    numbers.ok_or_else(|| "expected A..B, such as 0..12".to_string())
}
