//! Log-likelihoods of continuations, block by block: one block in memory at a time, whatever the number of texts.

mod beyond;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
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
pub use beyond::Beyond;
use beyond::Passes;

/// Predictions for which the head is read once. Their activations are in memory together, in four forms on the way to a product.
const HEAD_ROWS: usize = 4096;
/// Predictions after which products of the head begin anew, which decides the last bits of those that end a group.
const GROUP_ROWS: usize = 4 * HEAD_ROWS;

/// Requests to score.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The requests.
    pub requests: &'a [Request],
    /// Tokens that the model sees of each, at most: the last ones.
    pub longest: usize,
    /// The place of activations that do not fit in memory.
    pub beyond: Beyond<'a>,
}

/// Scores continuations after their contexts, in the order of the requests. Contexts that follow each other and are equal go through
/// the model once, and so do beginnings of 32 tokens and more that different ones have in common. 128 MiB of activations (8 GiB with
/// a GPU) wait in memory between two blocks, and the rest as [`Beyond`] says; scores do not depend on it, to the bit.
///
/// Sums are f32 for each token and f64 over the tokens of a continuation. The device of `budget` is the decoder's. `observer` gets
/// the progress.
///
/// # Errors
/// On tokens out of range, requests without a context or without a continuation, those longer than the model, likelihoods
/// that are not finite, and a file that cannot be written.
pub fn score(
    decoder: &dyn Decoder,
    budget: &DeviceBudget,
    asked: &Asked<'_>,
    clock: &mut Clock,
    observer: &mut dyn Observer,
) -> Result<Vec<Score>> {
    score_within(hidden_bytes(decoder), (decoder, budget), asked, clock, observer)
}

/// As [`score`], with so many bytes of activations in memory.
fn score_within(
    resident: usize,
    (decoder, budget): (&dyn Decoder, &DeviceBudget),
    asked: &Asked<'_>,
    clock: &mut Clock,
    observer: &mut dyn Observer,
) -> Result<Vec<Score>> {
    let (texts, forests) = asked.forests(decoder, resident)?;
    let passes = Passes::of(decoder, &forests, asked.beyond, resident);
    let mut scores = Vec::with_capacity(texts.len());
    for forests in passes.each(&forests) {
        let round = Round { forests, texts: &texts, requests: asked.requests };
        let at = EvalProgress {
            done: scores.len(),
            of: texts.len(),
            round: round.forests.iter().map(Forest::texts).sum(),
            passed: 0,
            blocks: decoder.blocks(),
        };
        scores.extend(round.score((decoder, budget), &passes, at, clock, observer)?);
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
    /// Predictions that count.
    pub predictions: usize,
    /// Passes over the weights.
    pub rounds: usize,
    /// Bytes of the activations in memory between blocks, at most.
    pub activations: usize,
    /// Bytes of those that wait in a file.
    pub on_disk: usize,
}

/// The work of [`score`] for the same requests.
///
/// # Errors
/// Those of requests that cannot be scored.
pub fn amount(decoder: &dyn Decoder, asked: &Asked<'_>) -> Result<Amount> {
    let resident = hidden_bytes(decoder);
    let (texts, forests) = asked.forests(decoder, resident)?;
    let passes = Passes::of(decoder, &forests, asked.beyond, resident);
    Ok(Amount {
        requests: asked.requests.len(),
        tokens: texts.iter().map(|text| text.tokens.len()).sum(),
        computed: forests.iter().map(Forest::tokens).sum(),
        predictions: asked.requests.iter().map(|request| request.continuation.len()).sum(),
        rounds: passes.each(&forests).count(),
        activations: passes.in_memory,
        on_disk: passes.on_disk,
    })
}

impl Asked<'_> {
    /// Requests as the model sees them, and the forests that they make: each has so many bytes of activations.
    fn forests(&self, decoder: &dyn Decoder, bytes: usize) -> Result<(Vec<Text>, Vec<Forest>)> {
        let texts = self.requests.iter().enumerate().map(|(number, request)| text(number, request, self.longest));
        let texts = texts.collect::<Result<Vec<Text>>>()?;
        let forests = Forest::all(&texts, bytes / row_bytes(decoder));
        Ok((texts, forests))
    }
}

