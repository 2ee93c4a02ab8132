//! Opening a checkpoint: a folder with `config.json` and weights, or a model built into the program. Weights are
//! safetensors files, or else the files of `torch.save` ([`pickle`]).
//!
//! Files are mapped, and a tensor is copied out when it is asked for. What headers say is checked once, when the checkpoint
//! is opened; after that, a tensor that is listed can be read.

mod digest;
mod linear;
mod listed;
pub mod pickle;
mod read;
mod shard;
mod sparse;
mod tensor;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::names::{CONFIG, INDEX, JOURNAL, PICKLE, PICKLE_INDEX, SINGLE};
use crate::{Error, QuantConfig, Result, files};
use shard::{Shard, ShardKind};
use tensor::{Location, ShardExtent};

pub use digest::FileSample;
pub use linear::LinearFormat;
pub use listed::read_index;
pub use tensor::TensorInfo;

/// An open checkpoint.
#[derive(Debug)]
pub struct Checkpoint {
    origin: Origin,
    config: Value,
    /// Absent when the configuration holds one that cannot be read; the error then comes with the first question.
    quant: Option<Option<QuantConfig>>,
    /// File name of the list of shards, if there is one.
    index: Option<&'static str>,
    shards: Vec<Shard>,
    tensors: BTreeMap<String, TensorInfo>,
    /// Names of the parts of sparse tensors.
    parts: BTreeSet<String>,
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
    /// a file is missing, is cut off, or says things about itself that are not so.
    pub fn open(dir: &Path) -> Result<Checkpoint> {
        if !dir.is_dir() {
            return Err(Error::NotAFolder { path: dir.to_path_buf() });
        }
        let config_path = dir.join(CONFIG);
        if !config_path.is_file() {
            let path = dir.to_path_buf();
            let begun = dir.join(JOURNAL).is_file();
            return Err(if begun { Error::NotFinished { path } } else { Error::MissingConfig { path } });
        }
        let config = read_json(&config_path)?;
        let mut checkpoint = Checkpoint::empty(Origin::Folder(dir.to_path_buf()), config)?;
        let ways = [(SINGLE, INDEX, ShardKind::Safetensors), (PICKLE, PICKLE_INDEX, ShardKind::Pickle)];
        for (single, index, kind) in ways {
            if dir.join(single).is_file() {
                checkpoint.add(Shard::map(dir, single, kind)?)?;
                return checkpoint.with_sparse_joined();
            }
            if dir.join(index).is_file() {
                checkpoint.add_listed(dir, index, kind)?;
                return checkpoint.with_sparse_joined();
            }
        }
        Err(Error::NoWeights { path: dir.to_path_buf(), hint: other_weights(dir) })
    }

    /// Adds the shards that an index lists.
    fn add_listed(&mut self, dir: &Path, index: &'static str, kind: ShardKind) -> Result<()> {
        self.index = Some(index);
        let index_path = dir.join(index);
        let weight_map = read_index(&index_path)?;
        let mut files: Vec<&String> = weight_map.values().collect();
        files.sort_unstable();
        files.dedup();
        for file in files {
            if !dir.join(file).is_file() {
                return Err(Error::MissingShard { index: index_path, shard: file.clone() });
            }
            self.add(Shard::map(dir, file, kind)?)?;
        }
        for (tensor, file) in &weight_map {
            if self.info(tensor).is_none_or(|info| info.file != *file) {
                let reason = format!("{index} says that {tensor} is in here, and it is not");
                return Err(Error::shard(file, reason));
            }
        }
        Ok(())
    }

    /// Opens a model built into the program: the text of its `config.json` and its shards, each with a file name.
    pub fn from_memory(name: &str, config_json: &str, shards: &[(&'static str, &'static [u8])]) -> Result<Checkpoint> {
        let origin = Origin::BuiltIn(name.to_string());
        let config = parse_json(&Path::new(name).join(CONFIG), config_json.as_bytes())?;
        let mut checkpoint = Checkpoint::empty(origin, config)?;
        for &(file, bytes) in shards {
            checkpoint.add(Shard::built_in(file, bytes))?;
        }
        checkpoint.with_sparse_joined()
    }

