//! The search for the weights that are removed, and what becomes of those that stay.

use std::fmt;

use paring_format::message;
use paring_format::message::Message;
use serde::Serialize;

use super::{Curvature, Opt, Pattern, Recipe};
use crate::Result;

/// The choice of the weights that SparseGPT removes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MaskSearch {
    /// As its sweep comes upon them.
    #[default]
    SparseGpt,
    /// Then every group of columns chooses anew, given all others.
    Descent,
    /// By the alternating direction method of multipliers, where that loses less than the sweep.
    Admm,
}

impl MaskSearch {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::SparseGpt, Self::Descent, Self::Admm];

    /// Its name, as the option has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::SparseGpt => "sparsegpt",
            Self::Descent => "descent",
            Self::Admm => "admm",
        }
    }

    pub(super) fn is_published(&self) -> bool {
        *self == Self::SparseGpt
    }
}

impl fmt::Display for MaskSearch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Recipe {
    /// Tells whether masks or weights are searched after the sweep, for which the Gram matrix must be at hand.
    pub fn refines(&self) -> bool {
        self.refit || self.mask != MaskSearch::SparseGpt
    }

    /// Errors where there is no mask to search, or to fit weights under.
    pub(super) fn check_mask(&self) -> Result<()> {
        if self.pattern.is_none() && self.refines() {
            let (option, setting) = match self.mask {
                MaskSearch::SparseGpt => (Opt::Refit, Opt::Refit.switched(true)),
                mask => (Opt::Mask, Opt::Mask.with(mask)),
            };
            let removal = message![Opt::Pattern.with("N:M"), " or ", Opt::Sparsity.with("S")];
            let needs = message![setting, ": nothing is removed; leave it out, or prune with "];
            return Err(option.misuse(needs.then(removal)));
        }
        if self.mask != MaskSearch::SparseGpt && self.method.curvature != Curvature::Full {
            let problem = format!("{} has its own; leave it out, or use ", self.method);
            return Err(Opt::Mask.wrong(self.mask, message![problem, Opt::Method.with("sparsegpt")]));
        }
        if self.mask != MaskSearch::SparseGpt && self.pattern == Some(Pattern::Given) {
            let problem = message!["no mask is searched where ", Opt::Masks, " gives them; leave one of them out"];
            return Err(Opt::Mask.wrong(self.mask, problem));
        }
        self.check_mask_only()
    }

    /// Errors where there is no sweep that finds a mask and moves errors, or where weights that stay get other values all the same.
    fn check_mask_only(&self) -> Result<()> {
        if !self.mask_only {
            return Ok(());
        }
        let fail = |problem: Message, hint: Message| {
            Err(Opt::MaskOnly.misuse(message![Opt::MaskOnly, ": "].then(problem)).hint(hint))
        };
        if self.pattern == Some(Pattern::Given) {
            let hint = message!["use ", Opt::Method.with("magnitude"), ", which applies them"];
            return fail(message![Opt::Masks, " gives the masks"], hint);
        }
        if self.pattern.is_none() {
            let hint = message!["prune with ", Opt::Pattern, " or ", Opt::Sparsity];
            return fail("nothing is removed".into(), hint);
        }
        if self.method.curvature != Curvature::Full {
            let hint = message!["leave it out, or use ", Opt::Method.with("sparsegpt")];
            return fail(format!("{} leaves no weight with another value", self.method).into(), hint);
        }
        if self.rounding.is_some() {
            return fail(
                "weights that are rounded are others".into(),
                message!["leave ", Opt::Wbits, " or ", Opt::Scheme, " out"],
            );
        }
        Ok(())
    }
}
