//! Texts that are continued, and conversations that are answered: as a whole or in a stream.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use paring_data::Tokenizer;
use paring_generate::settings::Length;
use serde_json::Value;
use tokio::sync::mpsc::UnboundedReceiver;

use super::body;
use super::collected::Text;
use crate::events::{Events, Gone};
use crate::problem::{Problem, json};
use crate::protocol::{self, Ask, Kind, Prompt, Shape, usage};
use crate::scheduler::{Note, refused};
use crate::state::{State, now};

/// New tokens of a text where the request does not say how many.
const NEW_TOKENS: usize = 16;

/// A prompt as the model sees it.
struct Tokens {
    ids: Vec<u32>,
    /// Its text, where that is part of the answer.
    text: String,
}

/// An answer at work.
struct Work {
    state: Arc<State>,
    shape: Shape,
    with_usage: bool,
    prompt_tokens: usize,
    texts: Vec<Text>,
    notes: UnboundedReceiver<Note>,
}

/// The end of a stream before its last event.
enum Broken {
    Gone,
    Failed(Problem),
}

impl From<Gone> for Broken {
    fn from(_: Gone) -> Self {
        Broken::Gone
    }
}

impl From<Problem> for Broken {
    fn from(problem: Problem) -> Self {
        Broken::Failed(problem)
    }
}

/// Answers a request.
pub async fn answer(state: Arc<State>, kind: Kind, request: Request) -> Response {
    answered(state, kind, request).await.unwrap_or_else(Problem::into_response)
}

async fn answered(state: Arc<State>, kind: Kind, request: Request) -> Result<Response, Problem> {
    let body = body::read(request, &state.limits).await?;
    state.scheduler.expect(1)?;
    let here = state.clone();
    let (ask, prompts) = state.words.run(move |tokenizer| prepared(&here, kind, &body, tokenizer)).await?;
    let requests = requests(&state, &ask, &prompts)?;
    let notes = state.scheduler.submit(requests)?;
    let prompt_tokens = prompts.iter().map(|prompt| prompt.ids.len()).sum();
    let text = |prompt: &Tokens| {
        let first = prompt.ids.first().copied().filter(|_| ask.echo);
        Text::new(kind, ask.logprobs.is_some(), prompt.text.clone(), first)
    };
    let texts = prompts.iter().flat_map(|prompt| (0..ask.n).map(move |_| text(prompt))).collect();
    let prefix = if kind == Kind::Chat { "chatcmpl" } else { "cmpl" };
    let id = format!("{prefix}-{:016x}{:016x}", drawn(), drawn());
    let shape = Shape { kind, id, created: now(), model: state.name.clone() };
    let work = Work { state, shape, with_usage: ask.with_usage, prompt_tokens, texts, notes };
    if !ask.stream {
        return work.whole().await;
    }
    let (events, response) = Events::new();
    tokio::spawn(work.stream(events));
    Ok(response)
}

/// A number that nobody can guess.
fn drawn() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Reads the body of a request, and makes tokens of its prompts.
fn prepared(state: &State, kind: Kind, body: &[u8], tokenizer: &Tokenizer) -> Result<(Ask, Vec<Tokens>), Problem> {
    let mut ask = protocol::parse(kind, body, state.limits.choices.min(state.limits.places()))?;
    if let Some(model) = ask.model.as_ref().filter(|model| **model != state.name) {
        return Err(Problem::no_model(model, &state.name));
    }
    if let Some((id, _)) = ask.settings.logit_bias.iter().find(|(id, _)| *id as usize >= state.vocab) {
        return Err(Problem::field("logit_bias", format!("there is no token {id}: the model has {}", state.vocab)));
    }
    let prompts = std::mem::take(&mut ask.prompts);
    let prompts = prompts.into_iter().map(|prompt| tokens(state, prompt, ask.echo, tokenizer));
    let prompts = prompts.collect::<Result<_, _>>()?;
    Ok((ask, prompts))
}

fn tokens(state: &State, prompt: Prompt, echo: bool, tokenizer: &Tokenizer) -> Result<Tokens, Problem> {
    let failed = |error: paring_data::Error| match &error {
        paring_data::Error::Data { .. } => Problem::bad(error.to_string()),
        _ => Problem::internal(error.to_string()),
    };
    match prompt {
        Prompt::Text(text) => {
            let ids = tokenizer.tokens(&text).map_err(failed)?;
            Ok(Tokens { ids, text: if echo { text } else { String::new() } })
        }
        Prompt::Ids(ids) => {
            if let Some(id) = ids.iter().find(|&&id| id as usize >= state.vocab) {
                return Err(Problem::field("prompt", format!("there is no token {id}: the model has {}", state.vocab)));
            }
            let text = if echo { tokenizer.decode(&ids, true).map_err(failed)? } else { String::new() };
            Ok(Tokens { ids, text })
        }
        Prompt::Messages(messages) => {
            let (_, ids) = tokenizer.prompt(&messages).map_err(failed)?;
            Ok(Tokens { ids, text: String::new() })
        }
    }
}

