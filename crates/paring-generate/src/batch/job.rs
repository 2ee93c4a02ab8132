//! A request at work.

use std::time::Duration;

use paring_data::Tokenizer;

use super::{Chosen, Event, Finish, Id, Request, Rows, scored};
use crate::engine::{CHUNK, Engine, Sequence};
use crate::processors::History;
use crate::sampler::Sampler;
use crate::{Error, Result, Settings, Text, Timing};

/// A request and how far it is.
pub(super) struct Job {
    pub id: Id,
    pub prompt: Vec<u32>,
    /// The text as the model has seen it.
    pub sequence: Sequence,
    /// The last new token, which the model has not seen.
    pub pending: Vec<u32>,
    pub prompt_logprobs: Option<usize>,
    pub timing: Timing,
    settings: Settings,
    sampler: Sampler,
    text: Text,
    logprobs: Option<usize>,
    /// New tokens so far, and at most.
    new: usize,
    most: usize,
}

impl Job {
    pub fn new(id: Id, request: Request, engine: &Engine) -> Result<Self> {
        let Request { prompt, settings, stream, logprobs, prompt_logprobs, seen } = request;
        settings.check()?;
        if settings.num_beams > 1 {
            let got = settings.num_beams.to_string();
            return Err(Error::Setting { name: "num-beams", got, allowed: "1 where requests share a batch" });
        }
        let most = settings.new_tokens(prompt.len(), engine.longest())?;
        let vocab = engine.vocab();
        if let Some(&token) = prompt.iter().find(|&&token| token as usize >= vocab) {
            return Err(paring_model::Error::TokenOutOfRange { token, vocab }.into());
        }
        let sequence = match seen.filter(|_| prompt_logprobs.is_none()) {
            Some(mut sequence) => {
                // The logits after the prompt's last token are not kept.
                let common = sequence.common(&prompt).min(prompt.len() - 1);
                sequence.truncate(common)?;
                sequence
            }
            None => engine.sequence()?,
        };
        let text = Text::after(&prompt, &settings.stop);
        let sampler = Sampler::new(&settings, stream);
        let pending = Vec::new();
        let (timing, new) = (Timing::default(), 0);
        Ok(Self {
            id,
            prompt,
            sequence,
            pending,
            prompt_logprobs,
            timing,
            settings,
            sampler,
            text,
            logprobs,
            new,
            most,
        })
    }

    /// True once some of the prompt was passed.
    pub fn is_begun(&self) -> bool {
        self.timing.prompt_tokens > 0
    }

    /// True after the prompt.
    pub fn is_decoding(&self) -> bool {
        self.sequence.len() >= self.prompt.len()
    }

    /// Tokens of the next step: the pending one, or a piece of the prompt that ends where the engine would cut it.
    pub fn piece(&self) -> usize {
        let at = self.sequence.len();
        match self.is_decoding() {
            true => self.pending.len(),
            false => (CHUNK - at % CHUNK).min(self.prompt.len() - at),
        }
    }

    /// Counts a step in which so many of its tokens were passed.
    pub fn passed(&mut self, tokens: usize, elapsed: Duration) {
        if self.new > 0 {
            self.timing.decode_steps += 1;
            self.timing.decode += elapsed;
        } else {
            self.timing.prompt_tokens += tokens;
            self.timing.prefill += elapsed;
        }
    }

    /// The news after a step, if there are any, and the reason of the end if this is it.
    pub fn event(&mut self, rows: Rows, tokenizer: Option<&Tokenizer>) -> (Option<Event>, Option<Finish>) {
        let Rows { prompt, last } = rows;
        let mut event = Event { id: self.id, prompt, token: None, text: String::new(), finished: None };
        let ended = match last {
            None if event.prompt.is_empty() => return (None, None),
            None => None,
            Some(logits) => {
                self.next(&logits, tokenizer, &mut event).unwrap_or_else(|error| Some(Finish::Failed(error)))
            }
        };
        (Some(event), ended)
    }

    /// Chooses the next token.
    fn next(&mut self, logits: &[f32], tokenizer: Option<&Tokenizer>, event: &mut Event) -> Result<Option<Finish>> {
        if self.most == 0 {
            return Ok(Some(Finish::Length));
        }
        let history = History { ids: self.sequence.ids(), prompt: self.prompt.len() };
        let token = self.sampler.choose(logits, history, &self.settings)?;
        self.new += 1;
        self.pending = vec![token];
        event.token = Some(Chosen { token, scored: self.logprobs.map(|top| scored(logits, token, top)) });
        if let Some(tokenizer) = tokenizer {
            event.text = self.text.push(tokenizer, token)?;
        }
        let ended = if self.text.is_stopped() {
            Some(Finish::Stop)
        } else if self.settings.eos.contains(&token) {
            Some(Finish::End)
        } else {
            (self.new >= self.most).then_some(Finish::Length)
        };
        if let Some(tokenizer) = tokenizer.filter(|_| ended.is_some()) {
            event.text.push_str(&self.text.finish(tokenizer)?);
            // Bytes that became characters may complete a stop string.
            if self.text.is_stopped() {
                return Ok(Some(Finish::Stop));
            }
        }
        Ok(ended)
    }
}
