//! The errors of this crate: one line each.

use std::path::{Path, PathBuf};

use paring_format::message;
use paring_format::message::Message;

use crate::plan::Opt;

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A checkpoint that cannot be read or written.
    #[error(transparent)]
    Format(#[from] paring_format::Error),
    /// A model that cannot be run.
    #[error(transparent)]
    Model(#[from] paring_model::Error),
    /// A tensor operation that failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// A GPU whose memory is used up.
    #[error("{place}: {doing}: out of memory: {state}; choose {options}")]
    #[allow(missing_docs)]
    DeviceMemory { place: String, doing: String, state: String, options: Message },
    /// A GPU that failed otherwise.
    #[error("{place}: {doing}: {reason}")]
    #[allow(missing_docs)]
    Device { place: String, doing: String, reason: String },
    /// A data set or a repository of the hub that cannot be used.
    #[error(transparent)]
    Data(#[from] paring_data::Error),
    /// Text that cannot be generated.
    #[error(transparent)]
    Generate(Box<paring_generate::Error>),
    /// Tasks that cannot be asked or counted.
    #[error(transparent)]
    Tasks(#[from] paring_tasks::Error),
    /// A file whose content cannot be used.
    #[error("{file}: {reason}")]
    #[allow(missing_docs)]
    Content { file: String, reason: Message },
    /// A file that cannot be read or written.
    #[error("{}: {source}", path.display())]
    #[allow(missing_docs)]
    Io { path: PathBuf, source: std::io::Error },
    /// A run that ended because it was asked to, after a `part` (block, step).
    #[error("{}", stopped(out, part, *done, *of))]
    #[allow(missing_docs)]
    Stopped { out: PathBuf, part: &'static str, done: usize, of: usize },
    /// A run that is not what was begun in its folder.
    #[error("{}", different(out, reason))]
    #[allow(missing_docs)]
    Different { out: PathBuf, reason: Message },
    /// A run that was begun where sums are made in another way.
    #[error("{}", other_arithmetic(out, was, now))]
    #[allow(missing_docs)]
    Arithmetic { out: PathBuf, was: String, now: String },
    /// A choice that makes no sense, or that does not fit the model or the data. `problem` is a sentence that also names
    /// the option; `hint` says what to choose instead. `misuse` tells what makes no sense whatever the model.
    #[error("{}", choice(problem, hint.as_ref()))]
    #[allow(missing_docs)]
    Option { option: Opt, problem: Message, hint: Option<Message>, misuse: bool },
    /// An error of something that is written in a file: where, and what.
    #[error("{place}: {error}")]
    #[allow(missing_docs)]
    At { place: String, error: Box<Error> },
    /// An error of a run whose output was made beside the one that it was to replace.
    #[error("{error}{}", beside(out, made))]
    #[allow(missing_docs)]
    Beside { out: PathBuf, made: PathBuf, error: Box<Error> },
    /// Choices that make no sense, whatever the model.
    #[error("{0}")]
    Misuse(String),
    /// Choices that do not fit the model.
    #[error("{0}")]
    Plan(String),
    /// A Gram matrix that stays singular.
    #[error("{}", singular(module, *pivot, *damp))]
    #[allow(missing_docs)]
    Singular { module: String, pivot: usize, damp: f64 },
    /// Activations that are not finite, between two blocks.
    #[error(
        "block {block}: its output holds {value} (window {window}, position {position}, feature {feature}); its \
        weights are damaged \
        or too large"
    )]
    #[allow(missing_docs)]
    Hidden { block: usize, window: usize, position: usize, feature: usize, value: f32 },
    /// Embeddings that are not finite.
    #[error(
        "the embedding of token {token} holds {value} in feature {feature} (window {window}, position {position}); the \
        model's embedding tables are damaged; download it again"
    )]
    #[allow(missing_docs)]
    Embedding { token: u32, window: usize, position: usize, feature: usize, value: f32 },
    /// An input of linears that is not finite, or not in the type that products round to.
    #[error("{}{hint}", input(module, *value, [*window, *position, *feature], *count))]
    #[allow(missing_docs)]
    Input { module: String, value: f32, window: usize, position: usize, feature: usize, count: usize, hint: Message },
    /// Inputs of linears that are finite, and whose sums of squares are not.
    #[error(
        "{module}: its inputs are finite, but not the sum of their squares in feature {feature}: {value} is the largest \
        (window {window}, position {position}); the weights before it are damaged or too large; use a method that needs no \
        calibration data, or download the model again"
    )]
    #[allow(missing_docs)]
    Sums { module: String, feature: usize, value: f32, window: usize, position: usize },
    /// A weight that products round to infinity.
    #[error("{}", weight(module, *row, *column))]
    #[allow(missing_docs)]
    Weight { module: String, row: usize, column: usize },
    /// A text that a model cannot be run on.
    #[error("text {text}, token {position}: {problem}")]
    #[allow(missing_docs)]
    Text { text: usize, position: usize, problem: String },
    /// A non-finite loss.
    #[error("{}", loss(*window, *position, *value))]
    #[allow(missing_docs)]
    Loss { window: usize, position: usize, value: f32 },
    /// Statistics that are not finite.
    #[error(
        "{module}: the calibration inputs hold NaN or infinite values from feature {feature} on; the weights \
        before it are \
        damaged or too large"
    )]
    #[allow(missing_docs)]
    Activations { module: String, feature: usize },
    /// A weight that grew beyond its type in a sweep.
    #[error("{}", overflow(module, [*row, *column], *value, *dtype))]
    #[allow(missing_docs)]
    Overflow { module: String, row: usize, column: usize, value: f32, dtype: paring_format::Dtype },
    /// Written weights that do not read back as they were made: a digest differs.
    #[error(
        "{file}: {name} reads back differently from what was computed (digest {got:016x}, expected \
        {expected:016x}); check the \
        disk, and run the command again"
    )]
    #[allow(missing_docs)]
    Check { file: String, name: String, expected: u64, got: u64 },
    /// A checkpoint that contradicts itself, or its digests.
    #[error("{file}: {name}: expected {expected}, got {got}")]
    #[allow(missing_docs)]
    Verify { file: String, name: String, expected: String, got: String },
}