/// The texts that a request asks for, each with the number of tokens that it may become.
fn requests(state: &State, ask: &Ask, prompts: &[Tokens]) -> Result<Vec<(paring_generate::Request, usize)>, Problem> {
    let name = if ask.kind == Kind::Chat { "messages" } else { "prompt" };
    let context = state.context.min(state.limits.cached_tokens);
    let limit = state.limits.new_tokens.unwrap_or(usize::MAX);
    if let Some(most) = ask.most.filter(|&most| most > limit) {
        return Err(Problem::field(ask.most_name, format!("{most} is more than this server allows, {limit}")));
    }
    let usual = if ask.kind == Kind::Chat { usize::MAX } else { NEW_TOKENS };
    let most = ask.most.unwrap_or(usual).min(limit);
    if ask.settings.min_new_tokens > most {
        let message = format!("{} is more than the {most} new tokens of an answer", ask.settings.min_new_tokens);
        return Err(Problem::field("min_tokens", message));
    }
    let eos = if ask.ignores_eos { Vec::new() } else { state.eos.clone() };
    let seed = ask.seed.unwrap_or_else(drawn);
    let mut all = Vec::with_capacity(prompts.len() * ask.n);
    for prompt in prompts {
        let len = prompt.ids.len();
        if len == 0 {
            return Err(Problem::field(name, "has no token"));
        }
        if len > context || (len == context && most > 0) {
            let message = format!(
                "the longest text that this server can take has {context} tokens, the answer included, and the prompt \
                has {len}"
            );
            return Err(Problem::context(name, message));
        }
        let most = most.min(context - len);
        let length = Length::Exactly(most);
        let settings = paring_generate::Settings { length, eos: eos.clone(), seed, ..ask.settings.clone() };
        settings.check().map_err(|error| refused(&error))?;
        for stream in 0..ask.n {
            let request = paring_generate::Request {
                stream: stream as u64,
                logprobs: ask.logprobs,
                prompt_logprobs: ask.logprobs.filter(|_| ask.echo),
                ..paring_generate::Request::new(prompt.ids.clone(), settings.clone())
            };
            all.push((request, len + most));
        }
    }
    Ok(all)
}

impl Work {
    /// The next news, of the text with this number; `None` after the last.
    async fn next(&mut self) -> Result<Option<(usize, bool)>, Problem> {
        if self.texts.iter().all(|text| text.reason.is_some()) {
            return Ok(None);
        }
        let note = self.notes.recv().await.ok_or_else(|| Problem::internal("the computation has ended early"))?;
        let at = note.choice;
        let text = self.texts.get_mut(at).ok_or_else(|| Problem::internal("news of a text that is not there"))?;
        Ok(Some((at, text.take(note)?)))
    }

    fn usage(&self) -> Value {
        usage(self.prompt_tokens, self.texts.iter().map(|text| text.tokens).sum())
    }

    /// Answers when all is there.
    async fn whole(mut self) -> Result<Response, Problem> {
        while self.next().await?.is_some() {}
        let mut choices = Vec::with_capacity(self.texts.len());
        for (i, text) in self.texts.iter_mut().enumerate() {
            let logs = text.logs(&self.state.words).await?;
            choices.push(self.shape.choice(i, &text.pending, logs, text.reason.unwrap_or_default()));
        }
        Ok(json(StatusCode::OK, &self.shape.whole(choices, self.usage())))
    }

    /// Sends pieces as they come, until the client is gone.
    async fn stream(mut self, events: Events) {
        let ended = tokio::select! {
            biased;
            () = events.gone() => Err(Broken::Gone),
            ended = self.send_all(&events) => ended,
        };
        if let Err(Broken::Failed(problem)) = &ended
            && events.send(&problem.value()).await.is_err()
        {
            return;
        }
        if !matches!(ended, Err(Broken::Gone)) {
            // One that left before the last event has all of the text.
            let _ = events.end().await;
        }
    }

    async fn send_all(&mut self, events: &Events) -> Result<(), Broken> {
        if self.shape.kind == Kind::Chat {
            for i in 0..self.texts.len() {
                self.send(events, Shape::first(i)).await?;
            }
        }
        while let Some((at, is_more)) = self.next().await? {
            if is_more {
                self.send_news(events, at).await?;
            }
        }
        if self.with_usage {
            events.send(&self.shape.part(Vec::new(), Some(self.usage()))).await?;
        }
        Ok(())
    }

    /// Sends what is new of a text.
    async fn send_news(&mut self, events: &Events, at: usize) -> Result<(), Broken> {
        let text = &mut self.texts[at];
        let reason = text.reason;
        let is_chat = self.shape.kind == Kind::Chat;
        // In a chat the last piece has nothing but the reason.
        let has_own_end = is_chat && reason.is_some();
        let is_due = !text.pending.is_empty() || (has_own_end && text.has_logs());
        if is_due || (reason.is_some() && !is_chat) {
            let logs = text.logs(&self.state.words).await?;
            let piece = std::mem::take(&mut text.pending);
            let choice = self.shape.piece(at, &piece, logs, reason.filter(|_| !is_chat));
            self.send(events, choice).await?;
        }
        if has_own_end {
            let end = self.shape.piece(at, "", Value::Null, reason);
            self.send(events, end).await?;
        }
        Ok(())
    }

    async fn send(&self, events: &Events, choice: Value) -> Result<(), Gone> {
        events.send(&self.shape.part(vec![choice], self.with_usage.then_some(Value::Null))).await
    }
}
