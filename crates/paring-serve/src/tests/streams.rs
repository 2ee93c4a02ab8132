//! Answers in pieces.

use serde_json::{Value, json};

use super::{Running, question};

/// The same request twice: its events, and its answer as a whole.
fn both(server: &Running, path: &str, mut body: Value) -> (Vec<Value>, Value) {
    let whole = server.client.ok(path, &body);
    body["stream"] = json!(true);
    let answer = server.client.post(path, &body);
    assert_eq!(answer.status, 200);
    (answer.events(), whole)
}

/// Lists of the pieces put together.
fn joined(pieces: &[&Value]) -> Value {
    let mut all = pieces[0].clone();
    for piece in &pieces[1..] {
        for (key, list) in piece.as_object().unwrap() {
            if let Some(list) = list.as_array() {
                all[key].as_array_mut().unwrap().extend(list.clone());
            }
        }
    }
    all
}

#[test]
fn pieces_of_a_text_are_the_text() {
    let server = Running::new();
    let text = server.complete(json!({"prompt": "visae", "seed": 1, "max_tokens": 40}));
    let text = text["choices"][0]["text"].as_str().unwrap().to_string();
    let stop = text.split_whitespace().nth(6).unwrap();
    for more in [json!({}), json!({"logprobs": 2}), json!({"echo": true, "logprobs": 1}), json!({"stop": stop})] {
        let mut body = json!({"prompt": "visae", "seed": 1, "max_tokens": 40, "n": 2});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (events, whole) = both(&server, "/v1/completions", body);
        assert!(events.len() > 8 && events.iter().all(|event| event["id"] == events[0]["id"]));
        assert!(events.iter().all(|event| event["object"] == "text_completion" && event.get("usage").is_none()));
        for index in 0..2 {
            let pieces: Vec<&Value> =
                events.iter().map(|event| &event["choices"][0]).filter(|choice| choice["index"] == index).collect();
            let text: String = pieces.iter().map(|piece| piece["text"].as_str().unwrap()).collect();
            let choice = &whole["choices"][index];
            assert_eq!(text, choice["text"], "{more}");
            let (last, before) = pieces.split_last().unwrap();
            assert_eq!(last["finish_reason"], choice["finish_reason"]);
            assert!(before.iter().all(|piece| piece["finish_reason"].is_null()));
            let logs: Vec<&Value> = pieces.iter().map(|piece| &piece["logprobs"]).collect();
            match choice["logprobs"].is_null() {
                true => assert!(logs.iter().all(|logs| logs.is_null())),
                false => assert_eq!(joined(&logs), choice["logprobs"]),
            }
        }
    }
}

#[test]
fn pieces_of_a_chat_are_its_answer() {
    let server = Running::new();
    let body = json!({"messages": question(), "seed": 5, "max_tokens": 20, "logprobs": true, "top_logprobs": 3});
    let (events, whole) = both(&server, "/v1/chat/completions", body);
    assert!(events.iter().all(|event| event["object"] == "chat.completion.chunk"));
    let choices: Vec<&Value> = events.iter().map(|event| &event["choices"][0]).collect();
    assert_eq!(choices[0]["delta"], json!({"role": "assistant", "content": ""}));
    let (last, pieces) = choices[1..].split_last().unwrap();
    assert_eq!((&last["delta"], &last["finish_reason"]), (&json!({}), &json!("length")));
    let text: String = pieces.iter().map(|piece| piece["delta"]["content"].as_str().unwrap()).collect();
    assert_eq!(text, whole["choices"][0]["message"]["content"]);
    let logs: Vec<&Value> = pieces.iter().map(|piece| &piece["logprobs"]).collect();
    assert_eq!(joined(&logs), whole["choices"][0]["logprobs"]);
    let first = &whole["choices"][0]["logprobs"]["content"][0];
    assert_eq!(first["bytes"], json!(first["token"].as_str().unwrap().as_bytes()));
    let top: Vec<f64> =
        first["top_logprobs"].as_array().unwrap().iter().map(|one| one["logprob"].as_f64().unwrap()).collect();
    assert!(top.len() == 3 && top.is_sorted_by(|a, b| a >= b), "{top:?}");
}

#[test]
fn a_stream_ends_with_its_usage_where_it_should() {
    let server = Running::new();
    let options = json!({"include_usage": true});
    let body = json!({"prompt": ["visae", "gourt"], "max_tokens": 7, "stream": true, "stream_options": options});
    let events = server.client.post("/v1/completions", &body).events();
    let (last, before) = events.split_last().unwrap();
    assert_eq!((&last["choices"], &last["usage"]["completion_tokens"]), (&json!([]), &json!(14)));
    assert!(before.iter().all(|event| event.get("usage") == Some(&Value::Null)));
}
