//! The journal of a run, in its output folder: a line of JSON for each step that is on disk, so that the run can be resumed
//! after whatever ended it.
//!
//! The first line says what the run is. A block's line is written once its shard is closed, and is synced before the next.

mod differences;
#[cfg(test)]
pub(crate) mod tests;

use paring_format::message;
use paring_format::message::Message;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::report::names::ACTIVATIONS;
use paring_data::Moment;
use paring_format::files;
use paring_format::names::is_plain_name;
use paring_format::names::{JOURNAL, MANIFEST};
use paring_format::writer::{self, ClosedFile, disk};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::output::digests::Made;
use crate::plan::Opt;
use crate::plan::allocation::Allotted;
use crate::report::{BlockReport, LayerReport, StageReport};
use crate::{Error, Result};

pub(crate) use differences::{Input, difference, first};

/// The form of journals that this program writes, and the only one that it reads.
pub(crate) const VERSION: u32 = 2;

/// The key of the run's identity in [`MANIFEST`].
pub(crate) const RUN_KEY: &str = "begun";

/// The choices and inputs of a run: a run that resumes another must have the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunIdentity {
    /// [`VERSION`].
    pub journal: u32,
    /// The program and its version.
    pub program: String,
    /// The arithmetic, in words: [`crate::report::arithmetic`].
    pub arithmetic: String,
    /// The choices.
    pub plan: Value,
    /// The checkpoint and the calibration data.
    pub input: Input,
    /// Shards that the output will have.
    pub shards: usize,
    /// Names of the files that the run writes, which tell them from a person's; none in journals of programs that kept no list.
    #[serde(default)]
    pub writes: Vec<String>,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
pub(crate) enum Line {
    /// The first one.
    Run(Box<RunIdentity>),
    /// The outlier threshold that was found for a choice of the plan.
    Threshold {
        /// The choice's number.
        choice: usize,
        /// Its bits, so that it stays what it is; relative, as in `Spqr`.
        #[serde(with = "crate::output::digests::hexadecimal")]
        bits: u64,
    },
    /// The settings that were found for linears.
    Allocation(Found),
    /// From here on another machine or device computes, as it was allowed to.
    Arithmetic {
        /// As in [`RunIdentity`].
        arithmetic: String,
    },
    /// A block that is done.
    Block(Box<BlockRecord>),
}

/// Settings of linears that were found by measuring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Found {
    /// The settings.
    pub settings: Vec<Allotted>,
    /// The same in words, with what was gained.
    pub summary: String,
}

/// A block that is done, with all that a run needs of it to resume after it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct BlockRecord {
    /// Its number, from 0.
    pub block: usize,
    /// The shard, which has the same number.
    pub shard: Kept,
    /// The activations after it, where they were kept.
    pub hidden: Option<Kept>,
    /// The contents of the shard.
    pub contents: Contents,
    /// Its linears.
    pub layers: Vec<LayerReport>,
    /// Itself, where it was trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trained: Option<BlockReport>,
    /// Notes since the block before.
    pub notes: Vec<String>,
    /// Time by stage since the run began, time between two processes left out.
    pub stages: Vec<StageReport>,
    /// Seconds since the run began, likewise.
    pub seconds: f64,
    /// Highest resident memory so far, in MiB.
    pub peak_rss_mib: f64,
}

/// A file that must be as it was left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    name: String,
    bytes: u64,
    #[serde(with = "crate::output::digests::hexadecimal")]
    digest: u64,
}

impl From<ClosedFile> for Kept {
    fn from(ClosedFile { name, bytes, digest }: ClosedFile) -> Self {
        Self { name, bytes, digest }
    }
}

impl From<&Kept> for ClosedFile {
    fn from(Kept { name, bytes, digest }: &Kept) -> Self {
        ClosedFile { name: name.clone(), bytes: *bytes, digest: *digest }
    }
}

/// The contents of a shard, as far as the end of a run needs them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Contents {
    /// By module path or tensor name.
    pub made: BTreeMap<String, Made>,
    /// Linears that were not chosen.
    pub kept: Vec<String>,
    /// Full names and lengths of the one-dimensional tensors of linears, where the config lists them.
    pub lengths: Vec<(String, usize)>,
}

impl Contents {
    /// Adds those of another shard.
    pub fn merge(&mut self, more: Contents) {
        self.made.extend(more.made);
        self.kept.extend(more.kept);
        self.lengths.extend(more.lengths);
    }
}

/// A journal as it was read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Read {
    pub identity: RunIdentity,
    /// Each arithmetic that computed, from the beginning.
    pub arithmetic: Vec<String>,
    pub thresholds: BTreeMap<usize, f64>,
    pub allotted: Option<Found>,
    /// Blocks 0, 1, …
    pub blocks: Vec<BlockRecord>,
    /// Bytes of the lines that are whole.
    pub bytes: u64,
}

