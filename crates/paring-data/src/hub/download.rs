//! One file: what it is like, what of it is here, the rest of it, and whether it is the file that was meant.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use paring_format::writer::disk;
use ureq::http::StatusCode;
use ureq::http::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG};

use super::cache::{Shelf, has_size};
use super::client::{Failure, Method, Patience, TRIES, text};
use super::digest::{Digest, DigestKind};
use super::pace::Paced;
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

/// A file that grows, and the digest of what is there.
pub(super) struct Part {
    path: PathBuf,
    file: File,
    have: u64,
    size: u64,
    kind: Option<DigestKind>,
    digest: Digest,
}

impl Part {
    /// A file that will have `size` bytes. What an earlier run left of it is read again: it may not be what was
    /// written.
    pub(super) fn open(path: PathBuf, size: u64, kind: Option<DigestKind>) -> Result<Part> {
        let io = |source| Error::Io { path: path.clone(), source };
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path).map_err(io)?;
        let have = file.metadata().map_err(io)?.len();
        let mut part = Part { path: path.clone(), file, have, size, kind, digest: Digest::new(kind, size) };
        if have > size {
            part.clear().map_err(io)?;
        } else if have > 0 {
            part.read_again().map_err(io)?;
        }
        Ok(part)
    }

    fn read_again(&mut self) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK];
        self.have = 0;
        loop {
            match self.file.read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(n) => {
                    self.digest.update(&chunk[..n]);
                    self.have += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn clear(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        (self.have, self.digest) = (0, Digest::new(self.kind, self.size));
        Ok(())
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.digest.update(bytes);
        self.have += bytes.len() as u64;
        Ok(())
    }

    /// Gives the whole file its name, once the disk has it: what has a digest for its name is not looked at again.
    pub(super) fn keep(&self, blob: &Path) -> io::Result<()> {
        disk::sync(&self.file, &self.path)?;
        disk::rename(&self.path, blob)
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
        tries: u32,
        watch: &mut dyn DownloadObserver,
    ) -> Result<Facts> {
        let wrong = |reason: String| repo.error(format!("{path}: {reason}; check HF_ENDPOINT"));
        let asked = self.client.ask(Method::Head, &shelf.file_path(path), tries, watch, |_| Ok(()));
        let (response, ()) = asked.map_err(|trouble| repo.failed(Some(path), trouble))?;
        let status = response.status();
        if !status.is_success() && !status.is_redirection() {
            return Err(repo.error(self.refusal(repo, Some(path), &response)));
        }
        let headers = response.headers();
        let need = |names: [&str; 2]| {
            let missing = || wrong(format!("{} sends no {}", self.client.endpoint(), names[1]));
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
            let kind = DigestKind::of(etag);
            if kind.is_none() {
                watch.note(&format!("{repo}: {path}: its etag {etag:?} is not a digest; only its size is checked"));
            }
            let mut part = Part::open(shelf.blob(&format!("{etag}.paring")), *size, kind)?;
            self.complete(shelf, repo, path, &mut part, watch)?;
            self.compare(shelf, repo, path, etag, &mut part, watch)?;
            part.keep(&blob).map_err(io)?;
        }
        shelf.link(commit, path, etag)
    }

    /// Compares a whole part's digest with its etag. One that differs is fetched anew, once; then it is removed.
    fn compare(
        &self,
        shelf: &Shelf,
        repo: &Repo,
        path: &str,
        etag: &str,
        part: &mut Part,
        watch: &mut dyn DownloadObserver,
    ) -> Result<()> {
        let differs = |part: &Part| part.digest.value().filter(|digest| !digest.eq_ignore_ascii_case(etag));
        let Some(got) = differs(part) else { return Ok(()) };
        watch.note(&format!("{repo}: {path}: expected the digest {etag}, got {got}; fetching it again"));
        part.clear().map_err(|source| Error::Io { path: part.path.clone(), source })?;
        self.complete(shelf, repo, path, part, watch)?;
        let Some(got) = differs(part) else { return Ok(()) };
        fs::remove_file(&part.path).map_err(|source| Error::Io { path: part.path.clone(), source })?;
        Err(repo.error(format!(
            "{path}: expected the digest {etag}, got {got}, twice; try again later, or set \
            HF_ENDPOINT to another mirror"
        )))
    }

    /// Requests the rest of a file until all of it is there.
    fn complete(
        &self,
        shelf: &Shelf,
        repo: &Repo,
        path: &str,
        part: &mut Part,
        watch: &mut dyn DownloadObserver,
    ) -> Result<()> {
        let mut patience = Patience::new(TRIES, self.client.timing());
        watch.bytes(path, part.have, part.size);
        while part.have < part.size {
            let before = part.have;
            match self.append(shelf, repo, path, part, watch) {
                Ok(()) => {}
                Err(Failure::Final(trouble)) => return Err(repo.failed(Some(path), trouble)),
                Err(Failure::Passing(passing)) => {
                    if part.have.saturating_sub(before) >= GOOD {
                        patience.restore();
                    }
                    patience.wait(passing, watch).map_err(|trouble| repo.failed(Some(path), trouble))?;
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
        part: &mut Part,
        watch: &mut dyn DownloadObserver,
    ) -> Result<(), Failure> {
        let size = part.size;
        let stopped = |path: &Path, error: io::Error| Failure::from(format!("{}: {error}", path.display()));
        let broke = |have: u64, how: String| {
            Failure::Passing(format!("{path}: the connection {how} after {have} of {size} bytes").into())
        };
        let response = self.client.once(Method::Get, &shelf.file_path(path), part.have)?;
        let headers = response.headers();
        let whole = match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                let range = text(headers, CONTENT_RANGE.as_str()).unwrap_or("bytes without a name");
                let (from, to) = (part.have, size - 1);
                if !is_range(range, from, size) {
                    let wrong = format!("asked for bytes {from}-{to}/{size}, got {range}");
                    if from == 0 {
                        return Err(wrong.into());
                    }
                    // A server that cannot be trusted with parts is asked for the whole.
                    part.clear().map_err(|error| stopped(&part.path, error))?;
                    return Err(Failure::Passing(format!("{path}: {wrong}").into()));
                }
                None
            }
            StatusCode::OK => {
                // A server that knows no ranges starts anew.
                part.clear().map_err(|error| stopped(&part.path, error))?;
                text(headers, CONTENT_LENGTH.as_str()).and_then(|text| text.trim().parse().ok())
            }
            // What is here may be what is wrong.
            status @ StatusCode::RANGE_NOT_SATISFIABLE if part.have > 0 => {
                part.clear().map_err(|error| stopped(&part.path, error))?;
                return Err(Failure::Passing(format!("{path}: the server answers {status}").into()));
            }
            _ => return Err(self.refusal(repo, Some(path), &response).into()),
        };
        if let Some(whole) = whole.filter(|&whole: &u64| whole != size) {
            return Err(format!("expected {size} bytes, got {whole}").into());
        }
        let mut body = Paced::new(response.into_body().into_reader(), self.client.timing());
        let mut chunk = vec![0; CHUNK];
        loop {
            let n = match body.read(&mut chunk) {
                Ok(0) if part.have < size => return Err(broke(part.have, "ended".into())),
                Ok(0) => return Ok(()),
                Ok(n) => n,
                Err(error) => return Err(broke(part.have, format!("broke ({error})"))),
            };
            if n as u64 > size - part.have {
                part.clear().map_err(|error| stopped(&part.path, error))?;
                return Err(format!("expected {size} bytes, got more").into());
            }
            part.append(&chunk[..n]).map_err(|error| stopped(&part.path, error))?;
            watch.bytes(path, part.have, size);
        }
    }
}

/// True where a Content-Range, `bytes FROM-TO/ALL`, has the bytes of a file of this size from `from` to its end. A server
/// may leave ALL open.
fn is_range(text: &str, from: u64, size: u64) -> bool {
    let parts = text.trim().strip_prefix("bytes ").and_then(|rest| rest.split_once('/'));
    let Some((range, all)) = parts else { return false };
    let ends = range.split_once('-').map(|(first, last)| (first.trim().parse(), last.trim().parse::<u64>()));
    ends.is_some_and(|ends| ends == (Ok(from), Ok(size - 1))) && (all == "*" || all.parse() == Ok(size))
}
