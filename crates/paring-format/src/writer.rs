//! Writing a checkpoint so that unfinished output cannot be mistaken for a model: every file is written beside its
//! final name, synced and renamed, and the index and `config.json` come last.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::checkpoint::{CONFIG, INDEX, SINGLE, is_plain_name};
use crate::{Dtype, Error, Part, Parts, Result};

/// Names of the files that belong to a model besides weights and config, and are copied along.
pub const COMPANIONS: [&str; 10] = [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
];

/// The file in which a run leaves its plan and report.
pub const REPORT: &str = "paring.json";

/// A tensor to store.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Its full name.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Shape.
    pub shape: Vec<usize>,
    /// Little-endian, row-major.
    pub bytes: Vec<u8>,
}

impl Tensor {
    /// The parts of a module under their full names.
    pub fn of_module(module: &str, parts: Parts) -> Vec<Tensor> {
        let tensor =
            |(local, Part { dtype, shape, bytes })| Tensor { name: format!("{module}.{local}"), dtype, shape, bytes };
        parts.into_iter().map(tensor).collect()
    }
}

/// Writes a checkpoint into a folder.
#[derive(Debug)]
pub struct Writer {
    dir: PathBuf,
    shards: usize,
    /// Shards that were begun, and those of them that are closed.
    begun: BTreeSet<usize>,
    written: BTreeSet<usize>,
    /// Tensor name → number of its shard.
    tensors: BTreeMap<String, usize>,
    tensor_bytes: u64,
    file_bytes: u64,
    files: Vec<String>,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Names of all files, in the order in which they were closed.
    pub files: Vec<String>,
    /// Bytes of all files.
    pub file_bytes: u64,
    /// Number of tensors.
    pub tensors: usize,
    /// Bytes of all tensors.
    pub tensor_bytes: u64,
}

impl Writer {
    /// Prepares a folder for a checkpoint of `shards` files, making it and its parents when needed.
    ///
    /// Errors when the folder holds anything, unless `overwrite` is set: then the files of an earlier checkpoint are
    /// removed, by name, and everything else is left alone. Errors at once when nothing can be written there.
    pub fn create(dir: &Path, shards: usize, overwrite: bool) -> Result<Writer> {
        let mut names = Writer::check(dir, overwrite)?;
        let unwritable = |source| Error::Unwritable { path: dir.to_path_buf(), source };
        fs::create_dir_all(dir).map_err(unwritable)?;
        probe(dir).map_err(unwritable)?;
        // Config and index go first, so that what is left of the old model cannot be loaded either.
        names.sort_by_key(|name| (name != CONFIG, name != INDEX, name.clone()));
        for name in names {
            let path = dir.join(&name);
            // A link is removed itself; what it points to is not ours. Folders are not ours in any case.
            let is_file = fs::symlink_metadata(&path).is_ok_and(|meta| !meta.is_dir());
            if is_file && name.to_str().is_some_and(is_own) {
                fs::remove_file(&path).map_err(|source| Error::io(&path, source))?;
            }
        }
        Ok(Writer {
            dir: dir.to_path_buf(),
            shards,
            begun: BTreeSet::new(),
            written: BTreeSet::new(),
            tensors: BTreeMap::new(),
            tensor_bytes: 0,
            file_bytes: 0,
            files: Vec::new(),
        })
    }

