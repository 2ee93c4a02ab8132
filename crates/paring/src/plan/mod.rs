//! All of a run's choices. A plan is printed, and stored beside the checkpoint it made.

pub mod allocation;
pub mod compatibility;
mod dense_stream;
pub mod file;
mod given;
pub(crate) mod groups;
mod mask;
pub mod method;
mod named;
mod option;
mod overrides;
mod recipe;
mod reconstruct;
mod rounding;
mod spqr;

use std::fmt;

use paring_format::QuantArgs;
use paring_kernels::gram::GramPrecision;
use serde::Serialize;

use crate::{Precision, Result};

pub use allocation::Allocation;
pub use dense_stream::DenseStream;
pub(crate) use file::yaml_value;
pub use given::GivenMasks;
pub use groups::SizedBy;
pub use mask::MaskSearch;
pub use method::{Curvature, METHODS, MethodInfo};
pub(crate) use named::named_layout;
pub use option::Opt;
pub use overrides::{Choice, Override};
pub use recipe::Recipe;
pub use reconstruct::RECONSTRUCT_STEPS;
pub use rounding::{Grouping, Rounding, Search};
pub use spqr::{Permutation, Spqr, for_target_bits};

/// The weights that are removed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pattern {
    /// A share of each layer, slice or row, as the method has it; 0 ≤ share < 1.
    Unstructured(f64),
    /// `keep` of every `of` consecutive weights of a row stay.
    NofM {
        /// Weights kept.
        keep: usize,
        /// Weights in a group.
        of: usize,
    },
    /// Those that a file of masks says.
    Given,
}

impl Pattern {
    /// The number of consecutive weights that are chosen among; `None` where a share of many goes.
    pub fn group(&self) -> Option<usize> {
        match self {
            Pattern::Unstructured(_) | Pattern::Given => None,
            Pattern::NofM { of, .. } => Some(*of),
        }
    }

    /// Errors when it is out of range.
    fn check(&self) -> Result<()> {
        match *self {
            Pattern::Unstructured(share) if !(0.0..1.0).contains(&share) => {
                Err(Opt::Sparsity.wrong(share, "must be at least 0 and below 1"))
            }
            Pattern::NofM { keep, of } if keep > of || of == 0 || of > 1024 => {
                Err(Opt::Pattern.wrong(self, "expected N:M that keeps N of every M weights, 0 <= N <= M <= 1024"))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Pattern {
    /// As the command line has it: `2:4`, or a share.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pattern::Unstructured(share) => write!(f, "{share}"),
            Pattern::NofM { keep, of } => write!(f, "{keep}:{of}"),
            Pattern::Given => f.write_str("as given"),
        }
    }
}

/// In which order a sweep visits the columns, and which columns share a grid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ActOrder {
    /// File order.
    #[default]
    None,
    /// By falling Gram diagonal; groups are of neighbouring columns and fitted beforehand.
    Static,
    /// By falling Gram diagonal; groups follow the visit, so the file must say which group a column is in.
    Group,
}

/// A compression run.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// The model's name.
    pub model: String,
    /// The calibration data's name; `None` when the method needs none.
    pub dataset: Option<String>,
    /// The treatment of each linear that no override names.
    pub recipe: Recipe,
    /// Quantization of the attention's keys and values as the model runs, with scales from the calibration data;
    /// `None`: they are not.
    #[serde(serialize_with = "args_json", skip_serializing_if = "Option::is_none")]
    pub kv_cache: Option<QuantArgs>,
    /// Masks from a file, in place of those that the recipe would find; `None`: it finds them, or prunes nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub masks: Option<GivenMasks>,
    /// Share of the weights that SpQR keeps exact: the threshold that does is found before the run.
    pub outlier_share: Option<f64>,
    /// Calibration windows.
    pub nsamples: usize,
    /// Tokens in a window.
    pub seqlen: usize,
    /// Seed of the windows' starts; `None`: one window after the other from the start of the data.
    pub seed: Option<u64>,
    /// Seconds from 1970 to the moment that the chat template writes; `None` where it asks for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moment: Option<i64>,
    /// Statistics of a fan are taken after the fans before it were compressed.
    pub true_sequential: bool,
    /// The dense model runs beside, and weights are shifted towards what it computes; `None`: they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dense_stream: Option<DenseStream>,
    /// Each block is trained, once its linears are compressed, until it answers as the dense one: steps at most. `None`: none is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reconstruct_steps: Option<usize>,
    /// The device: `cpu`, or `cuda:N`.
    pub device: String,
    /// Bytes of a GPU's memory that it may fill; `None` on the CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_vram: Option<u64>,
    /// Type that products round their inputs to.
    #[serde(serialize_with = "precision_name")]
    pub precision: Precision,
    /// Arithmetic of a GPU's Gram matrices of f32 activations.
    #[serde(serialize_with = "as_written")]
    pub gram_precision: GramPrecision,
    /// Blocks to compress; `None`: all.
    pub layers: Option<(usize, usize)>,
    /// Modules to compress (exact names or `re:` patterns); empty: all.
    pub include: Vec<String>,
    /// Modules to leave alone.
    pub ignore: Vec<String>,
    /// Activations between blocks that take more than 256 MiB lie in a file in the output folder.
    pub offload_activations: bool,
    /// The error of each layer is not computed.
    pub skip_out_loss: bool,
    /// A linear that plain rounding or pruning would serve better, by its error on the calibration data, is stored so.
    pub allow_fallback: bool,
    /// The layout to write; `None`: what fits the recipe.
    pub format: Option<String>,
    /// Linears that are treated in another way; the last one that names a linear decides.
    pub overrides: Vec<Override>,
    /// Settings that are chosen for each linear by measuring, before the run; `None`: all have those of their recipe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allocation: Option<Allocation>,
    /// The recipe file that choices were read from.
    pub config: Option<String>,
    /// Replace the files of an earlier checkpoint.
    pub overwrite: bool,
    /// Read a model whose files disagree as transformers does, and leave out what it does not have.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub lenient: bool,
}

/// As a config says it.
fn args_json<S: serde::Serializer>(args: &Option<QuantArgs>, s: S) -> std::result::Result<S::Ok, S::Error> {
    args.as_ref().map(QuantArgs::to_json).serialize(s)
}

fn as_written<S: serde::Serializer>(p: &GramPrecision, s: S) -> std::result::Result<S::Ok, S::Error> {
    s.collect_str(p)
}

fn precision_name<S: serde::Serializer>(p: &Precision, s: S) -> std::result::Result<S::Ok, S::Error> {
    s.serialize_str(match p {
        Precision::F32 => "f32",
        Precision::Bf16 => "bf16",
        Precision::F16 => "f16",
    })
}

impl Plan {
    /// A plan that treats all linears of a model alike, in f32 on the CPU, without calibration data.
    pub fn new(model: impl Into<String>, recipe: Recipe) -> Self {
        Self {
            model: model.into(),
            dataset: None,
            recipe,
            kv_cache: None,
            masks: None,
            outlier_share: None,
            nsamples: 0,
            seqlen: 0,
            seed: None,
            moment: None,
            true_sequential: false,
            dense_stream: None,
            reconstruct_steps: None,
            device: "cpu".into(),
            max_vram: None,
            precision: Precision::F32,
            gram_precision: GramPrecision::F32,
            layers: None,
            include: Vec::new(),
            ignore: Vec::new(),
            offload_activations: false,
            skip_out_loss: false,
            allow_fallback: false,
            format: None,
            overrides: Vec::new(),
            allocation: None,
            config: None,
            overwrite: false,
            lenient: false,
        }
    }
}
