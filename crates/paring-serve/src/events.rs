//! Answers that come in pieces: server-sent events.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use hyper::body::Frame;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::problem::typed;

/// Events that wait for a client to take them, before the text waits too.
const AHEAD: usize = 64;
/// The last event.
const DONE: &str = "data: [DONE]\n\n";

/// The end of a stream that events are put into.
pub struct Events(mpsc::Sender<Bytes>);

/// The body of an answer.
struct Stream(mpsc::Receiver<Bytes>);

impl HttpBody for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// A client that went away.
pub struct Gone;

impl Events {
    /// An answer, and the events in it.
    pub fn new() -> (Self, Response) {
        let (sender, receiver) = mpsc::channel(AHEAD);
        let mut response = typed(StatusCode::OK, "text/event-stream", Body::new(Stream(receiver)));
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        (Self(sender), response)
    }

    /// Sends an event.
    pub async fn send(&self, value: &Value) -> Result<(), Gone> {
        self.put(format!("data: {value}\n\n")).await
    }

    /// Ends the stream.
    pub async fn end(self) -> Result<(), Gone> {
        self.put(DONE.into()).await
    }

    /// Waits until the client is gone.
    pub async fn gone(&self) {
        self.0.closed().await;
    }

    async fn put(&self, text: String) -> Result<(), Gone> {
        self.0.send(text.into()).await.map_err(|_| Gone)
    }
}
