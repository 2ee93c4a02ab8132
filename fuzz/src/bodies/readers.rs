//! Targets of files beside the weights and of users' files: configurations of models, tokenizers, recipes, data.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use paring::Precision;
use paring::plan::file::{self as recipe_file, Known};
use paring_data::hub::{Listing, Repo, RepoKind};
use paring_data::{Data, Isolation, Sampling, Tokenizer, records, tokenizer};
use paring_format::Checkpoint;

use super::{Input, folder, is_good, put};

/// A small model, whose config is not this one's.
pub(super) static WEIGHTS: &[u8] = include_bytes!("../../../tests/golden/models/llama/model.safetensors");
pub(super) const CONFIG: &[u8] = include_bytes!("../../../tests/golden/models/llama/config.json");

/// Words and the letters of others, and a chat template.
const TOKENIZER: &[u8] = br#"{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
    "normalizer": null, "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
    "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "one": 1, "two": 2}, "unk_token": "[UNK]"}}"#;
const TEMPLATE: &[u8] = b"{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}";

/// A model is opened by a config.json.
pub fn model_config(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let checkpoint = match Checkpoint::from_memory("model", text, &[("model.safetensors", WEIGHTS)]) {
        Ok(checkpoint) => Arc::new(checkpoint),
        Err(error) => return is_good(Err::<(), _>(error)),
    };
    is_good(checkpoint.quant_config());
    // Listing what is missing of ten thousand blocks takes a second, and teaches nothing.
    if checkpoint.config().get("num_hidden_layers").and_then(serde_json::Value::as_u64).is_some_and(|n| n > 100) {
        return false;
    }
    let Ok(decoder) = paring_model::families::open(checkpoint, Precision::F32).inspect_err(super::assert_text) else {
        return false;
    };
    let sizes = decoder.sizes();
    (0..sizes.blocks).for_each(|i| assert!(!decoder.linears(i).is_empty(), "block {i} has no linears"));
    true
}

fn tokenizer_of(folder: &Path, isolation: &Isolation) -> paring_data::Result<Option<Tokenizer>> {
    Ok(tokenizer::tokenizer(&Checkpoint::open(folder)?, isolation))
}

/// This program as a worker: its `main` calls the worker's if it is started so.
static PROCESS: LazyLock<Isolation> = LazyLock::new(|| Isolation::Process {
    program: std::env::current_exe().expect("the path of this program"),
    patience: Duration::from_secs(2),
});

/// Short windows of anything.
const SAMPLING: Sampling = Sampling { nsamples: Some(3), seqlen: Some(4), seed: None, positions: 64 };

