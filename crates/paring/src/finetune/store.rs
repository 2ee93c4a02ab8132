//! The numbers of a training between two looks at a block: values, both moments and gradients, in files.
//!
//! A unit (a block, a piece of the head) has a file in each of two slots. One slot is that of the last point that a run can be resumed from,
//! and nothing writes to it; steps after that write to the other. At the next such point the slots change their roles. So a
//! point costs no copy, and whatever ends a run leaves the last one whole.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use paring_format::Dtype;
use xxhash_rust::xxh3::xxh3_64;

use crate::{Error, Result};

/// Numbers of a section that are converted at a time.
const PIECE: usize = 1 << 18;

/// One of the two places of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) enum Slot {
    A,
    B,
}

impl Slot {
    pub fn other(self) -> Self {
        match self {
            Slot::A => Slot::B,
            Slot::B => Slot::A,
        }
    }
}

/// The stored numbers of a unit: the values of its parameters, one after the other, and their moments.
pub(super) struct Stored {
    pub values: Vec<f32>,
    pub first: Vec<f32>,
    pub second: Vec<f32>,
}

/// A folder with the files.
pub(super) struct Store {
    dir: PathBuf,
    /// Numbers of each unit.
    lengths: Vec<usize>,
    /// The slot that holds the newest values of each unit.
    newest: Vec<Slot>,
    /// The slot of the last point that can be resumed from.
    safe: Slot,
}

impl Store {
    /// For units of so many numbers, whose files in the slot `safe` are there, or are about to be written.
    pub fn new(dir: &Path, lengths: Vec<usize>, safe: Slot) -> Self {
        Self { dir: dir.to_path_buf(), newest: vec![safe; lengths.len()], lengths, safe }
    }

    fn path(&self, unit: usize, slot: Slot) -> PathBuf {
        let letter = match slot {
            Slot::A => 'a',
            Slot::B => 'b',
        };
        self.dir.join(format!("unit-{unit:05}.{letter}"))
    }

    fn gradient_path(&self, unit: usize) -> PathBuf {
        self.dir.join(format!("unit-{unit:05}.gradient"))
    }

    /// Writes what a unit begins with, in the safe slot.
    pub fn begin(&self, unit: usize, values: &[f32]) -> Result<()> {
        self.expect(unit, values.len())?;
        let zeros = vec![0f32; values.len()];
        write(&self.path(unit, self.safe), &[values, &zeros, &zeros])
    }

    /// Values and moments of a unit.
    pub fn read(&self, unit: usize) -> Result<Stored> {
        let mut sections = read(&self.path(unit, self.newest[unit]), self.lengths[unit], 3)?.into_iter();
        let mut next = || sections.next().unwrap_or_default();
        Ok(Stored { values: next(), first: next(), second: next() })
    }

    /// The values of a unit.
    pub fn values(&self, unit: usize) -> Result<Vec<f32>> {
        Ok(read(&self.path(unit, self.newest[unit]), self.lengths[unit], 1)?.remove(0))
    }

    /// Some of the values of a unit.
    pub fn part(&self, unit: usize, start: usize, count: usize) -> Result<Vec<f32>> {
        let path = self.path(unit, self.newest[unit]);
        let mut bytes = vec![0u8; count * size_of::<f32>()];
        let read = File::open(&path).and_then(|mut file| {
            file.seek(SeekFrom::Start((start * size_of::<f32>()) as u64))?;
            file.read_exact(&mut bytes)
        });
        read.map_err(|source| Error::Io { path, source })?;
        Ok(Dtype::F32.decode_f32(&bytes))
    }

    /// Replaces values and moments of a unit; those of the safe slot stay.
    pub fn replace(&mut self, unit: usize, stored: &Stored) -> Result<()> {
        self.expect(unit, stored.values.len())?;
        let slot = self.safe.other();
        write(&self.path(unit, slot), &[&stored.values, &stored.first, &stored.second])?;
        self.newest[unit] = slot;
        Ok(())
    }

    /// Keeps the gradients of a unit for the next step.
    pub fn put_gradient(&self, unit: usize, gradient: &[f32]) -> Result<()> {
        self.expect(unit, gradient.len())?;
        write(&self.gradient_path(unit), &[gradient])
    }

    /// The gradients of a unit.
    pub fn gradient(&self, unit: usize) -> Result<Vec<f32>> {
        Ok(read(&self.gradient_path(unit), self.lengths[unit], 1)?.remove(0))
    }

    /// Makes the newest values, which must be those of the slot that is not safe, the safe ones, synced to the disk. Returns that
    /// slot and the digests of its files. The point counts once that is written down, with [`Store::keep`] after it.
    pub fn sync(&self) -> Result<(Slot, Vec<u64>)> {
        let slot = self.safe.other();
        let mut digests = Vec::new();
        for unit in 0..self.lengths.len() {
            if self.newest[unit] != slot {
                return Err(Error::Plan(format!("unit {unit} of a training was not changed by its step")));
            }
            let path = self.path(unit, slot);
            let failed = |source| Error::Io { path: path.clone(), source };
            File::open(&path).and_then(|file| file.sync_all()).map_err(failed)?;
            digests.push(digest(&path)?);
        }
        Ok((slot, digests))
    }

