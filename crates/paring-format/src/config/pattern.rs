//! Patterns in the dialect of Python's `re`, which configurations and recipes are written in.
//!
//! A pattern is translated once. One without look-around, back references and possessive repeats is matched in linear time;
//! the others backtrack, within bounds: their length, their repeats and their steps are limited, and what exceeds a limit
//! is an error that names the pattern, never an answer.

use std::collections::BTreeMap;
use std::fmt::Write;

/// Characters of a pattern that backtracks, and of a name that it is matched with.
const MAX_LENGTH: usize = 4096;
/// Product of the counts of all repeats (`{2,5}` counts 5) in a pattern that backtracks.
const MAX_REPEATS: usize = 100_000;
/// Steps back in one match.
const MAX_STEPS: usize = 50_000;

/// A compiled pattern, anchored at the start and not at the end, as Python's `re.match` takes it.
#[derive(Clone, Debug)]
pub(crate) enum Pattern {
    Linear(regex::Regex),
    Backtracking(fancy_regex::Regex),
}

impl Pattern {
    /// Errors, with the reason in words, when it is no pattern of Python's, or beyond the bounds.
    pub fn new(pattern: &str) -> Result<Pattern, String> {
        let Translated { text, backtracks, repeats } = Translator::new(pattern).run()?;
        if !backtracks {
            return regex::Regex::new(&text).map(Pattern::Linear).map_err(|error| last_line(&error.to_string()));
        }
        let length = pattern.chars().count();
        if length > MAX_LENGTH {
            return Err(format!(
                "{length} characters with look-around or back references, at most {MAX_LENGTH} are read"
            ));
        }
        if repeats > MAX_REPEATS {
            return Err(format!(
                "repeats of {repeats} in all beside look-around or back references, at most {MAX_REPEATS}"
            ));
        }
        let built = fancy_regex::RegexBuilder::new(&text).backtrack_limit(MAX_STEPS).build();
        built.map(Pattern::Backtracking).map_err(|error| last_line(&error.to_string()))
    }

    /// Tells whether the name begins with a match. Errors when that takes too many steps to find out.
    pub fn is_match(&self, name: &str) -> Result<bool, String> {
        match self {
            Pattern::Linear(regex) => Ok(regex.is_match(name)),
            Pattern::Backtracking(_) if name.len() > MAX_LENGTH => {
                Err(format!("a name of {} bytes is too long for look-around and back references", name.len()))
            }
            Pattern::Backtracking(regex) => regex.is_match(name).map_err(|_| {
                format!("more than {MAX_STEPS} steps on {name}; write it without nested repeats, or name the modules")
            }),
        }
    }
}

/// The last line of an error: the crates draw the pattern over several lines, and say there what is wrong.
fn last_line(text: &str) -> String {
    text.lines().last().unwrap_or_default().trim_start_matches("error: ").trim().to_string()
}

/// A pattern in the dialect of the crates.
struct Translated {
    text: String,
    /// True if only backtracking finds its matches.
    backtracks: bool,
    /// Product of the counts of its repeats.
    repeats: usize,
}

/// The state of a translation.
struct Translator<'a> {
    rest: &'a str,
    out: Translated,
    /// Groups so far, and the numbers of those with names: the crates refuse numbers beside names.
    groups: usize,
    names: BTreeMap<&'a str, usize>,
    /// True once `(?x)` lets comments run to the end of a line.
    verbose: bool,
}

impl<'a> Translator<'a> {
    fn new(pattern: &'a str) -> Self {
        let out = Translated { text: r"\A(?:".to_string(), backtracks: false, repeats: 1 };
        Self { rest: pattern, out, groups: 0, names: BTreeMap::new(), verbose: false }
    }

    fn run(mut self) -> Result<Translated, String> {
        while let Some(c) = self.rest.chars().next() {
            match c {
                '\\' => self.escape(false)?,
                '[' => self.class()?,
                '(' => self.group()?,
                '*' | '+' | '?' => self.repeat(1),
                '{' => match counted(self.rest) {
                    Some((length, text, count)) => {
                        self.out.repeats = self.out.repeats.saturating_mul(count.max(1));
                        self.rest = &self.rest[length..];
                        self.out.text += &text;
                        self.modifier();
                    }
                    None => self.literal(1, r"\{"),
                },
                '}' => self.literal(1, r"\}"),
                _ => self.copy(c.len_utf8()),
            }
        }
        self.out.text += if self.verbose { "\n)" } else { ")" };
        Ok(self.out)
    }

