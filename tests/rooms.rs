//! Imports that are allowed: between crates, between the rooms of `crates/paring`, and no cycles among the
//! top modules of any crate.
//!
//! ARCHITECTURE.md says what each room is for. An import that the table does not have fails here: either it points the
//! wrong way, or the table and the map change together.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms of `crates/paring`, from the lowest, and those that each may import.
const ROOMS: [(&str, &[&str]); 13] = [
    ("plan", &[]),
    ("report", &["plan"]),
    ("pipeline", &["plan", "report"]),
    ("methods", &["plan", "pipeline"]),
    ("reconstruct", &["pipeline"]),
    ("allocate", &["plan"]),
    ("output", &["plan", "report"]),
    ("finetune", &["plan", "report", "pipeline", "output"]),
    ("compress", &["plan", "report", "pipeline", "methods", "reconstruct", "allocate", "output"]),
    ("commands", &["plan", "report", "pipeline", "methods", "output", "compress"]),
    ("cost", &["plan", "report", "pipeline", "methods", "reconstruct", "output", "compress"]),
    ("bench", &["plan", "report", "pipeline", "methods"]),
    ("request", &["plan", "report", "pipeline", "output", "finetune", "compress", "commands", "cost"]),
];

/// The crates, from the lowest, and those of the workspace that each may depend on.
const CRATES: [(&str, &str, &[&str]); 9] = [
    ("paring_format", "crates/paring-format", &[]),
    ("paring_kernels", "kernels", &[]),
    ("paring_data", "crates/paring-data", &["paring_format"]),
    ("paring_model", "crates/paring-model", &["paring_format", "paring_kernels"]),
    ("paring_generate", "crates/paring-generate", &["paring_format", "paring_data", "paring_model"]),
    ("paring_serve", "crates/paring-serve", &["paring_data", "paring_generate"]),
    ("paring_tasks", "crates/paring-tasks", &["paring_format", "paring_data"]),
    (
        "paring",
        "crates/paring",
        &["paring_format", "paring_kernels", "paring_data", "paring_model", "paring_generate", "paring_tasks"],
    ),
    (
        "paring_cli",
        "crates/paring-cli",
        &[
            "paring_format",
            "paring_kernels",
            "paring_data",
            "paring_model",
            "paring_generate",
            "paring_serve",
            "paring_tasks",
            "paring",
        ],
    ),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn source_files(dir: &Path, found: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            source_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// The code of a file, without comments.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| line.split("//").next().unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

/// The identifier at the start of a text.
fn identifier(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

/// The names right after `crate::` in a file's code, groups in braces included.
fn after_crate(code: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, found) in code.match_indices("crate::") {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        if code[..at].chars().next_back().is_some_and(is_word) {
            continue;
        }
        let rest = &code[at + found.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            names.insert(identifier(rest).to_string());
            continue;
        };
        let mut depth = 0;
        let mut start = true;
        for (i, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => start = true,
                c if start && is_word(c) => {
                    names.insert(identifier(&group[i..]).to_string());
                    start = false;
                }
                _ => {}
            }
        }
    }
    names
}

/// The code of a file without its unit tests, which may use anything of their crate.
fn code_without_tests(path: &Path) -> String {
    let is_tests = |part: &str| ["tests", "testing"].contains(&part);
    if path.with_extension("").iter().any(|part| is_tests(&part.to_string_lossy())) {
        return String::new();
    }
    code(path).split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_string()
}

/// The top modules of a crate, and those that each imports, in the code that `code` takes from its files.
fn modules(folder: &str, code: fn(&Path) -> String) -> BTreeMap<String, BTreeSet<String>> {
    let source = root().join(folder).join("src");
    let mut files = Vec::new();
    source_files(&source, &mut files);
    let module = |path: &Path| {
        let first = path.strip_prefix(&source).unwrap().components().next().unwrap();
        Path::new(&first).file_stem().unwrap().to_string_lossy().into_owned()
    };
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in &files {
        graph.entry(module(path)).or_default().extend(after_crate(&code(path)));
    }
    graph.retain(|name, _| !["lib", "main"].contains(&name.as_str()));
    let known: BTreeSet<String> = graph.keys().cloned().collect();
    for (name, uses) in &mut graph {
        uses.retain(|other| other != name && known.contains(other));
    }
    graph
}

#[test]
fn rooms_import_downwards_only() {
    let graph = modules("crates/paring", code);
    let rooms: BTreeSet<&str> = ROOMS.iter().map(|(room, _)| *room).collect();
    // Errors belong to all of them.
    let found: BTreeSet<&str> = graph.keys().map(String::as_str).filter(|name| *name != "error").collect();
    assert_eq!(found, rooms, "a room without a row, or a row without a room");
    let mut complaints = Vec::new();
    for (i, (room, allowed)) in ROOMS.iter().enumerate() {
        for below in *allowed {
            assert!(ROOMS[..i].iter().any(|(name, _)| name == below), "{room} would import upwards, from {below}");
        }
        let uses = graph[*room].iter().filter(|name| rooms.contains(name.as_str()));
        complaints.extend(uses.filter(|name| !allowed.contains(&name.as_str())).map(|name| format!("{room} → {name}")));
    }
    assert!(complaints.is_empty(), "imports that the table does not have: {}", complaints.join(", "));
}

#[test]
fn crates_depend_downwards_only() {
    let names: Vec<&str> = CRATES.iter().map(|(name, ..)| *name).collect();
    for (i, (name, folder, allowed)) in CRATES.iter().enumerate() {
        let manifest = fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap();
        let needs = manifest.lines().map_while(|line| (line != "[dev-dependencies]").then_some(line));
        for line in needs.filter(|line| !line.trim_start().starts_with('#')) {
            let dependency = line.split(['.', '=', ' ']).next().unwrap_or_default().replace('-', "_");
            if names.contains(&dependency.as_str()) {
                assert!(allowed.contains(&dependency.as_str()), "{name} depends on {dependency}");
                assert!(names[..i].contains(&dependency.as_str()), "{name} depends upwards, on {dependency}");
            }
        }
    }
}

/// The words of a code that are options as they are typed.
fn typed_options(code: &str) -> Vec<&str> {
    let word = |text: &str| text.find(|c: char| !c.is_ascii_lowercase() && c != '-').unwrap_or(text.len());
    let begins = |at: usize| code[..at].ends_with(|c: char| c.is_whitespace() || "\"(`".contains(c));
    let options = code.match_indices("--").filter(|(at, _)| begins(*at));
    let words = options.map(|(at, _)| &code[at..at + 2 + word(&code[at + 2..])]);
    words.filter(|word| word[2..].starts_with(|c: char| c.is_ascii_lowercase())).collect()
}

#[test]
fn libraries_leave_it_to_programs_how_options_are_typed() {
    let mut complaints = Vec::new();
    for (_, folder, _) in CRATES.iter().filter(|(name, ..)| *name != "paring_cli") {
        let mut files = Vec::new();
        source_files(&root().join(folder).join("src"), &mut files);
        for path in files
            .iter()
            .filter(|path| !path.components().any(|part| part.as_os_str().to_string_lossy().contains("tests")))
        {
            let code = code(path);
            let ordinary = code.split("#[cfg(test)]\nmod tests {").next().unwrap();
            complaints.extend(typed_options(ordinary).iter().map(|option| format!("{}: {option}", path.display())));
        }
    }
    assert!(complaints.is_empty(), "options are named by `plan::Opt`: {}", complaints.join(", "));
    assert_eq!(
        typed_options("f(\"use --sym, or\\n --pattern 2:4\"); i--; a --> b; \"--\"; \"---\""),
        ["--sym", "--pattern"]
    );
}

/// Modules that reach each other: more than one in a group is a cycle.
fn circles(graph: &BTreeMap<String, BTreeSet<String>>) -> Vec<Vec<&str>> {
    let reach = |from: &str| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from.to_string()]);
        while let Some(name) = open.pop() {
            open.extend(graph[&name].iter().filter(|next| seen.insert(next.to_string())).cloned());
        }
        seen
    };
    let reached: BTreeMap<&str, BTreeSet<String>> = graph.keys().map(|name| (name.as_str(), reach(name))).collect();
    let mut found: Vec<Vec<&str>> = Vec::new();
    for (name, far) in &reached {
        let circle: Vec<&str> = far
            .iter()
            .filter(|other| reached[other.as_str()].contains(*name))
            .map(|other| graph.get_key_value(other).unwrap().0.as_str())
            .collect();
        if circle.len() > 1 && !found.contains(&circle) {
            found.push(circle);
        }
    }
    found
}

