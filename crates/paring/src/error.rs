//! The errors of this crate: one line each.

use std::path::PathBuf;

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong in a run.
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
    DeviceMemory { place: String, doing: String, state: String, options: &'static str },
    /// A GPU that failed otherwise.
    #[error("{place}: {doing}: {reason}")]
    #[allow(missing_docs)]
    Device { place: String, doing: String, reason: String },
    /// A data set or a repository of the hub that cannot be used.
    #[error(transparent)]
    Data(#[from] paring_data::Error),
    /// A file whose content cannot be used.
    #[error("{file}: {reason}")]
    #[allow(missing_docs)]
    Content { file: String, reason: String },
    /// A file that cannot be read or written.
    #[error("{}: {source}", path.display())]
    #[allow(missing_docs)]
    Io { path: PathBuf, source: std::io::Error },
    /// A run that ended because it was asked to.
    #[error("{}: stopped behind block {done} of {of}, as asked; the same command goes on with --resume", out.display())]
    #[allow(missing_docs)]
    Stopped { out: PathBuf, done: usize, of: usize },
    /// A run that is not what was begun in its folder.
    #[error("{}: cannot go on: {reason}; give the same options and input, or begin anew with --overwrite", out.display())]
    #[allow(missing_docs)]
    Different { out: PathBuf, reason: String },
    /// Choices that make no sense, whatever the model.
    #[error("{0}")]
    Misuse(String),
    /// Choices that do not fit the model.
    #[error("{0}")]
    Plan(String),
    /// A Gram matrix that stays singular.
    #[error(
        "{module}: the Gram matrix is not positive definite (pivot {pivot}), even with damping {damp}; \
        use more calibration data or a larger --percdamp"
    )]
    #[allow(missing_docs)]
    Singular { module: String, pivot: usize, damp: f64 },
    /// Activations that are not finite, between two blocks.
    #[error("block {block}: its output holds {value} (window {window}, position {position}, feature {feature})")]
    #[allow(missing_docs)]
    Hidden { block: usize, window: usize, position: usize, feature: usize, value: f32 },
    /// Embeddings that are not finite.
    #[error(
        "the embedding of token {token} holds {value} in feature {feature} (window {window}, position {position}); the \
        tables it is read from are damaged"
    )]
    #[allow(missing_docs)]
    Embedding { token: u32, window: usize, position: usize, feature: usize, value: f32 },
    /// An input of linears that is not finite, or not in the type that products round to.
    #[error(
        "{module}: its input holds {value} in window {window}, position {position}, feature {feature} ({count} such \
        values in what was looked at); {hint}"
    )]
    #[allow(missing_docs)]
    Input {
        module: String,
        value: f32,
        window: usize,
        position: usize,
        feature: usize,
        count: usize,
        hint: &'static str,
    },
    /// Inputs of linears that are finite, and whose sums of squares are not.
    #[error(
        "{module}: its inputs are finite, but not the sum of their squares in feature {feature}: {value} is the largest \
        (window {window}, position {position}); the weights before it are damaged or too large, or use a method that needs \
        no calibration data"
    )]
    #[allow(missing_docs)]
    Sums { module: String, feature: usize, value: f32, window: usize, position: usize },
    /// A weight that products round to infinity.
    #[error(
        "{module}: its weight in row {row}, column {column} is more than products of this precision hold; choose another \
        --dtype"
    )]
    #[allow(missing_docs)]
    Weight { module: String, row: usize, column: usize },
    /// A loss that is no number.
    #[error(
        "window {window}, position {position}: the loss is {value}; the head's weights are too large for its products \
        (--dtype f32 has the widest range), or damaged"
    )]
    #[allow(missing_docs)]
    Loss { window: usize, position: usize, value: f32 },
    /// Statistics that are not finite.
    #[error("{module}: the calibration inputs hold NaN or infinite values from feature {feature} on")]
    #[allow(missing_docs)]
    Activations { module: String, feature: usize },
    /// A weight that grew beyond its type in a sweep.
    #[error(
        "{module}: the sweep left {value} in row {row}, column {column}: more than {dtype} holds; use a larger \
        --percdamp, which keeps weights near what they were, or --allow-fallback"
    )]
    #[allow(missing_docs)]
    Overflow { module: String, row: usize, column: usize, value: f32, dtype: paring_format::Dtype },
    /// What was written does not read back as what was made: a digest differs.
    #[error(
        "{file}: {name} reads back differently from what was computed (digest {got:016x}, expected {expected:016x})"
    )]
    #[allow(missing_docs)]
    Check { file: String, name: String, expected: u64, got: u64 },
    /// A checkpoint that contradicts itself, or what was noted when it was made.
    #[error("{file}: {name}: expected {expected}, got {got}")]
    #[allow(missing_docs)]
    Verify { file: String, name: String, expected: String, got: String },
}

impl Error {
    /// Tells choices that make no sense, whatever the model and the data, from runs that failed.
    pub fn is_misuse(&self) -> bool {
        matches!(self, Error::Misuse(_) | Error::Data(paring_data::Error::Misuse(_)))
    }

    /// The same of windows that are some of a run's: `first` come before them.
    pub(crate) fn behind_windows(mut self, first: usize) -> Self {
        use Error::{Embedding, Hidden, Input, Sums};
        if let Hidden { window, .. } | Embedding { window, .. } | Input { window, .. } | Sums { window, .. } = &mut self
        {
            *window += first;
        }
        self
    }

    /// A file whose content cannot be used.
    pub(crate) fn content(file: impl Into<String>, reason: impl Into<String>) -> Self {
        Error::Content { file: file.into(), reason: reason.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_counted_from_the_first_of_all() {
        let hidden = Error::Hidden { block: 1, window: 2, position: 3, feature: 4, value: f32::NAN };
        let told = hidden.behind_windows(40).to_string();
        assert_eq!(told, "block 1: its output holds NaN (window 42, position 3, feature 4)");
        assert_eq!(Error::Plan("window 2".into()).behind_windows(40).to_string(), "window 2");
    }
}
