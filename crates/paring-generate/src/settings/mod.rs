//! The settings of generation, by the names that `generation_config.json` has for them.
//!
//! [`Choices`] may each be given or left out; [`Settings`] are complete, with a default for each that was left out.

mod config;
#[cfg(test)]
mod tests;

use crate::{Error, Result};

/// New tokens where no number is given.
pub const NEW_TOKENS: usize = 20;
/// Scores that sampling keeps where no number is given.
pub const TOP_K: usize = 50;
/// Beams at most: more would take the memory of as many sequences.
const MOST_BEAMS: usize = 1024;

/// The end of a beam search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EarlyStopping {
    /// Ends when no running sequence is better than the worst finished one, at its present length.
    No,
    /// Ends as soon as there are as many finished sequences as beams.
    Yes,
    /// Ends when none can become better than the worst finished one, at any length.
    Never,
}

/// Settings that may be given or left out. The names are those of transformers.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)]
pub struct Choices {
    pub max_new_tokens: Option<usize>,
    pub max_length: Option<usize>,
    pub min_new_tokens: Option<usize>,
    pub min_length: Option<usize>,
    pub do_sample: Option<bool>,
    pub num_beams: Option<usize>,
    pub num_return_sequences: Option<usize>,
    pub temperature: Option<f32>,
    pub top_k: Option<usize>,
    pub top_p: Option<f32>,
    pub min_p: Option<f32>,
    pub typical_p: Option<f32>,
    pub epsilon_cutoff: Option<f32>,
    pub eta_cutoff: Option<f32>,
    pub repetition_penalty: Option<f32>,
    pub no_repeat_ngram_size: Option<usize>,
    pub length_penalty: Option<f32>,
    pub early_stopping: Option<EarlyStopping>,
    pub presence_penalty: Option<f32>,
    pub frequency_penalty: Option<f32>,
    /// Added to the scores of tokens.
    pub logit_bias: Vec<(u32, f32)>,
    /// Tokens that end the text.
    pub eos_token_id: Option<Vec<u32>>,
    pub pad_token_id: Option<u32>,
    /// Texts that end the text, and are no part of it.
    pub stop: Vec<String>,
    pub seed: Option<u64>,
}

/// The number of new tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// This many; it is an error if they do not fit the context.
    Exactly(usize),
    /// This many, or as many as fit the context.
    AtMost(usize),
    /// This many together with the prompt, or as many as fit the context.
    Total(usize),
    /// As many as fit the context.
    Context,
}

/// Settings with nothing left to default.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// New tokens at most.
    pub length: Length,
    /// New tokens before which no token ends the text.
    pub min_new_tokens: usize,
    /// The same, counted with the prompt.
    pub min_length: usize,
    /// True to draw tokens, false to take the best.
    pub do_sample: bool,
    /// Sequences that a beam search follows; 1: no beam search.
    pub num_beams: usize,
    /// Sequences that it returns.
    pub num_return_sequences: usize,
    /// Divides scores; like the six that follow, in sampling only.
    pub temperature: f32,
    /// Scores that are kept; 0 for all.
    pub top_k: usize,
    /// Probability of the best tokens that are kept; 1 for all.
    pub top_p: f32,
    /// Share of the largest probability that a kept one has at least; 0 for all.
    pub min_p: f32,
    /// Probability of the most typical tokens that are kept; 1 for all.
    pub typical_p: f32,
    /// Probability that kept tokens have at least; 0 for all.
    pub epsilon_cutoff: f32,
    /// The same, less where the distribution is flat; 0 for all.
    pub eta_cutoff: f32,
    /// Penalty of tokens that occur in the prompt or the output; 1 for none.
    pub repetition_penalty: f32,
    /// Length of runs of tokens that do not occur twice; 0 for any.
    pub no_repeat_ngram_size: usize,
    /// Exponent of the length that a beam's score is divided by.
    pub length_penalty: f32,
    /// The end of a beam search.
    pub early_stopping: EarlyStopping,
    /// Taken off the scores of tokens that occur in the output.
    pub presence_penalty: f32,
    /// Taken off them for each time.
    pub frequency_penalty: f32,
    /// Added to the scores of tokens.
    pub logit_bias: Vec<(u32, f32)>,
    /// Tokens that end the text; they are part of the tokens, not of the text.
    pub eos: Vec<u32>,
    /// The token that follows the end of shorter beams, if a rectangle is needed.
    pub pad: Option<u32>,
    /// Texts that end the text, and are no part of it.
    pub stop: Vec<String>,
    /// Seed of sampling.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            length: Length::AtMost(NEW_TOKENS),
            min_new_tokens: 0,
            min_length: 0,
            do_sample: false,
            num_beams: 1,
            num_return_sequences: 1,
            temperature: 1.0,
            top_k: TOP_K,
            top_p: 1.0,
            min_p: 0.0,
            typical_p: 1.0,
            epsilon_cutoff: 0.0,
            eta_cutoff: 0.0,
            repetition_penalty: 1.0,
            no_repeat_ngram_size: 0,
            length_penalty: 1.0,
            early_stopping: EarlyStopping::No,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Vec::new(),
            eos: Vec::new(),
            pad: None,
            stop: Vec::new(),
            seed: 0,
        }
    }
}