    /// Opens a single safetensors file, of any name, as a checkpoint without a configuration.
    pub fn open_file(path: &Path) -> Result<Checkpoint> {
        let dir = path.parent().unwrap_or(Path::new("")).to_path_buf();
        let mut checkpoint = Checkpoint::empty(Origin::Folder(dir), Value::Object(Default::default()))?;
        checkpoint.add(Shard::open(path, ShardKind::Safetensors)?)?;
        checkpoint.with_sparse_joined()
    }

    /// Opens some safetensors files of a folder whose index and configuration are not written yet; `config` will be it.
    pub fn open_unfinished(dir: &Path, files: &[String], config: Value) -> Result<Checkpoint> {
        let mut checkpoint = Checkpoint::empty(Origin::Folder(dir.to_path_buf()), config)?;
        for file in files {
            checkpoint.add(Shard::map(dir, file, ShardKind::Safetensors)?)?;
        }
        checkpoint.with_sparse_joined()
    }

    /// Replaces sparse parts by the tensors they encode.
    fn with_sparse_joined(mut self) -> Result<Checkpoint> {
        self.join_sparse()?;
        Ok(self)
    }

    fn empty(origin: Origin, config: Value) -> Result<Checkpoint> {
        let (tensors, parts) = (BTreeMap::new(), BTreeSet::new());
        let mut checkpoint =
            Checkpoint { origin, config, quant: None, index: None, shards: Vec::new(), tensors, parts };
        if !checkpoint.config.is_object() {
            return Err(Error::BadJson { path: checkpoint.config_path(), reason: "not a JSON object".into() });
        }
        checkpoint.quant = checkpoint.parse_quant().ok();
        Ok(checkpoint)
    }

    fn add(&mut self, shard: Shard) -> Result<()> {
        let number = self.shards.len();
        for (name, entry) in shard.entries()? {
            if let Some(other) = self.tensors.get(&name) {
                return Err(Error::shard(&shard.file, format!("holds {name}, and so does {}", other.file)));
            }
            let info = TensorInfo {
                dtype: entry.dtype,
                shape: entry.shape,
                file: shard.file.clone(),
                at: Location::Plain(ShardExtent { shard: number, place: entry.place }),
            };
            self.tensors.insert(name, info);
        }
        self.shards.push(shard);
        Ok(())
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

    /// The description of a tensor.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name)
    }

    /// Bytes of all tensors together, as they are stored.
    pub fn total_bytes(&self) -> u64 {
        self.tensors.values().map(|info| info.stored_bytes() as u64).sum()
    }

    /// Bytes of all weight files together, headers included.
    pub fn file_bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.len() as u64).sum()
    }

    /// The `quantization_config`; `None` when the model is dense. Errors when it is one that cannot be read.
    pub fn quant_config(&self) -> Result<Option<QuantConfig>> {
        match &self.quant {
            Some(quant) => Ok(quant.clone()),
            None => self.parse_quant(),
        }
    }

    /// The JSON of the quantization, under its name or the one that compressed-tensors had for it first; `None` when the
    /// model is dense.
    pub fn quantization(&self) -> Option<&Value> {
        let named = |key: &str| self.config.get(key).filter(|value| !value.is_null());
        named("quantization_config").or_else(|| named("compression_config"))
    }

    fn parse_quant(&self) -> Result<Option<QuantConfig>> {
        self.quantization().map(QuantConfig::parse).transpose()
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

/// A hint at the weights that a folder holds instead of ones that can be read.
fn other_weights(dir: &Path) -> String {
    let other = ["tf_model.h5", "flax_model.msgpack", "consolidated.00.pth"];
    match other.iter().find(|name| dir.join(name).is_file()) {
        Some(name) => format!("; it has {name}: convert it to safetensors first"),
        None => String::new(),
    }
}
