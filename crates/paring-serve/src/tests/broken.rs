//! Requests that make no sense: each gets an error, and the server stays as it was.

use serde_json::{Value, json};

use super::{Running, question};

const COMPLETIONS: &str = "/v1/completions";
const CHAT: &str = "/v1/chat/completions";

/// Bodies of completions that are objects with a field that is wrong.
fn completions() -> Vec<Value> {
    vec![
        json!({}),
        json!({"prompt": null}),
        json!({"prompt": 5}),
        json!({"prompt": {}}),
        json!({"prompt": true}),
        json!({"prompt": ""}),
        json!({"prompt": []}),
        json!({"prompt": [[]]}),
        json!({"prompt": [""]}),
        json!({"prompt": ["a", 1]}),
        json!({"prompt": [1, "a"]}),
        json!({"prompt": [1.5]}),
        json!({"prompt": [-1]}),
        json!({"prompt": [640]}),
        json!({"prompt": [4294967296u64]}),
        json!({"prompt": [[1], 2]}),
        json!({"prompt": [[[1]]]}),
        json!({"prompt": [null]}),
        json!({"prompt": vec!["a"; 129]}),
        json!({"prompt": "a", "max_tokens": -1}),
        json!({"prompt": "a", "max_tokens": 1.5}),
        json!({"prompt": "a", "max_tokens": "10"}),
        json!({"prompt": "a", "max_tokens": 1e30}),
        json!({"prompt": "a", "n": 0}),
        json!({"prompt": "a", "n": 129}),
        json!({"prompt": ["a", "b"], "n": 65}),
        json!({"prompt": "a", "n": [1]}),
        json!({"prompt": "a", "best_of": 3}),
        json!({"prompt": "a", "temperature": -0.1}),
        json!({"prompt": "a", "temperature": 1e39}),
        json!({"prompt": "a", "temperature": "hot"}),
        json!({"prompt": "a", "top_p": 0}),
        json!({"prompt": "a", "top_p": 1.1}),
        json!({"prompt": "a", "top_k": -2}),
        json!({"prompt": "a", "top_k": 0.5}),
        json!({"prompt": "a", "min_p": 2}),
        json!({"prompt": "a", "repetition_penalty": 0}),
        json!({"prompt": "a", "presence_penalty": 2.1}),
        json!({"prompt": "a", "frequency_penalty": -3}),
        json!({"prompt": "a", "logit_bias": [1]}),
        json!({"prompt": "a", "logit_bias": {"x": 1}}),
        json!({"prompt": "a", "logit_bias": {"640": 1}}),
        json!({"prompt": "a", "logit_bias": {"-1": 1}}),
        json!({"prompt": "a", "logit_bias": {"1": 101}}),
        json!({"prompt": "a", "logit_bias": {"1": null}}),
        json!({"prompt": "a", "logprobs": 6}),
        json!({"prompt": "a", "logprobs": true}),
        json!({"prompt": "a", "echo": "yes"}),
        json!({"prompt": "a", "stop": ""}),
        json!({"prompt": "a", "stop": [""]}),
        json!({"prompt": "a", "stop": ["a", "b", "c", "d", "e"]}),
        json!({"prompt": "a", "stop": [1]}),
        json!({"prompt": "a", "stop": {}}),
        json!({"prompt": "a", "seed": "one"}),
        json!({"prompt": "a", "seed": 1.5}),
        json!({"prompt": "a", "stream": 1}),
        json!({"prompt": "a", "stream_options": true}),
        json!({"prompt": "a", "stream_options": {"include_usage": 1}}),
        json!({"prompt": "a", "suffix": "b"}),
        json!({"prompt": "a", "max_completion_tokens": -1}),
        json!({"prompt": "a", "min_tokens": 17}),
        json!({"prompt": "a", "max_tokens": 3, "min_tokens": 4}),
        json!({"prompt": "a", "top_logprobs": 2}),
        json!({"prompt": "a", "tools": [{"type": "function"}]}),
        json!({"prompt": "a", "response_format": {"type": "json_object"}}),
        json!({"prompt": "a", "model": 5}),
        json!({"prompt": "a", "ignore_eos": 1}),
    ]
}

