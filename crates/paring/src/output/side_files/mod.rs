//! Files beside the weights that an output takes over from a model's folder, and changes of its config.

mod survey;
#[cfg(test)]
mod tests;

use paring_format::beside::MOST_BYTES;
use paring_format::{Checkpoint, Dtype, files};
use serde_json::{Map, Value};

use crate::Result;
use crate::report::names::{CARD, CARD_CHART};
use survey::Survey;

/// Files to write beside the weights, by name and content: `given` ones, for a model that has no folder, and those of the
/// model's folder that are small and no weights. A name may have folders in it, `a/b.json`. In memory together, 256 MiB at most.
pub(crate) fn beside(checkpoint: &Checkpoint, mut given: Vec<(String, Vec<u8>)>) -> Result<Vec<(String, Vec<u8>)>> {
    let Some(dir) = checkpoint.dir() else { return Ok(given) };
    let mut budget = MOST_BYTES;
    for name in Survey::of(checkpoint, dir)?.taken {
        if !given.iter().any(|(other, _)| *other == name) {
            let bytes = files::read(&dir.join(&name), budget)?;
            budget = budget.saturating_sub(bytes.len() as u64);
            given.push((name, bytes));
        }
    }
    Ok(given)
}

/// Names of all files that an output has beside its weights: companions and the card.
pub(crate) fn names_beside(companions: &[(String, Vec<u8>)]) -> Vec<String> {
    let card = [CARD, CARD_CHART].into_iter().map(String::from);
    companions.iter().map(|(name, _)| name.clone()).chain(card).collect()
}

/// A note on the files of the model's folder that an output does not take over, and why; `None` when it takes all.
///
/// # Errors
/// A folder that cannot be read.
pub(crate) fn left_behind(checkpoint: &Checkpoint) -> Result<Option<String>> {
    checkpoint.dir().map_or(Ok(None), |dir| Ok(Survey::of(checkpoint, dir)?.note()))
}

/// Takes the quantization out of a config.
pub(crate) fn unquantized(config: &mut Map<String, Value>) {
    config.shift_remove("quantization_config");
    config.shift_remove("compression_config");
}

/// The float type that a model's config names; `None` when it names none, or one that weights do not have.
pub fn named_dtype(config: &Value) -> Option<Dtype> {
    let name = ["dtype", "torch_dtype"].iter().find_map(|key| config.get(key)).and_then(Value::as_str)?;
    let name = name.trim_start_matches("torch.");
    [Dtype::F32, Dtype::F16, Dtype::Bf16].into_iter().find(|&dtype| torch_name(dtype) == name)
}

/// Has a config name this float type, under whichever of the two keys it has.
pub(crate) fn name_dtype(config: &mut Map<String, Value>, dtype: Dtype) {
    let key = if config.contains_key("dtype") { "dtype" } else { "torch_dtype" };
    config.insert(key.into(), torch_name(dtype).into());
}

/// A float type as configs name it.
pub(crate) fn torch_name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F16 => "float16",
        Dtype::Bf16 => "bfloat16",
        _ => "float32",
    }
}
