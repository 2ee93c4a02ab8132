//! Choices for some of the linears: mixed precision.

use paring_format::message;
use serde::Serialize;

use super::{Curvature, Opt, Plan, Recipe, Search};
use crate::Result;

/// Targets of an override that a message names.
const NAMED: usize = 4;

/// The treatment of some linears, instead of that of the others.
#[derive(Clone, Debug, Serialize)]
pub struct Override {
    /// The linears: exact names or `re:` patterns, anchored at the start.
    pub targets: Vec<String>,
    /// Their treatment; `None`: they stay as they are.
    pub recipe: Option<Recipe>,
    /// As [`Plan::outlier_share`], for them.
    pub outlier_share: Option<f64>,
    /// As [`Plan::format`], for them.
    pub format: Option<String>,
}

/// The treatment of a linear, and its layout.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    /// The treatment.
    pub recipe: &'a Recipe,
    /// Share of the weights that SpQR keeps exact.
    pub outlier_share: Option<f64>,
    /// The layout to write; `None`: what fits the recipe.
    pub format: Option<&'a str>,
}

impl Plan {
    /// The choice of this number: 0 for linears that no override has, `i + 1` for those of override `i`. `None` when
    /// there is no such override, or it leaves its linears as they are.
    pub fn choice(&self, number: usize) -> Option<Choice<'_>> {
        let Some(index) = number.checked_sub(1) else {
            let Plan { recipe, outlier_share, format, .. } = self;
            return Some(Choice { recipe, outlier_share: *outlier_share, format: format.as_deref() });
        };
        let Override { recipe, outlier_share, format, .. } = self.overrides.get(index)?;
        Some(Choice { recipe: recipe.as_ref()?, outlier_share: *outlier_share, format: format.as_deref() })
    }

    /// All choices with their numbers.
    pub fn choices(&self) -> impl Iterator<Item = (usize, Choice<'_>)> {
        (0..=self.overrides.len()).filter_map(|number| Some((number, self.choice(number)?)))
    }

    /// The targets of a choice's override, for the beginning of a message; empty for the choice of all other linears.
    pub(crate) fn place(&self, number: usize) -> String {
        let targets = number.checked_sub(1).and_then(|index| self.overrides.get(index)).map(|over| &over.targets);
        // Those that were chosen by measuring are many.
        targets.map_or(String::new(), |targets| match targets.get(NAMED..).map_or(0, <[String]>::len) {
            0 => format!("{}: ", targets.join(", ")),
            more => format!("{} and {more} more: ", targets[..NAMED].join(", ")),
        })
    }

    /// True if a choice needs calibration data: for its method, or for scales that are not found as the model runs.
    pub fn needs_data(&self) -> bool {
        let needs = |recipe: &Recipe| recipe.statistics() != Curvature::Flat || recipe.stores_input_scales();
        self.kv_cache.is_some()
            || self.allocation.is_some()
            || self.runs_dense()
            || self.choices().any(|(_, choice)| needs(choice.recipe))
    }

    /// The recipe of a choice, to be changed.
    pub(crate) fn recipe_mut(&mut self, number: usize) -> Option<&mut Recipe> {
        match number.checked_sub(1) {
            None => Some(&mut self.recipe),
            Some(index) => self.overrides.get_mut(index)?.recipe.as_mut(),
        }
    }
}

impl Choice<'_> {
    /// Checks that the choices go together.
    pub(crate) fn check(&self) -> Result<()> {
        self.recipe.check()?;
        if let Some(share) = self.outlier_share.filter(|s| !(*s > 0.0 && *s < 1.0)) {
            return Err(Opt::OutlierShare.wrong(share, "must be more than 0 and below 1"));
        }
        if self.outlier_share.is_some() && self.recipe.spqr.is_none() {
            let misplaced = message![Opt::OutlierShare, " is for ", Opt::Method.with("spqr")];
            return Err(Opt::OutlierShare.misuse(misplaced));
        }
        Ok(())
    }

    /// Errors where the device cannot do what the recipe asks for.
    pub(crate) fn check_device(&self, device: &str) -> Result<()> {
        let is_weighted = self.recipe.rounding.is_some_and(|rounding| rounding.search == Search::Weighted);
        if device == "cpu" || !is_weighted || self.recipe.fits_before() {
            return Ok(());
        }
        let problem = " needs groups that are fitted before the sweep on ";
        let misfit = message![Opt::Scales.with(Search::Weighted.name()), problem, Opt::Device.with(device)];
        let hint = message!["use ", Opt::ActOrder.with("static"), " or ", Opt::StaticGroups];
        Err(Opt::Scales.misfit(misfit).hint(hint))
    }
}