impl Settings {
    /// Completes what is `asked` with what the `model`'s files say ([`Choices::of_model`]), and then with the defaults of
    /// transformers.
    ///
    /// # Errors
    /// On a value out of its range, from either.
    pub fn resolve(asked: &Choices, model: &Choices) -> Result<Self> {
        macro_rules! pick {
            ($field:ident) => {
                asked.$field.clone().or_else(|| model.$field.clone())
            };
        }
        let usual = Settings::default();
        let length = match (asked, model) {
            (Choices { max_new_tokens: Some(n), .. }, _) => Length::Exactly(*n),
            (Choices { max_length: Some(n), .. }, _) => Length::Total(*n),
            (_, Choices { max_new_tokens: Some(n), .. }) => Length::AtMost(*n),
            (_, Choices { max_length: Some(n), .. }) => Length::Total(*n),
            _ => usual.length,
        };
        let eos = pick!(eos_token_id).unwrap_or_default();
        let num_beams = pick!(num_beams).unwrap_or(usual.num_beams);
        // A file may ask for several drawn texts, of which there is one here.
        let of_file = model.num_return_sequences.map(|sequences| sequences.min(num_beams));
        let settings = Self {
            length,
            min_new_tokens: pick!(min_new_tokens).unwrap_or(usual.min_new_tokens),
            // The number of new tokens counts where both are given.
            min_length: pick!(min_length).filter(|_| pick!(min_new_tokens).is_none()).unwrap_or(usual.min_length),
            do_sample: pick!(do_sample).unwrap_or(usual.do_sample),
            num_beams,
            num_return_sequences: asked.num_return_sequences.or(of_file).unwrap_or(usual.num_return_sequences),
            temperature: pick!(temperature).unwrap_or(usual.temperature),
            top_k: pick!(top_k).unwrap_or(usual.top_k),
            top_p: pick!(top_p).unwrap_or(usual.top_p),
            min_p: pick!(min_p).unwrap_or(usual.min_p),
            typical_p: pick!(typical_p).unwrap_or(usual.typical_p),
            epsilon_cutoff: pick!(epsilon_cutoff).unwrap_or(usual.epsilon_cutoff),
            eta_cutoff: pick!(eta_cutoff).unwrap_or(usual.eta_cutoff),
            repetition_penalty: pick!(repetition_penalty).unwrap_or(usual.repetition_penalty),
            no_repeat_ngram_size: pick!(no_repeat_ngram_size).unwrap_or(usual.no_repeat_ngram_size),
            length_penalty: pick!(length_penalty).unwrap_or(usual.length_penalty),
            early_stopping: pick!(early_stopping).unwrap_or(usual.early_stopping),
            presence_penalty: pick!(presence_penalty).unwrap_or(usual.presence_penalty),
            frequency_penalty: pick!(frequency_penalty).unwrap_or(usual.frequency_penalty),
            logit_bias: asked.logit_bias.clone(),
            pad: pick!(pad_token_id).or(eos.first().copied()),
            eos,
            stop: if asked.stop.is_empty() { model.stop.clone() } else { asked.stop.clone() },
            seed: pick!(seed).unwrap_or(usual.seed),
        };
        settings.check()?;
        match (asked.min_new_tokens, asked.max_new_tokens) {
            (Some(least), Some(most)) if least > most => {
                let got = least.to_string();
                Err(Error::Setting { name: "min-new-tokens", got, allowed: "at most the number of new tokens" })
            }
            _ => Ok(settings),
        }
    }

