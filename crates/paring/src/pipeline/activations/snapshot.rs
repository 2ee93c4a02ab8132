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
    /// Keeps a copy of some streams in a file in `dir`, as the inputs of block `block`, `dim` features each: f32, one stream after
    /// the other, window by window. Errors as writing does; then nothing of it is left.
    pub(crate) fn keep(streams: &[&Self], dir: &Path, block: usize, dim: usize) -> Result<ClosedFile> {
        // An error in a batch travels beside the file's.
        let mut failed = None;
        let bytes = streams.iter().map(|stream| stream.tokens()).sum::<usize>() * dim * size_of::<f32>();
        let batches = || streams.iter().flat_map(|stream| (0..stream.batches()).map(move |i| (stream, i)));
        let closed = write_beside(&dir.join(format!("{ACTIVATIONS}-{block:05}")), bytes, |file| {
            batches().try_for_each(|(stream, i)| {
                let values = stream.batch(i).and_then(|batch| Ok(batch.flatten_all()?.to_vec1::<f32>()?));
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

    /// The activations of so many streams that were kept in `dir`. Errors when the file is not the one that was closed, or holds
    /// other windows.
    pub(crate) fn restore(
        decoder: &dyn Decoder,
        windows: &Windows,
        storage: Storage<'_>,
        (dir, kept): (&Path, &ClosedFile),
        streams: usize,
    ) -> Result<Vec<Self>> {
        kept.check(dir)?;
        let path = dir.join(&kept.name);
        let dim = decoder.hidden_size();
        let expected = (streams * windows.ids.len() * dim * size_of::<f32>()) as u64;
        if kept.bytes != expected {
            let reason = format!("{} bytes of activations, expected {expected} for these windows", kept.bytes);
            return Err(Error::content(path.display().to_string(), reason));
        }
        let failed = |source| Error::Io { path: path.clone(), source };
        let mut file = BufReader::new(File::open(&path).map_err(failed)?);
        let device = decoder.device().clone();
        let mut read = |ids: &[u32]| {
            let mut bytes = vec![0u8; ids.len() * dim * size_of::<f32>()];
            file.read_exact(&mut bytes).map_err(failed)?;
            Ok(upload(Dtype::F32.decode_f32(&bytes), (ids.len() / windows.seqlen, windows.seqlen, dim), &device)?)
        };
        let fill = |_| Self::fill(windows, &storage, "saved activations", &mut read);
        (0..streams).map(fill).collect()
    }
}
