//! Summaries of articles, compared with those that people wrote: the evaluation of NVIDIA's Model-Optimizer
//! (`examples/llm_sparsity/weight_sparsity`).
//!
//! Each article is put into a [`prompt`], which is cut at its end where it is too long, as there: of a long article the
//! header of the answer is lost. The best beam is decoded without special tokens, and compared by ROUGE with stems. Only
//! rougeLsum needs sentences, which that script splits by NLTK's Punkt, and this by [`sentences`]: it is approximate.

mod answers;
mod prompt;

use std::sync::Arc;
use std::time::Instant;

use paring_data::Tokenizer;
use paring_generate::{Choices, EarlyStopping, Engine, Settings};
use paring_tasks::Article;
use paring_tasks::rouge::{self, Kind, Overlaps, Rouge, sentences};

use crate::report::progress::{EvalProgress, Observer};
use crate::report::words::plural;
use crate::report::{DeviceReport, peak_rss_mib};
use crate::{Error, Result};
use answers::{Answer, Question, answer};

pub use prompt::prompt;

/// The way that summaries are asked for. The defaults are those of Model-Optimizer, with the beams of its figures.
#[derive(Clone, Debug, PartialEq)]
pub struct SummaryOptions {
    /// The instruction.
    pub instruction: String,
    /// Tokens of a prompt, after which it is cut: 1024. It is cut sooner where model and answer need the place.
    pub longest_input: usize,
    /// Sequences that are followed, of which the best is the summary: 4. One is no search: the likeliest token each time, or a
    /// drawn one where the model's files say so.
    pub beams: usize,
    /// New tokens before which nothing ends a summary: 30.
    pub min_new_tokens: usize,
    /// New tokens at most: 128.
    pub max_new_tokens: usize,
    /// Seed of models that draw; 0.
    pub seed: u64,
}

impl Default for SummaryOptions {
    fn default() -> Self {
        Self {
            instruction: "Summarize the following news article:".into(),
            longest_input: 1024,
            beams: 4,
            min_new_tokens: 30,
            max_new_tokens: 128,
            seed: 0,
        }
    }
}

/// A model that summarizes.
pub struct Summarizer<'a> {
    /// The model.
    pub engine: &'a Arc<Engine>,
    /// Its tokenizer.
    pub tokenizer: &'a Arc<Tokenizer>,
    /// The settings of its files, for all that the options do not say.
    pub choices: &'a Choices,
}

/// The mean F of a kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// The kind's name.
    pub kind: &'static str,
    /// The mean of the articles' F, times 100, rounded to 4 digits.
    pub f: f64,
    /// Its standard error, likewise; `None` for one article.
    pub stderr: Option<f64>,
    /// True if another splitter of sentences would give another figure.
    pub is_approximate: bool,
}

/// Result of a measurement.
#[derive(Clone, Debug)]
pub struct Summaries {
    /// The figures, from rouge1 to rougeLsum.
    pub rouge: [Figure; 4],
    /// Device.
    pub place: DeviceReport,
    /// Articles that were summarized.
    pub articles: usize,
    /// Articles that were there: more where the measurement was stopped.
    pub of: usize,
    /// Prompts that were cut.
    pub cut: usize,
    /// Tokens after which they were cut.
    pub longest_input: usize,
    /// Sequences that were followed.
    pub beams: usize,
    /// Tokens of all prompts, as they were cut.
    pub prompt_tokens: usize,
    /// New tokens of all summaries.
    pub new_tokens: usize,
    /// Time it took.
    pub seconds: f64,
    /// Peak memory of the process, in MiB.
    pub peak_rss_mib: f64,
    /// The summaries, in the order of the articles, without the space around them.
    pub predictions: Vec<String>,
}

impl SummaryOptions {
    /// Checks what can be checked without a model.
    ///
    /// # Errors
    /// On values out of their ranges.
    pub fn check(&self) -> Result<()> {
        self.settings(&Choices::default()).map(drop)
    }

    /// The settings of generation, completed by a model's.
    fn settings(&self, model: &Choices) -> Result<Settings> {
        let asked = Choices {
            num_beams: Some(self.beams),
            num_return_sequences: Some(1),
            early_stopping: Some(EarlyStopping::Yes),
            min_new_tokens: Some(self.min_new_tokens),
            max_new_tokens: Some(self.max_new_tokens),
            seed: Some(self.seed),
            ..Choices::default()
        };
        // The script hands no tokenizer to the generation, without which stop strings are not looked for.
        Ok(Settings { stop: Vec::new(), ..Settings::resolve(&asked, model)? })
    }

