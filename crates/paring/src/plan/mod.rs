//! All of a run's choices. A plan is printed, and stored beside the checkpoint it made.

pub mod compatibility;
pub mod file;
pub mod method;
mod overrides;
mod rounding;
mod spqr;

use std::fmt;

use paring_format::{QuantArgs, Strategy};
use paring_kernels::gram::GramPrecision;
use serde::Serialize;

use crate::{Error, Precision, Result};

use method::names;
pub use method::{Curvature, METHODS, MethodInfo};
pub use overrides::{Choice, Override};
pub use rounding::Rounding;
pub use spqr::{Permutation, Spqr, for_target_bits};

/// Which share of the weights goes.
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
                Err(Error::Misuse(format!("--sparsity {share}: must be at least 0 and below 1")))
            }
            Pattern::NofM { keep, of } if keep > of || of == 0 || of > 1024 => {
                Err(Error::Misuse(format!("--pattern {keep}:{of}: keeps N of every M weights, 0 <= N <= M <= 1024")))
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
    /// The weights to remove.
    pub pattern: Option<Pattern>,
    /// The grids that the rest is rounded to.
    pub rounding: Option<Rounding>,
    /// SpQR's settings, for that method.
    pub spqr: Option<Spqr>,
    /// How the inputs of the linears are quantized as the model runs; `None`: not at all. Scales that are not found as
    /// it runs come from the calibration data.
    #[serde(serialize_with = "args_json", skip_serializing_if = "Option::is_none")]
    pub input: Option<QuantArgs>,
    /// Damping, as a share of the mean of the Gram diagonal.
    pub percdamp: f64,
    /// Columns of a slice.
    pub blocksize: usize,
}

/// A compression run.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// Where the model comes from.
    pub model: String,
    /// Where the calibration text comes from; `None` when the method needs none.
    pub dataset: Option<String>,
    /// What is done to each linear that no override names.
    pub recipe: Recipe,
    /// How the attention's keys and values are quantized as the model runs, with scales from the calibration data;
    /// `None`: not at all.
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
    /// Statistics of a fan are taken after the fans before it were compressed.
    pub true_sequential: bool,
    /// Where it computes: `cpu`, or `cuda:N`.
    pub device: String,
    /// Bytes of a GPU's memory that it may fill; `None` on the CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_vram: Option<u64>,
    /// How products round their inputs.
    #[serde(serialize_with = "precision_name")]
    pub precision: Precision,
    /// How a GPU multiplies f32 activations for Gram matrices.
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
    /// The recipe file that choices were read from.
    pub config: Option<String>,
    /// Replace the files of an earlier checkpoint.
    pub overwrite: bool,
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

impl Recipe {
    /// The method's row in the table.
    pub fn info(&self) -> &'static MethodInfo {
        self.method
    }

    /// The fewest weights of a row that share a grid; 0 where none are rounded, or where whole rows or more share one.
    pub fn least_group(&self) -> usize {
        self.rounding.and_then(|r| r.group_size()).unwrap_or(0)
    }

    /// Columns of a slice of the sweep over a matrix of `cols`: only a full curvature moves errors between slices.
    pub(crate) fn slice(&self, cols: usize) -> usize {
        if self.method.curvature == Curvature::Full { self.blocksize } else { cols }
    }

    /// Errors unless the choices go together; needs no model.
    pub fn check(&self) -> Result<()> {
        let fail = |text: String| Err(Error::Misuse(text));
        let method = self.method;
        if self.pattern.is_some() && !method.drops {
            return fail(format!("{method} does not prune; use one of {}", names(|m| m.drops)));
        }
        if self.pattern.is_none() && method.drops {
            return fail(format!("{method} needs --pattern N:M or --sparsity S"));
        }
        if self.rounding.is_some() && !method.rounds {
            let both = names(|m| m.drops && m.rounds);
            return fail(format!("{method} does not quantize; for both at once use {both}"));
        }
        if self.rounding.is_none() && method.rounds && !method.drops {
            return fail(format!("{method} needs --wbits or --scheme"));
        }
        match &self.spqr {
            Some(_) if !method.spqr => {
                let spqr = names(|m| m.spqr);
                return fail(format!("{method} knows no second level, outliers or permutation; use {spqr}"));
            }
            None if method.spqr => return fail(format!("{method} needs its settings")),
            Some(spqr) => spqr.check(self.rounding.as_ref())?,
            None => {}
        }
        if !(0.0..=1e6).contains(&self.percdamp) {
            return fail(format!("--percdamp {}: must be from 0 to 1e6", self.percdamp));
        }
        if self.blocksize == 0 {
            return fail("--blocksize 0: must be at least 1".into());
        }
        if let Some(pattern) = self.pattern {
            pattern.check()?;
            // Only a sweep with a full curvature has slices that a group could lie across.
            if let Some(of) = pattern.group().filter(|of| !self.blocksize.is_multiple_of(*of))
                && method.curvature == Curvature::Full
            {
                return fail(format!(
                    "--pattern {pattern}: groups of {of} do not fit slices of {} columns; choose a --blocksize that is a \
                    multiple of {of}",
                    self.blocksize
                ));
            }
        }
        if let Some(r) = self.rounding {
            r.check()?;
            let rows_of_integers =
                r.element.int_bits().is_some() && matches!(r.strategy, Strategy::Group(_) | Strategy::Channel);
            if self.spqr.is_some() && !rows_of_integers {
                return fail(format!(
                    "{method} rounds to integers in groups of a row or whole rows, not to {}",
                    r.args()
                ));
            }
            if r.reorders() && method.curvature != Curvature::Full {
                return fail(format!("--actorder has no meaning for {method}: it does not move errors"));
            }
            if r.reorders() && self.pattern.is_some() {
                return fail("--actorder cannot be combined with pruning".into());
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
            return Err(Error::Plan(format!(
                "{module}: its {cols} columns are not a multiple of {of}, as --pattern {pattern} needs"
            )));
        }
        if let Some(spqr) = &self.spqr {
            if spqr.keep_last_columns >= cols {
                let keep = spqr.keep_last_columns;
                return Err(Error::Plan(format!(
                    "{module}: --keep-last-columns {keep} leaves none of its {cols} columns"
                )));
            }
            if let Permutation::Given(order) = &spqr.permutation {
                let mut sorted = order.clone();
                sorted.sort_unstable();
                if sorted.len() != cols || sorted.iter().enumerate().any(|(k, &column)| column as usize != k) {
                    return Err(Error::Plan(format!(
                        "{module}: the given order is no permutation of its {cols} columns"
                    )));
                }
            }
            // A short last group is fine.
            return Ok(());
        }
        if let Some(size) = self.rounding.and_then(|r| r.group_size())
            && !cols.is_multiple_of(size)
        {
            let text = match self.rounding.and_then(|r| r.element.int_bits()) {
                Some(_) => format!("--groupsize {size}; choose a divisor, or -1 for whole rows"),
                None => format!("{size}, the columns that share a scale; leave it out with --ignore"),
            };
            return Err(Error::Plan(format!("{module}: its {cols} columns are not a multiple of {text}")));
        }
        Ok(())
    }
}
