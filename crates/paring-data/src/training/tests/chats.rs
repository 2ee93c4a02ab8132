//! Conversations through chat templates as models have them.

use super::*;

/// A model with the tokenizer of tests/golden/chats, and this template.
pub(super) fn with(template: &str, tokens: &Value) -> (tempfile::TempDir, Tokenizer) {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, content: &[u8]| std::fs::write(dir.path().join(name), content).unwrap();
    for name in ["config.json", "model.safetensors"] {
        put(name, &std::fs::read(golden("models/llama").join(name)).unwrap());
    }
    put("tokenizer.json", &std::fs::read(golden("chats/tokenizer.json")).unwrap());
    put("tokenizer_config.json", tokens.to_string().as_bytes());
    put("chat_template.jinja", template.as_bytes());
    let tokenizer = tokenizer(&Checkpoint::open(dir.path()).unwrap(), &Isolation::Thread).unwrap();
    (dir, tokenizer)
}

pub(super) fn template(name: &str) -> String {
    std::fs::read_to_string(golden("chats/templates").join(format!("{name}.jinja"))).unwrap()
}

fn messages(turns: &[(&str, &str)]) -> Value {
    json!({"messages": turns.iter().map(|(role, content)| json!({"role": role, "content": content})).collect::<Vec<_>>()})
}

const TURNS: [(&str, &str); 5] =
    [("system", "Be terse."), ("user", "Hi!"), ("assistant", "Hello."), ("user", "Bye?"), ("assistant", "So long.")];

/// Learned texts of a conversation, and the set.
fn taught(name: &str, turns: &[(&str, &str)]) -> (Vec<String>, TrainingSet) {
    let golden: Value = serde_json::from_slice(&std::fs::read(golden("chats/templates.json")).unwrap()).unwrap();
    let (_dir, tokenizer) = with(&template(name), &golden["templates"][name]["tokens"]);
    let set = of(&lines(&[messages(turns)]), None, &tokenizer, &settings(4096)).unwrap();
    (learned(&set, &tokenizer), set)
}

/// The end token is learned, and nothing of what templates write between turns.
#[test]
fn answers_with_their_end() {
    for (name, want) in [
        ("chatml", ["Hello.<|im_end|>", "So long.<|im_end|>"]),
        ("smollm2", ["Hello.<|im_end|>", "So long.<|im_end|>"]),
        ("qwen2.5", ["Hello.<|im_end|>", "So long.<|im_end|>"]),
        ("phi4", ["Hello.<|im_end|>", "So long.<|im_end|>"]),
        // The end of a whole conversation is that of its last answer.
        ("phi3", ["Hello.<|end|>", "So long.<|end|>\n</s>"]),
        ("zephyr", ["Hello.</s>", "So long.</s>"]),
    ] {
        let (texts, set) = taught(name, &TURNS);
        assert_eq!(texts, want, "{name}");
        assert_eq!((set.form, set.windows.len(), set.left_out), (Form::Chat, 1, LeftOut::default()), "{name}");
    }
    // A question without an answer teaches nothing, and is not there.
    let (texts, set) = taught("chatml", &[&TURNS[..], &[("user", "Hm?")]].concat());
    assert_eq!(texts, ["Hello.<|im_end|>", "So long.<|im_end|>"]);
    assert_eq!(set.windows, taught("chatml", &TURNS).1.windows);
}

/// Each answer is learned once, whatever the template, and no question.
#[test]
fn all_templates() {
    let golden: Value = serde_json::from_slice(&std::fs::read(golden("chats/templates.json")).unwrap()).unwrap();
    let (mut taught, mut refused) = (0, Vec::new());
    for (name, case) in golden["templates"].as_object().unwrap() {
        let (_dir, tokenizer) = with(&template(name), &case["tokens"]);
        for turns in [&TURNS[1..], &TURNS] {
            let set = match of(&lines(&[messages(turns)]), None, &tokenizer, &settings(4096)) {
                Ok(set) => set,
                Err(error) => {
                    refused.push(format!("{name}: {error}"));
                    continue;
                }
            };
            let mut texts = learned(&set, &tokenizer);
            texts.sort();
            let all = texts.concat();
            assert_eq!(texts.len(), 2, "{name}: {texts:?}");
            assert!(["Hello.", "So long."].iter().all(|answer| all.matches(answer).count() == 1), "{name}: {texts:?}");
            assert!(!["Hi!", "Bye?", "Be terse."].iter().any(|question| all.contains(question)), "{name}: {texts:?}");
            assert!(set.windows.iter().all(|window| window.learned.last() == Some(&true)), "{name}");
            taught += 1;
        }
    }
    // One template knows no system message, and one writes it only before a question that has no answer yet.
    assert_eq!(refused.len(), 2, "{refused:#?}");
    assert!(refused[0].contains("System messages are not allowed"), "{refused:#?}");
    assert!(
        refused[1].starts_with("mistral-v0.3: ") && refused[1].contains("before an answer otherwise"),
        "{refused:#?}"
    );
    assert!(taught > 55, "{taught}: {refused:#?}");
}

