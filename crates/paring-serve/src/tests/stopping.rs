//! Clients that go away, and servers that do.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use super::Running;
use super::client::Answer;
use crate::Limits;

/// A request that takes long: many texts, one after the other.
fn long(stream: bool) -> Value {
    json!({"prompt": "visae", "max_tokens": 250, "n": 128, "stream": stream})
}

#[test]
fn clients_that_leave_free_their_places() {
    let server = Running::start(Limits { sequences: 1, ..Limits::default() }, None);
    for stream in [false, true] {
        let mut client = server.client.connect();
        let request = server.client.request("POST", "/v1/completions", long(stream).to_string().as_bytes());
        client.write_all(&request).unwrap();
        while server.metrics.taken() < 128 {
            std::thread::yield_now();
        }
        if stream {
            client.read_exact(&mut [0; 400]).unwrap();
        }
        drop(client);
        while server.metrics.taken() > 0 {
            std::thread::yield_now();
        }
        assert_eq!(server.complete(json!({"prompt": "visae", "max_tokens": 3}))["usage"]["completion_tokens"], 3);
    }
    let page = server.client.get("/metrics").body;
    let cancelled = page.lines().find_map(|line| line.strip_prefix("paring_cancelled_total ")).unwrap();
    assert!(cancelled.parse::<u32>().unwrap() > 100, "{page}");
}

#[test]
fn a_server_that_stops_finishes_what_it_has_begun() {
    let mut server = Running::new();
    let streamed = json!({"prompt": "visae", "max_tokens": 200, "stream": true, "seed": 1});
    let mut open = server.client.connect();
    open.write_all(&server.client.request("POST", "/v1/completions", streamed.to_string().as_bytes())).unwrap();
    let mut begin = [0; 100];
    open.read_exact(&mut begin).unwrap();
    // One that only waits for another request.
    let mut idle = server.client.connect();
    idle.write_all(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    idle.read_exact(&mut [0; 12]).unwrap();
    server.stopper.stop();
    let mut bytes = begin.to_vec();
    open.read_to_end(&mut bytes).unwrap();
    let events = Answer::of(&bytes).events();
    assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], "length");
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).unwrap();
    server.thread.take().unwrap().join().unwrap().unwrap();
    assert!(TcpStream::connect(server.client.address).is_err());
    assert_eq!(server.metrics.taken(), 0);
}
