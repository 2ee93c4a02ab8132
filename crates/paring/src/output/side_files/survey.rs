//! The files of a model's folder: those that belong to the model, and those that are left there.

use std::fs;
use std::path::Path;

use paring_format::Checkpoint;
use paring_format::beside::{DEPTH, MOST_BYTES, MOST_FILES, MOST_OF_A_FILE, is_index, is_of_tools, is_weights};
use paring_format::names::{self, CONFIG, INDEX, JOURNAL, LOCK, MANIFEST, PICKLE_INDEX};

use crate::report::names::{CARD, CARD_CHART, RUN_FILES};
use crate::{Error, Result};

/// Entries of all folders that are looked at.
const MOST_ENTRIES: usize = 10_000;
/// Files of each kind that a note names.
const NAMED: usize = 6;

/// The reason to leave a file or folder that the system does not let us read.
const UNREADABLE: &str = "cannot be read";

/// The files of a folder.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// Names of those to take over, in the order of the alphabet.
    pub taken: Vec<String>,
    /// Those that are left, and why.
    left: Vec<(String, &'static str)>,
    bytes: u64,
    entries: usize,
}

impl Survey {
    /// Looks through the folder of a checkpoint. Links are followed to files, as the cache of the hub has them, and not to
    /// folders: they may lead anywhere.
    pub fn of(checkpoint: &Checkpoint, dir: &Path) -> Result<Self> {
        let mut survey = Self::default();
        survey.folder(checkpoint, dir, "", 0)?;
        Ok(survey)
    }

    fn folder(&mut self, checkpoint: &Checkpoint, dir: &Path, prefix: &str, depth: usize) -> Result<()> {
        let at = dir.join(prefix);
        let io = |source| Error::Io { path: at.clone(), source };
        let mut names = Vec::new();
        for entry in fs::read_dir(&at).map_err(io)? {
            names.push(entry.map_err(io)?.file_name());
            self.entries += 1;
            if self.entries > MOST_ENTRIES {
                self.left.push((shown(prefix), "too many files"));
                return Ok(());
            }
        }
        names.sort();
        let texts: Vec<&str> = names.iter().filter_map(|name| name.to_str()).collect();
        if depth > 0 && texts.iter().any(|name| is_weights(name) || [CONFIG, MANIFEST, JOURNAL, LOCK].contains(name)) {
            self.left.push((shown(prefix), "a model, or weights, of its own"));
            return Ok(());
        }
        for name in &names {
            match name.to_str().filter(|text| !text.contains(names::is_obeyed) && names::is_plain_name(text)) {
                Some(text) => self.entry(checkpoint, dir, (prefix, text), depth)?,
                None => self.left.push((format!("{prefix}{}", name.to_string_lossy()), "a name that is no plain text")),
            }
        }
        Ok(())
    }

    fn entry(&mut self, checkpoint: &Checkpoint, dir: &Path, (prefix, name): (&str, &str), depth: usize) -> Result<()> {
        let full = format!("{prefix}{name}");
        if is_of_tools(name) || depth == 0 && (is_written(name) || checkpoint.files().any(|file| file == name)) {
            return Ok(());
        }
        let path = dir.join(&full);
        let is_link = fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_symlink());
        let meta = fs::metadata(&path);
        let reason = match &meta {
            _ if name.starts_with('.') => "hidden",
            Err(_) => "a link that leads nowhere",
            Ok(meta) if meta.is_dir() && is_link => "a link to a folder",
            Ok(meta) if meta.is_dir() && depth >= DEPTH => "folders in folders",
            Ok(meta) if meta.is_dir() => match self.folder(checkpoint, dir, &format!("{full}/"), depth + 1) {
                Ok(()) => return Ok(()),
                Err(_) => UNREADABLE,
            },
            Ok(meta) if !meta.is_file() => "no regular file",
            _ if is_weights(name) => "weights that the model does not use",
            Ok(meta) if meta.len() > MOST_OF_A_FILE => "larger than 64 MiB",
            Ok(meta) if self.bytes + meta.len() > MOST_BYTES => "more than 256 MiB together",
            _ if self.taken.len() >= MOST_FILES => "too many files",
            Ok(_) if fs::File::open(&path).is_err() => UNREADABLE,
            Ok(meta) => {
                self.bytes += meta.len();
                self.taken.push(full);
                return Ok(());
            }
        };
        self.left.push((full, reason));
        Ok(())
    }

    /// The files that are left, by reason; `None` where none is.
    pub fn note(&self) -> Option<String> {
        let mut reasons: Vec<&str> = self.left.iter().map(|(_, reason)| *reason).collect();
        reasons.sort_unstable();
        reasons.dedup();
        let of = |reason: &str| {
            let names: Vec<&str> =
                self.left.iter().filter(|(_, other)| *other == reason).map(|(name, _)| name.as_str()).collect();
            let more = names.len().saturating_sub(NAMED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!("{}{more} ({reason})", names[..names.len().min(NAMED)].join(", "))
        };
        let all: Vec<String> = reasons.iter().map(|reason| of(reason)).collect();
        (!all.is_empty()).then(|| format!("not copied from the model's folder: {}", all.join("; ")))
    }
}

/// The name of a folder in a note.
fn shown(prefix: &str) -> String {
    if prefix.is_empty() { ".".to_string() } else { prefix.to_string() }
}

/// Tells whether an output has a file of this name of its own, or describes files that it does not have.
fn is_written(name: &str) -> bool {
    is_index(name)
        || [CONFIG, INDEX, PICKLE_INDEX, MANIFEST, JOURNAL, LOCK].contains(&name)
        || [CARD, CARD_CHART].contains(&name)
        || RUN_FILES.names.contains(&name)
        || RUN_FILES.prefix.is_some_and(|prefix| name.starts_with(prefix))
}
