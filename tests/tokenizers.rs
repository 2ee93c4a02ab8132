//! Tokenizers through the binary: a process of their own, tokens in files beside them, and data that needs none of it.

mod support;

use std::fs;

use serde_json::{Value, json};

use support::*;

/// A model with a tokenizer of 63 words, one fewer than its vocabulary, and these settings beside it.
fn sandbox(config: Value) -> Sandbox {
    let sandbox = Sandbox::new();
    let vocabulary: serde_json::Map<String, Value> = (0..63).map(|i| (format!("w{i}"), i.into())).collect();
    let json = json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "w0"}});
    sandbox.write("model/tokenizer.json", json.to_string());
    sandbox.write("model/tokenizer_config.json", config.to_string());
    sandbox
}

/// The perplexity of a text, after that of the same tokens was found to be the same.
fn same(sandbox: &Sandbox, data: &str, ids: &[i64]) -> f64 {
    token_file(&sandbox.path("ids.safetensors"), &[1, ids.len()], ids);
    let [got, want] = [data, "ids.safetensors"].map(|data| {
        let result = sandbox.json(&format!("eval model {data} --text-field messages --seqlen 8 --quiet"));
        (result["perplexity"].as_f64().unwrap(), result["windows"].as_u64().unwrap())
    });
    assert_eq!(got, want, "{data}");
    got.0
}

const TEXT: &str = "w1 <new> w2<new>w3 w4 w5 w6";

/// A token that a file beside the vocabulary has is one token; without the file it is cut into pieces.
#[test]
fn tokens_beside_the_vocabulary() {
    let new =
        json!({"63": {"content": "<new>", "lstrip": false, "rstrip": false, "normalized": false, "special": true}});
    for (file, content) in [
        ("tokenizer_config.json", json!({"added_tokens_decoder": new})),
        ("tokenizer_config.json", json!({"additional_special_tokens": ["<new>"]})),
        ("tokenizer_config.json", json!({"extra_special_tokens": {"image_token": "<new>"}})),
        ("tokenizer_config.json", json!({"pad_token": {"content": "<new>"}})),
        ("added_tokens.json", json!({"<new>": 63})),
        ("special_tokens_map.json", json!({"pad_token": "<new>"})),
    ] {
        let sandbox = sandbox(json!({}));
        sandbox.write("text.txt", TEXT);
        let without = same(&sandbox, "text.txt", &[1, 0, 0, 0, 2, 0, 0, 0, 3, 4, 5, 6]);
        sandbox.write(&format!("model/{file}"), content.to_string());
        let with = same(&sandbox, "text.txt", &[1, 63, 2, 63, 3, 4, 5, 6]);
        assert_ne!(with, without, "{file}");
    }
}

/// A note says what is not done as the files say; the run is done.
#[test]
fn notes() {
    let sandbox = sandbox(json!({"bos_token": "w7", "add_bos_token": true,
        "added_tokens_decoder": {"62": {"content": "<new>", "special": true}}}));
    sandbox.write("text.txt", TEXT);
    for command in ["eval model text.txt --seqlen 8", "quantize model text.txt --seqlen 8 --wbits 4 --out out"] {
        let ran = sandbox.ok(command);
        for words in
            ["gives \"<new>\" the id 62; here, as in transformers, it is token 63", "add_bos_token is true, but"]
        {
            assert_eq!(ran.stderr.matches(words).count(), 1, "{command}: {words}: {}", ran.stderr);
        }
    }
}