impl From<paring_generate::Error> for Error {
    fn from(error: paring_generate::Error) -> Self {
        Error::Generate(Box::new(error))
    }
}

impl Error {
    /// Distinguishes choices that make no sense, whatever the model and the data, from runs that failed.
    pub fn is_misuse(&self) -> bool {
        match self {
            Error::Misuse(_) | Error::Data(paring_data::Error::Misuse(_)) => true,
            Error::Option { misuse, .. } => *misuse,
            Error::Generate(error) => error.is_misuse(),
            Error::Tasks(error) => error.is_misuse(),
            Error::At { error, .. } | Error::Beside { error, .. } => error.is_misuse(),
            _ => false,
        }
    }

    /// The error's line with the options in it apart, for programs that spell them as they are typed.
    pub fn message(&self) -> Message {
        match self {
            Error::Format(error) => error.message(),
            Error::Model(error) => error.message(),
            Error::Data(error) => error.message(),
            Error::Generate(error) => error.message(),
            Error::Tasks(error) => error.message(),
            Error::Option { problem, hint, .. } => choice(problem, hint.as_ref()),
            Error::At { place, error } => message![format!("{place}: ")].then(error.message()),
            Error::Beside { out, made, error } => error.message().then(message![beside(out, made)]),
            Error::DeviceMemory { place, doing, state, options } => {
                message![format!("{place}: {doing}: out of memory: {state}; choose ")].then(options.clone())
            }
            Error::Content { file, reason } => message![format!("{file}: ")].then(reason.clone()),
            Error::Stopped { out, part, done, of } => stopped(out, part, *done, *of),
            Error::Different { out, reason } => different(out, reason),
            Error::Arithmetic { out, was, now } => other_arithmetic(out, was, now),
            Error::Singular { module, pivot, damp } => singular(module, *pivot, *damp),
            Error::Input { module, value, window, position, feature, count, hint } => {
                message![input(module, *value, [*window, *position, *feature], *count)].then(hint.clone())
            }
            Error::Weight { module, row, column } => weight(module, *row, *column),
            Error::Loss { window, position, value } => loss(*window, *position, *value),
            Error::Overflow { module, row, column, value, dtype } => overflow(module, [*row, *column], *value, *dtype),
            other => other.to_string().into(),
        }
    }

    /// The same with what to choose instead, where an option is wrong.
    pub(crate) fn hint(mut self, better: impl Into<Message>) -> Self {
        if let Error::Option { hint, .. } = &mut self {
            *hint = Some(better.into());
        }
        self
    }

    /// The same of something that is written at `place`.
    pub fn at(self, place: impl Into<String>) -> Self {
        Error::At { place: place.into(), error: Box::new(self) }
    }

