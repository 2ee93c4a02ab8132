//! The folder that a writer writes into, kept from other runs: the output's own, or one beside it.

use std::fs;
use std::path::{Path, PathBuf};

use super::contents::{self, Contents};
use super::destination::{Destination, Treatment};
use super::files::{probe, write_beside};
use super::{Lock, disk, staging};
use crate::names::{JOURNAL, LOCK, MANIFEST, RunFiles, STAGED};
use crate::{Error, Result};

/// A folder that a run writes into, for as long as anyone has this.
#[derive(Debug)]
pub struct Place {
    destination: Destination,
    dir: PathBuf,
    lock: Lock,
    staged: Option<Staged>,
}

/// The rest of an output that is made beside the one that it will replace.
#[derive(Debug)]
struct Staged {
    /// True if the two folders change places in one step.
    exchanges: bool,
    /// Keeps other runs out of the earlier output.
    lock: Option<Lock>,
}

impl Place {
    /// A place for a new output. What is left there of an unfinished one is removed.
    pub(super) fn create(destination: &Destination) -> Result<Self> {
        // Before anything is written, even a lock.
        destination.check()?;
        let out = &destination.dir;
        let unwritable = |source| Error::Unwritable { path: out.clone(), source };
        fs::create_dir_all(out).map_err(unwritable)?;
        let lock = Lock::take(out)?;
        staging::settle(out)?;
        let treatment = destination.check()?.treatment;
        if let Some(dir) = staging::staged(out) {
            staging::clear(&dir, out, destination)?;
        }
        let place = match treatment {
            Treatment::Replaced => {
                let (dir, exchanges) = staging::begin(destination)?;
                let staged = Some(Staged { exchanges, lock: Some(lock) });
                Self { destination: destination.clone(), lock: Lock::take(&dir)?, dir, staged }
            }
            Treatment::New | Treatment::Again(_) => {
                probe(out).map_err(unwritable)?;
                Self { destination: destination.clone(), dir: out.clone(), lock, staged: None }
            }
        };
        let own = if let Treatment::Again(own) = treatment { own } else { Vec::new() };
        place.begin(&own)?;
        Ok(place)
    }

    /// Removes an earlier run's files, and says which ones the new run writes, unless a journal will.
    fn begin(&self, own: &[String]) -> Result<()> {
        // One of the lists stays until the next is there: should the run end now, the folder is still known as a run's.
        let list = if own.iter().any(|name| name == JOURNAL) { JOURNAL } else { MANIFEST };
        self.remove(own.iter().filter(|name| *name != list))?;
        let leftovers = Contents::of(&self.dir, self.destination.run, false)?.leftovers;
        self.remove(leftovers.iter().filter(|name| !self.is_mark(name)))?;
        if self.destination.has_journal {
            return Ok(());
        }
        let text = contents::unfinished(&self.destination.writes()).to_string();
        write_beside(&self.dir.join(MANIFEST), text.len(), |file| file.write_all(text.as_bytes()))?;
        self.remove(own.iter().filter(|name| *name == JOURNAL))
    }

    /// The place in which a run for this output was begun: beside it or in it. `None` when neither folder is there. An exchange
    /// that was broken off is completed. Errors when another run works there.
    pub fn begun(destination: &Destination) -> Result<Option<Self>> {
        let out = &destination.dir;
        let lock = || if out.is_dir() { Lock::take(out).map(Some) } else { Ok(None) };
        let mut taken = lock()?;
        staging::settle(out)?;
        if taken.is_none() {
            taken = lock()?;
        }
        let destination = destination.clone();
        Ok(match (staging::staged(&destination.dir), taken) {
            (Some(dir), taken) => {
                let staged = Some(Staged { exchanges: staging::exchanges(&dir)?, lock: taken });
                Some(Self { lock: Lock::take(&dir)?, destination, dir, staged })
            }
            (None, Some(lock)) => Some(Self { dir: destination.dir.clone(), destination, lock, staged: None }),
            (None, None) => None,
        })
    }

