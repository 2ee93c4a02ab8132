//! Beam search, as transformers does it: the best sequences by their log-probability, divided by a power of their length.

use std::time::Instant;

use crate::engine::{Engine, Sequence, Step, Want};
use crate::processors::{Filters, History, process};
use crate::random::Random;
use crate::sampler::log_softmax;
use crate::settings::EarlyStopping;
use crate::{Error, Result, Settings, Timing};

/// The score of a place that holds nothing.
const NOTHING: f32 = -1e9;

/// A sequence that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Beam {
    /// Its new tokens, with the one that ended it if there was one.
    pub tokens: Vec<u32>,
    /// The sum of its log-probabilities, divided by its length to the power of the length penalty.
    pub score: f32,
    /// True if a token ended it, false if its length did.
    pub ended: bool,
}

/// The outcome of a search.
#[derive(Clone, Debug)]
pub struct Found {
    /// The sequences, from the best: as many as were asked for, or fewer where there are none.
    pub beams: Vec<Beam>,
    /// The time it took; a decode step is one token of all beams.
    pub timing: Timing,
}

/// A sequence that is followed.
struct Running {
    sequence: Sequence,
    /// Its last token, which a step adds to the sequence.
    last: u32,
    sum: f32,
    /// The logits after its last token.
    logits: Vec<f32>,
}

/// A token that may follow a running sequence.
struct Candidate {
    parent: usize,
    token: u32,
    sum: f32,
    over: bool,
    ended: bool,
}

/// The state between two steps.
struct Search<'a> {
    settings: &'a Settings,
    prompt: &'a [u32],
    limit: usize,
    random: Random,
    running: Vec<Running>,
    finished: Vec<Beam>,
    open: bool,
}

/// Searches the sequences that follow a prompt. `stop` is asked before each step, and ends the search with what is
/// finished.
///
/// # Errors
/// As [`Settings::new_tokens`] and [`Engine::advance`], and where the settings leave no token.
pub fn search(engine: &Engine, prompt: &[u32], settings: &Settings, stop: &mut dyn FnMut() -> bool) -> Result<Found> {
    let limit = settings.new_tokens(prompt.len(), engine.longest())?;
    let (mut timing, start) = (Timing { prompt_tokens: prompt.len(), ..Timing::default() }, Instant::now());
    let mut sequence = engine.sequence()?;
    let steps = &mut [Step { sequence: &mut sequence, tokens: prompt, want: Want::Last }];
    let logits = engine.advance(steps)?.pop().unwrap_or_default();
    timing.prefill = start.elapsed();
    let random = Random::new(settings.seed, 0);
    let running = vec![Running { sequence, last: 0, sum: 0.0, logits }];
    let mut search = Search { settings, prompt, limit, random, running, finished: Vec::new(), open: true };
    let start = Instant::now();
    for n in 1..=limit {
        if stop() || search.step(n)? {
            break;
        }
        search.advance(engine)?;
        timing.decode_steps += 1;
    }
    timing.decode = start.elapsed();
    let mut beams = search.finished;
    beams.truncate(settings.num_return_sequences);
    Ok(Found { beams, timing })
}

