//! Names on the hub → files on this machine: the only module that touches the network.
//!
//! Names, addresses and the layout of the cache are those of the `hf-hub` crate, and the requests go through its light
//! blocking client, ureq. They are made here, because that crate's own downloads compare no sizes, do not hear when a
//! busy server says how long to wait, and always ask the network. What other programs fetched into the cache is found,
//! and the other way round. An interrupted download lies beside the blobs as `ETAG.paring`, to be resumed.
//!
//! * [`Settings`]: the environment; [`Repo`]: a checked name; [`Hub`]: the requests; [`DownloadObserver`]: their progress.

mod cache;
mod client;
mod download;
mod listing;
mod model;
mod repo;
mod settings;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};

use ureq::Body;
use ureq::http::Response;

use crate::{Error, Result};
use cache::Shelf;
use client::{Client, Method, text};

pub use listing::{Entry, Listing};
pub use repo::{Repo, RepoKind};
pub use settings::Settings;

/// Receives the progress of downloads. `()` ignores it.
pub trait DownloadObserver {
    /// So many of a file's `of` bytes are here, those of earlier runs among them.
    fn bytes(&mut self, file: &str, done: u64, of: u64);
    /// Something to know: a failure that may pass, a wait.
    fn note(&mut self, text: &str);
}

impl DownloadObserver for () {
    fn bytes(&mut self, _file: &str, _done: u64, _of: u64) {}
    fn note(&mut self, _text: &str) {}
}

/// The hub and its cache.
pub struct Hub {
    cache: PathBuf,
    offline: bool,
    client: Client,
}

impl Hub {
    /// With these settings. Nothing is asked yet.
    pub fn new(settings: &Settings) -> Hub {
        Hub { cache: settings.cache.clone(), offline: settings.offline, client: Client::new(settings) }
    }

    /// With the settings of the environment, as [`Settings::from_env`] reads them.
    pub fn from_env() -> Result<Hub> {
        Ok(Hub::new(&Settings::from_env()?))
    }

    /// The files of a repository. Offline, those that are in the cache, sorted.
    ///
    /// Errors when there is no such repository or no right to see it, the hub does not answer, or names a file that
    /// would lie outside the repository.
    pub fn list(&self, repo: &Repo, watch: &mut dyn DownloadObserver) -> Result<Listing> {
        let shelf = Shelf::new(&self.cache, repo);
        if self.offline {
            let commit = shelf.commit()?.ok_or_else(|| self.not_here(repo, &shelf))?;
            let mut files = Vec::new();
            cached_files(&shelf.snapshot(&commit), "", &mut files)?;
            files.sort_unstable_by(|a: &Entry, b| a.path.cmp(&b.path));
            return Ok(Listing { commit, files });
        }
        let read = |body: &mut Body| listing::read(body.as_reader());
        let asked = self.client.ask(Method::Get, &shelf.listing_path(), watch, read);
        let (response, bytes) = asked.map_err(|reason| repo.error(reason))?;
        if !response.status().is_success() {
            let reason = self.refusal(repo, None, &response);
            return Err(Error::NotOnHub { repo: repo.to_string(), reason });
        }
        let listing = Listing::parse(repo, &bytes)?;
        shelf.set_commit(&listing.commit)?;
        Ok(listing)
    }

    /// One file of a repository, fetched if the hub has another one than the cache. Offline, and for a revision that is
    /// a commit, the file in the cache.
    ///
    /// `path` is the file's path in the repository, with slashes. Errors when it is not one, the hub has no such file or
    /// does not answer, or its size is not what the hub says. Costs two requests, or one if the file is here.
    pub fn file(&self, repo: &Repo, path: &str, watch: &mut dyn DownloadObserver) -> Result<PathBuf> {
        if !repo::is_plain_path(path) {
            return Err(repo.error(format!("{path:?} is not the path of a file in a repository")));
        }
        let shelf = Shelf::new(&self.cache, repo);
        if self.offline || repo.is_commit() {
            let commit = shelf.commit()?;
            let cached = commit.as_ref().and_then(|commit| shelf.file(commit, path, None));
            match cached {
                Some(file) => return Ok(file),
                None if self.offline && commit.is_some() => return Err(repo.error(not_cached(path))),
                None if self.offline => return Err(self.not_here(repo, &shelf)),
                None => {}
            }
        }
        let facts = self.facts(&shelf, repo, path, None, watch)?;
        let file = match shelf.file(&facts.commit, path, Some(facts.size)) {
            Some(file) => file,
            None => self.fetch(&shelf, repo, path, &facts, watch)?,
        };
        shelf.set_commit(&facts.commit)?;
        Ok(file)
    }

