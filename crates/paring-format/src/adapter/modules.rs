//! The linears that an adapter is for, by the rules of PEFT.

use std::collections::BTreeSet;

use super::wrong;
use crate::Result;
use crate::config::Pattern;

/// Regular expressions in the tables of one adapter at most, but for names: each may take megabytes.
pub(super) const MOST_PATTERNS: usize = 16;
/// The same for lists of blocks.
pub(super) const MOST_LISTS: usize = 4;

/// The choice of linears.
#[derive(Clone, Debug)]
pub struct Modules {
    /// Those that are meant.
    pub targets: TargetModules,
    /// Those that are left out of them.
    pub excluded: Option<TargetModules>,
    /// Numbers of the blocks that are meant, where targets are names; all where there are none.
    pub blocks: Option<BTreeSet<u64>>,
    /// Names of lists of blocks that these numbers count; any where there are none.
    pub lists: Vec<ModulePattern>,
    /// The file that says so, for messages.
    pub(super) file: String,
}

/// Names of modules.
#[derive(Clone, Debug)]
pub enum TargetModules {
    /// All linears but the head.
    AllLinear,
    /// Those whose path is one of these, or ends in a dot and one of these.
    Names(BTreeSet<String>),
    /// Those whose whole path matches.
    Pattern(ModulePattern),
}

/// A regular expression of Python's, for a whole path or for the end of one.
#[derive(Clone, Debug)]
pub struct ModulePattern {
    text: String,
    form: Form,
}

/// The ways to match: most texts are names, and need no engine.
#[derive(Clone, Debug)]
enum Form {
    /// The whole path, character by character; `None` stands for any.
    Whole(Vec<Option<char>>),
    /// The path, or what follows one of its dots, likewise.
    End(Vec<Option<char>>),
    Pattern(Pattern),
}

impl ModulePattern {
    /// An expression that has to match all of a path. Errors, with the reason in words, when it is none of Python's, or beyond the
    /// bounds of a search.
    pub fn whole(text: &str) -> Result<ModulePattern, String> {
        let form = match plain(text) {
            Some((_, characters)) => Form::Whole(characters),
            None => Form::Pattern(Pattern::new(&format!(r"(?:{text})\Z"))?),
        };
        Ok(ModulePattern { text: text.to_string(), form })
    }

    /// An expression that has to match all of a path, or its end after a dot. Errors as [`ModulePattern::whole`].
    pub fn end(text: &str) -> Result<ModulePattern, String> {
        let form = match plain(text) {
            Some((true, characters)) => Form::Whole(characters),
            Some((false, characters)) => Form::End(characters),
            None => Form::Pattern(Pattern::new(&format!(r"(?:.*\.)?(?:{text})\Z"))?),
        };
        Ok(ModulePattern { text: text.to_string(), form })
    }

    /// The expression.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// True for a text that no engine is needed for.
    pub(super) fn is_plain(text: &str) -> bool {
        plain(text).is_some()
    }

    /// True if it matches the path. Errors, in words, where that takes too many steps to find out.
    pub fn matches(&self, path: &str) -> Result<bool, String> {
        match &self.form {
            Form::Pattern(pattern) => pattern.is_match(path),
            Form::Whole(characters) => Ok(is_like(characters, path)),
            Form::End(characters) => Ok(ends(path).any(|end| is_like(characters, end))),
        }
    }
}

/// The characters of a text of letters, digits, `_`, `-`, `.` for any and `\.` for a dot; with whether it begins with `^`. `None`
/// for other texts.
fn plain(text: &str) -> Option<(bool, Vec<Option<char>>)> {
    let (anchored, text) = text.strip_prefix('^').map_or((false, text), |rest| (true, rest));
    let (mut characters, mut rest) = (Vec::new(), text.chars());
    while let Some(c) = rest.next() {
        characters.push(match c {
            '.' => None,
            '\\' => Some(rest.next().filter(|&c| c == '.')?),
            c if c.is_ascii_alphanumeric() || "_-".contains(c) => Some(c),
            _ => return None,
        });
    }
    Some((anchored, characters))
}

fn is_like(characters: &[Option<char>], path: &str) -> bool {
    let mut got = path.chars();
    characters.iter().all(|expected| got.next().is_some_and(|got| expected.is_none_or(|c| c == got)))
        && got.next().is_none()
}

/// A path, and what follows each of its dots.
fn ends(path: &str) -> impl Iterator<Item = &str> {
    std::iter::once(path).chain(path.match_indices('.').map(|(dot, _)| &path[dot + 1..]))
}

impl TargetModules {
    /// As it is written in a config, for people.
    pub fn describe(&self) -> String {
        match self {
            TargetModules::AllLinear => "all-linear".to_string(),
            TargetModules::Names(names) => crate::checkpoint::few(&names.iter().collect::<Vec<_>>()),
            TargetModules::Pattern(pattern) => pattern.text.chars().take(200).collect(),
        }
    }

    fn cover(&self, module: &str) -> Result<bool, String> {
        match self {
            TargetModules::AllLinear => Ok(true),
            TargetModules::Names(names) => Ok(ends(module).any(|end| names.contains(end))),
            TargetModules::Pattern(pattern) => pattern.matches(module),
        }
    }
}

impl Modules {
    /// The linears with these names, and no others.
    pub fn named<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Modules {
        let names = names.into_iter().map(Into::into).collect();
        Modules {
            targets: TargetModules::Names(names),
            excluded: None,
            blocks: None,
            lists: Vec::new(),
            file: String::new(),
        }
    }

    /// True if the linear at this module path is one of them. Errors when a pattern takes too many steps to find out.
    pub fn cover(&self, module: &str) -> Result<bool> {
        let covered = || -> Result<bool, String> {
            if let Some(excluded) = &self.excluded
                && excluded.cover(module)?
            {
                return Ok(false);
            }
            let TargetModules::Names(names) = &self.targets else { return self.targets.cover(module) };
            // PEFT looks at the numbers of blocks only where a name is no whole path.
            let is_covered = names.contains(module) || self.targets.cover(module)?;
            Ok(is_covered && (names.contains(module) || self.has_block(module)?))
        };
        covered().map_err(|reason| wrong(&self.file, "target_modules", "a pattern", reason, "correct it"))
    }

    /// True if the module's block is one of those that are meant.
    fn has_block(&self, module: &str) -> Result<bool, String> {
        let Some(blocks) = &self.blocks else { return Ok(true) };
        let mut start = 0;
        for (at, part) in module.split('.').enumerate() {
            let list = module[..start].trim_end_matches('.');
            let is_last = start + part.len() == module.len();
            start += part.len() + 1;
            let is_number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            if !is_number || is_last {
                continue;
            }
            let is_meant = match self.lists.is_empty() {
                true => at > 1,
                false => any(&self.lists, list)?,
            };
            if is_meant {
                return Ok(part.parse().is_ok_and(|number| blocks.contains(&number)));
            }
        }
        Ok(false)
    }
}

fn any(patterns: &[ModulePattern], path: &str) -> Result<bool, String> {
    for pattern in patterns {
        if pattern.matches(path)? {
            return Ok(true);
        }
    }
    Ok(false)
}
