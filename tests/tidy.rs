//! Sources that are short and finished, and documentation in the field's words.

use std::fs;
use std::path::{Path, PathBuf};

const MAX_LINES: usize = 400;
const MAX_FUNCTION_LINES: usize = 80;

/// Folders with source files.
const FOLDERS: [&str; 5] = ["crates", "fuzz", "kernels", "tests", "scripts"];

/// First words that make a question of a documentation comment.
const QUESTIONS: [&str; 9] = ["What", "How", "Whether", "When", "Where", "Who", "Whose", "Whom", "Which"];

/// Marks of unfinished work. Put together here, as the phrases below, so that this file does not hold them.
const UNFINISHED: [[&str; 2]; 5] =
    [["todo", "!"], ["unimplemented", "!"], ["#[", "ignore"], ["FIX", "ME"], ["dbg", "!("]];

/// Phrases that CONTRIBUTING.md has better words for.
const PHRASES: [[&str; 2]; 14] = [
    ["goes", " on"],
    ["go on", " from"],
    ["who", "ever"],
    ["of the", " past"],
    ["makes", " up for"],
    ["is", " told"],
    ["are", " told"],
    ["number that", " is none"],
    ["numbers that", " are none"],
    ["is no", " number"],
    ["behind the", " first"],
    ["behind the", " last"],
    ["behind the", " block"],
    ["behind", " block"],
];

/// Adds the files below a folder whose names end in `extension`, without those that a build made.
fn files_below(dir: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() && !path.ends_with("target") {
            files_below(&path, extension, found);
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
}

/// The text of a line's comment, if it is one: its marker and the rest.
fn comment(line: &str) -> Option<(&str, &str)> {
    let line = line.trim_start();
    let marker = ["///", "//!", "//"].into_iter().find(|marker| line.starts_with(marker))?;
    Some((marker, line[marker.len()..].trim()))
}

/// The name in a line that begins a function, after its visibility and qualifiers.
fn function_name(line: &str) -> Option<&str> {
    let (before, after) = line.split_once("fn ")?;
    let qualifier = |word: &str| {
        let known = ["const", "async", "unsafe", "extern", "\"C\""];
        known.contains(&word) || word == "pub" || (word.starts_with("pub(") || word.ends_with(')'))
    };
    let name = after.split(|c: char| !c.is_alphanumeric() && c != '_').next()?;
    (before.split_whitespace().all(qualifier) && !name.is_empty()).then_some(name)
}

/// Functions of more than [`MAX_FUNCTION_LINES`]. In formatted code a function ends at the first brace with its own
/// indentation; one without a body ends in a semicolon before.
fn long_functions(lines: &[&str]) -> Vec<String> {
    let indentation = |line: &str| line.len() - line.trim_start().len();
    let mut complaints = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let at_level = |next: &&str| !next.trim().is_empty() && indentation(next) == indentation(line);
        let ends = |next: &&str| at_level(next) && (next.trim_start().starts_with('}') || next.ends_with(';'));
        let length = match line.ends_with([';', '}']) {
            true => 1,
            false => lines[start + 1..].iter().position(ends).map_or(1, |rest| rest + 2),
        };
        if length > MAX_FUNCTION_LINES {
            complaints.push(format!("{}: {name} has {length} lines, at most {MAX_FUNCTION_LINES}", start + 1));
        }
    }
    complaints
}

/// Documentation comments whose first line asks a question.
fn questions(lines: &[&str]) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut last = None;
    for (i, line) in lines.iter().enumerate() {
        let marker = comment(line).map(|(marker, _)| marker);
        if let Some((marker @ ("///" | "//!"), text)) = comment(line)
            && last != Some(marker)
        {
            let first = text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
            if QUESTIONS.contains(&first) {
                complaints.push(format!("{}: a documentation comment that begins with {first}", i + 1));
            }
        }
        last = marker;
    }
    complaints
}

