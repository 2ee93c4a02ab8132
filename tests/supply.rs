//! Dependencies: where they come from, and which of them are there in two versions. `scripts/supply-chain` checks licences and
//! advisories too, with a tool that is not everywhere.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use toml::de::DeTable;

type Table = DeTable<'static>;

const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

fn text(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn toml(file: &str) -> Table {
    let parsed = DeTable::parse(text(file).leak()).unwrap_or_else(|error| panic!("{file}: {error}"));
    parsed.into_inner()
}

fn tables<'a>(table: &'a Table, key: &str) -> Vec<&'a Table> {
    let list = table.get(key).and_then(|list| list.get_ref().as_array()).unwrap_or_else(|| panic!("no list {key}"));
    list.iter()
        .map(|entry| entry.get_ref().as_table().unwrap_or_else(|| panic!("{key} has an entry {entry:?}")))
        .collect()
}

fn table<'a>(table: &'a Table, key: &str) -> &'a Table {
    table.get(key).and_then(|inner| inner.get_ref().as_table()).unwrap_or_else(|| panic!("no table {key}"))
}

fn field<'a>(table: &'a Table, key: &str) -> &'a str {
    let text = table.get(key).and_then(|text| text.get_ref().as_str());
    text.unwrap_or_else(|| panic!("no {key} in {table:?}"))
}

/// Packages of a lock file.
fn packages(file: &str) -> Vec<Table> {
    let packages: Vec<Table> = tables(&toml(file), "package").into_iter().cloned().collect();
    assert!(packages.len() > 50, "{file} has {} packages", packages.len());
    packages
}

#[test]
fn packages_are_of_this_workspace_or_of_crates_io() {
    for file in ["Cargo.lock", "fuzz/Cargo.lock"] {
        for package in packages(file) {
            let name = field(&package, "name");
            if package.contains_key("source") {
                assert_eq!(field(&package, "source"), REGISTRY, "{name} of {file}");
                assert_eq!(field(&package, "checksum").len(), 64, "{name} of {file}");
            } else {
                assert!(name.starts_with("paring"), "{name} of {file} has no source");
            }
        }
    }
}

/// True for a version that a caret requirement of one or two numbers takes.
fn takes(requirement: &str, version: &str) -> bool {
    version.strip_prefix(requirement).is_some_and(|rest| rest.starts_with('.'))
}

#[test]
fn versions_beside_the_first_are_explained() {
    let policy = toml("deny.toml");
    let skipped = tables(table(&policy, "bans"), "skip");
    for skip in &skipped {
        assert!(!field(skip, "reason").is_empty(), "{skip:?}");
    }
    let mut versions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in packages("Cargo.lock") {
        let (name, version) = (field(&package, "name"), field(&package, "version"));
        let explained = |skip: &&Table| field(skip, "name") == name && takes(field(skip, "version"), version);
        if !skipped.iter().any(explained) {
            versions.entry(name.to_string()).or_default().push(version.to_string());
        }
    }
    versions.retain(|_, versions| versions.len() > 1);
    assert!(versions.is_empty(), "there twice, and not in deny.toml: {versions:?}");
}

#[test]
fn a_requirement_takes_its_versions_alone() {
    assert!(takes("0.13", "0.13.1") && takes("1", "1.0.69"));
    assert!(!takes("0.1", "0.13.1") && !takes("1", "10.0.0") && !takes("0.13", "0.12.9"));
}

#[test]
fn the_notice_names_packages_of_other_licences() {
    let policy = toml("deny.toml");
    let notice = text("NOTICE");
    for exception in tables(table(&policy, "licenses"), "exceptions") {
        let name = field(exception, "name");
        assert!(notice.contains(&format!("https://crates.io/crates/{name}")), "NOTICE says nothing of {name}");
    }
}
