//! The errors of this crate. Each carries the names and numbers involved; its text is one line.

#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::Dtype;
use crate::message;
use crate::message::{Message, Setting};

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a checkpoint: on disk, in its tensors, or in its configuration.
///
/// Layouts know tensors by local name and see no files: they leave `module` and `file` empty, and
/// [`Error::in_module`] fills them in where a checkpoint is read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system refused to read or write.
    #[error("{}: {source}", path.display())]
    #[allow(missing_docs)]
    Io { path: PathBuf, source: io::Error },

    /// Something other than a file where a file is needed.
    #[error("{}: {got}, expected a file", path.display())]
    #[allow(missing_docs)]
    NotAFile { path: PathBuf, got: &'static str },

    /// A file that is larger than those of its kind are read.
    #[error("{}: {got} bytes, expected at most {most}", path.display())]
    #[allow(missing_docs)]
    LargeFile { path: PathBuf, got: u64, most: u64 },

    /// A checkpoint is a folder; this is something else, or nothing.
    #[error("{}: {reason}", path.display())]
    #[allow(missing_docs)]
    NotAFolder { path: PathBuf, reason: String },

    /// The folder has no `config.json`.
    #[error("{}: no config.json here; {hint}", path.display())]
    #[allow(missing_docs)]
    MissingConfig { path: PathBuf, hint: String },

    /// The folder has no `config.json` because what writes there is not finished.
    #[error("{}", not_finished(path))]
    #[allow(missing_docs)]
    NotFinished { path: PathBuf },

    /// The folder has no weights under a name that is looked for.
    #[error(
        "{}: neither model.safetensors nor model.safetensors.index.json is here, and no pytorch_model.bin or its \
        index; {hint}",
        path.display()
    )]
    #[allow(missing_docs)]
    NoWeights { path: PathBuf, hint: String },

    /// A file that should hold JSON of a known form does not.
    #[error("{}: {reason}; correct it or download it again", path.display())]
    #[allow(missing_docs)]
    BadJson { path: PathBuf, reason: String },

    /// A file of weights that is cut off, lies about its contents, or could not be written as asked.
    #[error("{file}: {reason}")]
    #[allow(missing_docs)]
    BadShard { file: String, reason: String },

    /// Files of a checkpoint that disagree about a tensor, and can be read all the same.
    #[error("{}", disagreement(file, reason))]
    #[allow(missing_docs)]
    Disagreement { file: String, reason: String },

    /// The index names a file that is not there.
    #[error("{}: names the shard {shard}, which is not in the folder; download it again", index.display())]
    #[allow(missing_docs)]
    MissingShard { index: PathBuf, shard: String },

    /// A tensor that is needed is not in the checkpoint. `near` says what is there instead.
    #[error("{file}: no tensor {tensor}; {near}; download the model again")]
    #[allow(missing_docs)]
    MissingTensor { tensor: String, file: String, near: String },

    /// A tensor of another shape than asked for.
    #[error("{}: shape {got:?}, expected {expected:?}", TensorInFile(tensor, file))]
    #[allow(missing_docs)]
    WrongShape { tensor: String, file: String, expected: Vec<usize>, got: Vec<usize> },

    /// A tensor of another element type than asked for.
    #[error("{}: type {}, expected {expected}", TensorInFile(tensor, file), got.name())]
    #[allow(missing_docs)]
    WrongDtype { tensor: String, file: String, expected: String, got: Dtype },

    /// A NaN or an infinity where only numbers make sense. `index` counts elements in row-major order, and `cols` is
    /// the length of a row.
    #[error("{}: {value} at row {}, column {} (element {index}); the file is damaged, download it again",
        TensorInFile(tensor, file),
        index / (*cols).max(1), index % (*cols).max(1))]
    #[allow(missing_docs)]
    NotFinite { tensor: String, file: String, index: usize, cols: usize, value: f32 },

    /// A layout, scheme or quantization method that this crate cannot read.
    #[error("{}: {format} is not supported; use the original model", module_or(module, "the matrix"))]
    #[allow(missing_docs)]
    UnsupportedFormat { module: String, format: String },

    /// A part of an adapter's file that is not what it should be, or asks for what is not done here.
    #[error("{place}: expected {expected}, got {got}; {hint}")]
    #[allow(missing_docs)]
    Adapter { place: String, expected: String, got: String, hint: String },

    /// A value of the configuration that makes no sense.
    #[error("config.json: {key}: {reason}; correct it")]
    #[allow(missing_docs)]
    BadConfig { key: String, reason: String },

    /// The group size does not divide the columns; the format has no rule for a short last group.
    #[error(
        "{}: {cols} columns are not a multiple of the group size {group_size}; choose a group size that divides \
        them, or one scale a row",
        module_or(module, "the matrix")
    )]
    #[allow(missing_docs)]
    GroupSize { module: String, cols: usize, group_size: usize },

    /// Stored parts of a matrix that contradict each other, or a matrix that a layout cannot hold.
    #[error("{}: {reason}", module_or(module, "the matrix"))]
    #[allow(missing_docs)]
    BadParts { module: String, reason: String },

    /// The output folder already holds files. `own` tells that a run wrote some of them.
    #[error("{}", not_empty(path, *own))]
    #[allow(missing_docs)]
    OutputNotEmpty { path: PathBuf, own: bool },

    /// Something of a person's that a command would remove or replace.
    #[error("{}: {reason}", path.display())]
    #[allow(missing_docs)]
    Refused { path: PathBuf, reason: Message },

    /// The output folder holds a run that was not finished.
    #[error("{}", unfinished(path))]
    #[allow(missing_docs)]
    Unfinished { path: PathBuf },

    /// Someone else writes into the output folder.
    #[error("{}: another run writes here{}; wait for it, or name another folder", path.display(),
        if holder.is_empty() { String::new() } else { format!(" (process {holder})") })]
    #[allow(missing_docs)]
    Locked { path: PathBuf, holder: String },

    /// The output path exists and is no folder.
    #[error("{}: exists and is not a folder; choose another name for the output", path.display())]
    #[allow(missing_docs)]
    OutputExists { path: PathBuf },

    /// The output folder cannot be made or written to.
    #[error("{}: cannot write here: {source}", path.display())]
    #[allow(missing_docs)]
    Unwritable { path: PathBuf, source: io::Error },

    /// The disk is full, or a quota is used up.
    #[error("{}: no space left for {bytes} bytes; free some, or name an output on another disk", path.display())]
    #[allow(missing_docs)]
    NoSpace { path: PathBuf, bytes: u64 },
}

