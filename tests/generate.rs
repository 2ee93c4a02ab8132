//! `generate` and `chat`.

mod support;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use support::*;

/// Writes roles as words that the built-in tokenizer knows.
const TEMPLATE: &str = "{% for m in messages %}{{ {'system': 'pir', 'user': 'tin', 'assistant': 'lilt'}[m.role] }} {{ m.content }} ; \
    {% endfor %}{% if add_generation_prompt %}lilt {% endif %}";

/// The built-in model in the folder `chatty`, with a chat template.
fn chatty() -> Sandbox {
    let sandbox = Sandbox::empty();
    fs::create_dir(sandbox.path("chatty")).unwrap();
    for file in fs::read_dir(golden("../../crates/paring-cli/demo")).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), sandbox.path("chatty").join(file.file_name())).unwrap();
    }
    sandbox.write("chatty/chat_template.jinja", TEMPLATE);
    sandbox
}

/// Tokens as the built-in tokenizer's words.
fn words(ids: &[u64]) -> String {
    let tokenizer = json_file(&golden("../../crates/paring-cli/demo/tokenizer.json"));
    let vocab = tokenizer["model"]["vocab"].as_object().unwrap();
    let word = |id: &u64| vocab.iter().find(|(_, known)| known.as_u64() == Some(*id)).unwrap().0.as_str();
    ids.iter().map(word).collect::<Vec<_>>().join(" ")
}

fn ids(value: &Value) -> Vec<u64> {
    serde_json::from_value(value.clone()).unwrap()
}

/// Lets texts of the model end at their length alone.
fn run_on(sandbox: &Sandbox) {
    let path = sandbox.path("chatty/generation_config.json");
    let mut config = json_file(&path);
    config["eos_token_id"] = json!([]);
    fs::write(&path, config.to_string()).unwrap();
}

#[test]
fn texts_are_those_of_transformers() {
    let sandbox = chatty();
    run_on(&sandbox);
    let cases = json_file(&golden("generation/demo.json"));
    let prompts: Vec<String> = cases["prompts"].as_array().unwrap().iter().map(|prompt| words(&ids(prompt))).collect();
    let mut count = 0;
    for run in cases["runs"].as_array().unwrap() {
        let settings = run["settings"].as_object().unwrap();
        if settings.contains_key("eos_token_id") {
            continue;
        }
        let number = run["prompt"].as_u64().unwrap() as usize;
        sandbox.write("prompt.txt", format!("{}\n", prompts[number]));
        let options: Vec<String> = settings.iter().map(|(name, value)| format!("--{name} {value}")).collect();
        let options = options.join(" ").replace('"', "");
        let command = format!("generate chatty --prompt-file prompt.txt --temperature 0 --dtype f32 {options} --quiet");
        let result = sandbox.json(&command);
        let want = if run.get("tokens").is_some() { &run["tokens"] } else { &run["sequences"][0] };
        assert_eq!(&result["tokens"], want, "{command}");
        assert_eq!(result["finish_reason"], "length");
        // Words are joined by spaces, also to those of the prompt.
        assert_eq!(result["text"].as_str().unwrap(), format!(" {}", words(&ids(want))), "{command}");
        count += 1;
    }
    assert_eq!(count, 12);
}

