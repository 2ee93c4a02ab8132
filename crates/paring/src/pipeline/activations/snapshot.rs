//! Activations in a file that outlives the process.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use crate::report::names::ACTIVATIONS;
use paring_format::Dtype;
use paring_format::writer::{ClosedFile, write_beside};
use paring_kernels::device::upload;
use paring_model::decoder::Decoder;

use super::{Hidden, Storage};
use crate::{Error, Result};
use paring_data::Windows;

impl Hidden {
    /// Keeps a copy in a file in `dir`, as the inputs of block `block`, `dim` features each: f32, window by window. Errors as
    /// writing does; then nothing of it is left.
    pub(crate) fn keep(&self, dir: &Path, block: usize, dim: usize) -> Result<ClosedFile> {
        // An error in a batch travels beside the file's.
        let mut failed = None;
        let bytes = self.tokens() * dim * size_of::<f32>();
        let closed = write_beside(&dir.join(format!("{ACTIVATIONS}-{block:05}")), bytes, |file| {
            (0..self.batches()).try_for_each(|i| {
                let values = self.batch(i).and_then(|batch| Ok(batch.flatten_all()?.to_vec1::<f32>()?));
                match values {
                    Ok(values) => file.write_all(&Dtype::F32.encode(&values)),
                    Err(error) => {
                        failed = Some(error);
                        Err(std::io::ErrorKind::Other.into())
                    }
                }
            })
        });
        failed.map_or_else(|| Ok(closed?), Err)
    }

    /// The activations that were kept in `dir`. Errors when the file is not the one that was closed, or holds other windows.
    pub(crate) fn restore(
        decoder: &dyn Decoder,
        windows: &Windows,
        storage: Storage<'_>,
        dir: &Path,
        kept: &ClosedFile,
    ) -> Result<Self> {
        kept.check(dir)?;
        let path = dir.join(&kept.name);
        let dim = decoder.hidden_size();
        let expected = (windows.ids.len() * dim * size_of::<f32>()) as u64;
        if kept.bytes != expected {
            let reason = format!("{} bytes of activations, expected {expected} for these windows", kept.bytes);
            return Err(Error::content(path.display().to_string(), reason));
        }
        let failed = |source| Error::Io { path: path.clone(), source };
        let mut file = BufReader::new(File::open(&path).map_err(failed)?);
        let device = decoder.device().clone();
        Self::fill(&device, windows, storage, "saved activations", |ids| {
            let mut bytes = vec![0u8; ids.len() * dim * size_of::<f32>()];
            file.read_exact(&mut bytes).map_err(failed)?;
            Ok(upload(Dtype::F32.decode_f32(&bytes), (ids.len() / windows.seqlen, windows.seqlen, dim), &device)?)
        })
    }
}
