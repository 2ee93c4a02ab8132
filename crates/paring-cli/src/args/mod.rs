//! What was typed → a [`paring::plan::Plan`]. Every option is a field here, with its help.

mod bench;
mod file;
mod generated;
mod inputs;
mod layer;
mod overrides;
mod recipe;
mod report;
mod resuming;
mod running;
mod stored;
mod telling;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use paring::plan::Pattern;
use paring::plan::{METHODS, MethodInfo};
use paring_kernels::gram::GramPrecision;

pub use bench::BenchArgs;
pub use file::parse;
pub use generated::{CompletionsArgs, ManArgs};
pub use inputs::{Inputs, ProtocolArg};
pub use layer::LayerArgs;
pub use overrides::{Change, Changed};
pub use recipe::{KvCacheArg, SpqrArgs, quantizing, recipe};
pub use report::ReportArgs;
pub use resuming::Resuming;
pub use running::{DeviceArg, DtypeArg, Running, precision};
pub use stored::{ConvertArgs, VerifyArgs};
pub use telling::{LogArg, Telling};

/// Makes language models smaller: prunes and quantizes Hugging Face checkpoints, one block at a time.
#[derive(Parser)]
#[command(
    name = "paring",
    version,
    propagate_version = true,
    max_term_width = 100,
    after_help = "Examples:\n  paring quantize demo --wbits 4 --groupsize 32 --out demo-4bit\n  \
        paring eval demo-4bit demo\n  paring help quantize"
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Prune a model; with --wbits or --scheme also quantize it in the same sweep
    #[command(after_help = "Examples:\n  paring sparsify demo --method sparsegpt --pattern 2:4 --out demo-2of4\n  \
        paring sparsify MODEL calibration.txt --method wanda --sparsity 0.5 --out OUT\n  \
        paring sparsify MODEL calibration.txt --pattern 2:4 \\\n      --wbits 4 --groupsize 64 --out OUT")]
    Sparsify(SparsifyArgs),
    /// Quantize a model; zeros of a pruned model stay zeros
    #[command(
        after_help = "Examples:\n  paring quantize demo --wbits 3 --groupsize 32 --out demo-3bit --eval demo\n  \
        paring quantize MODEL calibration.txt --wbits 4 --groupsize 128 \\\n      --actorder static --out OUT\n  \
        paring quantize MODEL calibration.txt --scheme W4A16 --strict --out OUT\n  \
        paring quantize MODEL calibration.txt --config recipe.toml --out OUT\n  \
        paring quantize MODEL --method rtn --wbits 8 --groupsize -1 --out OUT\n  \
        paring quantize MODEL calibration.txt --wbits 3 --groupsize 16 \\\n      \
        --qq-scale-bits 3 --qq-zero-bits 3 --outlier-share 0.01 \\\n      --permutation-order act_order\n  \
        paring quantize MODEL calibration.txt --target-bits 4"
    )]
    Quantize(QuantizeArgs),
    /// Measure perplexity
    #[command(
        after_help = "Examples:\n  paring eval demo\n  paring eval MODEL test.txt --seqlen 2048 --limit 10 --json"
    )]
    Eval(EvalArgs),
    /// Show what a checkpoint holds
    #[command(after_help = "Examples:\n  paring inspect OUT\n  paring inspect OUT --outliers outliers.svg")]
    Inspect(InspectArgs),
    /// Check that a checkpoint is complete, readable, and what was written when it was made
    #[command(after_help = "Examples:\n  paring verify OUT\n  \
        paring verify OUT --reference MODEL --data test.txt --tokens 8192 --max-kl 0.1")]
    Verify(VerifyArgs),
    /// Write the plain dense checkpoint behind a compressed one
    #[command(after_help = "Example:\n  paring decompress OUT --out DENSE")]
    Decompress(DecompressArgs),
    /// Store the same numbers in another layout, without rounding anything
    #[command(after_help = "Examples:\n  paring convert MODEL --format int-quantized --out OUT\n  \
        paring convert OUT --format pack-quantized --group group_0 --out PACKED")]
    Convert(ConvertArgs),
    /// Show the report of a run, or how two runs differ
    #[command(after_help = "Examples:\n  paring report OUT\n  paring report OUT-A OUT-B --html differences.html\n  \
        paring report OUT --tensorboard runs --wandb wandb")]
    Report(ReportArgs),
    /// List the schemes that --scheme knows, and what runs them
    #[command(after_help = "Example:\n  paring schemes --json")]
    Schemes(SchemesArgs),
    /// Compress one layer from a safetensors file, for experiments
    #[command(after_help = "Example:\n  paring layer layer.safetensors --method gptq --wbits 4 --out made.safetensors")]
    Layer(LayerArgs),
    /// Measure how fast this machine is at each operation; with --check also whether a GPU computes what the CPU does
    #[command(after_help = "Examples:\n  paring bench\n  paring bench --device cuda:0 --check --ops sweep,factor")]
    Bench(BenchArgs),
    /// Print the script that completes commands and options in a shell
    #[command(
        after_help = "Examples:\n  paring completions bash > ~/.local/share/bash-completion/completions/paring\n  \
        paring completions zsh > \"${fpath[1]}/_paring\"\n  \
        paring completions fish > ~/.config/fish/completions/paring.fish"
    )]
    Completions(CompletionsArgs),
    /// Print a manual page, or write all of them
    #[command(after_help = "Examples:\n  paring man quantize | man -l -\n  paring man --out ~/.local/share/man/man1")]
    Man(ManArgs),
}

