//! The command line. Every option is a field, with its help.

mod bench;
mod file;
mod generated;
mod inputs;
mod isolation;
mod layer;
mod output;
mod overrides;
mod recipe;
mod report;
mod request;
mod resuming;
mod run;
mod running;
mod shared;
mod stored;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Args, Parser, Subcommand};
use paring::plan::{METHODS, MethodInfo};

pub use bench::BenchArgs;
pub use file::parse;
pub use generated::{CompletionsArgs, ManArgs};
pub use inputs::{Inputs, OpeningArgs};
pub use layer::LayerArgs;
pub use output::{LogArg, OutputArgs};
pub use overrides::{Change, Changed};
pub use recipe::{ActOrderArg, Grids, Removal, SpqrArgs, Sweep};
pub use report::ReportArgs;
pub use request::sources;
pub use run::{OffloadArg, Run};
pub use running::{DeviceArg, Running};
pub use shared::Shared;
pub use stored::{ConvertArgs, VerifyArgs};

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
    #[command(flatten)]
    pub shared: Shared,
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
    /// Show the text and the tokens that a model is calibrated on
    #[command(after_help = "Examples:\n  paring tokens MODEL chats.jsonl --text-field messages\n  \
        paring tokens MODEL calibration.txt --limit 1 --json")]
    Tokens(TokensArgs),
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

#[derive(Args)]
pub struct SparsifyArgs {
    #[command(flatten)]
    pub inputs: Inputs,
    /// Algorithm that chooses weights, and that may update the others
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
    /// Algorithm [default: gptq; spqr when one of its options is given; rtn for the schemes FP8* and MXFP8*]
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
    /// Tokens in a window [default: 2048, or as many positions as the model has]
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

#[derive(Args)]
pub struct TokensArgs {
    #[command(flatten)]
    pub inputs: Inputs,
    /// Documents to show, from the first
    #[arg(long, default_value_t = 4, value_name = "DOCUMENTS", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
}

/// Options of a command that only reads a checkpoint.
#[derive(Args)]
pub struct Look {
    /// A Hugging Face folder, a name on the hub (`org/name` or `org/name@revision`), or `demo`
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub model: String,
    #[command(flatten)]
    pub opening: OpeningArgs,
}

#[derive(Args)]
pub struct InspectArgs {
    #[command(flatten)]
    pub look: Look,
    /// List every tensor, not only every kind
    #[arg(long, short)]
    pub verbose: bool,
    /// Draw where the outliers of a matrix lie
    #[arg(long, value_name = "FILE.svg")]
    pub outliers: Option<PathBuf>,
    /// Replace the file of --outliers also where another program wrote it
    #[arg(long, requires = "outliers")]
    pub overwrite: bool,
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
    /// Replace an earlier output of paring, once this one is complete; other files in the folder stay
    #[arg(long)]
    pub overwrite: bool,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Args)]
pub struct SchemesArgs {}

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
    let help = |m: &MethodInfo| format!("{}{}", m.help, if m.drops && m.rounds { " with --wbits" } else { "" });
    PossibleValuesParser::new(chosen.map(|m| PossibleValue::new(m.name).help(help(m))).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests;
