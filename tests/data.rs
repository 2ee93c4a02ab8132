//! Data sets of every kind through the binary: the same text gives the same result however it is stored, and named sets
//! are found in a folder or on the hub.

mod support;

use std::fs;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use serde_json::{Value, json};

use support::hub::{Hub, NOBODY};
use support::*;

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn lines(field: &str, texts: &[String]) -> String {
    texts.iter().map(|text| json!({ field: text }).to_string() + "\n").collect()
}

/// A model with the tokenizer of two words.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    tokenizer(&sandbox);
    sandbox
}

/// Forty documents of one to forty words, no two alike.
fn documents() -> Vec<String> {
    let word = |document: usize, i: usize| if (document * i + i * i / 3).is_multiple_of(3) { "one" } else { "two" };
    (0..40).map(|d| (0..=d).map(|i| word(d, i)).collect::<Vec<_>>().join(" ")).collect()
}

fn fixture(name: &str) -> Vec<u8> {
    fs::read(golden("data").join(name)).unwrap()
}

fn eval(sandbox: &Sandbox, arguments: &str) -> Value {
    sandbox.json(&format!("eval model {arguments} --seqlen 16 --quiet"))
}

#[test]
fn every_kind_of_file() {
    let sandbox = sandbox();
    let text = lines("text", &documents());
    sandbox.write("a.jsonl", &text);
    sandbox.write("a.jsonl.gz", gzip(&text));
    sandbox.write("a.json.gz", gzip(&text));
    sandbox.write("a.jsonl.zst", compress_to_vec(text.as_bytes(), CompressionLevel::Fastest));
    sandbox.write("a.txt", documents().join("\n\n"));
    let want = eval(&sandbox, "a.jsonl");
    assert_eq!(want["windows"], 820 / 16);
    for name in ["a.jsonl.gz", "a.json.gz", "a.jsonl.zst", "a.txt"] {
        let got = eval(&sandbox, name);
        assert_eq!((&got["perplexity"], &got["dataset"]), (&want["perplexity"], &name.into()), "{name}");
    }
}

/// Files of Windows, Python and other programs hold the same documents as plain lines.
#[test]
fn files_as_other_programs_leave_them() {
    let sandbox = sandbox();
    let plain = lines("text", &documents());
    sandbox.write("plain.jsonl", &plain);
    let want = eval(&sandbox, "plain.jsonl");
    let objects: Vec<&str> = plain.lines().collect();
    let pretty: Vec<String> = documents()
        .iter()
        .map(|text| serde_json::to_string_pretty(&json!({"n": [1, {}], "text": text})).unwrap())
        .collect();
    let mark = |text: &str| format!("\u{feff}{text}");
    let list = format!("[{}]", objects.join(", "));
    let pretty_list = format!("[\n  {}\n]\n", pretty.join(",\n  "));
    let field = format!("{{\"version\": \"1.0\", \"n\": -Infinity, \"data\": {list}, \"m\": [1, 2]}}");
    let odd = plain.replace("{\"text\"", "{\"a\": NaN, \"b\": [Infinity, {\"c\": -Infinity}], \"text\"");
    let cases: [(&str, String); 12] = [
        ("mark", mark(&plain)),
        ("crlf", plain.replace('\n', "\r\n")),
        ("no end", plain.trim_end().to_string()),
        ("blank", format!("\n \r\n{}\n", plain.replace('\n', "\n\n"))),
        ("nan", odd),
        ("list", list.clone()),
        ("list with a mark", mark(&list)),
        ("pretty list", pretty_list.clone()),
        ("pretty list of Windows", mark(&pretty_list.replace('\n', "\r\n"))),
        ("pretty objects", pretty.join("\n")),
        ("field", field.clone()),
        ("pretty field", field.replace("[{", "\n[\n{").replace("}, ", "},\n")),
    ];
    for (what, text) in cases {
        for name in ["a.json", "a.jsonl", "a.json.gz", "a.json.zst"] {
            match name {
                "a.json.gz" => sandbox.write(name, gzip(&text)),
                "a.json.zst" => sandbox.write(name, compress_to_vec(text.as_bytes(), CompressionLevel::Fastest)),
                _ => sandbox.write(name, &text),
            }
            let got = eval(&sandbox, name);
            assert_eq!(
                (&got["perplexity"], &got["windows"]),
                (&want["perplexity"], &want["windows"]),
                "{what}: {name}"
            );
        }
    }
    // Text, as Python's open() reads it: line ends are one letter, and a mark is a word of its own.
    sandbox.write("lf.txt", documents().join("\n"));
    sandbox.write("crlf.txt", documents().join("\r\n"));
    assert_eq!(eval(&sandbox, "lf.txt")["perplexity"], eval(&sandbox, "crlf.txt")["perplexity"]);
    sandbox.write("mark.txt", mark(&documents().join("\n")));
    let ran = sandbox.ok("eval model mark.txt --seqlen 16");
    assert!(
        ran.stderr.contains("mark.txt: it begins with a byte order mark, which is part of the text"),
        "{}",
        ran.stderr
    );
}

