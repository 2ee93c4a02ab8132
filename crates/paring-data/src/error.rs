//! The errors of this crate: one line each.

use std::path::PathBuf;

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
    Data { source_name: String, reason: String },
    /// A repository of the hub that cannot be used, or a file of it.
    #[error("{repo}: {reason}")]
    #[allow(missing_docs)]
    Hub { repo: String, reason: String },
    /// A repository that is not on the hub, or offline not in the cache.
    #[error("{repo}: {reason}")]
    #[allow(missing_docs)]
    NotOnHub { repo: String, reason: String },
    /// A file that cannot be read or written.
    #[error("{}: {source}", path.display())]
    #[allow(missing_docs)]
    Io { path: PathBuf, source: std::io::Error },
    /// Settings that make no sense, whatever the data.
    #[error("{0}")]
    Misuse(String),
    /// A number of windows that the data does not have.
    #[error("{0}")]
    Sampling(String),
}

impl Error {
    /// A data set that cannot be used.
    pub(crate) fn data(source_name: impl Into<String>, reason: impl Into<String>) -> Self {
        Error::Data { source_name: source_name.into(), reason: reason.into() }
    }
}
