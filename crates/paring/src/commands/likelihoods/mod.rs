//! Log-likelihoods of continuations, block by block: one block in memory at a time, whatever the number of texts.

#[cfg(test)]
mod tests;

use std::time::Instant;

use candle_core::Tensor;
use paring_model::Decoder;
use paring_tasks::{Request, Score};
use serde::Serialize;

use crate::pipeline::budget;
use crate::pipeline::device::DeviceBudget;
use crate::pipeline::prefixes::{BATCH_TOKENS, Forest, Rows, Text};
use crate::pipeline::walk::each_block;
use crate::report::progress::{EvalProgress, Observer};
use crate::report::{Clock, Stage};
use crate::{Error, Result};

use super::perplexity::hidden_bytes;

/// Predictions for which the head is read once. Their activations are in memory together.
const HEAD_ROWS: usize = 16384;

/// Scores continuations after their contexts, of which the last `longest` tokens are seen, in the order of `requests`. Contexts
/// that follow each other and are equal go through the model once, and so do beginnings of 32 tokens and more that different ones
/// have in common. A round of texts takes 128 MiB of activations (8 GiB on a GPU); another round reads the weights again.
///
/// Sums are f32 for each token and f64 over the tokens of a continuation. The device of `budget` is the decoder's. `observer` gets
/// the progress.
///
/// # Errors
/// On tokens out of range, requests without a context or without a continuation, those longer than the model, and likelihoods
/// that are not finite.
pub fn score(
    decoder: &dyn Decoder,
    budget: &DeviceBudget,
    (requests, longest): (&[Request], usize),
    clock: &mut Clock,
    observer: &mut dyn Observer,
) -> Result<Vec<Score>> {
    let texts = texts(requests, longest)?;
    let mut scores = Vec::with_capacity(requests.len());
    for (first, forest) in rounds(&texts, decoder) {
        let round = Round { forest: &forest, texts: &texts[first..], requests: &requests[first..] };
        let at =
            EvalProgress { done: first, of: texts.len(), round: forest.texts(), passed: 0, blocks: decoder.blocks() };
        let scored = round.score(decoder, budget, at, clock, observer);
        scores.extend(scored.map_err(|error| match error {
            Error::Text { text, position, problem } => Error::Text { text: text + first, position, problem },
            other => other,
        })?);
        observer.measured(&EvalProgress { done: scores.len(), round: 0, ..at });
    }
    Ok(scores)
}

/// The work of scoring, before it begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// Requests.
    pub requests: usize,
    /// Tokens that all of them see.
    pub tokens: usize,
    /// Tokens that go through the model: what requests share is computed once.
    pub computed: usize,
    /// Passes over the weights.
    pub rounds: usize,
    /// Bytes of the activations between blocks, at most.
    pub activations: usize,
}

/// The work of [`score`] for the same requests.
///
/// # Errors
/// Those of requests that cannot be scored.
pub fn amount(decoder: &dyn Decoder, requests: &[Request], longest: usize) -> Result<Amount> {
    let texts = texts(requests, longest)?;
    let tokens = texts.iter().map(|text| text.tokens.len()).sum();
    let mut amount = Amount { requests: requests.len(), tokens, ..Amount::default() };
    for (_, forest) in rounds(&texts, decoder) {
        amount.computed += forest.tokens();
        amount.rounds += 1;
        amount.activations = amount.activations.max(forest.tokens() * decoder.hidden_size() * size_of::<f32>());
    }
    Ok(amount)
}

/// Requests as the model sees them.
fn texts(requests: &[Request], longest: usize) -> Result<Vec<Text>> {
    requests.iter().enumerate().map(|(number, request)| text(number, request, longest)).collect()
}

/// The texts that pass through the model together, one round after the other, each with the number of its first text.
fn rounds<'a>(texts: &'a [Text], decoder: &dyn Decoder) -> impl Iterator<Item = (usize, Forest)> + 'a {
    let most = hidden_bytes(decoder) / (decoder.hidden_size() * size_of::<f32>());
    let mut first = 0;
    std::iter::from_fn(move || {
        let rest = texts.get(first..).filter(|rest| !rest.is_empty())?;
        let forest = Forest::grow(rest, most);
        let round = (first, forest);
        first += round.1.texts();
        Some(round)
    })
}

fn text(number: usize, request: &Request, longest: usize) -> Result<Text> {
    let (context, continuation) = (request.context.len(), request.continuation.len());
    let problem = match (context, continuation) {
        (0, _) => "has no context".to_string(),
        (_, 0) => "has no continuation".to_string(),
        _ if continuation > longest => format!("has {continuation} tokens to predict, and the model takes {longest}"),
        _ => {
            let (tokens, first) = request.input(longest);
            return Ok(Text { tokens, first });
        }
    };
    Err(Error::Plan(format!("text {number} {problem}")))
}