    /// The names in a folder that may not be there yet, and the errors of [`Writer::create`] that show without writing.
    pub fn check(dir: &Path, overwrite: bool) -> Result<Vec<OsString>> {
        if !dir.exists() {
            return Ok(Vec::new());
        }
        if !dir.is_dir() {
            return Err(Error::OutputExists { path: dir.to_path_buf() });
        }
        let mut names = Vec::new();
        for entry in fs::read_dir(dir).map_err(|source| Error::io(dir, source))? {
            names.push(entry.map_err(|source| Error::io(dir, source))?.file_name());
        }
        match names.is_empty() || overwrite {
            true => Ok(names),
            false => Err(Error::OutputNotEmpty { path: dir.to_path_buf() }),
        }
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes shard `i`, counted from 0, and returns the bytes of its file.
    ///
    /// The bytes depend on the tensors alone, not on their order. Errors when the shard or one of the tensor names
    /// was written before, when bytes and shape disagree, and when the disk does not take the file; shards that are
    /// already closed stay as they are.
    pub fn shard(&mut self, i: usize, tensors: Vec<Tensor>) -> Result<u64> {
        let begun = self.begin(i, tensors)?;
        let synced = begun.sync();
        self.close(begun, synced)
    }

    /// The first part of [`Writer::shard`], with its errors: the file is written, and has not got its name. [`Begun::sync`]
    /// may follow on another thread while the next shard is begun, then [`Writer::close`].
    pub fn begin(&mut self, i: usize, mut tensors: Vec<Tensor>) -> Result<Begun> {
        let file = shard_name(i, self.shards);
        if i >= self.shards || self.begun.contains(&i) {
            let problem = if i >= self.shards { "there is no such shard" } else { "written twice" };
            return Err(Error::shard(&file, format!("{problem} (of {})", self.shards)));
        }
        if let Some(twice) = tensors.iter().find(|t| self.tensors.contains_key(&t.name)) {
            return Err(Error::shard(&file, format!("a second tensor of the name {}", twice.name)));
        }
        let (header, end) = header(&file, &mut tensors)?;
        let pieces = std::iter::once(&header[..]).chain(tensors.iter().map(|tensor| &tensor.bytes[..]));
        let mut begun = self.write(&file, pieces)?;
        (begun.shard, begun.tensor_bytes) = (Some(i), end as u64);
        self.begun.insert(i);
        self.tensors.extend(tensors.into_iter().map(|tensor| (tensor.name, i)));
        Ok(begun)
    }

    /// Gives a file its name when it was `synced`. Returns its bytes. Errors when it was not, and when it cannot be
    /// renamed; nothing of it is left then, and a shard can be begun again.
    pub fn close(&mut self, mut begun: Begun, synced: io::Result<()>) -> Result<u64> {
        let path = self.dir.join(&begun.name);
        let renamed = synced.and_then(|()| fs::rename(&begun.temporary, &path)).and_then(|()| sync_folder(&self.dir));
        if let Err(source) = renamed {
            if let Some(i) = begun.shard {
                self.begun.remove(&i);
                self.tensors.retain(|_, shard| *shard != i);
            }
            return Err(Error::write(&path, begun.bytes, source));
        }
        begun.closed = true;
        self.written.extend(begun.shard);
        self.tensor_bytes += begun.tensor_bytes;
        self.file_bytes += begun.bytes;
        self.files.push(std::mem::take(&mut begun.name));
        Ok(begun.bytes)
    }

    /// Copies a file that belongs to the model, such as its tokenizer, under the plain name `name`.
    pub fn copy_file(&mut self, from: &Path, name: &str) -> Result<u64> {
        let bytes = fs::read(from).map_err(|source| Error::io(from, source))?;
        self.extra(name, &bytes)
    }

    /// Completes the checkpoint: extra files, then the index of shards (none when there is a single file), and
    /// `config.json` last. Errors when a shard was not written.
    pub fn finish(mut self, config: &Value, extra: &[(String, Vec<u8>)]) -> Result<Summary> {
        if let Some(missing) = (0..self.shards).find(|i| !self.written.contains(i)) {
            return Err(Error::shard(&shard_name(missing, self.shards), "was not written; the checkpoint has a hole"));
        }
        for (name, bytes) in extra {
            self.extra(name, bytes)?;
        }
        if self.shards != 1 {
            let weight_map: Map<String, Value> = self
                .tensors
                .iter()
                .map(|(name, &i)| (name.clone(), Value::String(shard_name(i, self.shards))))
                .collect();
            let index = json!({"metadata": {"total_size": self.tensor_bytes}, "weight_map": weight_map});
            self.put_json(INDEX, &index)?;
        }
        self.put_json(CONFIG, config)?;
        Ok(Summary {
            files: self.files,
            file_bytes: self.file_bytes,
            tensors: self.tensors.len(),
            tensor_bytes: self.tensor_bytes,
        })
    }

    fn extra(&mut self, name: &str, bytes: &[u8]) -> Result<u64> {
        let reserved =
            [CONFIG, INDEX].contains(&name) || is_weights(name) || self.files.iter().any(|file| file == name);
        if !is_plain_name(name) || reserved {
            return Err(Error::shard(name, "cannot be written under this name"));
        }
        self.put(name, [bytes])
    }

    fn put_json(&mut self, name: &str, value: &Value) -> Result<u64> {
        let text = format!("{value:#}\n");
        self.put(name, [text.as_bytes()])
    }

    /// Writes a file beside its name, syncs it, and renames it; a failed attempt leaves nothing behind.
    fn put<'a>(&mut self, name: &str, pieces: impl IntoIterator<Item = &'a [u8]> + Clone) -> Result<u64> {
        let begun = self.write(name, pieces)?;
        let synced = begun.sync();
        self.close(begun, synced)
    }

    /// Writes a file beside its name.
    fn write<'a>(&self, name: &str, pieces: impl IntoIterator<Item = &'a [u8]> + Clone) -> Result<Begun> {
        let bytes: u64 = pieces.clone().into_iter().map(|piece| piece.len() as u64).sum();
        let temporary = self.dir.join(format!("{name}.tmp"));
        let file = write(&temporary, pieces).map_err(|source| {
            // The first error is the one to tell; that the remains cannot be removed either adds nothing.
            fs::remove_file(&temporary).unwrap_or(());
            Error::write(&self.dir.join(name), bytes, source)
        })?;
        Ok(Begun { file, temporary, name: name.to_string(), shard: None, bytes, tensor_bytes: 0, closed: false })
    }
}