#[derive(Clone, Copy, ValueEnum)]
pub enum OffloadArg {
    None,
    Activations,
}

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

#[derive(Args)]
pub struct Run {
    /// Options in a file: TOML with the names of these ones and `override` tables, or a YAML recipe of llm-compressor
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What the file says of some of the linears, read by [`parse`].
    #[arg(skip)]
    pub groups: Vec<Changed>,
    /// Which options the file sets, likewise.
    #[arg(skip)]
    pub from_file: Vec<String>,
    /// What of the file has no effect, likewise.
    #[arg(skip)]
    pub notes: Vec<String>,
    /// Output folder [default: the model's name with what is done to it, here]
    #[arg(long, alias = "save", value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Calibration windows [default: 128, or as many as the data has]; more than it has are drawn at random and overlap
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub nsamples: Option<u32>,
    /// Tokens in a window [default: 2048, never more than the model's positions]
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
    /// How a GPU multiplies f32 activations for Gram matrices: f32, bf16x3 (faster, off by 3e-6) or tf32 (5e-5); those of
    /// 16 bits (--dtype) are exact
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
    /// Leave these modules alone (lm_head always is)
    #[arg(long, value_name = "PATTERN")]
    pub ignore: Vec<String>,
    /// Compress only blocks A up to, not including, B
    #[arg(long, value_name = "A..B", value_parser = range)]
    pub layers: Option<(usize, usize)>,
    /// The layout to write [default: what fits]: pack-quantized, int-quantized, float-quantized, paring-spqr, spqr (what
    /// spqr_quant reads), dense, …; of the past sparse-bitmask, sparse-24-bitmask, marlin-24
    #[arg(long, value_name = "NAME")]
    pub format: Option<String>,
    /// Store scales for a cache of keys and values in this type, from the calibration data
    #[arg(long, value_enum, value_name = "TYPE")]
    pub kv_cache: Option<KvCacheArg>,
    /// Stop before the work when transformers or vLLM would not run the output; otherwise a note says so
    #[arg(long)]
    pub strict: bool,
    /// Replace an earlier checkpoint in the output folder
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

#[derive(Args)]
pub struct SparsifyArgs {
    #[command(flatten)]
    pub inputs: Inputs,
    /// How weights are chosen, and whether the others make up for them
    #[arg(long, default_value = "sparsegpt", value_parser = methods(|m| m.drops))]
    pub method: String,
    #[command(flatten)]
    pub removal: Removal,
    #[command(flatten)]
    pub grids: Grids,
    #[command(flatten)]
    pub sweep: Sweep,
    #[command(flatten)]
    pub run: Run,
    #[command(flatten)]
    pub running: Running,
}

#[derive(Args)]
pub struct QuantizeArgs {
    #[command(flatten)]
    pub inputs: Inputs,
    /// How [default: gptq; spqr when one of its options is given; rtn for the schemes FP8* and MXFP8*]
    #[arg(long, value_parser = methods(|m| m.rounds && !m.drops))]
    pub method: Option<String>,
    #[command(flatten)]
    pub grids: Grids,
    #[command(flatten)]
    pub sweep: Sweep,
    #[command(flatten)]
    pub spqr: SpqrArgs,
    #[command(flatten)]
    pub run: Run,
    #[command(flatten)]
    pub running: Running,
}

#[derive(Args)]
pub struct EvalArgs {
    #[command(flatten)]
    pub inputs: Inputs,
    /// Tokens in a window [default: 2048, never more than the model's positions]
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(2..))]
    pub seqlen: Option<u32>,
    /// Measure the first windows only
    #[arg(long, value_name = "WINDOWS", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
    /// Leave activations and caches as they are where the model's config has them quantized
    #[arg(long)]
    pub weight_only: bool,
    #[command(flatten)]
    pub running: Running,
}

