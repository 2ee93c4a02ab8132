//! Chats through the binary: templates and tokens as transformers has them, and the command that shows them.

mod support;

use std::fs;

use serde_json::{Value, json};

use support::*;

/// The golden Llama with the tokenizer of tests/golden/chats, which puts `<s>` before every text.
fn sandbox(template: &str, config: &Value) -> Sandbox {
    let sandbox = Sandbox::new();
    fs::copy(golden("chats/tokenizer.json"), sandbox.path("model/tokenizer.json")).unwrap();
    sandbox.write("model/tokenizer_config.json", config.to_string());
    sandbox.write("model/chat_template.jinja", template);
    sandbox
}

fn chat(sandbox: &Sandbox, conversations: &[&Value]) {
    let lines: String = conversations.iter().map(|messages| json!({"messages": messages}).to_string() + "\n").collect();
    sandbox.write("chat.jsonl", lines);
}

/// Number, text and ids of each document.
fn shown(sandbox: &Sandbox, arguments: &str) -> Vec<(u64, Option<String>, Vec<u64>)> {
    let documents = sandbox.json(&format!("tokens model {arguments}"))["documents"].take();
    let document = |one: &Value| {
        let ids = one["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect();
        (one["document"].as_u64().unwrap(), one["text"].as_str().map(String::from), ids)
    };
    documents.as_array().unwrap().iter().map(document).collect()
}

/// All conversations through all templates, but for those that write what day it is.
#[test]
fn texts_and_ids_of_whole_templates() {
    let all = json_file(&golden("chats/templates.json"));
    let conversations = all["conversations"].as_object().unwrap();
    let (mut texts, mut refused) = (0, 0);
    for (name, case) in all["templates"].as_object().unwrap() {
        let template = fs::read_to_string(golden(&format!("chats/templates/{name}.jinja"))).unwrap();
        if template.contains("strftime_now") {
            continue;
        }
        let sandbox = sandbox(&template, &case["tokens"]);
        let rendered = &case["rendered"];
        let (good, bad): (Vec<_>, Vec<_>) =
            conversations.iter().partition(|(name, _)| rendered[name.as_str()].get("text").is_some());
        chat(&sandbox, &good.iter().map(|(_, messages)| *messages).collect::<Vec<_>>());
        let got = shown(&sandbox, "chat.jsonl --text-field messages --limit 100");
        assert_eq!(got.len(), good.len(), "{name}");
        for ((conversation, _), (document, text, ids)) in good.iter().zip(got) {
            let want = &rendered[conversation.as_str()];
            assert_eq!(text.as_deref(), want["text"].as_str(), "{name}, {conversation}, document {document}");
            assert_eq!(json!(ids), want["ids"], "{name}, {conversation}");
            texts += 1;
        }
        if let Some((_, messages)) = bad.first() {
            chat(&sandbox, &[messages]);
            let words = ["chat.jsonl: line 1: the chat template of ", "chat_template.jinja: "];
            sandbox.refused("tokens model chat.jsonl --text-field messages", 1, &words).unwrap();
            refused += 1;
        }
    }
    assert!(texts > 150 && refused > 15, "{texts} texts, {refused} errors");
}

fn turn() -> Value {
    json!([{"role": "user", "content": "Hi"}])
}

/// Nothing is put before what a template writes, whatever the tokenizer does with other texts.
#[test]
fn a_chat_begins_with_what_the_template_writes() {
    for config in [json!({"bos_token": "<s>"}), json!({"bos_token": "<s>", "add_bos_token": true})] {
        for (template, text) in
            [("{{ messages[0].content }}", "Hi"), ("{{ bos_token + messages[0].content }}", "<s>Hi")]
        {
            let sandbox = sandbox(template, &config);
            chat(&sandbox, &[&turn()]);
            let got = shown(&sandbox, "chat.jsonl --text-field messages");
            assert_eq!(got[0].1.as_deref(), Some(text), "{template}");
            assert_eq!(got[0].2.len(), if text == "Hi" { 2 } else { 3 }, "{template}");
        }
    }
    let sandbox = sandbox("", &json!({"bos_token": "<s>"}));
    sandbox.write("a.jsonl", "{\"text\": \"Hi\"}\n");
    assert_eq!(shown(&sandbox, "a.jsonl")[0].1.as_deref(), Some("<s>Hi"), "a text has it");
}

/// The places that transformers takes special tokens from.
#[test]
fn special_tokens_from_every_place() {
    let template = "{{ bos_token }}|{{ eos_token }}|{{ pad_token }}|{{ image_token }}|{{ mask_token is defined }}";
    let listed = json!({"bos_token": "<a>", "added_tokens_decoder": {}});
    for (config, map, want) in [
        (json!({"bos_token": "<a>", "eos_token": {"content": "<b>"}}), json!(null), "<a>|<b>|||False"),
        (json!({}), json!({"bos_token": "<a>", "pad_token": {"content": "<p>"}}), "<a>||<p>||False"),
        (json!({"bos_token": "<a>"}), json!({"bos_token": "<m>"}), "<m>||||False"),
        (listed, json!({"bos_token": "<m>", "eos_token": "<m>"}), "<a>||||False"),
        (json!({"image_token": "<i>", "mask_token": "<k>"}), json!(null), "|||<i>|True"),
        (json!({"extra_special_tokens": {"image_token": "<i>"}}), json!(null), "|||<i>|False"),
        (json!({"tokenizer_class": "GPT2TokenizerFast", "bos_token": null}), json!(null), "|<|endoftext|>|||False"),
        (json!({"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<b>"}), json!(null), "|<b>|<|endoftext|>||False"),
    ] {
        let sandbox = sandbox(template, &config);
        if !map.is_null() {
            sandbox.write("model/special_tokens_map.json", map.to_string());
        }
        chat(&sandbox, &[&turn()]);
        let got = shown(&sandbox, "chat.jsonl --text-field messages");
        assert_eq!(got[0].1.as_deref(), Some(want), "{config} {map}");
    }
    let sandbox = sandbox("{{ bos_token + messages[0].content }}", &json!({}));
    chat(&sandbox, &[&turn()]);
    let words = ["chat.jsonl: line 1: ", "'bos_token' is undefined"];
    sandbox.refused("tokens model chat.jsonl --text-field messages", 1, &words).unwrap();
}

/// Measured tokens are those that are shown, and calibrated ones too.
#[test]
fn eval_and_quantize_have_the_shown_tokens() {
    let template = "{% for m in messages %}{% generation %}{{ m.content }}{% for k in m.args %}{{ k }}{% endfor %}{% endgeneration %}{% endfor %}";
    let sandbox = sandbox(template, &json!({"bos_token": "<s>"}));
    let keys = json!([{"role": "user", "content": "\u{1}\u{2}\u{3}\u{4}", "args": {"2": 1, "1": 2}}]);
    let conversations: Vec<&Value> = std::iter::repeat_n(&keys, 20).collect();
    chat(&sandbox, &conversations);
    let ids: Vec<i64> = shown(&sandbox, "chat.jsonl --text-field messages --limit 20")
        .into_iter()
        .flat_map(|(_, _, ids)| ids.into_iter().map(|id| id as i64))
        .collect();
    assert_eq!((ids.len(), &ids[..6]), (120, [1, 2, 3, 4, 50, 49].as_slice()));
    let messages = sandbox.run("eval model chat.jsonl --text-field messages --seqlen 16 --quiet --json");
    token_file(&sandbox.path("ids.safetensors"), &[1, ids.len()], &ids);
    let stored = sandbox.run("eval model ids.safetensors --seqlen 16 --quiet --json");
    match (messages.code, stored.code) {
        (Some(0), Some(0)) => assert_eq!(messages.json()["perplexity"], stored.json()["perplexity"]),
        _ => panic!("{}\n{}", messages.stderr, stored.stderr),
    }
}

#[test]
fn tokens_of_every_kind_of_data() {
    let sandbox = sandbox("{{ messages[0].content }}", &json!({}));
    sandbox.write("a.txt", "one\ntwo\n");
    let text = shown(&sandbox, "a.txt");
    assert_eq!((text.len(), text[0].0, text[0].1.as_deref()), (1, 1, Some("<s>one\ntwo\n")));
    sandbox.write("a.jsonl", "\n{\"text\": \"one\"}\n{\"text\": \"\"}\n{\"text\": \"two\"}\n");
    let numbers = |shown: Vec<(u64, Option<String>, Vec<u64>)>| shown.into_iter().map(|one| one.0).collect::<Vec<_>>();
    assert_eq!(numbers(shown(&sandbox, "a.jsonl")), [2, 3, 4]);
    assert_eq!(numbers(shown(&sandbox, "a.jsonl --limit 2")), [2, 3]);
    let rows = shown(&sandbox, "calib.safetensors");
    assert_eq!(numbers(rows.clone()), [1, 2, 3, 4], "four documents by default");
    assert!(rows.iter().all(|(_, text, ids)| text.is_some() && ids.len() == rows[0].2.len()));
    sandbox.refused("tokens model none.jsonl", 1, &["none.jsonl"]).unwrap();
    sandbox.write("empty.jsonl", "");
    sandbox.refused("tokens model empty.jsonl", 1, &["empty.jsonl", "no documents in it"]).unwrap();
    fs::remove_file(sandbox.path("model/tokenizer.json")).unwrap();
    assert_eq!(shown(&sandbox, "calib.safetensors --limit 1")[0].1, None, "ids need no tokenizer");
    sandbox.refused("tokens model a.txt", 1, &["text needs a tokenizer.json"]).unwrap();
    for part in ["train", "valid", "test"] {
        sandbox.write(&format!("ptb.{part}.txt"), format!(" {part} one \n two \n"));
    }
    fs::copy(golden("chats/tokenizer.json"), sandbox.path("model/tokenizer.json")).unwrap();
    assert_eq!(shown(&sandbox, "ptb --data-dir .")[0].1.as_deref(), Some("<s>train one"), "what is calibrated on");
    let demo = sandbox.json("tokens demo --limit 1");
    assert!(demo["documents"][0]["ids"].as_array().unwrap().len() > 100);
}

/// A terminal is sent no control characters of a text, and nothing that turns its direction.
#[test]
fn what_people_see() {
    let sandbox = sandbox("{{ messages[0].content }}<|im_end|>\n", &json!({}));
    let hostile = json!([{"role": "user", "content": "one\n\u{1b}]0;title\u{7}\ttwo\r\u{202e}\u{9b}31m é"}]);
    chat(&sandbox, &[&hostile, &turn()]);
    let text = sandbox.ok("tokens model chat.jsonl --text-field messages --limit 1").stdout;
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("document 1: ") && lines[0].ends_with(" tokens"), "{text}");
    assert_eq!(lines[1], "  one\\n");
    assert_eq!(lines[2], "  \\u{1b}]0;title\\u{7}\\ttwo\\r\\u{202e}\\u{9b}31m é<|im_end|>");
    assert!(lines[3].starts_with("  ids 111 110 101 10 27 "), "{text}");
    assert_eq!(
        lines.last().unwrap(),
        &"the first 1 of chat.jsonl; --limit N shows more or fewer, --json whole documents"
    );
    assert!(text.chars().all(|c| c == '\n' || !c.is_control() && c != '\u{202e}'), "{text:?}");
    let all = sandbox.ok("tokens model chat.jsonl --text-field messages").stdout;
    assert!(all.contains("document 2: 3 tokens\n  Hi<|im_end|>\n") && all.contains("\nall 2 of chat.jsonl; "), "{all}");
}

