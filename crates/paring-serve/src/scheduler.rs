//! The thread that owns the model. Requests join its batch between steps, and leave it when their clients are gone.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc as blocking;
use std::thread::JoinHandle;

use paring_generate::{Batch, Chosen, Error, Event, Finish, Id, Request, Scored};
use tokio::sync::{mpsc, watch};

use crate::limits::Limits;
use crate::metrics::{Metrics, Place};
use crate::model::Model;
use crate::problem::Problem;
use crate::recent::Recent;

/// News of a text.
pub struct Note {
    /// The number of the text in its request.
    pub choice: usize,
    /// Tokens of the prompt from its second one.
    pub prompt: Vec<Scored>,
    /// A new token.
    pub token: Option<Chosen>,
    /// Text that is certain.
    pub text: String,
    /// The end.
    pub end: Option<End>,
}

/// The end of a text.
pub enum End {
    /// A token that ends texts, or a stop string.
    Stop,
    /// As many tokens as were asked for.
    Length,
    /// An error.
    Failed(Problem),
}

/// A text that waits for its turn.
struct Waiting {
    request: Request,
    /// Tokens that it may become.
    tokens: usize,
    client: Client,
}

/// The one who hears of a text.
struct Client {
    choice: usize,
    tokens: usize,
    news: mpsc::UnboundedSender<Note>,
    /// Counts until the end of the text.
    _place: Place,
}

/// The other threads' end of the scheduler.
pub struct Scheduler {
    work: blocking::Sender<Waiting>,
    metrics: Arc<Metrics>,
    limits: Limits,
    alive: watch::Receiver<()>,
}

impl Scheduler {
    /// Starts the thread.
    pub fn start(model: &Model, limits: Limits, metrics: Arc<Metrics>) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (work, requests) = blocking::channel();
        let (living, alive) = watch::channel(());
        let batch_limits = paring_generate::Limits { sequences: limits.sequences.max(1), ..Default::default() };
        let batch = Batch::new(model.engine.clone(), Some(model.answers.clone()), batch_limits);
        let thread = Thread {
            batch,
            requests,
            waiting: VecDeque::new(),
            running: HashMap::new(),
            recent: Recent::new(model.context().min(limits.cached_tokens)),
            limits,
            metrics: metrics.clone(),
        };
        let run = move || {
            let _living = living;
            thread.run();
        };
        let handle = std::thread::Builder::new().name("paring-model".into()).spawn(run)?;
        Ok((Self { work, metrics, limits, alive }, handle))
    }

    /// Errors where there is no place for so many texts.
    pub fn expect(&self, count: usize) -> Result<(), Problem> {
        let fits = self.metrics.taken().saturating_add(count) <= self.limits.places();
        if fits { Ok(()) } else { Err(Problem::queue_is_full()) }
    }

    /// Has texts continued, of which each may become so many tokens. To drop the news is to cancel them.
    pub fn submit(&self, requests: Vec<(Request, usize)>) -> Result<mpsc::UnboundedReceiver<Note>, Problem> {
        let places = self.metrics.places(requests.len(), self.limits.places()).ok_or_else(Problem::queue_is_full)?;
        let (news, receiver) = mpsc::unbounded_channel();
        for (choice, ((request, tokens), place)) in requests.into_iter().zip(places).enumerate() {
            let client = Client { choice, tokens, news: news.clone(), _place: place };
            let sent = self.work.send(Waiting { request, tokens, client });
            sent.map_err(|_| Problem::unavailable("the server cannot compute any more"))?;
        }
        Ok(receiver)
    }

    /// Waits for the end of the thread.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut alive = self.alive.clone();
        async move { while alive.changed().await.is_ok() {} }
    }

    /// True until the thread ends.
    pub fn is_alive(&self) -> bool {
        self.alive.has_changed().is_ok()
    }
}

/// The thread.
struct Thread {
    batch: Batch,
    requests: blocking::Receiver<Waiting>,
    waiting: VecDeque<Waiting>,
    running: HashMap<Id, Client>,
    recent: Recent,
    limits: Limits,
    metrics: Arc<Metrics>,
}

impl Thread {
    /// Computes until nobody can ask any more and all is answered.
    fn run(mut self) {
        loop {
            if self.running.is_empty() && self.waiting.is_empty() {
                self.count();
                match self.requests.recv() {
                    Ok(waiting) => self.waiting.push_back(waiting),
                    Err(_) => return,
                }
            }
            self.waiting.extend(self.requests.try_iter());
            self.forget();
            self.admit();
            self.count();
            match self.batch.step() {
                Ok(events) => {
                    let told: Vec<_> = events.into_iter().filter_map(|event| self.told(event)).collect();
                    // Who hears of an end finds its place free.
                    self.count();
                    for (news, note) in told {
                        // A client that is gone is dropped before the next step.
                        let _ = news.send(note);
                    }
                }
                Err(error) => self.fail(&error),
            }
        }
    }