impl Search<'_> {
    /// Chooses the `n`-th new token of all sequences; true if that ends the search.
    fn step(&mut self, n: usize) -> Result<bool> {
        let beams = self.settings.num_beams;
        let candidates = self.candidates(n)?;
        let all_over = candidates.iter().all(|candidate| candidate.over);
        self.store(&candidates[..beams.min(candidates.len())], n);
        self.follow(candidates.into_iter().filter(|candidate| !candidate.over).take(beams));
        let is_full = self.finished.len() == beams;
        let worst = self.finished.last().filter(|_| is_full).map_or(NOTHING, |beam| beam.score);
        let best = self.running.iter().map(|running| running.sum).fold(NOTHING, f32::max);
        let Settings { early_stopping, length_penalty, .. } = *self.settings;
        let length = match early_stopping {
            EarlyStopping::Never if length_penalty > 0.0 => self.limit,
            _ => n,
        };
        self.open = self.open && normalized(best, length, length_penalty) > worst;
        Ok(!self.open || (early_stopping == EarlyStopping::Yes && is_full) || all_over)
    }

    /// The best continuations of all running sequences, or drawn ones, in their order.
    fn candidates(&mut self, n: usize) -> Result<Vec<Candidate>> {
        let Settings { eos, num_beams, do_sample, .. } = self.settings;
        let most = (1 + eos.len()).max(2) * num_beams;
        let mut all: Vec<(f32, usize, u32)> = Vec::new();
        for (parent, running) in self.running.iter().enumerate() {
            let mut scores = log_softmax(&running.logits);
            let history = History { ids: running.sequence.ids(), prompt: self.prompt.len() };
            process(&mut scores, history, self.settings);
            if *do_sample {
                Filters::of_beams(self.settings).apply(&mut scores);
            }
            let scores = scores.iter().zip(0..).filter(|(score, _)| **score > f32::NEG_INFINITY);
            all.extend(scores.map(|(score, token)| (running.sum + score, parent, token)));
        }
        if all.is_empty() {
            return Err(Error::NoToken { position: self.prompt.len() + n - 1 });
        }
        let chosen = if *do_sample { self.drawn(all, most) } else { largest(all, most) };
        let candidate = |(sum, parent, token)| {
            let ended = eos.contains(&token);
            Candidate { parent, token, sum, over: ended || n == self.limit, ended }
        };
        Ok(chosen.into_iter().map(candidate).collect())
    }

    /// So many continuations, drawn without replacement by their sums: those with the largest sums after noise of Gumbel's
    /// distribution was added.
    fn drawn(&mut self, all: Vec<(f32, usize, u32)>, most: usize) -> Vec<(f32, usize, u32)> {
        let mut keyed: Vec<(f64, (f32, usize, u32))> = all
            .into_iter()
            .map(|one| {
                let unit = self.random.unit().max(f64::MIN_POSITIVE);
                (f64::from(one.0) - (-unit.ln()).ln(), one)
            })
            .collect();
        keyed.sort_by(|a, b| b.0.total_cmp(&a.0));
        keyed.truncate(most);
        keyed.into_iter().map(|(_, one)| one).collect()
    }

    /// Stores those of the first candidates that are over, among the best that are finished.
    fn store(&mut self, first: &[Candidate], n: usize) {
        let Settings { num_beams, early_stopping, length_penalty, .. } = *self.settings;
        let is_full = self.finished.len() == num_beams;
        if !self.open || (early_stopping == EarlyStopping::Yes && is_full) {
            return;
        }
        for candidate in first.iter().filter(|candidate| candidate.over) {
            let before = &self.running[candidate.parent].sequence.ids()[self.prompt.len()..];
            let tokens = [before, &[candidate.token]].concat();
            let score = normalized(candidate.sum, n, length_penalty);
            self.finished.push(Beam { tokens, score, ended: candidate.ended });
        }
        self.finished.sort_by(|a, b| b.score.total_cmp(&a.score));
        self.finished.truncate(num_beams);
    }

    /// Follows these from now on. Each gets the cache of its parent: the last of several takes it, the others a copy.
    fn follow(&mut self, chosen: impl Iterator<Item = Candidate>) {
        let chosen: Vec<Candidate> = chosen.collect();
        let mut uses = vec![0; self.running.len()];
        chosen.iter().for_each(|candidate| uses[candidate.parent] += 1);
        let mut parents: Vec<Option<Sequence>> =
            std::mem::take(&mut self.running).into_iter().map(|running| Some(running.sequence)).collect();
        for Candidate { parent, token, sum, .. } in chosen {
            uses[parent] -= 1;
            let place = &mut parents[parent];
            let sequence = if uses[parent] == 0 { place.take() } else { place.clone() };
            if let Some(sequence) = sequence {
                self.running.push(Running { sequence, last: token, sum, logits: Vec::new() });
            }
        }
    }

    /// Shows the model the last token of each running sequence.
    fn advance(&mut self, engine: &Engine) -> Result<()> {
        let mut steps: Vec<Step<'_>> = self
            .running
            .iter_mut()
            .map(|Running { sequence, last, .. }| Step {
                sequence,
                tokens: std::slice::from_ref(last),
                want: Want::Last,
            })
            .collect();
        let logits = engine.advance(&mut steps)?;
        self.running.iter_mut().zip(logits).for_each(|(running, logits)| running.logits = logits);
        Ok(())
    }
}

/// A sum of log-probabilities as sequences of other lengths can be compared with it.
fn normalized(sum: f32, length: usize, penalty: f32) -> f32 {
    sum / (length as f32).powf(penalty)
}

/// The `most` largest, from the largest.
fn largest(mut all: Vec<(f32, usize, u32)>, most: usize) -> Vec<(f32, usize, u32)> {
    // Of equal ones the first sequence's, and the first token.
    let order = |a: &(f32, usize, u32), b: &(f32, usize, u32)| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2)));
    if most < all.len() {
        all.select_nth_unstable_by(most, order);
        all.truncate(most);
    }
    all.sort_by(order);
    all
}
