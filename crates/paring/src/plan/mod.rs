//! All of a run's choices. A plan is printed, and stored beside the checkpoint it made.

pub mod allocation;
pub mod compatibility;
pub mod file;
pub(crate) mod groups;
mod mask;
pub mod method;
mod named;
mod option;
mod overrides;
mod rounding;
mod spqr;

use std::fmt;

use paring_format::QuantArgs;
use paring_format::message;
use paring_kernels::gram::GramPrecision;
use serde::Serialize;

use crate::{Error, Precision, Result};

pub use allocation::Allocation;
pub(crate) use file::yaml_value;
pub use groups::SizedBy;
pub use mask::MaskSearch;
use method::names;
pub use method::{Curvature, METHODS, MethodInfo};
pub(crate) use named::named_layout;
pub use option::Opt;
pub use overrides::{Choice, Override};
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
}

impl Pattern {
    /// The number of consecutive weights that are chosen among; `None` where a share of many goes.
    pub fn group(&self) -> Option<usize> {
        match self {
            Pattern::Unstructured(_) => None,
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

/// The treatment of one weight matrix: a method with all its settings.
#[derive(Clone, Debug, Serialize)]
pub struct Recipe {
    /// The method.
    pub method: &'static MethodInfo,
    /// The weights that are removed; `None`: none.
    pub pattern: Option<Pattern>,
    /// The grids that the rest is rounded to; `None`: it stays as it is.
    pub rounding: Option<Rounding>,
    /// SpQR's settings, for that method.
    pub spqr: Option<Spqr>,
    /// Quantization of the linears' inputs as the model runs; `None`: they are not. Scales that are not found as
    /// it runs come from the calibration data.
    #[serde(serialize_with = "args_json", skip_serializing_if = "Option::is_none")]
    pub input: Option<QuantArgs>,
    /// The choice of the weights that SparseGPT removes.
    #[serde(skip_serializing_if = "MaskSearch::is_published")]
    pub mask: MaskSearch,
    /// The weights that stay are fitted once more when the mask is known.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub refit: bool,
    /// Damping, as a share of the mean of the Gram diagonal.
    pub percdamp: f64,
    /// Columns of a slice.
    pub blocksize: usize,
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
            outlier_share: None,
            nsamples: 0,
            seqlen: 0,
            seed: None,
            moment: None,
            true_sequential: false,
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

impl Recipe {
    /// The fewest weights of a row that share a grid; `None` where none are rounded, or whole rows or more share one.
    pub fn least_group(&self) -> Option<usize> {
        self.rounding.and_then(|r| r.group_size())
    }

    /// The statistics of a linear's inputs that it needs.
    pub fn statistics(&self) -> Curvature {
        if self.refines() {
            return Curvature::Full;
        }
        let weighted = self.rounding.is_some_and(|rounding| rounding.search == Search::Weighted);
        self.method.curvature.max(if weighted { Curvature::Diagonal } else { Curvature::Flat })
    }

    /// Tells whether the grids of all groups are fitted before the sweep.
    pub(crate) fn fits_before(&self) -> bool {
        let before = |r: Rounding| r.group_size().is_none() || r.static_groups || r.act_order == ActOrder::Static;
        self.rounding.is_some_and(before) || !self.method.needs_data()
    }

    /// Columns of a slice of the sweep over a matrix of `cols`: only a full curvature moves errors between slices.
    pub(crate) fn slice(&self, cols: usize) -> usize {
        if self.method.curvature == Curvature::Full { self.blocksize } else { cols }
    }

    /// Errors unless the choices go together; needs no model.
    pub fn check(&self) -> Result<()> {
        self.check_method()?;
        if !(0.0..=1e6).contains(&self.percdamp) {
            return Err(Opt::Percdamp.wrong(self.percdamp, "must be from 0 to 1e6"));
        }
        if self.blocksize == 0 {
            return Err(Opt::BlockSize.wrong(0, "must be at least 1"));
        }
        self.check_pattern()?;
        self.check_mask()?;
        self.check_rounding()
    }

    /// Errors unless the recipe has what its method takes, and nothing else.
    fn check_method(&self) -> Result<()> {
        let fail = |text: String| Err(Error::Misuse(text));
        let method = self.method;
        if self.pattern.is_some() && !method.drops {
            return fail(format!("{method} does not prune; use one of {}", names(|m| m.drops)));
        }
        if self.pattern.is_none() && method.drops {
            let removal = message![Opt::Pattern.with("N:M"), " or ", Opt::Sparsity.with("S")];
            return Err(Opt::Pattern.misuse(message![format!("{method} needs ")].then(removal)));
        }
        if self.rounding.is_some() && !method.rounds {
            let both = names(|m| m.drops && m.rounds);
            return fail(format!("{method} does not quantize; use {both} to prune and quantize in one run"));
        }
        if self.rounding.is_none() && method.rounds && !method.drops {
            let needs = message![format!("{method} needs "), Opt::Wbits, " or ", Opt::Scheme];
            return Err(Opt::Wbits.misuse(needs));
        }
        match &self.spqr {
            Some(_) if !method.spqr => {
                let spqr = names(|m| m.spqr);
                fail(format!("{method} has no options of SpQR (outliers, second level, permutation); use {spqr}"))
            }
            None if method.spqr => fail(format!("{method} needs its settings; give a recipe with them")),
            Some(spqr) => spqr.check(self.rounding.as_ref()),
            None => Ok(()),
        }
    }

    fn check_pattern(&self) -> Result<()> {
        let Some(pattern) = self.pattern else { return Ok(()) };
        pattern.check()?;
        // Only a sweep with a full curvature has slices that a group could lie across.
        match pattern.group().filter(|of| !self.blocksize.is_multiple_of(*of)) {
            Some(of) if self.method.curvature == Curvature::Full => {
                let problem = format!("groups of {of} do not fit slices of {} columns", self.blocksize);
                let hint = message!["choose a ", Opt::BlockSize, format!(" that is a multiple of {of}")];
                Err(Opt::Pattern.wrong(pattern, problem).hint(hint))
            }
            _ => Ok(()),
        }
    }

    fn check_rounding(&self) -> Result<()> {
        let method = self.method;
        if let Some(r) = self.rounding {
            r.check()?;
            let rows_of_integers = r.element.int_bits().is_some() && r.in_rows();
            if self.spqr.is_some() && !rows_of_integers {
                return Err(Error::Misuse(format!(
                    "{method} rounds to integers with a scale for each row or group of columns, not to {}; use \
                    another method",
                    r.args()
                )));
            }
            if r.reorders() && method.curvature != Curvature::Full {
                let problem = format!(" has no effect on {method}; leave it out");
                return Err(Opt::ActOrder.misuse(message![Opt::ActOrder, problem]));
            }
            if r.act_order == ActOrder::Group && self.pattern.is_some() {
                let order = Opt::ActOrder.with("group");
                let hint = message!["use ", Opt::ActOrder.with("static"), ", or leave it out"];
                return Err(Opt::ActOrder.misuse(message![order, " cannot be combined with pruning"]).hint(hint));
            }
        }
        Ok(())
    }

    /// Errors unless the recipe fits a matrix of `cols` columns.
    pub fn check_cols(&self, module: &str, cols: usize) -> Result<()> {
        if let Some(pattern) = self.pattern
            && let Some(of) = pattern.group()
            && !cols.is_multiple_of(of)
        {
            let problem = format!("{module}: its {cols} columns are not a multiple of {of}, as ");
            let needs = message![problem, Opt::Pattern.with(pattern), " needs"];
            let hint = message!["choose another pattern, or leave the layer out with ", Opt::Ignore];
            return Err(Opt::Pattern.misfit(needs).hint(hint));
        }
        if let Some(spqr) = &self.spqr {
            if spqr.keep_last_columns >= cols {
                let keep = Opt::KeepLastColumns.with(spqr.keep_last_columns);
                let none = format!(" leaves none of its {cols} columns to round; use a smaller number");
                return Err(Opt::KeepLastColumns.misfit(message![format!("{module}: "), keep, none]));
            }
            if let Permutation::Given(order) = &spqr.permutation {
                let mut sorted = order.clone();
                sorted.sort_unstable();
                if sorted.len() != cols || sorted.iter().enumerate().any(|(k, &column)| column as usize != k) {
                    return Err(Error::Plan(format!(
                        "{module}: the given order is not a permutation of its {cols} columns; name each once, from 0"
                    )));
                }
            }
            // A short last group is fine.
            return Ok(());
        }
        self.check_groups(&[(module, cols)])?;
        if let Some(size) = self.rounding.and_then(|r| r.group_size())
            && !cols.is_multiple_of(size)
        {
            let problem = format!("{module}: its {cols} columns are not a multiple of ");
            let problem = message![problem, format!("{size}, the columns that share a scale")];
            return Err(Opt::Scheme.misfit(problem).hint(message!["leave it out with ", Opt::Ignore]));
        }
        Ok(())
    }
}
