//! Errors as clients get them.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// Seconds after which a client that found no place may ask again.
const AGAIN: (&str, &str) = ("retry-after", "1");
/// The type of most errors.
const INVALID: &str = "invalid_request_error";

/// A request that is not answered, and the reason.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    kind: &'static str,
    message: String,
    param: Option<String>,
    code: Option<&'static str>,
    header: Option<(&'static str, &'static str)>,
    /// True if nothing more is read from the connection.
    closes: bool,
}

impl Problem {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, message: message.into(), param: None, code: None, header: None, closes: false }
    }

    /// A request that makes no sense, or too much of it.
    pub fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, INVALID, message)
    }

    /// A field with a value that makes no sense.
    pub fn field(name: &str, message: impl std::fmt::Display) -> Self {
        Self { param: Some(name.to_string()), ..Self::bad(format!("{name}: {message}")) }
    }

    /// A text that is longer than the context.
    pub fn context(name: &str, message: impl Into<String>) -> Self {
        let (param, code) = (Some(name.to_string()), Some("context_length_exceeded"));
        Self { param, code, ..Self::bad(message) }
    }

    /// A request without the key.
    pub fn unauthorized() -> Self {
        let message = "the request needs the server's API key in its header: Authorization: Bearer KEY";
        let header = Some(("www-authenticate", "Bearer"));
        Self { code: Some("invalid_api_key"), header, ..Self::new(StatusCode::UNAUTHORIZED, INVALID, message) }
    }

    /// A path that is not there.
    pub fn no_route(path: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, INVALID, format!("there is no {path} here"))
    }

    /// A model that is not served.
    pub fn no_model(asked: &str, served: &str) -> Self {
        let message = format!("the model {asked:?} is not served here; this server has {served:?}");
        let param = Some("model".to_string());
        Self { param, code: Some("model_not_found"), ..Self::new(StatusCode::NOT_FOUND, INVALID, message) }
    }

    /// A method that a path does not have.
    pub fn no_method(allowed: &'static str) -> Self {
        let message = format!("this path takes only {allowed}");
        let header = Some(("allow", allowed));
        Self { header, ..Self::new(StatusCode::METHOD_NOT_ALLOWED, INVALID, message) }
    }

    /// A body that is not said to be JSON.
    pub fn not_json_type() -> Self {
        let message = "the body has to be JSON, with the header Content-Type: application/json";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, INVALID, message)
    }

    /// A body that is too long.
    pub fn too_large(limit: usize) -> Self {
        let message = format!("the body has more than {limit} bytes");
        Self { closes: true, ..Self::new(StatusCode::PAYLOAD_TOO_LARGE, INVALID, message) }
    }

    /// A body that does not come.
    pub fn slow(seconds: u64) -> Self {
        let message = format!("the body did not come within {seconds} seconds");
        Self { closes: true, ..Self::new(StatusCode::REQUEST_TIMEOUT, INVALID, message) }
    }

    /// A queue without a place.
    pub fn queue_is_full() -> Self {
        let message = "too many requests wait already; try again later";
        let (code, header) = (Some("queue_full"), Some(AGAIN));
        Self { code, header, ..Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", message) }
    }

    /// A server that cannot answer now.
    pub fn unavailable(message: &str) -> Self {
        let header = Some(AGAIN);
        Self { header, closes: true, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", message) }
    }

    /// An answer that could not be computed.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message)
    }

    /// The body of the answer.
    pub fn value(&self) -> Value {
        json!({"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}})
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = json(self.status, &self.value());
        let headers = response.headers_mut();
        if let Some((name, value)) = self.header {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if self.closes {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// An answer of JSON.
pub fn json(status: StatusCode, value: &Value) -> Response {
    typed(status, "application/json", Body::from(format!("{value}\n")))
}

/// An answer of some type.
pub fn typed(status: StatusCode, kind: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
