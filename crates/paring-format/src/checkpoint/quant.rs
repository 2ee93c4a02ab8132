//! The quantization of a checkpoint: what its configuration says, settled by the tensors that are stored.
//!
//! `quantization_status` and `format` are labels that are often wrong: many files with codes are called frozen, or nothing.
//! A weight in codes is compressed, and a float weight beside scales is one that was calibrated and not compressed, whatever
//! the labels say; only where neither is stored are they taken at their word.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use super::Checkpoint;
use crate::config::{Found, Stated, Targets};
use crate::layouts::{DENSE, weight_names};
use crate::{Error, Layout, QuantConfig, QuantMethod, Result, Scheme, layouts};

/// Names of the object in `config.json`: the current one, and the one that compressed-tensors had first.
const KEYS: [&str; 2] = ["quantization_config", "compression_config"];
const SPARSITY: &str = "sparsity_config";

/// A quantization, ready to be asked about modules.
#[derive(Debug)]
pub(super) struct Quant {
    pub config: QuantConfig,
    targets: Targets,
}

impl Checkpoint {
    /// The `quantization_config`, settled by the stored tensors; `None` when the model is dense. Errors when it is one that
    /// cannot be read.
    pub fn quant_config(&self) -> Result<Option<QuantConfig>> {
        Ok(self.quant()?.map(|quant| quant.config.clone()))
    }

    /// The JSON of the quantization, under its name or the one that compressed-tensors had for it first; `None` when the
    /// model is dense.
    pub fn quantization(&self) -> Option<&Value> {
        self.named_quantization().map(|(_, value)| value)
    }

    fn named_quantization(&self) -> Option<(&'static str, &Value)> {
        KEYS.into_iter().find_map(|key| Some((key, self.config.get(key).filter(|value| !value.is_null())?)))
    }

    /// The quantization, without copying it. Errors as the first time that it was read.
    pub(super) fn quant(&self) -> Result<Option<&Quant>> {
        match &self.quant {
            Some(quant) => Ok(quant.as_ref()),
            // The same error again: errors cannot be copied.
            None => self.parse_quant().map(|_| None),
        }
    }

    /// Reads the quantization. Keys in errors are those of the file.
    pub(super) fn parse_quant(&self) -> Result<Option<Quant>> {
        let Some((key, value)) = self.named_quantization() else { return Ok(None) };
        let (value, nested) = unwrapped(key, value);
        let quant = || {
            let stated = Stated::parse(&value)?;
            let targets = Targets::new(stated.config())?;
            let found = self.found(stated.config(), &targets)?;
            Ok(Quant { config: stated.settle(&found)?, targets })
        };
        quant().map(Some).map_err(|error| renamed(error, key, nested))
    }

    /// The form in which the weights of each group are stored, where some are that tell.
    fn found(&self, config: &QuantConfig, targets: &Targets) -> Result<Vec<Option<Found>>> {
        let mut found = vec![None; config.groups.len()];
        if config.method != QuantMethod::CompressedTensors {
            return Ok(found);
        }
        for name in self.names() {
            let parts = name.rsplit_once('.').filter(|(_, local)| weight_names().contains(local));
            let Some((module, stored)) = parts.and_then(|(module, _)| Some((module, self.found_in(module)?))) else {
                continue;
            };
            let Some(number) = targets.group(module)? else { continue };
            // A group with both has the layout of its codes; see `layout_of` for the others.
            if config.groups[number].1.weights.is_some() && !matches!(found[number], Some(Found::Codes(_))) {
                found[number] = Some(stored);
            }
        }
        Ok(found)
    }

    /// The form in which the weight of a module is stored; `None` for a plain float weight and for no weight.
    fn found_in(&self, module: &str) -> Option<Found> {
        let info = |part: &str| self.info(&format!("{module}.{part}"));
        let mut elsewhere = weight_names().iter().copied().filter(|&part| part != "weight");
        if let Some(local) = elsewhere.find(|part| info(part).is_some()) {
            return Some(Found::Codes(local));
        }
        match info("weight")? {
            weight if !weight.dtype.is_float() => Some(Found::Codes("weight")),
            _ => info("weight_scale").map(|_| Found::Floats),
        }
    }

    /// The layout of the linear at this module path, and the scheme of its group. A float weight beside scales in a group of
    /// codes is dense.
    pub(super) fn layout_of(&self, module: &str) -> Result<(&'static dyn Layout, Option<&Scheme>)> {
        let Some(quant) = self.quant()? else { return Ok((DENSE, None)) };
        let Some(number) = quant.targets.group(module)? else { return Ok((DENSE, None)) };
        let scheme = &quant.config.groups[number].1;
        let unsupported =
            || Error::UnsupportedFormat { module: module.to_string(), format: format!("the format {}", scheme.format) };
        let layout = layouts::layout(&scheme.format).ok_or_else(unsupported)?;
        let codes = quant.config.method == QuantMethod::CompressedTensors && !layout.holds().dense;
        let layout = if codes && self.found_in(module) == Some(Found::Floats) { DENSE } else { layout };
        Ok((layout, Some(scheme)))
    }

