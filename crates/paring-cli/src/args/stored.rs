//! Options of `convert` and `verify`.

use std::path::PathBuf;

use clap::Args;

use super::{Look, OpeningArgs, OutputArgs, Running};

#[derive(Args)]
pub struct ConvertArgs {
    #[command(flatten)]
    pub look: Look,
    /// The layout to store matrices in: dense, int-quantized, pack-quantized, naive-quantized, float-quantized, …
    #[arg(long, value_name = "NAME")]
    pub format: String,
    /// Convert the linears of this group of the quantization_config only; may be given again [default: all]
    #[arg(long, value_name = "GROUP")]
    pub group: Vec<String>,
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
pub struct VerifyArgs {
    /// A Hugging Face folder, a name on the hub (`org/name` or `org/name@revision`), or `demo`
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub model: String,
    #[command(flatten)]
    pub opening: OpeningArgs,
    #[command(flatten)]
    pub against: Against,
    #[command(flatten)]
    pub running: Running,
}

/// Another model, and how far from it is far enough.
#[derive(Args)]
#[command(next_help_heading = "Comparison")]
pub struct Against {
    /// Also run both models over the same tokens and say how far the predictions are apart
    #[arg(long, value_name = "MODEL")]
    pub reference: Option<String>,
    /// The text or tokens for it, as DATASET of eval [default: demo where either model is]
    #[arg(long, value_name = "DATASET", requires = "reference")]
    pub data: Option<String>,
    /// Tokens to run
    #[arg(long, value_name = "N", default_value_t = 4096, requires = "reference",
        value_parser = clap::value_parser!(u32).range(2..))]
    pub tokens: u32,
    /// Tokens in a window [default: 2048, or as many as --tokens or positions of the models]
    #[arg(long, value_name = "TOKENS", requires = "reference",
        value_parser = clap::value_parser!(u32).range(2..))]
    pub seqlen: Option<u32>,
    /// Fail when the mean KL divergence, in nats, is larger
    #[arg(long, value_name = "X", requires = "reference", value_parser = limit)]
    pub max_kl: Option<f64>,
    /// Fail when the share of equal most likely tokens, 0 to 1, is smaller
    #[arg(long, value_name = "Y", requires = "reference", value_parser = limit)]
    pub min_top1: Option<f64>,
    /// Fail when the perplexity over that of the reference is larger
    #[arg(long, value_name = "Z", requires = "reference", value_parser = limit)]
    pub max_perplexity_ratio: Option<f64>,
    /// Field of a JSON line, or column of a .parquet file, that holds text
    #[arg(long, default_value = "text", value_name = "NAME", requires = "reference")]
    pub text_field: String,
    /// Folder with the files of the named sets, laid out as their repositories or flat
    #[arg(long, value_name = "DIR", requires = "reference")]
    pub data_dir: Option<PathBuf>,
}

fn limit(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0);
    number.ok_or_else(|| "expected a number that is not negative".to_string())
}