/// Phrases of [`PHRASES`] in comments, or in all lines of a document; upper and lower case are the same. A phrase may be
/// broken by a line end.
fn phrases(lines: &[&str], document: bool) -> Vec<String> {
    let text = |line: &&str| match document {
        true => line.trim().to_lowercase(),
        false => comment(line).map_or(String::new(), |(_, text)| text.to_lowercase()),
    };
    let texts: Vec<String> = lines.iter().map(text).collect();
    let phrases = PHRASES.map(|halves| halves.concat());
    let mut complaints = Vec::new();
    for (i, text) in texts.iter().enumerate() {
        let next = texts.get(i + 1).map_or("", String::as_str);
        let joined = format!(" {text} {next} ");
        for phrase in &phrases {
            // Whole words that begin on this line.
            let begins = |&(at, _): &(usize, &str)| {
                let after = joined[at + phrase.len()..].chars().next().is_some_and(char::is_alphanumeric);
                let before = joined[..at].chars().next_back().is_some_and(char::is_alphanumeric);
                at <= text.len() && !after && !before
            };
            if joined.match_indices(phrase.as_str()).any(|found| begins(&found)) {
                complaints.push(format!("{}: \"{phrase}\"; the table in CONTRIBUTING.md has a better word", i + 1));
            }
        }
    }
    complaints
}

/// Everything wrong with a source file.
fn source_complaints(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let mut complaints = Vec::new();
    if lines.len() > MAX_LINES {
        complaints.push(format!("1: {} lines, at most {MAX_LINES}", lines.len()));
    }
    for (i, line) in lines.iter().enumerate() {
        let marks = UNFINISHED.map(|halves| halves.concat());
        complaints.extend(marks.iter().filter(|mark| line.contains(*mark)).map(|mark| format!("{}: {mark}", i + 1)));
    }
    complaints.extend(long_functions(&lines));
    complaints.extend(questions(&lines));
    complaints.extend(phrases(&lines, false));
    complaints
}

/// Fails with the complaints about all files, a line each.
fn assert_none(root: &Path, files: &[PathBuf], complain: impl Fn(&str) -> Vec<String>) {
    let mut complaints = Vec::new();
    for file in files {
        let name = file.strip_prefix(root).unwrap_or(file).display();
        let found = complain(&fs::read_to_string(file).unwrap());
        complaints.extend(found.into_iter().map(|complaint| format!("{name}:{complaint}")));
    }
    assert!(complaints.is_empty(), "{} complaints\n{}", complaints.len(), complaints.join("\n"));
}

#[test]
fn sources_are_short_and_finished_and_in_plain_words() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files = Vec::new();
    FOLDERS.iter().for_each(|folder| files_below(&root.join(folder), "rs", &mut files));
    assert!(files.len() > 60, "only {} source files found", files.len());
    assert_none(&root, &files, source_complaints);
}

#[test]
fn documents_are_in_plain_words() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files: Vec<PathBuf> = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"].map(|name| root.join(name)).into();
    ["docs", "configs", "crates", "scripts", "tests"]
        .iter()
        .for_each(|folder| files_below(&root.join(folder), "md", &mut files));
    assert!(files.len() > 10, "only {} documents found", files.len());
    assert_none(&root, &files, |text| phrases(&text.lines().collect::<Vec<_>>(), true));
}

#[test]
fn what_is_not_tidy_is_found() {
    let body = |lines| "        x();\n".repeat(lines);
    let method =
        |lines| format!("impl A {{\n    pub(crate) fn run(\n        a: u8,\n    ) {{\n{}    }}\n}}\n", body(lines));
    let bounded = |lines| format!("fn run<T>()\nwhere\n    T: Copy,\n{{\n{}}}\n", body(lines));
    let bodiless = format!("trait T {{\n    fn a(\n        &self,\n    );\n{}}}\n", "    const A: u8;\n".repeat(90));
    for (text, complaints) in [
        (method(MAX_FUNCTION_LINES - 4), 0),
        (method(MAX_FUNCTION_LINES - 3), 1),
        (bounded(MAX_FUNCTION_LINES - 5), 0),
        (bounded(MAX_FUNCTION_LINES - 4), 1),
        (bodiless, 0),
        ("/// What it is.\nfn a() {}\n".into(), 1),
        ("/// The part that says\n/// What it is.\nfn a() {}\n".into(), 0),
        (format!("// A run {}\n// {}\n", PHRASES[0][0], PHRASES[0][1].trim()), 1),
        (format!("// A run {} {}\nlet {} = 1;\n", PHRASES[0][0], "x", PHRASES[0][1].trim()), 0),
        (format!("let text = \"{}\";\n", PHRASES[3].concat()), 0),
        ("x\n".repeat(MAX_LINES), 0),
        ("x\n".repeat(MAX_LINES + 1), 1),
    ] {
        assert_eq!(source_complaints(&text).len(), complaints, "{text}: {:?}", source_complaints(&text));
    }
    let unfinished = format!("    {}\n", UNFINISHED[0].concat());
    assert_eq!(source_complaints(&unfinished), [format!("1: {}", UNFINISHED[0].concat())]);
}
