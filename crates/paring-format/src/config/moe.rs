//! The `moe_sparsity_config` of compressed-tensors 0.20: experts of a mixture that were removed, layer by layer.

use serde_json::Value;

use super::json::{ROOT, bad, is_empty, object, unsupported};
use crate::Result;

/// Errors when experts were removed, which no model here has. An object that is empty, or that says that all layers are dense,
/// says nothing.
pub(super) fn check(value: Option<&Value>) -> Result<()> {
    let Some(value) = value.filter(|value| !is_empty(Some(value))) else { return Ok(()) };
    let key = format!("{ROOT}.moe_sparsity_config");
    let map = object(value, &key)?;
    match map.get("num_experts") {
        Some(Value::Null) => return Ok(()),
        Some(Value::Array(layers)) if layers.iter().all(Value::is_null) => return Ok(()),
        None | Some(Value::Array(_)) => {}
        Some(_) => return Err(bad(format!("{key}.num_experts"), "not a list with a number or null for each layer")),
    }
    let method = map.get("method").and_then(Value::as_str).unwrap_or("unknown");
    let text = format!("moe_sparsity_config (method {method}: experts removed from layers of a mixture of experts)");
    Err(unsupported(ROOT, text))
}
