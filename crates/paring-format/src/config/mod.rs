//! The `quantization_config` object of `config.json`: which linears are stored how.

mod args;
mod json;
mod presets;
mod sparsity;
mod spqr;
mod target;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_presets;
#[cfg(test)]
mod tests_sparsity;

use std::collections::BTreeMap;

pub use args::{Dynamic, QuantArgs, Strategy};
pub use json::inferred;
pub use presets::{PRESETS, Preset};
pub use sparsity::Sparsity;
pub use target::{Match, Target};

use crate::{Compressed, Element, Error, Result, ScaleType, Statistic, Values, Zeros, layouts};

/// The release of compressed-tensors whose form is written.
pub const VERSION: &str = "0.19.0";

/// The release whose form is written of layouts that later ones dropped: the last that had them.
pub const LEGACY_VERSION: &str = "0.14.0.1";

/// The last release of compressed-tensors whose packed words are padded. Nothing else in a configuration tells.
pub const PADDED_VERSION: &str = "0.17.1";

/// The version of this program's own form.
pub const PARING_VERSION: &str = "1";

/// The name of the summary format when groups differ.
pub const MIXED: &str = "mixed-precision";

/// The program whose form a `quantization_config` has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The library compressed-tensors.
    CompressedTensors,
    /// This program: layouts that no other knows.
    Paring,
    /// The package spqr_quant, through transformers.
    Spqr,
}

impl Method {
    /// The `quant_method` on disk.
    pub fn name(self) -> &'static str {
        match self {
            Method::CompressedTensors => "compressed-tensors",
            Method::Paring => "paring",
            Method::Spqr => "spqr",
        }
    }
}

/// The quantization of a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantConfig {
    /// Whose form it has.
    pub method: Method,
    /// A summary: the one format used, `mixed-precision`, or `dense`. Readers go by the groups.
    pub format: String,
    /// Schemes by name (`group_0`, …), in the order of the file.
    pub groups: Vec<(String, Scheme)>,
    /// Modules left alone although targeted, in the same notation as targets.
    pub ignore: Vec<String>,
    /// The release of compressed-tensors that wrote it, or whose form is written; or [`PARING_VERSION`];
    /// empty for the method spqr.
    pub version: String,
    /// How the attention's keys and values are quantized as the model runs, if they are.
    pub kv_cache: Option<QuantArgs>,
    /// Which weights the configuration says are stored sparse, if any.
    pub sparsity: Option<Sparsity>,
    /// Lengths of the tensors of all modules, by `TENSOR.shape`; only the method spqr has them.
    pub shapes: BTreeMap<String, usize>,
}

/// How the linears of one group are stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Scheme {
    /// Module paths, `re:` patterns on them (anchored at the start), or the class name `Linear`.
    pub targets: Vec<String>,
    /// The name of the layout.
    pub format: String,
    /// How the weights are quantized; `None` when they are dense.
    pub weights: Option<QuantArgs>,
    /// How the linears' inputs are quantized as the model runs, if they are.
    pub input: Option<QuantArgs>,
    /// The same of their outputs.
    pub output: Option<QuantArgs>,
    /// Whether packed codes do not lie across words, as in releases of compressed-tensors before 0.18. Only widths of 3,
    /// 5, 6 and 7 bits tell the difference.
    pub padded: bool,
}

/// The codes of scales and zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecondLevel {
    /// Width of a scale's code, 1 to 8; `None` for floats.
    pub scale_bits: Option<u32>,
    /// Width of a zero's code, 1 to 8; `None` for floats, whole numbers, or the zero of a symmetric grid.
    pub zero_bits: Option<u32>,
    /// Consecutive rows that share a second-level scale and zero.
    pub rows: usize,
}

impl Scheme {
    /// The scheme of linears that are stored dense.
    pub fn dense() -> Scheme {
        Scheme {
            targets: vec!["Linear".to_string()],
            format: "dense".to_string(),
            weights: None,
            input: None,
            output: None,
            padded: false,
        }
    }