impl Read {
    /// Tells whether nothing was computed yet.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty() && self.thresholds.is_empty() && self.allotted.is_none()
    }
}

/// The journal of a run at work.
#[derive(Debug)]
pub(crate) struct Journal {
    /// The run's identity when it began.
    pub identity: RunIdentity,
    file: File,
    path: PathBuf,
    /// The file with the latest activations that were kept.
    hidden: Option<PathBuf>,
}

impl Journal {
    /// Begins one. The caller has the folder's lock.
    pub fn begin(dir: &Path, identity: RunIdentity) -> Result<Self> {
        let path = dir.join(JOURNAL);
        let line = text(&Line::Run(Box::new(identity.clone())))?;
        writer::write_beside(&path, line.len(), |file| file.write_all(&line))?;
        Self::open(identity, path, None)
    }

    /// Continues the one in `dir`, of which `read` is known. Bytes after the last whole line are cut off.
    pub fn resume(dir: &Path, read: &Read) -> Result<Self> {
        let hidden = read.blocks.iter().rev().find_map(|done| done.hidden.as_ref());
        let journal = Self::open(read.identity.clone(), dir.join(JOURNAL), hidden.map(|kept| dir.join(&kept.name)))?;
        let cut = journal.file.set_len(read.bytes).and_then(|()| disk::sync(&journal.file, &journal.path));
        cut.map_err(|source| journal.failed(source))?;
        (&journal.file).seek(SeekFrom::End(0)).map_err(|source| journal.failed(source))?;
        Ok(journal)
    }

    fn open(identity: RunIdentity, path: PathBuf, hidden: Option<PathBuf>) -> Result<Self> {
        match OpenOptions::new().append(true).open(&path) {
            Ok(file) => Ok(Self { identity, file, path, hidden }),
            Err(source) => Err(Error::Io { path, source }),
        }
    }

    fn failed(&self, source: std::io::Error) -> Error {
        Error::Io { path: self.path.clone(), source }
    }

    /// Adds a line, and waits until the disk has it. Activations that were kept before those of this line are removed.
    pub fn add(&mut self, line: &Line) -> Result<()> {
        let text = text(line)?;
        let length = self.file.metadata().map_err(|source| self.failed(source))?.len();
        let written = self.file.write_all(&text).and_then(|()| disk::sync_data(&self.file, &self.path));
        if let Err(source) = written {
            // A resumed run would cut a part of a line off too, so a failure to do it now changes nothing.
            self.file.set_len(length).unwrap_or(());
            return Err(paring_format::Error::write(&self.path, text.len() as u64, source).into());
        }
        if let Line::Block(done) = line
            && let Some(kept) = &done.hidden
        {
            let path = self.path.with_file_name(&kept.name);
            if let Some(old) = self.hidden.replace(path).filter(|old| Some(old) != self.hidden.as_ref()) {
                remove(&old)?;
            }
        }
        Ok(())
    }

    /// Removes the activations that are kept, of which a run that resumes has no need or can do without; false where there are
    /// none.
    pub fn forget_activations(&mut self) -> Result<bool> {
        match self.hidden.take() {
            Some(path) => remove(&path).map(|()| true),
            None => Ok(false),
        }
    }

    /// The run is finished: removes the journal and the activations.
    pub fn finish(self) -> Result<()> {
        for path in self.hidden.into_iter().chain([self.path]) {
            remove(&path)?;
        }
        Ok(())
    }
}

/// Removes a file, unless a run that was killed here did already.
fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != ErrorKind::NotFound => Err(Error::Io { path: path.to_path_buf(), source }),
        _ => Ok(()),
    }
}

fn text(line: &Line) -> Result<Vec<u8>> {
    let mut text = serde_json::to_vec(line).map_err(|e| Error::Plan(format!("{JOURNAL} cannot be written: {e}")))?;
    text.push(b'\n');
    Ok(text)
}