    /// The same with the number of its window counted from the first of all, `first` windows before these.
    pub(crate) fn offset_window(mut self, first: usize) -> Self {
        use Error::{Embedding, Hidden, Input, Sums};
        if let Hidden { window, .. } | Embedding { window, .. } | Input { window, .. } | Sums { window, .. } = &mut self
        {
            *window += first;
        }
        self
    }

    /// A file whose content cannot be used.
    pub(crate) fn content(file: impl Into<String>, reason: impl Into<Message>) -> Self {
        Error::Content { file: file.into(), reason: reason.into() }
    }
}

fn choice(problem: &Message, hint: Option<&Message>) -> Message {
    match hint {
        Some(hint) => problem.clone().then("; ").then(hint.clone()),
        None => problem.clone(),
    }
}

fn stopped(out: &Path, part: &str, done: usize, of: usize) -> Message {
    let stopped =
        format!("{}: stopped after {part} {done} of {of}; to continue, run the same command with ", out.display());
    message![stopped, Opt::Resume]
}

fn different(out: &Path, reason: &Message) -> Message {
    let refused = message![format!("{}: cannot be resumed: ", out.display())].then(reason.clone());
    refused.then(message!["; give the same options and input, or start over with ", Opt::Overwrite])
}

fn other_arithmetic(out: &Path, was: &str, now: &str) -> Message {
    let refused = format!(
        "{}: cannot be resumed here: it was computed with {was}, and this machine uses {now}, whose sums differ \
        in their last \
        bits; resume it on a machine of the first kind, mix both with ",
        out.display()
    );
    message![refused, Opt::AllowMixedArithmetic, ", or start over with ", Opt::Overwrite]
}

fn singular(module: &str, pivot: usize, damp: f64) -> Message {
    let problem =
        format!("{module}: the Gram matrix is not positive definite (pivot {pivot}), even with damping {damp}; ");
    message![problem, "use more calibration data or a larger ", Opt::Percdamp]
}

fn input(module: &str, value: f32, [window, position, feature]: [usize; 3], count: usize) -> String {
    format!(
        "{module}: its input holds {value} in window {window}, position {position}, feature {feature} ({count} such \
        values so far); "
    )
}

fn weight(module: &str, row: usize, column: usize) -> Message {
    let place = format!("{module}: its weight in row {row}, column {column}");
    message![place, " is too large for products of this precision; choose another ", Opt::Dtype]
}

fn loss(window: usize, position: usize, value: f32) -> Message {
    let loss = format!("window {window}, position {position}: the loss is {value}; ");
    let cause = "the head's weights are too large for its products (";
    message![loss, cause, Opt::Dtype.with("f32"), " has the widest range), or damaged"]
}

fn overflow(module: &str, [row, column]: [usize; 2], value: f32, dtype: paring_format::Dtype) -> Message {
    let left =
        format!("{module}: {value} in row {row}, column {column} is beyond the range of {dtype} after the sweep; ");
    let damping = message![left, "use a larger ", Opt::Percdamp, ", which changes weights less, or "];
    damping.then(message![Opt::AllowFallback])
}

fn beside(out: &Path, made: &Path) -> String {
    format!("; {} is unchanged, and the finished blocks of the new output are in {}", out.display(), made.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_names_here_and_typed_by_programs() {
        let error = Opt::GroupSize.wrong(33, "no divisor").hint(message!["leave out ", Opt::Sym]).at("a.toml, line 3");
        assert_eq!(error.to_string(), "a.toml, line 3: groupsize 33: no divisor; leave out sym");
        let typed = error.message().spelled(|name| format!("--{name}"));
        assert_eq!(typed, "a.toml, line 3: --groupsize 33: no divisor; leave out --sym");
        assert!(error.is_misuse() && !Opt::Sym.unfit(1, "x").is_misuse());
        let hint = message!["choose ", Opt::Dtype.with("f32")];
        let input =
            |hint| Error::Input { module: "m".into(), value: 1e9, window: 1, position: 2, feature: 3, count: 4, hint };
        let typed = input(hint).message().spelled(|name| format!("--{name}"));
        assert!(typed.starts_with("m: its input holds") && typed.ends_with("so far); choose --dtype f32"), "{typed}");
    }

    #[test]
    fn windows_are_counted_from_the_first_of_all() {
        let hidden = Error::Hidden { block: 1, window: 2, position: 3, feature: 4, value: f32::NAN };
        let told = hidden.offset_window(40).to_string();
        assert_eq!(
            told,
            "block 1: its output holds NaN (window 42, position 3, feature 4); its weights are damaged or too large"
        );
        assert_eq!(Error::Plan("window 2".into()).offset_window(40).to_string(), "window 2");
    }
}
