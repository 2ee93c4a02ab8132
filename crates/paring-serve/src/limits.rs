//! Bounds on what clients can take.

use std::time::Duration;

/// The bounds of a server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time. One more is answered with status 503.
    pub connections: usize,
    /// Bytes in the body of a request. A longer one is answered with 413.
    pub body: usize,
    /// Texts that are continued together.
    pub sequences: usize,
    /// Texts that wait for their turn. One more is answered with 429.
    pub queue: usize,
    /// Texts that one request may ask for: its prompts times the answers to each.
    pub choices: usize,
    /// New tokens that a text may get; `None`: what the context has place for.
    pub new_tokens: Option<usize>,
    /// Tokens in the cache at a time, with those that texts at work may still get: a text that does not fit waits. Also the
    /// longest text. Beside them are those of texts that ended lately: as many at most, and no more than the model's context.
    pub cached_tokens: usize,
    /// Time that a client has to send the head of a request, or to begin another one.
    pub head_time: Duration,
    /// Time that a client has to send the body of a request.
    pub body_time: Duration,
    /// Time in which a client has to take something of an answer that is ready.
    pub take_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            body: 4 << 20,
            sequences: 32,
            queue: 256,
            choices: 128,
            new_tokens: None,
            cached_tokens: 1 << 17,
            head_time: Duration::from_secs(15),
            body_time: Duration::from_secs(30),
            take_time: Duration::from_secs(60),
        }
    }
}

impl Limits {
    /// Texts at work and waiting, at most.
    pub(crate) fn places(&self) -> usize {
        self.sequences.max(1) + self.queue
    }
}