#[test]
fn packed_weights_give_the_tokens_of_decompressed_ones() {
    let sandbox = chatty();
    run_on(&sandbox);
    let spqr = "quantize chatty demo --groupsize 16 --qq-scale-bits 3 --qq-zero-bits 3 --qq-groupsize 16 --nsamples 8";
    let commands = [
        "quantize chatty --method rtn --wbits 3 --groupsize 32 --sym=false".to_string(),
        "quantize chatty --method rtn --scheme W4A16".to_string(),
        "quantize chatty --method rtn --scheme W8A16".to_string(),
        "quantize chatty --method rtn --scheme FP8_DYNAMIC".to_string(),
        "quantize chatty --method rtn --scheme NVFP4A16".to_string(),
        "quantize chatty --method rtn --scheme MXFP4A16".to_string(),
        format!("{spqr} --wbits 3 --outlier-threshold 0.2 --permutation-order act_order"),
        format!("{spqr} --wbits 3 --format spqr"),
        "sparsify chatty --method magnitude --pattern 2:4".to_string(),
        "sparsify chatty --method magnitude --sparsity 0.5".to_string(),
    ];
    for (i, command) in commands.iter().enumerate() {
        sandbox.ok(&format!("{command} --out packed{i} --quiet"));
        sandbox.ok(&format!("decompress packed{i} --out dense{i} --quiet"));
        let answer = |model: &str| {
            sandbox.json(&format!("generate {model} --prompt sesnir --temperature 0 --dtype f32 --max-new-tokens 40"))
        };
        let (packed, dense) = (answer(&format!("packed{i}")), answer(&format!("dense{i}")));
        if command.contains("FP8_DYNAMIC") {
            // Its inputs are rounded, which the dense model knows nothing of.
            assert_eq!(packed["tokens"].as_array().unwrap().len(), 40);
        } else {
            assert_eq!(packed["tokens"], dense["tokens"], "{command}");
        }
    }
}

#[test]
fn one_object_with_all_about_an_answer() {
    let sandbox = chatty();
    run_on(&sandbox);
    // The file of the model says that tokens are drawn.
    let result = sandbox.json("generate chatty --prompt sesnir --max-new-tokens 8");
    for key in ["prefill_tokens_per_second", "decode_tokens_per_second", "seed"] {
        assert!(result[key].as_f64().is_some_and(|rate| rate >= 0.0), "{result}");
    }
    assert_eq!(result["prompt_tokens"], 1);
    let tokens = ids(&result["tokens"]);
    assert_eq!((tokens.len(), &result["finish_reason"]), (8, &json!("length")));
    assert_eq!(result["text"].as_str().unwrap().trim(), words(&tokens));
    // A seed gives the same text again, with any number of threads, on stdout or in an object.
    let seed = &result["seed"];
    for options in ["--threads 1", "--threads 2", "--kv-cache bf16"] {
        let again = sandbox.ok(&format!("generate chatty --prompt sesnir --max-new-tokens 8 --seed {seed} {options}"));
        assert_eq!(again.stdout, format!("{}\n", result["text"].as_str().unwrap()));
        assert!(again.stderr.starts_with("prompt 1 token at "), "{}", again.stderr);
    }
    let texts: std::collections::BTreeSet<String> =
        (0..6).map(|i| sandbox.ok(&format!("generate chatty -p sesnir --seed {i} -q")).stdout).collect();
    assert!(texts.len() > 3, "{texts:?}");
}

#[test]
fn prompts_come_from_options_files_and_stdin() {
    let sandbox = chatty();
    let options = "--temperature 0 --max-new-tokens 5 --quiet";
    let direct = sandbox.shell(&format!("exec $PARING generate chatty --prompt 'sesnir . pir' {options}"));
    assert!(direct.stdout.split_whitespace().count() == 5, "{direct:?}");
    let piped = sandbox.shell(&format!("echo 'sesnir . pir' | $PARING generate chatty --prompt - {options}"));
    assert_eq!(piped.stdout, direct.stdout);
    // Of a file with several, each line is answered as if it were alone.
    sandbox.write(
        "some.jsonl",
        "{\"prompt\": \"sesnir . pir\"}\n\n{\"text\": \"tin nari pobalju\"}\n{\"text\": \"pir paslul kabousrael tunaefis\", \"id\": 7}\n",
    );
    let ran = sandbox.ok(&format!("generate chatty --prompt-file some.jsonl {options}"));
    let texts: Vec<Value> = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(texts.len(), 3);
    assert_eq!(texts[0]["text"].as_str().unwrap(), direct.stdout.trim_end_matches('\n'));
    let all = sandbox.json(&format!("generate chatty --prompt-file some.jsonl {options}"));
    for (answer, text) in all["answers"].as_array().unwrap().iter().zip(&texts) {
        assert_eq!(answer["text"], text["text"]);
    }
    let beams = sandbox.json("generate chatty --prompt-file some.jsonl --num-beams 3 --max-new-tokens 5");
    assert_eq!(beams["answers"].as_array().unwrap().len(), 3);
    sandbox.write(
        "chats.jsonl",
        "{\"messages\": [{\"role\": \"user\", \"content\": \"sesnir\"}]}\n{\"prompt\": \"sesnir\"}\n",
    );
    let chats = sandbox.json(&format!("generate chatty --prompt-file chats.jsonl --chat {options}"));
    assert_eq!(chats["answers"][0]["tokens"], chats["answers"][1]["tokens"]);
    assert_eq!(chats["answers"][0]["prompt_tokens"], 4);
    let brief = sandbox.json(&format!("generate chatty --prompt sesnir --chat --system gourt {options}"));
    assert_eq!(brief["prompt_tokens"], 7);
}

