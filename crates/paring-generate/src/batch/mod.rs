//! Many requests at a time: the prompts of new ones and the next tokens of others go through the model together.
//!
//! A step takes every sequence a token further, and the prompts that wait a piece further. A prompt is cut at places that
//! depend on it alone, and each request has settings, and random numbers, of its own. What prompts have in common is computed
//! once.

mod job;
mod share;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use paring_data::Tokenizer;

use crate::engine::{CHUNK, Engine, Sequence, Step, Want};
use crate::sampler::log_softmax;
use crate::{Error, Result, Settings, Timing};

use job::Job;

/// The number of a request in a batch. No other request of the batch has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub u64);

/// A text to be continued.
#[derive(Clone)]
pub struct Request {
    /// The tokens of the prompt.
    pub prompt: Vec<u32>,
    /// The settings.
    pub settings: Settings,
    /// The number of this request among those that share a seed: each draws numbers of its own.
    pub stream: u64,
    /// Asks for the logarithm of each new token's probability, and of those of this many of the best tokens.
    pub logprobs: Option<usize>,
    /// Asks for the same of the prompt's tokens, without the first, whose probability no model says.
    pub prompt_logprobs: Option<usize>,
    /// A sequence that the model has seen: the tokens that the prompt begins with in common with it are not computed again.
    pub seen: Option<Sequence>,
}

impl Request {
    /// A request that asks for tokens alone.
    pub fn new(prompt: Vec<u32>, settings: Settings) -> Self {
        Self { prompt, settings, stream: 0, logprobs: None, prompt_logprobs: None, seen: None }
    }
}

/// The work of a step, at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Sequences that are at work together; other requests wait.
    pub sequences: usize,
    /// Tokens of prompts in a step, unless a single prompt has a longer piece.
    pub prompt_tokens: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { sequences: 32, prompt_tokens: CHUNK }
    }
}

/// A token and the logarithm of its probability: natural, of the model's distribution before any setting changes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// The token.
    pub token: u32,
    /// The logarithm of its probability.
    pub logprob: f32,
    /// The best tokens with theirs, from the best: as many as were asked for.
    pub top: Vec<(u32, f32)>,
}

/// A new token.
#[derive(Clone, Debug, PartialEq)]
pub struct Chosen {
    /// The token.
    pub token: u32,
    /// Its probability, where that was asked for.
    pub scored: Option<Scored>,
}

/// The reason why a text ended.
#[derive(Debug)]
pub enum Finish {
    /// A token that ends texts; it is the last of the tokens.
    End,
    /// A stop string, before which the text was cut.
    Stop,
    /// It has as many tokens as were asked for, or the context is full.
    Length,
    /// It could not be continued.
    Failed(Error),
}

/// The end of a request.
pub struct Finished {
    /// The reason.
    pub reason: Finish,
    /// The time it took; in a batch that of the steps which it had a part in.
    pub timing: Timing,
    /// The text as the model has seen it: without its last new token.
    pub sequence: Sequence,
}

/// News of a request.
pub struct Event {
    /// The request.
    pub id: Id,
    /// Tokens of the prompt from its second one, where their probabilities were asked for; in pieces, before the first new token.
    pub prompt: Vec<Scored>,
    /// A new token; none while the prompt is computed.
    pub token: Option<Chosen>,
    /// Text that is certain since then: whole characters, and nothing that may begin a stop string. Empty without a
    /// tokenizer.
    pub text: String,
    /// The end, after which nothing follows.
    pub finished: Option<Finished>,
}

/// Requests that are answered together.
pub struct Batch {
    engine: Arc<Engine>,
    tokenizer: Option<Arc<Tokenizer>>,
    limits: Limits,
    running: Vec<Job>,
    waiting: VecDeque<Job>,
    next: u64,
}

impl Batch {
    /// No requests yet. With a tokenizer events have text, and stop strings work.
    pub fn new(engine: Arc<Engine>, tokenizer: Option<Arc<Tokenizer>>, limits: Limits) -> Self {
        Self { engine, tokenizer, limits, running: Vec::new(), waiting: VecDeque::new(), next: 0 }
    }

    /// The model.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Adds a request, which is answered from the next step on, or waits for its turn.
    ///
    /// # Errors
    /// On settings out of range, a prompt with tokens that the model does not have, one that does not fit the context, beams
    /// ([`crate::beam`] has those), and stop strings without a tokenizer.
    pub fn add(&mut self, request: Request) -> Result<Id> {
        if !request.settings.stop.is_empty() && self.tokenizer.is_none() {
            return Err(Error::NoTokenizer { name: "stop" });
        }
        let id = Id(self.next);
        let job = Job::new(id, request, &self.engine)?;
        self.next += 1;
        self.waiting.push_back(job);
        Ok(id)
    }

    /// True if there is nothing to do.
    pub fn is_idle(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty()
    }

    /// Requests at work, and those that wait.
    pub fn load(&self) -> (usize, usize) {
        (self.running.len(), self.waiting.len())
    }

    /// Bytes of keys and values of the requests at work.
    pub fn cache_bytes(&self) -> usize {
        self.running.iter().map(|job| job.sequence.bytes()).sum()
    }

