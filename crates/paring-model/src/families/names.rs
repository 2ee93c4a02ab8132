//! Names of what lies outside the blocks: the prefix of a checkpoint, and the one matrix that embedding and head may share.

use paring_format::{Checkpoint, layouts};

use super::family::{HEAD, OuterShape};
use crate::{Error, Result};

/// The first of the family's prefixes under which the embedding is stored, or else a block (a model may be saved with or
/// without its head, and then with or without `model.`); the first of all if none is, so that what is missing is reported
/// under its usual name.
pub(super) fn prefix_of(checkpoint: &Checkpoint, outer: &OuterShape) -> &'static str {
    let (marker, blocks) = (outer.marker(), format!("{}.", outer.blocks));
    let embedding = |prefix: &&&str| checkpoint.info(&format!("{prefix}{marker}")).is_some();
    let block = |prefix: &&&str| {
        let start = format!("{prefix}{blocks}");
        checkpoint.names().any(|name| name.starts_with(&start))
    };
    let prefixes = outer.prefixes.iter();
    let found = prefixes.clone().find(embedding).or_else(|| prefixes.clone().find(block));
    found.or(outer.prefixes.first()).copied().unwrap_or("")
}

/// Lets the embedding be read under its name where the config ties the head to it and only the head's name is stored: of two
/// names for one matrix, a file may keep either.
pub(super) fn share_head(checkpoint: &Checkpoint, outer: &OuterShape, prefix: &str) {
    let (embedding, head) = (format!("{prefix}{}", outer.marker()), format!("{HEAD}.weight"));
    let alone = checkpoint.info(&embedding).is_none() && checkpoint.info(&head).is_some();
    if outer.tied && alone && part_with_codes(checkpoint, HEAD).is_none() {
        checkpoint.also_named(&embedding, &head);
    }
}

/// Errors when the table of this module is stored in codes, or is the head's, which is.
pub(super) fn refuse_codes(checkpoint: &Checkpoint, outer: &OuterShape, prefix: &str) -> Result<()> {
    let embedding = format!("{prefix}{}", outer.embedding);
    let stored = checkpoint.info(&format!("{embedding}.weight")).is_some();
    let found = part_with_codes(checkpoint, &embedding).map(|part| (embedding.clone(), part));
    let of_head = || {
        let part = part_with_codes(checkpoint, HEAD).filter(|_| outer.tied && !stored)?;
        Some((format!("{embedding}, stored as {HEAD},"), part))
    };
    match found.or_else(of_head) {
        None => Ok(()),
        Some((module, name)) => {
            let info = checkpoint.info(&name);
            let file = info.map(|info| info.file.clone()).unwrap_or_default();
            let local = name.rsplit_once('.').map_or(name.as_str(), |(_, local)| local);
            let part = info.map_or_else(|| local.to_string(), |info| format!("{local} {}", info.dtype));
            Err(Error::QuantizedEmbedding { file, module, part })
        }
    }
}

/// The name of a tensor that says that a module's matrix is stored in codes, or is to be rounded.
fn part_with_codes(checkpoint: &Checkpoint, module: &str) -> Option<String> {
    let parts = layouts::weight_names().iter().chain(layouts::part_names());
    let mut names = parts.map(|part| (format!("{module}.{part}"), *part));
    let tells = |name: &str, part: &str| {
        let info = checkpoint.info(name)?;
        Some(part != "weight" || !info.dtype.is_float())
    };
    names.find(|(name, part)| tells(name, part) == Some(true)).map(|(name, _)| name)
}

/// The config keys to check where the embedding is missing.
pub(super) fn embedding_hint(checkpoint: &Checkpoint, outer: &OuterShape) -> &'static str {
    match checkpoint.info(&format!("{HEAD}.weight")) {
        Some(_) if !outer.tied => "tie_word_embeddings is right, which says that lm_head.weight is no embedding",
        _ => "architectures is right",
    }
}