/// Documents whose text is null are left out, and counted.
#[test]
fn documents_without_text() {
    let sandbox = sandbox();
    let plain = lines("text", &documents());
    sandbox.write("plain.jsonl", &plain);
    sandbox.write("null.jsonl", format!("{{\"text\": null}}\n{plain}{{\"text\": null}}\n{{\"text\": null, \"a\": 1}}"));
    let note = "null.jsonl: 3 documents have null for \"text\" and are left out";
    let ran = sandbox.ok("eval model null.jsonl --seqlen 16 --json");
    assert_eq!(ran.json()["perplexity"], eval(&sandbox, "plain.jsonl")["perplexity"]);
    assert!(ran.stderr.contains(note), "{}", ran.stderr);
    let ran = sandbox.ok("quantize model null.jsonl --wbits 4 --seqlen 16 --out null --eval null.jsonl");
    assert_eq!(ran.stderr.matches(note).count(), 2, "{}", ran.stderr);
    sandbox.ok("quantize model plain.jsonl --wbits 4 --seqlen 16 --out plain --quiet");
    assert!(model_bytes(&sandbox.path("null")) == model_bytes(&sandbox.path("plain")));
    let ran = sandbox.ok("verify model --reference model --data null.jsonl --tokens 640 --seqlen 16");
    assert!(ran.stderr.contains(note), "{}", ran.stderr);
    sandbox.write("rows.parquet", fixture("nulls.parquet"));
    let ran = sandbox.ok("eval model rows.parquet --seqlen 2");
    assert!(ran.stderr.contains("rows.parquet: 2 documents have null"), "{}", ran.stderr);
    // Where documents are drawn, one without text is as one of no letters.
    let one: String =
        documents().iter().map(|text| format!("{{\"text\": \"{text}\"}}\n{{\"text\": null}}\n")).collect();
    let other = one.replace("null", "\"\"");
    for (name, text) in [("one", one), ("other", other)] {
        fs::create_dir_all(sandbox.path(name)).unwrap();
        sandbox.write(&format!("{name}/c4-train.00000-of-01024.json.gz"), gzip(&text));
        let drawn = format!("quantize model c4 --data-dir {name} --wbits 4 --nsamples 6 --seqlen 16");
        let ran = sandbox.ok(&format!("{drawn} --out drawn-{name}"));
        assert_eq!(ran.stderr.contains("documents have null for \"text\""), name == "one", "{}", ran.stderr);
    }
    assert!(model_bytes(&sandbox.path("drawn-one")) == model_bytes(&sandbox.path("drawn-other")));
}