#[test]
fn no_crate_has_a_circle_of_modules() {
    let mut complaints = Vec::new();
    for (name, folder, _) in CRATES {
        let graph = modules(folder, code_without_tests);
        assert!(graph.len() > 3, "{name}: only {} modules found", graph.len());
        complaints.extend(circles(&graph).into_iter().map(|circle| format!("{name}: {}", circle.join(" ↔ "))));
    }
    assert!(complaints.is_empty(), "modules that import each other in a circle:\n{}", complaints.join("\n"));
}

#[test]
fn a_circle_and_a_group_of_imports_would_be_found() {
    let code = "use crate::{Error, a::{B, c}, d};\nuse crate::e::F;\nlet x = mycrate::g();";
    let names = ["Error", "a", "d", "e"].map(String::from);
    assert_eq!(after_crate(code), BTreeSet::from(names));
    let graph = |pairs: &[(&str, &[&str])]| {
        let row = |(from, to): &(&str, &[&str])| (from.to_string(), to.iter().map(|to| to.to_string()).collect());
        pairs.iter().map(row).collect::<BTreeMap<String, BTreeSet<String>>>()
    };
    assert_eq!(circles(&graph(&[("a", &["b"]), ("b", &["c"]), ("c", &["a"]), ("d", &["a"])])), [["a", "b", "c"]]);
    assert!(circles(&graph(&[("a", &["b", "c"]), ("b", &["c"]), ("c", &[])])).is_empty());
}
