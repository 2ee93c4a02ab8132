//! Model families: a folder each, found by the names in the config.

mod backward;
mod block;
mod falcon;
mod family;
mod groups;
mod llama;
mod model;
mod names;
mod opt;

use std::sync::Arc;

use paring_format::Checkpoint;
use serde_json::Value;

use self::family::Family;
use self::model::Model;
use crate::source::config_file;
use crate::{Arithmetic, Decoder, Error, OuterInfo, Result, config::Config};

/// A row of [`FAMILIES`].
pub struct FamilyEntry {
    /// For help texts.
    pub name: &'static str,
    /// Entries of the config's `architectures` that this family reads; the first is the current one.
    pub architectures: &'static [&'static str],
    /// The config's `model_type` where it has no `architectures`.
    pub model_types: &'static [&'static str],
    /// Checks the config against the stored tensors; reads no weights yet.
    open: fn(Arc<Checkpoint>, Arithmetic) -> Result<Box<dyn Decoder>>,
    /// Checks the config alone.
    outer: fn(&Checkpoint) -> Result<OuterInfo>,
}

/// All families.
pub static FAMILIES: &[FamilyEntry] =
    &[llama::LLAMA, llama::MISTRAL, llama::QWEN2, llama::QWEN3, opt::FAMILY, falcon::FAMILY];

/// Opens the model of a checkpoint. Everything the model needs is checked to be stored with the right shape before
/// this returns; no weights are read. Of a [`crate::Precision`] alone comes a model that rounds activations where its
/// config says so.
pub fn open(checkpoint: Arc<Checkpoint>, arithmetic: impl Into<Arithmetic>) -> Result<Box<dyn Decoder>> {
    (entry(&checkpoint)?.open)(checkpoint, arithmetic.into())
}

/// The parts outside the blocks of a checkpoint's model, as [`Decoder::outer`]. Checks the config and no tensor.
pub fn outer(checkpoint: &Checkpoint) -> Result<OuterInfo> {
    (entry(checkpoint)?.outer)(checkpoint)
}

/// The family of a checkpoint's model.
fn entry(checkpoint: &Checkpoint) -> Result<&'static FamilyEntry> {
    let file = config_file(checkpoint);
    let config = Config::new(&file, checkpoint.config());
    let (key, got) = match config.get("architectures") {
        Some(Value::Array(names)) if !names.is_empty() => {
            ("architectures", names[0].as_str().unwrap_or("that is no string").to_string())
        }
        Some(Value::Array(_)) | None => {
            ("model_type", config.text_if("model_type")?.ok_or_else(|| config.missing("architectures"))?.to_string())
        }
        Some(_) => return Err(config.bad("architectures", "a list of names")),
    };
    let knows = |family: &&FamilyEntry| {
        let names = if key == "architectures" { family.architectures } else { family.model_types };
        names.contains(&got.as_str())
    };
    FAMILIES.iter().find(knows).ok_or_else(|| {
        let names = || FAMILIES.iter().filter_map(|family| family.architectures.first().copied());
        // Models of similar names differ: only letters in another case mean the same one.
        let known = match names().find(|known| known.eq_ignore_ascii_case(&got)) {
            Some(known) => format!("did you mean {known}?"),
            None => format!("use a model of one of: {}", names().collect::<Vec<_>>().join(", ")),
        };
        Error::UnknownArchitecture { file, got, known }
    })
}

/// Opens a model of the family that `read` makes of the config.
fn open_model<F: Family>(
    checkpoint: Arc<Checkpoint>,
    arithmetic: Arithmetic,
    read: impl FnOnce(&Config) -> Result<F>,
) -> Result<Box<dyn Decoder>> {
    Ok(Box::new(Model::open(checkpoint, arithmetic, read)?))
}

/// The parts outside the blocks of a model of the family that `read` makes of the config.
fn outer_info<F: Family>(checkpoint: &Checkpoint, read: impl FnOnce(&Config) -> Result<F>) -> Result<OuterInfo> {
    let outer = read(&Config::new(config_file(checkpoint), checkpoint.config()))?.outer();
    let prefix = names::prefix_of(checkpoint, &outer);
    names::share_head(checkpoint, &outer, prefix);
    Ok(outer.info(|local| format!("{prefix}{local}")))
}

#[cfg(test)]
mod tests;
