//! Options of `generate` and `chat`.

use std::path::PathBuf;

use clap::builder::{NonEmptyStringValueParser, RangedU64ValueParser};
use clap::{ArgGroup, Args, ValueEnum};
use paring_generate::{Choices, EarlyStopping};
use paring_model::CacheType;

use super::headings::{ANSWER, BEAMS, PROMPT, SAMPLING, SPEED};
use super::{AdapterArg, OpeningArgs, Running};

#[derive(Args)]
#[command(group = ArgGroup::new("what to continue").required(true).args(["prompt", "prompt_file"]))]
pub struct GenerateArgs {
    /// Hugging Face folder, hub name (org/name or org/name@revision), or `demo`; compressed or not
    #[arg(value_parser = NonEmptyStringValueParser::new(), help_heading = None::<&str>)]
    pub model: String,
    /// Text to continue, or `-` to read it from stdin
    #[arg(long, short, value_name = "TEXT", allow_hyphen_values = true, help_heading = PROMPT)]
    pub prompt: Option<String>,
    /// File with the text; each line of a .jsonl file is a prompt of its own
    ///
    /// Each line is an object with the field `prompt` or `text`, or with --chat a list of `messages`. Each line of the output
    /// is an object with the `text` of an answer, in the order of the file; with --json there is one object with a list of
    /// `answers`. All prompts are computed together.
    #[arg(long, value_name = "FILE", help_heading = PROMPT)]
    pub prompt_file: Option<PathBuf>,
    /// Answer the prompt as a message, using the model's chat template
    #[arg(long, help_heading = PROMPT)]
    pub chat: bool,
    /// Instructions before the message
    #[arg(long, value_name = "TEXT", requires = "chat", help_heading = PROMPT)]
    pub system: Option<String>,
    #[command(flatten)]
    pub settings: SettingsArgs,
    #[command(flatten)]
    pub beams: BeamArgs,
    #[command(flatten)]
    pub memory: InMemoryArgs,
}

#[derive(Args)]
pub struct ChatArgs {
    /// Hugging Face folder, hub name (org/name or org/name@revision), or `demo`; compressed or not
    #[arg(value_parser = NonEmptyStringValueParser::new(), help_heading = None::<&str>)]
    pub model: String,
    /// Instructions before the conversation
    #[arg(long, value_name = "TEXT", help_heading = PROMPT)]
    pub system: Option<String>,
    /// Forget the oldest turns when the context is full, instead of ending with an error
    #[arg(long, help_heading = PROMPT)]
    pub context_shift: bool,
    #[command(flatten)]
    pub settings: SettingsArgs,
    #[command(flatten)]
    pub memory: InMemoryArgs,
}

/// Settings of a text. Those left out are taken from the `generation_config.json` of the model.
#[derive(Args)]
#[command(next_help_heading = SAMPLING)]
pub struct SettingsArgs {
    /// Most new tokens [default: the model's; or 20, in a chat as many as fit the context]
    #[arg(long, short = 'n', value_name = "N", value_parser = count(0), help_heading = ANSWER)]
    pub max_new_tokens: Option<usize>,
    /// Fewest new tokens before the text may end
    #[arg(long, value_name = "N", value_parser = count(0), hide_short_help = true, help_heading = ANSWER)]
    pub min_new_tokens: Option<usize>,
    /// Text that ends the answer, and is left out of it; may be repeated
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new(), allow_hyphen_values = true, help_heading = ANSWER)]
    pub stop: Vec<String>,
    /// Draw tokens at random; values below 1 favour likely ones, and 0 always takes the likeliest
    ///
    /// Without a sampling option, the model's files say whether tokens are drawn; if they say nothing, the likeliest are
    /// taken.
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    pub temperature: Option<f32>,
    /// Draw from the K likeliest tokens; 0: from all [default: the model's, or 50]
    #[arg(long, value_name = "K", value_parser = count(0))]
    pub top_k: Option<usize>,
    /// Draw from the likeliest tokens whose probabilities add up to P
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub top_p: Option<f32>,
    /// Draw from tokens at least P times as likely as the likeliest
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub min_p: Option<f32>,
    /// Seed of the draws [default: a new one each time]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Make tokens that have occurred less likely: their scores are divided by this
    #[arg(long, value_name = "X", allow_negative_numbers = true, hide_short_help = true)]
    pub repetition_penalty: Option<f32>,
    /// Let no run of N tokens occur twice; 0: no limit
    #[arg(long, value_name = "N", value_parser = count(0), hide_short_help = true)]
    pub no_repeat_ngram_size: Option<usize>,
}

