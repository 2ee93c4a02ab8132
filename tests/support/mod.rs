//! Help for the tests of the binary: a folder to run it in, small checkpoints, readers of its output.

// Each test file uses some of it.
#![allow(dead_code)]

pub mod draws;
pub mod hub;
pub mod pickles;
#[cfg(target_os = "linux")]
pub mod stalling;
pub mod wording;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use paring_format::writer::{NamedTensor, write_file};
use paring_format::{Checkpoint, Dtype};
use serde_json::Value;

/// The folder of golden data.
pub fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(path)
}

/// Puts a tokenizer that knows two words beside the model.
pub fn tokenizer(sandbox: &Sandbox) {
    let text = r#"{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "one": 1, "two": 2}, "unk_token": "[UNK]"}}"#;
    sandbox.write("model/tokenizer.json", text);
}

/// JSON of a file.
pub fn json_file(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// A temporary folder that the binary runs in, so that commands can name files without their paths.
pub struct Sandbox {
    dir: tempfile::TempDir,
}

/// A run of the binary that ended.
#[derive(Debug)]
pub struct Ran {
    /// Exit code; `None` after a signal.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Sandbox {
    /// An empty folder.
    pub fn empty() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// The golden Llama in the folder `model`, its tokens in `calib.safetensors` and `eval.safetensors`.
    pub fn new() -> Self {
        Self::with("llama")
    }

    /// As [`Sandbox::new`], with another golden model that has tokens.
    pub fn with(name: &str) -> Self {
        let sandbox = Self::empty();
        Model::golden(name).write(&sandbox.path("model"));
        let tokens = Checkpoint::open_file(&golden(&format!("models/{name}/tokens.safetensors"))).unwrap();
        for (name, to) in [("calibration", "calib.safetensors"), ("evaluation", "eval.safetensors")] {
            let ids = tensor(&tokens, name);
            write_file(&sandbox.path(to), vec![NamedTensor { name: "input_ids".into(), ..ids }]).unwrap();
        }
        sandbox
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    /// Runs the binary; arguments are separated by spaces.
    pub fn run(&self, arguments: &str) -> Ran {
        self.run_with(arguments, &[])
    }

    /// As [`Sandbox::run`], with these variables in the environment.
    pub fn run_with(&self, arguments: &str, variables: &[(&str, &str)]) -> Ran {
        let mut command = self.command(env!("CARGO_BIN_EXE_paring"));
        // Two quotes stand for an empty argument.
        command.args(arguments.split_whitespace().map(|argument| if argument == "''" { "" } else { argument }));
        command.envs(variables.iter().copied());
        self.run_command(command)
    }

    /// Runs a shell script, with the binary as `$PARING`.
    pub fn shell(&self, script: &str) -> Ran {
        let mut command = self.command("sh");
        command.args(["-c", script]).env("PARING", env!("CARGO_BIN_EXE_paring"));
        self.run_command(command)
    }

    /// A program that never reaches a hub unless the caller names one: outer settings are cleared, the cache lies in this
    /// folder, and nobody listens at the address.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for variable in hub::VARIABLES {
            command.env_remove(variable);
        }
        command.env("HF_HOME", self.path("hf")).env("HF_ENDPOINT", hub::NOBODY);
        command
    }

    fn run_command(&self, mut command: Command) -> Ran {
        let Output { status, stdout, stderr } = command.current_dir(self.dir.path()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
    }

    /// Runs the binary, which must succeed.
    pub fn ok(&self, arguments: &str) -> Ran {
        let ran = self.run(arguments);
        assert_eq!(ran.code, Some(0), "paring {arguments}\n{}", ran.stderr);
        assert_eq!(wording::debug_text(&ran.stderr), None, "paring {arguments}\n{}", ran.stderr);
        ran
    }

    /// Runs the binary, which must fail with this exit code, one line of error that holds all of `words`, and nothing in
    /// the folder `out` that could be mistaken for a model. Says what was different.
    pub fn refused(&self, arguments: &str, code: i32, words: &[&str]) -> Result<(), String> {
        self.refuses(&self.run(arguments), code, words).map_err(|text| format!("paring {arguments}\n{text}"))
    }

    /// As [`Sandbox::refused`], for a run that ended.
    pub fn refuses(&self, ran: &Ran, code: i32, words: &[&str]) -> Result<(), String> {
        let stderr = &ran.stderr;
        let errors: Vec<&str> = stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        let missing: Vec<&&str> = words.iter().filter(|word| !stderr.contains(**word)).collect();
        // The parser of options explains misuse in more lines.
        let lines = if code == 2 { 1 } else { stderr.lines().count() };
        let wrong = if ran.code != Some(code) {
            format!("exit code {:?}, expected {code}", ran.code)
        } else if errors.len() != 1 || lines != 1 {
            "expected one line of error".to_string()
        } else if !missing.is_empty() {
            format!("the error does not say {missing:?}")
        } else if !(ran.stdout.is_empty() || ran.is_json_error()) {
            "a result".to_string()
        } else if let Some(found) = wording::debug_text(stderr) {
            format!("text for programmers, {found}")
        } else if self.holds_model("out") {
            "it left a config.json".to_string()
        } else {
            return Ok(());
        };
        Err(format!("{wrong}: {stderr}{}", ran.stdout))
    }

    /// Runs the binary with `--json`, which must succeed, and returns the object on the last line.
    pub fn json(&self, arguments: &str) -> Value {
        self.ok(&format!("{arguments} --json")).json()
    }

    /// The perplexity of a model on `eval.safetensors`, in windows of 32 tokens.
    pub fn perplexity(&self, model: &str) -> f64 {
        let result = self.json(&format!("eval {model} eval.safetensors --seqlen 32 --quiet"));
        result["perplexity"].as_f64().unwrap()
    }

    pub fn open(&self, model: &str) -> Checkpoint {
        Checkpoint::open(&self.path(model)).unwrap()
    }

    /// True if the folder holds something that a program would take for a model.
    pub fn holds_model(&self, dir: &str) -> bool {
        self.path(dir).join("config.json").exists()
    }
}

impl Ran {
    /// True if stdout holds the object that a failed command prints for programs, and nothing else.
    fn is_json_error(&self) -> bool {
        serde_json::from_str::<Value>(&self.stdout)
            .is_ok_and(|object| object["error"]["code"] == self.code.unwrap_or(0))
    }

    /// The object on the last line of stdout.
    pub fn json(&self) -> Value {
        let last = self.stdout.lines().last().unwrap_or_default();
        serde_json::from_str(last).unwrap_or_else(|e| panic!("{e}: {last}"))
    }
}

/// A checkpoint in memory, to change and write.
#[derive(Clone)]
pub struct Model {
    pub config: Value,
    pub tensors: Vec<NamedTensor>,
}

impl Model {
    /// A folder of `tests/golden/models`.
    pub fn golden(name: &str) -> Self {
        Self::read(&Checkpoint::open(&golden("models").join(name)).unwrap())
    }

    pub fn read(checkpoint: &Checkpoint) -> Self {
        let tensors = checkpoint.names().map(|name| tensor(checkpoint, name)).collect();
        Self { config: checkpoint.config().clone(), tensors }
    }

    pub fn tensor(&mut self, name: &str) -> &mut NamedTensor {
        self.tensors.iter_mut().find(|t| t.name == name).unwrap()
    }

    /// Replaces one value of a float32 tensor.
    pub fn set(&mut self, name: &str, element: usize, value: f32) {
        self.tensor(name).bytes[element * 4..][..4].copy_from_slice(&value.to_le_bytes());
    }

    /// The same values in another type.
    pub fn stored_as(mut self, dtype: Dtype) -> Self {
        for t in &mut self.tensors {
            t.bytes = dtype.encode(&t.dtype.decode_f32(&t.bytes));
            t.dtype = dtype;
        }
        let name = if dtype == Dtype::Bf16 { "bfloat16" } else { "float16" };
        self.config["dtype"] = name.into();
        self.config["torch_dtype"] = name.into();
        self
    }

    /// Writes `config.json` and a single `model.safetensors`.
    pub fn write(&self, dir: &Path) {
        fs::create_dir_all(dir).unwrap();
        fs::write(dir.join("config.json"), self.config.to_string()).unwrap();
        write_file(&dir.join("model.safetensors"), self.tensors.clone()).unwrap();
    }
}

/// A tensor of an open checkpoint.
pub fn tensor(checkpoint: &Checkpoint, name: &str) -> NamedTensor {
    let info = checkpoint.info(name).unwrap_or_else(|| panic!("no tensor {name}"));
    let (dtype, shape) = (info.dtype, info.shape.clone());
    NamedTensor { name: name.into(), dtype, shape, bytes: checkpoint.read(name).unwrap() }
}

/// A float tensor's values.
pub fn floats(checkpoint: &Checkpoint, name: &str) -> Vec<f32> {
    let t = tensor(checkpoint, name);
    t.dtype.decode_f32(&t.bytes)
}

pub fn f32_tensor(name: &str, shape: &[usize], values: &[f32]) -> NamedTensor {
    NamedTensor { name: name.into(), dtype: Dtype::F32, shape: shape.to_vec(), bytes: Dtype::F32.encode(values) }
}

/// Token ids as `input_ids` of 64-bit integers.
pub fn token_file(path: &Path, shape: &[usize], ids: &[i64]) {
    let bytes = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    let tensor = NamedTensor { name: "input_ids".into(), dtype: Dtype::I64, shape: shape.to_vec(), bytes };
    write_file(path, vec![tensor]).unwrap();
}

/// Module paths of the linears inside the blocks.
pub fn linears(checkpoint: &Checkpoint) -> BTreeSet<String> {
    let modules = checkpoint.names().filter_map(|name| name.rsplit_once('.')).map(|(module, _)| module);
    modules.filter(|module| module.ends_with("_proj")).map(String::from).collect()
}

/// The dense weights of the linears inside the blocks, whatever they are stored as.
pub fn weights(checkpoint: &Checkpoint) -> BTreeMap<String, Vec<f32>> {
    let dense = |module: &String| checkpoint.read_module(module).unwrap().to_dense();
    linears(checkpoint).into_iter().map(|module| (module.clone(), dense(&module))).collect()
}

/// Weight files and config of a folder, by name.
pub fn model_bytes(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let part = |name: &String| name == "config.json" || name.starts_with("model");
    names.filter(part).map(|name| (name.clone(), fs::read(dir.join(&name)).unwrap())).collect()
}

/// Splits the single file of a model into two shards with an index.
pub fn split(dir: &Path) {
    let checkpoint = Checkpoint::open(dir).unwrap();
    let tensors: Vec<NamedTensor> = checkpoint.names().map(|name| tensor(&checkpoint, name)).collect();
    let mut map = serde_json::Map::new();
    for (number, part) in tensors.chunks(tensors.len().div_ceil(2)).enumerate() {
        let file = format!("model-{:05}-of-00002.safetensors", number + 1);
        map.extend(part.iter().map(|tensor| (tensor.name.clone(), Value::from(file.as_str()))));
        write_file(&dir.join(file), part.to_vec()).unwrap();
    }
    fs::remove_file(dir.join("model.safetensors")).unwrap();
    let index = serde_json::json!({"metadata": {}, "weight_map": map});
    fs::write(dir.join("model.safetensors.index.json"), index.to_string()).unwrap();
}

/// A function that breaks a model.
pub type Break = fn(&Sandbox);

/// Breaks a model, tries to measure and to quantize it, and expects both to fail with all of `words`.
pub fn check(cases: &[(&str, Break, &[&str])]) {
    let mut wrong = Vec::new();
    for (what, change, words) in cases {
        let sandbox = Sandbox::new();
        change(&sandbox);
        for command in
            ["eval model eval.safetensors --seqlen 32", "quantize model calib.safetensors --wbits 4 --out out"]
        {
            if let Err(text) = sandbox.refused(&format!("{command} --quiet"), 1, words) {
                wrong.push(format!("{what}: {text}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
