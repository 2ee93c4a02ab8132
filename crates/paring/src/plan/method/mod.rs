//! The table of methods. A row is all that this program knows of a method beyond the arithmetic: its curvature and rule,
//! the data that it reads, its names in other programs' recipes, and its baseline.

#[cfg(test)]
mod tests;

use std::fmt;

use paring_data::named::Protocol;
use paring_format::near;
use serde::{Serialize, Serializer};

use crate::{Error, Result};

pub use paring_kernels::sweep::Curvature;

/// One method. It is serialized, and shown, as its name.
pub struct MethodInfo {
    /// As written on the command line.
    pub name: &'static str,
    /// A line of help.
    pub help: &'static str,
    /// The publication.
    pub source: &'static str,
    /// The curvature that it sweeps with, and so the statistics that it needs of the inputs.
    pub curvature: Curvature,
    /// Prunes.
    pub drops: bool,
    /// Quantizes; beside [`MethodInfo::drops`], in the same sweep if asked to.
    pub rounds: bool,
    /// Removes an unstructured share of each row, and not of each slice of the matrix.
    pub share_per_row: bool,
    /// Has the settings of [`Spqr`](super::Spqr).
    pub spqr: bool,
    /// The way in which its published code draws calibration windows.
    pub protocol: Protocol,
    /// As papers and titles write it.
    pub title: &'static str,
    /// The modifiers of llm-compressor that mean this method.
    pub modifiers: &'static [ModifierInfo],
    /// The baselines of its error, one for what it removes, one for what it rounds. Empty for methods that move no errors.
    pub baselines: &'static [Baseline],
}

/// A modifier of an llm-compressor recipe.
#[derive(Debug)]
pub struct ModifierInfo {
    /// Its class.
    pub name: &'static str,
    /// Its keys that mean something here.
    pub keys: &'static [&'static str],
    /// Options that it sets, with their values, when it is alone in its recipe and the recipe does not say.
    pub defaults: &'static [(&'static str, &'static str)],
}

/// A method that another one is compared with.
#[derive(Clone, Copy, Debug)]
pub struct Baseline {
    /// The method.
    pub method: &'static MethodInfo,
    /// Its action, in words for a report.
    pub words: &'static str,
}

const BY_MAGNITUDE: Baseline = Baseline { method: &MAGNITUDE, words: "pruning by magnitude" };
const TO_NEAREST: Baseline = Baseline { method: &RTN, words: "rounding to nearest" };

/// Removes the smallest weights.
pub static MAGNITUDE: MethodInfo = MethodInfo {
    name: "magnitude",
    help: "remove the smallest weights of each layer; needs no data",
    source: "Han et al., arXiv 1506.02626",
    curvature: Curvature::Flat,
    drops: true,
    rounds: false,
    share_per_row: false,
    spqr: false,
    protocol: Protocol::Gptq,
    title: "magnitude pruning",
    modifiers: &[
        ModifierInfo {
            name: "MagnitudePruningModifier",
            keys: &["targets", "ignore", "final_sparsity", "mask_structure"],
            defaults: &[],
        },
        ModifierInfo {
            name: "MagnitudeModifier",
            keys: &["targets", "ignore", "final_sparsity", "mask_structure"],
            defaults: &[],
        },
    ],
    baselines: &[],
};

/// Removes the weights with the smallest product with their input's norm.
pub static WANDA: MethodInfo = MethodInfo {
    name: "wanda",
    help: "remove the smallest |weight| x input norm of each row",
    source: "Sun et al., arXiv 2306.11695",
    curvature: Curvature::Diagonal,
    drops: true,
    rounds: false,
    share_per_row: true,
    spqr: false,
    protocol: Protocol::SparseGpt,
    title: "Wanda",
    modifiers: &[ModifierInfo {
        name: "WandaPruningModifier",
        keys: &["targets", "ignore", "sparsity", "mask_structure"],
        defaults: &[],
    }],
    baselines: &[],
};

