//! The files of a folder that a run wrote, and those that are a person's.
//!
//! A run's manifest lists its files with their digests; while they are written, the manifest or the journal lists their names.
//! Everything that is on no list belongs to a person, and so do links and devices, which no run makes. A folder belongs to a run
//! if everything in it does, and to a person otherwise.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde_json::{Value, json};

use super::ClosedFile;
use crate::names::{
    COMPANIONS, CONFIG, INDEX, JOURNAL, LOCK, MANIFEST, REPLACED, RunFiles, SINGLE, STAGED, is_plain_path, shard_name,
    temporary_of,
};
use crate::{Error, Result, files};

/// The key of the list of files in a manifest.
pub const FILES: &str = "files";
/// The key of the names that a run writes, in a journal and in the manifest of an output that is not finished.
pub const WRITES: &str = "writes";

/// The key of the numbers of the shards that each file is merged of, in a manifest.
pub const MERGES: &str = "merges";

/// Beginning of the name of the program and its version, in manifests, journals and marks.
const PROGRAM: &str = "paring ";
/// The program that writes, as they name it.
pub(super) const THIS_PROGRAM: &str = concat!("paring ", env!("CARGO_PKG_VERSION"));

/// Shards of a journal without a list that are looked for.
const MOST_SHARDS: u64 = 99_999;

/// A folder's files by who made them.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// True if a manifest or a journal says that a run wrote here.
    pub is_output: bool,
    /// True if the manifest is that of a finished output.
    pub is_finished: bool,
    /// True if the journal is that of a run.
    pub has_journal: bool,
    /// Files that runs wrote and that are as they were written: config and index first, manifest and journal last.
    pub own: Vec<String>,
    /// Files on the list that someone changed since.
    pub changed: Vec<String>,
    /// Files that nobody misses: of runs that ended early, marks, locks.
    pub leftovers: Vec<String>,
    /// Everything else.
    pub foreign: Vec<OsString>,
}

impl Contents {
    /// Looks into a folder. With `thorough` files are compared with their digests, which reads them; otherwise by their lengths.
    pub fn of(dir: &Path, run: RunFiles, thorough: bool) -> Result<Self> {
        let manifest = manifest(&dir.join(MANIFEST));
        let journal = journal(&dir.join(JOURNAL));
        let mut listed: BTreeMap<String, Option<ClosedFile>> = BTreeMap::new();
        listed.extend(journal.iter().flat_map(names_of_journal).map(|name| (name, None)));
        listed.extend(manifest.iter().flat_map(|manifest| files_of_manifest(manifest, dir)));
        let is_output = manifest.is_some() || journal.is_some();
        let is_finished = manifest.as_ref().is_some_and(|manifest| manifest.get(WRITES).is_none());
        let mut contents = Self { is_output, is_finished, has_journal: journal.is_some(), ..Self::default() };
        for name in names_in(dir)? {
            let meta = fs::symlink_metadata(dir.join(&name));
            let Some(text) = name.to_str().filter(|_| meta.as_ref().is_ok_and(|meta| meta.is_file())) else {
                let inside = name.to_str().filter(|_| meta.is_ok_and(|meta| meta.is_dir()));
                match inside.and_then(|text| own_folder(dir, text, &listed, thorough)) {
                    Some(files) => contents.own.extend(files),
                    None => contents.foreign.push(name),
                }
                continue;
            };
            let list = match listed.get(text) {
                Some(Some(file)) if !is_as_written(file, dir, thorough) => &mut contents.changed,
                Some(_) => &mut contents.own,
                None if text == MANIFEST && manifest.is_some() => &mut contents.own,
                None if text == JOURNAL && journal.is_some() => &mut contents.own,
                None if is_output && run.has(text) => &mut contents.own,
                None if is_leftover(text) => &mut contents.leftovers,
                None => {
                    contents.foreign.push(name);
                    continue;
                }
            };
            list.push(text.to_string());
        }
        // What is left of a model in which config and index are gone cannot be loaded, and the lists say the longest whose it is.
        contents.own.sort_by_key(|name| {
            let last = name == MANIFEST || name == JOURNAL;
            (last, name != CONFIG, name != INDEX, name.clone())
        });
        contents.foreign.sort();
        Ok(contents)
    }

    /// True if nothing is there that counts.
    pub fn is_empty(&self) -> bool {
        let listed = |name: &String| name != MANIFEST || self.has_journal;
        self.foreign.is_empty() && self.changed.is_empty() && !self.own.iter().any(listed)
    }

    /// True if it has a file of this name that is a run's.
    pub fn has(&self, name: &str) -> bool {
        self.own.iter().chain(&self.changed).any(|own| own == name)
    }

    /// Some name that is no run's, for an error.
    pub fn example(&self) -> String {
        let model = [CONFIG, SINGLE, INDEX];
        let first = self.foreign.iter().find(|name| model.iter().any(|model| name == model));
        first.or(self.foreign.first()).map_or(String::new(), |name| name.to_string_lossy().into_owned())
    }
}

/// The list of files as a manifest has it.
pub fn listed(files: &[ClosedFile]) -> Value {
    let entry =
        |file: &ClosedFile| json!({"name": file.name, "bytes": file.bytes, "digest": format!("{:016x}", file.digest)});
    files.iter().map(entry).collect()
}

/// The manifest of an output that is not finished.
pub(super) fn unfinished(writes: &[String]) -> Value {
    json!({"version": 1, "program": THIS_PROGRAM, WRITES: writes})
}