    /// The folder of a model: its config, its weights, and what lies beside them such as the tokenizer, of one commit.
    /// Safetensors files are preferred to pickles; nothing else is fetched. Files are links to the blobs of the cache.
    ///
    /// Errors as [`Hub::list`] and [`Hub::file`] do, and when what is there is no model.
    pub fn model(&self, repo: &Repo, watch: &mut dyn DownloadObserver) -> Result<PathBuf> {
        if self.offline {
            let shelf = Shelf::new(&self.cache, repo);
            let commit = shelf.commit()?.ok_or_else(|| self.not_here(repo, &shelf))?;
            let folder = shelf.snapshot(&commit);
            return match model::missing(&folder)? {
                None => Ok(folder),
                Some(name) => Err(repo.error(not_cached(&name))),
            };
        }
        let listing = self.list(repo, watch)?;
        // The branch may move on while its files are fetched.
        let fixed = repo.at(&listing.commit);
        let shelf = Shelf::new(&self.cache, &fixed);
        let get = |path: &str, watch: &mut dyn DownloadObserver| -> Result<PathBuf> {
            let size = listing.get(path).and_then(|file| file.size);
            if let Some(file) = shelf.file(&listing.commit, path, size) {
                return Ok(file);
            }
            let facts = self.facts(&shelf, repo, path, size, watch)?;
            if facts.commit != listing.commit {
                let (expected, got) = (&listing.commit, &facts.commit);
                return Err(repo.error(format!("{path}: expected the file of commit {expected}, got {got}")));
            }
            self.fetch(&shelf, repo, path, &facts, watch)
        };
        let wanted = model::wanted(repo, &listing)?;
        for path in wanted.files {
            get(path, watch)?;
        }
        if let Some(index) = wanted.index {
            for shard in model::shards(&get(index, watch)?)? {
                if listing.get(&shard).is_none() {
                    return Err(repo.error(format!("{index} names the shard {shard}, which is not in the repository")));
                }
                get(&shard, watch)?;
            }
        }
        Ok(shelf.snapshot(&listing.commit))
    }

    /// The meaning of an answer that is an error, and what to do.
    fn refusal(&self, repo: &Repo, path: Option<&str>, response: &Response<Body>) -> String {
        let status = response.status().as_u16();
        let page = format!("{}{}", self.client.endpoint(), Shelf::new(&self.cache, repo).page_path());
        let (what, id, revision) = (repo.kind().name(), repo.id(), repo.revision());
        let reason = match (status, text(response.headers(), "x-error-code"), path) {
            (401 | 403, Some("GatedRepo"), _) => {
                format!("a gated {what}: ask for access at {page}, and set HF_TOKEN to a token of that account")
            }
            (401, _, _) if self.client.has_token() => "the hub does not accept the token: set HF_TOKEN anew".into(),
            (401, _, _) => format!(
                "no public {what} has this name: check the spelling, or set HF_TOKEN to a token that may read it"
            ),
            (403, _, _) => format!("the token may not read this {what}: its rights, or a licence at {page}"),
            (404, Some("RevisionNotFound"), _) => {
                format!("{id} has no branch, tag or commit {revision}: check the revision")
            }
            (404, _, Some(path)) => format!("no file {path} at {revision}"),
            (404, _, None) => format!("no such {what}, or none at {revision}: check the spelling and the revision"),
            _ => format!("{} refuses", self.client.endpoint()),
        };
        format!("{reason} (HTTP {status})")
    }

    fn not_here(&self, repo: &Repo, shelf: &Shelf) -> Error {
        let reason = format!("nothing at {}, and HF_HUB_OFFLINE forbids to ask the hub", shelf.folder().display());
        Error::NotOnHub { repo: repo.to_string(), reason }
    }
}

fn not_cached(path: &str) -> String {
    format!("{path} is not in the cache, and HF_HUB_OFFLINE forbids to fetch it")
}

/// The files below a folder of the cache, with their paths from there.
fn cached_files(folder: &Path, below: &str, found: &mut Vec<Entry>) -> Result<()> {
    let io = |source| Error::Io { path: folder.to_path_buf(), source };
    for entry in fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = format!("{below}{name}");
        // Files are links; folders never are, so that this cannot go round in circles.
        if entry.file_type().map_err(io)?.is_dir() {
            cached_files(&entry.path(), &format!("{path}/"), found)?;
        } else if let Ok(meta) = fs::metadata(entry.path()) {
            found.push(Entry { path, size: Some(meta.len()) });
        }
    }
    Ok(())
}