/// Removes weights, rounds the others if asked to, and corrects later columns for the error.
pub static SPARSEGPT: MethodInfo = MethodInfo {
    name: "sparsegpt",
    help: "prune column by column and adjust the remaining weights to compensate; quantizes too",
    source: "Frantar and Alistarh, arXiv 2301.00774",
    curvature: Curvature::Full,
    drops: true,
    rounds: true,
    share_per_row: false,
    spqr: false,
    protocol: Protocol::SparseGpt,
    title: "SparseGPT",
    modifiers: &[ModifierInfo {
        name: "SparseGPTModifier",
        keys: &[
            "targets",
            "ignore",
            "sparsity",
            "mask_structure",
            "block_size",
            "dampening_frac",
            "preserve_sparsity_mask",
        ],
        defaults: &[],
    }],
    baselines: &[BY_MAGNITUDE, TO_NEAREST],
};

/// Rounds to nearest.
pub static RTN: MethodInfo = MethodInfo {
    name: "rtn",
    help: "round every weight to the nearest grid point; needs no data",
    source: "Frantar et al., arXiv 2210.17323, the baseline",
    curvature: Curvature::Flat,
    drops: false,
    rounds: true,
    share_per_row: false,
    spqr: false,
    protocol: Protocol::Gptq,
    title: "RTN",
    modifiers: &[ModifierInfo {
        name: "QuantizationModifier",
        keys: &["targets", "ignore", "scheme", "config_groups", "kv_cache_scheme"],
        defaults: &[],
    }],
    baselines: &[],
};

/// Rounds, and corrects later columns for the error.
pub static GPTQ: MethodInfo = MethodInfo {
    name: "gptq",
    help: "round column by column; later columns compensate for the error",
    source: "Frantar et al., arXiv 2210.17323",
    curvature: Curvature::Full,
    drops: false,
    rounds: true,
    share_per_row: false,
    spqr: false,
    protocol: Protocol::Gptq,
    title: "GPTQ",
    modifiers: &[ModifierInfo {
        name: "GPTQModifier",
        keys: &[
            "targets",
            "ignore",
            "scheme",
            "config_groups",
            "block_size",
            "dampening_frac",
            "actorder",
            "kv_cache_scheme",
        ],
        defaults: &[("actorder", "static")],
    }],
    baselines: &[TO_NEAREST],
};

/// GPTQ with scales and zeros that are rounded too, and outliers that are not rounded.
pub static SPQR: MethodInfo = MethodInfo {
    name: "spqr",
    help: "gptq with small groups, quantized scales and zero points, and exact outliers",
    source: "Dettmers et al., arXiv 2306.03078",
    curvature: Curvature::Full,
    drops: false,
    rounds: true,
    share_per_row: false,
    spqr: true,
    protocol: Protocol::Gptq,
    title: "SpQR",
    modifiers: &[],
    baselines: &[TO_NEAREST],
};

/// All methods; help, recipe files and tests iterate over this table.
pub static METHODS: &[&MethodInfo] = &[&MAGNITUDE, &WANDA, &SPARSEGPT, &RTN, &GPTQ, &SPQR];

impl MethodInfo {
    /// The method of this name. Errors when there is none, with the names of all.
    pub fn named(name: &str) -> Result<&'static Self> {
        let instead = || near::suggestion(name, METHODS.iter().map(|method| method.name));
        let unknown = || Error::Misuse(format!("unknown method {name}; {}", instead()));
        METHODS.iter().copied().find(|method| method.name == name).ok_or_else(unknown)
    }

    /// Tells whether it looks at calibration data.
    pub fn needs_data(&self) -> bool {
        self.curvature != Curvature::Flat
    }

    /// Tells whether one sweep of this method prunes, and then rounds as `rounding` would.
    pub fn includes(&self, rounding: &MethodInfo) -> bool {
        self.drops
            && self.rounds
            && rounding.rounds
            && !rounding.drops
            && !rounding.spqr
            && self.curvature == rounding.curvature
    }
}

/// The names of the methods that are `wanted`, with commas.
pub(super) fn names(wanted: impl Fn(&MethodInfo) -> bool) -> String {
    let wanted: Vec<&str> = METHODS.iter().filter(|method| wanted(method)).map(|method| method.name).collect();
    wanted.join(", ")
}

impl PartialEq for MethodInfo {
    /// Names are unique.
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for MethodInfo {}

impl fmt::Debug for MethodInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl fmt::Display for MethodInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name)
    }
}

impl Serialize for MethodInfo {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name)
    }
}
