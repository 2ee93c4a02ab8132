//! One file: what it is like, what of it is here, the rest of it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use ureq::http::StatusCode;
use ureq::http::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG};

use super::cache::{Shelf, has_size};
use super::client::{Failure, Method, Patience, text};
use super::repo::is_commit;
use super::{DownloadObserver, Hub, Repo};
use crate::{Error, Result};

/// Bytes that are read at once.
const CHUNK: usize = 1 << 18;

/// A connection that brought this many bytes was a good one, and is not counted among the failures.
const GOOD: u64 = 1 << 20;

/// The hub's metadata of a file.
pub(super) struct Facts {
    /// The commit that the revision means.
    pub commit: String,
    /// The file's name among the blobs: another content, another etag.
    pub etag: String,
    /// Bytes.
    pub size: u64,
}

/// A file that grows.
struct Part {
    path: PathBuf,
    file: File,
    have: u64,
}

impl Part {
    fn open(path: PathBuf) -> Result<Part> {
        let io = |source| Error::Io { path: path.clone(), source };
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(io)?;
        let have = file.metadata().map_err(io)?.len();
        Ok(Part { path, file, have })
    }

    fn cut(&mut self, at: u64) -> std::io::Result<()> {
        self.file.set_len(at)?;
        self.file.seek(SeekFrom::Start(at))?;
        self.have = at;
        Ok(())
    }
}

impl Hub {
    /// Requests a file's metadata. The size is checked against `listed`, the one in the list of files.
    pub(super) fn facts(
        &self,
        shelf: &Shelf,
        repo: &Repo,
        path: &str,
        listed: Option<u64>,
        watch: &mut dyn DownloadObserver,
    ) -> Result<Facts> {
        let wrong = |reason: String| repo.error(format!("{path}: {reason}"));
        let asked = self.client.ask(Method::Head, &shelf.file_path(path), watch, |_| Ok(()));
        let (response, ()) = asked.map_err(wrong)?;
        let status = response.status();
        if !status.is_success() && !status.is_redirection() {
            return Err(repo.error(self.refusal(repo, Some(path), &response)));
        }
        let headers = response.headers();
        let need = |names: [&str; 2]| {
            let missing = || wrong(format!("{} says no {}", self.client.endpoint(), names[1]));
            names.iter().find_map(|name| text(headers, name)).ok_or_else(missing)
        };
        let commit = need(["x-repo-commit", "x-repo-commit"])?.to_string();
        let etag = need(["x-linked-etag", ETAG.as_str()])?.trim_start_matches("W/").trim_matches('"').to_string();
        let size = need(["x-linked-size", CONTENT_LENGTH.as_str()])?;
        let size: u64 = size.trim().parse().map_err(|_| wrong(format!("expected a size, got {size:?}")))?;
        if !is_commit(&commit) {
            return Err(wrong(format!("expected a commit, got {commit:?}")));
        }
        // Both become names of files.
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        if etag.is_empty() || etag.len() > 128 || !etag.bytes().all(plain) {
            return Err(wrong(format!("expected the etag of a file, got {etag:?}")));
        }
        if listed.is_some_and(|listed| listed != size) {
            let listed = listed.unwrap_or_default();
            return Err(wrong(format!("expected {listed} bytes, as the list of files says, got {size}")));
        }
        Ok(Facts { commit, etag, size })
    }

    /// Fetches the missing rest of a file, and puts it into the snapshot of its commit.
    pub(super) fn fetch(
        &self,
        shelf: &Shelf,
        repo: &Repo,
        path: &str,
        facts: &Facts,
        watch: &mut dyn DownloadObserver,
    ) -> Result<PathBuf> {
        let Facts { commit, etag, size } = facts;
        let blob = shelf.blob(etag);
        let io = |source| Error::Io { path: blob.clone(), source };
        if let Some(folder) = blob.parent() {
            fs::create_dir_all(folder).map_err(io)?;
        }
        let _lock = shelf.lock(etag, watch)?;
        // Another program may have been faster.
        if !has_size(&blob, Some(*size)) {
            let mut part = Part::open(shelf.blob(&format!("{etag}.paring")))?;
            self.complete(shelf, repo, path, *size, &mut part, watch)?;
            part.file.sync_all().map_err(io)?;
            fs::rename(&part.path, &blob).map_err(io)?;
        }
        shelf.link(commit, path, etag)
    }