/// Beam search.
#[derive(Args)]
#[command(next_help_heading = BEAMS)]
pub struct BeamArgs {
    /// Search for the best text with N beams, instead of choosing token by token
    #[arg(long, value_name = "N", value_parser = count(1), hide_short_help = true)]
    pub num_beams: Option<usize>,
    /// Exponent of the length that scores are divided by: above 0 favours long texts, below 0 short ones [default: 1]
    #[arg(long, value_name = "X", allow_negative_numbers = true, hide_short_help = true)]
    pub length_penalty: Option<f32>,
    /// End as soon as there are as many finished texts as beams; `never`: only when none can improve [default: false]
    #[arg(long, value_enum, value_name = "WHEN", num_args = 0..=1, default_missing_value = "true", hide_short_help = true)]
    pub early_stopping: Option<EarlyStoppingArg>,
}

/// The way in which a model is held in memory and runs.
#[derive(Args)]
pub struct InMemoryArgs {
    /// Type of cached keys and values [default: bf16 with --dtype bf16, or f32]
    #[arg(long, value_enum, value_name = "TYPE", hide_short_help = true, help_heading = SPEED)]
    pub kv_cache: Option<CacheTypeArg>,
    #[command(flatten)]
    pub adapter: AdapterArg,
    #[command(flatten)]
    pub opening: OpeningArgs,
    #[command(flatten)]
    pub running: Running,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum EarlyStoppingArg {
    True,
    False,
    Never,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum CacheTypeArg {
    F32,
    Bf16,
    /// Half the size of bf16; on CPUs only
    Fp8,
}

/// Counts from `least`.
pub fn count(least: u64) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(least..=u64::from(u32::MAX))
}

impl InMemoryArgs {
    /// The type; `None` where the arithmetic decides.
    pub fn cache_type(&self) -> Option<CacheType> {
        self.kv_cache.map(|kind| match kind {
            CacheTypeArg::F32 => CacheType::F32,
            CacheTypeArg::Bf16 => CacheType::Bf16,
            CacheTypeArg::Fp8 => CacheType::E4m3,
        })
    }
}

impl SettingsArgs {
    /// The settings that are asked for, with or without beams.
    pub fn choices(&self, beams: Option<&BeamArgs>) -> Choices {
        let greedy = self.temperature == Some(0.0) || beams.is_some_and(BeamArgs::are_searched);
        let draws = self.temperature.is_some() || self.top_k.is_some() || self.top_p.is_some() || self.min_p.is_some();
        Choices {
            max_new_tokens: self.max_new_tokens,
            min_new_tokens: self.min_new_tokens,
            do_sample: if greedy { Some(false) } else { draws.then_some(true) },
            num_beams: beams.map_or(Some(1), |beams| beams.num_beams),
            temperature: self.temperature.filter(|&temperature| temperature != 0.0),
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            no_repeat_ngram_size: self.no_repeat_ngram_size,
            length_penalty: beams.and_then(|beams| beams.length_penalty),
            early_stopping: beams.and_then(|beams| beams.early_stopping).map(|when| match when {
                EarlyStoppingArg::True => EarlyStopping::Yes,
                EarlyStoppingArg::False => EarlyStopping::No,
                EarlyStoppingArg::Never => EarlyStopping::Never,
            }),
            stop: self.stop.clone(),
            seed: self.seed,
            ..Choices::default()
        }
    }

