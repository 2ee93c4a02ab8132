//! Bounds on what clients can take, and keys.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::json;

use super::client::Answer;
use super::{CONTEXT, Running};
use crate::{Access, Error, Limits, Server};

#[test]
fn long_bodies_and_texts_are_refused() {
    let limits = Limits { body: 5000, new_tokens: Some(50), ..Limits::default() };
    let server = Running::start(limits, None);
    for length in [6000, 30_000, 1_000_000] {
        let answer = server.client.post("/v1/completions", &json!({"prompt": "a".repeat(length)}));
        assert_eq!(answer.status, 413, "{length}");
        assert!(answer.error().contains("more than 5000 bytes"));
    }
    let long = vec!["gourt"; CONTEXT].join(" ");
    let answer = server.client.post("/v1/completions", &json!({"prompt": long}));
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (400, &json!("context_length_exceeded")));
    assert_eq!(answer.json()["error"]["param"], "prompt");
    let messages = json!([{"role": "user", "content": long}]);
    let answer = server.client.post("/v1/chat/completions", &json!({"messages": messages}));
    assert_eq!((answer.status, &answer.json()["error"]["param"]), (400, &json!("messages")));
    let answer = server.client.post("/v1/completions", &json!({"prompt": "visae", "max_tokens": 51}));
    assert_eq!((answer.status, answer.error()), (400, "max_tokens: 51 is more than this server allows, 50".into()));
    // Without a number there are as many as are allowed.
    let messages = json!([{"role": "user", "content": "visae"}]);
    assert_eq!(server.chat(json!({"messages": messages}))["usage"]["completion_tokens"], 50);
    // What does not fit the context is cut.
    let ids: Vec<u32> = (0..CONTEXT as u32 - 3).collect();
    let answer = server.complete(json!({"prompt": ids, "max_tokens": 10}));
    assert_eq!(
        (&answer["usage"]["completion_tokens"], &answer["choices"][0]["finish_reason"]),
        (&json!(3), &json!("length"))
    );
    let ids: Vec<u32> = (0..CONTEXT as u32).collect();
    server.complete(json!({"prompt": ids, "max_tokens": 0, "echo": true, "logprobs": 1}));
}

#[test]
fn a_full_queue_is_said_to_be_full() {
    let limits = Limits { sequences: 2, queue: 3, ..Limits::default() };
    let server = Running::start(limits, None);
    let ask = |n: usize| server.client.post("/v1/completions", &json!({"prompt": "visae", "max_tokens": 2, "n": n}));
    assert_eq!(ask(5).status, 200);
    assert_eq!(ask(6).status, 400);
    let held = server.metrics.places(4, 5).unwrap();
    assert_eq!(ask(1).status, 200);
    let full = ask(2);
    assert_eq!((full.status, &full.json()["error"]["type"]), (429, &json!("rate_limit_error")));
    assert!(full.head.contains("retry-after: 1\r\n"), "{full:?}");
    drop(held);
    assert_eq!(ask(2).status, 200);
}

#[test]
fn texts_wait_for_place_in_the_cache() {
    let limits = Limits { cached_tokens: 40, ..Limits::default() };
    let server = Running::start(limits, None);
    let answer = server.complete(json!({"prompt": "visae tesho", "max_tokens": 30, "n": 6, "seed": 1}));
    assert_eq!(answer["usage"]["completion_tokens"], 180);
    // None can become longer than that.
    let answer = server.complete(json!({"prompt": "visae tesho", "max_tokens": 90}));
    assert_eq!(answer["usage"]["total_tokens"], 40);
}

#[test]
fn one_connection_too_many_is_refused() {
    let limits = Limits { connections: 1, ..Limits::default() };
    let server = Running::start(limits, None);
    let mut held = server.client.connect();
    held.write_all(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut begin = [0; 12];
    held.read_exact(&mut begin).unwrap();
    assert_eq!(&begin, b"HTTP/1.1 200");
    let answer = server.client.get("/health");
    assert_eq!(answer.status, 503);
    assert!(answer.error().contains("too many connections") && answer.head.contains("retry-after: 1\r\n"));
    drop(held);
    while server.client.get("/health").status != 200 {
        std::thread::yield_now();
    }
}

/// The end of what a server sends to a client that waits.
fn rest(mut stream: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A server that closes may reset what was not read.
    let _ = stream.read_to_end(&mut bytes);
    bytes
}

#[test]
fn slow_clients_are_not_waited_for() {
    let time = Duration::from_millis(100);
    let limits = Limits { head_time: time, body_time: time, take_time: time, ..Limits::default() };
    let server = Running::start(limits, None);
    for head in ["", "POST", "GET /health HTTP/1.1\r\nHost: a\r\n"] {
        let mut stream = server.client.connect();
        stream.write_all(head.as_bytes()).unwrap();
        let bytes = rest(stream);
        assert!(bytes.is_empty() || bytes.starts_with(b"HTTP/1.1 408"), "{head:?}");
    }
    let mut stream = server.client.connect();
    let request = server.client.request("POST", "/v1/completions", br#"{"prompt": "visae"}"#);
    stream.write_all(&request[..request.len() - 4]).unwrap();
    let answer = Answer::of(&rest(stream));
    assert_eq!(answer.status, 408);
    assert!(answer.error().contains("did not come within"));
    // A connection that is kept for another request which does not come.
    let mut stream = server.client.connect();
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(Answer::of(&rest(stream)).status, 200);
}

#[test]
fn those_without_the_key_get_nothing() {
    let server = Running::start(Limits::default(), Some("a-key"));
    assert_eq!(server.client.get("/v1/models").status, 200);
    let mut stranger = server.client.clone();
    for key in [None, Some("a-kex"), Some("a-key2"), Some("a-ke"), Some("")] {
        stranger.key = key.map(String::from);
        for path in ["/v1/models", "/metrics", "/nothing"] {
            let answer = stranger.get(path);
            assert_eq!(answer.status, 401, "{key:?}");
            assert!(answer.error().contains("API key") && answer.head.contains("www-authenticate: bearer"));
        }
        assert_eq!(stranger.post("/v1/completions", &json!({"prompt": "a"})).status, 401);
        assert_eq!(stranger.get("/health").status, 200);
    }
    let other = b"GET /v1/models HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Basic a-key\r\n\r\n";
    assert_eq!(server.client.raw(other).status, 401);
}

#[test]
fn without_a_key_other_machines_are_not_served() {
    let access = |ip: Ipv4Addr, key: Option<&str>, open| {
        let access = Access { address: SocketAddr::from((ip, 0)), key: key.map(String::from), open };
        Server::bind(access, Limits::default()).map(|_| ())
    };
    let (all, own) = (Ipv4Addr::UNSPECIFIED, Ipv4Addr::LOCALHOST);
    assert!(matches!(access(all, None, false), Err(Error::Open { .. })));
    assert!(
        access(own, None, false).is_ok() && access(all, Some("k"), false).is_ok() && access(all, None, true).is_ok()
    );
    let server = Running::new();
    let taken = Access { address: server.client.address, key: None, open: false };
    let error = Server::bind(taken, Limits::default()).err().unwrap().to_string();
    assert!(error.starts_with("cannot listen on 127.0.0.1:"), "{error}");
}
