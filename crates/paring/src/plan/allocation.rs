//! Settings that differ from linear to linear, chosen by measuring before the run.

use std::fmt;

use paring_format::Element;
use paring_format::near;
use serde::{Deserialize, Serialize};

use super::{Grouping, Opt, Override, Pattern, Plan, Recipe, Rounding, SizedBy};
use crate::{Error, Result};

/// A choice that the run makes for each linear by measuring.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Allocation {
    /// Bits, and sizes of groups where they are free.
    Bits {
        /// Bits per weight on disk that all compressed linears together have at most, scales included.
        target: f64,
        /// True if sizes of groups are chosen too.
        free_groups: bool,
    },
    /// The share of weights to remove, whose mean over all weights is that of the recipe.
    Sparsity(SparsityBy),
}

/// The quantity by which shares of weights to remove are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SparsityBy {
    /// Outliers of a block's scores |weight| · input norm (OWL, arXiv 2310.05175).
    Owl,
    /// Errors of linears, weighted by what they do to the predictions.
    Error,
}

impl SparsityBy {
    /// All of them with their names.
    pub const ALL: [(&'static str, SparsityBy); 2] = [("owl", SparsityBy::Owl), ("error", SparsityBy::Error)];

    /// The one of this name. Errors when there is none.
    pub fn named(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|(known, _)| *known == name);
        found.map(|(_, by)| by).ok_or_else(|| {
            Opt::Allocate.wrong(name, near::suggestion(name, Self::ALL.into_iter().map(|(known, _)| known)))
        })
    }
}

/// Bits of a weight that are chosen among.
pub const BITS: [u32; 5] = [2, 3, 4, 5, 8];

/// Sizes of groups that are chosen among where they are free: those that kernels have, and a smaller one.
pub const GROUP_SIZES: [usize; 4] = [16, 32, 64, 128];

/// Parts of a share of sparsity, which is a whole number of them.
pub const PARTS: f64 = 10_000.0;

/// The setting of a linear that was chosen by measuring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Setting {
    /// Integers of so many bits.
    Grid {
        /// Bits of a code.
        bits: u32,
        /// Columns that share a scale; `None`: as the recipe has it.
        group_size: Option<usize>,
    },
    /// A share of the weights to remove, in 1/[`PARTS`].
    Sparsity(u32),
}

impl Setting {
    /// A recipe with this setting.
    pub fn applied(self, recipe: &Recipe) -> Recipe {
        match self {
            Setting::Grid { bits, group_size } => {
                let of = |r: Rounding| Rounding {
                    element: Element::Int(bits),
                    grouping: group_size.map_or(r.grouping, Grouping::Columns),
                    sized_by: SizedBy::Request,
                    ..r
                };
                Recipe { rounding: recipe.rounding.map(of), ..recipe.clone() }
            }
            Setting::Sparsity(parts) => {
                Recipe { pattern: Some(Pattern::Unstructured(f64::from(parts) / PARTS)), ..recipe.clone() }
            }
        }
    }
}

/// In words: `3 bits in groups of 64`, or `52.5 %`.
impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Setting::Grid { bits, group_size: None } => write!(f, "{bits} bits"),
            Setting::Grid { bits, group_size: Some(size) } => write!(f, "{bits} bits in groups of {size}"),
            Setting::Sparsity(parts) => write!(f, "{} %", f64::from(*parts) * 100.0 / PARTS),
        }
    }
}

/// Linears that got the same setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allotted {
    /// The setting.
    pub setting: Setting,
    /// Their names.
    pub linears: Vec<String>,
}

impl Plan {
    /// The plan with these settings for its linears. Where grids were chosen, the first setting becomes that of the plan's own
    /// recipe; all others are overrides.
    pub(crate) fn allotted(&self, allotted: &[Allotted]) -> Plan {
        let mut plan = self.clone();
        let base = match allotted.first().map(|first| first.setting) {
            Some(setting @ Setting::Grid { .. }) => {
                plan.recipe = setting.applied(&self.recipe);
                Some(setting)
            }
            _ => None,
        };
        let own = |Allotted { setting, linears }: &Allotted| Override {
            targets: linears.clone(),
            recipe: Some(setting.applied(&self.recipe)),
            outlier_share: None,
            format: self.format.clone(),
        };
        let others = allotted.iter().filter(|allotted| Some(allotted.setting) != base);
        plan.overrides.extend(others.map(own));
        plan
    }

    /// Errors unless the choices that are to be made by measuring go with the others.
    pub(crate) fn check_allocation(&self) -> Result<()> {
        let Some(allocation) = self.allocation else { return Ok(()) };
        let option = match allocation {
            Allocation::Bits { .. } => Opt::TargetBits,
            Allocation::Sparsity(_) => Opt::Allocate,
        };
        if let Some(place) = self.overrides.iter().find(|other| other.recipe.is_some()).map(|o| o.targets.join(", ")) {
            return Err(option.wrong(place, "an override for these layers").hint("leave one of the two out"));
        }
        match (allocation, self.recipe.pattern) {
            (Allocation::Bits { .. }, None) => {}
            (Allocation::Bits { .. }, Some(_)) => {
                return Err(Error::Misuse("bits per weight to reach are for quantizing alone".into()));
            }
            (Allocation::Sparsity(_), Some(Pattern::Unstructured(_))) => {}
            (Allocation::Sparsity(_), _) => {
                let needs = paring_format::message![Opt::Allocate, " needs ", Opt::Sparsity.with("S")];
                return Err(Opt::Allocate.misuse(needs));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_said() {
        for (setting, words) in [
            (Setting::Grid { bits: 3, group_size: Some(64) }, "3 bits in groups of 64"),
            (Setting::Grid { bits: 8, group_size: None }, "8 bits"),
            (Setting::Sparsity(5250), "52.5 %"),
            (Setting::Sparsity(5001), "50.01 %"),
        ] {
            assert_eq!(setting.to_string(), words);
        }
        assert_eq!(SparsityBy::named("owl").unwrap(), SparsityBy::Owl);
        let error = SparsityBy::named("owls").unwrap_err().to_string();
        assert!(error.contains("owl"), "{error}");
    }
}