/// The manifest of an output whose shards are being merged.
pub(super) fn merging(writes: &[String], merges: &[Vec<usize>]) -> Value {
    json!({"version": 1, "program": THIS_PROGRAM, WRITES: writes, MERGES: merges})
}

/// True if a program of this name wrote the JSON.
pub(super) fn is_ours(value: &Value) -> bool {
    value.get("program").and_then(Value::as_str).is_some_and(|program| program.starts_with(PROGRAM))
}

fn regular(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file())
}

/// The JSON of a small file of ours; `None` where there is none.
pub(super) fn manifest(path: &Path) -> Option<Value> {
    let bytes = files::read(path, files::LISTS).ok().filter(|_| regular(path))?;
    serde_json::from_slice(&bytes).ok().filter(is_ours)
}

/// The first line of a run's journal.
fn journal(path: &Path) -> Option<Value> {
    let file = File::open(path).ok().filter(|_| regular(path))?;
    let mut line = Vec::new();
    BufReader::new(file.take(files::SETTINGS)).read_until(b'\n', &mut line).ok()?;
    let line: Value = serde_json::from_slice(&line).ok()?;
    Some(line).filter(|line| is_ours(line) && line.get("line").and_then(Value::as_str) == Some("run"))
}

fn names(list: Option<&Value>) -> Option<Vec<String>> {
    let names = list?.as_array()?.iter().filter_map(Value::as_str).filter(|name| is_plain_path(name));
    Some(names.map(String::from).collect())
}

/// The files that are written beside shards and index by programs that keep no list.
fn earlier() -> impl Iterator<Item = String> {
    [CONFIG, INDEX].into_iter().chain(COMPANIONS).map(String::from)
}

fn names_of_journal(line: &Value) -> Vec<String> {
    if let Some(names) = names(line.get(WRITES)) {
        return names;
    }
    let shards = line.get("shards").and_then(Value::as_u64).unwrap_or(0).min(MOST_SHARDS) as usize;
    let shards = (0..shards).map(|i| shard_name(i, shards)).chain(earlier()).chain([MANIFEST.to_string()]);
    shards.flat_map(|name| [format!("{name}.tmp"), name]).chain([format!("{JOURNAL}.tmp")]).collect()
}

fn files_of_manifest(manifest: &Value, dir: &Path) -> Vec<(String, Option<ClosedFile>)> {
    if let Some(list) = manifest.get(FILES).and_then(Value::as_array) {
        let file = |entry: &Value| {
            let name = entry.get("name")?.as_str().filter(|name| is_plain_path(name))?.to_string();
            let digest = u64::from_str_radix(entry.get("digest")?.as_str()?, 16).ok()?;
            let bytes = entry.get("bytes")?.as_u64()?;
            Some((name.clone(), Some(ClosedFile { name, bytes, digest })))
        };
        return list.iter().filter_map(file).collect();
    }
    let names = names(manifest.get(WRITES)).unwrap_or_else(|| {
        // Of a program that keeps no list: its index lists the shards.
        let index = files::read(&dir.join(INDEX), files::LISTS).ok();
        let index: Option<Value> = index.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let map = index.as_ref().and_then(|index| index.get("weight_map")?.as_object());
        let shards = map.into_iter().flat_map(|map| map.values()).filter_map(Value::as_str);
        let shards = shards.filter(|name| crate::names::is_weights(name)).map(String::from);
        shards.chain([SINGLE.to_string()]).chain(earlier()).collect()
    });
    names.into_iter().map(|name| (name, None)).collect()
}

/// The files of a folder in `dir`, all of which a run wrote and nobody changed, or left when it ended early; `None` where something
/// else is in it.
fn own_folder(
    dir: &Path,
    name: &str,
    listed: &BTreeMap<String, Option<ClosedFile>>,
    thorough: bool,
) -> Option<Vec<String>> {
    let inside = format!("{name}/");
    // Nothing else is looked into.
    listed.range(inside.clone()..).next().filter(|(path, _)| path.starts_with(&inside))?;
    let mut files = Vec::new();
    for entry in fs::read_dir(dir.join(name)).ok()? {
        let entry = entry.ok()?;
        let local = entry.file_name().into_string().ok()?;
        let path = format!("{inside}{local}");
        let kind = entry.file_type().ok()?;
        match listed.get(&path) {
            _ if kind.is_dir() => files.extend(own_folder(dir, &path, listed, thorough)?),
            _ if !kind.is_file() => return None,
            Some(Some(file)) if !is_as_written(file, dir, thorough) => return None,
            Some(_) => files.push(path),
            None if temporary_of(&local).is_some() => files.push(path),
            None => return None,
        }
    }
    Some(files)
}

fn is_as_written(file: &ClosedFile, dir: &Path, thorough: bool) -> bool {
    match thorough {
        true => file.check(dir).is_ok(),
        false => fs::metadata(dir.join(&file.name)).is_ok_and(|meta| meta.len() == file.bytes),
    }
}

/// True if this is the name of a file that a run leaves when it ends early.
fn is_leftover(name: &str) -> bool {
    temporary_of(name).is_some() || [STAGED, REPLACED].contains(&name) || name == ".paring-probe.tmp"
}

/// The names in a folder, but for a lock.
fn names_in(dir: &Path) -> Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(|source| Error::io(dir, source))? {
        names.push(entry.map_err(|source| Error::io(dir, source))?.file_name());
    }
    names.retain(|name| name != LOCK);
    Ok(names)
}
