//! Options of `convert`, `merge` and `verify`.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};
use paring::commands::merge::Masks;

use super::headings::{COMPARISON, OUTPUT, WHAT};
use super::run::layout;
use super::{Look, OpeningArgs, OutputArgs, Running};

#[derive(Args)]
pub struct ConvertArgs {
    #[command(flatten)]
    pub look: Look,
    /// Storage format: dense, int-quantized, pack-quantized, naive-quantized, float-quantized, ...
    #[arg(long, value_name = "NAME", value_parser = layout, help_heading = WHAT)]
    pub format: String,
    /// Convert only layers of this group of the quantization_config; may be repeated [default: all]
    #[arg(long, value_name = "GROUP", help_heading = WHAT)]
    pub group: Vec<String>,
    /// Output folder
    #[arg(long, short, alias = "save", value_name = "DIR", help_heading = OUTPUT)]
    pub out: PathBuf,
    /// Replace an earlier output of paring, once this one is complete; other files in the folder stay
    #[arg(long, help_heading = OUTPUT)]
    pub overwrite: bool,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Args)]
#[command(next_help_heading = OUTPUT)]
pub struct MergeArgs {
    /// Hugging Face folder, hub name (org/name or org/name@revision), or `demo`: the base
    #[arg(value_name = "BASE", value_parser = NonEmptyStringValueParser::new(), help_heading = None::<&str>)]
    pub model: String,
    /// Folder of an adapter that PEFT or paring wrote
    #[arg(value_name = "ADAPTER", help_heading = None::<&str>)]
    pub adapter: PathBuf,
    /// Zeros of a pruned base [default: keep, in matrices that were pruned]
    #[arg(long, value_enum, value_name = "WHAT", help_heading = WHAT)]
    pub masks: Option<MasksArg>,
    /// Output folder
    #[arg(long, short, alias = "save", value_name = "DIR")]
    pub out: PathBuf,
    /// Replace an earlier output of paring, once this one is complete; other files in the folder stay
    #[arg(long)]
    pub overwrite: bool,
    /// Compute what the merge loses, and write nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub opening: OpeningArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum MasksArg {
    /// They stay zero, exactly; in all matrices
    Keep,
    /// They become what the adapter makes of them
    Drop,
}

impl MasksArg {
    /// The same as the library has it.
    pub fn masks(self) -> Masks {
        match self {
            MasksArg::Keep => Masks::Keep,
            MasksArg::Drop => Masks::Drop,
        }
    }
}

#[derive(Args)]
pub struct VerifyArgs {
    /// Hugging Face folder, hub name (org/name or org/name@revision), or `demo`
    #[arg(value_parser = NonEmptyStringValueParser::new(), help_heading = None::<&str>)]
    pub model: String,
    #[command(flatten)]
    pub against: Against,
    #[command(flatten)]
    pub opening: OpeningArgs,
    #[command(flatten)]
    pub running: Running,
}

/// Another model, and how far from it is far enough.
#[derive(Args)]
#[command(next_help_heading = COMPARISON)]
pub struct Against {
    /// Also compare the predictions with those of this model, on the same text
    #[arg(long, value_name = "MODEL")]
    pub reference: Option<String>,
    /// Text or tokens to compare on, as DATASET of eval [default: demo where either model is]
    #[arg(long, value_name = "DATASET", requires = "reference")]
    pub data: Option<String>,
    /// Tokens to compare on
    #[arg(long, value_name = "N", default_value_t = 4096, requires = "reference",
        value_parser = clap::value_parser!(u32).range(2..))]
    pub tokens: u32,
    /// Tokens per window [default: 2048, or --tokens or the context of the models where that is less]
    #[arg(long, value_name = "TOKENS", requires = "reference",
        value_parser = clap::value_parser!(u32).range(2..))]
    pub seqlen: Option<u32>,
    /// Fail if the mean KL divergence is larger, in nats
    #[arg(long, value_name = "X", requires = "reference", value_parser = limit)]
    pub max_kl: Option<f64>,
    /// Fail if the share of equal top tokens is smaller, 0 to 1
    #[arg(long, value_name = "Y", requires = "reference", value_parser = limit)]
    pub min_top1: Option<f64>,
    /// Fail if the perplexity divided by the reference's is larger
    #[arg(long, value_name = "Z", requires = "reference", value_parser = limit)]
    pub max_perplexity_ratio: Option<f64>,
    /// JSON field or Parquet column with the text
    #[arg(long, default_value = "text", value_name = "NAME", requires = "reference", hide_short_help = true)]
    pub text_field: String,
    /// Folder that holds wikitext2, c4 or ptb: as downloaded from the hub, or flat
    #[arg(long, value_name = "DIR", requires = "reference", hide_short_help = true)]
    pub data_dir: Option<PathBuf>,
}

fn limit(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0);
    number.ok_or_else(|| "expected a number that is not negative".to_string())
}
