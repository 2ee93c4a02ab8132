//! Rows of the table are complete: what a new one lacks fails here.

use std::collections::BTreeSet;
use std::path::Path;

use super::*;
use crate::plan::file::{Known, RecipeFile, read};
use crate::plan::{Pattern, Recipe, Rounding, Spqr};

/// The least that a recipe of the method can be.
fn recipe(method: &'static MethodInfo) -> Recipe {
    Recipe {
        pattern: method.drops.then_some(Pattern::NofM { keep: 2, of: 4 }),
        rounding: (!method.drops).then(|| Rounding::int(4, Some(16))),
        spqr: method.spqr.then(Spqr::default),
        ..Recipe::new(method)
    }
}

/// A recipe file of llm-compressor with one modifier.
fn parse(modifier: &str, keys: &str) -> Result<RecipeFile> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("recipe.yaml");
    std::fs::write(&path, format!("{modifier}: {{{keys}}}")).unwrap();
    let options = "method scheme sparsity pattern blocksize percdamp actorder kv-cache include ignore";
    let options: Vec<String> = options.split(' ').map(String::from).collect();
    read(&path, &Known { options: options.clone(), of_groups: options })
}

#[test]
fn every_row_says_what_it_is() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/methods.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    let mut seen = BTreeSet::new();
    for method in METHODS.iter().copied() {
        let name = method.name;
        assert!(seen.insert(name), "{name} twice");
        assert!(!name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()), "{name}");
        assert!(!method.help.is_empty() && !method.source.is_empty(), "{name}");
        assert!(method.drops || method.rounds, "{name} does nothing");
        assert!(!method.share_per_row || method.drops, "{name} removes no share");
        assert!(!method.spqr || (method.curvature == Curvature::Full && method.rounds && !method.drops), "{name}");
        assert_eq!(MethodInfo::named(name).unwrap(), method);
        assert_eq!(serde_json::to_value(recipe(method)).unwrap()["method"], name);
        assert_eq!((format!("{method:10}|"), format!("{method:?}")), (format!("{name:10}|"), name.to_string()));
        assert!(
            docs.lines().any(|line| line.starts_with(&format!("| `{name}` | "))),
            "{name} is not in docs/methods.md"
        );
    }
    let error = MethodInfo::named("none").unwrap_err().to_string();
    assert_eq!(error, format!("unknown method none; known: {}", names(|_| true)));
}

#[test]
fn recipes_are_what_their_rows_allow() {
    for method in METHODS.iter().copied() {
        let least = recipe(method);
        least.check().unwrap();
        let both = Recipe { pattern: recipe(&MAGNITUDE).pattern, rounding: recipe(&RTN).rounding, ..least.clone() };
        assert_eq!(both.check().is_ok(), method.drops && method.rounds, "{method}");
        let spqr = Recipe { spqr: if method.spqr { None } else { Some(Spqr::default()) }, ..least.clone() };
        let error = spqr.check().unwrap_err().to_string();
        assert!(error.contains(method.name), "{error}");
        let nothing = Recipe { pattern: None, rounding: None, ..least };
        assert!(nothing.check().is_err(), "{method}");
    }
}

#[test]
fn baselines_do_the_same_without_data() {
    for method in METHODS.iter().copied() {
        let found = method.baselines.iter().map(|baseline| baseline.method);
        for baseline in found.clone() {
            assert!(METHODS.contains(&baseline), "{method}: {baseline} is not in the table");
            assert!(!baseline.needs_data() && baseline.baselines.is_empty(), "{method}: {baseline}");
        }
        // Only a full curvature moves errors, and only then are there two results to compare.
        let moves = method.curvature == Curvature::Full;
        let drops = found.clone().filter(|baseline| baseline.drops).count();
        let rounds = found.filter(|baseline| baseline.rounds).count();
        assert_eq!(
            (drops, rounds),
            (usize::from(moves && method.drops), usize::from(moves && method.rounds)),
            "{method}"
        );
        assert_eq!(recipe(method).baseline().is_some(), moves, "{method}");
    }
    let both = Recipe { rounding: recipe(&RTN).rounding, ..recipe(&SPARSEGPT) };
    assert_eq!(both.baseline().unwrap(), "pruning by magnitude and rounding to nearest");
}

#[test]
fn modifiers_become_their_methods() {
    let mut seen = BTreeSet::new();
    for method in METHODS {
        for modifier in method.modifiers {
            let name = modifier.name;
            assert!(seen.insert(name) && name.ends_with("Modifier"), "{name}");
            let share = ["sparsity", "final_sparsity"].into_iter().find(|key| modifier.keys.contains(key));
            let keys = match method.drops {
                true => format!("{}: 0.5", share.expect("a key for the share")),
                false => "scheme: W4A16".to_string(),
            };
            let file = parse(name, &keys).unwrap();
            let value = |name: &str| file.settings.iter().find(|s| s.name == name).map(|s| s.values.join(","));
            assert_eq!(value("method").as_deref(), Some(method.name), "{name}");
            for (option, expected) in modifier.defaults {
                assert_eq!(value(option).as_deref(), Some(*expected), "{name}: {option}");
            }
            // A key of the row that the reader does not look at would be ignored without a word.
            for key in modifier.keys {
                let nonsense = format!("{key}: [[1, 2]]");
                let with = if keys.starts_with(&format!("{key}:")) { nonsense } else { format!("{keys}, {nonsense}") };
                let error = parse(name, &with).err().map(|error| error.to_string());
                assert!(error.is_some_and(|error| error.contains("line 1")), "{name}: {key} is not read");
            }
        }
    }
}

#[test]
fn one_sweep_prunes_and_rounds_where_a_row_says_so() {
    assert!(SPARSEGPT.includes(&GPTQ));
    for (first, second) in
        [(&SPARSEGPT, &RTN), (&SPARSEGPT, &SPQR), (&WANDA, &GPTQ), (&GPTQ, &GPTQ), (&MAGNITUDE, &RTN)]
    {
        assert!(!first.includes(second), "{first} {second}");
    }
}