/// The journal in a folder; `None` when there is none.
pub(crate) fn read(dir: &Path) -> Result<Option<Read>> {
    let path = dir.join(JOURNAL);
    match files::read(&path, files::LISTS) {
        Ok(bytes) => parse(&bytes).map(Some).map_err(|reason| Error::content(path.display().to_string(), reason)),
        Err(paring_format::Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The identity of the run that is finished in a folder; `None` when its manifest does not say.
pub(crate) fn finished(dir: &Path) -> Result<Option<RunIdentity>> {
    let path = dir.join(MANIFEST);
    if !path.is_file() {
        return Ok(None);
    }
    let Some(begun) = crate::output::digests::read_json(&path)?.get_mut(RUN_KEY).map(Value::take) else {
        return Ok(None);
    };
    let bad =
        |reason: Message| Error::content(path.display().to_string(), message![format!("{RUN_KEY}: ")].then(reason));
    check_version(&begun).map_err(bad)?;
    serde_json::from_value(begun).map(Some).map_err(|e| bad(e.to_string().into()))
}

/// Errors, in words, when this identity of a run has another version than [`VERSION`]: its other fields may be others too.
fn check_version(identity: &Value) -> std::result::Result<(), Message> {
    match identity.get("journal").and_then(Value::as_u64).filter(|version| *version != u64::from(VERSION)) {
        None => Ok(()),
        Some(version) => {
            let other = format!("a journal of version {version}, and this program reads {VERSION}; ");
            Err(message![other, "resume it with the version that started it, or start over with ", Opt::Overwrite])
        }
    }
}

/// The moment that the chat template of the run in a folder wrote, whether that is finished or not; `None` when it wrote
/// none, or the journal cannot be read, which those who resume it find out.
pub(crate) fn moment(dir: &Path) -> Option<Moment> {
    let identity = match read(dir).ok()? {
        Some(read) => read.identity,
        None => finished(dir).ok()??,
    };
    Moment::from_seconds(identity.plan.get("moment")?.as_i64()?)
}

/// Blocks that the journal with these bytes says are done. Errors, in words, when it is not one that a run leaves; whatever
/// the bytes, no more memory is taken than a small multiple of them.
pub fn blocks_done(bytes: &[u8]) -> std::result::Result<usize, String> {
    parse(bytes).map(|read| read.blocks.len()).map_err(|reason| reason.to_string())
}

/// Reads a journal. The last line may be cut off or garbled: the run was ended while it was written. Errors on anything else
/// that is not what [`Journal`] writes.
pub(crate) fn parse(bytes: &[u8]) -> std::result::Result<Read, Message> {
    if let Some(first) = bytes.split(|&b| b == b'\n').next().and_then(|first| serde_json::from_slice(first).ok()) {
        check_version(&first)?;
    }
    let mut lines: Vec<(usize, serde_json::Result<Line>)> = Vec::new();
    let mut end = 0;
    for piece in bytes.split_inclusive(|&b| b == b'\n') {
        end += piece.len();
        let whole = piece.ends_with(b"\n");
        match serde_json::from_slice::<Line>(piece) {
            Ok(line) if whole => lines.push((end, Ok(line))),
            Ok(_) => {}
            Err(error) => lines.push((end, Err(error))),
        }
    }
    if matches!(lines.last(), Some((_, Err(_)))) {
        lines.pop();
    }
    let bytes = lines.last().map_or(0, |(end, _)| *end as u64);
    let mut lines = lines.into_iter().enumerate();
    let begin = "not the journal of a run; remove it, or start over with ";
    let identity = match lines.next() {
        // Another version is an error above.
        Some((_, (_, Ok(Line::Run(identity))))) => *identity,
        _ => return Err(message![begin, Opt::Overwrite]),
    };
    let arithmetic = vec![identity.arithmetic.clone()];
    let (thresholds, allotted) = (BTreeMap::new(), None);
    let mut read = Read { identity, arithmetic, thresholds, allotted, blocks: Vec::new(), bytes };
    for (number, (_, line)) in lines {
        let number = number + 1;
        let bad = |reason: String| message![format!("line {number}: {reason}; start over with "), Opt::Overwrite];
        match line.map_err(|e| bad(format!("damaged: {e}")))? {
            Line::Run(_) => return Err(bad("another run begins".into())),
            Line::Threshold { choice, bits } => drop(read.thresholds.insert(choice, f64::from_bits(bits))),
            Line::Allocation(found) => read.allotted = Some(found),
            Line::Arithmetic { arithmetic } => {
                if read.is_empty() {
                    read.arithmetic.clear();
                }
                read.arithmetic.push(arithmetic);
            }
            Line::Block(done) if done.block == read.blocks.len() => {
                // Both are read, and the activations are removed in the end.
                let own = |name: &str| is_plain_name(name) && name.starts_with(ACTIVATIONS);
                let foreign = done.hidden.as_ref().filter(|kept| !own(&kept.name));
                if let Some(Kept { name, .. }) = foreign.or((!is_plain_name(&done.shard.name)).then_some(&done.shard)) {
                    return Err(bad(format!("{name:?} is not the name of a file of a run in this folder")));
                }
                read.blocks.push(*done);
            }
            Line::Block(done) => {
                return Err(bad(format!("block {}, where {} comes next", done.block, read.blocks.len())));
            }
        }
    }
    Ok(read)
}