    /// Tells whether a linear is stored as a float weight beside scales, by which it is rounded as the model runs: one that was
    /// calibrated and not compressed.
    pub fn is_rounded_float(&self, module: &str) -> Result<bool> {
        let (layout, scheme) = self.layout_of(module)?;
        Ok(layout.is_dense() && scheme.is_some_and(|scheme| scheme.weights.is_some()))
    }

    /// Errors when a linear has a float weight where its group has codes, and no scales that would tell what it is rounded to.
    pub fn check_float_weight(&self, module: &str) -> Result<()> {
        let (layout, scheme) = self.layout_of(module)?;
        let weight = self.info(&format!("{module}.weight")).filter(|info| info.dtype.is_float());
        let has_scales = self.info(&format!("{module}.weight_scale")).is_some();
        match (scheme.and_then(|scheme| scheme.weights.as_ref()), weight) {
            (Some(args), Some(info)) if !has_scales && (layout.is_dense() || !layout.holds().dense) => {
                let reason = format!(
                    "{} has its weight as {} without scales, and the config has it quantized ({args}; {}); if it was not, \
                    put it into ignore",
                    info.file,
                    info.dtype,
                    self.status()
                );
                Err(Error::BadParts { module: module.to_string(), reason })
            }
            _ => Ok(()),
        }
    }

    /// The status with its key, for errors: `quantization_config.quantization_status is "frozen"`.
    pub(super) fn status(&self) -> String {
        let Some((key, value)) = self.named_quantization() else { return "no quantization_config".to_string() };
        let (value, nested) = unwrapped(key, value);
        let key = if nested { format!("{key}.{}", KEYS[0]) } else { key.to_string() };
        match value.get("quantization_status").filter(|value| !value.is_null()) {
            Some(status) => format!("{key}.quantization_status is {status:.40}"),
            None => format!("{key} has no quantization_status"),
        }
    }
}

/// The object with the keys of a `quantization_config`, and true if it lay inside another one, as releases of 2024 had it:
/// `{"quantization_config": …, "sparsity_config": …}`.
fn unwrapped<'a>(key: &str, value: &'a Value) -> (Cow<'a, Value>, bool) {
    let Some(outer) = value.as_object() else { return (Cow::Borrowed(value), false) };
    let inner = outer.get(KEYS[0]);
    let (mut root, nested) = match inner {
        None if key == KEYS[0] => return (Cow::Borrowed(value), false),
        None => (outer.clone(), false),
        Some(Value::Object(inner)) => (inner.clone(), true),
        Some(Value::Null) => (Map::new(), true),
        Some(other) => return (Cow::Borrowed(other), true),
    };
    let is_empty = |sparsity: &Value| sparsity.as_object().map_or(sparsity.is_null(), Map::is_empty);
    if let Some(sparsity) = outer.get(SPARSITY).filter(|_| nested && root.get(SPARSITY).is_none_or(is_empty)) {
        root.insert(SPARSITY.to_string(), sparsity.clone());
    }
    // There was one library that wrote it, under two names.
    let method = ["sparseml", "compressed_tensors"];
    let named = root.get("quant_method").or_else(|| outer.get("quant_method")).filter(|name| !name.is_null());
    let named = match named.and_then(Value::as_str) {
        Some(name) if method.contains(&name) => json!(QuantMethod::CompressedTensors.name()),
        None if named.is_none() => json!(QuantMethod::CompressedTensors.name()),
        _ => named.cloned().unwrap_or_default(),
    };
    root.insert("quant_method".to_string(), named);
    (Cow::Owned(Value::Object(root)), nested)
}

/// An error about the configuration under the keys of the file.
fn renamed(error: Error, key: &str, nested: bool) -> Error {
    let of_file = |place: &str| {
        let (file, rest) = match place.strip_prefix("config.json: ") {
            Some(rest) => ("config.json: ", rest),
            None => ("", place),
        };
        let Some(rest) = rest.strip_prefix(KEYS[0]) else { return place.to_string() };
        let inner = if nested && !rest.trim_start_matches('.').starts_with(SPARSITY) { KEYS[0] } else { "" };
        let dot = if inner.is_empty() { "" } else { "." };
        format!("{file}{key}{dot}{inner}{rest}")
    };
    match error {
        Error::BadConfig { key, reason } => Error::BadConfig { key: of_file(&key), reason },
        Error::UnsupportedFormat { module, format } => Error::UnsupportedFormat { module: of_file(&module), format },
        other => other,
    }
}
