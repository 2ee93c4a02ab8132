//! Methods of text.

use std::rc::Rc;

use super::printf::braces;
use crate::jinja::fault::{Made, Meter, fault};
use crate::jinja::given::{Given, is_true, required, text, whole};
use crate::jinja::run::access;
use crate::jinja::text::{Text, capitalized, is_space, lines, titled};
use crate::jinja::value::{Value, is_printable};

/// The methods that [`call`] does not know, of those that Python has.
pub(super) const OTHERS: [&str; 8] =
    ["casefold", "encode", "expandtabs", "format_map", "isidentifier", "istitle", "maketrans", "translate"];

/// The methods that [`call`] knows.
pub(super) const KNOWN: [&str; 39] = [
    "capitalize",
    "center",
    "count",
    "endswith",
    "find",
    "format",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "islower",
    "isnumeric",
    "isprintable",
    "isspace",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "upper",
    "zfill",
];

/// Calls a method of a text.
pub(super) fn call(of: &Rc<str>, name: &str, given: &Given, meter: &Meter) -> Made<Value> {
    meter.looks(of.len())?;
    let made = |text: String| {
        meter.bytes(text.len())?;
        Ok(Value::from(text))
    };
    match name {
        "capitalize" | "lower" | "upper" | "title" | "swapcase" => {
            given.none(name)?;
            made(match name {
                "capitalize" => capitalized(of),
                "lower" => of.to_lowercase(),
                "upper" => of.to_uppercase(),
                "title" => titled(of),
                _ => of
                    .chars()
                    .flat_map(|c| {
                        if c.is_uppercase() { Case::Lower(c.to_lowercase()) } else { Case::Upper(c.to_uppercase()) }
                    })
                    .collect(),
            })
        }
        "strip" | "lstrip" | "rstrip" => {
            let [chars] = given.bind(name, [""])?;
            let chars = text(chars, name)?;
            Ok(Value::from(stripped(of, chars.as_deref(), name != "rstrip", name != "lstrip")))
        }
        "split" | "rsplit" => {
            let [separator, most] = given.bind(name, ["sep", "maxsplit"])?;
            let (separator, most) = (text(separator, name)?, whole(most, name)?);
            split(of, separator.as_deref(), most, name == "rsplit", meter)
        }
        "splitlines" => {
            let [with_ends] = given.bind(name, ["keepends"])?;
            meter.items(of.chars().filter(|c| is_space(*c)).count())?;
            let lines = lines(of, is_true(with_ends));
            Value::list(lines.into_iter().map(Value::from).collect(), meter)
        }
        "partition" | "rpartition" => {
            let [separator] = given.bind(name, [""])?;
            partition(of, &needed(separator, name)?, name == "rpartition", meter)
        }
        "removeprefix" | "removesuffix" => {
            let [affix] = given.bind(name, [""])?;
            let affix = needed(affix, name)?;
            let rest = if name == "removeprefix" { of.strip_prefix(&*affix) } else { of.strip_suffix(&*affix) };
            Ok(rest.map_or_else(|| Value::Text(of.clone()), Value::from))
        }
        "replace" => {
            let [old, new, count] = given.bind(name, ["", "", ""])?;
            let count = whole(count, name)?;
            replaced(of, &needed(old, name)?, &needed(new, name)?, count, meter).map(Value::Text)
        }
        "join" => {
            let [parts] = given.bind(name, [""])?;
            let mut out = Text::new(meter);
            for (k, part) in required(parts, name)?.items(meter)?.into_iter().enumerate() {
                let Value::Text(part) = part else {
                    return fault(format!("join: item {k} is {}, expected str", part.kind()));
                };
                out.push(if k > 0 { of } else { "" })?;
                out.push(&part)?;
            }
            Ok(Value::Text(out.shared()))
        }
        "center" | "ljust" | "rjust" | "zfill" => aligned(of, name, given, meter),
        "format" => Ok(Value::Text(braces(of, given, meter)?)),
        "startswith" | "endswith" | "find" | "rfind" | "index" | "rindex" | "count" => search(of, name, given, meter),
        _ => is_kind(of, name, given),
    }
}