/// What a command that only looks at a checkpoint takes.
#[derive(Args)]
pub struct Look {
    /// A Hugging Face folder, a name on the hub (`org/name` or `org/name@revision`), or `demo`
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub model: String,
    /// Print one JSON object as the last line of stdout
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct InspectArgs {
    #[command(flatten)]
    pub look: Look,
    /// Draw where the outliers of a matrix lie
    #[arg(long, value_name = "FILE.svg")]
    pub outliers: Option<PathBuf>,
    /// The matrix to draw, by its exact path [default: the one with the most outliers]
    #[arg(long, value_name = "NAME", requires = "outliers")]
    pub module: Option<String>,
}

#[derive(Args)]
pub struct DecompressArgs {
    #[command(flatten)]
    pub look: Look,
    /// Output folder
    #[arg(long, alias = "save", value_name = "DIR")]
    pub out: PathBuf,
    /// Replace an earlier checkpoint in the output folder
    #[arg(long)]
    pub overwrite: bool,
    #[command(flatten)]
    pub telling: Telling,
}

#[derive(Args)]
pub struct SchemesArgs {
    /// Print one JSON object as the last line of stdout
    #[arg(long)]
    pub json: bool,
}

/// Long options written with underscores, as the published scripts have them, become the ones with hyphens.
pub fn normalized(args: impl Iterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    args.map(|arg| match arg.to_str().filter(|text| text.starts_with("--")) {
        None => arg,
        Some(text) => match text.split_once('=') {
            Some((name, value)) => format!("{}={value}", name.replace('_', "-")).into(),
            None => text.replace('_', "-").into(),
        },
    })
}

/// The names of some methods, each with its line of help.
fn methods(wanted: fn(&MethodInfo) -> bool) -> PossibleValuesParser {
    let chosen = METHODS.iter().filter(|m| wanted(m));
    PossibleValuesParser::new(chosen.map(|m| PossibleValue::new(m.name).help(m.help)).collect::<Vec<_>>())
}

fn pattern(text: &str) -> std::result::Result<Pattern, String> {
    let numbers = text.split_once(':').and_then(|(n, m)| Some((n.parse().ok()?, m.parse().ok()?)));
    let (keep, of) = numbers.ok_or_else(|| "expected N:M, such as 2:4".to_string())?;
    Ok(Pattern::NofM { keep, of })
}

fn range(text: &str) -> std::result::Result<(usize, usize), String> {
    let numbers = text.split_once("..").and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    numbers.ok_or_else(|| "expected A..B, such as 0..12".to_string())
}
