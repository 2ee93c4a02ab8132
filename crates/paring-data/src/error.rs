//! The errors of this crate: one line each.

use std::path::PathBuf;

use paring_format::message;
use paring_format::message::{Message, Setting};

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Data sets and repositories that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of tensors that cannot be read.
    #[error(transparent)]
    Format(#[from] paring_format::Error),
    /// A data set that cannot be used.
    #[error("{source_name}: {reason}")]
    #[allow(missing_docs)]
    Data { source_name: String, reason: Message },
    /// A tokenizer or a chat template of a model that cannot be used.
    #[error("{0}")]
    Tokenizer(String),
    /// A repository of the hub that cannot be used, or a file of it.
    #[error("{repo}: {reason}")]
    #[allow(missing_docs)]
    Hub { repo: String, reason: String },
    /// A repository that is not on the hub, or offline not in the cache.
    #[error("{repo}: {reason}")]
    #[allow(missing_docs)]
    NotOnHub { repo: String, reason: String },
    /// A hub that does not answer, or is down.
    #[error("{repo}: {reason}")]
    #[allow(missing_docs)]
    Unreachable { repo: String, reason: String },
    /// A file that cannot be read or written.
    #[error("{}: {source}", path.display())]
    #[allow(missing_docs)]
    Io { path: PathBuf, source: std::io::Error },
    /// Settings that make no sense, whatever the data.
    #[error("{0}")]
    Misuse(String),
    /// A number of windows that the data does not have.
    #[error("{0}")]
    Sampling(Message),
}

/// Options that messages name.
pub(crate) mod option {
    pub(crate) const DATA_DIR: &str = "data-dir";
    pub(crate) const FIELD: &str = "field";
    pub(crate) const NSAMPLES: &str = "nsamples";
    pub(crate) const REFERENCE_FIELD: &str = "reference-field";
    pub(crate) const SEQLEN: &str = "seqlen";
    pub(crate) const TEXT_FIELD: &str = "text-field";
}

impl Error {
    /// The error's line with the options in it apart, for programs that spell them as they are typed.
    pub fn message(&self) -> Message {
        match self {
            Error::Format(error) => error.message(),
            Error::Data { source_name, reason } => message![format!("{source_name}: ")].then(reason.clone()),
            Error::Sampling(message) => message.clone(),
            other => other.to_string().into(),
        }
    }

    /// The same, ending in the name of an option.
    pub(crate) fn then_option(mut self, option: &'static str) -> Self {
        if let Error::Data { reason, .. } = &mut self {
            *reason = std::mem::take(reason).then(Setting::new(option));
        }
        self
    }

    /// A data set that cannot be used.
    pub(crate) fn data(source_name: impl Into<String>, reason: impl Into<Message>) -> Self {
        Error::Data { source_name: source_name.into(), reason: reason.into() }
    }
}