    /// Takes so many bytes as they are.
    fn copy(&mut self, length: usize) {
        let (taken, rest) = self.rest.split_at(length);
        self.out.text += taken;
        self.rest = rest;
    }

    /// Takes so many bytes as this text.
    fn literal(&mut self, length: usize, text: &str) {
        self.out.text += text;
        self.rest = &self.rest[length..];
    }

    /// A sign of repetition, so many bytes long, with what may follow it.
    fn repeat(&mut self, length: usize) {
        self.copy(length);
        self.modifier();
    }

    /// `?` after a repeat is lazy, which changes no answer here; `+` is possessive, which does. Other engines read it as one
    /// more repeat.
    fn modifier(&mut self) {
        match self.rest.chars().next() {
            Some('?') => self.copy(1),
            Some('+') => {
                self.out.backtracks = true;
                self.copy(1);
            }
            _ => {}
        }
    }

    /// `\Z`, back references and octal numbers; all else means the same.
    fn escape(&mut self, in_class: bool) -> Result<(), String> {
        let Some(c) = self.rest[1..].chars().next() else { return Err("bad escape (end of pattern)".to_string()) };
        let digits = self.rest[1..].bytes().take(3).take_while(|byte| byte.is_ascii_digit()).count();
        let octal = self.rest[1..].bytes().take(3).take_while(|byte| matches!(byte, b'0'..=b'7')).count();
        match c {
            'Z' if !in_class => self.literal(2, r"\z"),
            'b' if in_class => self.literal(2, r"\x08"),
            '0'..='9' if c == '0' || octal == 3 || in_class => {
                let digits = &self.rest[1..1 + octal];
                let code = u8::from_str_radix(digits, 8).map_err(|_| format!("bad octal escape \\{digits}"))?;
                self.literal(1 + octal, &format!(r"\x{code:02x}"));
            }
            '1'..='9' => {
                let length = digits.min(2);
                let number: usize = self.rest[1..1 + length].parse().unwrap_or(0);
                self.refer(number, 1 + length)?;
            }
            'a'..='z' | 'A'..='Z' if !"AbBdDsSwWafnrtvxuUpPz".contains(c) => return Err(format!("bad escape \\{c}")),
            'a'..='z' | 'A'..='Z' => self.copy(2),
            // Python's literals; the crates have a meaning for some of them.
            '<' | '>' => self.literal(2, &c.to_string()),
            c if c.is_ascii() => self.copy(2),
            c => self.literal(1 + c.len_utf8(), &c.to_string()),
        }
        Ok(())
    }

    /// A reference to a group, so many bytes long.
    fn refer(&mut self, number: usize, length: usize) -> Result<(), String> {
        if number == 0 || number > self.groups {
            return Err(format!("invalid group reference {number}"));
        }
        self.out.backtracks = true;
        self.literal(length, &format!(r"(?:\{number})"));
        Ok(())
    }

    /// A set of characters. What means more inside one to the crates is escaped: `[`, `&&`, `~~`, `--`.
    fn class(&mut self) -> Result<(), String> {
        self.copy(1);
        if self.rest.starts_with('^') {
            self.copy(1);
        }
        if self.rest.starts_with(']') {
            self.literal(1, r"\]");
        }
        let mut before = ' ';
        while let Some(c) = self.rest.chars().next() {
            match c {
                ']' => {
                    self.copy(1);
                    return Ok(());
                }
                '\\' => self.escape(true)?,
                '[' | '&' | '~' => self.literal(1, &format!(r"\{c}")),
                '-' if before == '-' => self.literal(1, r"\-"),
                _ => self.copy(c.len_utf8()),
            }
            before = c;
        }
        Err("unterminated character set".to_string())
    }

