//! Opening a checkpoint: a folder with `config.json` and weights, or a model built into the program. Weights are
//! safetensors files, or else the files of `torch.save` ([`pickle`]).
//!
//! Files are mapped, and a tensor is copied out when it is asked for. What headers say is checked once, when the checkpoint
//! is opened; after that, a tensor that is listed can be read.

mod digest;
mod gather;
mod linear;
mod listed;
pub mod pickle;
mod quant;
mod read;
mod shard;
mod sparse;
mod tensor;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::RwLock;

use serde_json::Value;

use crate::names::{CONFIG, INDEX, JOURNAL, PICKLE, PICKLE_INDEX, SINGLE};
use crate::{Error, Result, files};
use quant::Quant;
pub(crate) use shard::{Entry, Extent, Shard, ShardKind, one_line};

pub use digest::FileSample;
pub use gather::OpenOptions;
pub use linear::LinearFormat;
pub use listed::read_index;
pub use tensor::TensorInfo;

/// An open checkpoint.
#[derive(Debug)]
pub struct Checkpoint {
    origin: Origin,
    config: Value,
    /// Absent when the configuration holds one that cannot be read; the error then comes with the first question.
    quant: Option<Option<Quant>>,
    /// File name of the list of shards, if there is one.
    index: Option<&'static str>,
    shards: Vec<Shard>,
    tensors: BTreeMap<String, TensorInfo>,
    /// Names of the parts of sparse tensors.
    parts: BTreeSet<String>,
    options: OpenOptions,
    notes: Vec<String>,
    /// Names that were not stored and the names of what they share their numbers with, as headers list them.
    removed: Vec<(String, String)>,
    /// Other names of stored tensors.
    other_names: RwLock<BTreeMap<String, String>>,
}

#[derive(Debug)]
enum Origin {
    Folder(PathBuf),
    BuiltIn(String),
}

impl Checkpoint {
    /// Opens the checkpoint in a folder, and checks the headers of all its shards.
    ///
    /// Prefers safetensors over pickles and a single file over an index, as the transformers library does. Errors when
    /// a file is missing, is cut off, says things about itself that are not so, or disagrees with another one.
    pub fn open(dir: &Path) -> Result<Checkpoint> {
        Checkpoint::open_with(dir, OpenOptions::default())
    }

    /// As [`Checkpoint::open`], with choices.
    pub fn open_with(dir: &Path, options: OpenOptions) -> Result<Checkpoint> {
        if !dir.is_dir() {
            return Err(Error::NotAFolder { path: dir.to_path_buf(), reason: not_a_folder(dir) });
        }
        let config_path = dir.join(CONFIG);
        if !config_path.is_file() {
            let path = dir.to_path_buf();
            let begun = dir.join(JOURNAL).is_file();
            let missing = |path| Error::MissingConfig { path, hint: advice(dir, A_MODEL) };
            return Err(if begun { Error::NotFinished { path } } else { missing(path) });
        }
        let config = read_json(&config_path)?;
        let mut checkpoint = Checkpoint::empty(Origin::Folder(dir.to_path_buf()), config)?;
        checkpoint.options = options;
        let ways = [(SINGLE, INDEX, ShardKind::Safetensors), (PICKLE, PICKLE_INDEX, ShardKind::Pickle)];
        for (single, index, kind) in ways {
            if dir.join(single).is_file() {
                checkpoint.add(Shard::map(dir, single, kind)?, &BTreeMap::new())?;
                return checkpoint.completed();
            }
            if dir.join(index).is_file() {
                checkpoint.add_listed(dir, index, kind)?;
                return checkpoint.completed();
            }
        }
        Err(Error::NoWeights { path: dir.to_path_buf(), hint: advice(dir, "download the model again") })
    }

    /// Opens a model built into the program: the text of its `config.json` and its shards, each with a file name.
    pub fn from_memory(name: &str, config_json: &str, shards: &[(&'static str, &'static [u8])]) -> Result<Checkpoint> {
        let origin = Origin::BuiltIn(name.to_string());
        let config = parse_json(&Path::new(name).join(CONFIG), config_json.as_bytes())?;
        let mut checkpoint = Checkpoint::empty(origin, config)?;
        for &(file, bytes) in shards {
            checkpoint.add(Shard::built_in(file, bytes), &BTreeMap::new())?;
        }
        checkpoint.completed()
    }

    /// Opens a single safetensors file, of any name, as a checkpoint without a configuration.
    pub fn open_file(path: &Path) -> Result<Checkpoint> {
        let dir = path.parent().unwrap_or(Path::new("")).to_path_buf();
        let mut checkpoint = Checkpoint::empty(Origin::Folder(dir), Value::Object(Default::default()))?;
        checkpoint.add(Shard::open(path, ShardKind::Safetensors)?, &BTreeMap::new())?;
        checkpoint.completed()
    }

    /// Opens some safetensors files of a folder whose index and configuration are not written yet; `config` will be it.
    pub fn open_unfinished(dir: &Path, files: &[String], config: Value) -> Result<Checkpoint> {
        let mut checkpoint = Checkpoint::empty(Origin::Folder(dir.to_path_buf()), config)?;
        for file in files {
            checkpoint.add(Shard::map(dir, file, ShardKind::Safetensors)?, &BTreeMap::new())?;
        }
        checkpoint.completed()
    }

    /// Replaces sparse parts by the tensors they encode, and reads the quantization, which the tensors settle.
    fn completed(mut self) -> Result<Checkpoint> {
        self.join_sparse()?;
        self.add_removed_names();
        self.quant = self.parse_quant().ok();
        Ok(self)
    }

