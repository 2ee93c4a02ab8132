//! Errors, each one line that says what to do.

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// The error of this crate: the problem, its place, and what was expected instead.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The checkpoint's files could not be read or decoded.
    #[error(transparent)]
    Format(#[from] paring_format::Error),
    /// A tensor operation failed (shapes or memory).
    #[error("tensor operation: {0}")]
    Tensor(#[from] candle_core::Error),
    /// A tap refused or failed; the error is its own.
    #[error("{0}")]
    Tap(Box<dyn std::error::Error + Send + Sync>),
    /// The config names no model family that this program has.
    #[error("{file}: architecture {got} is not supported; {known}")]
    UnknownArchitecture {
        /// The config file.
        file: String,
        /// The name found.
        got: String,
        /// The supported names, or the one that was meant, in words.
        known: String,
    },
    /// A value of the config is of the wrong type, out of range, or at odds with another one.
    #[error("{file}: {key} should be {expected}, got {got}")]
    BadConfig {
        /// The config file.
        file: String,
        /// The key, dotted when nested.
        key: String,
        /// The accepted values.
        expected: String,
        /// The value found.
        got: String,
    },
    /// The config lacks a required key.
    #[error("{file}: {key} is missing; add it as it is in the original model's config")]
    MissingConfigKey {
        /// The config file.
        file: String,
        /// The key, dotted when nested.
        key: String,
    },
    /// The checkpoint lacks a tensor that the config promises.
    #[error("{file}: the checkpoint has no tensor {name}; check that all its files are there and that {hint}")]
    MissingTensor {
        /// The config file.
        file: String,
        /// The tensor's name, or the module's for a linear in any layout.
        name: String,
        /// The config keys that ask for the tensor.
        hint: String,
    },
    /// A stored tensor does not have the shape that the config implies.
    #[error(
        "{file}: tensor {name} has shape {got:?} but the config implies {expected:?}; use the config.json that \
        belongs to these weights"
    )]
    TensorShape {
        /// The file that holds the tensor.
        file: String,
        /// The tensor's name.
        name: String,
        /// Shape by the config.
        expected: Vec<usize>,
        /// Shape in the file.
        got: Vec<usize>,
    },
    /// A stored tensor is not of a type that can be used here.
    #[error("{file}: tensor {name} has type {got}, expected {expected}; convert it")]
    TensorType {
        /// The file that holds the tensor.
        file: String,
        /// The tensor's name.
        name: String,
        /// The types that can be used.
        expected: String,
        /// Type in the file.
        got: String,
    },
    /// A table of embeddings in codes.
    #[error(
        "{file}: embedding {module} is quantized ({part}), which paring does not read; store it dense (`paring \
        decompress` \
        does where the config names the module)"
    )]
    QuantizedEmbedding {
        /// The file that holds it.
        file: String,
        /// Its module path.
        module: String,
        /// The tensor that says so, with its type.
        part: String,
    },
    /// An adapter for a module that is no linear of the model, or for two of them.
    #[error("{place}: {module} is adapted, which is not one linear of this model's blocks; {hint}")]
    AdapterModule {
        /// The adapter's folder.
        place: String,
        /// The module path, as the adapter has it.
        module: String,
        /// The nearest linears, or what to do.
        hint: String,
    },
    /// An adapter for a linear of another shape.
    #[error(
        "{place}: {module}: expected factors for {expected:?} (outputs, inputs), got {got:?}; use the base model it was \
        trained on"
    )]
    AdapterShape {
        /// The adapter's folder.
        place: String,
        /// The module path, as the adapter has it.
        module: String,
        /// Outputs and inputs of the linear.
        expected: [usize; 2],
        /// Those of the factors.
        got: [usize; 2],
    },
    /// A scale that nothing can be divided by.
    #[error("{file}: tensor {name} holds {got}, expected numbers above 0; download the file again")]
    Scale {
        /// The file that holds the tensor.
        file: String,
        /// The tensor's name.
        name: String,
        /// The number found.
        got: f32,
    },
    /// More than one tensor is missing, misshapen or of a wrong type, or there are some that the model does not have.
    #[error("{0}")]
    Mismatch(Box<crate::Mismatch>),
    /// A weight was given with the wrong number of values.
    #[error("a weight of {rows} x {cols} needs {} values, got {got}", .rows * .cols)]
    WeightSize {
        /// Outputs.
        rows: usize,
        /// Inputs.
        cols: usize,
        /// Values given.
        got: usize,
    },
    /// A fan does not hold the linears that its block multiplies with.
    #[error("fan {fan} holds {} ({}) where its block needs {expected}; a block's fans must keep their linears", .linears.len(), .linears.join(", "))]
    FanShape {
        /// The fan.
        fan: &'static str,
        /// Linears that the block uses.
        expected: usize,
        /// Module paths of those that are there.
        linears: Vec<String>,
    },
    /// A family's description of its blocks contradicts itself.
    #[error("{module}: the family describes {problem}; this is an error of the program")]
    Anatomy {
        /// The block.
        module: String,
        /// The contradiction.
        problem: String,
    },
    /// A pass to a block's output ended before it.
    #[error("the pass through a block stopped before its output; this is an error of the program")]
    StoppedEarly,
    /// A step of a recorded pass reads activations that no step of it made.
    #[error("a recorded pass reads activations that no step of it made; this is an error of the program")]
    OffTape,
    /// A step of a recorded pass has no gradient.
    #[error("a recorded pass has a step whose result nothing reads; this is an error of the program")]
    NoGradient,
    /// A block that cannot be trained as it was opened.
    #[error("a backward pass of {what}; open the model without rounding of activations, and on the CPU")]
    NoBackward {
        /// The part that has no backward pass.
        what: &'static str,
    },
    /// The activations of a pass are not those of its tokens.
    #[error("activations of {tokens} tokens in a pass of {expected} tokens of {sequences} sequences")]
    SpanTokens {
        /// Tokens in the activations.
        tokens: usize,
        /// Tokens in the pass.
        expected: usize,
        /// Sequences in the pass.
        sequences: usize,
    },
    /// A sequence belongs to another model than the blocks it is passed through.
    #[error(
        "a sequence with the keys and values of {got} blocks in a model of {expected}; sequences belong to one model"
    )]
    SequenceBlocks {
        /// Blocks of the model.
        expected: usize,
        /// Blocks of the sequence.
        got: usize,
    },
    /// A sequence is longer than the model's positions.
    #[error("a sequence of {tokens} tokens is longer than the model's {max} positions; use a shorter one")]
    TooLong {
        /// Tokens in the sequence.
        tokens: usize,
        /// `max_position_embeddings`.
        max: usize,
    },
    /// A token id that the model has no embedding for.
    #[error("token {token} is outside the model's vocabulary of {vocab}; use the tokenizer of this model")]
    TokenOutOfRange {
        /// The token id.
        token: u32,
        /// `vocab_size`.
        vocab: usize,
    },
    /// The token ids do not fill the rows they are said to have.
    #[error("{tokens} token ids do not make {rows} equal, non-empty rows")]
    UnevenRows {
        /// Number of ids.
        tokens: usize,
        /// Number of rows asked for.
        rows: usize,
    },
}

impl Error {
    /// The error's line with the options in it apart, for programs that spell them as they are typed.
    pub fn message(&self) -> paring_format::message::Message {
        match self {
            Error::Format(error) => error.message(),
            Error::Mismatch(mismatch) => mismatch.message(),
            other => other.to_string().into(),
        }
    }
}
