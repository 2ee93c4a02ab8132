//! Names on the hub → files on this machine: the only module that touches the network.
//!
//! Names, addresses and the layout of the cache are those of the `huggingface_hub` library, so that what other programs
//! fetched into the cache is found, and the other way round. An interrupted download lies beside the blobs as
//! `ETAG.paring`, to be resumed. What is downloaded is compared with the digest that its etag is before it gets its name.
//! Where the hub does not answer, the cache is used as it is, with a note.
//!
//! * [`Settings`]: the environment; [`Repo`]: a checked name; [`Hub`]: the requests; [`DownloadObserver`]: their progress.

mod cache;
mod client;
mod digest;
mod download;
mod listing;
mod model;
mod pace;
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
use client::{Client, FEW_TRIES, Method, TRIES, text};

pub use listing::{Entry, Listing};
pub use repo::{Repo, RepoKind};
pub use settings::{Settings, Timing};

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

    /// The files of a repository. Offline, and where the hub does not answer, those that are in the cache, sorted.
    ///
    /// Errors when there is no such repository or no right to see it, the hub does not answer and nothing is here, or
    /// names a file that would lie outside the repository.
    pub fn list(&self, repo: &Repo, watch: &mut dyn DownloadObserver) -> Result<Listing> {
        let shelf = Shelf::new(&self.cache, repo);
        let reason = match self.ask_list(repo, TRIES, watch) {
            Ok(listing) => {
                // An earlier commit, of which there may be files, stays what the branch means until another one's are here.
                if !shelf.commit().is_ok_and(|known| known.is_some()) {
                    shelf.set_commit(&listing.commit)?;
                }
                return Ok(listing);
            }
            Err(error) => self.alone(error)?,
        };
        let commit = shelf.commit()?.ok_or_else(|| nothing_cached(repo, &shelf, &reason))?;
        let mut files = Vec::new();
        // Of a repository that was only listed there are none.
        let folder = shelf.snapshot(&commit);
        if folder.is_dir() {
            cached_files(&folder, "", &mut files)?;
        }
        files.sort_unstable_by(|a: &Entry, b| a.path.cmp(&b.path));
        reason.note(repo, watch);
        Ok(Listing { commit, files })
    }

    /// The hub's list of the files of a repository.
    fn ask_list(&self, repo: &Repo, tries: u32, watch: &mut dyn DownloadObserver) -> Result<Listing> {
        self.expect_network(repo)?;
        let timing = self.client.timing();
        let read = |body: &mut Body| listing::read(body.as_reader(), timing);
        let asked = self.client.ask(Method::Get, &repo.listing_path(), tries, watch, read);
        let (response, bytes) = asked.map_err(|trouble| repo.failed(None, trouble))?;
        if !response.status().is_success() {
            let reason = self.refusal(repo, None, &response);
            return Err(Error::NotOnHub { repo: repo.to_string(), reason });
        }
        Listing::parse(repo, &bytes)
    }

    /// One file of a repository, fetched if the hub has another one than the cache. Offline, where the hub does not
    /// answer, and for a revision that is a commit, the file in the cache.
    ///
    /// `path` is the file's path in the repository, with slashes. Errors when it is not one, the hub has no such file or
    /// does not answer and the file is not here, or its content is not what the hub says. Costs two requests, or one if
    /// the file is here.
    pub fn file(&self, repo: &Repo, path: &str, watch: &mut dyn DownloadObserver) -> Result<PathBuf> {
        if !repo::is_plain_path(path) {
            return Err(
                repo.error(format!("{path:?} is not the path of a file in a repository, such as en/train.parquet"))
            );
        }
        let shelf = Shelf::new(&self.cache, repo);
        let cached =
            || -> Result<Option<PathBuf>> { Ok(shelf.commit()?.and_then(|commit| shelf.file(&commit, path, None))) };
        if repo.is_commit()
            && let Some(file) = cached()?
        {
            return Ok(file);
        }
        let tries = if cached().is_ok_and(|file| file.is_some()) { FEW_TRIES } else { TRIES };
        let facts = self.expect_network(repo).and_then(|()| self.facts(&shelf, repo, path, None, tries, watch));
        let facts = match facts {
            Ok(facts) => facts,
            Err(error) => {
                let reason = self.alone(error)?;
                if let Some(file) = cached()? {
                    reason.note(repo, watch);
                    return Ok(file);
                }
                shelf.commit()?.ok_or_else(|| nothing_cached(repo, &shelf, &reason))?;
                return Err(repo.error(not_cached(&[path.to_string()], &reason)));
            }
        };
        let file = match shelf.file(&facts.commit, path, Some(facts.size)) {
            Some(file) => file,
            None => self.fetch(&shelf, repo, path, &facts, watch)?,
        };
        shelf.set_commit(&facts.commit)?;
        Ok(file)
    }

    /// The folder of a model: its config, its weights, and what lies beside them such as the tokenizer, of one commit.
    /// Safetensors files are preferred to pickles; nothing else is fetched. Files are links to the blobs of the cache.
    /// Offline, and where the hub does not answer, the model that is in the cache.
    ///
    /// Errors as [`Hub::list`] and [`Hub::file`] do, and when what is there is no model.
    pub fn model(&self, repo: &Repo, watch: &mut dyn DownloadObserver) -> Result<PathBuf> {
        let shelf = Shelf::new(&self.cache, repo);
        let here = shelf.commit().ok().flatten().map(|commit| shelf.snapshot(&commit));
        let whole = here.is_some_and(|folder| model::missing(&folder).is_ok_and(|missing| missing.is_empty()));
        let listing = match self.ask_list(repo, if whole { FEW_TRIES } else { TRIES }, watch) {
            Ok(listing) => listing,
            Err(error) => {
                let reason = self.alone(error)?;
                let commit = shelf.commit()?.ok_or_else(|| nothing_cached(repo, &shelf, &reason))?;
                let folder = shelf.snapshot(&commit);
                let missing = model::missing(&folder)?;
                if !missing.is_empty() {
                    return Err(repo.error(not_cached(&missing, &reason)));
                }
                reason.note(repo, watch);
                return Ok(folder);
            }
        };
        // What is whole stays what the branch means until another commit is: the network may fail at any time.
        if !whole {
            shelf.set_commit(&listing.commit)?;
        }
        let folder = self.fetch_model(repo, &listing, watch)?;
        shelf.set_commit(&listing.commit)?;
        Ok(folder)
    }

    /// Fetches the files of a list that make a model.
    fn fetch_model(&self, repo: &Repo, listing: &Listing, watch: &mut dyn DownloadObserver) -> Result<PathBuf> {
        // The branch may move on while its files are fetched.
        let fixed = repo.at(&listing.commit);
        let shelf = Shelf::new(&self.cache, &fixed);
        let get = |path: &str, watch: &mut dyn DownloadObserver| -> Result<PathBuf> {
            let size = listing.get(path).and_then(|file| file.size);
            if let Some(file) = shelf.file(&listing.commit, path, size) {
                return Ok(file);
            }
            let facts = self.facts(&shelf, repo, path, size, TRIES, watch)?;
            if facts.commit != listing.commit {
                let (expected, got) = (&listing.commit, &facts.commit);
                return Err(repo.error(format!(
                    "{path}: expected the file of commit {expected}, got {got}; run the command again"
                )));
            }
            self.fetch(&shelf, repo, path, &facts, watch)
        };
        let wanted = model::wanted(repo, listing)?;
        for path in wanted.files {
            get(path, watch)?;
        }
        if let Some(index) = wanted.index {
            for shard in model::shards(&get(index, watch)?)? {
                if listing.get(&shard).is_none() {
                    return Err(repo.error(format!(
                        "{index} names the shard {shard}, which is not in the \
                        repository; tell its owner, or use another revision"
                    )));
                }
                get(&shard, watch)?;
            }
        }
        Ok(shelf.snapshot(&listing.commit))
    }

    /// An error where the network must not be asked.
    fn expect_network(&self, repo: &Repo) -> Result<()> {
        if self.offline {
            return Err(Error::Unreachable { repo: repo.to_string(), reason: String::new() });
        }
        Ok(())
    }

    /// Why the cache has to do alone, if `error` says that the hub did not answer; otherwise that error.
    fn alone(&self, error: Error) -> Result<Alone> {
        match error {
            Error::Unreachable { .. } if self.offline => Ok(Alone::Forbidden),
            Error::Unreachable { reason, .. } => Ok(Alone::Unreachable(reason)),
            other => Err(other),
        }
    }

    /// The meaning of an answer that is an error, and what to do.
    fn refusal(&self, repo: &Repo, path: Option<&str>, response: &Response<Body>) -> String {
        let status = response.status().as_u16();
        let page = format!("{}{}", self.client.endpoint(), repo.page_path());
        let (what, id, revision) = (repo.kind().name(), repo.id(), repo.revision());
        let reason = match (status, text(response.headers(), "x-error-code"), path) {
            (401 | 403, Some("GatedRepo"), _) => {
                format!(
                    "this is a gated {what}: ask for access at {page}, then set HF_TOKEN to a token of that account"
                )
            }
            (401, _, _) if self.client.has_token() => {
                "the hub does not accept the token: set HF_TOKEN to a valid one".into()
            }
            (401, _, _) => format!(
                "no public {what} has this name: check the spelling, or set HF_TOKEN to a token that may read it"
            ),
            (403, _, _) => {
                format!("the token may not read this {what}: check its permissions, and the licence at {page}")
            }
            (404, Some("RevisionNotFound"), _) => {
                format!("{id} has no branch, tag or commit {revision}: check the revision")
            }
            (404, _, Some(path)) => format!("no file {path} at {revision}: check the revision"),
            (404, _, None) => format!("no such {what} on the hub at {revision}: check the spelling and the revision"),
            _ => format!("{} refuses: try again later", self.client.endpoint()),
        };
        format!("{reason} (HTTP {status})")
    }
}

