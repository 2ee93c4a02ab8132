//! Targets: the modules that a scheme is for, in the notation that compressed-tensors has for targets and for what is ignored.

use regex::Regex;

/// A module's exact path; a pattern on it after `re:`, anchored at the start but not at the end, as Python's `re.match`
/// takes it; or the name of a class of linears.
#[derive(Clone, Debug)]
pub struct Target {
    text: String,
    pattern: Option<Regex>,
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

/// Classes of the linears in transformers' families. A reader that knows no classes takes them all for one.
const LINEARS: [&str; 2] = ["Linear", "FalconLinear"];

impl Target {
    /// Errors, with what is wrong in words, when a pattern is no regular expression.
    pub fn new(text: &str) -> Result<Target, String> {
        let compile = |pattern: &str| {
            Regex::new(&format!("^(?:{pattern})")).map_err(|error| {
                // The crate draws the pattern over several lines; its last line says what is wrong.
                let text = error.to_string();
                let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ").trim();
                format!("the pattern re:{pattern}: {reason}")
            })
        };
        Ok(Target { text: text.to_string(), pattern: text.strip_prefix("re:").map(compile).transpose()? })
    }

    /// The way in which it matches the linear at this module path, if it does.
    pub fn matches(&self, module: &str) -> Option<TargetMatch> {
        match &self.pattern {
            Some(pattern) => pattern.is_match(module).then_some(TargetMatch::Pattern),
            None if self.text == module => Some(TargetMatch::Path),
            None => LINEARS.contains(&&self.text[..]).then_some(TargetMatch::Class),
        }
    }
}