    /// Takes the slot of the newest values for the safe one.
    pub fn keep(&mut self) {
        self.safe = self.safe.other();
    }

    /// Errors unless the files of the safe slot are those with these digests.
    pub fn check(&self, digests: &[u64]) -> Result<()> {
        if digests.len() != self.lengths.len() {
            return Err(Error::Plan(format!("digests of {} units for {}", digests.len(), self.lengths.len())));
        }
        for (unit, &expected) in digests.iter().enumerate() {
            let path = self.path(unit, self.safe);
            let got = digest(&path)?;
            if got != expected {
                let reason =
                    format!("its digest is {got:016x}, expected {expected:016x}: it was changed since it was written");
                return Err(Error::content(path.display().to_string(), reason));
            }
        }
        Ok(())
    }

    fn expect(&self, unit: usize, got: usize) -> Result<()> {
        match self.lengths[unit] == got {
            true => Ok(()),
            false => {
                Err(Error::Plan(format!("unit {unit} of a training has {} numbers, got {got}", self.lengths[unit])))
            }
        }
    }
}

fn write(path: &Path, sections: &[&[f32]]) -> Result<()> {
    let bytes: usize = sections.iter().map(|section| size_of_val(*section)).sum();
    let written = File::create(path).and_then(|mut file| {
        for piece in sections.iter().flat_map(|section| section.chunks(PIECE)) {
            file.write_all(&Dtype::F32.encode(piece))?;
        }
        Ok(())
    });
    Ok(written.map_err(|source| paring_format::Error::write(path, bytes as u64, source))?)
}

/// The first `sections` of a file, of `len` numbers each.
fn read(path: &Path, len: usize, sections: usize) -> Result<Vec<Vec<f32>>> {
    let failed = |source| Error::Io { path: path.to_path_buf(), source };
    let mut file = File::open(path).map_err(failed)?;
    let mut bytes = vec![0u8; PIECE.min(len) * size_of::<f32>()];
    let mut all = Vec::with_capacity(sections);
    for _ in 0..sections {
        let mut section = Vec::with_capacity(len);
        while section.len() < len {
            let piece = &mut bytes[..PIECE.min(len - section.len()) * size_of::<f32>()];
            file.read_exact(piece).map_err(failed)?;
            section.extend_from_slice(&Dtype::F32.decode_f32(piece));
        }
        all.push(section);
    }
    Ok(all)
}

/// The digest of a file.
fn digest(path: &Path) -> Result<u64> {
    let failed = |source| Error::Io { path: path.to_path_buf(), source };
    let mut file = File::open(path).map_err(failed)?;
    let mut bytes = vec![0u8; PIECE * size_of::<f32>()];
    let mut digests = Vec::new();
    loop {
        let mut filled = 0;
        while filled < bytes.len() {
            match file.read(&mut bytes[filled..]).map_err(failed)? {
                0 => break,
                count => filled += count,
            }
        }
        digests.extend(xxh3_64(&bytes[..filled]).to_le_bytes());
        if filled < bytes.len() {
            return Ok(xxh3_64(&digests));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_safe_point_stays_until_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::new(dir.path(), vec![3, 2], Slot::A);
        store.begin(0, &[1.0, 2.0, 3.0]).unwrap();
        store.begin(1, &[4.0, 5.0]).unwrap();
        assert!(store.sync().is_err());
        let change = |store: &mut Store, unit: usize| {
            let mut stored = store.read(unit).unwrap();
            stored.values.iter_mut().for_each(|v| *v += 1.0);
            stored.first.iter_mut().for_each(|v| *v -= 1.0);
            store.replace(unit, &stored).unwrap();
        };
        (0..2).for_each(|unit| change(&mut store, unit));
        let (slot, digests) = store.sync().unwrap();
        store.keep();
        change(&mut store, 0);
        change(&mut store, 0);
        assert_eq!(store.values(0).unwrap(), [4.0, 5.0, 6.0]);
        assert_eq!(store.read(0).unwrap().first, [-3.0; 3]);
        assert_eq!(store.part(0, 1, 2).unwrap(), [5.0, 6.0]);
        // Another process finds what was safe.
        let back = Store::new(dir.path(), vec![3, 2], slot);
        back.check(&digests).unwrap();
        assert_eq!((back.values(0).unwrap(), back.values(1).unwrap()), (vec![2.0, 3.0, 4.0], vec![5.0, 6.0]));
        std::fs::write(dir.path().join("unit-00001.b"), [0; 24]).unwrap();
        assert!(back.check(&digests).unwrap_err().to_string().contains("unit-00001.b"));
        store.put_gradient(1, &[0.5, -0.5]).unwrap();
        assert_eq!(store.gradient(1).unwrap(), [0.5, -0.5]);
        assert!(store.put_gradient(1, &[0.5]).is_err());
    }
}
