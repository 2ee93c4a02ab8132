//! The files of data sets: in a folder, or wherever the hub's files are.
//!
//! Folders are listed rather than names guessed: a split may be cut into any number of files, which are read in the order of their
//! names.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use paring_format::message;
use paring_format::message::Setting;

use crate::error::{Error, Result, option};
use crate::table::{ENDINGS, Source, Task};

/// Entries of a folder that are looked at.
const MOST_ENTRIES: usize = 10_000;
/// The revision with a copy of every public data set in Parquet.
const CONVERTED: &str = "refs/convert/parquet";
/// Paths of files in repositories that are laid out in another way than the table says, and in the converted copies.
const USUAL: [&str; 4] = ["{config}/{split}", "{config}/{split}/", "data/{split}", "{config}/{config}-{split}"];

/// Data sets on the hub and in its cache.
pub trait Remote {
    /// Paths of the files of a data set, at `revision` or as it is now.
    fn list(&self, repo: &str, revision: Option<&str>) -> paring_data::Result<Vec<String>>;

    /// One of its files on this machine, fetched if need be.
    fn file(&self, repo: &str, revision: Option<&str>, path: &str) -> paring_data::Result<PathBuf>;
}

/// The places where data sets are looked for.
#[derive(Clone, Copy)]
pub struct Files<'a> {
    /// A folder that holds them; the hub is then not asked. Those of a task lie in `TASK/`, as `SPLIT.jsonl`, `SPLIT.parquet` or as
    /// in their repository, or in `ORG/NAME/`, `NAME/` or the folder itself as in their repository.
    pub dir: Option<&'a Path>,
    /// The hub.
    pub remote: Option<&'a dyn Remote>,
}

/// A search for files, which remembers what the hub listed.
pub(crate) struct Finder<'a> {
    files: Files<'a>,
    listed: RefCell<HashMap<(&'static str, bool), Vec<String>>>,
}

/// A file that a pattern may stand for: its folder, and its name without the number of a shard; `None`: any.
struct Wanted {
    folder: String,
    stem: Option<String>,
}

impl Wanted {
    fn new(pattern: &str, config: &str, split: &str) -> Self {
        let path = pattern.replace("{config}", config).replace("{split}", split);
        let (folder, stem) = path.rsplit_once('/').unwrap_or(("", &path));
        Self { folder: folder.into(), stem: (!stem.is_empty()).then(|| stem.into()) }
    }

    /// The names of its files among those of its folder, in order.
    fn among(&self, names: impl Iterator<Item = String>) -> Vec<String> {
        let mut found: Vec<(usize, String)> = names.filter_map(|name| Some((self.ending(&name)?, name))).collect();
        let best = found.iter().map(|(ending, _)| *ending).min();
        found.retain(|(ending, _)| Some(*ending) == best);
        let mut names: Vec<String> = found.into_iter().map(|(_, name)| name).collect();
        names.sort_unstable();
        names
    }

    /// The number of the ending of a file's name, if it is one of these.
    fn ending(&self, name: &str) -> Option<usize> {
        let (ending, stem) = ENDINGS.iter().enumerate().find_map(|(k, end)| Some((k, name.strip_suffix(end)?)))?;
        match &self.stem {
            None => Some(ending),
            Some(wanted) => {
                let rest = stem.strip_prefix(wanted.as_str())?;
                is_shard(rest).then_some(ending)
            }
        }
    }
}

/// True for nothing, and for the number of a shard: `-00000-of-00001`.
fn is_shard(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.is_empty()
        || text.strip_prefix('-').and_then(|text| text.split_once("-of-")).is_some_and(|(k, n)| digits(k) && digits(n))
}

/// A list of names for a message.
fn or(names: &[String]) -> String {
    names.join(" or ")
}

impl<'a> Finder<'a> {
    pub fn new(files: &Files<'a>) -> Self {
        Self { files: *files, listed: RefCell::default() }
    }

    /// The files of a split of a task, in their order. Errors when there are none, or the hub cannot be asked.
    pub fn find(&self, task: &Task, split: &str) -> Result<Vec<PathBuf>> {
        match (&task.source, self.files.dir, self.files.remote) {
            (Source::File(path), ..) => Ok(vec![path.clone()]),
            (Source::Hub { repo, config, files }, Some(dir), _) => in_folder(task, (repo, config, files), split, dir),
            (Source::Hub { repo, config, files }, None, Some(remote)) => {
                self.on_hub(task, (repo, config, files), split, remote)
            }
            (Source::Hub { .. }, None, None) => Err(Error::documents(message![
                format!("{}: its documents are nowhere; name the folder that has them with ", task.name),
                Setting::new(option::DATA_DIR)
            ])),
        }
    }