    /// The beginning of a group.
    fn group(&mut self) -> Result<(), String> {
        if let Some(comment) = self.rest.strip_prefix("(?#") {
            let end = comment.find(')').ok_or("missing ), unterminated comment")?;
            self.rest = &comment[end + 1..];
            return Ok(());
        }
        if let Some(name) = self.rest.strip_prefix("(?P=") {
            let end = name.find(')').ok_or("missing ), unterminated name")?;
            let number = *self.names.get(&name[..end]).ok_or_else(|| format!("unknown group name {}", &name[..end]))?;
            return self.refer(number, "(?P=".len() + end + 1);
        }
        if let Some(condition) = self.rest.strip_prefix("(?(") {
            let end = condition.find(')').ok_or("missing ), unterminated name")?;
            let name = &condition[..end];
            let number = self.names.get(name).copied().or_else(|| name.parse().ok()).unwrap_or(0);
            if number == 0 || number > self.groups {
                return Err(format!("unknown group {name}"));
            }
            self.out.backtracks = true;
            self.literal("(?(".len() + end + 1, &format!("(?({number})"));
            return Ok(());
        }
        for look in ["(?=", "(?!", "(?<=", "(?<!", "(?>"] {
            if self.rest.starts_with(look) {
                self.out.backtracks = true;
                self.copy(look.len());
                return Ok(());
            }
        }
        let named = ["(?P<", "(?<"].iter().find_map(|open| self.rest.strip_prefix(open).map(|rest| (open.len(), rest)));
        if let Some((length, name)) = named {
            let end = name.find('>').ok_or("missing >, unterminated name")?;
            self.groups += 1;
            if self.names.insert(&name[..end], self.groups).is_some() {
                return Err(format!("redefinition of group name {}", &name[..end]));
            }
            self.literal(length + end + 1, "(");
            return Ok(());
        }
        if !self.rest.starts_with("(?") {
            self.groups += 1;
            self.copy(1);
            return Ok(());
        }
        let flags = self.rest[2..].bytes().take_while(|byte| byte.is_ascii_alphabetic() || *byte == b'-').count();
        let (set, end) = (&self.rest[2..2 + flags], self.rest.as_bytes().get(2 + flags));
        self.verbose |= end == Some(&b')') && set.contains('x');
        self.copy(2 + flags);
        Ok(())
    }
}