    /// Checks the ranges of all values.
    ///
    /// # Errors
    /// On the first value out of its range, with its name and the range.
    pub fn check(&self) -> Result<()> {
        let positive = |v: f32| v.is_finite() && v > 0.0;
        let finite = |v: f32| v.is_finite();
        let share = |v: f32| v > 0.0 && v <= 1.0;
        let part = |v: f32| (0.0..=1.0).contains(&v);
        let below = |v: f32| (0.0..1.0).contains(&v);
        let penalty = |v: f32| (-2.0..=2.0).contains(&v);
        let numbers: [(&'static str, f32, bool, &'static str); 11] = [
            ("temperature", self.temperature, positive(self.temperature), "above 0"),
            ("top-p", self.top_p, share(self.top_p), "above 0 and at most 1"),
            ("min-p", self.min_p, part(self.min_p), "between 0 and 1"),
            ("typical-p", self.typical_p, share(self.typical_p), "above 0 and at most 1"),
            ("epsilon-cutoff", self.epsilon_cutoff, below(self.epsilon_cutoff), "at least 0 and below 1"),
            ("eta-cutoff", self.eta_cutoff, below(self.eta_cutoff), "at least 0 and below 1"),
            ("repetition-penalty", self.repetition_penalty, positive(self.repetition_penalty), "above 0"),
            ("length-penalty", self.length_penalty, finite(self.length_penalty), "a finite number"),
            ("presence-penalty", self.presence_penalty, penalty(self.presence_penalty), "between -2 and 2"),
            ("frequency-penalty", self.frequency_penalty, penalty(self.frequency_penalty), "between -2 and 2"),
            (
                "logit-bias",
                self.logit_bias.iter().map(|(_, bias)| *bias).find(|bias| bias.is_nan()).unwrap_or(0.0),
                self.logit_bias.iter().all(|(_, bias)| !bias.is_nan()),
                "numbers",
            ),
        ];
        for (name, got, fits, allowed) in numbers {
            if !fits {
                return Err(Error::Setting { name, got: got.to_string(), allowed });
            }
        }
        if !(1..=MOST_BEAMS).contains(&self.num_beams) {
            let got = self.num_beams.to_string();
            return Err(Error::Setting { name: "num-beams", got, allowed: "from 1 to 1024" });
        }
        if !(1..=self.num_beams).contains(&self.num_return_sequences) {
            let got = self.num_return_sequences.to_string();
            return Err(Error::Setting { name: "num-return-sequences", got, allowed: "from 1 to the number of beams" });
        }
        if self.stop.iter().any(String::is_empty) {
            return Err(Error::Setting { name: "stop", got: "\"\"".into(), allowed: "a text" });
        }
        Ok(())
    }

    /// New tokens after a prompt of `prompt` tokens, where a sequence has at most `context`.
    ///
    /// # Errors
    /// On a prompt without tokens, one that fills the context, and where the number that was asked for does not fit.
    pub fn new_tokens(&self, prompt: usize, context: Option<usize>) -> Result<usize> {
        if prompt == 0 {
            return Err(Error::Empty);
        }
        let place = context.map_or(usize::MAX, |context| context.saturating_sub(prompt));
        let wanted = match self.length {
            Length::Exactly(n) => n,
            Length::AtMost(n) => n.min(place),
            Length::Total(n) => n.saturating_sub(prompt).min(place),
            Length::Context => place,
        };
        match context {
            Some(limit) if prompt > limit || (place == 0 && self.length != Length::Exactly(0)) => {
                Err(Error::Prompt { tokens: prompt, limit })
            }
            Some(limit) if wanted > place => Err(Error::Context { prompt, new: wanted, limit }),
            _ => Ok(wanted),
        }
    }
}
