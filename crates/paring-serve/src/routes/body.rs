//! Bodies of requests: JSON, no longer than allowed, and in time.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::header;
use tokio::time::timeout;

use crate::limits::Limits;
use crate::problem::Problem;

/// Bytes of a body that is too long which are read all the same, in units of the limit: a client that is still sending
/// would not see the answer.
const DISCARDED: usize = 8;

/// Reads the body of a request.
pub async fn read(request: Request, limits: &Limits) -> Result<Vec<u8>, Problem> {
    let headers = request.headers();
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        return Err(Problem::not_json_type());
    }
    let asks_first = headers.contains_key(header::EXPECT);
    let body = request.into_body();
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limits.body && (asks_first || announced > limits.body.saturating_mul(DISCARDED)) {
        return Err(Problem::too_large(limits.body));
    }
    let patience: Duration = limits.body_time;
    timeout(patience, collected(body, limits.body)).await.map_err(|_| Problem::slow(patience.as_secs()))?
}

async fn collected(mut body: Body, limit: usize) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::new();
    let mut count: usize = 0;
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|error| Problem::bad(format!("the body cannot be read: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        count = count.saturating_add(data.len());
        match count <= limit {
            true => bytes.extend_from_slice(&data),
            false => bytes = Vec::new(),
        }
        if count > limit.saturating_mul(DISCARDED) {
            break;
        }
    }
    if count > limit { Err(Problem::too_large(limit)) } else { Ok(bytes) }
}
