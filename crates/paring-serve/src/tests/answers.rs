//! The answers of each path.

use std::sync::atomic::Ordering::Relaxed;
use std::thread;

use serde_json::{Value, json};

use super::{CONTEXT, Running, question, texts};

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn models_are_listed() {
    let server = Running::new();
    let list = server.client.get("/v1/models").json();
    assert_eq!((keys(&list), &list["object"]), (vec!["object", "data"], &json!("list")));
    let model = &list["data"][0];
    assert_eq!(keys(model)[..4], ["id", "object", "created", "owned_by"]);
    assert_eq!(model["id"], "org/demo");
    assert_eq!(&server.client.get("/v1/models/org/demo").json(), model);
    assert_eq!(&server.client.get("/v1/models/org%2Fdemo").json(), model);
    let other = server.client.get("/v1/models/other");
    assert_eq!((other.status, &other.json()["error"]["code"]), (404, &json!("model_not_found")));
    assert_eq!(server.client.get("/health").json(), json!({"status": "ok"}));
}

#[test]
fn texts_are_continued() {
    let server = Running::new();
    let answer = server.complete(json!({"model": "org/demo", "prompt": "visae tesho", "temperature": 0}));
    assert_eq!(keys(&answer), ["id", "object", "created", "model", "choices", "usage"]);
    assert!(answer["id"].as_str().unwrap().starts_with("cmpl-"));
    assert_eq!((&answer["object"], &answer["model"]), (&json!("text_completion"), &json!("org/demo")));
    assert_eq!(keys(&answer["choices"][0]), ["index", "text", "logprobs", "finish_reason"]);
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    let usage = &answer["usage"];
    assert_eq!((&usage["completion_tokens"], &answer["choices"][0]["logprobs"]), (&json!(16), &Value::Null));
    assert_eq!(usage["total_tokens"].as_u64(), usage["prompt_tokens"].as_u64().map(|prompt| prompt + 16));

    // The same prompt in all its forms.
    let text = texts(&answer)[0].to_string();
    assert!(!text.is_empty());
    let ask = |prompt: Value| server.complete(json!({"prompt": prompt, "temperature": 0}));
    let scored = server.complete(json!({"prompt": "visae tesho", "echo": true, "max_tokens": 0, "logprobs": 0}));
    assert_eq!(scored["choices"][0]["logprobs"]["tokens"].as_array().unwrap().len(), 2);
    let both = ask(json!(["visae tesho", "gourt", "visae tesho"]));
    assert_eq!(both["choices"].as_array().unwrap().len(), 3);
    assert_eq!((texts(&both)[0], texts(&both)[2]), (&*text, &*text));
    assert_eq!(both["choices"][2]["index"], 2);
    let of_ids = ask(json!([11, 12, 13]));
    assert_eq!(texts(&ask(json!([[11, 12, 13], [5]])))[0], texts(&of_ids)[0]);
    let echoed = server.complete(json!({"prompt": "visae tesho", "temperature": 0, "echo": true}));
    assert_eq!(texts(&echoed)[0], format!("visae tesho{text}"));
}

#[test]
fn prompts_are_computed_from_where_they_differ_from_earlier_texts() {
    let server = Running::new();
    let reused = || server.metrics.reused_tokens.load(Relaxed);
    let long = ["visae tesho gourt"; 10].join(" ");
    let ask = |prompt: &str, logprobs: Value| json!({"prompt": prompt, "temperature": 0, "max_tokens": 5, "logprobs": logprobs});
    let answer = server.complete(ask(&long, Value::Null));
    let prompt_tokens = answer["usage"]["prompt_tokens"].as_u64().unwrap();
    assert_eq!((reused(), prompt_tokens), (0, 30));
    // The whole prompt again: but for its last token, after which the next one is chosen.
    server.complete(ask(&long, Value::Null));
    assert_eq!(reused(), 29);
    // A continuation of the answer, of which the model has seen all tokens but the last.
    let next = format!("{long}{} visae", texts(&answer)[0]);
    let continued = server.complete(ask(&next, json!(0)));
    assert_eq!(reused(), 29 + 34);
    let alone = Running::new().complete(ask(&next, json!(0)));
    let first = |answer: &Value| answer["choices"][0]["logprobs"]["token_logprobs"][0].as_f64().unwrap();
    // Few rows and many sum in another order, and round to bfloat16 in between.
    assert!((first(&continued) - first(&alone)).abs() < 0.05, "{continued} {alone}");
    // Another beginning, and one whose probabilities are asked for, are computed.
    server.complete(ask("gourt visae tesho", Value::Null));
    server.complete(json!({"prompt": long, "echo": true, "max_tokens": 0, "logprobs": 0}));
    assert_eq!(reused(), 29 + 34);
}

