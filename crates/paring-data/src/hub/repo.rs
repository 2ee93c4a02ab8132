//! Names of repositories: what may be asked for, and what may become part of a path.

use std::fmt;

use super::client::Trouble;
use crate::{Error, Result};

/// The revision that is meant when none is named.
const MAIN: &str = "main";

/// Longest name of a repository, as on the hub.
const LONGEST: usize = 96;

/// The content of a repository. The hub keeps models and data sets under paths of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepoKind {
    /// Config, tokenizer, weights.
    Model,
    /// Files of text.
    Dataset,
}

impl RepoKind {
    /// Part of addresses, and of the names of folders in the cache.
    pub(super) fn plural(self) -> &'static str {
        match self {
            RepoKind::Model => "models",
            RepoKind::Dataset => "datasets",
        }
    }

    /// For people.
    pub(super) fn name(self) -> &'static str {
        match self {
            RepoKind::Model => "model",
            RepoKind::Dataset => "data set",
        }
    }
}

/// A repository at a revision, its names checked: none of them can lead out of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repo {
    kind: RepoKind,
    id: String,
    revision: Option<String>,
}

impl Repo {
    /// The model that `org/name` or `org/name@revision` names. `None` when the text is no such name: other than the
    /// hub's own rules, this one wants an organization, which tells a name of the hub from that of a folder.
    pub fn parse_model(text: &str) -> Option<Repo> {
        let (id, revision) = match text.split_once('@') {
            Some((id, revision)) => (id, Some(revision)),
            None => (text, None),
        };
        Repo::new(RepoKind::Model, id, revision).ok().filter(|repo| repo.id.contains('/'))
    }

    /// The repository `id`, which is `org/name` or, as some old ones are, `name`, at a branch, a tag or a commit
    /// (`main` if that is left out). Errors when the hub would not give such a name.
    pub fn new(kind: RepoKind, id: &str, revision: Option<&str>) -> Result<Repo> {
        let wrong = |what: &str, name: &str| Error::Hub { repo: id.to_string(), reason: format!("{what}: {name:?}") };
        let mut parts = id.split('/');
        let good = parts.by_ref().take(2).all(is_repo_name) && parts.next().is_none();
        // Two dashes stand for the slash in the cache.
        if !good || id.len() > LONGEST || id.contains("--") {
            return Err(wrong("not the name of a repository, org/name", id));
        }
        if let Some(revision) = revision.filter(|revision| !is_revision(revision)) {
            return Err(wrong("not the name of a branch, a tag or a commit", revision));
        }
        Ok(Repo { kind, id: id.to_string(), revision: revision.map(String::from) })
    }

    /// Its content.
    pub fn kind(&self) -> RepoKind {
        self.kind
    }

    /// `org/name`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Branch, tag or commit.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or(MAIN)
    }

    /// The name without its organization, and the revision if one was asked for: the name of a folder.
    pub fn short_name(&self) -> String {
        let name = self.id.rsplit('/').next().unwrap_or(&self.id);
        match &self.revision {
            Some(revision) => format!("{name}-{}", revision.replace('/', "-")),
            None => name.to_string(),
        }
    }

    /// The path of the hub's API that lists the files.
    pub(super) fn listing_path(&self) -> String {
        format!("/api/{}/{}/revision/{}?blobs=true", self.kind.plural(), self.id, self.revision().replace('/', "%2F"))
    }

    /// The path of the repository's page on the hub, where models have no folder of their own.
    pub(super) fn page_path(&self) -> String {
        match self.kind {
            RepoKind::Model => format!("/{}", self.id),
            RepoKind::Dataset => format!("/datasets/{}", self.id),
        }
    }

    /// The path of a file on the hub.
    pub(super) fn file_path(&self, path: &str) -> String {
        let revision = self.revision().replace('/', "%2F");
        format!("{}/resolve/{revision}/{}", self.page_path(), percent_encoded(path))
    }

    /// The same repository at a commit.
    pub(super) fn at(&self, commit: &str) -> Repo {
        Repo { revision: Some(commit.to_string()), ..self.clone() }
    }

    /// True where the revision is a commit, which can never mean anything else.
    pub(super) fn is_commit(&self) -> bool {
        is_commit(self.revision())
    }

    /// The error of a request that failed for good, for a file of this repository or its list.
    pub(super) fn failed(&self, path: Option<&str>, Trouble { reason, unreachable }: Trouble) -> Error {
        let reason = path.map_or(reason.clone(), |path| format!("{path}: {reason}"));
        if unreachable { Error::Unreachable { repo: self.to_string(), reason } } else { self.error(reason) }
    }

    /// An error of this repository.
    pub(super) fn error(&self, reason: impl Into<String>) -> Error {
        Error::Hub { repo: self.to_string(), reason: reason.into() }
    }
}

impl fmt::Display for Repo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)?;
        self.revision.as_ref().map_or(Ok(()), |revision| write!(f, "@{revision}"))
    }
}

/// True for the whole hash of a commit.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Letters that a name on the hub is made of.
fn is_word(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

fn is_repo_name(name: &str) -> bool {
    is_word(name) && !name.is_empty() && !name.starts_with(['-', '.']) && !name.ends_with(['-', '.'])
}

/// Revisions become paths below `refs`, slashes and all (`refs/pr/1`).
fn is_revision(text: &str) -> bool {
    text.len() <= 255 && is_plain_path(text) && text.split('/').all(|part| is_word(part) && !part.starts_with('-'))
}

/// True where a path from a listing stays below the folder that it is put into, on any system.
pub(super) fn is_plain_path(path: &str) -> bool {
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    path.len() <= 1024 && path.split('/').all(plain) && !path.contains(['\\', ':']) && !path.contains(char::is_control)
}

/// A path as part of an address; slashes stay.
fn percent_encoded(path: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~' | b'/');
    path.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}