/// The letters of a letter in another case.
enum Case {
    Lower(std::char::ToLowercase),
    Upper(std::char::ToUppercase),
}

impl Iterator for Case {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        match self {
            Case::Lower(letters) => letters.next(),
            Case::Upper(letters) => letters.next(),
        }
    }
}

fn needed(argument: Option<Value>, name: &str) -> Made<Rc<str>> {
    match text(argument, name)? {
        Some(text) => Ok(text),
        None => fault(format!("{name} expects text")),
    }
}

/// The text without such characters, or spaces, at its start and end.
pub(in crate::jinja) fn stripped<'a>(text: &'a str, chars: Option<&str>, start: bool, end: bool) -> &'a str {
    let goes = |c: char| chars.map_or_else(|| is_space(c), |chars| chars.contains(c));
    let text = if start { text.trim_start_matches(goes) } else { text };
    if end { text.trim_end_matches(goes) } else { text }
}

fn split(of: &str, separator: Option<&str>, most: Option<i128>, from_end: bool, meter: &Meter) -> Made<Value> {
    let most = most.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
    let cuts = match separator {
        Some("") => 0,
        Some(separator) => of.matches(separator).count(),
        None => of.chars().filter(|c| is_space(*c)).count(),
    };
    meter.items(cuts.min(most).saturating_add(1))?;
    let mut parts: Vec<&str> = match separator {
        Some("") => return fault("empty separator"),
        Some(separator) if from_end => of.rsplitn(most.saturating_add(1), separator).collect(),
        Some(separator) => of.splitn(most.saturating_add(1), separator).collect(),
        None => words(of, most, from_end),
    };
    if from_end {
        parts.reverse();
    }
    Value::list(parts.into_iter().map(Value::from).collect(), meter)
}

/// Words between spaces; after so many cuts the rest is one.
fn words(of: &str, most: usize, from_end: bool) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = if from_end { of.trim_end_matches(is_space) } else { of.trim_start_matches(is_space) };
    while !rest.is_empty() {
        let cut = if parts.len() == most {
            None
        } else if from_end {
            rest.char_indices().rev().find(|(_, c)| is_space(*c)).map(|(at, c)| (at, at + c.len_utf8()))
        } else {
            rest.char_indices().find(|(_, c)| is_space(*c)).map(|(at, c)| (at, at + c.len_utf8()))
        };
        let Some((end, next)) = cut else {
            parts.push(rest);
            break;
        };
        let (word, after) = if from_end { (&rest[next..], &rest[..end]) } else { (&rest[..end], &rest[next..]) };
        parts.push(word);
        rest = if from_end { after.trim_end_matches(is_space) } else { after.trim_start_matches(is_space) };
    }
    parts
}

fn partition(of: &Rc<str>, separator: &str, from_end: bool, meter: &Meter) -> Made<Value> {
    if separator.is_empty() {
        return fault("empty separator");
    }
    let cut = if from_end { of.rsplit_once(separator) } else { of.split_once(separator) };
    let parts = match cut {
        Some((before, after)) => [before.into(), separator.into(), after.into()],
        None if from_end => ["".into(), "".into(), Value::Text(of.clone())],
        None => [Value::Text(of.clone()), "".into(), "".into()],
    };
    Value::tuple(parts.into(), meter)
}

/// The text with `new` for `old`, from its start `count` times.
pub(in crate::jinja) fn replaced(of: &str, old: &str, new: &str, count: Option<i128>, meter: &Meter) -> Made<Rc<str>> {
    let count = count.and_then(|count| usize::try_from(count).ok()).unwrap_or(usize::MAX);
    let mut out = Text::new(meter);
    let mut rest = 0;
    for (at, _) in of.match_indices(old).take(count) {
        out.push(&of[rest..at])?;
        out.push(new)?;
        rest = at + old.len();
    }
    out.push(&of[rest..])?;
    Ok(out.shared())
}