/// Bodies of chats that are objects with a field that is wrong.
fn chats() -> Vec<Value> {
    let of = |message: Value| json!({"messages": [message]});
    vec![
        json!({}),
        json!({"messages": []}),
        json!({"messages": "hello"}),
        json!({"messages": {"role": "user"}}),
        json!({"messages": ["hello"]}),
        json!({"messages": [[]]}),
        of(json!({})),
        of(json!({"role": "user"})),
        of(json!({"content": "a"})),
        of(json!({"role": "pirate", "content": "a"})),
        of(json!({"role": 5, "content": "a"})),
        of(json!({"role": "user", "content": null})),
        of(json!({"role": "user", "content": 5})),
        of(json!({"role": "user", "content": {"text": "a"}})),
        of(json!({"role": "user", "content": ["a"]})),
        of(json!({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a"}}]})),
        of(json!({"role": "user", "content": [{"type": "text"}]})),
        // The template refuses it.
        of(json!({"role": "user", "content": "gourt"})),
        json!({"messages": question(), "max_tokens": -5}),
        json!({"messages": question(), "max_completion_tokens": "x"}),
        json!({"messages": question(), "logprobs": 5}),
        json!({"messages": question(), "top_logprobs": 5}),
        json!({"messages": question(), "logprobs": true, "top_logprobs": 21}),
        json!({"messages": question(), "tools": [{"type": "function"}]}),
        json!({"messages": question(), "functions": [{"name": "f"}]}),
        json!({"messages": question(), "response_format": {"type": "json_object"}}),
        json!({"messages": question(), "echo": true}),
        json!({"messages": question(), "suffix": "b"}),
        json!({"messages": question(), "best_of": 2}),
    ]
}

#[test]
fn wrong_fields_are_named() {
    let server = Running::new();
    for (path, bodies) in [(COMPLETIONS, completions()), (CHAT, chats())] {
        for body in bodies {
            let answer = server.client.post(path, &body);
            assert_eq!(answer.status, 400, "{body}: {answer:?}");
            let error = &answer.json()["error"];
            assert_eq!(error["type"], "invalid_request_error");
            let field = error["param"].as_str().map(|param| param.split(['[', '.']).next().unwrap().to_string());
            let is_of_template = body["messages"][0]["content"] == "gourt";
            assert!(is_of_template || answer.error().contains(&field.unwrap()), "{body}: {answer:?}");
        }
    }
    let answer = server.client.post(COMPLETIONS, &json!({"prompt": "a", "model": "other"}));
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (404, &json!("model_not_found")));
    server.complete(json!({"prompt": "visae", "max_tokens": 1, "unknown": {"field": 1}, "stop": null, "user": "me"}));
    assert_eq!(server.metrics.taken(), 0);
}

#[test]
fn bodies_that_are_no_json_are_refused() {
    let server = Running::new();
    let deep = format!("{{\"prompt\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let bodies: [&[u8]; 14] = [
        b"",
        b"{",
        b"hello",
        b"[]",
        b"5",
        b"null",
        b"\"text\"",
        b"{\"prompt\": \"a\"} more",
        b"{\"prompt\": NaN}",
        b"{\"prompt\": \"a\", \"temperature\": Infinity}",
        b"{\"prompt\": \"a\", \"temperature\": 1e999}",
        b"{\"prompt\": \"\xff\xfe\"}",
        b"{\"prompt\": \"\\ud800\"}",
        deep.as_bytes(),
    ];
    for body in bodies {
        for path in [COMPLETIONS, CHAT] {
            let answer = server.client.raw(&server.client.request("POST", path, body));
            assert_eq!(answer.status, 400, "{:?}", String::from_utf8_lossy(&body[..body.len().min(50)]));
            assert!(!answer.error().is_empty());
        }
    }
}

#[test]
fn paths_methods_and_types_that_are_not_there_are_refused() {
    let server = Running::new();
    let status = |method: &str, path: &str| {
        let answer = server.client.raw(&server.client.request(method, path, b"{}"));
        assert!(!answer.error().is_empty());
        (answer.status, answer.head)
    };
    for (method, path) in
        [("GET", "/"), ("GET", "/v1"), ("POST", "/v1/embeddings"), ("GET", "/v1/completions/"), ("PUT", "//")]
    {
        assert_eq!(status(method, path).0, 404, "{method} {path}");
    }
    for (method, path, allowed) in [
        ("GET", COMPLETIONS, "post"),
        ("DELETE", CHAT, "post"),
        ("OPTIONS", CHAT, "post"),
        ("POST", "/health", "get,head"),
        ("PUT", "/v1/models", "get,head"),
        ("BREW", "/v1/models/x", "get,head"),
    ] {
        let (status, head) = status(method, path);
        assert_eq!(status, 405, "{method} {path}");
        assert!(head.contains(&format!("allow: {allowed}\r\n")), "{head}");
    }
    assert_eq!(status("GET", "/v1/models/%ff").0, 400);
    for kind in ["", "Content-Type: text/plain\r\n", "Content-Type: application/x-www-form-urlencoded\r\n"] {
        let head = format!(
            "POST {COMPLETIONS} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{kind}Content-Length: 2\r\n\r\n{{}}"
        );
        let answer = server.client.raw(head.as_bytes());
        assert_eq!(answer.status, 415);
        assert!(answer.error().contains("application/json"));
    }
    let with_charset = "Content-Type: Application/JSON; charset=utf-8\r\nContent-Length: 2\r\n\r\n{}";
    let head = format!("POST {COMPLETIONS} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{with_charset}");
    assert_eq!(server.client.raw(head.as_bytes()).status, 400);
    assert_eq!(server.client.get("/health").status, 200);
}

#[test]
fn what_is_no_http_is_refused() {
    let server = Running::new();
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(100_000));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(200));
    let body = format!("POST {COMPLETIONS} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n");
    let chunked = format!("{body}Transfer-Encoding: chunked\r\n\r\nzz\r\n{{}}\r\n");
    let negative = format!("{body}Content-Length: -5\r\n\r\n{{}}");
    let twice = format!("{body}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{{}}");
    for bytes in [
        "\0\0\0\0\r\n\r\n",
        "hello\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET\r\n\r\n",
        &long,
        &many,
        &chunked,
        &negative,
        &twice,
    ] {
        let answer = server.client.raw(bytes.as_bytes());
        assert!((400..500).contains(&answer.status), "{:?}: {answer:?}", &bytes[..bytes.len().min(60)]);
    }
    assert_eq!(server.client.get("/health").status, 200);
}
