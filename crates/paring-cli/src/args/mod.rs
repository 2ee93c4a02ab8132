//! The command line. Every option is a field, with its help.

mod bench;
mod errors;
mod file;
mod finetune;
mod generated;
mod generation;
mod headings;
mod help;
mod inputs;
mod isolation;
mod layer;
mod output;
mod overrides;
mod recipe;
mod report;
mod request;
mod resuming;
mod rouge;
mod run;
mod running;
mod serve;
mod shared;
mod stored;
mod summaries;
mod tasks;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Arg, Args, Parser, Subcommand};
use paring::plan::{METHODS, MethodInfo};
use paring_tasks::Limit;

pub use bench::BenchArgs;
pub use file::{canonical, parse};
use headings::{DATA, EVALUATION, OUTPUT, WHAT};

pub use finetune::FinetuneArgs;
pub use generated::{CompletionsArgs, ManArgs};
pub use generation::{ChatArgs, GenerateArgs, InMemoryArgs};
pub use help::command;
pub use inputs::{AdapterArg, Inputs, OpeningArgs};
pub use layer::LayerArgs;
pub use output::{LogArg, OutputArgs};
pub use overrides::{Change, Changed};
pub use recipe::{ActOrderArg, Allocate, Grids, MaskArg, Published, Removal, ScalesArg, SpqrArgs, Sweep, Target};
pub use report::ReportArgs;
pub use request::sources;
pub use rouge::RougeArgs;
pub use run::{OffloadArg, Run};
pub use running::{DeviceArg, Running};
pub use serve::ServeArgs;
pub use shared::Shared;
pub use stored::{ConvertArgs, MergeArgs, VerifyArgs};
pub use summaries::SummaryArgs;
pub use tasks::TaskArgs;

/// Prune and quantize Hugging Face language models on a laptop.
///
/// Writes checkpoints for vLLM and transformers. One block of the model is in memory at a time.
#[derive(Parser)]
#[command(name = "paring", disable_help_flag = true, disable_version_flag = true, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub shared: Shared,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Quantize a model's weights (pruned weights stay zero)
    Quantize(QuantizeArgs),
    /// Prune a model, optionally quantizing it in the same pass
    #[command(name = "prune", visible_alias = "sparsify")]
    Sparsify(SparsifyArgs),
    /// Train a model with its zeros kept, or an adapter beside it
    Finetune(Box<FinetuneArgs>),
    /// Measure perplexity, or answer tasks
    #[command(mut_args = of_evaluation)]
    Eval(EvalArgs),
    /// Continue one text or many
    Generate(Box<GenerateArgs>),
    /// Chat with a model in the terminal
    Chat(Box<ChatArgs>),
    /// Serve a model to programs, by OpenAI's protocol
    Serve(Box<ServeArgs>),
    /// Show the report of a run, or compare two runs
    Report(ReportArgs),
    /// Compare generated texts with references: ROUGE
    Rouge(RougeArgs),
    /// Show what a checkpoint holds: formats, bits, sparsity, outliers
    Inspect(InspectArgs),
    /// Check a checkpoint for missing, corrupt or changed data
    ///
    /// With --reference, also compare its predictions with those of another model.
    Verify(VerifyArgs),
    /// Show the text and tokens that a model is calibrated on
    Tokens(TokensArgs),
    /// Put an adapter (LoRA) into the weights of its base
    ///
    /// Plain weights are rounded once to their type, codes to the nearest on the grids that they have.
    Merge(MergeArgs),
    /// Change the storage format; no weight changes its value
    Convert(ConvertArgs),
    /// Convert a compressed checkpoint back to plain weights
    Decompress(DecompressArgs),
    /// Write a file of masks: which weights of a pruned model are not zero
    ExportMasks(ExportMasksArgs),
    /// List the presets of --scheme, and which programs run them
    Schemes(SchemesArgs),
    /// List the tasks that judge a model, and their data
    Tasks(TasksArgs),
    /// Tool: compress one layer from a safetensors file
    Layer(LayerArgs),
    /// Tool: benchmark this machine; --check also compares GPU results with the CPU
    Bench(BenchArgs),
    /// Tool: print the completion script of a shell
    Completions(CompletionsArgs),
    /// Tool: print a manual page, or write all of them
    Man(ManArgs),
}

#[derive(Args)]
pub struct SparsifyArgs {
    #[command(flatten)]
    pub removal: Removal,
    #[command(flatten)]
    pub allocate: Allocate,
    /// Pruning method
    #[arg(long, default_value = "sparsegpt", value_parser = methods(|m| m.drops), help_heading = WHAT)]
    pub method: String,
    #[command(flatten)]
    pub grids: Grids,
    #[command(flatten)]
    pub published: Published,
    #[command(flatten)]
    pub run: Run,
    #[command(flatten)]
    pub sweep: Sweep,
    #[command(flatten)]
    pub inputs: Inputs,
    #[command(flatten)]
    pub running: Running,
}