/// Files of pyarrow hold the rows that their script says.
#[test]
fn parquet() {
    let sandbox = sandbox();
    let row = |i: usize| {
        if i.is_multiple_of(9) { String::new() } else { format!("row {i} Zwölf 十二 {}", "one two ".repeat(i % 5)) }
    };
    sandbox.write("rows.jsonl", lines("text", &(0..40).map(row).collect::<Vec<_>>()));
    let want = eval(&sandbox, "rows.jsonl");
    for name in ["snappy", "gzip", "zstd", "lz4", "brotli", "second", "delta", "delta_length"] {
        sandbox.write("rows.parquet", fixture(&format!("{name}.parquet")));
        assert_eq!(eval(&sandbox, "rows.parquet")["perplexity"], want["perplexity"], "{name}");
    }
}

/// Rows that torch saved calibrate as the same rows in a safetensors file do, under SpQR's name for them too.
#[test]
fn stored_tokens() {
    let sandbox = Sandbox::new();
    let ids: Vec<i64> = (0..4).flat_map(|row| (0..32).map(move |i| (7 * row + 11 * i + i * i) % 64)).collect();
    token_file(&sandbox.path("ids.safetensors"), &[4, 32], &ids);
    sandbox.write("tokens.pth", fixture("tokens.pth"));
    fs::create_dir_all(sandbox.path("spqr/data")).unwrap();
    sandbox.write("spqr/data/red_pajama_n=1024.pth", fixture("tokens.pth"));
    let made = |data: &str, out: &str| {
        sandbox.ok(&format!("quantize model {data} --wbits 4 --nsamples 3 --quiet --out {out}"));
        model_bytes(&sandbox.path(out))
    };
    let want = made("ids.safetensors", "one");
    assert!(want == made("tokens.pth", "two"));
    assert!(want == made("pajama --data-dir spqr", "three"));
    assert!(want == made("pajama --data_dir=spqr/data", "four"));
    assert_eq!(json_file(&sandbox.path("three/paring.json"))["plan"]["dataset"], "pajama");
}

/// Published sets are drawn with seed 0, and the method says how documents are joined.
#[test]
fn named_sets_in_a_folder() {
    let sandbox = sandbox();
    let sentences: String = documents().iter().map(|text| format!(" {text} \n")).collect();
    for part in ["train", "valid", "test"] {
        sandbox.write(&format!("ptb.{part}.txt"), &sentences);
    }
    sandbox.write("c4-train.00000-of-01024.json.gz", gzip(&lines("text", &documents())));
    sandbox.write("c4-validation.00000-of-00008.json.gz", gzip(&lines("text", &documents())));
    let made = |arguments: &str, out: &str| {
        sandbox.ok(&format!("{arguments} --data-dir . --nsamples 6 --seqlen 16 --quiet --out {out}"));
        (model_bytes(&sandbox.path(out)), json_file(&sandbox.path(out).join("paring.json"))["plan"].clone())
    };
    for set in ["ptb", "c4"] {
        let (drawn, plan) = made(&format!("quantize model {set} --wbits 4"), &format!("{set}-drawn"));
        let chosen = ["dataset", "seed", "nsamples", "seqlen"].map(|key| plan[key].clone());
        assert_eq!(chosen, [json!(set), json!(0), json!(6), json!(16)]);
        assert!(drawn == made(&format!("quantize model {set} --wbits 4 --seed 0"), &format!("{set}-zero")).0);
        assert!(drawn != made(&format!("quantize model {set} --wbits 4 --seed 1"), &format!("{set}-one")).0);
    }
    // A space between sentences is no token here, an empty line neither: only the draw of c4 differs, in documents of
    // exactly one window.
    made("sparsify model c4 --method wanda --pattern 2:4", "wanda");

    let first = eval(&sandbox, "c4 --data-dir .");
    assert_eq!((&first["dataset"], &first["windows"]), (&"c4".into(), &256.into()));
    let limited = eval(&sandbox, "c4 --data-dir . --limit 5");
    assert_eq!(limited["windows"], 5);
    // Here all documents are fewer tokens than 256 windows.
    let second = eval(&sandbox, "c4 --data-dir . --eval-protocol sparsegpt");
    assert_eq!((&second["dataset"], &second["windows"]), (&"c4-new".into(), &(820 / 16).into()));
    for same in ["c4 --eval_protocol new", "c4 --new_eval", "c4-new", "c4_new"] {
        assert_eq!(eval(&sandbox, &format!("{same} --data-dir ."))["perplexity"], second["perplexity"], "{same}");
    }
    assert_eq!(eval(&sandbox, "ptb-new --data-dir .")["perplexity"], second["perplexity"], "the same text");
}

