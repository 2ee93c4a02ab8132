//! The treatment of one weight matrix: a method with its settings, and the checks that they go together.

use paring_format::message;
use paring_format::{Dynamic, QuantArgs};
use serde::Serialize;

use super::method::names;
use super::{ActOrder, Curvature, MaskSearch, MethodInfo, Opt, Pattern, Permutation, Rounding, Search, Spqr};
use crate::{Error, Result};

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
    #[serde(serialize_with = "super::args_json", skip_serializing_if = "Option::is_none")]
    pub input: Option<QuantArgs>,
    /// The choice of the weights that SparseGPT removes.
    #[serde(skip_serializing_if = "MaskSearch::is_published")]
    pub mask: MaskSearch,
    /// The weights that stay are fitted once more when the mask is known.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub refit: bool,
    /// The sweep decides about the mask alone: weights that stay keep their values.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub mask_only: bool,
    /// Damping, as a share of the mean of the Gram diagonal.
    pub percdamp: f64,
    /// Columns of a slice.
    pub blocksize: usize,
}

impl Recipe {
    /// The fewest weights of a row that share a grid; `None` where none are rounded, or whole rows or more share one.
    pub fn least_group(&self) -> Option<usize> {
        self.rounding.and_then(|r| r.group_size())
    }

    /// A method that does nothing yet, with the damping and the slices of the published codes.
    pub fn new(method: &'static MethodInfo) -> Self {
        Self {
            method,
            pattern: None,
            rounding: None,
            spqr: None,
            input: None,
            mask: MaskSearch::default(),
            refit: false,
            mask_only: false,
            percdamp: 0.01,
            blocksize: 128,
        }
    }

    /// The curvature that it sweeps with: none where a method would only find the mask by it, and that is given.
    pub(crate) fn curvature(&self) -> Curvature {
        match (self.pattern, self.method.curvature) {
            (Some(Pattern::Given), Curvature::Diagonal) => Curvature::Flat,
            (_, curvature) => curvature,
        }
    }

    /// The statistics of a linear's inputs that it needs.
    pub fn statistics(&self) -> Curvature {
        if self.refines() {
            return Curvature::Full;
        }
        let weighted = self.rounding.is_some_and(|rounding| rounding.search == Search::Weighted);
        self.curvature().max(if weighted { Curvature::Diagonal } else { Curvature::Flat })
    }

    /// True if scales of its inputs come from calibration data and are stored.
    pub fn stores_input_scales(&self) -> bool {
        self.input.as_ref().is_some_and(|args| args.dynamic != Dynamic::Yes)
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
