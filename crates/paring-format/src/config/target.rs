//! Targets: the modules that a scheme is for, in the notation that compressed-tensors has for targets and for what is ignored.

use super::pattern::Pattern;
use super::{QuantConfig, json};
use crate::Result;

/// A module's exact path; a pattern on it after `re:`, anchored at the start but not at the end, as Python's `re.match`
/// takes it; or the name of a class of linears.
#[derive(Clone, Debug)]
pub struct Target {
    text: String,
    pattern: Option<Pattern>,
}

/// The ways in which a target matches, the strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TargetMatch {
    /// It is the path.
    Path,
    /// Its pattern does.
    Pattern,
    /// It is the class.
    Class,
}

/// Classes of the linears in transformers' families. A reader that knows no classes takes all modules for linears, but for
/// those that are called embeddings.
const LINEARS: [&str; 2] = ["Linear", "FalconLinear"];
const EMBEDDING: &str = "Embedding";

impl Target {
    /// Errors, with the reason in words, when a pattern is none of Python's, or one that is too large.
    pub fn new(text: &str) -> Result<Target, String> {
        let compile = |pattern: &str| Pattern::new(pattern).map_err(|reason| named(text, &reason));
        Ok(Target { text: text.to_string(), pattern: text.strip_prefix("re:").map(compile).transpose()? })
    }

    /// Tells whether one of the targets matches. Errors as [`Target::matches`].
    pub fn any(targets: &[Target], module: &str) -> Result<bool, String> {
        for target in targets {
            if target.matches(module)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The way in which it matches the linear at this module path, if it does. Errors, in words, when a pattern backtracks
    /// so much that nobody can tell.
    pub fn matches(&self, module: &str) -> Result<Option<TargetMatch>, String> {
        match &self.pattern {
            Some(pattern) => {
                let matched = pattern.is_match(module).map_err(|reason| named(&self.text, &reason))?;
                Ok(matched.then_some(TargetMatch::Pattern))
            }
            None if self.text == module => Ok(Some(TargetMatch::Path)),
            None => {
                let classes: &[&str] = if is_embedding(module) { &[EMBEDDING] } else { &LINEARS };
                Ok(classes.contains(&&self.text[..]).then_some(TargetMatch::Class))
            }
        }
    }
}

/// Tells whether a module is a table of embeddings, by the last part of its path.
fn is_embedding(module: &str) -> bool {
    let last = module.rsplit_once('.').map_or(module, |(_, last)| last);
    last.contains("embed") || ["wte", "wpe"].contains(&last)
}

/// A reason with the pattern that it is about, of which the first part stands for a long one.
fn named(text: &str, reason: &str) -> String {
    let shown: String = text.chars().take(200).collect();
    let more = if shown.len() < text.len() { "…" } else { "" };
    format!("the pattern {shown}{more}: {reason}")
}

/// All targets of a configuration, compiled.
#[derive(Clone, Debug)]
pub(crate) struct Targets {
    ignore: Vec<Target>,
    /// Each with the number of its group.
    groups: Vec<(usize, Target)>,
}

impl Targets {
    /// Errors with the key of a pattern that cannot be compiled.
    pub fn new(config: &QuantConfig) -> Result<Targets> {
        let compile = |text: &str, key: &str| {
            Target::new(text).map_err(|reason| json::bad(format!("{}.{key}", json::ROOT), reason))
        };
        let ignore = config.ignore.iter().map(|text| compile(text, "ignore")).collect::<Result<_>>()?;
        let mut groups = Vec::new();
        for (number, (name, scheme)) in config.groups.iter().enumerate() {
            for text in &scheme.targets {
                groups.push((number, compile(text, &format!("config_groups.{name}.targets"))?));
            }
        }
        Ok(Targets { ignore, groups })
    }

    /// The number of the group that applies to the linear at this module path; `None` when it is ignored or not targeted.
    /// See [`QuantConfig::scheme`].
    pub fn group(&self, module: &str) -> Result<Option<usize>> {
        let bad = |reason| json::bad(json::ROOT.to_string(), reason);
        for target in &self.ignore {
            if target.matches(module).map_err(bad)?.is_some() {
                return Ok(None);
            }
        }
        let mut best: Option<(TargetMatch, &str, usize)> = None;
        for (number, target) in &self.groups {
            let Some(kind) = target.matches(module).map_err(bad)? else { continue };
            if best.is_none_or(|(least, text, _)| (kind, target.text.as_str()) < (least, text)) {
                best = Some((kind, &target.text, *number));
            }
        }
        Ok(best.map(|(_, _, number)| number))
    }
}