#[derive(Args)]
pub struct QuantizeArgs {
    #[command(flatten)]
    pub grids: Grids,
    /// Quantization method [default: gptq]
    ///
    /// For FP8 and MXFP8 schemes the default is rtn, and with an option of SpQR it is spqr.
    #[arg(long, value_parser = methods(|m| m.rounds && !m.drops), help_heading = WHAT)]
    pub method: Option<String>,
    #[command(flatten)]
    pub target: Target,
    #[command(flatten)]
    pub published: Published,
    #[command(flatten)]
    pub run: Run,
    #[command(flatten)]
    pub sweep: Sweep,
    #[command(flatten)]
    pub spqr: SpqrArgs,
    #[command(flatten)]
    pub inputs: Inputs,
    #[command(flatten)]
    pub running: Running,
}

#[derive(Args)]
#[command(next_help_heading = EVALUATION)]
pub struct EvalArgs {
    #[command(flatten)]
    pub inputs: Inputs,
    /// Tokens per window [default: 2048, or the model's context]
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(2..))]
    pub seqlen: Option<u32>,
    /// Measure only the first N windows, or documents of each task; of documents also a part, such as 0.1
    #[arg(long, value_name = "N", value_parser = tasks::limit)]
    pub limit: Option<Limit>,
    /// Ignore quantization of activations and KV cache in the model's config
    #[arg(long)]
    pub weight_only: bool,
    #[command(flatten)]
    pub adapter: AdapterArg,
    #[command(flatten)]
    pub tasks: TaskArgs,
    #[command(flatten)]
    pub summaries: SummaryArgs,
    #[command(flatten)]
    pub running: Running,
}

/// The options of data in the help of a command that only measures.
fn of_evaluation(arg: Arg) -> Arg {
    match arg.get_help_heading() {
        Some(DATA) => arg.help_heading(EVALUATION),
        _ => arg,
    }
}

#[derive(Args)]
pub struct TokensArgs {
    /// Documents to show, from the first
    #[arg(
        long, default_value_t = 4, value_name = "DOCUMENTS", value_parser = clap::value_parser!(u32).range(1..),
        help_heading = DATA
    )]
    pub limit: u32,
    #[command(flatten)]
    pub inputs: Inputs,
}

/// Options of a command that only reads a checkpoint.
#[derive(Args)]
pub struct Look {
    /// Hugging Face folder, hub name (org/name or org/name@revision), or `demo`
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new(), help_heading = None::<&str>)]
    pub model: String,
    #[command(flatten)]
    pub opening: OpeningArgs,
}

#[derive(Args)]
#[command(next_help_heading = OUTPUT)]
pub struct InspectArgs {
    #[command(flatten)]
    pub look: Look,
    /// List every tensor, not only every kind
    #[arg(long, short)]
    pub verbose: bool,
    /// Plot where the outliers of a matrix are, as SVG
    #[arg(long, value_name = "FILE.svg", value_parser = svg)]
    pub outliers: Option<PathBuf>,
    /// Matrix to plot, such as model.layers.0.mlp.down_proj [default: the one with the most outliers]
    #[arg(long, value_name = "NAME", requires = "outliers")]
    pub module: Option<String>,
    /// Replace the file of --outliers also where another program wrote it
    #[arg(long, requires = "outliers")]
    pub overwrite: bool,
}

#[derive(Args)]
#[command(next_help_heading = OUTPUT)]
pub struct DecompressArgs {
    #[command(flatten)]
    pub look: Look,
    /// Output folder
    #[arg(long, short, alias = "save", value_name = "DIR")]
    pub out: PathBuf,
    /// Replace an earlier output of paring, once this one is complete; other files in the folder stay
    #[arg(long)]
    pub overwrite: bool,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Args)]
#[command(next_help_heading = OUTPUT)]
pub struct ExportMasksArgs {
    #[command(flatten)]
    pub look: Look,
    /// Output file, for --masks of `paring prune` and `paring quantize`
    #[arg(long, short, alias = "save", value_name = "FILE")]
    pub out: PathBuf,
    /// Replace the file also where another program wrote it
    #[arg(long)]
    pub overwrite: bool,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Args)]
pub struct SchemesArgs {
    /// Only schemes whose names contain this, such as W4A16 or fp8
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
}

#[derive(Args)]
pub struct TasksArgs {
    /// Only tasks whose names contain this, such as arc or mmlu_virology
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
}

/// A file for a picture, which is SVG whatever it is called.
fn svg(text: &str) -> Result<PathBuf, String> {
    const OTHERS: [&str; 7] = ["png", "jpg", "jpeg", "gif", "webp", "pdf", "html"];
    let path = PathBuf::from(text);
    let extension = path.extension().map(|extension| extension.to_ascii_lowercase());
    match OTHERS.iter().find(|other| extension.as_deref() == Some(OsStr::new(other))) {
        Some(other) => {
            Err(format!("the plot is an SVG, not a .{other} file; name it {}", path.with_extension("svg").display()))
        }
        None => Ok(path),
    }
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
    let help = |m: &MethodInfo| format!("{}{}", m.help, if m.drops && m.rounds { " with --wbits" } else { "" });
    PossibleValuesParser::new(chosen.map(|m| PossibleValue::new(m.name).help(help(m))).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests;
