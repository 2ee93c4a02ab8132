//! The folder that a checkpoint is to be written into: whose its files are, and what a run may do there.

use std::fs;
use std::path::{Path, PathBuf};

use super::contents::Contents;
use super::disk;
use super::files::folder_of;
use super::inputs::InputFiles;
use super::mounts;
use super::staging::{Mark, is_bare, staged, staging};
use crate::message;
use crate::message::Setting;
use crate::names::{CONFIG, INDEX, JOURNAL, MANIFEST, REPLACED, RunFiles, STAGED, is_merged, shard_name};
use crate::{Error, Result};

/// A folder to write a checkpoint into, and how.
#[derive(Clone, Debug)]
pub struct Destination {
    /// The folder, as its user named it.
    pub dir: PathBuf,
    /// Files of weights; 0 while they are not known.
    pub shards: usize,
    /// Names of the files that are put beside the weights.
    pub companions: Vec<String>,
    /// Files that the program leaves beside a checkpoint.
    pub run: RunFiles,
    /// Files that the run reads.
    pub inputs: InputFiles,
    /// True to replace an output that is there.
    pub overwrite: bool,
    /// True if a journal will say what the run writes.
    pub has_journal: bool,
}

/// The treatment of a folder by a run.
#[derive(Debug)]
pub(super) enum Treatment {
    /// It is empty, or not there.
    New,
    /// It has an output that is not finished; these of its files go first.
    Again(Vec<String>),
    /// It has a finished output, or one with a config, which stays until another is ready to take its place.
    Replaced,
}

/// The finding of [`Destination::check`].
#[derive(Debug)]
pub struct Checked {
    pub(super) treatment: Treatment,
    /// Bytes of the finished output that stays until the new one takes its place.
    pub replaced_bytes: u64,
}

impl Destination {
    /// A folder that must be empty, for so many shards and nothing that is known beside them.
    pub fn new(dir: &Path, shards: usize) -> Self {
        Self {
            dir: dir.to_path_buf(),
            shards,
            companions: Vec::new(),
            run: RunFiles::default(),
            inputs: InputFiles::default(),
            overwrite: false,
            has_journal: false,
        }
    }

    /// Names of all files that the run writes.
    pub fn writes(&self) -> Vec<String> {
        let index = (self.shards != 1).then_some(INDEX);
        let fixed = index.into_iter().chain([CONFIG, MANIFEST]).chain(self.run.names.iter().copied());
        let shards = (0..self.shards).map(|i| shard_name(i, self.shards));
        shards.chain(fixed.map(String::from)).chain(self.companions.iter().cloned()).collect()
    }

    /// Looks at the folder, and writes nothing.
    ///
    /// # Errors
    /// A folder that holds files, unless it is to be overwritten; to be overwritten, one that no run wrote, one whose files
    /// the run reads, one with files of a person's under names that the run writes, and one that cannot be exchanged.
    pub fn check(&self) -> Result<Checked> {
        let checked = |treatment| Ok(Checked { treatment, replaced_bytes: 0 });
        let staging = staging(&self.dir);
        let is_staged = || staged(&self.dir).is_some();
        if !self.dir.exists() {
            return if is_staged() && !self.overwrite { Err(self.unfinished()) } else { checked(Treatment::New) };
        }
        if !self.dir.is_dir() {
            return Err(Error::OutputExists { path: self.dir.clone() });
        }
        let contents = Contents::of(&self.dir, self.run, false)?;
        match (contents.is_empty(), self.overwrite) {
            (true, false) if is_staged() => return Err(self.unfinished()),
            (true, _) => return checked(Treatment::New),
            (false, false) if contents.has_journal || self.dir.join(JOURNAL).exists() => return Err(self.unfinished()),
            (false, false) => {
                return Err(Error::OutputNotEmpty { path: self.dir.clone(), own: contents.is_output });
            }
            (false, true) => {}
        }
        self.check_owner(&contents)?;
        for name in contents.own.iter().chain(&contents.changed) {
            self.check_input(&self.dir.join(name))?;
        }
        if !contents.is_finished && !contents.has(CONFIG) {
            return checked(Treatment::Again(contents.own));
        }
        self.check_exchange(staging.as_deref())?;
        // They get another folder above them, which is noted in themselves.
        let folders = contents.foreign.iter().map(|name| self.dir.join(name));
        let is_folder = |path: &PathBuf| path.symlink_metadata().is_ok_and(|meta| meta.is_dir());
        if let Some(fixed) = folders.filter(is_folder).find(|path| !disk::is_writable(path)) {
            let reason = "a folder that you may not write to, so that it cannot be taken over to the new output; allow it, \
                or name another output folder";
            return Err(Error::refused(&fixed, reason));
        }
        let bytes = |name: &String| fs::metadata(self.dir.join(name)).map_or(0, |meta| meta.len());
        let replaced_bytes = contents.own.iter().map(bytes).sum();
        Ok(Checked { treatment: Treatment::Replaced, replaced_bytes })
    }