    fn empty(origin: Origin, config: Value) -> Result<Checkpoint> {
        let checkpoint = Checkpoint {
            origin,
            config,
            quant: None,
            index: None,
            shards: Vec::new(),
            tensors: BTreeMap::new(),
            parts: BTreeSet::new(),
            options: OpenOptions::default(),
            notes: Vec::new(),
            removed: Vec::new(),
            other_names: RwLock::default(),
        };
        if !checkpoint.config.is_object() {
            return Err(Error::BadJson { path: checkpoint.config_path(), reason: "not a JSON object".into() });
        }
        Ok(checkpoint)
    }

    /// The whole `config.json`.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// The path of `config.json`; for a built-in model a path that only serves messages.
    pub fn config_path(&self) -> PathBuf {
        match &self.origin {
            Origin::Folder(dir) => dir.join(CONFIG),
            Origin::BuiltIn(name) => Path::new(name).join(CONFIG),
        }
    }

    /// The folder; `None` for a built-in model.
    pub fn dir(&self) -> Option<&Path> {
        match &self.origin {
            Origin::Folder(dir) => Some(dir),
            Origin::BuiltIn(_) => None,
        }
    }

    /// The list of shards that the checkpoint was opened by; `None` when it is one file or built in.
    pub fn index_path(&self) -> Option<PathBuf> {
        self.dir().zip(self.index).map(|(dir, index)| dir.join(index))
    }

    /// The folder or the name of the built-in model, for people.
    pub fn describe(&self) -> String {
        match &self.origin {
            Origin::Folder(dir) => dir.display().to_string(),
            Origin::BuiltIn(name) => format!("{name} (built in)"),
        }
    }

    /// Names of the weight files.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.shards.iter().map(|shard| shard.file.as_str())
    }

    /// Names of all tensors, sorted; sparse ones by what they stand for.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Bytes of all tensors together, as they are stored.
    pub fn total_bytes(&self) -> u64 {
        self.tensors.values().map(|info| info.stored_bytes() as u64).sum()
    }

    /// Bytes of all weight files together, headers included.
    pub fn file_bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.len() as u64).sum()
    }

    fn need(&self, name: &str) -> Result<&TensorInfo> {
        self.info(name).ok_or_else(|| self.missing(name))
    }

    /// The error for a tensor that is not there, with its nearest relatives.
    fn missing(&self, name: &str) -> Error {
        let mut prefix = name;
        while let Some((parent, _)) = prefix.rsplit_once('.') {
            prefix = parent;
            let start = format!("{prefix}.");
            let near: Vec<&str> = self
                .tensors
                .range(start.clone()..)
                .map(|(n, _)| n.as_str())
                .take_while(|n| n.starts_with(&start))
                .take(4)
                .collect();
            if !near.is_empty() {
                return self.missing_near(name, format!("nearest it has {}", near.join(", ")));
            }
        }
        let near = match self.names().next() {
            Some(first) => format!("it has {} others, such as {first}", self.tensors.len()),
            None => "it has none at all".to_string(),
        };
        self.missing_near(name, near)
    }

    fn missing_near(&self, name: &str, near: String) -> Error {
        Error::MissingTensor { tensor: name.to_string(), file: self.describe(), near }
    }
}

fn read_json(path: &Path) -> Result<Value> {
    parse_json(path, &files::read(path, files::SETTINGS)?)
}

fn parse_json(path: &Path, bytes: &[u8]) -> Result<Value> {
    serde_json::from_slice(bytes)
        .map_err(|error| Error::BadJson { path: path.to_path_buf(), reason: format!("not valid JSON: {error}") })
}

/// Advice where only a GGUF file is there.
const NO_GGUF: &str = "GGUF is not read; use the original Hugging Face folder";
const A_MODEL: &str = "a model is a folder with config.json and weights";

/// The reason why a path that is no folder is no checkpoint, and what to name instead.
fn not_a_folder(path: &Path) -> String {
    if is_gguf(path) && path.is_file() {
        NO_GGUF.into()
    } else if path.is_file() {
        "a file, not a folder; name the folder of the model, which has config.json and weights".into()
    } else {
        format!("not found; {A_MODEL}, or a hub name such as org/model")
    }
}

fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}

/// Advice about the weights that a folder holds instead of ones that can be read; `otherwise` if there are none.
fn advice(dir: &Path, otherwise: &str) -> String {
    /// Files of a folder that are looked at.
    const LOOKED_AT: usize = 1000;
    let other = ["tf_model.h5", "flax_model.msgpack", "consolidated.00.pth"];
    if let Some(name) = other.iter().find(|name| dir.join(name).is_file()) {
        return format!("it has {name}: convert it to safetensors first");
    }
    let files = std::fs::read_dir(dir).into_iter().flatten().take(LOOKED_AT).flatten();
    match files.map(|entry| entry.path()).find(|path| is_gguf(path)) {
        Some(path) => {
            let name = path.file_name().unwrap_or_default().display().to_string();
            format!("it has {name}: {NO_GGUF}")
        }
        None => otherwise.into(),
    }
}

/// The first few names of a list, and the number of the others.
pub fn few<T: AsRef<str>>(names: &[T]) -> String {
    /// Names that are shown.
    const SHOWN: usize = 4;
    let mut shown: Vec<String> = names.iter().take(SHOWN).map(|name| name.as_ref().to_string()).collect();
    if names.len() > SHOWN {
        shown.push(format!("{} more", names.len() - SHOWN));
    }
    shown.join("; ")
}
