//! The choice of the files of a repository that make a model.

use std::collections::BTreeSet;
use std::path::Path;

use paring_format::beside::{DEPTH, MOST_BYTES, MOST_FILES, MOST_OF_A_FILE, is_index, is_of_tools, is_weights};
use paring_format::checkpoint::read_index;
use paring_format::names::{COMPANIONS, CONFIG, INDEX, MANIFEST, SINGLE};

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

/// Config, the small files beside it, and safetensors files rather than pickles. Errors when there is no config, or there are
/// no weights of either kind.
pub(super) fn wanted<'a>(repo: &Repo, listing: &'a Listing) -> Result<Wanted<'a>> {
    let there = |name: &str| listing.get(name).is_some();
    let without = |what: &str| {
        let mut names = listing.files.iter().map(|file| file.path.as_str());
        let some: Vec<&str> = names.by_ref().take(4).collect();
        let more = if names.next().is_some() { " and more" } else { "" };
        let instead = match listing.files.iter().any(|file| file.path.ends_with(".gguf")) {
            true => "GGUF is not read; use the repository that it was made from",
            false => "use a repository of a transformers model",
        };
        repo.error(format!("no {what} in it (it has {}{more}); {instead}", some.join(", ")))
    };
    if !there(CONFIG) {
        return Err(without(CONFIG));
    }
    let mut files = vec![CONFIG];
    files.extend(beside(listing));
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

/// The files that belong to a model besides weights and config, within the bounds on what is copied along. Of a list without
/// sizes those of well-known names.
fn beside(listing: &Listing) -> Vec<&str> {
    let (mut files, mut bytes) = (Vec::new(), 0);
    for file in &listing.files {
        let (path, name) = (file.path.as_str(), file.path.rsplit('/').next().unwrap_or_default());
        let hidden = path.split('/').any(|part| part.starts_with('.') || is_of_tools(part));
        let is_known = COMPANIONS.contains(&path) || path == MANIFEST;
        let fits = file.size.map_or(is_known, |size| size <= MOST_OF_A_FILE && bytes + size <= MOST_BYTES);
        let is_deep = path.matches('/').count() > DEPTH;
        if path == CONFIG
            || hidden
            || is_deep
            || is_weights(name)
            || is_index(name)
            || !fits
            || files.len() >= MOST_FILES
        {
            continue;
        }
        bytes += file.size.unwrap_or_default();
        files.push(path);
    }
    files
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