    /// A note on options that have no effect beside others; `draws` and `is_search` tell how tokens are chosen.
    pub fn without_effect(&self, beams: Option<&BeamArgs>, (draws, is_search): (bool, bool)) -> Option<String> {
        let of_drawing = [
            ("--temperature", self.temperature.is_some_and(|temperature| temperature != 0.0)),
            ("--top-k", self.top_k.is_some()),
            ("--top-p", self.top_p.is_some()),
            ("--min-p", self.min_p.is_some()),
            ("--seed", self.seed.is_some()),
        ];
        let of_beams = [
            ("--length-penalty", beams.is_some_and(|beams| beams.length_penalty.is_some())),
            ("--early-stopping", beams.is_some_and(|beams| beams.early_stopping.is_some())),
        ];
        let named = |options: &[(&'static str, bool)]| -> Vec<&'static str> {
            options.iter().filter(|(_, is_typed)| *is_typed).map(|(name, _)| *name).collect()
        };
        let mut idle = if draws { Vec::new() } else { named(&of_drawing) };
        let why = if is_search { "beam search draws no tokens" } else { "the best token is taken, none is drawn" };
        let mut reasons = Vec::new();
        if !idle.is_empty() {
            reasons.push(why);
        }
        if !is_search && !named(&of_beams).is_empty() {
            idle.extend(named(&of_beams));
            reasons.push("there are no beams");
        }
        let (has, verb) = (idle.join(", "), if idle.len() == 1 { "has" } else { "have" });
        (!idle.is_empty()).then(|| format!("{has} {verb} no effect: {}", reasons.join(", and ")))
    }
}

impl BeamArgs {
    fn are_searched(&self) -> bool {
        self.num_beams.is_some_and(|beams| beams > 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: SettingsArgs,
        #[command(flatten)]
        beams: BeamArgs,
    }

    fn line(words: &str) -> Line {
        Line::try_parse_from(std::iter::once("paring").chain(words.split_whitespace())).unwrap()
    }

    #[test]
    fn options_of_sampling_switch_it_on_and_zero_off() {
        let do_sample = |words| {
            let Line { args, beams } = line(words);
            args.choices(Some(&beams)).do_sample
        };
        assert_eq!(do_sample(""), None);
        for words in ["--temperature 0.7", "--top-k 5", "--top-p 0.9", "--min-p 0.1"] {
            assert_eq!(do_sample(words), Some(true), "{words}");
        }
        for words in ["--temperature 0", "--temperature 0 --top-k 5", "--num-beams 2", "--num-beams 2 --top-p 0.5"] {
            assert_eq!(do_sample(words), Some(false), "{words}");
        }
        assert_eq!(do_sample("--seed 1"), None);
        let Line { args, beams } = line("--num-beams 3 --early-stopping --length-penalty -0.5 --max-new-tokens 0");
        let choices = args.choices(Some(&beams));
        assert_eq!((choices.num_beams, choices.early_stopping), (Some(3), Some(EarlyStopping::Yes)));
        assert_eq!((choices.length_penalty, choices.max_new_tokens), (Some(-0.5), Some(0)));
    }

    #[test]
    fn options_without_effect_are_named_in_one_line() {
        let note = |words, state| {
            let Line { args, beams } = line(words);
            args.without_effect(Some(&beams), state)
        };
        assert_eq!(note("--temperature 0.7 --seed 1", (true, false)), None);
        assert_eq!(note("--temperature 0", (false, false)), None);
        assert_eq!(
            note("--temperature 0 --top-k 5 --seed 1", (false, false)).unwrap(),
            "--top-k, --seed have no effect: the best token is taken, none is drawn"
        );
        assert_eq!(
            note("--num-beams 2 --temperature 0.5", (false, true)).unwrap(),
            "--temperature has no effect: beam search draws no tokens"
        );
        assert_eq!(
            note("--length-penalty 2 --seed 4", (false, false)).unwrap(),
            "--seed, --length-penalty have no effect: the best token is taken, none is drawn, and there are no beams"
        );
    }
}