#[test]
fn an_answer_ends_before_a_stop_string() {
    let sandbox = chatty();
    run_on(&sandbox);
    let options = "--prompt sesnir --temperature 0 --max-new-tokens 20 --quiet";
    let whole = sandbox.json(&format!("generate chatty {options}"));
    let text = whole["text"].as_str().unwrap();
    let word = text.split_whitespace().nth(4).unwrap();
    for more in ["", "--num-beams 1"] {
        let cut = sandbox.json(&format!("generate chatty {options} --stop {word} {more}"));
        assert_eq!(cut["text"].as_str().unwrap(), &text[..text.find(word).unwrap()]);
        assert_eq!(cut["finish_reason"], "stop");
    }
    let cut = sandbox.json(&format!("generate chatty {options} --stop {word} --num-beams 2"));
    assert!(!cut["text"].as_str().unwrap().contains(word), "{cut}");
    // Tokens end with the one that completed the stop string, in a search too.
    let best = sandbox.json(&format!("generate chatty {options} --num-beams 2"));
    let word = best["text"].as_str().unwrap().split_whitespace().nth(2).unwrap();
    let cut = sandbox.json(&format!("generate chatty {options} --stop {word} --num-beams 2"));
    assert_eq!(ids(&cut["tokens"]), ids(&best["tokens"])[..3]);
    assert_eq!(cut["finish_reason"], "stop");
    let nothing = sandbox.json("generate chatty --prompt sesnir --num-beams 2 --max-new-tokens 0");
    assert_eq!((&nothing["tokens"], &nothing["finish_reason"]), (&json!([]), &json!("length")));
}

#[test]
fn compressed_models_run_as_they_are() {
    let sandbox = chatty();
    for (name, command) in [
        ("w4", "quantize demo --wbits 4 --groupsize 32 --method rtn"),
        ("fp8", "quantize demo --scheme FP8_DYNAMIC"),
        ("sparse", "prune demo --pattern 2:4 --method magnitude"),
    ] {
        sandbox.ok(&format!("{command} --out {name} --quiet"));
        sandbox.ok(&format!("decompress {name} --out {name}-dense --quiet"));
        let of = |model: &str| {
            sandbox.json(&format!("generate {model} --prompt sesnir --temperature 0 --dtype f32 -n 30 -q"))["tokens"]
                .clone()
        };
        // Activations are rounded by the first, and not by the second.
        if name != "fp8" {
            assert_eq!(of(name), of(&format!("{name}-dense")), "{name}");
        }
        assert!(!of(name).as_array().unwrap().is_empty());
    }
}

