//! Options of summaries.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use paring::commands::summaries::SummaryOptions;

use super::generation::count;
use super::headings::SUMMARIES;

/// The way that cnn_dailymail is asked for.
#[derive(Args)]
#[command(next_help_heading = SUMMARIES)]
pub struct SummaryArgs {
    /// Beams that cnn_dailymail is summarized with; 1: none [default: 4]
    #[arg(long, value_name = "N", value_parser = count(1), hide_short_help = true)]
    pub num_beams: Option<usize>,
    /// Fewest new tokens of a summary [default: 30]
    #[arg(long, value_name = "N", value_parser = count(0), hide_short_help = true)]
    pub min_new_tokens: Option<usize>,
    /// Most new tokens of a summary [default: 128]
    #[arg(long, value_name = "N", value_parser = count(1), hide_short_help = true)]
    pub max_new_tokens: Option<usize>,
    /// Tokens of a prompt, after which it is cut [default: 1024]
    #[arg(long, value_name = "N", value_parser = count(1), hide_short_help = true)]
    pub max_prompt_tokens: Option<usize>,
    /// Instruction before the article [default: Summarize the following news article:]
    #[arg(long, value_name = "TEXT", hide_short_help = true, value_parser = NonEmptyStringValueParser::new())]
    pub instruction: Option<String>,
    /// Seed of summaries of models whose files say that tokens are drawn [default: 0]
    #[arg(long, value_name = "N", hide_short_help = true)]
    pub seed: Option<u64>,
}

impl SummaryArgs {
    /// The choices.
    pub fn options(&self) -> SummaryOptions {
        let usual = SummaryOptions::default();
        SummaryOptions {
            instruction: self.instruction.clone().unwrap_or(usual.instruction),
            longest_input: self.max_prompt_tokens.unwrap_or(usual.longest_input),
            beams: self.num_beams.unwrap_or(usual.beams),
            min_new_tokens: self.min_new_tokens.unwrap_or(usual.min_new_tokens),
            max_new_tokens: self.max_new_tokens.unwrap_or(usual.max_new_tokens),
            seed: self.seed.unwrap_or(usual.seed),
        }
    }
}
