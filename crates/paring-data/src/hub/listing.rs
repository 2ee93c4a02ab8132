//! The files of a repository, by the hub's own list.

use std::io::Read;
use std::time::Duration;

use serde::Deserialize;

use super::Repo;
use super::pace::Paced;
use super::repo::{is_commit, is_plain_path};
use super::settings::Timing;
use crate::Result;

/// Longest list that is read: some hundred thousand files.
const LONGEST: u64 = 128 << 20;

/// The longest time that a list may take.
const LONGEST_TIME: Duration = Duration::from_secs(600);

/// The files of a repository at a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The commit.
    pub commit: String,
    /// The files, in the hub's order; no path leads out of the folder.
    pub files: Vec<Entry>,
}

/// A file of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its path in the repository, with slashes.
    pub path: String,
    /// Bytes, if the list says so.
    pub size: Option<u64>,
}

impl Listing {
    /// The file of this path.
    pub fn get(&self, path: &str) -> Option<&Entry> {
        self.files.iter().find(|file| file.path == path)
    }

    /// The hub's answer, of `repo`. Errors when it cannot be parsed, or names a file that would lie outside the repository.
    pub fn parse(repo: &Repo, bytes: &[u8]) -> Result<Listing> {
        if bytes.len() as u64 > LONGEST {
            return Err(repo.error(format!(
                "its list of files is longer than {LONGEST} bytes; download the model \
                by other means, and name its folder"
            )));
        }
        let info: Info = serde_json::from_slice(bytes)
            .map_err(|e| repo.error(format!("the hub's list of its files cannot be read: {e}; check HF_ENDPOINT")))?;
        if !is_commit(&info.sha) {
            return Err(
                repo.error(format!("its list of files: expected a commit, got {:?}; check HF_ENDPOINT", info.sha))
            );
        }
        if let Some(bad) = info.siblings.iter().find(|file| !is_plain_path(&file.rfilename)) {
            let name = &bad.rfilename;
            return Err(repo.error(format!(
                "its list names {name:?}, which is not a path in a repository, so nothing is \
                    downloaded; check HF_ENDPOINT"
            )));
        }
        let files = info.siblings.into_iter().map(|file| Entry { path: file.rfilename, size: file.size });
        Ok(Listing { commit: info.sha, files: files.collect() })
    }
}

#[derive(Deserialize)]
struct Info {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
}

/// The whole of an answer, at its pace; an error of reading it is given back as it is.
pub(super) fn read(body: impl Read, timing: Timing) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    Paced::new(body, timing).within(LONGEST_TIME).take(LONGEST + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
