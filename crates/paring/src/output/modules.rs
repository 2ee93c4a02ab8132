//! Questions about the modules of a checkpoint: which are compressed, and by which group.

use std::collections::BTreeSet;

use paring_format::layouts::{ACTIVATION_NAMES, part_names};
use paring_format::{Checkpoint, Dtype, QuantConfig};
use serde_json::Value;

use crate::Result;

/// The kind of a linear: the last component of its path.
pub(crate) fn kind(module: &str) -> &str {
    module.rsplit_once('.').map_or(module, |(_, kind)| kind)
}

/// The number of the group that covers a module.
pub(crate) fn group_of(quant: Option<&QuantConfig>, module: &str) -> Result<Option<usize>> {
    let Some(quant) = quant else { return Ok(None) };
    let Some(scheme) = quant.scheme(module)? else { return Ok(None) };
    Ok(quant.groups.iter().position(|(_, other)| std::ptr::eq(other, scheme)))
}

/// The module whose compressed matrix the tensor is a part of. Goes by the tensors, not by the config, so that one that
/// lacks a part, or that no group covers, is an error when it is decoded instead of a tensor to be copied.
pub fn compressed_module<'a>(checkpoint: &Checkpoint, name: &'a str) -> Option<&'a str> {
    let (module, local) = name.rsplit_once('.').filter(|(_, local)| part_names().contains(local))?;
    let info = |part: &str| checkpoint.info(&format!("{module}.{part}"));
    let is_code = |dtype: Dtype| matches!(dtype, Dtype::I8 | Dtype::U8 | Dtype::F8E4M3);
    let compressed = part_names().iter().any(|&part| part != "weight" && info(part).is_some())
        || info(local).is_some_and(|info| is_code(info.dtype));
    compressed.then_some(module)
}

/// All of them.
pub(crate) fn compressed_modules(checkpoint: &Checkpoint) -> BTreeSet<String> {
    checkpoint.names().filter_map(|name| compressed_module(checkpoint, name)).map(String::from).collect()
}

/// Tells whether the tensor is a scale or zero point of activations or of the attention's cache, in a quantized checkpoint.
pub(crate) fn is_of_activations(checkpoint: &Checkpoint, name: &str) -> bool {
    let local = name.rsplit_once('.').map_or(name, |(_, local)| local);
    checkpoint.quantization().is_some_and(Value::is_object) && ACTIVATION_NAMES.contains(&local)
}