    fn unfinished(&self) -> Error {
        // One that is to replace an output is made beside it, and may be all that is there.
        let beside = staged(&self.dir).filter(|_| !self.dir.join(JOURNAL).exists());
        Error::Unfinished { path: beside.unwrap_or_else(|| self.dir.clone()) }
    }

    /// Errors where the files are not a run's, or a person's are in the way of the run's.
    fn check_owner(&self, contents: &Contents) -> Result<()> {
        if !contents.is_output {
            let example = contents.example();
            let model = example == CONFIG || example.ends_with(".safetensors") || example.ends_with(".index.json");
            let what = if model { "a model" } else { &example };
            let reason = format!("holds {what}, and nothing says that a run of paring wrote it; name another folder");
            return Err(Error::refused(&self.dir, reason));
        }
        let writes = self.writes();
        // Where a file lies in a folder, that is.
        let first = |name: &str| name.split('/').next().unwrap_or_default().to_string();
        let in_the_way = |name: &&String| contents.foreign.iter().any(|foreign| *foreign == *first(name));
        let merged = || {
            let mut foreign = contents.foreign.iter().filter_map(|name| name.to_str());
            foreign.find(|name| is_merged(name, self.shards))
        };
        match writes.iter().find(in_the_way).map(String::as_str).or_else(merged) {
            None => Ok(()),
            Some(name) => Err(not_a_runs(&self.dir.join(name))),
        }
    }

    /// Errors where the run reads a file that it would remove.
    pub(super) fn check_input(&self, path: &Path) -> Result<()> {
        match self.inputs.find(path) {
            None => Ok(()),
            Some(input) => {
                let reason = format!("would be removed, and is read as {}; name another output", input.display());
                Err(Error::refused(path, reason))
            }
        }
    }

    /// Errors where another folder cannot take the place of this one.
    fn check_exchange(&self, staging: Option<&Path>) -> Result<()> {
        let refused = |reason: &str| Err(Error::refused(&self.dir, format!("{reason}; name another output folder")));
        let (Some(staging), Ok(real)) = (staging, self.dir.canonicalize()) else {
            return refused("has no folder above it, where the new output could be made");
        };
        if let Some(mount) = mounts::first_below(&real) {
            let at = if mount == real { String::new() } else { format!(" at {}", mount.display()) };
            return refused(&format!("another disk is mounted here{at}, so that a new folder cannot take its place"));
        }
        if !disk::is_writable(folder_of(staging)) {
            return refused("you may not write to the folder above it, where the new output would be made");
        }
        let here = std::env::current_dir().and_then(|dir| dir.canonicalize());
        if here.is_ok_and(|here| here.starts_with(&real)) {
            let reason =
                "the working directory lies in it, and would be removed with the earlier output; go elsewhere first";
            return Err(Error::refused(&self.dir, reason));
        }
        let marked = |kind| Mark::read(staging, &self.dir, kind).is_some();
        if staging.symlink_metadata().is_ok() && !marked(STAGED) && !marked(REPLACED) && !is_bare(staging) {
            let reason = "in the way: the new output is made here until it is finished, and no run of paring made this; \
                move it away";
            return Err(Error::refused(staging, reason));
        }
        match self.inputs.find(staging) {
            None => Ok(()),
            Some(_) => Err(Error::refused(staging, "is read, and is where the new output would be made; move it away")),
        }
    }

    /// The error of a run that cannot put its output in its place because of something of a person's.
    pub(super) fn in_the_way(&self, path: &Path, staging: &Path) -> Error {
        let finished =
            format!("in the way of the new output, which is finished in {}; move it away", staging.display());
        let resume = message![", and give the command again with ", Setting::new("resume")];
        let reason = message![finished];
        Error::refused(path, if self.has_journal { reason.then(resume) } else { reason })
    }
}

/// The error for a file of a person's under a name that a run writes.
pub(super) fn not_a_runs(path: &Path) -> Error {
    let reason =
        "no run of paring wrote this, and one is to write a file of this name; move it away, or name another folder";
    Error::refused(path, reason)
}