    /// Tells whether a folder lies beside the output `out` in which one is made that will replace it, or one that was replaced.
    pub fn is_pending(out: &Path) -> bool {
        staging::is_pending(out)
    }

    /// Removes what a run left in a finished output that ended after that: its lock, and files that it began. Needs no lock, and
    /// writes nothing, where there is none.
    pub fn tidy(out: &Path, run: RunFiles) -> Result<()> {
        let leftovers = Contents::of(out, run, false)?.leftovers;
        if leftovers.is_empty() && !out.join(LOCK).exists() {
            return Ok(());
        }
        let _lock = Lock::take(out)?;
        leftovers
            .iter()
            .map(|name| out.join(name))
            .try_for_each(|path| disk::remove(&path).map_err(|source| Error::io(&path, source)))
    }

    /// The folder to write into.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Names of all files that the run writes, but for those that are merged.
    pub(super) fn writes(&self) -> Vec<String> {
        self.destination.writes()
    }

    /// True if the output is made beside an earlier one.
    pub fn is_staged(&self) -> bool {
        self.staged.is_some()
    }

    /// Notes on the folder for users, a sentence each.
    pub fn notes(&self) -> Vec<String> {
        let out = self.destination.dir.display();
        let lock = self.lock.unsupported().map(|reason| format!("nothing keeps a second run out of {out}: {reason}"));
        let renamed = self.staged.as_ref().filter(|staged| !staged.exchanges).map(|_| {
            format!(
                "{out}: this file system cannot exchange folders, so that for a moment in the end it will be missing"
            )
        });
        lock.into_iter().chain(renamed).collect()
    }

    /// Puts the output, now that all of it is there and checked, in the place of the one that it replaces, and removes that one's
    /// files. Does nothing for an output that replaces none. Returns notes for users, a sentence each, on files that go by another
    /// name now.
    ///
    /// # Errors
    /// When the folders cannot be exchanged, and when a person's file is in the way. The new output stays where it is then.
    pub fn publish(&self) -> Result<Vec<String>> {
        let Some(staged) = &self.staged else { return Ok(Vec::new()) };
        let published = staging::publish(&self.dir, &self.destination, staged.exchanges);
        // An error may come after the exchange, from what is left of the earlier output.
        if staging::staged(&self.destination.dir).is_none() {
            self.lock.moved(&self.destination.dir);
            if let Some(lock) = &staged.lock {
                lock.moved(&self.dir);
            }
        }
        let note = |(name, kept): (String, String)| {
            format!("{name} of the earlier output was changed after it was written: it is kept as {kept}")
        };
        Ok(published?.into_iter().map(note).collect())
    }

    /// Removes all that was written of an output that will not be finished.
    pub fn discard(&self) -> Result<()> {
        match self.is_staged() {
            true => staging::clear(&self.dir, &self.destination.dir, &self.destination),
            false => {
                let contents = Contents::of(&self.dir, self.destination.run, false)?;
                self.remove(contents.own.iter().chain(&contents.leftovers))
            }
        }
    }

    /// Removes the run's files but those that `stays` names.
    pub(super) fn remove_all_but(&self, stays: impl Fn(&str) -> bool) -> Result<()> {
        let contents = Contents::of(&self.dir, self.destination.run, false)?;
        let own = contents.own.iter().chain(&contents.changed).filter(|name| !stays(name));
        self.remove(own.chain(contents.leftovers.iter().filter(|name| !self.is_mark(name))))
    }

    /// True for the name of the mark that stays with an output until it is published.
    fn is_mark(&self, name: &str) -> bool {
        self.is_staged() && name == STAGED
    }

    fn remove<'a>(&self, names: impl IntoIterator<Item = &'a String>) -> Result<()> {
        names.into_iter().try_for_each(|name| {
            let path = self.dir.join(name);
            self.destination.check_input(&path)?;
            disk::remove_in(&self.dir, name).map_err(|source| Error::io(&path, source))
        })
    }
}
