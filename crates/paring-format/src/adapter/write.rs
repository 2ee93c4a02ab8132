//! Writing an adapter so that PEFT opens it.

use std::fs;
use std::path::Path;

use super::{Adapter, ENDS, PREFIX};
use crate::message;
use crate::message::Setting;
use crate::names::{ADAPTER_CONFIG, ADAPTER_WEIGHTS};
use crate::writer::{NamedTensor, disk, tensor_file, write_beside};
use crate::{Dtype, Error, Result};

impl Adapter {
    /// Errors that show before the work: a folder that already holds an adapter, unless it is to be replaced.
    pub fn check_destination(dir: &Path, overwrite: bool) -> Result<()> {
        let there =
            [ADAPTER_CONFIG, ADAPTER_WEIGHTS].into_iter().find(|name| dir.join(name).symlink_metadata().is_ok());
        match there {
            Some(name) if !overwrite => {
                let reason = message![format!("holds an adapter ({name}); choose another folder, or add ")];
                Err(Error::refused(dir, reason.then(message![Setting::new("overwrite"), " to replace it"])))
            }
            _ => Ok(()),
        }
    }

    /// Writes both files into a folder, which is made if need be: each beside its name, synced and renamed, the settings last, so
    /// that what is not finished is no adapter. The same adapter makes the same bytes. Factors are f32.
    ///
    /// # Errors
    /// As [`Adapter::check_destination`]; when a pair does not have the rank or scale that the settings give it, or they do not
    /// cover it; and when the files cannot be written.
    pub fn write(&self, dir: &Path, overwrite: bool) -> Result<()> {
        Adapter::check_destination(dir, overwrite)?;
        self.check_pairs()?;
        fs::create_dir_all(dir).map_err(|source| Error::Unwritable { path: dir.to_path_buf(), source })?;
        let tensors = self.pairs.iter().flat_map(|(module, pair)| {
            let tensor = |end: &str, shape: [usize; 2], values: &[f32]| NamedTensor {
                name: format!("{PREFIX}{module}{end}"),
                dtype: Dtype::F32,
                shape: shape.to_vec(),
                bytes: Dtype::F32.encode(values),
            };
            [tensor(ENDS[0], [pair.rank, pair.cols], &pair.a), tensor(ENDS[1], [pair.rows, pair.rank], &pair.b)]
        });
        let (config, weights) = (dir.join(ADAPTER_CONFIG), dir.join(ADAPTER_WEIGHTS));
        let (pieces, bytes) = tensor_file(&weights.display().to_string(), tensors.collect(), &[])?;
        // Earlier settings must not describe the new weights.
        disk::remove(&config).map_err(|source| Error::io(&config, source))?;
        write_beside(&weights, bytes, |file| pieces.iter().try_for_each(|piece| file.write_all(piece)))?;
        let text = format!("{:#}\n", self.config.to_json());
        write_beside(&config, text.len(), |file| file.write_all(text.as_bytes())).map(drop)
    }

    fn check_pairs(&self) -> Result<()> {
        for (module, pair) in &self.pairs {
            let rank = self.config.rank(module)?;
            let scale = self.config.scale(module, rank)?;
            let fits = rank == pair.rank && scale == pair.scale && self.config.modules.cover(module)?;
            let sizes = pair.a.len() == pair.rank * pair.cols && pair.b.len() == pair.rows * pair.rank;
            if !(fits && sizes && pair.a.iter().chain(&pair.b).all(|value| value.is_finite())) {
                let reason = format!("{pair:?} is not what the adapter's settings say, or its factors are not finite");
                return Err(Error::parts(reason).in_module(module, ""));
            }
        }
        Ok(())
    }
}