/// The text in the midst, at the left or at the right of so many characters.
fn aligned(of: &str, name: &str, given: &Given, meter: &Meter) -> Made<Value> {
    let [width, fill] = given.bind(name, ["", ""])?;
    let width = whole(Some(required(width, name)?), name)?.unwrap_or(0);
    let fill = text(fill, name)?;
    let fill = fill.as_deref().unwrap_or(if name == "zfill" { "0" } else { " " });
    if fill.chars().count() != 1 {
        return fault(format!("{name}: expected one character to fill with"));
    }
    let len = of.chars().count();
    let missing = usize::try_from(width.max(0)).unwrap_or(usize::MAX).saturating_sub(len);
    let before = match name {
        "ljust" => 0,
        // As CPython rounds it.
        "center" => missing / 2 + (missing & (len + missing) & 1),
        _ => missing,
    };
    let mut out = Text::new(meter);
    let (sign, of) = if name == "zfill" && of.starts_with(['+', '-']) { of.split_at(1) } else { ("", of) };
    out.push(sign)?;
    out.repeat(fill, before)?;
    out.push(of)?;
    out.repeat(fill, missing - before)?;
    Ok(Value::Text(out.shared()))
}

/// Looks for a text, between two places where they are given.
fn search(of: &Rc<str>, name: &str, given: &Given, meter: &Meter) -> Made<Value> {
    let [what, start, end] = given.bind(name, ["", "", ""])?;
    let what = required(what, name)?;
    let bounds = access::bounds(of, whole(start, name)?, whole(end, name)?);
    if matches!(name, "startswith" | "endswith") {
        let single = [what.clone()];
        let candidates = if let Value::Tuple(list) = &what { &list.items[..] } else { &single };
        for candidate in candidates {
            let candidate = needed(Some(candidate.clone()), name)?;
            let within = bounds.clone().map(|bounds| &of[bounds]);
            let fits = |within: &str| {
                if name == "startswith" { within.starts_with(&*candidate) } else { within.ends_with(&*candidate) }
            };
            if within.is_some_and(fits) {
                return Ok(Value::Bool(true));
            }
        }
        return Ok(Value::Bool(false));
    }
    let what = needed(Some(what), name)?;
    let within = bounds.clone().map(|bounds| &of[bounds]);
    if name == "count" {
        let count = within.map_or(0, |within| within.matches(&*what).count());
        meter.steps(count / 16)?;
        return Ok(Value::from(count));
    }
    let from_start = matches!(name, "find" | "index");
    let found = within.and_then(|within| if from_start { within.find(&*what) } else { within.rfind(&*what) });
    match (found, bounds) {
        (Some(at), Some(bounds)) => Ok(Value::from(of[..bounds.start + at].chars().count())),
        _ if name.ends_with("find") => Ok(Value::Int(-1)),
        _ => fault(format!("{name}: substring not found")),
    }
}

fn is_kind(of: &str, name: &str, given: &Given) -> Made<Value> {
    given.none(name)?;
    let all = |test: fn(char) -> bool| !of.is_empty() && of.chars().all(test);
    let is = match name {
        "isalnum" => all(char::is_alphanumeric),
        "isalpha" => all(char::is_alphabetic),
        "isascii" => of.is_ascii(),
        "isprintable" => of.chars().all(is_printable),
        "isspace" => all(is_space),
        "islower" => of.chars().any(char::is_lowercase) && !of.chars().any(char::is_uppercase),
        "isupper" => of.chars().any(char::is_uppercase) && !of.chars().any(char::is_lowercase),
        "isdigit" | "isdecimal" | "isnumeric" => {
            if of.chars().any(|c| !c.is_ascii() && c.is_numeric()) {
                return fault(format!("{name} of digits that are not 0 to 9 is not known here"));
            }
            all(|c| c.is_ascii_digit())
        }
        _ => return fault(format!("the method {name} of text is not known here")),
    };
    Ok(Value::Bool(is))
}
