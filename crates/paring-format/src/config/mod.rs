//! The `quantization_config` object of `config.json`: which linears are stored how.

mod json;
#[cfg(test)]
mod tests;

use regex::Regex;

use crate::{Compressed, Error, Result, Values};

/// The release of compressed-tensors whose form is written.
pub const VERSION: &str = "0.19.0";

/// The name of the summary format when groups differ.
pub const MIXED: &str = "mixed-precision";

/// The quantization of a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantConfig {
    /// A summary: the one format used, `mixed-precision`, or `dense`. Readers go by the groups.
    pub format: String,
    /// Schemes by name (`group_0`, …), in the order of the file.
    pub groups: Vec<(String, Scheme)>,
    /// Modules left alone although targeted, in the same notation as targets.
    pub ignore: Vec<String>,
    /// The release of compressed-tensors that wrote it, or whose form is written.
    pub version: String,
}

/// How the linears of one group are stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Scheme {
    /// Module paths, `re:` patterns on them (anchored at the start), or the class name `Linear`.
    pub targets: Vec<String>,
    /// The name of the layout.
    pub format: String,
    /// Width of a code, 1 to 8; 0 when the layout is dense.
    pub bits: u32,
    /// Whether all zero points are 0, and none are stored.
    pub symmetric: bool,
    /// Which weights share a scale.
    pub strategy: Strategy,
    /// `static` or `weight`: columns were visited in another order than they are stored. It changes nothing on disk.
    pub actorder: Option<String>,
}

/// Which weights share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// The whole matrix.
    Tensor,
    /// A row.
    Channel,
    /// That many consecutive columns of a row.
    Group(usize),
}

impl Scheme {
    /// The scheme of linears that are stored dense.
    pub fn dense() -> Scheme {
        Scheme {
            targets: vec!["Linear".to_string()],
            format: "dense".to_string(),
            bits: 0,
            symmetric: true,
            strategy: Strategy::Channel,
            actorder: None,
        }
    }

    /// The scheme under which `format` stores matrices like `c`.
    pub fn of(c: &Compressed, format: &str, targets: Vec<String>) -> Scheme {
        match &c.values {
            Values::Dense(_) | Values::Spqr(_) => Scheme { targets, format: format.to_string(), ..Scheme::dense() },
            Values::Codes { grid, .. } => Scheme {
                targets,
                format: format.to_string(),
                bits: grid.bits,
                symmetric: grid.zeros.is_none(),
                strategy: if grid.group_size >= c.cols { Strategy::Channel } else { Strategy::Group(grid.group_size) },
                actorder: None,
            },
        }
    }
}

impl QuantConfig {
    /// A configuration of these groups; the summary format follows from them.
    pub fn new(groups: Vec<(String, Scheme)>, ignore: Vec<String>) -> QuantConfig {
        let mut formats: Vec<&str> = groups.iter().map(|(_, scheme)| scheme.format.as_str()).collect();
        formats.sort_unstable();
        formats.dedup();
        let format = match formats[..] {
            [] => "dense",
            [one] => one,
            _ => MIXED,
        };
        QuantConfig { format: format.to_string(), groups, ignore, version: VERSION.to_string() }
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

/// How a target matches, the strongest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Match {
    Path,
    Pattern,
    Class,
}

fn matches(target: &str, module: &str) -> Result<Option<Match>> {
    Ok(match target.strip_prefix("re:") {
        Some(pattern) => compile(pattern)?.is_match(module).then_some(Match::Pattern),
        None if target == module => Some(Match::Path),
        // Only linears are asked for, and a reader that knows no classes sees them all as this one.
        None if target == "Linear" => Some(Match::Class),
        None => None,
    })
}

/// A pattern as Python's `re.match` takes it: anchored at the start, not at the end.
fn compile(pattern: &str) -> Result<Regex> {
    Regex::new(&format!("^(?:{pattern})")).map_err(|error| {
        // The crate draws the pattern over several lines; its last line says what is wrong.
        let text = error.to_string();
        let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
        Error::BadConfig { key: "quantization_config".into(), reason: format!("the pattern re:{pattern}: {reason}") }
    })
}