/// A counted repeat at the beginning of the text: its length, the same as the crates write it, and the most that it
/// counts. `None` for a brace that is a character.
fn counted(text: &str) -> Option<(usize, String, usize)> {
    let end = text.find('}')?;
    let inner = &text[1..end];
    let (least, most) = match inner.split_once(',') {
        Some((least, most)) => (least, Some(most)),
        None => (inner, None),
    };
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if inner.is_empty() || !is_number(least) || !most.is_none_or(is_number) {
        return None;
    }
    let number = |text: &str| if text.is_empty() { 0 } else { text.parse().unwrap_or(usize::MAX) };
    let mut written = format!("{{{}", if least.is_empty() { "0" } else { least });
    if let Some(most) = most {
        write!(written, ",{most}").unwrap_or(());
    }
    Some((end + 1, written + "}", number(least).max(most.map_or(0, number))))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compared with `re.match(pattern, name) is not None` of Python 3.11, for each of the names.
    #[test]
    fn answers_are_those_of_python() {
        let names = ["model.layers.1.mlp.up_proj", "model.layers.11.self_attn.q_proj", "lm_head", "a-b[c]", "aa.b.aa"];
        for (pattern, expected) in [
            (r"model", [1, 1, 0, 0, 0]),
            (r"layers", [0, 0, 0, 0, 0]),
            (r"^(?!.*self_attn).*$", [1, 0, 1, 1, 1]),
            (r"^(?!.*self_attn.(o_proj|q_proj)).*$", [1, 0, 1, 1, 1]),
            (r".*(?<!q)_proj$", [1, 0, 0, 0, 0]),
            (r".*(?<=q_)proj", [0, 1, 0, 0, 0]),
            (r"(?=.*mlp)(?=.*up)", [1, 0, 0, 0, 0]),
            (r".*proj\Z", [1, 1, 0, 0, 0]),
            (r".*pro\Z", [0, 0, 0, 0, 0]),
            (r"lm(?#the head)_head", [0, 0, 1, 0, 0]),
            (r"(\w+)\.b\.\1", [0, 0, 0, 0, 1]),
            (r"(?P<n>a+)\.b\.(?P=n)$", [0, 0, 0, 0, 1]),
            (r"(?P<n>a+)\.b\.\1$", [0, 0, 0, 0, 1]),
            (r".*layers\.(\d)\1\.", [0, 1, 0, 0, 0]),
            (r"(a)?(?(1)a|l)", [0, 0, 1, 0, 1]),
            (r"a++a", [0, 0, 0, 0, 0]),
            (r"a+a", [0, 0, 0, 0, 1]),
            (r"a{1,2}+\.", [0, 0, 0, 0, 1]),
            (r"(?>a*)a", [0, 0, 0, 0, 0]),
            (r"a{,2}\.b", [0, 0, 0, 0, 1]),
            (r"a{2}\.", [0, 0, 0, 0, 1]),
            (r"a-b[[]c", [0, 0, 0, 1, 0]),
            (r"a[]-]b", [0, 0, 0, 1, 0]),
            (r"[a&&b]-", [0, 0, 0, 1, 0]),
            (r"(?i)LM_HEAD", [0, 0, 1, 0, 0]),
            ("(?x) lm _head  # the head", [0, 0, 1, 0, 0]),
            (r"\x6cm\137head", [0, 0, 1, 0, 0]),
            (r"", [1, 1, 1, 1, 1]),
        ] {
            let compiled = Pattern::new(pattern).unwrap_or_else(|reason| panic!("{pattern}: {reason}"));
            let got = names.map(|name| u8::from(compiled.is_match(name).unwrap()));
            assert_eq!(got, expected, "{pattern}");
        }
        // Braces that repeat nothing are characters.
        assert!(Pattern::new("a{b}").unwrap().is_match("a{b}c").unwrap());
        assert!(Pattern::new("a{}").unwrap().is_match("a{}").unwrap());
    }

    #[test]
    fn what_backtracks_is_what_has_to() {
        for (pattern, backtracks) in
            [("re:.*mlp", false), (r"(?P<a>x)(?:y)(?#z)\Z", false), ("(?!x)", true), ("a*+", true)]
        {
            assert_eq!(matches!(Pattern::new(pattern).unwrap(), Pattern::Backtracking(_)), backtracks, "{pattern}");
        }
    }

    #[test]
    fn bounds_and_errors_are_words() {
        let deep = format!("(?!x){}", "(".repeat(10_000) + &")".repeat(10_000));
        for (pattern, words) in [
            ("(", "unclosed group"),
            ("[a", "unterminated character set"),
            ("a\\", "bad escape (end of pattern)"),
            (r"\K", r"bad escape \K"),
            (r"\G(?!a)", r"bad escape \G"),
            (r"(a)\2", "invalid group reference 2"),
            ("(?P=x)", "unknown group name x"),
            ("(?P<x>a)(?P<x>b)", "redefinition of group name x"),
            ("(?(3)a|b)", "unknown group 3"),
            ("(?#", "unterminated comment"),
            ("(?!x)(?:a{1000}){1000}", "repeats of 1000000 in all"),
            ("(?:(?:a{1000}){1000}){1000}", "size"),
            (deep.as_str(), "at most 4096"),
        ] {
            let reason = Pattern::new(pattern).unwrap_err();
            assert!(reason.contains(words), "{pattern:.40}: {reason}");
        }
        let nested = Pattern::new(r"(?:(a|aa)+)+(?!.)\1x").unwrap();
        let reason = nested.is_match(&"a".repeat(60)).unwrap_err();
        assert!(reason.contains("more than 50000 steps on aaa"), "{reason}");
        assert!(nested.is_match(&"a".repeat(5000)).unwrap_err().contains("too long"));
    }

    #[test]
    fn bounds_are_met_exactly() {
        let ahead = |rest: &str| Pattern::new(&format!("(?!x){rest}"));
        let name = |length: usize| "a".repeat(length);
        assert!(ahead(&name(MAX_LENGTH - 5)).is_ok() && ahead(&name(MAX_LENGTH - 4)).is_err());
        assert!(
            ahead("a{1000}b{2,100}").is_ok() && ahead("a{1000}b{101}").is_err() && ahead("a{1001}b{,100}").is_err()
        );
        // Zero times is once, and none of it bounds what is linear.
        assert!(ahead("c{0}a{1000}b{100}").is_ok() && Pattern::new("a{1000}(b{101}){0,3}").is_ok());
        let pattern = ahead("a*").unwrap();
        assert_eq!(pattern.is_match(&name(MAX_LENGTH)), Ok(true));
        assert!(pattern.is_match(&name(MAX_LENGTH + 1)).unwrap_err().contains("4097 bytes"));
        assert_eq!(Pattern::new("a*").unwrap().is_match(&name(MAX_LENGTH + 1)), Ok(true));
    }
}