#[test]
fn options_without_effect_are_noted() {
    let sandbox = Sandbox::empty();
    let ran = sandbox.ok("generate demo --prompt sesnir -n 2 --temperature 0 --top-k 5 --length-penalty 2");
    let note = "note: --top-k, --length-penalty have no effect: the best token is taken, none is drawn, and there are no beams";
    assert_eq!(ran.stderr.lines().next(), Some(note), "{}", ran.stderr);
    let ran = sandbox.ok("generate demo --prompt sesnir -n 2 --num_beams 2 --top-p 0.5");
    assert!(ran.stderr.starts_with("note: --top-p has no effect: beam search draws no tokens"), "{}", ran.stderr);
    let chatty = chatty();
    chatty.write("chatty/generation_config.json", "{\"max_length\": 1}");
    let ran = chatty.ok("generate chatty --prompt sesnir");
    let note = "note: the prompt has 1 token, and the model's files allow 1 with the answer, which is empty; use --max-new-tokens";
    assert_eq!((ran.stdout.as_str(), ran.stderr.lines().next()), ("\n", Some(note)));
    let ran = sandbox.ok("generate demo --prompt sesnir -n 2 --temperature 0.5 --seed 3 --early-stopping never");
    assert!(ran.stderr.starts_with("note: --early-stopping has no effect: there are no beams"), "{}", ran.stderr);
}

#[test]
fn what_cannot_be_generated() {
    let sandbox = chatty();
    sandbox.write("bad.jsonl", "{\"prompt\": \"a\"}\n{\"prompt\": 1}\n");
    sandbox.write("empty.jsonl", "\n");
    sandbox.write("long.jsonl", json!({"prompt": "sesnir ".repeat(300)}).to_string());
    let many = "sesnir ".repeat(300);
    sandbox.write("long.txt", &many);
    fs::create_dir(sandbox.path("mute")).unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(sandbox.path("chatty").join(name), sandbox.path("mute").join(name)).unwrap();
    }
    sandbox.write("mute/generation_config.json", "{\"top_k\": -1}");
    for (arguments, code, words) in [
        ("generate demo --prompt sesnir --temperature -1", 2, "--temperature -1: must be above 0"),
        ("generate demo --prompt sesnir --top-p 0", 2, "--top-p 0: must be above 0 and at most 1"),
        ("generate demo --prompt sesnir --min-p 1.5", 2, "--min-p 1.5: must be between 0 and 1"),
        ("generate demo --prompt sesnir --num-beams 0", 2, "--num-beams"),
        ("generate demo --prompt sesnir --repetition-penalty 0", 2, "--repetition-penalty 0: must be above 0"),
        ("generate demo --prompt sesnir --prompt-file x", 2, "--prompt"),
        ("generate demo --prompt sesnir --system x", 2, "--chat"),
        ("generate demo --prompt sesnir --kv-cache int8", 2, "not one of f32, bf16, fp8"),
        ("generate demo --prompt-file none.txt", 1, "none.txt"),
        (
            "generate demo --prompt-file bad.jsonl",
            1,
            "bad.jsonl, line 2: expected an object with the field prompt or text",
        ),
        ("generate demo --prompt-file empty.jsonl", 1, "empty.jsonl: no line has a prompt"),
        ("generate demo --prompt-file long.txt", 1, "the prompt has 300 tokens, and the model's context is 256"),
        ("generate demo --prompt-file long.jsonl", 1, "long.jsonl, line 1: the prompt has 300 tokens"),
        ("generate demo --prompt sesnir -n 256", 1, "use at most --max-new-tokens 255"),
        ("generate demo --prompt ''", 1, "the prompt has no token"),
        ("generate demo --prompt sesnir --chat", 1, "messages need a chat template"),
        ("generate mute --prompt sesnir", 1, "top_k should be a whole number of at least 0, got -1"),
    ] {
        sandbox.refused(arguments, code, &[words]).unwrap();
    }
    sandbox.write("mute/generation_config.json", "{\"do_sample\": true, \"top_p\": 0}");
    let words = "generation_config.json: top_p should be above 0 and at most 1, got 0";
    sandbox.refused("generate mute --prompt sesnir", 1, &[words]).unwrap();
    sandbox.write("mute/generation_config.json", "{}");
    sandbox.refused("generate mute --prompt sesnir", 1, &["the model has none; add its tokenizer.json"]).unwrap();
}