/// Bytes of the activations of a token.
fn row_bytes(decoder: &dyn Decoder) -> usize {
    decoder.hidden_size() * size_of::<f32>()
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
    forests: &'a [Forest],
    /// All texts, and all requests.
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
        (decoder, budget): (&dyn Decoder, &DeviceBudget),
        passes: &Passes,
        at: EvalProgress,
        clock: &mut Clock,
        observer: &mut dyn Observer,
    ) -> Result<Vec<Score>> {
        let blocks = decoder.blocks();
        let batches = self.forests.iter().map(|forest| forest.batches.len()).sum();
        let storage = budget::to_run(budget, decoder, (batches, BATCH_TOKENS), passes.disk())?;
        let mut rows = Rows::embed(decoder, self.forests, &storage)?;
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
        let scores = self.head(decoder, &rows).map_err(|error| budget.with_context(error, "the head"))?;
        let requests = self.requests.iter().skip(at.done).take(at.round);
        let count: usize = requests.map(|request| request.continuation.len()).sum();
        clock.add(Stage::Head, start, 2.0 * (decoder.hidden_size() * decoder.vocab_size() * count) as f64);
        Ok(scores)
    }

    /// The scores, from the last block's outputs.
    fn head(&self, decoder: &dyn Decoder, rows: &Rows<'_>) -> Result<Vec<Score>> {
        let first = self.forests.first().map_or(0, |forest| forest.first);
        let texts = self.forests.iter().map(Forest::texts).sum();
        let usual = Score { loglikelihood: 0.0, is_greedy: true };
        let (scores, pending) = (vec![usual; texts], VecDeque::new());
        let mut head = Head { decoder, first, scores, parts: Vec::new(), pending, group: 0 };
        let mut predictions = Vec::new();
        rows.each(|forest, batch, h| {
            if batch == 0 {
                // What a product is made of does not depend on the forests beside it.
                head.end()?;
                predictions = self.predictions(forest)?;
            }
            let own = std::mem::take(&mut predictions[batch]);
            if own.is_empty() {
                return Ok(());
            }
            let numbers: Vec<u32> = own.iter().map(|prediction| prediction.row as u32).collect();
            let numbers = Tensor::from_vec(numbers, own.len(), h.device())?;
            head.add(h.get(0)?.index_select(&numbers, 0)?, own)
        })?;
        head.end()?;
        Ok(head.scores)
    }

    /// The predictions of each batch of a forest.
    fn predictions(&self, forest: &Forest) -> Result<Vec<Vec<Prediction>>> {
        let mut all: Vec<Vec<Prediction>> = forest.batches.iter().map(|_| Vec::new()).collect();
        for own in 0..forest.texts() {
            let text = forest.first + own;
            for (k, &target) in self.requests[text].continuation.iter().enumerate() {
                let position = self.texts[text].first + k;
                let found = forest.find(own, position);
                let (piece, at) = found.ok_or_else(|| Error::Plan(format!("text {text} has no token {position}")))?;
                let (batch, row) = forest.pieces[piece].place;
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
        let pieces = self.forests.iter().flat_map(|forest| &forest.pieces);
        pieces.map(|piece| each(piece.tokens.len(), piece.start)).sum()
    }
}

/// The scores, as predictions come.
struct Head<'a> {
    decoder: &'a dyn Decoder,
    /// The number of the first text among all.
    first: usize,
    scores: Vec<Score>,
    /// Rows `[n, dim]` that wait for the head, and what is predicted after them.
    parts: Vec<Tensor>,
    pending: VecDeque<Prediction>,
    /// Predictions of the group so far.
    group: usize,
}

impl Head<'_> {
    /// Adds predictions after the rows of a part, `[n, dim]`.
    fn add(&mut self, part: Tensor, predictions: Vec<Prediction>) -> Result<()> {
        self.group += predictions.len();
        self.parts.push(part);
        self.pending.extend(predictions);
        while self.pending.len() >= HEAD_ROWS {
            self.count(HEAD_ROWS)?;
        }
        if self.group >= GROUP_ROWS { self.end() } else { Ok(()) }
    }

    /// Ends a group.
    fn end(&mut self) -> Result<()> {
        self.group = 0;
        self.count(self.pending.len())
    }

    /// Adds the first `rows` predictions that wait to their scores.
    fn count(&mut self, rows: usize) -> Result<()> {
        if rows == 0 {
            return Ok(());
        }
        let all = Tensor::cat(&std::mem::take(&mut self.parts), 0)?;
        let rest = all.dim(0)?.saturating_sub(rows);
        if rest > 0 {
            self.parts.push(all.narrow(0, rows, rest)?);
        }
        let predictions: Vec<Prediction> = self.pending.drain(..rows.min(self.pending.len())).collect();
        let targets: Vec<u32> = predictions.iter().map(|prediction| prediction.target).collect();
        let found = self.decoder.likelihoods(&all.narrow(0, 0, rows)?, &targets)?;
        for (prediction, found) in predictions.into_iter().zip(found) {
            let Prediction { text, position, target, .. } = prediction;
            if !found.nll.is_finite() {
                let problem = format!(
                    "the log-likelihood of token {target} after it is {}; the model's weights are damaged or too large",
                    -found.nll
                );
                return Err(Error::Text { text, position, problem });
            }
            let score = &mut self.scores[text - self.first];
            score.loglikelihood -= f64::from(found.nll);
            score.is_greedy &= found.is_likeliest;
        }
        Ok(())
    }
}
