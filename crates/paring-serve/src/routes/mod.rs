//! Paths → answers.

mod body;
mod collected;
mod generation;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State as Extract};
use axum::http::{StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use subtle::ConstantTimeEq;

use crate::problem::{Problem, json as answer, typed};
use crate::protocol::Kind;
use crate::state::State;

const HEALTH: &str = "/health";
const METRICS: &str = "/metrics";
const MODELS: &str = "/v1/models";
const COMPLETIONS: &str = "/v1/completions";
const CHAT: &str = "/v1/chat/completions";
/// Media type of the text format of Prometheus.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All paths of a server.
pub fn router(state: &Arc<State>) -> Router {
    let generation = |kind| {
        post(move |Extract(state): Extract<Arc<State>>, request: Request| generation::answer(state, kind, request))
    };
    Router::new()
        .route(HEALTH, get(health))
        .route(METRICS, get(metrics))
        .route(MODELS, get(models))
        .route("/v1/models/{*id}", get(model))
        .route(COMPLETIONS, generation(Kind::Completion))
        .route(CHAT, generation(Kind::Chat))
        .fallback(nothing)
        .method_not_allowed_fallback(no_method)
        .layer(middleware::from_fn_with_state(state.clone(), counted))
        .with_state(state.clone())
}

/// The paths of a server that has no place for another connection.
pub fn full(state: &Arc<State>) -> Router {
    Router::new()
        .fallback(async || Problem::unavailable("too many connections are open; try again later"))
        .layer(middleware::from_fn_with_state(state.clone(), counted))
        .with_state(state.clone())
}

/// The path as counts know it.
fn route(path: &str) -> &'static str {
    match path {
        HEALTH => HEALTH,
        METRICS => METRICS,
        MODELS => MODELS,
        COMPLETIONS => COMPLETIONS,
        CHAT => CHAT,
        path if path.starts_with("/v1/models/") => "/v1/models/{id}",
        _ => "other",
    }
}

/// Answers those who know the key, and counts all.
async fn counted(Extract(state): Extract<Arc<State>>, request: Request, next: Next) -> Response {
    let route = route(request.uri().path());
    let response = match is_allowed(&state, route, &request) {
        true => next.run(request).await,
        false => Problem::unauthorized().into_response(),
    };
    state.metrics.answered(route, response.status().as_u16());
    response
}

/// True without a key, with the right one, and for those who only ask if the server is up.
fn is_allowed(state: &State, route: &str, request: &Request) -> bool {
    let Some(key) = state.key.as_ref().filter(|_| route != HEALTH) else { return true };
    let given = request.headers().get(header::AUTHORIZATION).map(|value| value.as_bytes()).unwrap_or_default();
    let Some((scheme, given)) = given.split_at_checked(7) else { return false };
    scheme.eq_ignore_ascii_case(b"bearer ") && bool::from(given.ct_eq(key.as_bytes()))
}

async fn health(Extract(state): Extract<Arc<State>>) -> Response {
    let (is_stopping, is_alive) = (*state.stopping.borrow(), state.scheduler.is_alive());
    match (is_stopping, is_alive) {
        (false, true) => answer(StatusCode::OK, &json!({"status": "ok"})),
        (true, _) => Problem::unavailable("the server is stopping").into_response(),
        (_, false) => Problem::unavailable("the server cannot compute any more").into_response(),
    }
}

async fn metrics(Extract(state): Extract<Arc<State>>) -> Response {
    typed(StatusCode::OK, PROMETHEUS, state.metrics.text().into())
}

/// The model as lists have it.
fn entry(state: &State) -> Value {
    json!({
        "id": state.name, "object": "model", "created": state.created, "owned_by": "paring",
        "max_model_len": state.context,
    })
}

async fn models(Extract(state): Extract<Arc<State>>) -> Response {
    answer(StatusCode::OK, &json!({"object": "list", "data": [entry(&state)]}))
}

async fn model(
    Extract(state): Extract<Arc<State>>,
    id: Result<axum::extract::Path<String>, axum::extract::rejection::PathRejection>,
) -> Response {
    match id {
        Ok(axum::extract::Path(id)) if id == state.name => answer(StatusCode::OK, &entry(&state)),
        Ok(axum::extract::Path(id)) => Problem::no_model(&id, &state.name).into_response(),
        Err(rejection) => Problem::bad(format!("the path cannot be read: {rejection}")).into_response(),
    }
}

async fn nothing(uri: Uri) -> Problem {
    Problem::no_route(uri.path())
}

async fn no_method(uri: Uri) -> Problem {
    Problem::no_method(if [COMPLETIONS, CHAT].contains(&uri.path()) { "POST" } else { "GET,HEAD" })
}