    /// Requests the rest of a file until all of it is there.
    fn complete(
        &self,
        shelf: &Shelf,
        repo: &Repo,
        path: &str,
        size: u64,
        part: &mut Part,
        watch: &mut dyn DownloadObserver,
    ) -> Result<()> {
        if part.have > size {
            part.cut(0).map_err(|source| Error::Io { path: part.path.clone(), source })?;
        }
        let wrong = |reason| repo.error(format!("{path}: {reason}"));
        let mut patience = Patience::default();
        watch.bytes(path, part.have, size);
        while part.have < size {
            let before = part.have;
            match self.append(shelf, repo, path, size, part, watch) {
                Ok(()) => {}
                Err(Failure::Final(reason)) => return Err(wrong(reason)),
                Err(Failure::Passing(passing)) => {
                    if part.have.saturating_sub(before) >= GOOD {
                        patience.restore();
                    }
                    patience.wait(passing, watch).map_err(wrong)?;
                }
            }
        }
        Ok(())
    }

    /// One request for the missing rest.
    fn append(
        &self,
        shelf: &Shelf,
        repo: &Repo,
        path: &str,
        size: u64,
        part: &mut Part,
        watch: &mut dyn DownloadObserver,
    ) -> Result<(), Failure> {
        let disk = |path: &Path, error: io::Error| Failure::Final(format!("{}: {error}", path.display()));
        let broke = |have: u64, how: String| {
            Failure::Passing(format!("{path}: the connection {how} after {have} of {size} bytes").into())
        };
        let response = self.client.once(Method::Get, &shelf.file_path(path), part.have)?;
        let headers = response.headers();
        let (from, whole) = match response.status() {
            StatusCode::PARTIAL_CONTENT => text(headers, CONTENT_RANGE.as_str())
                .and_then(parse_range)
                .ok_or_else(|| Failure::Final("a part came that does not say which".into()))?,
            StatusCode::OK => (0, text(headers, CONTENT_LENGTH.as_str()).and_then(|text| text.trim().parse().ok())),
            // What is here may be what is wrong.
            status @ StatusCode::RANGE_NOT_SATISFIABLE if part.have > 0 => {
                part.cut(0).map_err(|error| disk(&part.path, error))?;
                return Err(Failure::Passing(format!("{path}: the server answers {status}").into()));
            }
            _ => return Err(Failure::Final(self.refusal(repo, Some(path), &response))),
        };
        if let Some(whole) = whole.filter(|&whole| whole != size) {
            return Err(Failure::Final(format!("expected {size} bytes, got {whole}")));
        }
        if from > part.have {
            return Err(Failure::Final(format!("expected the bytes from {} on, got those from {from} on", part.have)));
        }
        // A server that knows no ranges starts anew.
        part.cut(from).map_err(|error| disk(&part.path, error))?;
        let mut body = response.into_body().into_reader();
        let mut chunk = vec![0; CHUNK];
        loop {
            let n = match body.read(&mut chunk) {
                Ok(0) if part.have < size => return Err(broke(part.have, "ended".into())),
                Ok(0) => return Ok(()),
                Ok(n) => n,
                Err(error) => return Err(broke(part.have, format!("broke ({error})"))),
            };
            if n as u64 > size - part.have {
                part.cut(0).map_err(|error| disk(&part.path, error))?;
                return Err(Failure::Final(format!("expected {size} bytes, got more")));
            }
            part.file.write_all(&chunk[..n]).map_err(|error| disk(&part.path, error))?;
            part.have += n as u64;
            watch.bytes(path, part.have, size);
        }
    }
}

/// `bytes FROM-TO/ALL` → the first byte and, if it is there, the number of all.
fn parse_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, all) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let from = range.split_once('-')?.0.parse().ok()?;
    Some((from, all.parse().ok()))
}