/// Why the cache has to do alone.
enum Alone {
    /// The settings forbid to ask the hub.
    Forbidden,
    /// It did not answer, for this reason.
    Unreachable(String),
}

impl Alone {
    /// Says that what the cache has may be old. Nobody who forbade it needs to hear that.
    fn note(&self, repo: &Repo, watch: &mut dyn DownloadObserver) {
        if let Alone::Unreachable(reason) = self {
            watch.note(&format!("{repo}: using the copy in the cache, not checked for updates: {reason}"));
        }
    }
}

fn nothing_cached(repo: &Repo, shelf: &Shelf, alone: &Alone) -> Error {
    let repo = repo.to_string();
    let absent = format!("not in the cache ({})", shelf.cache().display());
    match alone {
        Alone::Forbidden => Error::NotOnHub {
            repo,
            reason: format!("{absent} while HF_HUB_OFFLINE is set; unset it to download the files"),
        },
        Alone::Unreachable(reason) => Error::Unreachable { repo, reason: format!("{reason}, and it is {absent}") },
    }
}

fn not_cached(paths: &[String], alone: &Alone) -> String {
    let is = if paths.len() == 1 { "is" } else { "are" };
    let more = if paths.len() > 8 { format!(" and {} more", paths.len() - 8) } else { String::new() };
    let names = paths[..paths.len().min(8)].join(", ");
    match alone {
        Alone::Forbidden => {
            format!("{names}{more} {is} not in the cache, and HF_HUB_OFFLINE is set; unset it to download the rest")
        }
        Alone::Unreachable(reason) => {
            let reason = paths.first().and_then(|path| reason.strip_prefix(&format!("{path}: "))).unwrap_or(reason);
            format!("{names}{more} {is} not in the cache: {reason}; run the command again with a network")
        }
    }
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