/// Texts that pass through the model together.
struct Round<'a> {
    forest: &'a Forest,
    texts: &'a [Text],
    requests: &'a [Request],
}

/// A prediction that counts: the row of its batch, and the text and its token that is predicted.
struct Prediction {
    row: usize,
    text: usize,
    position: usize,
    target: u32,
}

impl Round<'_> {
    fn score(
        &self,
        decoder: &dyn Decoder,
        budget: &DeviceBudget,
        at: EvalProgress,
        clock: &mut Clock,
        observer: &mut dyn Observer,
    ) -> Result<Vec<Score>> {
        let blocks = decoder.blocks();
        let predictions = self.predictions()?;
        let storage = budget::to_run(budget, decoder, (self.forest.batches.len(), BATCH_TOKENS))?;
        let mut rows = Rows::embed(decoder, self.forest, &storage)?;
        each_block(decoder, 0..blocks, budget, clock, |i, block, clock| {
            observer.measured(&EvalProgress { passed: i, ..at });
            let start = Instant::now();
            let passed = rows.pass(decoder, (i, block.as_ref()));
            passed.map_err(|error| budget.with_context(error, format_args!("block {i}: forward pass")))?;
            clock.add(Stage::Forward, start, self.work(decoder, i));
            Ok(())
        })?;
        observer.measured(&EvalProgress { passed: blocks, ..at });
        let start = Instant::now();
        let mut head =
            Head { decoder, scores: vec![Score { loglikelihood: 0.0, is_greedy: true }; self.forest.texts()] };
        let (mut parts, mut pending) = (Vec::new(), Vec::new());
        rows.each(|batch, _, h| {
            let own = &predictions[batch];
            if own.is_empty() {
                return Ok(());
            }
            let numbers: Vec<u32> = own.iter().map(|prediction| prediction.row as u32).collect();
            let numbers = Tensor::from_vec(numbers, own.len(), h.device())?;
            parts.push(h.get(0)?.index_select(&numbers, 0)?);
            pending.extend(own);
            if pending.len() >= HEAD_ROWS {
                head.add(&std::mem::take(&mut parts), &std::mem::take(&mut pending))?;
            }
            Ok(())
        })?;
        head.add(&parts, &pending).map_err(|error| budget.with_context(error, "the head"))?;
        let count: usize = predictions.iter().map(Vec::len).sum();
        clock.add(Stage::Head, start, 2.0 * (decoder.hidden_size() * decoder.vocab_size() * count) as f64);
        Ok(head.scores)
    }

    /// The predictions of each batch.
    fn predictions(&self) -> Result<Vec<Vec<Prediction>>> {
        let mut all: Vec<Vec<Prediction>> = self.forest.batches.iter().map(|_| Vec::new()).collect();
        for (text, request) in self.requests.iter().take(self.forest.texts()).enumerate() {
            for (k, &target) in request.continuation.iter().enumerate() {
                let position = self.texts[text].first + k;
                let found = self.forest.find(text, position);
                let (piece, at) = found.ok_or_else(|| Error::Plan(format!("text {text} has no token {position}")))?;
                let (batch, row) = self.forest.pieces[piece].place;
                all[batch].push(Prediction { row: row + at, text, position, target });
            }
        }
        Ok(all)
    }

    /// Operations of block `i`: products, and attention, in which a token sees those before it.
    fn work(&self, decoder: &dyn Decoder, i: usize) -> f64 {
        let block = decoder.block_info(i);
        let weights: usize = block.linears.iter().map(|linear| linear.rows * linear.cols).sum();
        let each = |tokens: usize, start: usize| {
            2.0 * (tokens * (weights + 2 * (start + tokens / 2) * block.attention.width())) as f64
        };
        self.forest.pieces.iter().map(|piece| each(piece.tokens.len(), piece.start)).sum()
    }
}

/// The scores, as predictions come.
struct Head<'a> {
    decoder: &'a dyn Decoder,
    scores: Vec<Score>,
}

impl Head<'_> {
    /// Adds predictions after the rows of `parts`, each `[n, dim]`.
    fn add(&mut self, parts: &[Tensor], predictions: &[&Prediction]) -> Result<()> {
        if predictions.is_empty() {
            return Ok(());
        }
        let targets: Vec<u32> = predictions.iter().map(|prediction| prediction.target).collect();
        let found = self.decoder.likelihoods(&Tensor::cat(parts, 0)?, &targets)?;
        for (prediction, found) in predictions.iter().zip(found) {
            let Prediction { text, position, target, .. } = **prediction;
            if !found.nll.is_finite() {
                let problem = format!(
                    "the log-likelihood of token {target} after it is {}; the model's weights are damaged or too large",
                    -found.nll
                );
                return Err(Error::Text { text, position, problem });
            }
            let score = &mut self.scores[text];
            score.loglikelihood -= f64::from(found.nll);
            score.is_greedy &= found.is_likeliest;
        }
        Ok(())
    }
}