    /// Ends a request, of which nothing more is heard. Returns its text as the model has seen it; `None` if there is no such
    /// request.
    pub fn cancel(&mut self, id: Id) -> Option<Sequence> {
        if let Some(at) = self.running.iter().position(|job| job.id == id) {
            return Some(self.running.remove(at).sequence);
        }
        let at = self.waiting.iter().position(|job| job.id == id)?;
        self.waiting.remove(at).map(|job| job.sequence)
    }

    /// Takes all requests a step further: one event for each that has news. What goes wrong with one of them ends that one
    /// alone.
    ///
    /// # Errors
    /// When the model fails: all requests that were at work are gone.
    pub fn step(&mut self) -> Result<Vec<Event>> {
        while self.running.len() < self.limits.sequences.max(1) {
            let Some(job) = self.waiting.pop_front() else { break };
            self.running.push(job);
        }
        let start = Instant::now();
        let waits = share::share(&mut self.running).inspect_err(|_| self.running.clear())?;
        let takes = self.takes(&waits);
        let rows = self.advance(&takes).inspect_err(|_| self.running.clear())?;
        let elapsed = start.elapsed();
        let mut events = Vec::new();
        let mut running = Vec::with_capacity(self.running.len());
        for ((mut job, rows), take) in std::mem::take(&mut self.running).into_iter().zip(rows).zip(takes) {
            job.passed(take, elapsed);
            let (event, ended) = job.event(rows, self.tokenizer.as_deref());
            let finished = match ended {
                Some(reason) => Some(Finished { reason, timing: job.timing, sequence: job.sequence }),
                None => {
                    running.push(job);
                    None
                }
            };
            events.extend(event.map(|event| Event { finished, ..event }));
        }
        self.running = running;
        Ok(events)
    }

    /// The number of tokens that each request at work passes in the next step: none where it waits for what another one computes.
    fn takes(&self, waits: &[bool]) -> Vec<usize> {
        let mut taken = 0;
        let take = |(job, waits): (&Job, &bool)| -> usize {
            if *waits {
                return 0;
            }
            let piece = job.piece();
            if job.is_decoding() {
                return piece;
            }
            // The first prompt that waits moves on whatever its length.
            if taken > 0 && taken + piece > self.limits.prompt_tokens {
                return 0;
            }
            taken += piece;
            piece
        };
        self.running.iter().zip(waits).map(take).collect()
    }

    /// Passes so many tokens of each request.
    fn advance(&mut self, takes: &[usize]) -> Result<Vec<Rows>> {
        let mut rows: Vec<Rows> = takes.iter().map(|_| Rows::default()).collect();
        let (mut steps, mut views) = (Vec::new(), Vec::new());
        for ((job, &take), rows) in self.running.iter_mut().zip(takes).zip(&mut rows) {
            let Job { sequence, prompt, pending, prompt_logprobs, .. } = job;
            let at = sequence.len();
            let is_prompt = at < prompt.len();
            let tokens = if is_prompt { &prompt[at..at + take] } else { &pending[..take] };
            let want = match prompt_logprobs {
                Some(_) if is_prompt => Want::All,
                _ if at + take >= prompt.len() => Want::Last,
                _ => Want::Nothing,
            };
            steps.push(Step { sequence, tokens, want: if take == 0 { Want::Nothing } else { want } });
            views.push(View { prompt, top: *prompt_logprobs, last: at + take, rows });
        }
        self.engine.advance_with(&mut steps, &mut |step, position, logits| {
            views[step].see(position, logits);
            Ok(())
        })?;
        Ok(rows)
    }
}

/// The results of a step about a request.
#[derive(Default)]
struct Rows {
    prompt: Vec<Scored>,
    /// The logits from which the next token is chosen.
    last: Option<Vec<f32>>,
}

/// A request as its logits come.
struct View<'a> {
    prompt: &'a [u32],
    top: Option<usize>,
    /// Length of the sequence after the step.
    last: usize,
    rows: &'a mut Rows,
}

impl View<'_> {
    /// Takes the logits after the token at a position.
    fn see(&mut self, position: usize, logits: &[f32]) {
        if let (Some(top), Some(&next)) = (self.top, self.prompt.get(position + 1)) {
            self.rows.prompt.push(scored(logits, next, top));
        }
        if position + 1 == self.last && self.last >= self.prompt.len() {
            self.rows.last = Some(logits.to_vec());
        }
    }
}

/// A token with the logarithm of its probability, and the `top` best ones: of equal ones those with lower ids.
fn scored(logits: &[f32], token: u32, top: usize) -> Scored {
    let logs = log_softmax(logits);
    let mut order: Vec<u32> = (0..logs.len() as u32).collect();
    let by = |a: &u32, b: &u32| logs[*b as usize].total_cmp(&logs[*a as usize]).then(a.cmp(b));
    if top < order.len() {
        order.select_nth_unstable_by(top, by);
        order.truncate(top);
    }
    order.sort_by(by);
    let logprob = logs.get(token as usize).copied().unwrap_or(f32::NEG_INFINITY);
    Scored { token, logprob, top: order.into_iter().map(|id| (id, logs[id as usize])).collect() }
}
