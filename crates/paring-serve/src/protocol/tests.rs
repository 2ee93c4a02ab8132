use paring_generate::Scored;
use serde_json::json;

use super::*;

fn parsed(kind: Kind, body: Value) -> Ask {
    parse(kind, body.to_string().as_bytes(), 128).unwrap()
}

#[test]
fn defaults_are_those_of_the_protocol() {
    let ask = parsed(Kind::Completion, json!({"prompt": "a"}));
    assert_eq!((ask.n, ask.most, ask.logprobs, ask.seed, ask.stream, ask.echo), (1, None, None, None, false, false));
    let settings = &ask.settings;
    assert!(settings.do_sample && settings.temperature == 1.0 && settings.top_p == 1.0 && settings.top_k == 0);
    assert!(settings.stop.is_empty() && settings.logit_bias.is_empty() && settings.repetition_penalty == 1.0);
    let cold = parsed(Kind::Completion, json!({"prompt": "a", "temperature": 0, "top_k": -1, "logprobs": 0}));
    assert_eq!((cold.settings.do_sample, cold.settings.top_k, cold.logprobs), (false, 0, Some(0)));
}

#[test]
fn prompts_have_four_forms() {
    let prompts = |value: Value| parsed(Kind::Completion, json!({"prompt": value})).prompts;
    let text = |text: &str| Prompt::Text(text.into());
    assert_eq!(prompts(json!("a")), [text("a")]);
    assert_eq!(prompts(json!(["a", "b"])), [text("a"), text("b")]);
    assert_eq!(prompts(json!([1, 2])), [Prompt::Ids(vec![1, 2])]);
    assert_eq!(prompts(json!([[1, 2], [3]])), [Prompt::Ids(vec![1, 2]), Prompt::Ids(vec![3])]);
}

#[test]
fn messages_become_what_templates_know() {
    let part = |text: &str| json!({"type": "text", "text": text});
    let messages = json!([
        {"content": [part("a"), part("b")], "name": "n", "role": "developer"},
        {"role": "assistant", "content": null, "tool_calls": [{"id": "c"}]},
        {"role": "tool", "content": "x", "tool_call_id": "c"},
    ]);
    let ask = parsed(Kind::Chat, json!({"messages": messages, "max_tokens": 3, "max_completion_tokens": 4}));
    let want = json!([
        {"role": "system", "content": "a\nb", "name": "n"},
        {"role": "assistant", "tool_calls": [{"id": "c"}]},
        {"role": "tool", "content": "x", "tool_call_id": "c"},
    ]);
    assert_eq!(ask.prompts, [Prompt::Messages(want.as_array().unwrap().clone())]);
    assert_eq!((ask.most, ask.most_name), (Some(4), "max_completion_tokens"));
}

#[test]
fn both_kinds_know_both_names_of_the_length() {
    for (body, want) in [
        (json!({"max_tokens": 3}), (Some(3), "max_tokens")),
        (json!({"max_completion_tokens": 4}), (Some(4), "max_completion_tokens")),
    ] {
        for (kind, name, prompt) in [
            (Kind::Completion, "prompt", json!("a")),
            (Kind::Chat, "messages", json!([{"role": "user", "content": "a"}])),
        ] {
            let mut body = body.clone();
            body[name] = prompt;
            let ask = parsed(kind, body);
            assert_eq!((ask.most, ask.most_name), want);
        }
    }
}

#[test]
fn seeds_may_have_any_sign_and_usage_needs_a_stream() {
    let ask = |more: Value| {
        let mut body = json!({"prompt": "a"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        parsed(Kind::Completion, body)
    };
    assert_eq!(ask(json!({"seed": -1})).seed, Some(u64::MAX));
    assert_eq!(ask(json!({"seed": u64::MAX})).seed, Some(u64::MAX));
    let options = json!({"include_usage": true});
    assert!(!ask(json!({"stream_options": options})).with_usage);
    assert!(ask(json!({"stream": true, "stream_options": options})).with_usage);
}

#[test]
fn bytes_of_parts_of_characters_are_not_made_up() {
    let scored = [5, 6].map(|token| Scored { token, logprob: -1.0, top: Vec::new() });
    let mut logs = ChatLogs::default();
    logs.extend(&scored, &["é".into(), "\u{fffd}".into()]);
    let logs = logs.take();
    assert_eq!((&logs["content"][0]["bytes"], &logs["content"][1]["bytes"]), (&json!([195, 169]), &Value::Null));
}
