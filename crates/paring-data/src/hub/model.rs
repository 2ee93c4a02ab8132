//! The choice of the files of a repository that make a model.

use std::collections::BTreeSet;
use std::path::Path;

use paring_format::checkpoint::read_index;
use paring_format::names::{COMPANIONS, MANIFEST};
use paring_format::names::{CONFIG, INDEX, SINGLE};

use super::cache::has_size;
use super::{Listing, Repo};
use crate::Result;

/// Names of weights, the better ones first: one file, or an index of several.
const WEIGHTS: [(&str, &str); 2] = [(SINGLE, INDEX), ("pytorch_model.bin", "pytorch_model.bin.index.json")];

/// The files of a repository to fetch before its shards are known.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted<'a> {
    /// Config, companions, and the weights if they are one file.
    pub files: Vec<&'a str>,
    /// The index that names the weights if they are several.
    pub index: Option<&'a str>,
}

/// Config and companions as far as they are there, and safetensors files rather than pickles. Errors when there is
/// no config, or there are no weights of either kind.
pub(super) fn wanted(repo: &Repo, listing: &Listing) -> Result<Wanted<'static>> {
    let there = |name: &str| listing.get(name).is_some();
    let without = |what: &str| {
        let mut names = listing.files.iter().map(|file| file.path.as_str());
        let some: Vec<&str> = names.by_ref().take(4).collect();
        let more = if names.next().is_some() { " and more" } else { "" };
        repo.error(format!("no {what} in it (it has {}{more}); is it a model of transformers?", some.join(", ")))
    };
    if !there(CONFIG) {
        return Err(without(CONFIG));
    }
    let mut files = vec![CONFIG];
    files.extend(COMPANIONS.into_iter().chain([MANIFEST]).filter(|name| there(name)));
    for (single, index) in WEIGHTS {
        if there(single) {
            files.push(single);
            return Ok(Wanted { files, index: None });
        }
        if there(index) {
            return Ok(Wanted { files, index: Some(index) });
        }
    }
    Err(without(&format!("{SINGLE}, {INDEX} or {}", WEIGHTS[1].0)))
}

/// The files that an index names, sorted. Errors when it cannot be read, or a name cannot be that of a file of a repository.
pub(super) fn shards(index: &Path) -> Result<BTreeSet<String>> {
    Ok(read_index(index)?.into_values().collect())
}

/// The files that a folder lacks to be a model. Errors when an index in it cannot be read.
pub(super) fn missing(folder: &Path) -> Result<Vec<String>> {
    let there = |name: &str| has_size(&folder.join(name), None);
    let mut missing = Vec::new();
    if !there(CONFIG) {
        missing.push(CONFIG.to_string());
    }
    for (single, index) in WEIGHTS {
        if there(single) {
            return Ok(missing);
        }
        if there(index) {
            missing.extend(shards(&folder.join(index))?.into_iter().filter(|shard| !there(shard)));
            return Ok(missing);
        }
    }
    missing.push(SINGLE.to_string());
    Ok(missing)
}