#[test]
fn conversations_are_answered() {
    let server = Running::new();
    let body = json!({"messages": question(), "temperature": 0, "max_completion_tokens": 9, "max_tokens": 2});
    let answer = server.chat(body);
    assert!(answer["id"].as_str().unwrap().starts_with("chatcmpl-") && answer["object"] == "chat.completion");
    let choice = &answer["choices"][0];
    assert_eq!(keys(choice), ["index", "message", "logprobs", "finish_reason"]);
    assert_eq!(keys(&choice["message"]), ["role", "content", "refusal"]);
    assert_eq!((&choice["message"]["role"], &answer["usage"]["completion_tokens"]), (&json!("assistant"), &json!(9)));
    // As the template writes the messages, without tokens of its own around them.
    let text = "pir sesnir ; tin visae tesho ; lilt ";
    let plain = server.complete(json!({"prompt": text, "temperature": 0, "max_tokens": 9}));
    assert_eq!((texts(&plain), &plain["usage"]), (texts(&answer), &answer["usage"]));
    // Parts, and the newer word for instructions.
    let part = |text: &str| json!([{"type": "text", "text": text}]);
    let messages =
        json!([{"role": "developer", "content": part("sesnir")}, {"role": "user", "content": part("visae tesho")}]);
    let same = server.chat(json!({"messages": messages, "temperature": 0, "max_tokens": 9}));
    assert_eq!(texts(&same), texts(&answer));
    // As far as the context goes.
    let whole = server.chat(json!({"messages": question(), "seed": 1}));
    assert_eq!(whole["usage"]["total_tokens"], CONTEXT);
    assert_eq!(whole["choices"][0]["finish_reason"], "length");
}

#[test]
fn texts_end_before_stop_strings() {
    let server = Running::new();
    let ask = |more: Value| {
        let mut body = json!({"prompt": "visae", "temperature": 0, "max_tokens": 30});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.complete(body)
    };
    let all = ask(json!({}));
    let text = texts(&all)[0].to_string();
    // Across tokens: the end of a word and the beginning of the next.
    let words: Vec<&str> = text.split_whitespace().collect();
    let stop = format!("{} {}", &words[3][words[3].len() - 1..], &words[4][..1]);
    let at = text.find(&stop).unwrap();
    for stop in [json!(stop), json!(["never in it", stop])] {
        let cut = ask(json!({"stop": stop}));
        assert_eq!((texts(&cut)[0], &cut["choices"][0]["finish_reason"]), (&text[..at], &json!("stop")));
        assert!(cut["usage"]["completion_tokens"].as_u64() < Some(30));
    }
}

#[test]
fn seeds_choose_and_choices_differ() {
    let server = Running::new();
    let ask = |seed: Value, n: usize| {
        let answer = server.complete(json!({"prompt": ["visae", "gourt"], "seed": seed, "n": n, "max_tokens": 12}));
        texts(&answer).into_iter().map(String::from).collect::<Vec<_>>()
    };
    let four = ask(json!(7), 2);
    assert_eq!((four.len(), &ask(json!(7), 2)), (4, &four));
    assert!(four[0] != four[1] && four[2] != four[3]);
    // More answers do not change the first ones.
    let two = ask(json!(7), 1);
    assert_eq!((&two[0], &two[1]), (&four[0], &four[2]));
    assert_ne!(ask(json!(8), 1), two);
    assert_ne!(ask(json!(-1), 1), ask(Value::Null, 1));
}

#[test]
fn settings_change_texts() {
    let server = Running::new();
    let ask = |more: Value| {
        let mut body = json!({"prompt": "visae", "temperature": 0, "max_tokens": 40, "seed": 3});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        texts(&server.complete(body))[0].to_string()
    };
    let greedy = ask(json!({}));
    assert_eq!(ask(json!({"temperature": 1, "top_k": 1})), greedy);
    assert_eq!(ask(json!({"temperature": 1, "top_p": 1e-6})), greedy);
    assert_eq!(ask(json!({"temperature": 1, "min_p": 1})), greedy);
    for other in [
        json!({"temperature": 1}),
        json!({"frequency_penalty": 2}),
        json!({"presence_penalty": 2}),
        json!({"repetition_penalty": 2.5}),
        json!({"logit_bias": {"7": 100}}),
    ] {
        assert_ne!(ask(other.clone()), greedy, "{other}");
    }
}

#[test]
fn requests_do_not_change_each_other() {
    let server = Running::new();
    let bodies: Vec<Value> = (0..12)
        .map(|i| {
            json!({"prompt": vec!["visae"; 1 + i * 3].join(" "), "temperature": 0.8, "seed": i, "max_tokens": 5 + i * 3})
        })
        .collect();
    let alone: Vec<Value> = bodies.iter().map(|body| server.complete(body.clone())).collect();
    let together: Vec<Value> = thread::scope(|scope| {
        let threads: Vec<_> = bodies.iter().map(|body| scope.spawn(|| server.complete(body.clone()))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for (alone, together) in alone.iter().zip(&together) {
        assert_eq!((&alone["choices"], &alone["usage"]), (&together["choices"], &together["usage"]));
    }
}

#[test]
fn metrics_count() {
    let server = Running::new();
    server.complete(json!({"prompt": "visae", "max_tokens": 5}));
    server.client.get("/nothing");
    let page = server.client.get("/metrics");
    assert!(page.head.contains("content-type: text/plain; version=0.0.4"), "{page:?}");
    for line in [
        "paring_requests_total{route=\"/v1/completions\",status=\"200\"} 1",
        "paring_requests_total{route=\"other\",status=\"404\"} 1",
        "paring_queue_length 0",
        "paring_running_sequences 0",
        "paring_generated_tokens_total 5",
        "paring_finished_total 1",
    ] {
        assert!(page.body.lines().any(|have| have == line), "no {line} in {}", page.body);
    }
}