#[test]
fn a_conversation_without_a_terminal() {
    let sandbox = chatty();
    let run = |lines: &str, options: &str| {
        sandbox.write("lines", lines);
        let ran = sandbox.shell(&format!("$PARING chat chatty --temperature 0 -n 6 {options} < lines"));
        assert_eq!(ran.code, Some(0), "{ran:?}");
        ran
    };
    let lines = "sesnir gourt\n\nvisae tesho\n/clear\nsesnir gourt\n/exit\nmore\n";
    let ran = run(lines, "--quiet");
    let answers: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(answers.len(), 3, "{}", ran.stdout);
    assert_eq!(answers[0], answers[2]);
    assert_eq!(ran.stderr, "");
    let turns = run(lines, "--quiet --json").json()["turns"].clone();
    let number = |turn: usize, key: &str| turns[turn][key].as_u64().unwrap();
    for (turn, answer) in answers.iter().enumerate() {
        assert_eq!(turns[turn]["text"].as_str().unwrap(), *answer);
    }
    // The second turn has the first one's tokens before its own, and another conversation none.
    assert_eq!((number(0, "cached_tokens"), number(2, "cached_tokens")), (0, 0));
    assert!(number(1, "cached_tokens") >= number(0, "prompt_tokens"), "{turns}");
    assert!(number(1, "prompt_tokens") - number(1, "cached_tokens") < 8, "{turns}");
    let with_system = run("sesnir gourt\n", "--system pir --json --quiet").json();
    assert_eq!(with_system["turns"][0]["prompt_tokens"].as_u64().unwrap(), number(0, "prompt_tokens") + 3);
}

#[test]
fn a_conversation_beyond_the_context() {
    let sandbox = chatty();
    let question = format!("{}\n", "gourt ".repeat(60).trim_end());
    sandbox.write("lines", question.repeat(8));
    let of = |options: &str| sandbox.shell(&format!("$PARING chat chatty --temperature 0 -n 6 {options} < lines"));
    let ran = of("--json");
    assert_eq!(ran.code, Some(1));
    let (object, error) = (ran.json(), "the model's context is 256");
    let message = object["error"]["message"].as_str().unwrap();
    assert!(message.contains(error) && message.ends_with("; --context-shift forgets the oldest turns"), "{object}");
    assert_eq!(object["turns"].as_array().unwrap().len(), 3);
    let ran = of("--context-shift");
    assert_eq!((ran.code, ran.stdout.lines().count()), (Some(0), 8), "{ran:?}");
    assert!(ran.stderr.contains("note: the context is full: the oldest 2 messages are forgotten"), "{}", ran.stderr);
}

#[cfg(target_os = "linux")]
#[test]
fn ctrl_c_stops_an_answer_and_then_the_program() {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::process::{Command, Stdio};

    // Positions without an end, and nothing that ends a text.
    let sandbox = Sandbox::empty();
    Model::golden("falcon_rw").write(&sandbox.path("model"));
    let vocab: Value = (0..64).map(|id| (format!("w{id}"), json!(id))).collect::<serde_json::Map<_, _>>().into();
    let tokenizer = json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "w0"}});
    sandbox.write("model/tokenizer.json", tokenizer.to_string());
    sandbox.write("model/chat_template.jinja", "{% for m in messages %}{{ m.content }} w1 {% endfor %}");
    sandbox.write("model/generation_config.json", "{\"eos_token_id\": []}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_paring"));
    command
        .args("chat model --temperature 0 --max-new-tokens 100000000 --quiet".split(' '))
        .current_dir(sandbox.path(""));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut input, mut output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    let interrupt =
        || assert!(Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status().unwrap().success());
    for _ in 0..2 {
        input.write_all(b"w5 w6\n").unwrap();
        // A word shows that it is answering.
        let mut byte = [0];
        output.read_exact(&mut byte).unwrap();
        interrupt();
        let mut rest = String::new();
        output.read_line(&mut rest).unwrap();
        assert!(rest.ends_with('\n'), "{rest}");
    }
    interrupt();
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(130), "{ended:?}");
    assert_eq!(String::from_utf8(ended.stderr).unwrap(), "error: stopped\n");
    assert!(Path::new(&sandbox.path("model")).is_dir());
}