/// The moment that templates write is that of the run's beginning, also on another day.
#[test]
fn a_resumed_run_has_the_moment_of_its_beginning() {
    let template = "{% for m in messages %}{{ strftime_now('%C') }} {{ m.content }}{% endfor %}";
    let sandbox = sandbox(template, &json!({}));
    let letters = json!([{"role": "user", "content": "\u{1}\u{2}\u{3}\u{4}\u{5}"}]);
    chat(&sandbox, &std::iter::repeat_n(&letters, 40).collect::<Vec<_>>());
    let run = "quantize model chat.jsonl --text-field messages --wbits 4 --nsamples 4 --seqlen 16 --quiet --out out";
    let mut model = Model::golden("llama");
    let beside = ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]
        .map(|name| (name, fs::read(sandbox.path("model").join(name)).unwrap()));
    model.set("model.layers.1.mlp.down_proj.weight", 0, f32::NAN);
    model.write(&sandbox.path("model"));
    beside.iter().for_each(|(name, bytes)| fs::write(sandbox.path("model").join(name), bytes).unwrap());
    sandbox.refused(run, 1, &["down_proj", "NaN"]).unwrap();
    let journal = sandbox.path("out/journal.jsonl");
    let text = fs::read_to_string(&journal).unwrap();
    let begun: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let moment = begun["plan"]["moment"].as_i64().unwrap();
    // As if it had been begun on another day of the century.
    let earlier = moment - 3 * 86_400;
    let begun_at = |other: i64| {
        let [was, is] = [moment, other].map(|seconds| format!("\"moment\":{seconds}"));
        fs::write(&journal, text.replace(&was, &is)).unwrap();
    };
    begun_at(earlier);
    let ran = sandbox.run(&format!("{run} --resume"));
    assert!(ran.code == Some(1) && ran.stderr.contains("down_proj") && ran.stderr.contains("NaN"), "{}", ran.stderr);
    let resumed = fs::read_to_string(&journal).unwrap();
    assert!(resumed.contains(&format!("\"moment\":{earlier}")), "{resumed}");
    // In another century its tokens are others, and then they are those of the journal's moment.
    let other = moment - 200 * 365 * 86_400;
    begun_at(other);
    sandbox.refused(&format!("{run} --resume"), 1, &["cannot be resumed: the calibration tokens changed"]).unwrap();
    // A template that asks for no moment leaves none.
    sandbox.write("model/chat_template.jinja", "{% for m in messages %}{{ m.content }}{% endfor %}");
    sandbox.refused(&format!("{run} --overwrite"), 1, &["down_proj", "NaN"]).unwrap();
    assert!(!fs::read_to_string(&journal).unwrap().contains("moment"));
}