/// A file that is written and has not got its name yet. Dropped so, it is removed.
#[derive(Debug)]
pub struct Begun {
    file: File,
    temporary: PathBuf,
    /// The name to come.
    name: String,
    /// The number of the shard that it is.
    shard: Option<usize>,
    bytes: u64,
    tensor_bytes: u64,
    closed: bool,
}

impl Begun {
    /// Waits until the disk has all of it.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if !self.closed {
            // What went wrong is told elsewhere; that the remains cannot be removed either adds nothing.
            fs::remove_file(&self.temporary).unwrap_or(());
        }
    }
}

/// The header of a safetensors file of these tensors, which are put into the order of the safetensors crate: wide types
/// first, so that every tensor is aligned, then by name. Also returns the bytes of all tensors.
fn header(file: &str, tensors: &mut [Tensor]) -> Result<(Vec<u8>, usize)> {
    tensors.sort_by(|a, b| b.dtype.to_safetensors().cmp(&a.dtype.to_safetensors()).then_with(|| a.name.cmp(&b.name)));
    let mut header = Map::new();
    header.insert("__metadata__".to_string(), json!({"format": "pt"}));
    let mut end = 0usize;
    for Tensor { name, dtype, shape, bytes } in &*tensors {
        if dtype.bytes_of(shape) != Some(bytes.len()) {
            return Err(Error::shard(file, format!("{name}: {} bytes do not make {dtype} {shape:?}", bytes.len())));
        }
        if header.contains_key(name) {
            return Err(Error::shard(file, format!("a second tensor of the name {name}")));
        }
        let start = end;
        end += bytes.len();
        let info = json!({"dtype": dtype.name(), "shape": shape, "data_offsets": [start, end]});
        header.insert(name.clone(), info);
    }
    let mut text = Value::Object(header).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut text);
    Ok((bytes, end))
}

/// Writes tensors into one safetensors file of any name, beside it first, then renamed. Replaces an earlier file.
pub fn write_file(path: &Path, mut tensors: Vec<Tensor>) -> Result<()> {
    let (header, _) = header(&path.display().to_string(), &mut tensors)?;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let pieces: Vec<&[u8]> = std::iter::once(&header[..]).chain(tensors.iter().map(|t| &t.bytes[..])).collect();
    let bytes = pieces.iter().map(|p| p.len() as u64).sum();
    let synced = write(&temporary, pieces).and_then(|file| file.sync_all());
    synced.and_then(|()| fs::rename(&temporary, path)).map_err(|source| {
        // As in `Writer::put`: the first error is the one to tell.
        fs::remove_file(&temporary).unwrap_or(());
        Error::write(path, bytes, source)
    })
}

/// The name of shard `i` (from 0) of `n`.
pub fn shard_name(i: usize, n: usize) -> String {
    if n == 1 { SINGLE.to_string() } else { format!("model-{:05}-of-{n:05}.safetensors", i + 1) }
}

/// Whether a file of this name is one of those that this program writes, finished or not.
fn is_own(name: &str) -> bool {
    let name = name.strip_suffix(".tmp").unwrap_or(name);
    name == CONFIG || name == INDEX || COMPANIONS.contains(&name) || name == REPORT || is_weights(name)
}

/// `model.safetensors` or `model-00001-of-00002.safetensors`.
fn is_weights(name: &str) -> bool {
    let number = |text: &str| text.len() >= 5 && text.bytes().all(|b| b.is_ascii_digit());
    let middle = name.strip_prefix("model-").and_then(|rest| rest.strip_suffix(".safetensors"));
    name == SINGLE || middle.and_then(|m| m.split_once("-of-")).is_some_and(|(i, n)| number(i) && number(n))
}

/// Opens a file that must not exist yet: a link that someone left under this name is not followed.
fn create_fresh(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).open(path)
}

/// Writes a new file, and does not sync it.
fn write<'a>(path: &Path, pieces: impl IntoIterator<Item = &'a [u8]>) -> io::Result<File> {
    // Gathers what is small; tensors are larger as a rule, and go past the buffer.
    let mut file = BufWriter::with_capacity(64 << 10, create_fresh(path)?);
    for piece in pieces {
        file.write_all(piece)?;
    }
    file.into_inner().map_err(|error| error.into_error())
}

/// Makes a rename last: on unix the folder is a file of its own, to be synced as well.
fn sync_folder(dir: &Path) -> io::Result<()> {
    #[cfg(unix)]
    File::open(dir)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = dir;
    Ok(())
}

fn probe(dir: &Path) -> io::Result<()> {
    let path = dir.join(".paring-probe.tmp");
    create_fresh(&path)?.write_all(b"x")?;
    fs::remove_file(&path)
}