/// Sets are fetched once, whatever asks for them, and then found without the hub.
#[test]
fn named_sets_on_the_hub() {
    let (sandbox, hub) = (sandbox(), Hub::start());
    let text = |name: &str| vec![(format!("wikitext-2-raw-v1/{name}-00000-of-00001.parquet"), fixture("zstd.parquet"))];
    hub.publish("datasets/Salesforce/wikitext", "main", &[text("train"), text("test")].concat());
    let address = hub.address();
    let arguments = "quantize model wikitext2 --wbits 4 --nsamples 4 --seqlen 16 --eval wikitext2 --quiet --json";
    let online = sandbox.run_with(&format!("{arguments} --out first"), &[("HF_ENDPOINT", &address)]);
    assert_eq!(online.code, Some(0), "{}", online.stderr);
    let offline = [("HF_ENDPOINT", NOBODY), ("HF_HUB_OFFLINE", "1")];
    let again = sandbox.run_with(&format!("{arguments} --out second"), &offline);
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    assert!(model_bytes(&sandbox.path("first")) == model_bytes(&sandbox.path("second")));
    assert_eq!(online.json()["perplexity"], again.json()["perplexity"]);
    let missing = sandbox.run_with("eval model ptb --quiet", &offline);
    sandbox.refuses(&missing, 1, &["ptb-text-only/ptb_text_only", "HF_HUB_OFFLINE"]).unwrap();

    let parts = ["validation", "test"].map(|part| format!("penn_treebank/{part}/0000.parquet"));
    let files = parts.map(|path| (path, fixture("sentences.parquet")));
    hub.publish("datasets/ptb-text-only/ptb_text_only", "refs/convert/parquet", &files);
    let ran = sandbox.run_with("eval model ptb --seqlen 16 --quiet --json", &[("HF_ENDPOINT", &address)]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(ran.json()["windows"], 2 * (1..20).sum::<usize>() / 16);
}

/// Each conversation goes through the template, and the first token is there once.
#[test]
fn messages_go_through_the_chat_template() {
    let sandbox = sandbox();
    let template = "{{ bos_token }} {% for m in messages %}{{ 'two' if m.role == 'user' else 'one' }} {{ m.content }}\
        \n{% endfor %}";
    let config = json!({"bos_token": "one", "add_bos_token": true, "chat_template": template});
    sandbox.write("model/tokenizer_config.json", config.to_string());
    let turns = |text: &String| json!([{"role": "user", "content": text}, {"role": "assistant", "content": "two one"}]);
    let chats: String = documents().iter().map(|text| json!({"messages": turns(text)}).to_string() + "\n").collect();
    sandbox.write("chat.jsonl", &chats);
    let got = eval(&sandbox, "chat.jsonl --text-field messages");
    // The same as tokens: each conversation begins with one more "one", which the template writes.
    let mut ids = Vec::new();
    for text in documents() {
        let words = format!("two {text} one two one");
        ids.push(1);
        ids.extend(words.split(' ').map(|word| if word == "one" { 1i64 } else { 2 }));
    }
    token_file(&sandbox.path("ids.safetensors"), &[1, ids.len()], &ids);
    let want = eval(&sandbox, "ids.safetensors");
    assert_eq!((&got["perplexity"], &got["windows"]), (&want["perplexity"], &want["windows"]));
}
