//! Batches of activations in a file.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use paring_format::Dtype;
use paring_format::writer::create_fresh;
use paring_format::writer::disk::free_bytes;
use paring_kernels::device::upload;

use crate::{Error, Result};

/// The name of the file, beside a number of its own, while it has one.
const NAME: &str = "activations";

/// A folder for files that are gone when the process is, in which `bytes` bytes can be written now: that of the environment's
/// `TMPDIR`, or else the system's for large files, or its usual one. `None` where there is none.
pub(crate) fn folder_for(bytes: usize) -> Option<PathBuf> {
    // The usual folder is in memory on many systems, and this one is not.
    const LARGE: &str = "/var/tmp";
    let named = std::env::var_os("TMPDIR").filter(|name| !name.is_empty()).map(PathBuf::from);
    let usual =
        || if cfg!(unix) { vec![PathBuf::from(LARGE), std::env::temp_dir()] } else { vec![std::env::temp_dir()] };
    first_with(named.map_or_else(usual, |named| vec![named]), bytes)
}

/// The first of these folders in which so many bytes can be written.
fn first_with(folders: Vec<PathBuf>, bytes: usize) -> Option<PathBuf> {
    let fits = |dir: &PathBuf| free_bytes(dir).is_none_or(|free| free > bytes as u64) && Spill::create(dir).is_ok();
    folders.into_iter().find(fits)
}

/// Batches `[b, t, dim]` of f32 in a file, which is removed with this value, or by the system when the process dies.
pub(crate) struct Spill {
    file: File,
    path: PathBuf,
    /// Shape and offset of each batch.
    batches: Vec<([usize; 3], u64)>,
    end: u64,
}

impl Spill {
    /// A new file in `dir`.
    pub fn create(dir: &Path) -> Result<Self> {
        let path = dir.join(NAME);
        let (file, path) = create_fresh(&path).map_err(|source| Error::Io { path, source })?;
        // Where an open file may lose its name it does so now: whatever ends the run then frees its space.
        #[cfg(unix)]
        std::fs::remove_file(&path).map_err(|source| Error::Io { path: path.clone(), source })?;
        Ok(Self { file, path, batches: Vec::new(), end: 0 })
    }

    /// Number of batches.
    pub fn len(&self) -> usize {
        self.batches.len()
    }

    /// Appends a batch.
    pub fn push(&mut self, batch: &Tensor) -> Result<()> {
        let (b, t, dim) = batch.dims3()?;
        self.write(self.end, batch)?;
        self.batches.push(([b, t, dim], self.end));
        self.end += (b * t * dim * size_of::<f32>()) as u64;
        Ok(())
    }

    /// Replaces batch `i` by one of the same shape.
    pub fn set(&mut self, i: usize, batch: &Tensor) -> Result<()> {
        let (shape, offset) = self.batches[i];
        if batch.dims() != shape {
            return Err(Error::Plan(format!("a block made {:?} of {shape:?}", batch.dims())));
        }
        self.write(offset, batch)
    }

    /// Batch `i`, on a device.
    pub fn get(&self, i: usize, device: &Device) -> Result<Tensor> {
        let (shape, offset) = self.batches[i];
        let mut bytes = vec![0u8; shape.iter().product::<usize>() * size_of::<f32>()];
        let mut file = &self.file;
        let read = file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_exact(&mut bytes));
        read.map_err(|source| Error::Io { path: self.path.clone(), source })?;
        Ok(upload(Dtype::F32.decode_f32(&bytes), &shape, device)?)
    }

    fn write(&self, offset: u64, batch: &Tensor) -> Result<()> {
        let values = batch.flatten_all()?.to_vec1::<f32>()?;
        let bytes = Dtype::F32.encode(&values);
        let mut file = &self.file;
        let written = file.seek(SeekFrom::Start(offset)).and_then(|_| file.write_all(&bytes));
        Ok(written.map_err(|source| paring_format::Error::write(&self.path, bytes.len() as u64, source))?)
    }
}

impl Drop for Spill {
    fn drop(&mut self) {
        // Already gone on most systems; a file that is left is replaced by the next run.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_come_back_and_can_be_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let mut spill = Spill::create(dir.path()).unwrap();
        let batch = |from: f32, b: usize| {
            Tensor::arange(from, from + (b * 12) as f32, &Device::Cpu).unwrap().reshape((b, 3, 4)).unwrap()
        };
        let values = |t: Tensor| (t.dims().to_vec(), t.flatten_all().unwrap().to_vec1::<f32>().unwrap());
        for (from, b) in [(0.5, 2), (100.0, 1), (-3.25, 2)] {
            spill.push(&batch(from, b)).unwrap();
        }
        spill.set(1, &batch(7.0, 1)).unwrap();
        assert_eq!(spill.len(), 3);
        for (i, (from, b)) in [(0.5, 2), (7.0, 1), (-3.25, 2)].into_iter().enumerate() {
            assert_eq!(values(spill.get(i, &Device::Cpu).unwrap()), values(batch(from, b)));
        }
        assert!(spill.set(0, &batch(0.0, 1)).is_err());
        drop(spill);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_with_room_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let folders = || vec!["no such folder".into(), dir.path().to_path_buf()];
        assert_eq!(first_with(folders(), 1000).as_deref(), Some(dir.path()));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        if free_bytes(dir.path()).is_some() {
            assert_eq!(first_with(folders(), usize::MAX), None);
        }
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named() {
        let error = Spill::create(Path::new("no such folder")).err().unwrap().to_string();
        assert!(error.contains(NAME), "{error}");
    }
}
