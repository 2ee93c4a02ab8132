//! A client that writes its requests byte by byte.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Time after which an answer is none.
const PATIENCE: Duration = Duration::from_secs(120);

/// A client of a server.
#[derive(Clone)]
pub struct Client {
    pub address: SocketAddr,
    pub key: Option<String>,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    /// An answer from all bytes of a connection.
    pub fn of(bytes: &[u8]) -> Self {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer, but {text:?}"));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
        let head = head.to_ascii_lowercase();
        let body = if head.contains("transfer-encoding: chunked") { unchunked(body) } else { body.to_string() };
        Self { status, head, body }
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The message of an error, which has all its fields.
    pub fn error(&self) -> String {
        let value = self.json();
        let error = value["error"].as_object().unwrap_or_else(|| panic!("no error: {self:?}"));
        assert_eq!(error.keys().collect::<Vec<_>>(), ["message", "type", "param", "code"]);
        assert!(error["type"].is_string() && !error["message"].as_str().unwrap().is_empty());
        error["message"].as_str().unwrap().to_string()
    }

    /// The events of a stream, which ends as streams do.
    pub fn events(&self) -> Vec<Value> {
        assert!(self.head.contains("content-type: text/event-stream"), "{self:?}");
        let events = self.body.strip_suffix("data: [DONE]\n\n").unwrap_or_else(|| panic!("no end: {self:?}"));
        let event = |text: &str| serde_json::from_str(text.strip_prefix("data: ").unwrap()).unwrap();
        events.split_terminator("\n\n").map(event).collect()
    }
}

fn unchunked(mut text: &str) -> String {
    let mut body = String::new();
    loop {
        let (size, rest) = text.split_once("\r\n").unwrap_or_else(|| panic!("cut off after {body:?}"));
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return body;
        }
        body.push_str(&rest[..size]);
        text = &rest[size + 2..];
    }
}

impl Client {
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends bytes as they are.
    pub fn raw(&self, bytes: &[u8]) -> Answer {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        self.rest(stream)
    }

    /// All that comes until the end of a connection.
    pub fn rest(&self, mut stream: TcpStream) -> Answer {
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        Answer::of(&answer)
    }

    /// The bytes of a request with a body of JSON.
    pub fn request(&self, method: &str, path: &str, body: &[u8]) -> Vec<u8> {
        let key = self.key.as_ref().map_or(String::new(), |key| format!("Authorization: Bearer {key}\r\n"));
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{key}Content-Type: application/json\r\n\
            Content-Length: {}\r\n\r\n",
            body.len()
        );
        [head.as_bytes(), body].concat()
    }

    pub fn get(&self, path: &str) -> Answer {
        self.raw(&self.request("GET", path, b""))
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.raw(&self.request("POST", path, body.to_string().as_bytes()))
    }

    /// The answer of a request, which has to have one.
    pub fn ok(&self, path: &str, body: &Value) -> Value {
        let answer = self.post(path, body);
        assert_eq!(answer.status, 200, "{body}: {answer:?}");
        assert!(answer.head.contains("content-type: application/json"), "{answer:?}");
        answer.json()
    }
}
