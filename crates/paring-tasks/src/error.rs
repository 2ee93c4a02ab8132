//! The errors of this crate: one line each.

use std::path::PathBuf;

use paring_format::message;
use paring_format::message::{Message, Setting};

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Tasks that cannot be asked or counted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Data or a tokenizer that cannot be read.
    #[error(transparent)]
    Data(#[from] paring_data::Error),
    /// A name that no task has, or a setting that makes no sense.
    #[error("{0}")]
    Misuse(Message),
    /// Documents that are nowhere, or cannot be used.
    #[error("{0}")]
    Documents(Message),
    /// Answers of a model that do not belong to the requests.
    #[error("{0}")]
    Scores(String),
}

/// Options that messages name.
pub(crate) mod option {
    pub(crate) const DATA_DIR: &str = "data-dir";
    pub(crate) const LIMIT: &str = "limit";
    pub(crate) const SHOTS: &str = "num-fewshot";
    pub(crate) const PREFIX: &str = "prefix-token";
}

impl Error {
    /// The error's line with the options in it apart, for programs that spell them as they are typed.
    pub fn message(&self) -> Message {
        match self {
            Error::Data(error) => error.message(),
            Error::Misuse(message) | Error::Documents(message) => message.clone(),
            Error::Scores(reason) => reason.clone().into(),
        }
    }

    /// Distinguishes names and settings that make no sense, whatever the data.
    pub fn is_misuse(&self) -> bool {
        matches!(self, Error::Misuse(_))
    }

    /// Documents that cannot be used.
    pub(crate) fn documents(reason: impl Into<Message>) -> Self {
        Error::Documents(reason.into())
    }

    /// Files of documents, without one.
    pub(crate) fn no_documents(paths: &[PathBuf]) -> Self {
        let file = paths.first().map_or_else(String::new, |path| path.display().to_string());
        Error::documents(format!("{file}: no documents in it; download or write it again"))
    }

    /// A value of an option that makes no sense.
    pub(crate) fn setting(option: &'static str, got: impl std::fmt::Display, expected: &str) -> Self {
        Error::Misuse(message![Setting::with(option, got), format!(": {expected}")])
    }
}
