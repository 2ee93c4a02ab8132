//! The statement of a config that the head is the embedding.

use paring_format::Checkpoint;
use paring_model::{OuterInfo, families};
use serde_json::{Map, Value};

use crate::Result;
use crate::output::modules::compressed_module;

/// Key of the statement.
const KEY: &str = "tie_word_embeddings";

/// A remark on an output that says otherwise than its input.
pub(crate) const NOTE: &str = "the config ties the head to the embedding, but a different head is stored: \
    the stored one is used, and tie_word_embeddings is false in the output";

/// Bytes that are compared at once.
const PIECE: usize = 16 << 20;

/// Tells whether a head is stored that differs from the embedding, though the config ties the two: readers that go by the
/// config would lose it. Reads both, in pieces, where both are plain matrices of one type.
///
/// # Errors
/// When they cannot be read.
pub(crate) fn head_differs(checkpoint: &Checkpoint, outer: &OuterInfo) -> Result<bool> {
    let head = format!("{}.weight", outer.head);
    let within = format!("{}.", outer.head);
    let Some(table) = outer.embeddings.first().filter(|_| outer.tied) else { return Ok(false) };
    let shared = checkpoint.stored_as(table).is_some() || checkpoint.stored_as(&head).is_some();
    if shared || !checkpoint.names().any(|name| name.starts_with(&within)) {
        return Ok(false);
    }
    let (Some(a), Some(b)) = (checkpoint.info(&head), checkpoint.info(table)) else { return Ok(true) };
    if compressed_module(checkpoint, &head).is_some() || (a.dtype, &a.shape) != (b.dtype, &b.shape) {
        return Ok(true);
    }
    let rows = a.shape.first().copied().unwrap_or(0);
    let step = (PIECE / (a.bytes() / rows.max(1)).max(1)).max(1);
    for first in (0..rows).step_by(step) {
        let count = step.min(rows - first);
        if checkpoint.read_rows(&head, first, count)? != checkpoint.read_rows(table, first, count)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// As [`head_differs`], of a model that any family reads; of another one, tells whether its config ties a head that is stored
/// in codes.
///
/// # Errors
/// As [`head_differs`].
pub(crate) fn loses_head(checkpoint: &Checkpoint) -> Result<bool> {
    if let Ok(outer) = families::outer(checkpoint) {
        return head_differs(checkpoint, &outer);
    }
    let tied = checkpoint.config().get(KEY).and_then(Value::as_bool).unwrap_or(false);
    let is_head = |module: &str| module.rsplit('.').next() == Some("lm_head");
    let mut modules = checkpoint.names().filter_map(|name| compressed_module(checkpoint, name));
    Ok(tied && modules.any(is_head))
}

/// Has a config say that the head is a matrix of its own, wherever it may say so.
pub(crate) fn untie(config: &mut Map<String, Value>) {
    config.insert(KEY.into(), false.into());
    if let Some(Value::Object(text)) = config.get_mut("text_config")
        && text.contains_key(KEY)
    {
        text.insert(KEY.into(), false.into());
    }
}