    /// Drops the texts whose clients are gone.
    fn forget(&mut self) {
        let before = self.waiting.len() + self.running.len();
        self.waiting.retain(|waiting| !waiting.client.news.is_closed());
        let (batch, recent) = (&mut self.batch, &mut self.recent);
        self.running.retain(|&id, client| {
            let stays = !client.news.is_closed();
            if !stays && let Some(text) = batch.cancel(id) {
                recent.keep(text);
            }
            stays
        });
        let gone = before - self.waiting.len() - self.running.len();
        self.metrics.cancelled.fetch_add(gone as u64, Relaxed);
    }

    /// Takes texts into the batch in their order, as far as there is place.
    fn admit(&mut self) {
        let mut tokens: usize = self.running.values().map(|client| client.tokens).sum();
        while self.running.len() < self.limits.sequences.max(1) {
            let fits = |next: &Waiting| tokens + next.tokens <= self.limits.cached_tokens;
            // One that runs alone fits: that was checked before.
            if !self.waiting.front().is_some_and(|next| fits(next) || self.running.is_empty()) {
                return;
            }
            let Some(Waiting { mut request, client, tokens: more }) = self.waiting.pop_front() else { return };
            // All logits of a prompt are made where its probabilities are asked for.
            if request.prompt_logprobs.is_none() {
                request.seen = self.recent.begin(&request.prompt);
            }
            // At least the last token of a prompt is computed.
            let seen = request.seen.as_ref().map_or(0, |text| text.common(&request.prompt));
            let reused = seen.min(request.prompt.len().saturating_sub(1));
            match self.batch.add(request) {
                Ok(id) => {
                    self.metrics.reused_tokens.fetch_add(reused as u64, Relaxed);
                    tokens += more;
                    self.running.insert(id, client);
                }
                Err(error) => client.end(End::Failed(refused(&error))),
            }
        }
    }

    /// News for a client.
    fn told(&mut self, event: Event) -> Option<(mpsc::UnboundedSender<Note>, Note)> {
        let Event { id, prompt, token, text, finished } = event;
        self.metrics.new_tokens.fetch_add(u64::from(token.is_some()), Relaxed);
        let end = finished.map(|finished| {
            self.metrics.finished(&finished.timing);
            self.recent.keep(finished.sequence);
            match finished.reason {
                Finish::End | Finish::Stop => End::Stop,
                Finish::Length => End::Length,
                Finish::Failed(error) => End::Failed(refused(&error)),
            }
        });
        let is_over = end.is_some();
        let client = self.running.get(&id)?;
        let told = (client.news.clone(), Note { choice: client.choice, prompt, token, text, end });
        if is_over {
            self.running.remove(&id);
        }
        Some(told)
    }

    /// Ends all texts at work, which the model has failed.
    fn fail(&mut self, error: &Error) {
        for (id, client) in self.running.drain() {
            drop(self.batch.cancel(id));
            client.end(End::Failed(Problem::internal(spelled(error))));
        }
    }

    fn count(&self) {
        self.metrics.waiting.store(self.waiting.len(), Relaxed);
        self.metrics.running.store(self.running.len(), Relaxed);
        self.metrics.cache_bytes.store(self.batch.cache_bytes() + self.recent.bytes(), Relaxed);
    }
}

impl Client {
    fn end(self, end: End) {
        let Self { choice, news, .. } = self;
        let note = Note { choice, prompt: Vec::new(), token: None, text: String::new(), end: Some(end) };
        let _ = news.send(note);
    }
}

/// An error in the words of the protocol.
pub fn spelled(error: &Error) -> String {
    error.message().spelled(|option| match option {
        "max-new-tokens" => "max_tokens".into(),
        other => other.replace('-', "_"),
    })
}

/// An error about a request.
pub fn refused(error: &Error) -> Problem {
    match error {
        Error::Setting { name, .. } => Problem::field(&name.replace('-', "_"), spelled(error)),
        Error::Prompt { .. } | Error::Context { .. } => Problem::context("prompt", spelled(error)),
        Error::Empty | Error::NoToken { .. } => Problem::bad(spelled(error)),
        other => Problem::internal(spelled(other)),
    }
}