/// A tokenizer.json is read, and makes tokens of a text: in a process of its own, as in the program, which ends what takes too
/// much memory or time.
pub fn tokenizer(data: &[u8]) -> bool {
    let files: [(&str, &[u8]); 3] = [
        ("config.json", b"{}"),
        ("model.safetensors", WEIGHTS),
        ("tokenizer_config.json", br#"{"bos_token": "[UNK]"}"#),
    ];
    let folder = folder("tokenizer", &files);
    put(&folder.join("tokenizer.json"), data);
    let Ok(tokenizer) = tokenizer_of(&folder, &PROCESS).inspect_err(super::assert_text) else { return false };
    let text = "one two  three\n1234 \u{e9}\u{304b}\u{1f600} [UNK]<s></s> two";
    let data = Data::text("text", text.into());
    is_good(data.evaluation(tokenizer.as_ref(), Some(2), 64, None))
}

/// Tokenizer and template for text and messages.
static READS: LazyLock<Tokenizer> = LazyLock::new(|| {
    let folder = folder("reads", &model_files(TEMPLATE));
    tokenizer_of(&folder, &Isolation::Thread).expect("files of ours").expect("a tokenizer")
});

fn model_files(template: &[u8]) -> [(&str, &[u8]); 4] {
    [
        ("config.json", CONFIG),
        ("model.safetensors", WEIGHTS),
        ("tokenizer.json", TOKENIZER),
        ("chat_template.jinja", template),
    ]
}

/// A template makes a text of messages.
pub fn chat_template(data: &[u8]) -> bool {
    let files = model_files(b"");
    let folder = folder("chat", &files);
    put(&folder.join("chat_template.jinja"), data);
    let messages = folder.join("messages.jsonl");
    put(&messages, br#"{"messages": [{"role": "system", "content": "one"}, {"role": "user", "content": "two one"}]}"#);
    let Ok(tokenizer) = tokenizer_of(&folder, &Isolation::Thread).inspect_err(super::assert_text) else { return false };
    let Ok(data) = Data::open(&messages, "messages").inspect_err(super::assert_text) else { return false };
    is_good(data.evaluation(tokenizer.as_ref(), Some(2), 64, None))
}

/// Windows to calibrate on and to measure with are made of a file with this name, whose first byte chooses the field.
fn windows(name: &str, data: &[u8]) -> bool {
    let mut input = Input(data);
    let field = if input.byte() & 1 == 0 { "text" } else { "messages" };
    let path = folder("data", &[]).join(name);
    put(&path, input.0);
    let Ok(data) = Data::open(&path, field).inspect_err(super::assert_text) else { return false };
    let measured = is_good(data.evaluation(Some(&READS), Some(4), 64, Some(3)));
    is_good(data.calibration(Some(&READS), &SAMPLING)) || measured
}

/// Lines of JSON.
pub fn jsonl(data: &[u8]) -> bool {
    windows("lines.jsonl", data)
}

/// Lines of JSON in gzip or, if the first byte is above 127, in Zstandard.
pub fn packed_lines(data: &[u8]) -> bool {
    let zstd = data.first().is_some_and(|&first| first > 127);
    windows(if zstd { "lines.jsonl.zst" } else { "lines.jsonl.gz" }, data)
}

/// A Parquet file.
pub fn parquet(data: &[u8]) -> bool {
    windows("rows.parquet", data)
}

/// Rows of several fields, as tasks have them, in Parquet or, if the first byte is odd, in JSON.
pub fn records(data: &[u8]) -> bool {
    const FIELDS: [&str; 6] = ["question", "choices", "answer", "label", "text", "messages"];
    let mut input = Input(data);
    let path = folder("data", &[]).join(if input.byte() & 1 == 0 { "fields.parquet" } else { "fields.jsonl" });
    put(&path, input.0);
    is_good(records::each(&path, &[], &FIELDS, &mut |_| Ok(true)))
}

/// Rows of tokens that torch saved.
pub fn pickled_tokens(data: &[u8]) -> bool {
    rows("rows.pth", data)
}

/// Rows of tokens in a safetensors file.
pub fn token_file(data: &[u8]) -> bool {
    rows("rows.safetensors", data)
}

fn rows(name: &str, data: &[u8]) -> bool {
    let path = folder("data", &[]).join(name);
    put(&path, data);
    let Ok(data) = Data::open(&path, "text").inspect_err(super::assert_text) else { return false };
    let measured = is_good(data.evaluation(None, Some(2), 64, Some(3)));
    is_good(data.calibration(None, &Sampling { nsamples: None, ..SAMPLING })) || measured
}

/// A recipe of our own form.
pub fn recipe_toml(data: &[u8]) -> bool {
    recipe("recipe.toml", data)
}

/// A recipe of llm-compressor's form.
pub fn recipe_yaml(data: &[u8]) -> bool {
    recipe("recipe.yaml", data)
}

fn recipe(name: &str, data: &[u8]) -> bool {
    let path: PathBuf = folder("recipe", &[]).join(name);
    put(&path, data);
    let names = |text: &str| text.split(' ').map(String::from).collect();
    let known = Known {
        options: names(
            "method wbits groupsize scheme sparsity pattern ignore percdamp blocksize actorder sym seqlen nsamples",
        ),
        of_groups: names("wbits groupsize scheme sym"),
    };
    is_good(recipe_file::read(&path, &known))
}

/// A hub's list of the files of a repository.
pub fn hub_list(data: &[u8]) -> bool {
    let repo = Repo::new(RepoKind::Model, "org/name", None).expect("a name");
    let Ok(listing) = Listing::parse(&repo, data).inspect_err(super::assert_text) else { return false };
    for file in &listing.files {
        let mut parts = Path::new(&file.path).components();
        assert!(parts.all(|part| matches!(part, std::path::Component::Normal(_))), "{:?} leads elsewhere", file.path);
    }
    true
}