/// The thoughts of an answer are left out once others follow: it is learned with them, as the model gives it.
#[test]
fn answers_that_change_once_others_follow() {
    let turns = [
        ("user", "Hi!"),
        ("assistant", "<think>\nHm.\n</think>\n\nHello."),
        ("user", "Bye?"),
        ("assistant", "So long."),
    ];
    let (texts, set) = taught("qwen3", &turns);
    assert_eq!((set.windows.len(), set.left_out.apart), (2, 1));
    assert_eq!(texts[0], "<think>\nHm.\n</think>\n\nHello.<|im_end|>");
    assert!(texts[1].ends_with("So long.<|im_end|>") && !texts[1].contains("Hm."), "{texts:?}");
    assert!(
        set.notes()[0]
            .ends_with("1 answer is an example of its own, as the chat template changes it once others follow")
    );
}

/// A template may write a part of the header for generation only, and what no conversation begins with.
#[test]
fn odd_templates() {
    let turns = messages(&TURNS[1..]);
    let one = |template: &str| {
        let (_dir, tokenizer) = with(template, &json!({"eos_token": "</s>"}));
        of(&lines(std::slice::from_ref(&turns)), None, &tokenizer, &settings(512)).map(|set| learned(&set, &tokenizer))
    };
    let each = "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}\n{% endfor %}";
    let got = one(&format!("{each}{{% if add_generation_prompt %}}assistant: <think>{{% endif %}}")).unwrap();
    assert_eq!(got, ["Hello.</s>", "So long.</s>"]);
    // Without a header for generation, it is a part of the answer.
    assert_eq!(one(each).unwrap(), ["assistant: Hello.</s>", "assistant: So long.</s>"]);
    // Without an end, all up to the next turn.
    let got = one("{% for m in messages %}[{{ m.content }}]\n{% endfor %}").unwrap();
    assert_eq!(got, ["[Hello.]\n", "[So long.]\n"]);
    let error = one("{{ messages|length }} messages, {{ messages[-1].content }}").unwrap_err().to_string();
    assert!(error.contains("x.jsonl: line 1: the chat template writes what is before an answer otherwise"), "{error}");
    let error = one("{{ raise_exception('no') }}").unwrap_err().to_string();
    assert!(
        error.contains("x.jsonl: line 1: the chat template of ")
            && error.contains("no (line 1 of the template); correct"),
        "{error}"
    );
}

/// ShareGPT's names for the same.
#[test]
fn conversations_of_sharegpt() {
    let (_dir, tokenizer) = with(&template("chatml"), &json!({"eos_token": "<|im_end|>"}));
    let of = |records: &[Value]| of(&lines(records), None, &tokenizer, &settings(64));
    let said = |from: &str, value: &str| json!({"from": from, "value": value});
    let shared = json!({"id": "1", "conversations": [said("human", "Hi!"), said("gpt", "Hello.")]});
    // One record alone may look like an object that holds a list of documents.
    let set = of(std::slice::from_ref(&shared)).unwrap();
    assert_eq!(set.windows, of(&[messages(&TURNS[1..3])]).unwrap().windows);
    assert_eq!(learned(&set, &tokenizer), ["Hello.<|im_end|>"]);
    let silent = json!({"conversations": [said("gpt", "Hello."), said("human", "Hi!")]});
    let set = of(&[shared.clone(), silent.clone()]).unwrap();
    assert_eq!((set.windows.len(), set.left_out.silent), (1, 1));
    for (records, words) in [
        (vec![silent], "nothing to learn in it; 1 conversation has no answer and is left out; use a file with answers"),
        (
            vec![shared.clone(), json!({"conversations": [said("alien", "?")]})],
            "line 2: field \"conversations\": message 1: it is from \"alien\", expected human, user, gpt",
        ),
        (vec![shared.clone(), json!({"conversations": [{"value": "?"}]})], "message 1: it has no role, expected"),
        (
            vec![shared.clone(), json!({"conversations": "?"})],
            "line 2: field \"conversations\" holds text, expected a list",
        ),
        (vec![shared.clone(), json!({"conversations": []})], "line 2: field \"conversations\" is an empty list"),
        (vec![shared, json!({"messages": []})], "line 2: no field \"conversations\" (it has: messages)"),
    ] {
        let error = of(&records).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

/// A window ends where it is full; turns beyond it are not rendered.
#[test]
fn conversations_that_are_too_long() {
    let (_dir, tokenizer) = with(&template("chatml"), &json!({"eos_token": "<|im_end|>"}));
    let turns: Vec<(&str, &str)> =
        (0..90).map(|at| if at % 2 == 0 { ("user", "Hi!") } else { ("assistant", "Hello.") }).collect();
    let all = of(&lines(&[messages(&turns)]), None, &tokenizer, &settings(4096)).unwrap();
    assert_eq!(learned(&all, &tokenizer), ["Hello.<|im_end|>"; 45]);
    let some = of(&lines(&[messages(&turns)]), None, &tokenizer, &settings(200)).unwrap();
    let (some, all) = (&some.windows[0], &all.windows[0]);
    assert!(some.ids.len() > 150 && some.ids.len() <= 200);
    assert_eq!((&some.ids[..], &some.learned[..]), (&all.ids[..some.ids.len()], &all.learned[..some.ids.len()]));
    let error = of(&lines(&[messages(&turns)]), None, &tokenizer, &settings(5)).unwrap_err().to_string();
    assert!(error.contains("1 record has no answer within 5 tokens"), "{error}");
    let error = of(&lines(&[messages(&turns)]), None, &model("bytes"), &settings(99)).unwrap_err().to_string();
    assert!(
        error.contains("line 1: messages need a chat template; add a chat_template.jinja to the model's folder"),
        "{error}"
    );
}