    /// The scheme under which `format` stores matrices like `c`.
    pub fn of(c: &Compressed, format: &str, targets: Vec<String>) -> Scheme {
        let dense = Scheme { targets, format: format.to_string(), ..Scheme::dense() };
        let groups = |size: usize| if size >= c.cols { Strategy::Channel } else { Strategy::Group(size) };
        let weights = match &c.values {
            Values::Dense(_) => return dense,
            Values::Codes { grid, .. } => QuantArgs {
                symmetric: grid.zeros.is_none(),
                strategy: match grid.tile {
                    [1, size] if grid.global.is_some() => Strategy::TensorGroup(size),
                    // Powers of two are for groups, even if a row is one group.
                    [1, size] if grid.scale_type == ScaleType::Exponent => Strategy::Group(size),
                    [1, size] => groups(size),
                    [rows, cols] if (rows, cols) == (c.rows, c.cols) => Strategy::Tensor,
                    [rows, cols] => Strategy::Block(rows, cols),
                },
                scale_type: grid.scale_type,
                actorder: grid.group_index.as_ref().map(|_| "group".to_string()),
                float_zeros: matches!(grid.zeros, Some(Zeros::Floats(_))),
                ..QuantArgs::new(grid.element)
            },
            Values::Spqr(spqr) => {
                let coded = |statistic: &Statistic| match statistic {
                    Statistic::Coded { bits, rows, .. } => Some((*bits, *rows)),
                    _ => None,
                };
                let (scales, zeros) = (coded(&spqr.scales), coded(&spqr.zeros));
                let second = |(_, rows)| SecondLevel {
                    scale_bits: scales.map(|(bits, _)| bits),
                    zero_bits: zeros.map(|(bits, _)| bits),
                    rows,
                };
                QuantArgs {
                    symmetric: matches!(spqr.zeros, Statistic::Constant(_)),
                    float_zeros: matches!(spqr.zeros, Statistic::Plain(_) | Statistic::Coded { .. }),
                    second: scales.or(zeros).map(second),
                    strategy: groups(spqr.group_size),
                    ..QuantArgs::new(Element::Int(spqr.bits))
                }
            }
        };
        Scheme { weights: Some(weights), ..dense }
    }

    /// How the weights are quantized. Errors when the scheme is that of dense ones.
    pub(crate) fn codes(&self) -> Result<&QuantArgs> {
        let none = || Error::parts(format!("the format {} needs to know how the weights are quantized", self.format));
        self.weights.as_ref().ok_or_else(none)
    }
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
        let method = methods.fold(Method::CompressedTensors, |found, m| if m == found { found } else { m });
        let version = match method {
            Method::CompressedTensors => sparsity::version(sparsity.as_ref(), &groups),
            Method::Paring => PARING_VERSION,
            Method::Spqr => "",
        };
        let (format, version) = (format.to_string(), version.to_string());
        QuantConfig { method, format, groups, ignore, version, kv_cache: None, sparsity, shapes: BTreeMap::new() }
    }

    /// What is quantized as the model runs: `inputs` of linears, the `cache`, or both; `None` when nothing is.
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
    /// the order of the groups decides between equal targets only. Errors when a pattern is no regular expression.
    pub fn scheme(&self, module: &str) -> Result<Option<&Scheme>> {
        for target in &self.ignore {
            if matches(target, module)?.is_some() {
                return Ok(None);
            }
        }
        let mut best: Option<(Match, &str, &Scheme)> = None;
        for (_, scheme) in &self.groups {
            for target in &scheme.targets {
                let Some(kind) = matches(target, module)? else { continue };
                if best.is_none_or(|(least, name, _)| (kind, target.as_str()) < (least, name)) {
                    best = Some((kind, target, scheme));
                }
            }
        }
        Ok(best.map(|(_, _, scheme)| scheme))
    }
}

fn matches(target: &str, module: &str) -> Result<Option<Match>> {
    let bad = |reason| Error::BadConfig { key: json::ROOT.into(), reason };
    Ok(Target::new(target).map_err(bad)?.matches(module))
}
