//! The `quantization_config` object of `config.json`: which linears are stored how.

mod args;
mod json;
mod moe;
mod pattern;
mod presets;
mod sparsity;
mod spqr;
mod target;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub(crate) use json::{Found, Stated};
pub(crate) use pattern::Pattern;
pub use presets::{PRESETS, Preset};
pub use sparsity::Sparsity;
pub(crate) use target::Targets;
pub use target::{Target, TargetMatch};

use crate::{QuantArgs, QuantMethod, Result, Scheme, layouts};

/// The release of compressed-tensors whose form is written.
pub const VERSION: &str = "0.20.1";

/// The release whose form is written of layouts that later ones dropped: the last that had them.
pub const LEGACY_VERSION: &str = "0.14.0.1";

/// The last release of compressed-tensors whose packed words are padded. Nothing else in a configuration tells.
pub const PADDED_VERSION: &str = "0.17.1";

/// The version of this program's own form.
pub const PARING_VERSION: &str = "1";

/// The name of the summary format when groups differ.
pub const MIXED: &str = "mixed-precision";

/// The quantization of a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantConfig {
    /// The program that its form is of.
    pub method: QuantMethod,
    /// A summary: the one format used, `mixed-precision`, or `dense`. Readers go by the groups.
    pub format: String,
    /// Schemes by name (`group_0`, …), in the order of the file.
    pub groups: Vec<(String, Scheme)>,
    /// Modules left alone although targeted, in the same notation as targets.
    pub ignore: Vec<String>,
    /// The release of compressed-tensors that wrote it, or whose form is written; or [`PARING_VERSION`];
    /// empty for the method spqr.
    pub version: String,
    /// The quantization of the attention's keys and values as the model runs, if there is one.
    pub kv_cache: Option<QuantArgs>,
    /// The weights that are stored sparse according to the configuration, if any.
    pub sparsity: Option<Sparsity>,
    /// Lengths of the tensors of all modules, by `TENSOR.shape`; only the method spqr has them.
    pub shapes: BTreeMap<String, usize>,
}

impl QuantConfig {
    /// A configuration of these groups; the summary format and the method follow from them. A checkpoint has one
    /// method: groups of several cannot be read back.
    /// Groups of a sparse layout become a `sparsity_config`: dense ones are gone, others name the layout of their codes.
    pub fn new(mut groups: Vec<(String, Scheme)>, mut ignore: Vec<String>) -> QuantConfig {
        let sparsity = Sparsity::split(&mut groups, &mut ignore);
        let mut formats: Vec<&str> = groups.iter().map(|(_, scheme)| scheme.format.as_str()).collect();
        formats.sort_unstable();
        formats.dedup();
        let format = match formats[..] {
            [] => "dense",
            [one] => one,
            _ => MIXED,
        };
        let methods = formats.iter().filter_map(|name| Some(layouts::layout(name)?.method()));
        let method = methods.fold(QuantMethod::CompressedTensors, |found, m| if m == found { found } else { m });
        let version = match method {
            QuantMethod::CompressedTensors => sparsity::version(sparsity.as_ref(), &groups),
            QuantMethod::Paring => PARING_VERSION,
            QuantMethod::Spqr => "",
        };
        let (format, version) = (format.to_string(), version.to_string());
        QuantConfig { method, format, groups, ignore, version, kv_cache: None, sparsity, shapes: BTreeMap::new() }
    }

    /// The tensors that are quantized as the model runs: `inputs` of linears, the `cache`, or both; `None` when nothing is.
    pub fn activations(&self) -> Option<&'static str> {
        match (self.groups.iter().any(|(_, scheme)| scheme.input.is_some()), self.kv_cache.is_some()) {
            (true, true) => Some("inputs and cache"),
            (true, false) => Some("inputs"),
            (false, true) => Some("cache"),
            (false, false) => None,
        }
    }

    /// The scheme that applies to the linear at this module path; `None` when it is ignored or not targeted.
    ///
    /// Of several targets that match, an exact path wins, then the alphabetically first pattern, then the class name;
    /// the order of the groups decides between equal targets only. Errors when a pattern is no regular expression, or backtracks
    /// too much. Compiles all targets.
    pub fn scheme(&self, module: &str) -> Result<Option<&Scheme>> {
        Ok(Targets::new(self)?.group(module)?.map(|number| &self.groups[number].1))
    }
}