/// Token ids are measured and calibrated on whatever lies beside the model.
#[test]
fn tokens_need_no_tokenizer() {
    for (name, content) in [
        ("tokenizer.json", "{"),
        ("tokenizer_config.json", r#"{"add_bos_token": true, "bos_token": null}"#),
        ("tokenizer_config.json", r#"{"add_bos_token": true, "bos_token": "none"}"#),
        ("tokenizer_config.json", "["),
        ("added_tokens.json", "3"),
        ("chat_template.jinja", "{% for %}"),
    ] {
        let sandbox = sandbox(json!({}));
        let want = sandbox.perplexity("model");
        sandbox.write(&format!("model/{name}"), content);
        assert_eq!(sandbox.perplexity("model"), want, "{name}");
        sandbox.ok("quantize model calib.safetensors --wbits 4 --out out --quiet");
    }
}

/// Many conversations go to the tokenizer at a time: their tokens come in order, and what is wrong with one that is not
/// needed is not met.
#[test]
fn conversations_in_order() {
    let sandbox = sandbox(json!({"chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}"}));
    let words = |i: usize| (0..1 + i % 5).map(|k| ((i * 7 + k) % 63) as i64).collect::<Vec<_>>();
    let line = |i: usize| {
        let text: Vec<String> = words(i).iter().map(|id| format!("w{id}")).collect();
        json!({"messages": [{"role": "user", "content": text.join(" ")}]}).to_string() + "\n"
    };
    let all: String = (0..300).map(line).collect();
    sandbox.write("chat.jsonl", &all);
    same(&sandbox, "chat.jsonl", &(0..300).flat_map(words).collect::<Vec<_>>());
    let limited = "eval model chat.jsonl --text-field messages --seqlen 8 --limit 3 --quiet --json";
    let want = sandbox.ok(limited).json()["perplexity"].clone();
    // 512 tokens more than the wanted are looked at, which are some 180 conversations.
    let some: String = (0..200).map(line).collect();
    sandbox.write("chat.jsonl", format!("{some}noise\n"));
    assert_eq!(sandbox.ok(limited).json()["perplexity"], want);
    sandbox.write("chat.jsonl", format!("{}noise\n", (0..100).map(line).collect::<String>()));
    sandbox.refused(limited, 1, &["chat.jsonl: line 101: not JSON"]).unwrap();
}

/// A text that takes the program some time is tokenized as a whole, whatever it says of itself.
#[test]
fn a_long_text() {
    let sandbox = sandbox(json!({}));
    let ids: Vec<i64> = (0..200_000).map(|i| (i * i / 7) % 63).collect();
    let text: Vec<String> = ids.iter().map(|id| format!("w{id}")).collect();
    sandbox.write("text.txt", text.join(" "));
    token_file(&sandbox.path("ids.safetensors"), &[8, 32], &ids[..256]);
    let ran = sandbox.ok("quantize model text.txt --wbits 4 --seqlen 32 --nsamples 8 --quiet --out one");
    assert!(ran.stderr.is_empty(), "{}", ran.stderr);
    sandbox.ok("quantize model ids.safetensors --wbits 4 --seqlen 32 --quiet --out two");
    assert!(model_bytes(&sandbox.path("one")) == model_bytes(&sandbox.path("two")));
}

/// Without a process there are no tokens, and one line says so; token ids need none.
#[cfg(target_os = "linux")]
#[test]
fn no_process_to_be_had() {
    let sandbox = sandbox(json!({}));
    sandbox.write("text.txt", "w1 w2 ".repeat(100));
    // Files enough for the model and the text, and not for a process and its pipes.
    let mut refused = 0;
    for files in 6..14 {
        let run = |data: &str| {
            let command = format!("eval model {data} --seqlen 8 --quiet --threads 1");
            sandbox.shell(&format!("ulimit -n {files}; exec \"$PARING\" {command}"))
        };
        if run("eval.safetensors").code != Some(0) {
            continue;
        }
        let ran = run("text.txt");
        if ran.code != Some(0) {
            sandbox.refuses(&ran, 1, &["model/tokenizer.json: "]).unwrap();
            refused += 1;
        }
    }
    assert!(refused > 0);
}

/// A worker ends with the program that started it, however that ends.
#[cfg(target_os = "linux")]
#[test]
fn the_worker_ends_with_the_program() {
    let sandbox = sandbox(json!({}));
    let mut json = json_file(&sandbox.path("model/tokenizer.json"));
    json["pre_tokenizer"] =
        json!({"type": "Split", "pattern": {"Regex": r"(?=(a+))\1*b"}, "behavior": "Isolated", "invert": false});
    sandbox.write("model/tokenizer.json", json.to_string());
    sandbox.write("text.txt", "a".repeat(200_000));
    let mark = sandbox.path("model").display().to_string();
    let workers = || {
        let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| Some(entry.ok()?.path()));
        let of_ours = processes.filter(|path| {
            let at = fs::read_link(path.join("cwd")).unwrap_or_default();
            let line = fs::read(path.join("cmdline")).unwrap_or_default();
            mark.starts_with(&*at.to_string_lossy())
                && at.components().count() > 1
                && String::from_utf8_lossy(&line).contains("__tokenizer-worker")
        });
        of_ours.count()
    };
    let script = "\"$PARING\" eval model text.txt --seqlen 8 --quiet & sleep 1; kill -9 $!; wait $!; exit 0";
    let ran = std::thread::scope(|scope| {
        let running = scope.spawn(|| sandbox.shell(script));
        let mut most = 0;
        while !running.is_finished() {
            most = most.max(workers());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert_eq!(most, 1, "a worker was seen");
        running.join().unwrap()
    });
    assert_eq!(ran.code, Some(0));
    for _ in 0..100 {
        if workers() == 0 {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("{} workers are left", workers());
}