    /// Tokens after which prompts are cut for a model that takes `longest`. Errors when the answer leaves no place.
    fn longest_input(&self, longest: Option<usize>) -> Result<usize> {
        let place = longest.map_or(usize::MAX, |longest| longest.saturating_sub(self.max_new_tokens));
        match self.longest_input.min(place) {
            0 => Err(Error::Plan(format!(
                "{} new tokens leave no place for an article, of {}; use fewer",
                self.max_new_tokens,
                longest.map_or("no tokens of input".to_string(), |longest| format!("the model's {longest} tokens"))
            ))),
            most => Ok(most),
        }
    }
}

impl Summarizer<'_> {
    /// The tokens of an article's prompt, with those that the tokenizer puts around it, and true if they are more than `most`,
    /// the first of which are returned. Errors when the tokenizer fails.
    pub fn tokens(&self, instruction: &str, article: &str, most: usize) -> Result<(Vec<u32>, bool)> {
        let mut tokens = self.tokenizer.tokens(&prompt(instruction, article))?;
        let is_cut = tokens.len() > most;
        tokens.truncate(most);
        Ok((tokens, is_cut))
    }
}

/// Summarizes articles and compares the summaries with their highlights. Without beams, articles are answered together, each as if
/// it were alone up to rounding.
///
/// `observer` hears how many are done, and may stop the measurement: the figures are then of the articles that are done.
///
/// # Errors
/// On settings out of range, an article that cannot be tokenized or answered, none at all, and when it is stopped before the
/// first is done.
pub fn measure(
    model: &Summarizer<'_>,
    articles: impl ExactSizeIterator<Item = Article>,
    options: &SummaryOptions,
    observer: &mut dyn Observer,
) -> Result<Summaries> {
    let start = Instant::now();
    let settings = options.settings(model.choices)?;
    let longest_input = options.longest_input(model.engine.longest())?;
    if longest_input < options.longest_input {
        let answer = plural(options.max_new_tokens, "new token");
        observer.note(&format!("prompts are cut after {longest_input} tokens: the model takes no more with {answer}"));
    }
    let of = articles.len();
    let (mut cut, mut prompt_tokens) = (0, 0);
    let mut highlights = Vec::with_capacity(of);
    let mut questions = articles.map(|Article { article, highlights: right }| {
        let (tokens, is_cut) = model.tokens(&options.instruction, &article, longest_input)?;
        highlights.push(right);
        Ok(Question { tokens, is_cut })
    });
    let answers = answer(model, &mut questions, &settings, &mut |done| {
        observer.measured(&EvalProgress { done, of, round: 0, passed: 0, blocks: 1 });
        observer.stop()
    })?;
    drop(questions);
    let rouge = Rouge { stemming: true };
    let mut overlaps: Vec<Overlaps> = Vec::with_capacity(of);
    let (mut predictions, mut new_tokens) = (Vec::with_capacity(of), 0);
    for Answer { number, question, tokens } in answers {
        let text = model.tokenizer.decode(&tokens, true)?;
        let (prediction, right) = (text.trim(), highlights[number].trim());
        overlaps.push(rouge.overlaps(&sentences::in_lines(right), &sentences::in_lines(prediction)));
        predictions.push(prediction.to_string());
        cut += usize::from(question.is_cut);
        prompt_tokens += question.tokens.len();
        new_tokens += tokens.len();
    }
    let means = rouge::means(&overlaps).ok_or_else(|| nothing(of))?;
    Ok(Summaries {
        rouge: means.map(|mean| Figure {
            kind: mean.kind.name(),
            f: rounded(mean.overlap.f),
            stderr: mean.stderr.map(rounded),
            is_approximate: mean.kind == Kind::RougeLsum,
        }),
        place: DeviceReport::new(model.engine.decoder().device())?,
        articles: predictions.len(),
        of,
        cut,
        longest_input,
        beams: settings.num_beams,
        prompt_tokens,
        new_tokens,
        seconds: start.elapsed().as_secs_f64(),
        peak_rss_mib: peak_rss_mib(),
        predictions,
    })
}

/// The error that nothing was summarized, of so many articles.
fn nothing(of: usize) -> Error {
    Error::Plan(if of == 0 { "no articles to summarize".into() } else { "stopped before the first summary".into() })
}

/// A share in per cent, rounded to 4 digits.
fn rounded(share: f64) -> f64 {
    let percent = 100.0 * share;
    format!("{percent:.4}").parse().unwrap_or(percent)
}
