//! Files beside the weights that an output takes over from a model's folder, and changes of its config.

use paring_format::names::COMPANIONS;
use paring_format::{Checkpoint, Dtype, files};
use serde_json::{Map, Value};

use crate::Result;

/// Files to write beside the weights, by name and content: `given` ones, for a model that has no folder, and those of the
/// model's folder such as its tokenizer.
pub(crate) fn beside(checkpoint: &Checkpoint, mut given: Vec<(String, Vec<u8>)>) -> Result<Vec<(String, Vec<u8>)>> {
    let Some(dir) = checkpoint.dir() else { return Ok(given) };
    for name in COMPANIONS {
        let path = dir.join(name);
        if path.is_file() && !given.iter().any(|(other, _)| other == name) {
            let bytes = files::read(&path, files::LISTS)?;
            given.push((name.to_string(), bytes));
        }
    }
    Ok(given)
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
