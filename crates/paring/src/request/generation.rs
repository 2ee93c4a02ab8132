//! Models that generate text, by name.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use paring_data::Tokenizer;
use paring_format::{Checkpoint, files};
use paring_generate::{Choices, Engine};
use paring_kernels::device::Device;
use paring_model::{Arithmetic, CacheType};
use serde_json::Value;

use super::sources::{Model, Sources};
use crate::{Error, Precision, Result};

/// The file of a model's own settings.
const GENERATION_CONFIG: &str = "generation_config.json";

/// A model in memory that generates text, its tokenizer, and what its files say about both.
pub struct Generator {
    /// The model.
    pub engine: Arc<Engine>,
    /// Its tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// The settings of its files.
    pub choices: Choices,
    /// Notes on the model.
    pub notes: Vec<String>,
}

impl Sources {
    /// Reads a model that is here into memory, where its weights stay as packed as the files have them. It computes on
    /// `device`; products round to the precision `asked` for, or to one that suits its type, and keys and values are kept in
    /// `cache`, or else in bfloat16 where products round to it, and in f32 otherwise. `read` hears how many blocks of how many
    /// were read.
    ///
    /// # Errors
    /// As [`Sources::model`], when `generation_config.json` cannot be read, without a tokenizer, and when weights cannot be
    /// read.
    pub fn generator(
        &self,
        local: impl AsRef<Path>,
        asked: Option<Precision>,
        device: &Device,
        cache: Option<CacheType>,
        read: &mut dyn FnMut(usize, usize),
    ) -> Result<Generator> {
        let model = self.opened(&local, asked, |precision| {
            Arithmetic::from(precision).on(device).packed().adapted(self.adapter.clone())
        })?;
        let notes = model.notes().collect();
        let Model { checkpoint, precision, decoder, tokenizer, .. } = model;
        let generation = match self.generation_config(local.as_ref(), &checkpoint)? {
            Some((path, bytes)) => Some((path.display().to_string(), parsed(&path, &bytes)?)),
            None => None,
        };
        let generation = generation.as_ref().map(|(file, value)| (file.as_str(), value));
        let choices = Choices::of_model(generation, checkpoint.config())?;
        // Before weights are read, which takes a while.
        let tokenizer = tokenizer.ok_or(paring_generate::Error::NoTokenizer { name: "text" })?;
        let usual = if precision == Precision::Bf16 { CacheType::Bf16 } else { CacheType::F32 };
        let blocks = decoder.blocks();
        let engine = Engine::read(Arc::from(decoder), cache.unwrap_or(usual), &mut |done| read(done, blocks))?;
        Ok(Generator { engine: Arc::new(engine), tokenizer: Arc::new(tokenizer), choices, notes })
    }

    /// The file with a model's settings of generation, and its path; `None` if it has none.
    fn generation_config(&self, local: &Path, checkpoint: &Checkpoint) -> Result<Option<(PathBuf, Vec<u8>)>> {
        let Some(dir) = checkpoint.dir() else {
            let name = local.to_string_lossy();
            let mut companions = self.companions(&name).into_iter();
            let found = companions.find(|(file, _)| file == GENERATION_CONFIG);
            return Ok(found.map(|(file, bytes)| (local.join(file), bytes)));
        };
        let path = dir.join(GENERATION_CONFIG);
        // A link that leads nowhere is an error.
        if path.symlink_metadata().is_err() {
            return Ok(None);
        }
        let bytes = files::read(&path, files::SETTINGS)?;
        Ok(Some((path, bytes)))
    }
}

fn parsed(path: &Path, bytes: &[u8]) -> Result<Value> {
    let bad = |reason: String| Error::content(path.display().to_string(), reason);
    let value: Value = serde_json::from_slice(bytes).map_err(|e| bad(format!("not JSON: {e}; download it again")))?;
    if value.is_object() { Ok(value) } else { Err(bad("expected a JSON object; download it again".into())) }
}