impl Error {
    /// The error's line with the options in it apart, for programs that spell them as they are typed.
    pub fn message(&self) -> Message {
        match self {
            Error::NotFinished { path } => not_finished(path),
            Error::Unfinished { path } => unfinished(path),
            Error::OutputNotEmpty { path, own } => not_empty(path, *own),
            Error::Refused { path, reason } => message![format!("{}: ", path.display())].then(reason.clone()),
            Error::Disagreement { file, reason } => disagreement(file, reason),
            other => other.to_string().into(),
        }
    }

    /// A read error of `path`.
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        Error::Io { path: path.to_path_buf(), source }
    }

    /// An error while writing `bytes` bytes to `path`.
    pub fn write(path: &Path, bytes: u64, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Error::NoSpace { path: path.to_path_buf(), bytes }
            }
            _ => Error::io(path, source),
        }
    }

    /// A command that would remove or replace what is `path`.
    pub(crate) fn refused(path: &Path, reason: impl Into<Message>) -> Self {
        Error::Refused { path: path.to_path_buf(), reason: reason.into() }
    }

    /// A file of weights that is not what it should be.
    pub(crate) fn shard(file: &str, reason: impl Into<String>) -> Self {
        Error::BadShard { file: file.to_string(), reason: reason.into() }
    }

    /// Parts that contradict each other.
    pub(crate) fn parts(reason: impl Into<String>) -> Self {
        Error::BadParts { module: String::new(), reason: reason.into() }
    }

    /// The same error with the names a layout could not know: the module's path, put before local tensor names, and
    /// the file that holds it.
    pub fn in_module(mut self, path: &str, place: &str) -> Self {
        match &mut self {
            Error::UnsupportedFormat { module, .. }
            | Error::GroupSize { module, .. }
            | Error::BadParts { module, .. }
                if module.is_empty() =>
            {
                *module = path.to_string();
            }
            Error::WrongShape { tensor, file, .. }
            | Error::WrongDtype { tensor, file, .. }
            | Error::NotFinite { tensor, file, .. }
            | Error::MissingTensor { tensor, file, .. }
                if file.is_empty() =>
            {
                *tensor = format!("{path}.{tensor}");
                *file = place.to_string();
            }
            _ => {}
        }
        self
    }
}

fn not_finished(path: &Path) -> Message {
    let unfinished = format!("{}: an unfinished run, not a model yet; rerun its command with ", path.display());
    message![unfinished, Setting::new("resume"), " to complete it"]
}

fn unfinished(path: &Path) -> Message {
    let contains = format!("{}: contains an unfinished run; ", path.display());
    message![contains, Setting::new("resume"), " continues it, ", Setting::new("overwrite"), " starts over"]
}

fn not_empty(path: &Path, own: bool) -> Message {
    let text = message![format!("{}: the output folder is not empty; choose another ", path.display())];
    let text = text.then(Setting::new("out"));
    if own {
        text.then(message![", or add ", Setting::new("overwrite"), " to replace the earlier output"])
    } else {
        text
    }
}

fn disagreement(file: &str, reason: &str) -> Message {
    message![format!("{file}: {reason}; "), Setting::new("lenient"), " reads it as transformers does"]
}

/// `file: tensor`, or the tensor alone while the file is not known.
struct TensorInFile<'a>(&'a str, &'a str);

impl fmt::Display for TensorInFile<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0, self.1) {
            (tensor, "") => write!(f, "{tensor}"),
            (tensor, file) => write!(f, "{file}: {tensor}"),
        }
    }
}

fn module_or<'a>(module: &'a str, otherwise: &'a str) -> &'a str {
    if module.is_empty() { otherwise } else { module }
}