    fn on_hub(
        &self,
        task: &Task,
        (repo, config, files): (&'static str, &str, &[&str]),
        split: &str,
        remote: &dyn Remote,
    ) -> Result<Vec<PathBuf>> {
        for (converted, patterns) in [(false, files), (true, &USUAL[..2])] {
            let revision = converted.then_some(CONVERTED);
            let mut listed = self.listed.borrow_mut();
            let paths = match listed.entry((repo, converted)) {
                std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
                std::collections::hash_map::Entry::Vacant(place) => place.insert(remote.list(repo, revision)?),
            };
            for pattern in patterns.iter().chain(&USUAL) {
                let wanted = Wanted::new(pattern, config, split);
                let inside = paths.iter().filter_map(|path| {
                    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
                    (folder == wanted.folder).then(|| name.to_owned())
                });
                let names = wanted.among(inside);
                if !names.is_empty() {
                    let slash = if wanted.folder.is_empty() { "" } else { "/" };
                    let paths = names.iter().map(|name| format!("{}{slash}{name}", wanted.folder));
                    return paths.map(|path| Ok(remote.file(repo, revision, &path)?)).collect();
                }
            }
        }
        let tried = files.iter().map(|file| named(file, config, split)).collect::<Vec<_>>();
        Err(Error::documents(message![
            format!(
                "{repo}: no file {} in it, nor {config}/{split}/0000.parquet in its revision {CONVERTED}; download the {split} \
                split of {} by other means, and name its folder with ",
                or(&tried),
                task.name
            ),
            Setting::new(option::DATA_DIR)
        ]))
    }
}

/// A pattern as a message names it.
fn named(pattern: &str, config: &str, split: &str) -> String {
    let path = pattern.replace("{config}", config).replace("{split}", split);
    if path.ends_with('/') { format!("{path}0000.parquet") } else { format!("{path}.parquet") }
}

/// The files of a split in a folder.
fn in_folder(
    task: &Task,
    (repo, config, files): (&str, &str, &[&str]),
    split: &str,
    dir: &Path,
) -> Result<Vec<PathBuf>> {
    let own = dir.join(&*task.name);
    let organized = dir.join(repo);
    let named_so = dir.join(repo.rsplit('/').next().unwrap_or(repo));
    let usual = || files.iter().chain(&USUAL).copied();
    let places = [
        (&own, ["{split}"].into_iter().chain(usual()).collect::<Vec<_>>()),
        (&organized, usual().collect()),
        (&named_so, usual().collect()),
        // Here, data/ may be of any set.
        (&dir.to_path_buf(), files.iter().copied().chain(USUAL[..2].iter().copied()).collect()),
    ];
    for (base, patterns) in &places {
        for pattern in patterns {
            let wanted = Wanted::new(pattern, config, split);
            let folder = base.join(&wanted.folder);
            let names = wanted.among(names_in(&folder));
            if !names.is_empty() {
                return Ok(names.iter().map(|name| folder.join(name)).collect());
            }
        }
    }
    let setting = Setting::with(option::DATA_DIR, dir.display());
    if !dir.is_dir() {
        return Err(Error::documents(message![setting, ": no such folder; name the one that holds the data sets"]));
    }
    let tried: Vec<String> = files.iter().map(|file| named(file, config, split)).collect();
    let reason = format!(
        ": no {split} split of {} in it: neither {}/{split}.jsonl, nor {} in {}/, {repo}/, {}/ or the folder itself; add one",
        task.name,
        task.name,
        or(&tried),
        task.name,
        named_so.file_name().unwrap_or_default().display(),
    );
    Err(Error::documents(message![setting, reason]))
}

/// The names of the files in a folder; none where it cannot be read.
fn names_in(folder: &Path) -> impl Iterator<Item = String> {
    let entries = std::fs::read_dir(folder).ok().into_iter().flatten().take(MOST_ENTRIES).flatten();
    // Links to files count as files: so the cache has them.
    entries.filter(|entry| entry.path().is_file()).filter_map(|entry| entry.file_name().into_string().ok())
}

#[cfg(test)]
mod tests;
