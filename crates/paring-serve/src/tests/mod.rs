//! Servers of the built-in model, and what clients get from them.

mod answers;
mod broken;
mod client;
mod limits;
mod scores;
mod stopping;
mod streams;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;

use paring_data::{Isolation, tokenizer};
use paring_format::Checkpoint;
use paring_generate::Engine;
use paring_model::{Arithmetic, CacheType, Precision, open};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::metrics::Metrics;
use crate::{Access, Limits, Model, Result, Server, Stopper};

use client::Client;

/// Writes roles as words that the tokenizer knows.
const TEMPLATE: &str = "{% for m in messages %}{% if m.content == 'gourt' %}{{ raise_exception('no gourt') }}{% endif %}\
    {{ {'system': 'pir', 'user': 'tin', 'assistant': 'lilt', 'tool': 'ka'}[m.role] }} {{ m.content }} ; {% endfor %}\
    {% if add_generation_prompt %}lilt {% endif %}";
/// Tokens of the built-in model.
const VOCAB: usize = 640;
/// Its context.
const CONTEXT: usize = 256;

/// A server at work. It is stopped when this is dropped.
struct Running {
    client: Client,
    stopper: Stopper,
    metrics: Arc<Metrics>,
    engine: Arc<Engine>,
    thread: Option<JoinHandle<Result<()>>>,
    _dir: TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stopper.stop();
        self.thread.take().map(JoinHandle::join);
    }
}

impl Running {
    /// A server with these bounds, and a key if there is one.
    fn start(limits: Limits, key: Option<&str>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let demo = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../paring-cli/demo");
        for name in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
            std::fs::copy(demo.join(name), dir.path().join(name)).unwrap();
        }
        std::fs::write(dir.path().join("chat_template.jinja"), TEMPLATE).unwrap();
        let checkpoint = Arc::new(Checkpoint::open(dir.path()).unwrap());
        let prompts = Arc::new(tokenizer::tokenizer(&checkpoint, &Isolation::default()).unwrap());
        let decoder = open(checkpoint, Arithmetic::from(Precision::Bf16)).unwrap();
        let engine = Arc::new(Engine::new(Arc::from(decoder), CacheType::F32).unwrap());
        let (name, answers) = ("org/demo".into(), prompts.another());
        let model = Model { name, engine: engine.clone(), prompts, answers, eos: Vec::new() };
        let key = key.map(String::from);
        let access = Access { address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), key: key.clone(), open: false };
        let server = Server::bind(access, limits).unwrap();
        let (client, stopper) = (Client { address: server.address().unwrap(), key }, server.stopper());
        let metrics = Arc::new(Metrics::default());
        let counts = metrics.clone();
        let (ready, is_ready) = channel();
        let run = move || server.run_counted(model, counts, move || ready.send(()).unwrap());
        let thread = Some(std::thread::spawn(run));
        is_ready.recv().unwrap();
        Self { client, stopper, metrics, engine, thread, _dir: dir }
    }

    fn new() -> Self {
        Self::start(Limits::default(), None)
    }

    /// The answer to a completion, which has to be one.
    fn complete(&self, body: Value) -> Value {
        self.client.ok("/v1/completions", &body)
    }

    /// The answer to a chat, which has to be one.
    fn chat(&self, body: Value) -> Value {
        self.client.ok("/v1/chat/completions", &body)
    }
}

/// The texts of an answer.
fn texts(answer: &Value) -> Vec<&str> {
    let text = |choice: &'_ Value| choice.get("text").or_else(|| choice.pointer("/message/content")).cloned();
    let choices = answer["choices"].as_array().unwrap();
    assert!(choices.iter().all(|choice| text(choice).is_some()), "{answer}");
    choices.iter().map(|c| c["text"].as_str().or_else(|| c["message"]["content"].as_str()).unwrap()).collect()
}

/// Messages with one question.
fn question() -> Value {
    json!([{"role": "system", "content": "sesnir"}, {"role": "user", "content": "visae tesho"}])
}
