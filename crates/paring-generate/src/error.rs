//! The errors of this crate: one line each.

use paring_format::message;
use paring_format::message::{Message, Setting};

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Text that cannot be generated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A model that cannot be run.
    #[error(transparent)]
    Model(#[from] paring_model::Error),
    /// A tensor operation that failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// A tokenizer or chat template that cannot be used.
    #[error(transparent)]
    Data(#[from] paring_data::Error),
    /// A value of a setting that makes no sense.
    #[error("{}", setting(name, got, allowed))]
    #[allow(missing_docs)]
    Setting { name: &'static str, got: String, allowed: &'static str },
    /// A value in a file of settings that makes no sense.
    #[error("{file}: {key} should be {expected}, got {got}")]
    #[allow(missing_docs)]
    Config { file: String, key: String, expected: &'static str, got: String },
    /// A prompt without tokens.
    #[error("the prompt has no token; give it a word")]
    Empty,
    /// A prompt that leaves no place for an answer.
    #[error("{}", too_long(*tokens, *limit))]
    #[allow(missing_docs)]
    Prompt { tokens: usize, limit: usize },
    /// A prompt and an answer that do not fit together.
    #[error("{}", overflow(*prompt, *new, *limit))]
    #[allow(missing_docs)]
    Context { prompt: usize, new: usize, limit: usize },
    /// Logits that are not finite.
    #[error(
        "the logits after token {position} hold {value}; the model's weights are damaged, or too large for this \
        precision"
    )]
    #[allow(missing_docs)]
    Logits { position: usize, value: f32 },
    /// Settings that leave no token to choose from.
    #[error("no token is left to choose from at position {position}; allow more of them")]
    #[allow(missing_docs)]
    NoToken { position: usize },
    /// A setting that needs a tokenizer, where there is none.
    #[error("{name} needs a tokenizer, and the model has none; add its tokenizer.json")]
    #[allow(missing_docs)]
    NoTokenizer { name: &'static str },
}

/// The name of the option for the number of new tokens.
pub(crate) const NEW_TOKENS: &str = "max-new-tokens";

impl Error {
    /// The error's line with the options in it apart, for programs that spell them as they are typed.
    pub fn message(&self) -> Message {
        match self {
            Error::Model(error) => error.message(),
            Error::Data(error) => error.message(),
            Error::Setting { name, got, allowed } => setting(name, got, allowed),
            Error::Prompt { tokens, limit } => too_long(*tokens, *limit),
            Error::Context { prompt, new, limit } => overflow(*prompt, *new, *limit),
            other => other.to_string().into(),
        }
    }

    /// Distinguishes settings that make no sense, whatever the model.
    pub fn is_misuse(&self) -> bool {
        matches!(self, Error::Setting { .. })
    }

    /// Distinguishes prompts, and answers after them, that are longer than the model's context.
    pub fn is_context(&self) -> bool {
        matches!(self, Error::Prompt { .. } | Error::Context { .. })
    }
}

fn setting(name: &'static str, got: &str, allowed: &str) -> Message {
    message![Setting::with(name, got), format!(": must be {allowed}")]
}

fn too_long(tokens: usize, limit: usize) -> Message {
    let problem = "tokens, and the model's context is";
    format!("the prompt has {tokens} {problem} {limit}, the answer included; use a shorter prompt").into()
}

fn overflow(prompt: usize, new: usize, limit: usize) -> Message {
    let problem =
        format!("{prompt} tokens of the prompt and {new} new ones are more than the model's context of {limit}; ");
    message![problem, "use at most ", Setting::with(NEW_TOKENS, limit.saturating_sub(prompt))]
}
