//! The options that messages name.

use std::fmt;

use paring_format::message;
use paring_format::message::{Message, Piece, Setting};

use crate::Error;

macro_rules! options {
    ($($variant:ident $name:literal,)*) => {
        /// An option of a run, or of another command.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum Opt { $($variant,)* }

        impl Opt {
            /// All of them.
            pub const ALL: &[Opt] = &[$(Opt::$variant,)*];

            /// Its name, as recipe files have it.
            pub fn name(self) -> &'static str {
                match self { $(Opt::$variant => $name,)* }
            }
        }
    };
}

options! {
    ActOrder "actorder",
    Allocate "allocate",
    AllowFallback "allow-fallback",
    AllowMixedArithmetic "allow-mixed-arithmetic",
    BlockSize "blocksize",
    Config "config",
    DataDir "data-dir",
    DenseStream "dense-stream",
    Device "device",
    Dtype "dtype",
    Format "format",
    GramPrecision "gram-precision",
    Group "group",
    GroupSize "groupsize",
    Ignore "ignore",
    Include "include",
    KeepLastColumns "keep-last-columns",
    KvCache "kv-cache",
    Layers "layers",
    Lenient "lenient",
    Lora "lora",
    Mask "mask",
    MaskOnly "mask-only",
    Masks "masks",
    MaxKl "max-kl",
    MaxPerplexityRatio "max-perplexity-ratio",
    MaxVram "max-vram",
    Method "method",
    MinTop1 "min-top1",
    Mse "mse",
    Nsamples "nsamples",
    Offload "offload",
    Ops "ops",
    Out "out",
    OutlierShare "outlier-share",
    OutlierThreshold "outlier-threshold",
    Overwrite "overwrite",
    Pattern "pattern",
    PerChannel "perchannel",
    Percdamp "percdamp",
    Published "published",
    PermutationOrder "permutation-order",
    QqGroupSize "qq-groupsize",
    QqScaleBits "qq-scale-bits",
    QqZeroBits "qq-zero-bits",
    QqZeroSym "qq-zero-sym",
    Reconstruct "reconstruct",
    ReconstructSteps "reconstruct-steps",
    Refit "refit",
    Resumable "resumable",
    Resume "resume",
    RoundZero "round-zero",
    Scales "scales",
    Scheme "scheme",
    Seed "seed",
    Seqlen "seqlen",
    Sequences "sequences",
    SimplifiedOutliers "simplified-outliers",
    SkipOutLoss "skip-out-loss",
    Sparsity "sparsity",
    StaticGroups "static-groups",
    Strict "strict",
    Sym "sym",
    Teacher "teacher",
    TargetBits "target-bits",
    TextField "text-field",
    TrueSequential "true-sequential",
    Wbits "wbits",
}

impl Opt {
    /// The option of this name.
    pub fn named(name: &str) -> Option<Opt> {
        Opt::ALL.iter().copied().find(|option| option.name() == name)
    }

    /// The option with a value, in a message.
    pub fn with(self, value: impl fmt::Display) -> Setting {
        Setting::with(self.name(), value)
    }

    /// The switch set to false or true, in a message.
    pub fn switched(self, on: bool) -> Setting {
        Setting::switched(self.name(), on)
    }

    /// An error of a value that makes no sense, whatever the model.
    pub fn wrong(self, value: impl fmt::Display, problem: impl Into<Message>) -> Error {
        self.misuse(message![self.with(value), ": "].then(problem))
    }

    /// An error of a value that does not fit the model or the data.
    pub fn unfit(self, value: impl fmt::Display, problem: impl Into<Message>) -> Error {
        self.misfit(message![self.with(value), ": "].then(problem))
    }

    /// An error of choices that make no sense, in a sentence that names them.
    pub fn misuse(self, problem: impl Into<Message>) -> Error {
        Error::Option { option: self, problem: problem.into(), hint: None, misuse: true }
    }

    /// An error of choices that do not fit the model or the data.
    pub fn misfit(self, problem: impl Into<Message>) -> Error {
        Error::Option { option: self, problem: problem.into(), hint: None, misuse: false }
    }
}

impl From<Opt> for Piece {
    fn from(option: Opt) -> Self {
        Setting::new(option.name()).into()
    }
}
